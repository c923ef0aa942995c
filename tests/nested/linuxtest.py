#
# Nested tests: a Linux guest that migrates there and back, hard at work
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import contextlib
import os
import tempfile
import unittest

from dataclasses import dataclass
from typing import Any, Sequence

from stressvm import probe
from stressvm.timeline import Poll

from dirtythrottle.migration import Migration

from linuxguest import CPUS, DISK_MB, LinuxVM

# The guest dirties more MiB/s than this link carries.
LINK = 25
DOWNTIME_MS = 300

# Many times what a migration takes by the inner machine's time
EVENTUALLY = 120

# KVM writes the guest's memory for each of them.
FEATURES = ("kvm-steal-time", "kvm-pv-eoi", "kvmclock", "kvm-asyncpf")


@dataclass
class Trip:
    """
    A migration, and what became of it

    With a limit in MB/s for each vCPU it needs no capability to converge.
    """
    # The ring's size at the destination; 0 for no ring
    ring: int
    limit: int = 0

    # All that dirty-throttle said
    said: Sequence[dict[str, Any]] = ()
    # The limits at the source before it, and at the destination after it
    limits: Sequence[dict[int, int]] = ()


class LinuxTest(unittest.TestCase):
    """
    One guest, its migrations, and what it has found at the end

    All that takes long is done once; the tests look at what came of it.
    """

    # The ring's size where the guest boots, and where it goes from there
    ring = 0
    trips: Sequence[Trip] = ()

    # A failure shows all that the guest has said.
    maxDiff = None

    features: dict[str, bool] = {}
    found: dict[str, str] = {}

    @classmethod
    def setUpClass(cls) -> None:
        binary = probe.default_binary()
        with contextlib.ExitStack() as stack:
            where = stack.enter_context(tempfile.TemporaryDirectory())
            disk = os.path.join(where, "disk")
            with open(disk, "wb") as file:
                file.truncate(DISK_MB << 20)

            vm = stack.enter_context(LinuxVM(binary, disk, cls.ring)).boot()
            path = vm.cmd("query-cpus-fast")[0]["qom-path"]
            cls.features = {
                name: vm.cmd("qom-get", path=path, property=name)
                for name in FEATURES}
            vm.wait_rounds(1)
            for trip in cls.trips:
                dst = stack.enter_context(
                    LinuxVM(binary, disk, trip.ring, incoming=True))
                dst.launch()
                cls.migrate(vm, dst, trip)
                # The guest gets on where it is now, or comes to grief there.
                dst.wait_rounds(1)
                vm = dst
            cls.found = vm.stop_loads()

    @staticmethod
    def limits(vm: LinuxVM) -> dict[int, int]:
        return {entry["cpu-index"]: entry["limit-rate"]
                for entry in vm.limits()}

    @classmethod
    def migrate(cls, src: LinuxVM, dst: LinuxVM, trip: Trip) -> None:
        said: list[dict[str, Any]] = []

        def note(poll: Poll) -> None:
            if "dirty-throttle" in poll.info:
                said.append(poll.info["dirty-throttle"])

        if trip.limit:
            src.limit(trip.limit)
        before = cls.limits(src)
        migration = Migration(src, dst, LINK, DOWNTIME_MS,
                              [] if trip.limit else ["dirty-quota"])
        end = migration.start().watch(EVENTUALLY, note)
        if end is None or end.status != "completed":
            raise AssertionError("not within %d s: %s; %s" %
                                 (EVENTUALLY, migration.poll().info,
                                  src.messages()))
        src.shutdown()
        trip.said = said
        trip.limits = [before, cls.limits(dst)]

    def check_trip(self, trip: Trip, mechanism: str) -> None:
        def penalties(info: dict[str, Any]) -> int:
            return sum(vcpu["penalties"] for vcpu in info["vcpus"])

        self.assertEqual({info["mechanism"] for info in trip.said},
                         {mechanism})
        self.assertGreater(penalties(trip.said[-1]), penalties(trip.said[0]))
        if trip.limit:
            limits = {cpu: trip.limit for cpu in range(CPUS)}
        else:
            limits = {}
            self.assertIn("throttling", [info["phase"] for info in trip.said])
        # What a command has limited, it has limited in that process.
        self.assertEqual(trip.limits, [limits, {}])

    def check(self, name: str) -> None:
        self.assertEqual(self.found[name], "")

    def test_all_checks_are_known(self) -> None:
        self.assertEqual(set(self.found), {
            "pattern", "clocks", "disk", "network", "redis", "stress",
            "timers", "root", "paravirt", "kernel"})

    def test_paravirtual_features(self) -> None:
        self.assertEqual(self.features, {name: True for name in FEATURES})
        self.check("paravirt")

    def test_no_page_is_lost(self) -> None:
        self.check("pattern")

    def test_clocks_do_not_go_back(self) -> None:
        self.check("clocks")

    def test_files_on_the_disk(self) -> None:
        self.check("disk")

    def test_files_in_memory(self) -> None:
        self.check("root")

    def test_files_over_the_network(self) -> None:
        self.check("network")

    def test_redis_has_what_was_written(self) -> None:
        self.check("redis")

    def test_stress_ng_finds_no_wrong_bit(self) -> None:
        self.check("stress")

    def test_timers_expire(self) -> None:
        self.check("timers")

    def test_kernel_does_not_complain(self) -> None:
        self.check("kernel")
