#
# Dirty throttle tests: a short chaos run, and what it is made of
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import copy
import itertools
import json
import os
import socket
import tempfile
import unittest

from pathlib import Path
from unittest import mock

from dirtythrottle.base import ThrottleTest
from dirtythrottle.chaos import events, figures, procfs
from dirtythrottle.chaos.broken import Broken
from dirtythrottle.chaos.channel import Channel
from dirtythrottle.chaos.events import Generator
from dirtythrottle.chaos.minimise import minimise
from dirtythrottle.chaos.run import Run, lines, parse
from dirtythrottle.chaos.sanitizer import Findings, SLOWNESS
from dirtythrottle.chaos.world import World

# Any number does, but the same one each time: a failure shall come again
SEED = 7
# With what has to be minimised, less than two minutes
SECONDS = 60
MINIMISE_SECONDS = 30


class GeneratorTest(unittest.TestCase):
    @staticmethod
    def first(seed: int, number: int = 2000) -> list[events.Event]:
        return list(itertools.islice(Generator(seed), number))

    def test_same_seed_same_events(self) -> None:
        self.assertEqual(self.first(5), self.first(5))

    def test_other_seed_other_events(self) -> None:
        self.assertNotEqual(self.first(5), self.first(6))

    def test_there_and_back(self) -> None:
        self.assertEqual(parse(lines(self.first(5))), self.first(5))

    def test_begins_with_a_boot(self) -> None:
        self.assertEqual(self.first(5, 1)[0]["do"], "boot")

    def test_all_events_come_and_are_known(self) -> None:
        found = {event["do"] for event in self.first(5, 20000)}
        known = {name[len("_do_"):] for name in dir(World)
                 if name.startswith("_do_")}
        self.assertEqual(found, known)

    def test_bad_values_are_no_good_ones(self) -> None:
        for name, (good, bad) in events.PARAMETERS.items():
            for value in bad:
                # As JSON, because True is 1 here and is not there
                self.assertNotIn(json.dumps(value), map(json.dumps, good),
                                 name)


class MinimiseTest(unittest.TestCase):
    def test_planted_pair(self) -> None:
        """Two events of a thousand that fail together, in this order"""
        tried = 0

        def fails(items: list[int]) -> bool:
            nonlocal tried
            tried += 1
            return 123 in items and 877 in items

        self.assertEqual(minimise(range(1000), fails), [123, 877])
        # Far from trying each
        self.assertLess(tried, 200)

    def test_one_alone(self) -> None:
        self.assertEqual(minimise(range(100), lambda items: 42 in items),
                         [42])

    def test_all_are_needed(self) -> None:
        items = list(range(7))
        self.assertEqual(minimise(items, lambda part: part == items), items)

    def test_any_three(self) -> None:
        self.assertEqual(
            len(minimise(range(50), lambda part: len(part) >= 3)), 3)

    def test_time_is_up(self) -> None:
        answers = iter([False, True])
        self.assertEqual(len(minimise(range(8), lambda part: True,
                                      lambda: next(answers))), 4)


class ChannelTest(unittest.TestCase):
    def setUp(self) -> None:
        self.dir = self.enterContext(tempfile.TemporaryDirectory())
        self.far = self.enterContext(socket.socket(socket.AF_UNIX))
        self.far.bind(os.path.join(self.dir, "far"))
        self.far.listen()

    def connect(self, target: str | None) -> tuple[Channel, socket.socket]:
        channel = Channel(os.path.join(self.dir, "near"), target)
        self.addCleanup(channel.close)
        near = self.enterContext(socket.socket(socket.AF_UNIX))
        near.settimeout(20)
        near.connect(os.path.join(self.dir, "near"))
        return channel, near

    def both(self) -> tuple[Channel, socket.socket, socket.socket]:
        channel, near = self.connect(os.path.join(self.dir, "far"))
        far, _ = self.far.accept()
        self.enterContext(far)
        far.settimeout(20)
        return channel, near, far

    def test_both_ways(self) -> None:
        _, near, far = self.both()
        near.sendall(b"there")
        self.assertEqual(far.recv(5), b"there")
        far.sendall(b"back")
        self.assertEqual(near.recv(4), b"back")

    def test_stall(self) -> None:
        channel, near, far = self.both()
        channel.stall()
        near.sendall(b"late")
        far.settimeout(0.2)
        with self.assertRaises(TimeoutError):
            far.recv(1)
        channel.heal()
        far.settimeout(20)
        self.assertEqual(far.recv(4), b"late")

    def test_break(self) -> None:
        channel, near, far = self.both()
        channel.close()
        self.assertEqual(near.recv(1), b"")
        self.assertEqual(far.recv(1), b"")

    def test_one_side_ends(self) -> None:
        _, near, far = self.both()
        far.close()
        with self.assertRaises(OSError):
            while True:
                near.sendall(bytes(4096))

    def test_to_nowhere(self) -> None:
        _, near = self.connect(None)
        near.sendall(bytes(10 ** 7))


