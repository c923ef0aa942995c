#
# Migration test figures: the statistics and the model say what they should
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import math
import unittest

from guestperf.counters import Counters
from guestperf.figures import Figures
from guestperf.forecast import RunForecast
from guestperf.hardware import Hardware
from guestperf.model import Model, Writer, model_of, pages_of, writers_of
from guestperf.progress import Progress, ProgressStats
from guestperf.report import Report
from guestperf.scenario import Scenario
from guestperf.throttle import Throttle, ThrottleRecord
from guestperf.timings import Timings

from stressvm.measure import MIB
from stressvm.stressguest import Role
from stressvm.timeline import Sample

# The clock when the migration begins
BEGIN = 1000.0


def progress(after, status="active", iterations=1, sent=0, duration=None,
             downtime=0):
    """What query-migrate said some seconds after the beginning"""
    if duration is None:
        duration = round(after * 1000)
    return Progress(status,
                    ProgressStats(sent, 0, 0, 0, 0, 0, 0, 0, 0, iterations),
                    BEGIN + after, duration, downtime, 0, 0, 0)


def samples(rates, seconds):
    """
    Samples from 2 s before the beginning until @seconds after it

    @rates: for each vCPU, operations per second at a time after the beginning
    """
    found = []
    ops = [0.0] * len(rates)
    for step in range((seconds + 2) * 50 + 1):
        after = step / 50 - 2
        found.append(Sample(BEGIN + after, tuple(map(round, ops))))
        ops = [done + rate(after + 0.01) / 50
               for done, rate in zip(ops, rates)]
    return found


def report(rates, history, roles=("writer,mb=4", "reader,mb=4"),
           seconds=14, gaps=(20.0, 5.0), errors=(None, None), record=None,
           forecast=None, **scenario):
    counters = Counters(list(roles), samples(rates, seconds), list(gaps),
                        errors and list(errors))
    return Report(Hardware(2, 1, [], [], [], []),
                  Scenario("test", **scenario), history,
                  Timings([]), Timings([]), Timings([]), "qemu",
                  "localhost", "kernel", "initrd", "unix", 3,
                  "stress-guest", "kvm", counters, record=record,
                  forecast=forecast)


def told(after, missed, earliest=None):
    """What was said of the deadline, milliseconds"""
    there = progress(after)
    there._throttle = Throttle("quota", "first-pass", 100, 5, 0, [],
                               deadline_missed=missed, earliest_time=earliest)
    return there


def foretold(*times, strategy="dirty-quota", slowed=(), missed=None):
    """
    A forecast, milliseconds

    @times: total, least, most; those that are left out are never
    """
    ends = bool(times) and times[0] is not None
    return RunForecast(strategy, ends, list(slowed), *times,
                    *[None] * (3 - len(times)),
                    *((270, 3420) if ends else (None, None)), missed)


# Full speed, then a tenth from 4 s to 8 s, and nothing from 8 s to 9 s
def slowed(after):
    if 4 <= after < 8:
        return 100
    if 8 <= after < 9:
        return 0
    return 1000


def steady(after):
    return 500


COMPLETED = [progress(0.05, "setup", 0), progress(0.1, sent=10 * MIB),
             progress(4, iterations=2, sent=20 * MIB),
             progress(6, iterations=3, sent=30 * MIB),
             progress(10.04, "completed", 4, 40 * MIB, 10000, 300)]


