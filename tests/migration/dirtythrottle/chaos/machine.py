#
# Dirty throttle chaos: one QEMU, and whether all is well with it
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import os
import re
import signal
import time

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Sequence

from qemu.qmp import ExecuteError, QMPError

from stressvm.stressguest import Role
from stressvm.vm import StressVM

from dirtythrottle.chaos import procfs
from dirtythrottle.chaos.broken import Broken
from dirtythrottle.chaos.events import MORE_VCPUS
from dirtythrottle.kvmshim import withholding

# MiB for what lies below the vCPUs' regions
GUEST_MB = 16

# A vCPU that nobody limits wants a CPU all the time. One that pays penalties
# does so for much less than half of it, or its limit would not matter.
_AWAKE = 0.5
_AWAKE_SECONDS = 0.04

# From the end of a process' monitor to its own, with a core to be written
_DEATH_SECONDS = 5

# What comes when it is needed first, and stays; what each vCPU has one of
_ONCE = Counter({"thread dirty-throttle": 1})
_OF_EACH_VCPU = {"thread CPU N/KVM", "timer",
                 "file anon_inode:kvm-vcpu-stats:N"}
_VCPU_FILE = "file anon_inode:kvm-vcpu:N"

# Lines of QEMU's log that are as they should be
_EXPECTED = [re.compile(text) for text in (
    r"exceeds the recommended cpus supported by KVM",
    # A KVM that does not tell who dirties memory, and a migration that would
    # have needed it
    r"dirty-(quota|limit) has no effect: it requires KVM",
    # calc-dirty-rate a second time before the thread of the first has begun,
    # which QEMU 7.2 lets pass
    r"change dirtyrate state failed",
    # A source that is cancelled in the switch-over takes its images back, while
    # the destination may not have closed them yet
    r'Failed to get "write" lock',
    r"Is another process using the image",
)]
# At a destination whose source, or whose channel, has gone
_EXPECTED_BROKEN = [re.compile(text) for text in (
    r"load of migration failed",
    r"Unable to (read|write|shutdown)",
    r"Connection reset by peer",
    r"Failed to (read|connect)",
    r"error while loading state",
    # QEMU 7.2 takes the end of a stream for zeroes
    r"Unknown combination of migration flags: 0x0",
    r"failed to save SaveStateEntry",
    r"Not a migration stream",
    r"multifd_(recv|send)",
    r"Unable to write to socket",
    r"check_section_footer: Read section footer failed",
    r"RP: Received invalid message",
    r"failed to receive packet",
    r"Received incorrect",
)]


@dataclass(frozen=True)
class Patience:
    """How long things may take, in seconds, on a machine that has others"""
    # One QMP command
    command: float = 10
    # Anything that shall happen of itself
    soon: float = 20
    # A migration that nothing holds back any more, memory checked
    eventually: float = 90

    def times(self, factor: float) -> "Patience":
        return Patience(self.command * factor, self.soon * factor,
                        self.eventually * factor)


@dataclass
class Shape:
    """What source and destination must have in common"""
    vcpus: int
    # MiB for each
    mb: int
    vga: bool
    disk: str | None
    # Arguments that plug in what was plugged in at the source
    plugged: list[str] = field(default_factory=list)

