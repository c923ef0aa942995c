#
# Dirty throttle chaos: the VMs, and what each event does to them
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import os
import shutil
import signal
import subprocess
import time

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from stressvm.timeline import ENDED

from dirtythrottle.chaos import figures
from dirtythrottle.chaos.broken import Broken
from dirtythrottle.chaos.channel import Channel
from dirtythrottle.chaos.events import CAPABILITIES, Event
from dirtythrottle.chaos.known import FAULTS
from dirtythrottle.chaos.machine import Machine, Patience, Shape
from dirtythrottle.chaos.sanitizer import stretches_races

# Holds what firmware and loader write when a VM is reset
FIRMWARE_RING = 65536

# What lets every migration end, in bytes/s and ms
_UNLIMITED_LINK = 10 ** 12
_LONG_DOWNTIME = 2000

# calc-dirty-rate's shortest time, and its end
_DIRTY_RATE_SECONDS = 1
_DIRTY_RATE_OVER_SECONDS = 1.5

_SNAPSHOT = "chaos"

# What a VM is that was stopped, also if it was reset since, or if a migration
# was cancelled while it was being switched over
_STOPPED = ("paused", "prelaunch", "postmigrate")
# What it is when the guest has gone, also if it was reset since
_GONE = ("postmigrate", "prelaunch")

# Capabilities that need userfaultfd
_DEPENDS_ON_HOST = ("postcopy-ram", "background-snapshot")

_QUERIES = ("query-migrate", "query-vcpu-dirty-limit", "query-dirty-rate",
            "query-status", "query-cpus-fast", "query-migrate-capabilities",
            "query-migrate-parameters", "query-memory-size-summary",
            "query-hotpluggable-cpus", "query-block", "query-named-block-nodes",
            "query-iothreads", "query-kvm", "query-jobs")
_HMP_QUERIES = ("info migrate", "info vcpu_dirty_limit", "info dirty_rate",
                "info migrate_parameters", "info mtree -f", "info registers -a",
                "info cpus", "info ramblock")

# VBE's index and data port, and what makes a graphics mode of 320 x 200 in
# true colour: x, y, depth, enabled with a linear frame buffer
_VBE_INDEX, _VBE_DATA = 0x1ce, 0x1cf
_VBE_MODE = ((4, 0), (1, 320), (2, 200), (3, 32), (4, 0x41))


@dataclass
class Attempt:
    """A migration that is under way"""
    to: str
    dst: Machine | None
    channel: Channel
    capabilities: dict[str, bool]
    # Something that may make it fail, or end as cancelled
    broken: bool = False
    cancelled: bool = False
    postcopy: bool = False
    # Nobody knows whether the guest will run again if it stays
    stop_forgotten: bool = False
    seen: dict[str, Any] = field(default_factory=dict)