class FiguresTest(unittest.TestCase):
    def test_completed(self):
        figures = Figures(report([slowed, steady], COMPLETED))
        self.assertTrue(figures._completed)
        self.assertAlmostEqual(figures._total, 10)
        self.assertEqual(figures._downtime, 300)
        self.assertEqual(figures._sent, 40 * MIB)
        self.assertEqual(figures._iterations, 4)
        self.assertEqual(figures._errors, [])

    def test_slowed_vcpu(self):
        vcpu = Figures(report([slowed, steady], COMPLETED))._vcpus[0]
        self.assertEqual(vcpu._role, "writer")
        self.assertAlmostEqual(vcpu._before, 1000, delta=1)
        # 5 s at full speed, 4 s at a tenth, 1 s of nothing
        self.assertAlmostEqual(vcpu._kept, 54, delta=0.5)
        self.assertAlmostEqual(vcpu._lost, 4.6, delta=0.05)
        self.assertAlmostEqual(vcpu._worst, 0, delta=0.5)

    def test_steady_vcpu(self):
        vcpu = Figures(report([slowed, steady], COMPLETED))._vcpus[1]
        self.assertAlmostEqual(vcpu._kept, 100, delta=0.5)
        self.assertAlmostEqual(vcpu._worst, 100, delta=1)
        self.assertAlmostEqual(vcpu._lost, 0, delta=0.05)

    def test_worst_second_holds_the_whole_downtime(self):
        def down(after):
            return 0 if 9.7 <= after < 10.2 else 1000

        vcpu = Figures(report([down, steady], COMPLETED))._vcpus[0]
        self.assertAlmostEqual(vcpu._worst, 50, delta=1)

    def test_stall(self):
        # No vCPU stood still for less than the downtime
        figures = Figures(report([slowed, steady], COMPLETED))
        self.assertEqual((figures._vcpus[0]._stall, figures._stall),
                         (300, 300))
        figures = Figures(report([slowed, steady], COMPLETED,
                                 gaps=(20.0, 900.0)))
        self.assertEqual((figures._vcpus[0]._stall, figures._stall),
                         (300, 900))

    def test_errors(self):
        figures = Figures(report([slowed, steady], COMPLETED,
                                 errors=(None, "one bad page")))
        self.assertEqual(figures._errors, ["one bad page"])
        figures = Figures(report([slowed, steady], COMPLETED, errors=None))
        self.assertIsNone(figures._errors)

    def test_idle_vcpu(self):
        vcpu = Figures(report([slowed, lambda after: 0], COMPLETED,
                              roles=("writer,mb=4", "idle")))._vcpus[1]
        self.assertEqual((vcpu._role, vcpu._kept, vcpu._worst, vcpu._lost,
                          vcpu._stall), ("idle", None, None, None, None))

    def test_never(self):
        history = COMPLETED[:-1] + [progress(12, "cancelled", 0, 0, 0)]
        figures = Figures(report([slowed, steady], history))
        self.assertEqual((figures._total, figures._ready),
                         (math.inf, math.inf))
        self.assertIsNone(figures._downtime)
        self.assertEqual(figures._sent, 30 * MIB)
        self.assertEqual(figures._time_percent, 0)
        self.assertIsNone(figures._writers_percent)
        # The time for which it went on counts for what was lost
        self.assertAlmostEqual(figures._vcpus[0]._lost, 4.6, delta=0.05)

    def test_deadline(self):
        def figures(*history, **scenario):
            return Figures(report([slowed, steady],
                                  [*history, COMPLETED[-1]], **scenario))

        there = figures(told(1, False), dirty_quota=True,
                        dirty_quota_deadline=9)
        self.assertEqual((there._deadline, there._missed, there._earliest),
                         (9, False, None))
        self.assertAlmostEqual(there._ready, 9.7)
        # What was told first
        there = figures(told(1, False), told(2, True, 9500),
                        told(3, True, 9600), told(4, False))
        self.assertEqual((there._missed, there._earliest), (True, 9.5))
        there = figures(told(1, True))
        self.assertEqual((there._missed, there._earliest), (True, None))

    def test_no_deadline(self):
        figures = Figures(report([slowed, steady], COMPLETED,
                                 dirty_quota=True))
        self.assertEqual((figures._deadline, figures._missed),
                         (None, False))
        # It is dirty-quota that keeps to it
        self.assertIsNone(Figures(report(
            [slowed, steady], COMPLETED, dirty_quota_deadline=9))._deadline)

    def test_forecast(self):
        def figures(forecast, history=COMPLETED):
            return Figures(report([slowed, steady], history,
                                  forecast=forecast))

        there = figures(foretold(8000))
        self.assertEqual((there._forecast, there.is_forecast_right()),
                         (8, True))
        self.assertAlmostEqual(there.forecast_error(), -20)
        there = figures(foretold())
        self.assertEqual((there._forecast, there.forecast_error(),
                          there.is_forecast_right()),
                         (math.inf, None, False))
        there = figures(None)
        self.assertEqual((there._forecast, there.forecast_error(),
                          there.is_forecast_right()), (None, None, None))

    def test_forecast_of_what_does_not_end(self):
        history = COMPLETED[:-1] + [progress(12, "cancelled", 0, 0, 0)]
        # Nobody knows what would have come after 12 s
        for forecast, right in ((foretold(), True), (foretold(15000), True),
                                (foretold(10000), False), (None, None)):
            there = Figures(report([slowed, steady], history,
                                   forecast=forecast))
            self.assertIsNone(there.forecast_error())
            self.assertEqual(there.is_forecast_right(), right)

    def test_kept_while_slowed(self):
        def kept(history=COMPLETED, record=None):
            return [vcpu._slowed for vcpu in Figures(report(
                [slowed, steady], history, record=record))._vcpus]

        self.assertEqual(kept(), [None, None])
        # 4 s of a tenth, 1 s of nothing, 0.7 s at full speed
        record = ThrottleRecord("quota", [], [], throttled_after=4000)
        for there, wanted in zip(kept(record=record), (19.3, 100)):
            self.assertAlmostEqual(there, wanted, delta=1)
        self.assertEqual(kept(record=ThrottleRecord("quota", [], [])),
                         [None, None])
        # auto-converge has no record
        history = list(COMPLETED)
        history.insert(3, progress(5, iterations=2))
        history[3]._throttle_pcent = 20
        self.assertAlmostEqual(kept(history)[0], 21.3, delta=1)

    def test_iterations(self):
        figures = Figures(report([slowed, steady], COMPLETED))
        self.assertEqual(
            [(round(begin - BEGIN, 2), round(end - BEGIN, 2))
             for begin, end in figures.iterations()],
            [(0.1, 4), (4, 6), (6, 10)])

    def test_dirtied(self):
        # 4 MiB are 1024 pages. 200 in the first iteration after the first
        # pass; 200 and then 1000 in the next, more than there are, of which
        # each counts once
        figures = Figures(report([slowed, steady], COMPLETED))
        self.assertAlmostEqual(figures.dirtied(), (200 + 1024) / 6,
                               delta=5)

    def test_percent_of_the_model(self):
        # A link of 1000 pages/s carries the guest's 2048 pages in 2.048 s;
        # 1024 dirty ones less 100 need 1.848 s at 500 pages/s
        figures = Figures(report(
            [slowed, steady], COMPLETED,
            bandwidth=1000 * 4104 / MIB, downtime=100))
        self.assertAlmostEqual(figures._model.possible_time, 3.896, delta=.01)
        self.assertAlmostEqual(figures._time_percent, 100 * 3.896 / 9.7,
                               delta=0.5)
        self.assertAlmostEqual(figures._writers_percent,
                               100 * figures.dirtied() / 500, delta=0.5)

    def test_percent_of_what_a_deadline_allows(self):
        # The same guest, with 9.7 s for it
        def figures(deadline):
            return Figures(report(
                [slowed, steady], COMPLETED, dirty_quota=True,
                dirty_quota_deadline=deadline,
                bandwidth=1000 * 4104 / MIB, downtime=100))

        there = figures(8)
        self.assertAlmostEqual(there._time_percent, 100 * 8 / 9.7, delta=0.5)
        self.assertAlmostEqual(
            there._writers_percent,
            100 * there.dirtied() / (1000 - 924 / (8 - 2.048)), delta=0.5)
        # Nothing is said of writers that are slowed in the first pass
        there = figures(3)
        self.assertAlmostEqual(there._time_percent, 100 * 3 / 9.7, delta=0.5)
        self.assertIsNone(there._writers_percent)

    def test_post_copy(self):
        history = COMPLETED[:3] + [progress(6, "postcopy-active", 3),
                                   COMPLETED[-1]]
        figures = Figures(report([slowed, steady], history,
                                 bandwidth=1000 * 4104 / MIB))
        self.assertAlmostEqual(figures._time_percent, 20.48, delta=0.1)
        self.assertIsNone(figures._ready)
        self.assertIsNone(figures._writers_percent)


