#
# VMs that migrate, and those that run the stress guest
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import os
import signal
import sys

from pathlib import Path
from typing import Any, Sequence

from qemu.machine import QEMUMachine
from qemu.machine.machine import QEMUMachineError

from stressvm import probe
from stressvm.stressguest import Role, StressGuest, cmdline, elf_path
from stressvm.waiting import wait_until

# 2 x 200 MiB for the vCPUs' regions, and what the guest itself needs
RAM_MB = 432

# Arguments of a VM that memory can be plugged into, and what that is
PLUGGABLE = ("-m", "%dM,slots=1,maxmem=1G" % RAM_MB)
_PLUGGED_BYTES = 128 * 1024 * 1024

# ACPI's memory hotplug registers; see docs/specs/acpi_mem_hotplug.rst
_MEMORY_SELECTOR = 0xa00
_MEMORY_CONTROL = _MEMORY_SELECTOR + 0x14
_MEMORY_EJECT = 8

# ACPI's CPU hotplug registers on machine type pc; see
# docs/specs/acpi_cpu_hotplug.rst
_CPU_SELECTOR = 0xaf00
_CPU_FLAGS = _CPU_SELECTOR + 4
_CPU_EJECT = 8

# No command that the tests use may take longer, whatever the machine's load
QMP_SECONDS = 30
UP_SECONDS = 60


def exit_on_signals() -> None:
    """Let SIGTERM and SIGHUP unwind the stack, so that nothing stays behind"""
    def leave(number: int, _frame: Any) -> None:
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)


class VM(QEMUMachine):
    """A VM with what migrations and limits need of it"""

    def __init__(self, binary: str, **machine: Any):
        super().__init__(binary, qmp_timer=QMP_SECONDS, **machine)

    def cmd(self, cmd: str, **args: Any) -> Any:
        """What a QMP command returns; ExecuteError if QEMU refuses it"""
        return super().command(cmd, **args)

    def _post_launch(self) -> None:
        super()._post_launch()
        self._qmp.settimeout(QMP_SECONDS)

    def _close_qmp_connection(self) -> None:
        try:
            super()._close_qmp_connection()
        except ConnectionError:
            # QEMU has gone without good-bye; __exit__() looks how
            pass

    def __exit__(self, *args: Any) -> None:
        # A destination leaves by itself when its migration fails, and that is
        # as it should be. Nobody but us may kill it, though.
        died = self._launched and (self.exitcode() or 0) < 0
        if self._popen is None:
            # It was never launched, and kill() would leave its files
            self._post_shutdown()
        self.kill()
        if died and args[0] is None:
            raise QEMUMachineError("QEMU died from signal %d: %s" %
                                   (-self.exitcode(), self.get_log()))

    def socket_path(self) -> str:
        return os.path.join(self.temp_dir, "migration.sock")

    def listen(self) -> str:
        """Wait for a migration to come in; the URI to migrate to"""
        uri = "unix:" + self.socket_path()
        self.cmd("migrate-incoming", uri=uri)
        return uri

    def set_capabilities(self, *names: str, state: bool = True) -> None:
        self.cmd("migrate-set-capabilities", capabilities=[
            {"capability": name, "state": state} for name in names])

    def set_parameters(self, **parameters: Any) -> None:
        self.cmd("migrate-set-parameters", **parameters)

    def set_link(self, mb_per_second: float) -> None:
        self.set_parameters(max_bandwidth=int(mb_per_second * 1024 * 1024))

    def plug_memory(self) -> None:
        """With arguments PLUGGABLE; the guest does not use it"""
        self.cmd("object-add", qom_type="memory-backend-ram", id="more",
                 size=_PLUGGED_BYTES)
        self.cmd("device_add", id="dimm", driver="pc-dimm", memdev="more")

    def unplug_memory(self, seconds: float) -> None:
        """What the guest does when it is asked to let the memory go"""
        for size, port, value in (("w", _MEMORY_SELECTOR, 0),
                                  ("w", _MEMORY_SELECTOR + 2, 0),
                                  ("b", _MEMORY_CONTROL, _MEMORY_EJECT)):
            self.cmd("human-monitor-command", command_line="o/%s 0x%x 0x%x"
                     % (size, port, value))
        wait_until("memory unplugged", seconds, lambda:
                   not self.cmd("query-memory-devices"))
        self.cmd("object-del", id="more")

    def slots(self) -> list[dict[str, Any]]:
        """Where vCPUs are, or can be plugged in, the lowest index first"""
        return list(reversed(self.cmd("query-hotpluggable-cpus")))

    def free_slots(self) -> list[dict[str, Any]]:
        return [slot for slot in self.slots() if "qom-path" not in slot]

    def plug_vcpu(self, name: str, slot: dict[str, Any]) -> None:
        self.cmd("device_add", id=name, driver=slot["type"],
                 **slot["props"])

    def eject_vcpu(self, index: int, seconds: float) -> None:
        """What a guest with ACPI does when it is asked to let a vCPU go"""
        before = len(self.cmd("query-cpus-fast"))
        for size, port, value in (("w", _CPU_SELECTOR, 0),
                                  ("w", _CPU_SELECTOR, index),
                                  ("b", _CPU_FLAGS, _CPU_EJECT)):
            self.cmd("human-monitor-command", command_line="o/%s 0x%x 0x%x"
                     % (size, port, value))
        wait_until("vCPU unplugged", seconds, lambda:
                   len(self.cmd("query-cpus-fast")) == before - 1)

    def read_log(self) -> str:
        """What QEMU has written so far"""
        path = self._qemu_log_path
        if path is None:
            return self.get_log() or ""
        return Path(path).read_text(errors="replace")

    def migration(self) -> dict[str, Any]:
        return self.cmd("query-migrate")

    def limit(self, mb_per_second: int, **arguments: Any) -> None:
        self.cmd("set-vcpu-dirty-limit", dirty_rate=mb_per_second,
                 **arguments)

    def unlimit(self, **arguments: Any) -> None:
        self.cmd("cancel-vcpu-dirty-limit", **arguments)

    def limits(self) -> list[dict[str, int]]:
        return self.cmd("query-vcpu-dirty-limit")


