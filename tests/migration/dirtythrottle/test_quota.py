#
# Dirty throttle tests: a budget that follows the link, shares, the fallback
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import os
import socket
import tempfile
import threading
import unittest

from typing import Any, Callable, Sequence

from stressvm.measure import MIB
from stressvm.stressguest import Role
from stressvm.timeline import ENDED, Poll
from stressvm.vm import StressVM
from stressvm.waiting import TimeLimit, wait_until

from dirtythrottle.base import (
    EVENTUALLY, READER, SMALL_READER, SOON, WRITER, ThrottleTest
)
from dirtythrottle.migration import Migration

# What a budget may differ from what it should be: the link is measured, on a
# machine that does other work too
TOLERANCE = 0.5

# The threshold with which a migration does not end by itself: all that is sent
# may come back as dirty, so there is always as much left as before
LASTING = 100


class DeviceWriter:
    """
    What a device would do with DMA, done by QEMU itself at qtest's command

    It writes @megabytes again and again in the memory above the regions of
    the guest's vCPUs, every @seconds.
    """

    def __init__(self, path: str, megabytes: int, seconds: float):
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(1)
        self._command = "memset 0x%x 0x%x 0x%%02x\n" % (300 * MIB,
                                                        megabytes * MIB)
        self._seconds = seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "DeviceWriter":
        self._thread.start()
        return self

    def __exit__(self, *args: Any) -> None:
        self.stop()
        self._listener.close()

    def stop(self) -> None:
        self._done.set()
        self._thread.join(SOON)

    def _run(self) -> None:
        connection, _ = self._listener.accept()
        answers = connection.makefile()
        value = 0
        while not self._done.wait(self._seconds):
            value = (value + 1) % 256
            try:
                connection.sendall((self._command % value).encode())
                while not answers.readline().startswith("OK"):
                    pass
            except OSError:
                # QEMU has gone, and with it the test
                break
        connection.close()


class QuotaTest(ThrottleTest):
    needs = ("dirty-quota",)

    # MiB/s, of a migration that is to complete
    LINK = 100

    EVENT = "MIGRATION_THROTTLE"

    def device_source(self, roles: Sequence[Role], megabytes: int,
                      seconds: float) -> tuple[StressVM, DeviceWriter]:
        """A VM with a device that writes to memory by itself"""
        path = os.path.join(self.enterContext(
            tempfile.TemporaryDirectory(prefix="dirtythrottle-")), "qtest.sock")
        device = self.enterContext(DeviceWriter(path, megabytes, seconds))
        return self.source(roles, args=("-qtest", "unix:" + path,
                                        "-qtest-log", "none")), device

    def start(self, src: StressVM, dst: StressVM | None = None,
              capabilities: Sequence[str] = (), link: float = 50,
              downtime: int = 1, **parameters: Any) -> Migration:
        return Migration(src, dst, link, downtime,
                         ["dirty-quota", *capabilities], parameters).start()

    def start_lasting(self, src: StressVM, **options: Any) -> Migration:
        """A migration that does not end while a writer is throttled"""
        return self.start(src, throttle_trigger_threshold=LASTING, **options)

    def throttle(self, migration: Migration) -> dict[str, Any]:
        """What query-migrate tells, for as long as the migration is active"""
        poll = migration.poll()
        self.assertNotIn(poll.status, ENDED)
        return poll.info.get("dirty-throttle", {})

    def wait_phase(self, migration: Migration, phase: str) -> dict[str, Any]:
        info = {}

        def reached() -> bool:
            info.clear()
            info.update(self.throttle(migration))
            return info.get("phase") == phase

        try:
            wait_until(phase, EVENTUALLY, reached)
        except TimeLimit as limit:
            raise TimeLimit("%s; there is %s" % (limit, info)) from None
        return info

    def wait_event(self, src: StressVM, **data: Any) -> dict[str, Any]:
        event = src.event_wait(self.EVENT, EVENTUALLY,
                               {"data": {name.replace("_", "-"): value
                                         for name, value in data.items()}})
        self.assertIsNotNone(event)
        return event["data"]

    def migrate(self, roles: Sequence[Role], *capabilities: str,
                ring: int | None = None,
                **parameters: Any) -> list[dict[str, Any]]:
        """All that dirty-throttle said, once memory was found intact"""
        said = []

        def note(poll: Poll) -> None:
            info = poll.info.get("dirty-throttle")
            if info:
                said.append(info)

        ring = self.ring if ring is None else ring
        src = self.source(roles, ring=ring)
        dst = self.destination(src, ring=ring)
        migration = self.start(src, dst, capabilities, link=self.LINK,
                               downtime=100, **parameters)
        end = migration.watch(EVENTUALLY, note)
        self.assertIsNotNone(end, "not within %d s" % EVENTUALLY)
        self.assertEqual(end.status, "completed", end.info)
        self.check_memory(dst)
        return said

    def check_throttled(self, said: list[dict[str, Any]]) -> None:
        phases = [info["phase"] for info in said]
        self.assertEqual(phases[0], "first-pass")
        self.assertIn("throttling", phases)
        self.assertFalse(any(info["fallback"] for info in said))
        # QEMU sends in bursts that are ten times as fast as that
        self.assertLessEqual(max(info["bandwidth"] for info in said),
                             1.1 * self.LINK)
        # nobody is penalised before it is known to be needed
        for info in said:
            if info["phase"] == "first-pass":
                self.assertEqual(sum(vcpu["penalties"]
                                     for vcpu in info["vcpus"]), 0)