class ModelTest(unittest.TestCase):
    # In numbers that can be worked out by hand
    MODEL = Model(link=1000, ram=4000, writers=(Writer(2000, 5000),),
                  downtime=0.2)

    def test_floor(self):
        self.assertEqual(self.MODEL.first_pass, 4)

    def test_backlog(self):
        self.assertEqual(self.MODEL.backlog, 1800)
        # A slow writer has not been over its set when the first pass ends
        slow = Model(1000, 4000, (Writer(2000, 100),), 0.2)
        self.assertEqual(slow.backlog, 200)

    def test_time(self):
        # Standing still; half the link; more than the link
        self.assertAlmostEqual(self.MODEL.time(0), 5.8)
        self.assertAlmostEqual(self.MODEL.time(500), 7.6)
        self.assertEqual(self.MODEL.time(1000), math.inf)

    def test_is_what_the_iterations_come_to(self):
        """Ever smaller iterations, each leaving half of what it had"""
        left, time = 2000.0, self.MODEL.first_pass
        while left > 200:
            step = min(left / 1000, (left - 200) / 500, 0.001)
            left -= 500 * step
            time += step
        self.assertAlmostEqual(time, self.MODEL.possible_time, delta=0.01)

    def test_possible(self):
        self.assertEqual(self.MODEL.possible_kept, 500)
        self.assertAlmostEqual(self.MODEL.possible_time, 7.6)

    def test_nearly_all_of_memory(self):
        """Throttled from the beginning, half of what is dirtied is free"""
        model = Model(1000, 4000, (Writer(3600, 50000),), 0.25)
        self.assertAlmostEqual(model.possible_time, 3750 / 750)
        # Less than that is better off after the first pass
        model = Model(1000, 4000, (Writer(2300, 50000),), 0.25)
        self.assertAlmostEqual(model.possible_time, 4 + 2050 / 500)

    def with_deadline(self, deadline, rate=5000):
        model = Model(1000, 4000, (Writer(2000, rate),), 0.2, deadline)
        return model.possible_kept, model.possible_time

    def test_deadline(self):
        # As much for the writer as lets 1800 pages be sent by then
        for deadline, wanted in ((13, (800, 13)), (7.6, (500, 7.6))):
            for value, there in zip(wanted, self.with_deadline(deadline)):
                self.assertAlmostEqual(there, value)
        # More than it wants
        kept, time = self.with_deadline(13, 600)
        self.assertEqual(kept, 600)
        self.assertAlmostEqual(time, 4 + 1800 / 400)

    def test_deadline_within_reach_if_throttled_at_once(self):
        # No less than a twentieth, with which it takes 5.9 s
        for value, there in zip((50, 5), self.with_deadline(5)):
            self.assertAlmostEqual(there, value)
        for deadline, tight in ((5.8, True), (5.9, False), (0, False)):
            self.assertEqual(Model(1000, 4000, (Writer(2000, 5000),), 0.2,
                                   deadline).tight, tight)

    def test_deadline_that_cannot_be_met(self):
        for deadline in (3, 1):
            kept, time = self.with_deadline(deadline)
            self.assertAlmostEqual(kept, 50)
            self.assertAlmostEqual(time, 4)
        # Nearly all of memory, of which half of what is dirtied is free
        model = Model(1000, 4000, (Writer(3600, 50000),), 0, 1)
        self.assertAlmostEqual(model.possible_time, 4000 / 975)

    def test_slow_writer_is_not_slowed(self):
        slow = Model(1000, 4000, (Writer(2000, 300),), 0.2)
        self.assertEqual(slow.possible_kept, 300)
        self.assertAlmostEqual(slow.possible_time, 4 + 1000 / 700)

    def test_nothing_to_do(self):
        for model in (Model(1000, 4000, (), 0.2),
                      Model(1000, 4000, (Writer(100, 5000),), 0.2)):
            self.assertEqual(model.possible_time, 4)
            self.assertEqual(model.possible_kept, model.demand)

    def test_from_a_scenario(self):
        model = model_of(Scenario("test", bandwidth=100, downtime=300),
                         ["writer,rate=50000,mb=200", "reader,mb=200",
                          "idle", "hot"], [50000, 9e6, 0, 1000])
        self.assertAlmostEqual(model.link, 100 * MIB / 4104)
        self.assertEqual(model.ram, 400 * 256 + 256)
        self.assertEqual(model.writers, (Writer(200 * 256, 50000),
                                         Writer(256, 1000)))
        self.assertEqual((model.downtime, model.deadline), (0.3, 0))
        model = model_of(Scenario("test", dirty_quota=True,
                                  dirty_quota_deadline=9), [], [])
        self.assertEqual(model.deadline, 9)

    def test_writers_keep_their_index(self):
        found = writers_of(["reader,mb=1", "writer,mb=1"], [5, 7])
        self.assertEqual(found, [(1, Writer(256, 7))])

    def test_pages(self):
        self.assertEqual([pages_of(Role.parse(word)) for word in
                          ("writer,mb=2", "hot,pages=7", "hot", "idle")],
                         [512, 7, 256, 0])


if __name__ == "__main__":
    unittest.main()