class Machine(StressVM):
    """A VM of a chaos run"""

    def __init__(self, binary: str, shape: Shape, ring: int,
                 patience: Patience, log_dir: str, incoming: bool = False):
        self.shape = shape
        self.ring = max(ring, 0)
        self._patience = patience
        args = ["-name", "chaos,debug-threads=on"]
        if shape.disk:
            args += ["-drive", "if=none,id=disk,format=qcow2,file=" +
                     shape.disk]
        if shape.vga:
            # Its firmware takes a second here, and the guest has no use for it
            args += ["-device", "VGA,romfile=,vgamem_mb=1"]
        for plugged in shape.plugged:
            args += ["-device", plugged]
        # One that begins as hot has no memory besides its hot set, so all begin
        # as writers and become what they shall be
        super().__init__(
            binary, [Role("writer", mb=shape.mb)] * shape.vcpus,
            ring=self.ring, wrapper=withholding(log_dir) if ring < 0 else (),
            incoming=incoming, args=args,
            smp="%d,maxcpus=%d" % (shape.vcpus, shape.vcpus + MORE_VCPUS),
            ram_mb=GUEST_MB + shape.mb * shape.vcpus, log_dir=log_dir)
        # Limits by command, in MB/s
        self.limited: dict[int, int] = {}
        # What the vCPUs are to do: role and rate
        self.work = [["writer", 0]] * shape.vcpus
        self.stopped = False
        # The guest was reset, and nobody has seen it up since
        self.boots = False
        # Somebody broke what it was connected to
        self.broken_off = False
        # What there was at first, with how many vCPUs
        self._resources: Counter[str] | None = None
        self._resources_of_cpus = 0
        self._log_read = 0

    @property
    def max_vcpus(self) -> int:
        return self.shape.vcpus + MORE_VCPUS

    # -- commands

    def cmd(self, cmd: str, **args: Any) -> Any:
        begin = time.monotonic()
        try:
            return super().cmd(cmd, **args)
        except ExecuteError:
            raise
        except (QMPError, OSError) as error:
            self._wait_for_end()
            self.check_alive()
            raise Broken("QMP", "%s: %s" % (cmd, error)) from error
        finally:
            took = time.monotonic() - begin
            if took > self._patience.command:
                raise Broken("QMP", "%s took %.1f s" % (cmd, took))

    def tries(self, cmd: str, **args: Any) -> str | None:
        """A command that may be refused; why it was"""
        try:
            self.cmd(cmd, **args)
        except ExecuteError as error:
            return str(error)
        return None

    def hmp(self, line: str) -> str:
        return self.cmd("human-monitor-command", command_line=line)

    def out(self, size: str, port: int, value: int) -> None:
        """Write to an I/O port, as the guest would"""
        self.hmp("o/%s 0x%x 0x%x" % (size, port, value))

    def capabilities(self) -> dict[str, bool]:
        return {entry["capability"]: entry["state"] for entry in
                self.cmd("query-migrate-capabilities")}

    def wait_for(self, what: str, condition: Any,
                 seconds: float = 0) -> Any:
        deadline = time.monotonic() + (seconds or self._patience.soon)
        while True:
            result = condition()
            if result:
                return result
            self.check_alive()
            if time.monotonic() > deadline:
                raise Broken("wait", "%s: not within %d s" % (
                    what, seconds or self._patience.soon))
            time.sleep(0.003)

    # -- processors that come and go

    def plug(self) -> bool:
        """The free one of the lowest index; whether that was possible"""
        slots = self.free_slots()
        if not slots:
            return False
        slot = slots[0]
        return not self.tries(
            "device_add", driver=slot["type"],
            id="cpu-%d" % slot["props"]["core-id"], **slot["props"])

    def unplug(self) -> bool:
        """What the guest does when it is asked to let the last one go"""
        before = len(self.cmd("query-cpus-fast"))
        if before <= self.shape.vcpus:
            return False
        self.eject_vcpu(before - 1, self._patience.soon)
        return True

    def plugged(self) -> list[str]:
        """Arguments for a destination to have the same ones"""
        return ["%s,%s,id=cpu-%d" % (
            slot["type"], ",".join("%s=%d" % pair for pair in
                                   sorted(slot["props"].items())),
            slot["props"]["core-id"])
                for slot in self.slots()[self.shape.vcpus:]
                if "qom-path" in slot]

    # -- is all well?

    def check_alive(self) -> None:
        if self.is_running():
            return
        code = self.exitcode()
        raise Broken("alive", "QEMU ended with %s\n%s" % (
            signal.Signals(-code).name if code and code < 0 else code,
            self.read_log()))

    def _wait_for_end(self) -> None:
        """One that is about to die closes its monitor a little before"""
        deadline = time.monotonic() + _DEATH_SECONDS
        while self.is_running() and time.monotonic() < deadline:
            time.sleep(0.01)

    def check_log(self) -> None:
        expected = _EXPECTED + (_EXPECTED_BROKEN if self.broken_off else [])
        log = self.read_log()
        unread, self._log_read = log[self._log_read:], len(log)
        for line in unread.splitlines():
            if line.strip() and not any(e.search(line) for e in expected):
                raise Broken("log", line)

    def check_limits(self) -> None:
        """What was limited by command is, and nothing else"""
        deadline = time.monotonic() + self._patience.soon
        while True:
            limits = {entry["cpu-index"]: entry["limit-rate"]
                      for entry in self.limits()}
            if limits == self.limited:
                return
            # A migration tells that it has ended a little before
            if time.monotonic() > deadline:
                raise Broken("limits", "%s instead of %s" % (limits,
                                                             self.limited))
            time.sleep(0.003)

    def check_resources(self) -> None:
        """No more threads, files and timers than there were"""
        deadline = time.monotonic() + self._patience.soon
        while True:
            present = procfs.resources(self.get_pid())
            cpus = len(self.cmd("query-cpus-fast"))
            if self._resources is None:
                self._resources = present
                self._resources_of_cpus = cpus
            more = present - self._resources - _ONCE
            for name in _OF_EACH_VCPU & more.keys():
                more[name] -= cpus - self._resources_of_cpus
            # QEMU keeps those of vCPUs that have gone for others to come
            if present[_VCPU_FILE] <= self.max_vcpus:
                del more[_VCPU_FILE]
            more = +more
            if not more:
                return
            if time.monotonic() > deadline:
                raise Broken("resources", "more than before: %s" %
                             sorted(more.items()))
            time.sleep(0.01)

    def want_work(self, work: Sequence[Sequence[Any]]) -> None:
        """Let all vCPUs do something, and wait until they do"""
        for i, (kind, rate) in enumerate(work):
            self.guest.want(i, kind, rate)
        again = time.monotonic() + 0.2

        def done() -> bool:
            nonlocal again
            late = [i for i in range(self.shape.vcpus)
                    if not self.guest.has_wanted(i)]
            if late and time.monotonic() > again:
                # It boots, and has cleared what was wanted
                again += 0.2
                for i in late:
                    self.guest.want(i, *work[i])
            return not late

        self.wait_for("vCPUs take up work", done, self._patience.eventually)

    def check_memory(self) -> int:
        """
        No page was lost or is stale; how many were looked at

        As readers, because a writer that is limited takes its time.
        """
        self.guest.wait_up(self._patience.soon)
        self.boots = False
        self.want_work([("reader", 0)] * self.shape.vcpus)
        before = self.guest.vcpus()[:self.shape.vcpus]

        def passed() -> bool:
            return all(self.guest.vcpu(i).passes >= vcpu.passes + 2
                       for i, vcpu in enumerate(before))

        self.wait_for("all memory read", passed, self._patience.eventually)
        after = self.guest.vcpus()[:self.shape.vcpus]
        for i, vcpu in enumerate(after):
            if vcpu.errors:
                raise Broken("memory", "vCPU %d: %s" % (i, vcpu.error_text()))
        return sum(b.ops - a.ops for a, b in zip(before, after))

    def check_speed(self) -> None:
        """vCPUs without a limit never sleep"""
        threads = [cpu["thread-id"] for cpu in self.cmd("query-cpus-fast")
                   if cpu["cpu-index"] < self.shape.vcpus and
                   cpu["cpu-index"] not in self.limited]
        if not threads:
            return
        self.want_work([("writer", 0)] * self.shape.vcpus)
        pid = self.get_pid()
        deadline = time.monotonic() + self._patience.soon
        while True:
            begin = time.monotonic()
            before = [procfs.wants_cpu_ns(pid, t) for t in threads]
            time.sleep(_AWAKE_SECONDS)
            wanted = [procfs.wants_cpu_ns(pid, t) - b
                      for t, b in zip(threads, before)]
            # Whoever waits for it may be late, and then it is less
            awake = min(wanted) / 1e9 / (time.monotonic() - begin)
            if awake > _AWAKE:
                return
            if time.monotonic() > deadline:
                raise Broken("speed", "a vCPU that is not limited sleeps for "
                             "%d %% of the time" % (100 - 100 * awake))

    def check(self) -> int:
        """All invariants of a guest that runs; how many pages were read"""
        if self.stopped:
            self.cmd("cont")
            self.stopped = False
        pages = self.check_memory()
        self.check_limits()
        self.check_speed()
        self.want_work(self.work)
        self.check_resources()
        self.check_log()
        return pages

    # -- the end

    def finish(self) -> None:
        """Quit, and see that it ends as it should"""
        if self.is_running():
            try:
                self._qmp.cmd("quit")
            except (QMPError, OSError):
                # It may be gone before it answers
                pass
            deadline = time.monotonic() + self._patience.soon
            while self.is_running():
                if time.monotonic() > deadline:
                    raise Broken("quit", "still there after %d s" %
                                 self._patience.soon)
                time.sleep(0.003)
        code = self.exitcode()
        if code and not (self.broken_off and code == 1):
            self.check_alive()
        self.check_log()
        self.kill()

    def die(self) -> None:
        """The end without good-bye, with the process gone"""
        if self.is_running():
            self._subp.kill()
        self._subp.wait()

    def freeze(self, ms: int) -> None:
        pid = self.get_pid()
        if pid is None:
            return
        os.kill(pid, signal.SIGSTOP)
        time.sleep(ms / 1000)
        os.kill(pid, signal.SIGCONT)
