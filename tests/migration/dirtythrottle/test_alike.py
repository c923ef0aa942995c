#
# Dirty throttle tests: all vCPUs alike, where nothing tells who dirties memory
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import re
import tempfile
import time
import unittest

from typing import Any, Sequence

from stressvm import probe
from stressvm.stressguest import Role
from stressvm.vm import StressVM
from stressvm.waiting import wait_until

from dirtythrottle import test_quota
from dirtythrottle.base import EVENTUALLY, SMALL_READER, SOON, WRITER
from dirtythrottle.migration import Migration
from dirtythrottle.shimtest import ShimTest
from dirtythrottle.test_quota import QuotaTest
from dirtythrottle.vnc import Viewer, server_args

# Its set takes several seconds to be dirtied all over
LASTING_WRITER = Role("writer", rate=50000, mb=200)

# A megabyte, dirty again and again whenever it was looked at
PICTURE = Role("screen", rate=5000, pages=256)

# Sleeps and is woken, so that it hardly runs
SLEEPER = Role("wakeups", rate=100)


class AlikeTest(QuotaTest, ShimTest):
    """A VM whose KVM has neither rings nor quotas nor statistics"""

    shim_source = "faults-shim.c"
    ring = 0

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        if probe.has_dirty_quota():
            raise unittest.SkipTest("this KVM has dirty quotas, and they are"
                                    " what QEMU uses")

    def setUp(self) -> None:
        super().setUp()
        self.change(FAULTS_SHIM_WITHHOLD=1)

    def start(self, src: StressVM, dst: StressVM | None = None,
              capabilities: Sequence[str] = (), **options: Any) -> Migration:
        return super().start(src, dst, ["auto-converge", *capabilities],
                             **options)

    def check_alike(self, info: dict[str, Any],
                    reason: str = "no-mechanism") -> None:
        self.assertEqual(info["mechanism"], "cpu-time")
        self.assertEqual(info["reason"], reason)
        self.assertFalse(info["fallback"])

    def throttled(self, migration: Migration) -> list[float]:
        """The part of the time that each vCPU sleeps, in percent"""
        return [vcpu["throttled"]
                for vcpu in self.throttle(migration)["vcpus"]]


class AlikeConvergeTest(AlikeTest):

    def test_converges(self) -> None:
        said = self.migrate((WRITER, SMALL_READER))
        self.check_changed()
        self.check_throttled(said)
        for info in said:
            self.check_alike(info)
        for vcpu in said[-1]["vcpus"]:
            self.assertGreater(vcpu["penalties"], 0)

    def test_writer_that_the_link_bears(self) -> None:
        said = self.migrate((Role("writer", rate=5000, mb=64), SMALL_READER))
        self.assertNotIn("throttling", [info["phase"] for info in said])
        self.assertEqual(sum(vcpu["penalties"]
                             for vcpu in said[-1]["vcpus"]), 0)

    def test_sleeper_loses_nothing(self) -> None:
        said = self.migrate((WRITER, SLEEPER, SMALL_READER))
        self.check_throttled(said)
        writer, sleeper, _reader = said[-1]["vcpus"]
        self.assertGreater(writer["penalty-time"], 0)
        # On a busy machine its wake-ups may take longer than its share
        self.assertLess(sleeper["penalty-time"], writer["penalty-time"] / 10)

    def test_max_cpu_throttle(self) -> None:
        """
        Nobody sleeps for more than that part of the time, beyond what one
        penalty is and what looks come late
        """
        src = self.source((LASTING_WRITER, SMALL_READER))
        migration = self.start_lasting(src, max_cpu_throttle=30)
        self.wait_phase(migration, "throttling")
        src.set_link(10)
        # What counts is averaged over a second
        time.sleep(2)
        for _ in range(10):
            for percent in self.throttled(migration):
                self.assertLess(percent, 45)
            time.sleep(0.1)
        src.set_parameters(max_cpu_throttle=99)
        wait_until("slower than that", EVENTUALLY, lambda:
                   max(self.throttled(migration)) > 60)

    def test_writer_that_stops(self) -> None:
        """It is noticed without a sync, which is far away"""
        src = self.source((LASTING_WRITER, SMALL_READER))
        migration = self.start_lasting(src)
        self.wait_phase(migration, "throttling")
        src.set_link(10)
        wait_until("slow", EVENTUALLY, lambda:
                   min(self.throttled(migration)) > 50)
        syncs = migration.poll().ram("dirty-sync-count")
        src.guest.want(0, "reader", 0)
        wait_until("nobody sleeps", EVENTUALLY, lambda:
                   not any(self.throttled(migration)))
        self.assertEqual(migration.poll().ram("dirty-sync-count"), syncs)

    def test_picture(self) -> None:
        """It is sent once in an iteration, however often it is looked at"""
        where = self.enterContext(
            tempfile.TemporaryDirectory(prefix="dirtythrottle-"))
        src = self.source((LASTING_WRITER, PICTURE), display="VGA",
                          args=server_args(where))
        viewer = self.enterContext(Viewer(where))
        migration = self.start_lasting(src)
        self.wait_phase(migration, "throttling")
        src.set_link(2)
        wait_until("slow", EVENTUALLY, lambda:
                   min(self.throttled(migration)) > 50)
        src.guest.want(0, "reader", 0)
        wait_until("nobody sleeps", EVENTUALLY, lambda:
                   not any(self.throttled(migration)))
        self.assertGreater(viewer.received, 0)

    def test_next_migration(self) -> None:
        """It owes nothing to what the one before has looked ahead to"""
        src = self.source((LASTING_WRITER,),
                          args=("-trace", "dirty_throttle_migration",
                                "-trace", "dirty_throttle_correct"))
        migration = self.start_lasting(src)
        self.wait_phase(migration, "throttling")
        src.set_link(1)
        time.sleep(1)
        migration.cancel()
        migration = self.start(src, link=10)

        def noticed() -> bool:
            begun = src.read_log().split("dirty_throttle_migration begin")[1:]
            return len(begun) == 2 and re.search("found [1-9]",
                                                 begun[1]) is not None
        wait_until("what it dirties", EVENTUALLY, noticed)
        self.assertEqual(self.throttle(migration)["phase"], "first-pass")