class StressVM(VM):
    """
    A VM with the stress guest; roles[i] is what vCPU i does

    @pv lets KVM write into the guest's memory; @display is a device, VGA or
    bochs-display, that is in a graphics mode.

    The guest's RAM is an anonymous file of this process, which QEMU opens by
    its name in /proc. So there is nothing to clean up, even after SIGKILL, and
    the size of /dev/shm, often small in containers, does not matter.
    """

    def __init__(self, binary: str, roles: Sequence[Role], ring: int = 0,
                 accel: str = "kvm", incoming: bool = False,
                 smp: str | None = None, args: Sequence[str] = (),
                 ram_mb: int = RAM_MB, pv: bool = False,
                 display: str | None = None, **machine: Any):
        super().__init__(binary, **machine)
        self._ram = os.memfd_create("stress-guest")
        path = "/proc/%d/fd/%d" % (os.getpid(), self._ram)
        self.roles = tuple(roles)
        self.guest = StressGuest(path)

        if accel == "kvm":
            cpu = "host,-arch-capabilities"
        else:
            cpu = "max"
        if ring:
            accel += ",dirty-ring-size=%d" % ring
        self.add_args(
            *probe.firmware_args(binary),
            "-nodefaults", "-bios", "qboot.rom",
            "-accel", accel, "-cpu", cpu,
            "-smp", smp or str(len(roles)),
            "-m", "%dM" % ram_mb,
            "-object", "memory-backend-file,id=ram,size=%dM,share=on,"
            "mem-path=%s" % (ram_mb, path),
            "-machine", "pc,memory-backend=ram",
            "-kernel", elf_path(), "-append", cmdline(
                roles, pv=pv, display=display is not None),
            *args)
        if display is not None:
            self.add_args("-device", display)
        if incoming:
            self.add_args("-incoming", "defer")

    def _post_shutdown(self) -> None:
        super()._post_shutdown()
        self.guest.close()
        if self._ram >= 0:
            os.close(self._ram)
            self._ram = -1

    def boot(self) -> "StressVM":
        """Launch, and wait until all vCPUs do what their roles say"""
        self.launch()
        self.wait_at_work()
        return self

    def wait_at_work(self) -> None:
        """Wait until all vCPUs of a VM that boots do what their roles say"""
        self.guest.wait_up(UP_SECONDS)
        self.guest.wait_filled(UP_SECONDS)
