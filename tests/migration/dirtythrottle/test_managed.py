#
# Dirty throttle tests: management software that does not know the throttle
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import unittest

from qemu.machine.machine import VMLaunchFailure

from stressvm import probe
from stressvm.stressguest import Role
from stressvm.timeline import Poll
from stressvm.vm import StressVM
from stressvm.waiting import wait_until

from dirtythrottle.base import EVENTUALLY, SOON, WRITER
from dirtythrottle.migration import Migration
from dirtythrottle.shimtest import ShimTest

# What an administrator sets for all VMs, in a file that QEMU reads
DEFAULTS = [word for name in ("auto-converge", "dirty-quota",
                              "adaptive-reaper")
            for word in ("-global", "migration.x-%s=on" % name)]

QUOTA_DEFAULT = ("-global", "migration.x-dirty-quota=on")

# All that the software knows, and sets on both sides before each migration.
# Afterwards it sets what was there before.
KNOWN = {"xbzrle": False, "auto-converge": False, "postcopy-ram": False,
         "compress": False, "pause-before-switchover": False,
         "late-block-activate": False, "multifd": False,
         "dirty-bitmaps": False, "return-path": True, "events": True}

# As libvirt has it by default
SANDBOX = ("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,"
           "resourcecontrol=deny")

# The link bears it, so that the migration ends without any throttle
SMALL_WRITER = Role("writer", rate=5000, mb=32)


class ManagedTest(ShimTest):
    needs = ("dirty-quota", "adaptive-reaper")
    shim_source = "faults-shim.c"

    def set_known(self, vm: StressVM, known: dict[str, bool]) -> None:
        vm.cmd("migrate-set-capabilities", capabilities=[
            {"capability": name, "state": state}
            for name, state in known.items()])

    def get_known(self, vm: StressVM) -> dict[str, bool]:
        return {entry["capability"]: entry["state"]
                for entry in vm.cmd("query-migrate-capabilities")
                if entry["capability"] in KNOWN}

    def migrate(self, src: StressVM, dst: StressVM) -> list[Poll]:
        """Migrate @src to @dst as the software does; what was told of it"""
        before = {vm: self.get_known(vm) for vm in (dst, src)}
        for vm in before:
            self.set_known(vm, KNOWN)
        migration = Migration(src, dst).start()
        migration.wait("completed", EVENTUALLY)
        self.check_memory(dst)
        for vm, known in before.items():
            self.set_known(vm, known)
            self.assertEqual(self.get_known(vm), known)
        return [poll for poll in migration.timeline.polls
                if poll.status == "active"]

    def there_and_back(self, withhold: int) -> tuple[list[Poll], int]:
        """
        From a host whose VMs have rings to one whose have not, and back

        What was told on the way back, and how often a warning was given.
        """
        first = self.source((SMALL_WRITER,), args=DEFAULTS)
        third = self.destination(first, args=DEFAULTS)
        self.change(FAULTS_SHIM_WITHHOLD=withhold)
        second = self.destination(first, ring=0, args=DEFAULTS)
        for poll in self.migrate(first, second):
            self.assertEqual(poll.info["dirty-throttle"]["mechanism"],
                             "dirty-ring")
        first.kill()
        polls = self.migrate(second, third)
        second.kill()
        warnings = [line for line in second.get_log().splitlines()
                    if "warning: dirty-quota" in line]
        return polls, len(warnings)

    def test_there_and_back(self) -> None:
        if not probe.has_statistics():
            self.skipTest("this kernel's KVM has no statistics")
        polls, warnings = self.there_and_back(withhold=0)
        for poll in polls:
            self.assertEqual(poll.info["dirty-throttle"]["mechanism"],
                             "fault-statistics")
        self.assertEqual(warnings, 0)

    def test_there_and_back_without_statistics(self) -> None:
        polls, warnings = self.there_and_back(withhold=1)
        # by now auto-converge is off, so that nothing is left to it
        for poll in polls:
            told = poll.info["dirty-throttle"]
            self.assertEqual((told["phase"], told["reason"],
                              told["fallback"]),
                             ("cannot-help", "no-mechanism", False))
        self.assertEqual(warnings, 1)

    def test_default_is_all(self) -> None:
        """
        The default, and what software adds that knows auto-converge only

        Destination without, and source with.
        """
        if probe.has_dirty_quota():
            self.skipTest("this KVM has dirty quotas, and they are what QEMU"
                          " uses")
        for ring, withhold, mechanism in (
                (4096, 0, "dirty-ring"), (0, 0, "fault-statistics"),
                (0, 1, "cpu-time")):
            with self.subTest(mechanism):
                if (mechanism == "fault-statistics" and
                        not probe.has_statistics()):
                    self.skipTest("this kernel's KVM has no statistics")
                self.binary = type(self).binary
                self.change(FAULTS_SHIM_WITHHOLD=withhold)
                src = self.source((WRITER,), ring=ring,
                                  args=QUOTA_DEFAULT)
                dst = self.destination(src, ring=0)
                migration = Migration(src, dst, 50, 1, ["auto-converge"], {
                    "throttle_trigger_threshold": 100}).start()
                self.wait_throttling(migration, mechanism)
                src.set_parameters(throttle_trigger_threshold=50,
                                   downtime_limit=100)
                src.set_link(100)
                migration.wait("completed", EVENTUALLY)
                self.check_memory(dst)
                for vm in (dst, src):
                    vm.kill()

    def wait_throttling(self, migration: Migration, mechanism: str) -> None:
        def throttles() -> bool:
            info = migration.poll().info.get("dirty-throttle", {})
            return (info.get("phase"), info.get("mechanism")) == (
                "throttling", mechanism)
        wait_until("throttling by " + mechanism, EVENTUALLY, throttles)

    def test_sandbox(self) -> None:
        """Nothing that the throttle calls is denied"""
        try:
            src = self.source(args=SANDBOX)
        except VMLaunchFailure as failure:
            if "-sandbox support is not enabled" in str(failure):
                self.skipTest("QEMU was built without seccomp")
            raise
        full = self.rate(src)
        src.limit(1)
        self.wait_slow(src, full)
        src.unlimit()
        self.check_unlimited(src, full)
        src.cmd("quit")
        wait_until("quit", SOON, lambda: not src.is_running())
        self.assertEqual(src.exitcode(), 0)


if __name__ == "__main__":
    unittest.main()