class ConsentTest(AlikeTest):
    """All are slowed only by who asks for both capabilities"""

    def fallback(self, src: StressVM, *capabilities: str) -> dict[str, Any]:
        migration = Migration(src, None, 50, 1, capabilities, {}).start()
        info = self.wait_phase(migration, "cannot-help")
        self.assertEqual(info["reason"], "no-mechanism")
        self.assertNotIn("mechanism", info)
        migration.cancel()
        return info

    def test_dirty_quota_alone(self) -> None:
        info = self.fallback(self.source(), "dirty-quota")
        self.assertFalse(info["fallback"])

    def test_dirty_limit(self) -> None:
        info = self.fallback(self.source(), "dirty-limit", "auto-converge")
        self.assertTrue(info["fallback"])

    def test_limit_beside_quota(self) -> None:
        """A limit cannot be kept where nobody tells vCPUs apart"""
        src = self.source()
        migration = self.start_lasting(src, capabilities=["dirty-limit"])
        info = self.wait_phase(migration, "throttling")
        self.check_alike(info)
        self.assertEqual(info["mode"], "limit-and-quota")
        for vcpu in info["vcpus"]:
            self.assertNotIn("limit", vcpu)


class AlikeWaysOutTest(AlikeTest, test_quota.QuotaWaysOutTest):
    """Nobody is left slow"""


class AlikeHotplugTest(AlikeTest):

    def test_unplugged(self) -> None:
        src = self.source((SMALL_READER, LASTING_WRITER, LASTING_WRITER))
        migration = self.start_lasting(src)
        self.wait_phase(migration, "throttling")
        src.eject_vcpu(2, SOON)
        wait_until("two vCPUs", EVENTUALLY, lambda:
                   len(self.throttle(migration)["vcpus"]) == 2)
        wait_until("slow", EVENTUALLY, lambda:
                   min(self.throttled(migration)) > 10)

    def test_plugged_between_migrations(self) -> None:
        src = self.source((LASTING_WRITER,), smp="1,maxcpus=2")
        for vcpus in (1, 2):
            migration = self.start_lasting(src)
            info = self.wait_phase(migration, "throttling")
            self.assertEqual(len(info["vcpus"]), vcpus)
            migration.cancel()
            if vcpus == 1:
                src.plug_vcpu("cpu-1", src.free_slots()[0])


if __name__ == "__main__":
    unittest.main()
