#
# Nested tests: a VM that runs the Linux guest
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import os
import socket

from typing import Sequence

from stressvm.vm import VM
from stressvm.waiting import wait_until

GUEST = "/guest"
RAM_MB = 192
CPUS = 2
DISK_MB = 16

# The inner machine's time does not depend on how fast the real one is: a boot
# takes 8 s of it, a round of a load some seconds, and so do the checks at the
# end.
ANSWER_SECONDS = 60
ROUNDS_SECONDS = 60

# Memory is emptied when it is freed, and not when it is allocated. So what the
# boot has left in it is not sent with each migration.
COMMAND_LINE = ("console=ttyS0 quiet mitigations=off nokaslr panic=-1 "
                "init_on_alloc=0 init_on_free=1")


class LinuxVM(VM):
    """
    A VM with the Linux guest, whose init answers on the second serial port

    The source and its destinations have one disk. With @loads, only these run.
    """

    def __init__(self, binary: str, disk: str, ring: int = 0,
                 incoming: bool = False, devices: Sequence[str] = (),
                 loads: Sequence[str] = ()):
        super().__init__(binary)
        ours, self._theirs = socket.socketpair()
        ours.settimeout(ANSWER_SECONDS)
        self._theirs.set_inheritable(True)
        self._control = ours.makefile("rw", encoding="ascii", newline="\n")
        ours.close()
        self.console = os.path.join(self.temp_dir, "console")
        accel = "kvm"
        if ring:
            accel += ",dirty-ring-size=%d" % ring
        self.add_args(
            "-nodefaults", "-bios", "qboot.rom", "-machine", "pc",
            "-accel", accel, "-cpu", "host", "-smp", str(CPUS),
            "-m", "%dM" % RAM_MB,
            "-kernel", GUEST + "/vmlinuz", "-initrd", GUEST + "/initrd",
            "-append",
            COMMAND_LINE + (" loads=" + ",".join(loads) if loads else ""),
            "-serial", "file:" + self.console,
            "-chardev", "socket,id=control,fd=%d" % self._theirs.fileno(),
            "-serial", "chardev:control",
            "-drive", "if=none,id=disk,format=raw,file=" + disk,
            "-device", "virtio-blk-pci,drive=disk",
            "-netdev", "user,id=net,restrict=on,tftp=" + GUEST + "/tftp",
            "-device", "virtio-net-pci,netdev=net,romfile=")
        for device in devices:
            self.add_args("-device", device)
        if incoming:
            self.add_args("-incoming", "defer")

    def _post_launch(self) -> None:
        super()._post_launch()
        self._theirs.close()

    def _post_shutdown(self) -> None:
        super()._post_shutdown()
        self._theirs.close()
        self._control.close()

    def messages(self) -> str:
        """The last messages of the guest's kernel"""
        with open(self.console, encoding="ascii", errors="replace") as file:
            return "".join(file.readlines()[-20:])

    def _line(self) -> str:
        line = self._control.readline()
        if not line:
            raise EOFError("the guest has gone: " + self.messages())
        return line.rstrip()

    def _ask(self, what: str) -> list[str]:
        self._control.write(what + "\n")
        self._control.flush()
        return list(iter(self._line, "."))

    def run(self, command: str) -> list[str]:
        """What a command prints in the guest, where it has to succeed"""
        lines = self._ask("run " + command)
        if lines.pop() != "exit 0":
            raise AssertionError("%s: %s" % (command, lines))
        return lines

    def boot(self) -> "LinuxVM":
        """Launch, and wait until the guest has begun to work"""
        self.launch()
        if self._line() != "up":
            raise EOFError("the guest does not come up: " + self.messages())
        return self

    def rounds(self) -> dict[str, int]:
        """How many rounds each load has done; less than 0 if it has failed"""
        lines = [line.split() for line in self._ask("look")]
        return {line[0]: -1 if line[1:] == ["bad"] else int(line[1])
                for line in lines if line[1:]}

    def wait_rounds(self, number: int) -> None:
        """Wait until each load has done some more, or has failed"""
        before = self.rounds()

        def done() -> bool:
            now = self.rounds()
            return all(now.get(name, 0) < 0 or
                       now.get(name, 0) >= before[name] + number
                       for name in before)

        wait_until("%d more rounds after %s" % (number, before),
                   ROUNDS_SECONDS, done, 0.5)

    def stop_loads(self) -> dict[str, str]:
        """End all loads; "" for each load and check, or what it found"""
        found: dict[str, str] = {}
        name = ""
        for line in self._ask("stop"):
            if line.startswith("| "):
                found[name] += line + "\n"
            else:
                name, _, verdict = line.partition(" ")
                found[name] = "" if verdict == "ok" else "it failed\n"
        return found