class InconsistenciesTest(unittest.TestCase):
    CAPABILITIES = {"dirty-limit": False, "dirty-quota": True,
                    "auto-converge": True}
    INFO = {
        "status": "active", "total-time": 1500, "setup-time": 3,
        "expected-downtime": 20, "cpu-throttle-percentage": 30,
        "ram": {"total": 1 << 20, "remaining": 8192, "transferred": 4096,
                "normal": 1, "normal-bytes": 4096, "duplicate": 7,
                "page-size": 4096, "mbps": 1.5, "dirty-sync-count": 2},
        "dirty-throttle": {
            "mode": "quota", "mechanism": "dirty-ring",
            "phase": "cannot-help", "reason": "floor", "phase-time": 70,
            "fallback": True, "bandwidth": 100.0, "budget": 50.0,
            "device-rate": 0.0, "pool": 4096, "ring-full-exits": 9,
            "reaper": {"interval": 100, "reaps": 3, "pages": 20,
                       "new-pages": 10, "time": 55},
            "vcpus": [{"cpu-index": 0, "rate": 40.0, "quota": 45.0,
                       "debt": 0, "throttled": 80.0, "penalty-time": 20,
                       "penalties": 4, "ring-full-exits": 5}],
        },
    }

    def wrong(self, *path: str | int, value: object) -> list[str]:
        """What is said of the answer above with one figure changed"""
        info = copy.deepcopy(self.INFO)
        place = info
        for key in path[:-1]:
            place = place[key]
        if value is None:
            del place[path[-1]]
        else:
            place[path[-1]] = value
        return figures.inconsistencies(info, self.CAPABILITIES, 2, True)

    def test_consistent(self) -> None:
        self.assertEqual(figures.inconsistencies(
            self.INFO, self.CAPABILITIES, 2, True), [])
        self.assertEqual(figures.regressions(self.INFO, self.INFO), [])

    def test_alike(self) -> None:
        """It is told why, and only where auto-converge is enabled, too"""
        info = copy.deepcopy(self.INFO)
        info["dirty-throttle"].update(
            mechanism="cpu-time", phase="throttling", reason="no-mechanism",
            fallback=False)
        for converge, errors in ((True, 0), (False, 1)):
            capabilities = {**self.CAPABILITIES, "auto-converge": converge}
            self.assertEqual(len(figures.inconsistencies(
                info, capabilities, 2, True)), errors)
        del info["dirty-throttle"]["reason"]
        self.assertEqual(len(figures.inconsistencies(
            info, {**self.CAPABILITIES, "auto-converge": True}, 2, True)), 1)

    def test_inconsistent(self) -> None:
        throttle = "dirty-throttle"
        for *path, value in (
                ("status", "busy"),
                ("error-desc", "none"),
                ("total-time", -1),
                ("cpu-throttle-percentage", 100),
                ("ram", "remaining", 1 << 21),
                ("ram", "normal-bytes", 5),
                ("ram", "mbps", float("inf")),
                (throttle, "mode", "limit"),
                (throttle, "phase", "off"),
                (throttle, "phase", "throttling"),
                (throttle, "phase", "watching"),
                (throttle, "reason", None),
                (throttle, "reason", "no-mechanism"),
                (throttle, "reason", "unexplained"),
                (throttle, "mechanism", None),
                (throttle, "reaper", None),
                (throttle, "phase-time", 99999),
                (throttle, "budget", 201.0),
                (throttle, "bandwidth", -1.0),
                (throttle, "ring-full-exits", 4),
                (throttle, "pool", None),
                (throttle, "reaper", "new-pages", 21),
                (throttle, "reaper", "interval", 2000),
                (throttle, "vcpus", 0, "cpu-index", 2),
                (throttle, "vcpus", 0, "throttled", 100.5),
                (throttle, "vcpus", 0, "rate", -0.5),
                (throttle, "vcpus", 0, "limit", 0),
                (throttle, "vcpus", 0, "quota", -1.0),
                ("dirty-limit-ring-full-time", 5)):
            self.assertNotEqual(self.wrong(*path, value=value), [],
                                (path, value))

    def test_goes_back(self) -> None:
        for *path, value in (
                ("ram", "transferred", 5), ("ram", "dirty-sync-count", 0),
                ("dirty-throttle", "ring-full-exits", 6),
                ("dirty-throttle", "reaper", "pages", 19),
                ("dirty-throttle", "vcpus", 0, "penalties", 3)):
            later = copy.deepcopy(self.INFO)
            place = later
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
            self.assertNotEqual(figures.regressions(self.INFO, later), [],
                                path)

    def test_no_end_ends(self) -> None:
        self.assertNotEqual(figures.regressions(
            {"status": "cancelled"}, {"status": "active"}), [])


