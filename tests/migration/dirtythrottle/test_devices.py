#
# Dirty throttle tests: devices that write to the guest's memory, or take it
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import os
import unittest

from typing import Any, Sequence

from stressvm import probe
from stressvm.measure import MIB
from stressvm.stressguest import Role
from stressvm.timeline import Poll
from stressvm.vm import RAM_MB, StressVM
from stressvm.waiting import wait_until

from dirtythrottle.base import (
    DISK, EVENTUALLY, READER, SOON, WRITER, ThrottleTest
)
from dirtythrottle.migration import LASTING_LINK, Migration

# So much may be left after each pass as there was before
LASTING = 100

BALLOON = Role("balloon", rate=20000, mb=64)


class DevicesTest(ThrottleTest):
    needs = ("dirty-quota",)

    def pair(self, roles: Sequence[Role],
             args: Sequence[str]) -> tuple[StressVM, StressVM]:
        src = self.source(roles, args=args)
        return src, self.destination(src, args=args)

    def migrate(self, src: StressVM, dst: StressVM,
                look: Any = lambda poll: None,
                enough: Any = lambda info: True) -> list[dict[str, Any]]:
        """
        Migrate a guest that dirties more than the link carries

        It lasts until it was throttled and told what is @enough.

        All that 'dirty-throttle' has told meanwhile; its memory is as it should
        be afterwards.
        """
        told = []
        lasts = True

        def note(poll: Poll) -> None:
            nonlocal lasts
            look(poll)
            if poll.status != "active":
                return
            info = poll.info["dirty-throttle"]
            told.append(info)
            if lasts and info["phase"] == "throttling" and enough(info):
                lasts = False
                src.set_parameters(downtime_limit=300,
                                   throttle_trigger_threshold=50)

        last = Migration(src, dst, link=50, downtime=1,
                         capabilities=["dirty-quota"],
                         parameters={"throttle_trigger_threshold": LASTING}
                         ).start().watch(EVENTUALLY, note)
        self.assertEqual(last and last.status, "completed")
        self.assertFalse(lasts)
        return told


class DiskTest(DevicesTest):
    """What a disk reads into the guest's memory is not its vCPU's"""

    def migrate_disk(self, aio: str, cache: str) -> None:
        image = self.disk_image()
        if cache == "none":
            try:
                os.close(os.open(image, os.O_RDWR | os.O_DIRECT))
            except OSError as error:
                self.skipTest("no O_DIRECT in %s: %s" %
                              (probe.build_dir(), error))
        src, dst = self.pair((DISK, WRITER, READER), (
            "-drive", "if=none,id=disk,format=raw,file=%s,aio=%s,cache=%s" %
            (image, aio, cache),
            "-device", "virtio-blk-pci,drive=disk"))
        told = self.migrate(src, dst,
                            enough=lambda info: info["device-rate"] > 0)
        # it dirties some twenty pages in each iteration, and as often as the
        # writer it would be penalised for those of the device
        disk, writer, _ = (vcpu["penalty-time"] for vcpu in told[-1]["vcpus"])
        self.assertLess(disk, writer / 4)
        self.check_memory(dst)

    def test_threads(self) -> None:
        self.migrate_disk("threads", "writeback")

    def test_native(self) -> None:
        self.migrate_disk("native", "none")

    def test_io_uring(self) -> None:
        if not probe.has_io_uring():
            self.skipTest("no io_uring here")
        self.migrate_disk("io_uring", "writeback")


class BalloonTest(DevicesTest):
    """Pages that come and go do not upset what is known of the others"""

    # Two sizes of the guest's memory, between which the host cannot decide
    SIZES = (RAM_MB - 8, RAM_MB - 48)

    @staticmethod
    def size(vm: StressVM) -> int:
        return vm.cmd("query-balloon")["actual"] // MIB

    @staticmethod
    def resize(vm: StressVM, megabytes: int) -> None:
        vm.cmd("balloon", value=megabytes * MIB)

    def test_balloon(self) -> None:
        src, dst = self.pair((BALLOON, WRITER, READER),
                             ("-device", "virtio-balloon-pci"))
        reached = []

        def look(poll: Poll) -> None:
            size = self.size(src)
            if poll.status == "active" and size in self.SIZES:
                reached.append(size)
                self.resize(src, sum(self.SIZES) - size)

        self.resize(src, self.SIZES[0])
        self.migrate(src, dst, look)
        self.assertEqual(set(reached), set(self.SIZES))

        dst.guest.wait_up(SOON)
        self.resize(dst, RAM_MB)
        wait_until("all memory given back", SOON,
                   lambda: self.size(dst) == RAM_MB)
        self.check_memory(dst)


class MemoryHotplugTest(DevicesTest):
    """Memory that is plugged in changes KVM's slots, and nothing else"""

    needs = ("dirty-limit", "dirty-quota")

    DIMM_MIB = 64
    MORE = ("-m", "%dM,slots=2,maxmem=1G" % RAM_MB)

    def plug(self, vm: StressVM, number: int) -> None:
        vm.cmd("object-add", id="ram%d" % number, size=self.DIMM_MIB * MIB,
               **{"qom-type": "memory-backend-ram"})
        vm.cmd("device_add", driver="pc-dimm", id="dimm%d" % number,
               memdev="ram%d" % number)
        self.assertEqual(len(vm.cmd("query-memory-devices")), number + 1)

    def dimm_args(self, number: int) -> tuple[str, ...]:
        """The same on the command line"""
        return ("-object", "memory-backend-ram,id=ram%d,size=%dM" %
                (number, self.DIMM_MIB),
                "-device", "pc-dimm,id=dimm%d,memdev=ram%d" % (number, number))

    def test_limited(self) -> None:
        src = self.source((WRITER, READER), args=self.MORE)
        full = self.rate(src)
        src.limit(1, cpu_index=0)
        self.wait_slow(src, full)
        self.plug(src, 0)
        # a limit that had got lost would show at once
        self.assertLess(self.rate(src), full / 2)

        migration = Migration(src, link=LASTING_LINK,
                              capabilities=["dirty-quota"]).start()
        migration.wait("active", SOON)
        self.wait_slow(src, full)
        migration.cancel()
        self.plug(src, 1)
        self.assertLess(self.rate(src), full / 2)
        src.unlimit()
        self.wait_fast(src, full)

        dst = self.destination(src, args=(*self.MORE, *self.dimm_args(0),
                                          *self.dimm_args(1)))
        self.migrate(src, dst)
        self.check_memory(dst)


if __name__ == "__main__":
    unittest.main()