class DeadlineTest(QuotaTest):

    # More than any test lasts
    DISTANT = 1000000

    def test_met(self) -> None:
        said = self.migrate((WRITER, READER), dirty_quota_deadline=8)
        self.assertIn("throttling", [info["phase"] for info in said])
        # It takes all the time there is, so a busy host may miss it in the end
        for info in said[:len(said) // 2]:
            self.assertFalse(info.get("deadline-missed"))
            self.assertNotIn("earliest-time", info)

    def test_distant(self) -> None:
        """vCPUs get what the link carries, and half of it without a deadline"""
        src = self.source((WRITER, SMALL_READER))
        migration = self.start(src, dirty_quota_deadline=self.DISTANT)
        info = self.wait_phase(migration, "throttling")
        self.assertFalse(info["deadline-missed"])
        self.assertGreater(info["budget"], 0.75 * info["bandwidth"])
        src.set_parameters(dirty_quota_deadline=0)
        wait_until("no deadline", SOON, lambda: "deadline-missed" not in
                   self.throttle(migration))
        info = self.throttle(migration)
        # The bandwidth is measured more often than the budget is decided.
        self.assertLessEqual(info["budget"], 0.6 * info["bandwidth"])
        migration.cancel()

    def test_missed(self) -> None:
        """That is said in the first pass, which is throttled then"""
        src = self.source((WRITER, SMALL_READER))
        # A first pass of 20 s
        migration = self.start(src, link=4, dirty_quota_deadline=1)
        info = self.wait_phase(migration, "throttling")
        self.assertTrue(info["deadline-missed"])
        self.assertGreater(info["earliest-time"], 1000)
        said = src.cmd("human-monitor-command",
                       command_line="info migrate")
        self.assertIn("dirty throttle deadline: cannot be met", said)
        wait_until("a penalty", SOON, lambda: self.throttle(migration)
                   ["vcpus"][0]["penalties"])
        self.assertEqual(migration.poll().info["ram"]["dirty-sync-count"], 1)
        # There is time after all.
        src.set_parameters(dirty_quota_deadline=self.DISTANT)
        info = self.wait_phase(migration, "first-pass")
        self.assertFalse(info["deadline-missed"])
        self.assertNotIn("earliest-time", info)
        self.assertEqual(migration.poll().info["ram"]["dirty-sync-count"], 1)
        migration.cancel()


class EventTest(QuotaTest):

    def test_throttling(self) -> None:
        src = self.source((WRITER, SMALL_READER))
        migration = self.start_lasting(src, capabilities=["events"])
        told = self.wait_event(src, phase="throttling")
        self.assertFalse(told["fallback"])
        self.assertNotIn("reason", told)
        self.assertNotIn("deadline-missed", told)
        self.assertGreater(told["bandwidth"], 0)
        self.assertLessEqual(told["budget"], told["bandwidth"])
        self.assertEqual(self.throttle(migration)["phase"], "throttling")
        migration.cancel()

    def test_deadline(self) -> None:
        """That it is missed, in a first pass of 20 s, and that it is not"""
        src = self.source((WRITER, SMALL_READER))
        migration = self.start(src, capabilities=["events"], link=4,
                               dirty_quota_deadline=1)
        told = self.wait_event(src, deadline_missed=True)
        self.assertGreater(told["earliest-time"], 1000)
        src.set_parameters(dirty_quota_deadline=DeadlineTest.DISTANT)
        told = self.wait_event(src, deadline_missed=False)
        self.assertNotIn("earliest-time", told)
        migration.cancel()

    def test_only_if_wanted(self) -> None:
        src = self.source((WRITER, SMALL_READER))
        migration = self.start_lasting(src)
        self.wait_phase(migration, "throttling")
        migration.cancel()
        self.assertNotIn(self.EVENT, [event["event"] for event in
                                      src.get_qmp_events()])


class RecordTest(QuotaTest):
    """What is told when it is over"""

    def record(self, src: StressVM) -> dict[str, Any]:
        info = src.cmd("query-migrate")
        self.assertNotIn("dirty-throttle", info)
        return info["dirty-throttle-record"]

    def check_record(self, record: dict[str, Any]) -> None:
        self.assertEqual(record["mode"], "quota")
        phases = [change["phase"] for change in record["changes"]]
        self.assertEqual(phases[0], "first-pass")
        self.assertIn("throttling", phases)
        times = [change["time"] for change in record["changes"]]
        self.assertEqual(times, sorted(times))
        self.assertIn(record["throttled-after"], times)
        writer, reader = record["vcpus"]
        self.assertGreater(writer["penalties"], 0)
        self.assertGreaterEqual(writer["penalty-time"],
                                writer["longest-penalty"])
        # No penalty is longer, but a busy host may let its vCPU sleep on
        self.assertGreater(writer["longest-penalty"], 0)
        self.assertEqual(reader["penalties"], 0)
        self.assertEqual(reader["longest-penalty"], 0)
        self.assertNotIn("lowest-rate", reader)

    def test_completed(self) -> None:
        src = self.source((WRITER, READER))
        dst = self.destination(src)
        self.assertNotIn("dirty-throttle-record", src.cmd("query-migrate"))
        migration = self.start(src, dst, link=self.LINK, downtime=100)
        self.assertNotIn("dirty-throttle-record", migration.poll().info)
        migration.wait("completed", EVENTUALLY)
        self.check_record(self.record(src))
        said = src.cmd("human-monitor-command",
                       command_line="info migrate")
        self.assertIn("dirty throttle: quota, over, throttled after", said)
        self.assertIn(" ms: throttling\r\n", said)
        self.assertIn("vcpu[0]: penalties ", said)

    def test_cancelled_and_another_begun(self) -> None:
        src = self.source((WRITER, SMALL_READER))
        migration = self.start_lasting(src)
        self.wait_phase(migration, "throttling")
        wait_until("a rate", EVENTUALLY, lambda: self.throttle(migration)
                   ["vcpus"][0]["penalties"] > 20)
        migration.cancel()
        self.check_record(self.record(src))
        migration = self.start(src, link=4)
        self.wait_phase(migration, "first-pass")
        self.assertNotIn("dirty-throttle-record", migration.poll().info)
        migration.cancel()
        record = self.record(src)
        self.assertNotIn("throttled-after", record)
        self.assertEqual([vcpu["penalties"] for vcpu in record["vcpus"]],
                         [0, 0])
        self.assertEqual(len(record["changes"]), 1)
        src.set_capabilities("dirty-quota", state=False)
        migration = Migration(src, None, 4, 1, [], {}).start()
        migration.cancel()
        self.assertNotIn("dirty-throttle-record", src.cmd("query-migrate"))


class ConvergeTest(QuotaTest):

    def test_ring_1024(self) -> None:
        said = self.migrate((WRITER, READER), ring=1024)
        self.check_throttled(said)
        self.assertGreater(said[-1]["vcpus"][0]["penalty-time"], 0)

    def test_reader_is_never_penalised(self) -> None:
        said = self.migrate((WRITER, READER), ring=65536)
        self.check_throttled(said)
        self.assertEqual(said[-1]["vcpus"][1]["penalties"], 0)

    def test_two_writers_two_readers(self) -> None:
        half = (Role("writer", rate=50000, mb=32), Role("reader", mb=32))
        self.check_throttled(self.migrate(half + half, ring=4096))

    def test_hot_set_pays_for_pages_not_for_writes(self) -> None:
        """50 000 writes/s to 256 pages are 256 pages for each iteration"""
        said = self.migrate((WRITER, Role("hot", rate=50000, pages=256)),
                            ring=4096)
        writer, hot = said[-1]["vcpus"]
        # If it paid for writes it would pay as much. A host that is busy makes
        # the share of both small, and even those pages then take time to earn.
        self.assertLess(hot["penalty-time"], writer["penalty-time"] / 2)

    def test_writer_as_fast_as_it_can(self) -> None:
        self.check_throttled(self.migrate((Role("writer", mb=64), READER),
                                          ring=4096))

    def test_writer_that_the_link_bears(self) -> None:
        said = self.migrate((Role("writer", rate=5000, mb=64), READER),
                            ring=4096)
        self.assertNotIn("throttling", [info["phase"] for info in said])
        self.assertEqual(sum(vcpu["penalties"]
                             for vcpu in said[-1]["vcpus"]), 0)

    def test_multifd(self) -> None:
        self.check_throttled(self.migrate((WRITER, READER), "multifd",
                                          ring=4096, multifd_channels=2))

    def test_xbzrle(self) -> None:
        self.migrate((WRITER, READER), "xbzrle", ring=4096,
                     xbzrle_cache_size=128 * MIB)

    def test_shortest_and_longest_interval(self) -> None:
        for interval in (1, 1000):
            with self.subTest(interval=interval):
                self.check_throttled(self.migrate(
                    (WRITER, READER), ring=4096,
                    dirty_quota_interval=interval))

    def test_with_a_limit_the_smaller_counts(self) -> None:
        src = self.source()
        migration = self.start_lasting(src, capabilities=["dirty-limit"],
                                       vcpu_dirty_limit=2)
        self.wait_phase(migration, "throttling")
        # a pass of six seconds, and a budget that leaves more than the limit
        src.set_link(10)

        def held() -> bool:
            writer = self.throttle(migration)["vcpus"][0]
            return writer["limit"] == 2 and writer["rate"] < 4

        wait_until("held by the limit", SOON, held)
        migration.cancel()
        src.set_capabilities("dirty-limit", state=False)

        # the same the other way round: the share is 10 MB/s and more
        migration = self.start_lasting(src, capabilities=["dirty-limit"],
                                       link=20, vcpu_dirty_limit=1000)
        self.wait_phase(migration, "throttling")
        wait_until("held by the share", SOON, lambda: self.throttle(
            migration)["vcpus"][0]["rate"] < 30)


class BudgetTest(QuotaTest):

    def wait_budget(self, migration: Migration, mbps: float) -> None:
        wait_until("a budget of about %d MB/s" % mbps, SOON, lambda: abs(
            self.throttle(migration)["budget"] - mbps) < TOLERANCE * mbps)

    def test_follows_the_link(self) -> None:
        src = self.source()
        migration = self.start_lasting(src, link=40)
        self.wait_phase(migration, "throttling")
        self.wait_budget(migration, 40)
        src.set_link(8)
        self.wait_budget(migration, 8)
        src.set_link(40)
        self.wait_budget(migration, 40)

    def test_follows_the_threshold(self) -> None:
        src = self.source()
        migration = self.start_lasting(src, link=20)
        self.wait_phase(migration, "throttling")
        self.wait_budget(migration, 20)
        src.set_parameters(throttle_trigger_threshold=25)
        self.wait_budget(migration, 5)

    def test_writer_gets_all_that_the_reader_leaves(self) -> None:
        src = self.source()
        migration = self.start_lasting(src, link=20)
        self.wait_phase(migration, "throttling")

        def uses_it() -> bool:
            info = self.throttle(migration)
            # more than the half that is the writer's own share
            return info["vcpus"][0]["rate"] > 0.7 * info["budget"]

        wait_until("more than its share", SOON, uses_it)

    def test_hmp_tells_the_same(self) -> None:
        src = self.source()
        migration = self.start_lasting(src, link=20)
        self.wait_phase(migration, "throttling")
        text = src.cmd("human-monitor-command",
                       command_line="info migrate")
        self.assertIn("dirty throttle: quota, throttling for", text)
        self.assertRegex(text, r"vcpu\[0\]: [\d.]+ MB/s, quota [\d.]+ MB/s")


class FallbackTest(QuotaTest):

    def wait_given_back(self, migration: Migration) -> None:
        """Wait until auto-converge does nothing, and is not asked to"""
        def given_back() -> bool:
            poll = migration.poll()
            self.assertNotIn(poll.status, ENDED)
            return not (poll.info["dirty-throttle"]["fallback"] or
                        "cpu-throttle-percentage" in poll.info)

        wait_until("no fallback", EVENTUALLY, given_back)

    def start_with_busy_device(self, *capabilities: str
                               ) -> tuple[Migration, DeviceWriter]:
        """A migration that a device alone keeps from ending, past the start"""
        src, device = self.device_source((Role("writer", rate=20, mb=16),), 16,
                                        0.01)
        # Passes of a second, in which a busy machine lets the device write
        migration = self.start(src, capabilities=capabilities, link=16)
        wait_until("the first pass", EVENTUALLY, lambda: self.throttle(
            migration).get("phase", "first-pass") != "first-pass")
        # A pass of 5 s: when it ends, the device has written nearly all of its
        # memory again, on a busy machine too
        src.set_link(3)
        return migration, device

    def end(self, migration: Migration,
            each: Callable[[Poll], None] = lambda poll: None) -> None:
        # Longer than what is dirtied in a moment takes
        migration.src.set_parameters(downtime_limit=1000)
        end = migration.watch(EVENTUALLY, each)
        self.assertIsNotNone(end, "not within %d s" % EVENTUALLY)
        self.assertEqual(end.status, "completed", end.info)

    def test_devices(self) -> None:
        migration, device = self.start_with_busy_device("auto-converge")
        info = self.wait_phase(migration, "cannot-help")
        self.assertEqual(info["reason"], "devices")
        self.assertTrue(info["fallback"])
        self.assertGreater(info["device-rate"], info["bandwidth"] / 2)
        # auto-converge does take it up
        wait_until("auto-converge", EVENTUALLY, lambda:
                   "cpu-throttle-percentage" in migration.poll().info)

        def kept(poll: Poll) -> None:
            info = poll.info.get("dirty-throttle")
            self.assertTrue(info is None or info["fallback"], info)

        # and keeps it until the end: nobody can tell what it has hidden
        device.stop()
        self.end(migration, kept)

    def test_event(self) -> None:
        migration, _ = self.start_with_busy_device("events")
        told = self.wait_event(migration.src, phase="cannot-help")
        self.assertEqual(told["reason"], "devices")
        self.assertFalse(told["fallback"])
        self.assertGreater(told["device-rate"], told["bandwidth"] / 2)
        migration.cancel()

    def test_devices_are_only_reported_without_auto_converge(self) -> None:
        migration, device = self.start_with_busy_device()
        info = self.wait_phase(migration, "cannot-help")
        self.assertEqual(info["reason"], "devices")
        self.assertFalse(info["fallback"])
        self.assertNotIn("cpu-throttle-percentage", migration.poll().info)

        # what is seen is what is there: the reason goes when the device stops
        device.stop()
        self.end(migration)

    def test_devices_take_their_part(self) -> None:
        # A fifth of what each pass sends is the device's
        src, _ = self.device_source((WRITER,), 16, 0.1)
        migration = self.start_lasting(src, link=50)
        self.wait_phase(migration, "throttling")

        def less() -> bool:
            info = self.throttle(migration)
            return (info["device-rate"] > 5 and info["budget"] <
                    info["bandwidth"] - info["device-rate"] / 2)

        wait_until("a budget less what the device dirties", EVENTUALLY, less)

    def test_floor(self) -> None:
        """A link that carries less than vCPUs may dirty by their limits"""
        src = self.source((WRITER, WRITER))
        migration = Migration(src, None, 200, 1,
                              ["dirty-limit", "auto-converge"],
                              {"vcpu_dirty_limit": 20}).start()
        self.wait_phase(migration, "throttling")
        src.set_link(10)
        info = self.wait_phase(migration, "cannot-help")
        self.assertEqual(info["reason"], "floor")
        self.assertTrue(info["fallback"])
        src.set_parameters(throttle_trigger_threshold=LASTING)
        src.set_link(200)
        self.wait_given_back(migration)


class QuotaWaysOutTest(QuotaTest):

    # Once all its pages are dirty nothing slows it down any more. This one
    # takes so long that the link can become slow before.
    ROLES = (Role("writer", rate=50000, mb=200), SMALL_READER)

    def throttled_migration(self, src: StressVM, dst: StressVM | None = None,
                            *capabilities: str) -> Migration:
        full = self.rate(src)
        migration = self.start_lasting(src, dst=dst, link=50,
                                       capabilities=capabilities)
        self.wait_phase(migration, "throttling")
        src.set_link(1)
        self.wait_slow(src, full)
        self.full = full
        return migration

    def test_cancelled(self) -> None:
        src = self.source(self.ROLES)
        migration = self.throttled_migration(src)
        migration.cancel()
        self.wait_fast(src, self.full)
        self.assertNotIn("dirty-throttle", src.migration())

    def test_failed(self) -> None:
        src = self.source(self.ROLES)
        dst = self.destination(src)
        migration = self.throttled_migration(src, dst)
        dst.kill()
        migration.wait("failed", SOON)
        self.wait_fast(src, self.full)

    def test_postcopy(self) -> None:
        src = self.source(self.ROLES)
        dst = self.destination(src)
        dst.set_capabilities("postcopy-ram")
        migration = self.throttled_migration(src, dst, "postcopy-ram")
        src.set_link(100)
        src.cmd("migrate-start-postcopy")
        migration.wait("completed", EVENTUALLY)
        self.check_memory(dst)

    def test_stopped_and_continued(self) -> None:
        src = self.source(self.ROLES)
        migration = self.throttled_migration(src)
        src.cmd("stop")
        src.cmd("cont")
        self.wait_slow(src, self.full)
        migration.cancel()
        self.wait_fast(src, self.full)


if __name__ == "__main__":
    unittest.main()