class ChaosTest(ThrottleTest):
    def run_of(self) -> Run:
        return Run(self.binary, SLOWNESS[os.environ.get("SANITIZER", "")],
                   minimise_seconds=MINIMISE_SECONDS, most_failures=1,
                   say=lambda line: None)

    def test_short_run(self) -> None:
        run = self.run_of()
        run.play(Generator(SEED), seconds=SECONDS)
        for failure in run.failures:
            self.fail("%s\n%s" % (failure.broken, lines(failure.minimal)))
        self.assertGreater(run.counts["migrations"], 0)
        self.assertGreater(run.counts["pages"], 0)

    def test_damage_is_found(self) -> None:
        """A page that somebody else writes to shows, and so does the event"""
        run = self.run_of()
        boot = {"do": "boot", "ring": 1024, "mb": 8, "vga": False,
                "work": [["reader", 0]]}
        quiet = {"do": "wait", "ms": 1}
        original = World._do_wait

        def damage(world: World, ms: int) -> None:
            if ms == 666:
                vcpu = world._vm.guest.vcpu(0)
                os.pwrite(world._vm._ram, b"damage",
                          vcpu.region_start + vcpu.region_size // 2)
            original(world, 1)

        World._do_wait = damage
        self.addCleanup(setattr, World, "_do_wait", original)
        planted = {"do": "wait", "ms": 666}
        run.play([boot, quiet, quiet, planted, quiet, {"do": "check"}])
        failure, = run.failures
        self.assertEqual(failure.broken.invariant, "memory")
        self.assertEqual(failure.minimal, [boot, planted])

    def test_limit_left_behind_is_found(self) -> None:
        run = self.run_of()
        boot = {"do": "boot", "ring": 1024, "mb": 8, "vga": False,
                "work": [["writer", 0]]}
        original = World._do_wait

        def limit(world: World, ms: int) -> None:
            world._vm.limit(5)

        World._do_wait = limit
        self.addCleanup(setattr, World, "_do_wait", original)
        run.minimise_seconds = 0
        run.play([boot, {"do": "wait", "ms": 1}])
        failure, = run.failures
        self.assertEqual(failure.broken.invariant, "limits")

    def test_launch_that_fails_tells_why(self) -> None:
        run = self.run_of()
        run.minimise_seconds = 0
        run.play([{"do": "boot", "ring": 1000, "mb": 8, "vga": False,
                   "work": [["writer", 0]]}])
        failure, = run.failures
        self.assertEqual(failure.broken.invariant, "launch")
        self.assertIn("Exit code: 1\n", failure.broken.text)
        self.assertIn("dirty-ring-size", failure.broken.text)


class BrokenTest(unittest.TestCase):
    def test_signature(self) -> None:
        """Addresses and numbers are not what a failure is known by"""
        self.assertEqual(Broken("log", "0x7f12: page 5\nmore").signature,
                         Broken("log", "0x8a00: page 77\n").signature)
        self.assertNotEqual(Broken("log", "a").signature,
                            Broken("log", "b").signature)


class FindingsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.dir = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.enterContext(mock.patch.dict(
            os.environ, {"SANITIZER_REPORTS": str(self.dir)}))
        self.findings = Findings()

    def report(self, what: str, process: int = 1) -> None:
        with open(self.dir / ("qemu.%d" % process), "a") as file:
            file.write("==================\nWARNING: a race (pid=%d)\n"
                       "SUMMARY: a race in %s\n==================\n" % (
                           process, what))

    def taken(self) -> Broken:
        return Broken("sanitizer", self.findings.take())

    def test_signature(self) -> None:
        """The same finding in two processes is one, others are others"""
        self.report("one()")
        first = self.taken()
        self.report("one()", process=2)
        self.assertEqual(self.taken().signature, first.signature)
        self.report("two()")
        self.assertNotEqual(self.taken().signature, first.signature)

    def test_each_is_taken_once(self) -> None:
        self.report("one()")
        self.assertIn("pid=1", self.findings.take())
        self.assertIsNone(self.findings.take())

    def test_its_file_is_none_of_qemu(self) -> None:
        before = procfs.resources(os.getpid())
        with open(self.dir / "qemu.1", "w"), open(os.devnull):
            after = procfs.resources(os.getpid())
        self.assertEqual(after - before, {"file " + os.devnull: 1})


if __name__ == "__main__":
    unittest.main()
