#
# Migration test with the stress guest: its roles, reports with its counters
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import unittest

# It puts QEMU's own Python package into the path, which the guest needs
from guestperf.engine import Engine
from guestperf.counters import PAGES_PER_GIB, Counters
from guestperf.forecast import RunForecast, VcpuForecast
from guestperf.guest import RESERVED_MB, roles_of
from guestperf.hardware import Hardware
from guestperf.report import Report
from guestperf.scenario import Scenario
from guestperf.throttle import ThrottleRecord, VcpuRecord
from guestperf.timings import Timings

from stressvm.stressguest import StressGuestError
from stressvm.timeline import Sample


def words(cpus, mem, roles):
    return [role.word() for role in
            roles_of(Hardware(cpus=cpus, mem=mem),
                     Scenario("test", roles=roles))]


class RolesOfVcpusTest(unittest.TestCase):
    def test_by_turns(self):
        self.assertEqual(
            words(3, 1, ["writer,mb=8", "idle"]),
            ["writer,mb=8", "idle", "writer,mb=8"])

    def test_memory_is_shared(self):
        share = (512 - RESERVED_MB) // 2
        self.assertEqual(words(2, 0.5, ["writer", "reader,mb=7"]),
                         ["writer,mb=%d" % share, "reader,mb=7"])
        self.assertEqual(words(2, 0.5, None), ["writer,mb=%d" % share] * 2)

    def test_no_more_than_below_4_gib(self):
        self.assertEqual(words(1, 8, ["writer"]),
                         ["writer,mb=%d" % (3 * 1024 - RESERVED_MB)])

    def test_too_much(self):
        with self.assertRaises(StressGuestError):
            words(2, 0.25, ["writer,mb=200"])


class CountersTest(unittest.TestCase):
    COUNTERS = Counters(
        ["writer,mb=8", "reader,mb=8"],
        [Sample(100.0, (0, 50)), Sample(100.5, (PAGES_PER_GIB // 4, 50)),
         Sample(101.0, (PAGES_PER_GIB // 4, 50 + PAGES_PER_GIB))],
        [1.5, 2.5], [None, "one bad page"])

    def test_serialize(self):
        data = self.COUNTERS.serialize()
        back = Counters.deserialize(data)
        self.assertEqual(vars(back), vars(self.COUNTERS))
        self.assertEqual(sorted(data),
                         ["errors", "gaps", "ops", "roles", "times"])

    def test_none(self):
        self.assertIsNone(Counters.deserialize(None))

    def test_timings(self):
        # Half a second for a quarter of a GiB; standing still has no record
        self.assertEqual(
            [(r._tid, r._timestamp, r._value) for r in
             self.COUNTERS.timings()._records],
            [(0, 100.5, 2000), (1, 101.0, 1000)])

    def test_report(self):
        report = Report(Hardware(), Scenario("test", roles=["writer"]), [],
                        self.COUNTERS.timings(), Timings([]), Timings([]),
                        "qemu", "localhost", "kernel", "initrd", "unix", 3,
                        "stress-guest", "tcg", self.COUNTERS,
                        record=ThrottleRecord("quota", [], [
                            VcpuRecord(0, 4254, 323, 32)]),
                        forecast=RunForecast("dirty-quota", True, [
                            VcpuForecast(25.5, 0)], 7610))
        data = report.serialize()
        back = Report.from_json(report.to_json())
        self.assertEqual(back.serialize(), data)
        self.assertEqual((back._guest, back._accel),
                         ("stress-guest", "tcg"))
        self.assertEqual(back._scenario._roles, ["writer"])
        self.assertEqual(back._record._vcpus[0]._penalties, 323)
        self.assertEqual((back._forecast._total_time,
                          back._forecast._slowed[0]._share), (7610, 25.5))

    def test_older_report(self):
        report = Report(Hardware(), Scenario("old"), [], Timings([]),
                        Timings([]), Timings([]), "qemu", "localhost",
                        "kernel", "initrd", "unix", 3)
        data = report.serialize()
        for name in ("guest", "accel", "counters", "record", "forecast"):
            del data[name]
        back = Report.deserialize(data)
        self.assertEqual((back._guest, back._accel, back._counters,
                          back._record, back._forecast),
                         ("linux", "kvm", None, None, None))


class EngineTest(unittest.TestCase):
    @staticmethod
    def linux_args(ring=0, **kwargs):
        engine = Engine("qemu", "localhost", "kernel", "initrd", **kwargs)
        return engine._get_common_args(
            Hardware(2, 1, [], [], [], [], dirty_ring_size=ring))

    def test_linux_guest_as_ever(self):
        args = self.linux_args()
        self.assertEqual(args[:8], ["-accel", "kvm", "-cpu", "host",
                                    "-kernel", "kernel", "-initrd", "initrd"])
        self.assertTrue(args[args.index("-append") + 1].endswith(
            " quiet ramsize=1"))
        self.assertEqual(args[-4:], ["-m", "1536", "-smp", "2"])

    def test_linux_guest_with_a_ring(self):
        self.assertIn("kvm,dirty-ring-size=4096", self.linux_args(4096))
        self.assertEqual(self.linux_args(accel="tcg")[:4],
                         ["-accel", "tcg", "-cpu", "max"])

    def test_remote_destination(self):
        engine = Engine("qemu", "elsewhere", "kernel", "initrd", "tcp",
                        guest="stress-guest")
        with self.assertRaisesRegex(Exception, "must be local"):
            engine.run(Hardware(1, 1, [], [], [], []), Scenario("test"))


if __name__ == "__main__":
    unittest.main()