class World:
    """The VM that runs the guest, perhaps with a migration under way"""

    def __init__(self, binary: str, directory: str, patience: Patience,
                 log_findings: Callable[[], str | None], shown: str = ""):
        self._binary = binary
        self._directory = Path(directory)
        self._patience = patience
        # What a sanitizer has written since the last call
        self._findings = log_findings
        # The known fault that is not avoided
        self._shown = shown
        self._vm: Machine | None = None
        self._attempt: Attempt | None = None
        self._files = 0
        self._dirty_rate_until = 0.0
        self._vm_disk: str | None = None
        # The vCPUs that were plugged in when the guest was saved
        self._saved: list[str] | None = None
        self.counts: Counter[str] = Counter()

    # -- the runner's side

    def do(self, event: Event) -> bool:
        """
        Let it happen, and see that all is well; whether it fitted

        Raises Broken.
        """
        parameters = dict(event)
        name = parameters.pop("do")
        if self._vm is None and name != "boot":
            return False
        fitted = getattr(self, "_do_" + name)(**parameters) is not False
        if self._attempt:
            self._look()
        self._check_findings()
        if fitted:
            self.counts["events"] += 1
        return fitted

    def settle(self) -> None:
        """The end of a list: whatever is under way ends, all is checked"""
        if self._vm is None:
            return
        self._do_finish()
        self._check()
        self._vm.finish()
        self._check_findings()
        self._vm = None

    def close(self) -> None:
        """Nothing stays, whatever has happened"""
        attempt, self._attempt = self._attempt, None
        if attempt:
            attempt.channel.close()
            if attempt.dst:
                attempt.dst.kill()
        vm, self._vm = self._vm, None
        if vm:
            vm.kill()

    def logs(self) -> str:
        """The last of what the VMs have said"""
        dst = self._attempt and self._attempt.dst
        return "".join(vm.read_log()[-4000:] for vm in (self._vm, dst) if vm)

    # -- tools

    def _path(self, name: str) -> str:
        """Of a file of this name that is not there yet"""
        self._files += 1
        return str(self._directory / ("%d-%s" % (self._files, name)))

    def _check_findings(self) -> None:
        findings = self._findings()
        if findings:
            raise Broken("sanitizer", findings)

    def _machine(self, shape: Shape, ring: int,
                 incoming: bool = False) -> Machine:
        vm = Machine(self._binary, shape, ring, self._patience,
                     str(self._directory), incoming)
        try:
            vm.launch()
        except Exception as error:
            text = vm.read_log()
            vm.kill()
            raise Broken("launch", "%s\n%s" % (error, text)) from error
        return vm

    @staticmethod
    def _run_state(vm: Machine) -> str:
        return vm.cmd("query-status")["status"]

    def _check(self) -> None:
        self.counts["pages"] += self._vm.check()
        self.counts["checks"] += 1

    def _avoid(self, fault: str) -> bool:
        """Whether to keep away from a fault that is known"""
        assert fault in FAULTS
        if fault != self._shown:
            self.counts["kept away from " + fault] += 1
        return fault != self._shown

    def _resting(self) -> bool:
        return self._attempt is None

    def _disk(self) -> str | None:
        tool = os.path.join(os.path.dirname(self._binary), "qemu-img")
        if not os.access(tool, os.X_OK):
            tool = shutil.which("qemu-img")
        if tool is None:
            return None
        path = self._path("disk.qcow2")
        subprocess.run([tool, "create", "-q", "-f", "qcow2", path, "1G"],
                       check=True, stdin=subprocess.DEVNULL)
        return path

    # -- a VM

    def _do_boot(self, ring: int, mb: int, work: list[list[Any]],
                 vga: bool) -> None:
        if self._vm:
            self.settle()
            if self._vm_disk:
                os.unlink(self._vm_disk)
        self._saved = None
        self._vm_disk = self._disk()
        self._vm = self._machine(Shape(len(work), mb, vga, self._vm_disk),
                                 ring)
        self._vm.guest.wait_up(self._patience.eventually)
        self._vm.work = [list(w) for w in work]
        self._check()

    def _do_check(self) -> bool | None:
        if not self._resting():
            return False
        self._check()

    def _do_wait(self, ms: int) -> None:
        time.sleep(ms / 1000)

    def _do_stop(self) -> bool | None:
        if self._vm.boots:
            # It may be comparing clocks, of which only some would stop
            return False
        self._vm.cmd("stop")
        self._vm.stopped = True
        if self._attempt and self._run_state(self._vm) == "finish-migrate":
            # QEMU forgets it if it had stopped the VM before, to switch over
            self._attempt.stop_forgotten = True

    def _do_cont(self) -> bool | None:
        if self._attempt and self._vm.migration().get("status") not in (
                "setup", "active"):
            # It has been switched over, or is being
            return False
        if self._attempt and not self._vm.stopped and (
                self._avoid("cont-switchover")):
            # It might be by the time that the command is there
            return False
        error = self._vm.tries("cont")
        if error:
            if not self._attempt:
                raise Broken("refused", "cont: %s" % error)
            return False
        self._vm.stopped = False

    def _do_reset(self) -> bool | None:
        if (self._attempt or self._vm.limited or self._measures_rate()) and (
                0 < self._vm.ring < FIRMWARE_RING and
                self._avoid("reset-overrun")):
            return False
        small = self._resting() and 0 < self._vm.ring < FIRMWARE_RING
        if small and self._vm.stopped:
            # Nobody knows when it will boot
            return False
        if small:
            self._vm.guest.expect_boot()
        self._vm.cmd("system_reset")
        self._vm.boots = True
        if small:
            # Nobody may track pages before the firmware is through
            self._vm.guest.wait_up(self._patience.eventually)

    def _do_role(self, vcpu: int, work: list[Any]) -> bool | None:
        if vcpu >= self._vm.shape.vcpus or self._in_postcopy():
            return False
        self._vm.work[vcpu] = work
        self._vm.guest.want(vcpu, *work)

    def _do_freeze(self, ms: int) -> None:
        self._vm.freeze(ms)

    def _measures_rate(self) -> bool:
        return time.monotonic() < self._dirty_rate_until

    def _do_plug(self) -> bool | None:
        if not self._resting() or (
                self._measures_rate() and self._avoid("dirty-rate-hotplug")):
            return False
        return self._vm.plug()

    def _do_unplug(self) -> bool | None:
        if not self._resting() or (
                self._measures_rate() and self._avoid("dirty-rate-hotplug")):
            return False
        return self._vm.unplug()

    # -- limits

    @staticmethod
    def _one_or_all(vcpu: int | None) -> dict[str, int]:
        return {} if vcpu is None else {"cpu_index": vcpu}

    def _do_limit(self, mbps: int, vcpu: int | None) -> bool | None:
        vm = self._vm
        if vm.tries("set-vcpu-dirty-limit", dirty_rate=mbps,
                    **self._one_or_all(vcpu)):
            return False
        for i in range(vm.max_vcpus) if vcpu is None else [vcpu]:
            vm.limited[i] = mbps

    def _do_unlimit(self, vcpu: int | None) -> bool | None:
        vm = self._vm
        if vm.tries("cancel-vcpu-dirty-limit", **self._one_or_all(vcpu)):
            return False
        for i in range(vm.max_vcpus) if vcpu is None else [vcpu]:
            vm.limited.pop(i, None)

    def _do_bad_limit(self, mbps: Any, vcpu: int | None) -> None:
        if vcpu is not None and 0 <= vcpu < self._vm.max_vcpus:
            vcpu = self._vm.max_vcpus
        self._refused("set-vcpu-dirty-limit", dirty_rate=mbps,
                      **self._one_or_all(vcpu))

    def _refused(self, cmd: str, **arguments: Any) -> None:
        if not self._vm.tries(cmd, **arguments):
            raise Broken("accepted", "%s %s" % (cmd, arguments))

    # -- capabilities and parameters

    def _set_capability(self, vm: Machine, name: str,
                        state: bool) -> str | None:
        error = vm.tries("migrate-set-capabilities", capabilities=[
            {"capability": name, "state": state}])
        if error and state and name in _DEPENDS_ON_HOST and self._resting():
            self.counts["not here: %s (%s)" % (name, error)] += 1
        return error

    def _do_capability(self, name: str, state: bool) -> bool | None:
        if name == "multifd" and state and stretches_races() and (
                self._avoid("multifd-joined")):
            return False
        error = self._set_capability(self._vm, name, state)
        if self._attempt and not error and not self._has_ended():
            raise Broken("accepted", "capability %s in a migration" % name)
        return not error

    def _has_ended(self) -> bool:
        return self._vm.migration().get("status") in ENDED

    def _do_bad_capability(self, name: str) -> None:
        before = self._vm.capabilities()
        self._refused("migrate-set-capabilities", capabilities=[
            {"capability": name, "state": True}])
        if self._vm.capabilities() != before:
            raise Broken("changed", "by the unknown capability '%s'" % name)

    def _do_parameter(self, name: str, value: Any) -> bool | None:
        if self._attempt and name == "multifd-channels":
            # QEMU 7.2 has allocated as many as there were
            return False
        error = self._vm.tries("migrate-set-parameters", **{name: value})
        if error:
            raise Broken("refused", "parameter %s=%s: %s" % (name, value,
                                                             error))

    def _do_bad_parameter(self, name: str, value: Any) -> None:
        before = self._vm.cmd("query-migrate-parameters")
        self._refused("migrate-set-parameters", **{name: value})
        after = self._vm.cmd("query-migrate-parameters")
        if after != before:
            raise Broken("changed", "by %s=%s, which was refused" % (name,
                                                                     value))

    # -- who else asks for dirty pages

    def _do_dirty_rate(self, mode: str) -> bool | None:
        if self._measures_rate() and self._avoid("dirty-rate-twice"):
            return False
        error = self._vm.tries("calc-dirty-rate", mode=mode,
                               calc_time=_DIRTY_RATE_SECONDS)
        if error:
            return False
        self._dirty_rate_until = time.monotonic() + _DIRTY_RATE_OVER_SECONDS

    def _do_screendump(self) -> bool | None:
        if not self._vm.shape.vga:
            return False
        # It is the same file each time
        path = str(self._directory / "screen.ppm")
        error = self._vm.tries("screendump", filename=path)
        if error:
            raise Broken("refused", "screendump: %s" % error)

    def _do_display(self) -> bool | None:
        if not self._vm.shape.vga or self._in_postcopy():
            return False
        for index, value in _VBE_MODE:
            self._vm.out("w", _VBE_INDEX, index)
            self._vm.out("w", _VBE_DATA, value)

    def _do_flood(self, ms: int) -> None:
        deadline = time.monotonic() + ms / 1000
        while True:
            for query in _QUERIES:
                if time.monotonic() > deadline:
                    return
                self._vm.cmd(query)
                self.counts["queries"] += 1
            for line in _HMP_QUERIES:
                if time.monotonic() > deadline:
                    return
                self._vm.hmp(line)
                self.counts["queries"] += 1

    # -- snapshots

    def _before_snapshot(self) -> None:
        if self._vm.capabilities()["multifd"] and (
                self._avoid("multifd-snapshot")):
            self._set_capability(self._vm, "multifd", False)

    def _do_savevm(self) -> bool | None:
        if not self._resting() or self._vm.shape.disk is None:
            return False
        self._before_snapshot()
        text = self._vm.hmp("savevm " + _SNAPSHOT)
        if text.strip():
            raise Broken("savevm", text)
        self._saved = self._vm.plugged()

    def _do_loadvm(self) -> bool | None:
        if not self._resting() or self._saved is None or (
                self._saved != self._vm.plugged()):
            return False
        self._before_snapshot()
        text = self._vm.hmp("loadvm " + _SNAPSHOT)
        if text.strip():
            raise Broken("loadvm", text)
        self._check()

    # -- a migration's begin

    def _set_up(self, vm: Machine, capabilities: dict[str, bool],
                parameters: dict[str, Any]) -> None:
        """Off first: what excludes what is to come must go before it"""
        for name, state in sorted(capabilities.items(),
                                  key=lambda pair: pair[1]):
            self._set_capability(vm, name, state)
        if parameters:
            vm.tries("migrate-set-parameters", **parameters)

    def _do_migrate(self, to: str, ring: int, link: float, downtime: int,
                    capabilities: dict[str, bool],
                    parameters: dict[str, Any]) -> bool | None:
        if not self._resting():
            return False
        capabilities = {"background-snapshot": False, **capabilities}
        vm, dst, target = self._vm, None, None
        if to == "sink":
            # Nobody answers there
            capabilities.update({"postcopy-ram": False, "return-path": False,
                                 "multifd": False})
        self._set_up(vm, capabilities, parameters)
        vm.set_link(link)
        vm.set_parameters(downtime_limit=downtime,
                          max_postcopy_bandwidth=0)
        if to == "vm":
            dst = self._destination(ring)
            self._set_up(dst, capabilities, parameters)
            # Both sides have to agree on that, and it may be from before
            dst.set_parameters(multifd_channels=vm.cmd(
                "query-migrate-parameters")["multifd-channels"])
            dst.listen()
            target = dst.socket_path()
        channel = Channel(self._path("channel"), target)
        self._attempt = Attempt(to, dst, channel, vm.capabilities())
        error = vm.tries("migrate", uri=channel.uri)
        if error:
            raise Broken("refused", "migrate: %s" % error)
        self.counts["migrations"] += 1

    def _destination(self, ring: int) -> Machine:
        self._vm.shape.plugged = self._vm.plugged()
        dst = self._machine(self._vm.shape, ring, incoming=True)
        dst.work = self._vm.work
        return dst

    def _do_bad_migrate(self) -> None:
        """To nowhere, or beside another one"""
        if self._attempt and self._has_ended():
            return
        self._refused("migrate", uri="nowhere:at all")

    # -- in its middle

    def _in_postcopy(self) -> bool:
        return bool(self._attempt and self._attempt.postcopy)

    def _do_link(self, mbps: float) -> bool | None:
        if self._resting():
            return False
        self._vm.set_link(mbps)

    def _do_stall(self) -> bool | None:
        if self._resting() or self._attempt.channel.stalled:
            return False
        self._attempt.channel.stall()

    def _do_heal(self) -> bool | None:
        if self._resting() or not self._attempt.channel.stalled:
            return False
        self._attempt.channel.heal()

    def _do_freeze_destination(self, ms: int) -> bool | None:
        if self._resting() or self._attempt.dst is None:
            return False
        self._attempt.dst.freeze(ms)

    def _do_postcopy(self) -> bool | None:
        attempt = self._attempt
        if not attempt or not attempt.capabilities["postcopy-ram"] or (
                attempt.postcopy or attempt.seen.get("status") != "active"):
            return False
        if self._vm.tries("migrate-start-postcopy"):
            return False
        attempt.postcopy = True

    def _do_go_on(self) -> bool | None:
        if not self._attempt or (
                self._attempt.seen.get("status") != "pre-switchover"):
            return False
        return not self._vm.tries("migrate-continue", state="pre-switchover")

    def _look(self) -> None:
        """Ask how it is getting on, and see whether that can be"""
        attempt, vm = self._attempt, self._vm
        info = vm.migration()
        wrong = figures.inconsistencies(info, attempt.capabilities,
                                        vm.max_vcpus, vm.ring > 0)
        wrong += figures.regressions(attempt.seen, info)
        attempt.seen = info
        self.counts["looks"] += 1
        if wrong:
            raise Broken("query-migrate", "%s\n%s" % ("; ".join(wrong), info))
        if info["status"] in ENDED:
            self._conclude(info)
        elif attempt.dst and not attempt.broken:
            attempt.dst.check_alive()

    # -- its end

    def _do_finish(self) -> bool | None:
        attempt, vm = self._attempt, self._vm
        if not attempt:
            return False
        attempt.channel.heal()
        vm.cmd("migrate-set-parameters", **{
            "max-bandwidth": _UNLIMITED_LINK, "max-postcopy-bandwidth": 0,
            "downtime-limit": _LONG_DOWNTIME})
        deadline = time.monotonic() + self._patience.eventually
        while self._attempt:
            if time.monotonic() > deadline:
                raise Broken("finish", "not within %d s\n%s" % (
                    self._patience.eventually, vm.migration()))
            self._do_go_on()
            self._look()
            time.sleep(0.003)

    def _do_cancel(self, stalled: bool) -> bool | None:
        attempt = self._attempt
        if not attempt or attempt.postcopy or self._must_not_break() or (
                attempt.capabilities["pause-before-switchover"] and
                self._avoid("pause-cancelled")):
            return self._do_finish()
        if stalled:
            attempt.channel.stall()
        attempt.cancelled = True
        attempt.broken = True
        self._vm.cmd("migrate_cancel")
        self._until_ended()

    def _must_not_break(self) -> bool:
        return self._attempt.capabilities["multifd"] and (
            self._avoid("multifd-broken"))

    def _do_break(self) -> bool | None:
        attempt = self._attempt
        # Postcopy waits for somebody to mend it, and the guest with it
        if not attempt or attempt.postcopy or self._must_not_break():
            return self._do_finish()
        attempt.broken = True
        attempt.channel.close()
        self._until_ended()

    def _do_kill_destination(self) -> bool | None:
        attempt = self._attempt
        if not attempt or attempt.postcopy or attempt.dst is None or (
                self._must_not_break()):
            return self._do_finish()
        attempt.broken = True
        attempt.channel.heal()
        attempt.dst.die()
        self._until_ended()

    def _until_ended(self) -> None:
        deadline = time.monotonic() + self._patience.soon
        while self._attempt:
            if time.monotonic() > deadline:
                raise Broken("end", "not within %d s\n%s" % (
                    self._patience.soon, self._vm.migration()))
            self._do_go_on()
            self._look()
            time.sleep(0.003)

    def _conclude(self, info: dict[str, Any]) -> None:
        """It has ended: where is the guest, and how is it?"""
        attempt = self._attempt
        status = info["status"]
        if status == "cancelled" and not attempt.cancelled or (
                status == "failed" and not attempt.broken):
            raise Broken("status", "%s by itself: %s" % (
                status, info.get("error-desc")))
        self.counts[status] += 1
        if attempt.postcopy:
            self.counts["postcopy"] += 1
        if status == "completed" and attempt.to == "vm" and (
                self._has_arrived(attempt)):
            self._move(attempt.dst)
            attempt.dst = None
        else:
            self._stay(status)
        attempt.channel.close()
        if attempt.dst:
            self._drop(attempt.dst)
        self._attempt = None
        self._check()

    def _has_arrived(self, attempt: Attempt) -> bool:
        """Whether the destination has got all of the guest"""
        dst = attempt.dst

        def there() -> bool:
            if not dst.is_running():
                return True
            return self._run_state(dst) in ("running", *_STOPPED)

        if attempt.broken:
            # What was on its way may have been lost
            if not dst.is_running():
                return False
            try:
                dst.wait_for("arrived", there)
            except Broken:
                return False
            return dst.is_running()
        dst.wait_for("arrived", there)
        dst.check_alive()
        return True

    def _move(self, dst: Machine) -> None:
        """The guest is at the destination now"""
        src = self._vm
        src.wait_for("postmigrate", lambda: self._run_state(src) in _GONE)
        src.check_limits()
        src.check_resources()
        dst.stopped = self._run_state(dst) in _STOPPED
        src.broken_off = self._attempt.broken
        self._vm = dst
        src.finish()

    def _stay(self, status: str) -> None:
        """The guest is where it was"""
        vm = self._vm
        if status == "completed":
            vm.wait_for("postmigrate", lambda: self._run_state(vm) in _GONE)
            vm.cmd("cont")
            vm.stopped = False
        else:
            wanted = _STOPPED if vm.stopped else ("running",)
            if self._attempt.stop_forgotten:
                wanted = ("running", *_STOPPED)
            vm.wait_for(" or ".join(wanted), lambda:
                        self._run_state(vm) in wanted)
            vm.stopped = self._run_state(vm) in _STOPPED
        vm.broken_off = True

    @staticmethod
    def _drop(dst: Machine) -> None:
        dst.broken_off = True
        if dst.exitcode() == -signal.SIGKILL:
            dst.check_log()
            dst.kill()
            return
        dst.finish()

    # -- migrations that are whole in one event

    def _until_completed(self, vm: Machine) -> None:
        def completed() -> bool:
            info = vm.migration()
            if info.get("status") == "failed":
                raise Broken("status", "failed by itself: %s" %
                             info.get("error-desc"))
            return info.get("status") == "completed"

        vm.wait_for("completed", completed, self._patience.eventually)

    def _do_file(self, ring: int) -> bool | None:
        """To a file, and from there to another VM"""
        if not self._resting():
            return False
        vm, path = self._vm, self._path("file")
        self._set_up(vm, {name: False for name in (
            "background-snapshot", *CAPABILITIES)}, {})
        vm.set_link(10 ** 4)
        vm.set_parameters(downtime_limit=_LONG_DOWNTIME)
        vm.cmd("migrate", uri="exec:cat >" + path)
        self.counts["migrations"] += 1
        self._until_completed(vm)
        vm.wait_for("postmigrate", lambda: self._run_state(vm) in _GONE)
        dst = self._destination(ring)
        dst.cmd("migrate-incoming", uri="exec:cat <" + path)
        dst.wait_for("arrived", lambda: self._run_state(dst) in
                     ("running", *_STOPPED), self._patience.eventually)
        os.unlink(path)
        dst.stopped = vm.stopped
        self._vm = dst
        vm.finish()
        self.counts["completed"] += 1
        self._check()

    def _do_snapshot(self) -> bool | None:
        """All of the guest as it is now, to a file, while it goes on"""
        if not self._resting():
            return False
        vm, path = self._vm, self._path("snapshot")
        self._set_up(vm, {name: False for name in CAPABILITIES}, {})
        if self._set_capability(vm, "background-snapshot", True):
            return False
        vm.set_link(10 ** 4)
        error = vm.tries("migrate", uri="exec:cat >" + path)
        if not error:
            self.counts["migrations"] += 1
            self._until_completed(vm)
            os.unlink(path)
            self.counts["completed"] += 1
        self._set_capability(vm, "background-snapshot", False)
        self._check()
        return not error
