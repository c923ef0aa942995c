#
# Dirty throttle tests: limits that are set by command
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import time
import unittest

from qemu.qmp import ExecuteError

from stressvm.stressguest import Role
from stressvm.vm import StressVM
from stressvm.waiting import wait_until

from dirtythrottle.base import (
    EVENTUALLY, FAST, READER, SOON, WRITER, ThrottleTest
)
from dirtythrottle.migration import LASTING_LINK, Migration

# A penalty may be interrupted, and is 100 ms at most. The rest of this is for
# a machine that is busy with other things.
INTERRUPTED_SECONDS = 1.0


class CommandTest(ThrottleTest):
    needs = ("dirty-limit", "dirty-quota")

    def limited(self, limit: int = 1, **options) -> tuple[StressVM, float]:
        """A VM whose vCPUs are limited, and how fast vCPU 0 was before"""
        src = self.source(**options)
        full = self.rate(src)
        src.limit(limit)
        self.wait_slow(src, full)
        return src, full

    def test_set_and_cancel(self) -> None:
        src, full = self.limited()
        self.check_limits(src, {0: 1, 1: 1})
        src.unlimit()
        self.check_unlimited(src, full)

    def test_one_vcpu_of_two(self) -> None:
        src = self.source((WRITER, WRITER))
        full = [self.rate(src, i) for i in range(2)]
        src.limit(1, cpu_index=1)
        self.wait_slow(src, full[1], 1)
        self.wait_fast(src, full[0], 0)
        self.check_limits(src, {1: 1})
        src.unlimit(cpu_index=1)
        self.wait_fast(src, full[1], 1)

    def test_writers_of_memory_only(self) -> None:
        src = self.source((WRITER, READER))
        full = [self.rate(src, i) for i in range(2)]
        src.limit(1)
        self.wait_slow(src, full[0], 0)
        self.assertGreater(self.rate(src, 1), FAST * full[1])

    def test_stop_in_a_penalty(self) -> None:
        src, full = self.limited()
        for i in range(10):
            # Anywhere in a penalty
            time.sleep(0.03 * i)
            begin = time.monotonic()
            src.cmd("stop")
            self.assertLess(time.monotonic() - begin, INTERRUPTED_SECONDS)
            src.cmd("cont")
        self.wait_slow(src, full)

    def test_cancel_in_a_penalty(self) -> None:
        src, full = self.limited()
        begin = time.monotonic()
        src.unlimit()
        self.assertLess(time.monotonic() - begin, INTERRUPTED_SECONDS)
        self.check_unlimited(src, full)

    def test_quit_in_a_penalty(self) -> None:
        src, _ = self.limited()
        src.cmd("quit")
        wait_until("quit", SOON, lambda: not src.is_running())
        self.assertEqual(src.exitcode(), 0)

    def test_always_some_progress(self) -> None:
        src, _ = self.limited()
        src.guest.new_epoch()
        src.guest.wait_epoch(SOON)
        time.sleep(3)
        self.assertLess(src.guest.vcpu(0).max_gap_ms,
                        1000 * INTERRUPTED_SECONDS)

    def test_migration(self) -> None:
        src, full = self.limited(limit=20)
        dst = self.destination(src)
        Migration(src, dst).start().wait("completed", EVENTUALLY)
        self.check_limits(src, {0: 20, 1: 20})
        self.check_memory(dst)
        self.check_unlimited(dst, full)

    def test_of_the_destination(self) -> None:
        """What is set there before the guest comes holds from the first"""
        # The link bears what it dirties
        src = self.source((Role("writer", rate=5000, mb=32),))
        full = self.rate(src)
        dst = self.destination(src)
        dst.limit(1)
        Migration(src, dst).start().wait("completed", EVENTUALLY)
        self.check_limits(src, {})
        self.check_limits(dst, {0: 1})
        dst.guest.wait_up(SOON)
        self.wait_slow(dst, full)
        dst.unlimit()
        self.check_unlimited(dst, full)
        self.check_memory(dst)

    def test_during_a_migration(self) -> None:
        """The operator may limit beside shares, but not beside a limit"""
        src = self.source()
        full = self.rate(src)
        migration = Migration(src, None, 50, 1, ["dirty-quota"],
                              {"throttle_trigger_threshold": 100}).start()
        wait_until("throttling", EVENTUALLY, lambda: migration.poll().info.get(
            "dirty-throttle", {}).get("phase") == "throttling")
        src.limit(1)
        self.wait_slow(src, full)
        src.unlimit()
        migration.cancel()
        self.check_unlimited(src, full)

        src.set_capabilities("dirty-quota", state=False)
        migration = self.throttled(src)
        for change in (lambda: src.limit(1), src.unlimit,
                       lambda: src.limit(0)):
            with self.assertRaisesRegex(ExecuteError, "migration is running"):
                change()
        migration.cancel()
        self.check_unlimited(src, full)

    def test_figures_are_those_of_the_migration(self) -> None:
        src, full = self.limited()
        src.unlimit()
        self.check_unlimited(src, full)

        def told() -> dict | None:
            return migration.poll().info.get("dirty-throttle")

        # Nobody is penalised in the first pass, but rings get full
        migration = Migration(src, link=LASTING_LINK,
                              capabilities=["dirty-quota"]).start()
        first = wait_until("told", SOON, told)
        self.assertEqual([(vcpu["penalties"], vcpu["penalty-time"])
                          for vcpu in first["vcpus"]], [(0, 0), (0, 0)])
        wait_until("full rings", EVENTUALLY,
                   lambda: told()["ring-full-exits"] > 50)
        last = told()
        migration.cancel()

        migration.start()
        again = wait_until("told", SOON, told)
        self.assertLess(again["ring-full-exits"], last["ring-full-exits"])
        self.assertLess(again["vcpus"][0]["ring-full-exits"],
                        last["vcpus"][0]["ring-full-exits"])
        for name in ("reaps", "pages", "new-pages", "time"):
            self.assertLess(again["reaper"][name], last["reaper"][name], name)

    def test_migration_cancelled(self) -> None:
        src, full = self.limited(limit=20)
        migration = Migration(src, link=10, downtime=1).start()
        migration.watch(1)
        migration.cancel()
        self.check_limits(src, {0: 20, 1: 20})
        self.wait_slow(src, full)
        src.unlimit()
        self.check_unlimited(src, full)

    def test_reset(self) -> None:
        src, full = self.limited()
        src.guest.expect_boot()
        src.cmd("system_reset")
        src.guest.wait_up(SOON)
        src.unlimit()
        src.guest.wait_filled(EVENTUALLY)
        self.check_unlimited(src, full)
        self.check_memory(src)

    def test_vcpu_plugged_in(self) -> None:
        src, full = self.limited(roles=(WRITER,), smp="1,maxcpus=2")
        free = next(slot for slot in
                    src.cmd("query-hotpluggable-cpus")
                    if "qom-path" not in slot)
        src.cmd("device_add", id="late", driver=free["type"],
                **free["props"])
        self.assertEqual(len(src.cmd("query-cpus-fast")), 2)
        src.limit(2)
        self.check_limits(src, {0: 2, 1: 2})
        src.unlimit()
        self.check_unlimited(src, full)
        self.check_memory(src)


