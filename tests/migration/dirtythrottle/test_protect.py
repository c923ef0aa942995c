#
# Dirty throttle tests: pages that KVM leaves writable, entries that it loses
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import subprocess
import unittest

from pathlib import Path
from typing import Callable

from stressvm import probe
from stressvm.stressguest import Role
from stressvm.vm import PLUGGABLE, StressVM
from stressvm.waiting import wait_until

from dirtythrottle.base import DISK, EVENTUALLY, SOON
from dirtythrottle.migration import Migration
from dirtythrottle.shimtest import ShimTest

# Small, so that rings are full and are reset many times a second
SMALL_RING = 1024

# Smaller than what firmware puts in
FIRMWARE_RING = 4096

# As fast as it can, and not so much that an iteration lasts long
FLOOD = Role("writer", mb=32)

# As many syncs read the bitmaps out while pages are dirtied all the time
SYNCS = 4

# MiB/s and ms: iterations last longer than a busy machine keeps vCPUs waiting,
# so the migration does not end until the guest is slowed down to so many MB/s
LINK = 100
SHORT_DOWNTIME = 1
LIMIT = 10
DOWNTIME = 300

# Functions of QEMU's: a thread submits I/O that completes in it, or ever has
NOTE_TASK_WORK = "qemu_thread_note_task_work"
MAY_HAVE_TASK_WORK = "qemu_thread_may_have_task_work"

# MB/s. What nobody dirties; it only keeps the rings in use
NO_LIMIT = 100000


class ProtectTest(ShimTest):
    """A guest that dirties memory as fast as it can is migrated"""

    shim_source = "protect-shim.c"
    ring = SMALL_RING

    def flood(self, during: Callable[[StressVM], None] = lambda src: None,
              **environment: int) -> str:
        """Migrate it, with @during in the middle; what the library tells"""
        self.change(**environment)
        src = self.source((FLOOD, FLOOD))
        dst = self.destination(src)
        migration = Migration(src, dst, LINK, SHORT_DOWNTIME).start()
        wait_until("%d syncs" % SYNCS, EVENTUALLY, lambda:
                   migration.poll().ram("dirty-sync-count") >= SYNCS)
        during(src)
        src.limit(LIMIT)
        src.set_parameters(downtime_limit=DOWNTIME)
        migration.wait("completed", EVENTUALLY)
        self.check_memory(dst)
        return self.told()

    def told(self) -> str:
        return Path(self.log).read_text()

    def test_left_writable_and_counted_short(self) -> None:
        self.assertIn("L", self.flood(PROTECT_SHIM_LOSE=1))

    def test_left_writable_after_all_were_counted(self) -> None:
        self.assertIn("L", self.flood(PROTECT_SHIM_LOSE=2))

    def test_stopped(self) -> None:
        """A stop ends a reset early, whatever is blocked"""
        self.assertIn("P", self.flood(PROTECT_SHIM_STOP=1))

    def test_vcpus_with_io(self) -> None:
        """I/O that completes in a vCPU thread would end a reset there early"""
        told = self.flood(PROTECT_SHIM_WORK=1,
                          PROTECT_SHIM_NOTE=self.offset(NOTE_TASK_WORK))
        self.assertIn("W", told)
        self.assertNotIn("V", told, "a vCPU with I/O resets rings")

    def test_vcpus_without_io(self) -> None:
        """They do not have to wait for another thread to be woken up"""
        self.assertIn("R", self.flood())

    def test_io_is_noted(self) -> None:
        """QEMU knows which threads submit I/O that completes in them"""
        if not probe.has_io_uring():
            self.skipTest("no io_uring here")
        self.change(PROTECT_SHIM_MAY=self.offset(MAY_HAVE_TASK_WORK))
        self.source((DISK,), args=(
            "-drive", "if=none,id=disk,format=raw,file=%s,aio=io_uring" %
            self.disk_image(),
            "-device", "virtio-blk-pci,drive=disk,ioeventfd=off"))
        wait_until("I/O", SOON, lambda: "W" in self.told())
        self.assertNotIn("N", self.told(), "such a thread is not known")

    def offset(self, function: str) -> int:
        """Where a function is in QEMU's program"""
        table = subprocess.run(["nm", "--defined-only", self.binary],
                               check=True, text=True, stdout=subprocess.PIPE)
        for line in table.stdout.splitlines():
            address, _, name = line.split()
            if name == function:
                return int(address, 16)
        raise AssertionError("%s has no %s" % (self.binary, function))

    def lose_entries(self, src: StressVM) -> None:
        Path(self.log + ".empty").touch()
        wait_until("entries lost", SOON, lambda: "E" in self.told())
        before = [v.passes for v in src.guest.vcpus()]
        wait_until("all vCPUs get on", SOON, lambda: all(
            v.passes > n + 1 for v, n in zip(src.guest.vcpus(), before)))

    def test_full_without_entries(self) -> None:
        """The vCPU goes on, and no page gets lost"""
        self.assertEqual(
            self.flood(self.lose_entries, PROTECT_SHIM_EMPTY=1).count("E"), 1)

    def test_overrun_by_firmware(self) -> None:
        """
        Some KVM emulates firmware, and looks too seldom whether rings are full

        It makes an entry for each write, 16000 in all, and overruns the ring.
        On any other KVM nothing is shown.
        """
        vm = self.source((FLOOD,), ring=FIRMWARE_RING)
        vm.limit(NO_LIMIT)
        vm.guest.expect_boot()
        vm.cmd("system_reset")
        vm.guest.wait_up(SOON)
        vm.guest.wait_filled(SOON)
        self.check_memory(vm)

    def test_nothing_written_while_a_slot_goes(self) -> None:
        self.change(PROTECT_SHIM_SLOT=20000)
        vm = self.source((FLOOD, FLOOD), args=PLUGGABLE)
        vm.plug_memory()
        vm.limit(NO_LIMIT)
        vm.unplug_memory(SOON)
        told = self.told()
        self.assertIn("S", told)
        self.assertNotIn("D", told, "vCPUs have dirtied memory meanwhile")


if __name__ == "__main__":
    unittest.main()