class SnapshotTest(ThrottleTest):
    needs = ("dirty-limit",)
    SMALL = (Role("writer", rate=50000, mb=32),)

    def add_disk(self, src: StressVM) -> None:
        """A disk to save the VM to; the guest does not know of it"""
        path = src.temp_dir + "/snapshot.qcow2"
        size = 1 << 30

        def created(node: str, options: dict) -> None:
            job = "create-" + node
            src.cmd("blockdev-create", job_id=job, options=options)
            self.finish(src, job)

        created("file", {"driver": "file", "filename": path, "size": 0})
        src.cmd("blockdev-add", driver="file", node_name="file",
                filename=path)
        created("disk", {"driver": "qcow2", "file": "file", "size": size})
        src.cmd("blockdev-add", driver="qcow2", node_name="disk",
                file="file")

    def finish(self, src: StressVM, job: str) -> None:
        def concluded() -> dict | None:
            return next((entry for entry in src.cmd("query-jobs")
                         if entry["id"] == job and
                         entry["status"] == "concluded"), None)

        entry = wait_until(job, EVENTUALLY, concluded)
        self.assertNotIn("error", entry)
        src.cmd("job-dismiss", id=job)

    def test_save_and_load(self) -> None:
        src = self.source(self.SMALL)
        full = self.rate(src)
        src.limit(1)
        self.wait_slow(src, full)
        self.add_disk(src)
        # A snapshot is no migration
        src.set_capabilities("dirty-limit", "auto-converge")
        where = {"tag": "now", "vmstate": "disk", "devices": ["disk"]}

        src.cmd("snapshot-save", job_id="save", **where)
        self.finish(src, "save")
        self.check_limits(src, {0: 1})
        self.wait_slow(src, full)

        src.cmd("snapshot-load", job_id="load", **where)
        self.finish(src, "load")
        src.cmd("cont")
        self.check_limits(src, {0: 1})
        self.wait_slow(src, full)

        src.unlimit()
        self.check_unlimited(src, full)
        self.check_memory(src)


if __name__ == "__main__":
    unittest.main()
