#
# Migration test reports: what people get to read
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import contextlib
import io
import json
import os
import re
import tempfile
import unittest

from guestperf import summary
from guestperf.series import Series
from guestperf.shell import PlotShell
from guestperf.test_figures import (
    COMPLETED, progress, report, slowed, steady, told)
from guestperf.throttle import (
    Throttle, ThrottleChange, ThrottleRecord, VcpuRecord, VcpuThrottle)

try:
    from guestperf import charts, page
except ImportError:
    page = None


def named(name, history=COMPLETED, label=None, **scenario):
    there = report([slowed, steady], history, **scenario)
    there._scenario._name = name
    there._label = label
    return there


def throttled(after, phase, rate, **kwargs):
    there = progress(after, iterations=2)
    there._throttle = Throttle("quota", phase, 100, 50, 0, [
        VcpuThrottle(0, rate, quota=25, throttled=rate / 2),
        VcpuThrottle(1, 1)], **kwargs)
    return there


THROTTLED = [progress(0.1), throttled(2, "first-pass", 80),
             throttled(4, "throttling", 40),
             throttled(8, "cannot-help", 20, fallback=True),
             COMPLETED[-1]]


RECORD = ThrottleRecord("quota", [
    ThrottleChange(0, "first-pass"),
    ThrottleChange(352, "throttling", deadline_missed=True),
    ThrottleChange(4101, "cannot-help", "ceiling", True)],
    [VcpuRecord(0, 4254, 323, 32, 3.25), VcpuRecord(1, 0, 0, 0),
     VcpuRecord(2, 10, 1, 10, 1.5)], "dirty-ring", 352)


def with_deadline(name, deadline, history=COMPLETED):
    return named(name, history, dirty_quota=True,
                 dirty_quota_deadline=deadline)


class SummaryTest(unittest.TestCase):
    def test_groups(self):
        reports = [named("b-none", bandwidth=100),
                   named("a-none", bandwidth=50),
                   named("a-quota", bandwidth=50)]
        groups = summary.group(reports)
        self.assertEqual([len(of._reports) for of in groups], [2, 1])
        self.assertIn("50 MiB/s", groups[0]._title)

    def test_names(self):
        for wanted, reports in (
                (["none", "limit", "quota"],
                 [named("link-50-none"), named("link-50-limit"),
                  named("link-50-quota")]),
                (["none", "auto-converge"],
                 [named("short-none"), named("short-auto-converge")]),
                (["one"], [named("one")]),
                (["one", "one (old)"], [named("one"),
                                        named("one", label="old")])):
            self.assertEqual(summary.names(reports), wanted)

    def test_rows(self):
        lines = summary.rows([named("try-one"), named(
            "try-two", COMPLETED[:-1] + [progress(12, "cancelled", 0, 0, 0)])])
        self.assertEqual({len(line) for line in lines}, {len(lines[0])})
        cells = dict(zip(lines[0], lines[1]))
        self.assertEqual((cells["strategy"], cells["total s"],
                          cells["downtime ms"], cells["sent MiB"],
                          cells["stall ms"], cells["0 writer lost s"]),
                         ("one", "10.0", "300", "40", "300", "4.60"))
        cells = dict(zip(lines[0], lines[2]))
        self.assertEqual((cells["total s"], cells["downtime ms"]),
                         ("never", "-"))

    def test_deadline(self):
        missed = [told(1, True, 9500), COMPLETED[-1]]
        unknown = [told(1, True), COMPLETED[-1]]
        lines = summary.rows([
            named("a-none"), with_deadline("a-10", 10),
            with_deadline("a-5", 5, missed), with_deadline("a-6", 6, unknown)])
        self.assertEqual({len(line) for line in lines}, {len(lines[0])})
        column = lines[0].index("deadline s")
        self.assertEqual(
            [line[column:column + 3] for line in lines],
            [["deadline s", "ready s", "told s"], ["-", "9.70", "-"],
             ["10", "9.70", "-"], ["5", "9.70", "9.50"],
             ["6", "9.70", "nobody knows"]])

    def test_no_deadline(self):
        self.assertNotIn("deadline s", summary.rows([named("one")])[0])

    def test_record(self):
        self.assertEqual(
            summary.record_rows(RECORD, ["0 writer", "1 reader"])[1:],
            [["0 writer", "323", "4.25", "32", "3.25"],
             ["1 reader", "0", "0.00", "0", "-"],
             ["2", "1", "0.01", "10", "1.50"]])
        self.assertEqual(
            summary.record_text(RECORD),
            "Quota by dirty-ring, throttled after 0.35 s; "
            "after 0.00 s first pass; "
            "after 0.35 s throttling (deadline will be missed); "
            "after 4.10 s cannot help (ceiling, auto-converge).")
        self.assertEqual(
            summary.record_text(ThrottleRecord("limit", [], [])),
            "Limit by nothing, never throttled.")

    def test_damaged_memory_shows(self):
        damaged = named("one")
        damaged._counters._errors = [None, "one bad page"]
        self.assertIn("DAMAGED", summary.text([damaged]))
        self.assertNotIn("DAMAGED", summary.text([named("one")]))

    def test_linux_guest(self):
        linux = named("one")
        linux._counters = None
        self.assertIn("10.0", summary.text([linux]))


class SeriesTest(unittest.TestCase):
    def test_throughput(self):
        series = Series(named("one"))
        self.assertEqual(series.vcpu_names(), ["0 writer", "1 reader"])
        times, values = series.throughput()[0]
        for after, percent in ((-1, 100), (3, 100), (6, 10), (8.5, 0),
                               (11, 100)):
            _, value = min(zip(times, values),
                           key=lambda point: abs(point[0] - after))
            self.assertAlmostEqual(value, percent, delta=2, msg=after)

    def test_phases(self):
        self.assertEqual(
            [(round(begin, 1), round(end, 1), name)
             for begin, end, name in Series(
                 named("one", THROTTLED)).phases()],
            [(0, 4, "first pass"), (4, 8, "throttling"),
             (8, 9.7, "fallback"), (9.7, 10, "downtime")])

    def test_end_of_the_first_pass(self):
        self.assertAlmostEqual(Series(named("one")).first_pass_end(), 4)
        self.assertIsNone(Series(named(
            "one", [progress(0.1), COMPLETED[-1]])).first_pass_end())

    def test_deadline(self):
        self.assertEqual(Series(with_deadline("one", 9)).deadline(), 9)
        self.assertIsNone(Series(named("one")).deadline())

    def test_throttle(self):
        series = Series(named("one", THROTTLED))
        self.assertEqual([round(time) for time in series.budget()[0]],
                         [2, 4, 8])
        self.assertEqual(series.budget()[1], [50, 50, 50])
        self.assertEqual(series.bandwidth()[1], [100, 100, 100])
        self.assertEqual([(index, points[1]) for index, points in
                          series.vcpu_dirty_rates()],
                         [(0, [80, 40, 20]), (1, [1, 1, 1])])
        self.assertEqual(series.penalties()[0][1][1], [40, 20, 10])

    def test_without_throttle(self):
        series = Series(named("one"))
        self.assertEqual(series.vcpu_dirty_rates(), [])
        self.assertEqual(series.budget(), ([], []))
        self.assertEqual([name for _, _, name in series.phases()],
                         ["setup", "first pass", "iterating", "downtime"])


@unittest.skipIf(page is None, "no python3-plotly")
class ChartsTest(unittest.TestCase):
    @staticmethod
    def lines(reports):
        """Where lines go across the charts, and how many charts"""
        found = {}
        for shape in charts.timeline(Series(reports)).layout.shapes:
            if shape.type == "line" and shape.x0 == shape.x1:
                x = round(shape.x0, 2)
                found[x] = found.get(x, 0) + 1
        return found

    def test_moments(self):
        self.assertEqual(self.lines(with_deadline("one", 9)), {4: 4, 9: 4})
        self.assertEqual(self.lines(named("one")), {4: 4})
        self.assertEqual(
            self.lines(named("one", [progress(0.1), COMPLETED[-1]])), {})

    def test_moments_are_named(self):
        names = [trace.name for trace in charts.timeline(
            Series(with_deadline("one", 9))).data]
        self.assertIn("end of the first pass", names)
        self.assertIn("deadline", names)

    def test_far_deadline_leaves_the_migration_its_room(self):
        self.assertIn(20, self.lines(with_deadline("one", 20)))
        self.assertNotIn(21, self.lines(with_deadline("one", 21)))

    def test_together(self):
        def figure(*reports):
            return charts.together([(report._scenario._name, Series(report))
                                    for report in reports])

        both = figure(named("one"), with_deadline("two", 9))
        lines = {trace.name: trace for trace in both.data
                 if trace.x and len(set(trace.x)) == 1}
        self.assertEqual(list(lines), ["two, deadline"])
        self.assertEqual(lines["two, deadline"].x, (9, 9))
        self.assertEqual(lines["two, deadline"].legendgroup, "two")
        self.assertIn("deadline", both.layout.annotations[-1].text)
        self.assertNotIn("deadline", figure(
            named("one")).layout.annotations[-1].text)


@unittest.skipIf(page is None, "no python3-plotly")
class PageTest(unittest.TestCase):
    def test_comparison(self):
        text = page.comparison([named("try-one"),
                                named("try-two", THROTTLED)])
        self.assertIn(">one<", text)
        # Side by side, and each by itself
        self.assertEqual(text.count('class="plotly-graph-div"'), 3)
        for words in ("Throughput of each vCPU", "budget", "Penalty",
                      "still to be sent", "throttling"):
            self.assertIn(words, text)

    def test_record(self):
        there = named("one")
        there._record = RECORD
        text = page.comparison([there, named("two")])
        self.assertEqual(text.count('class="record"'), 1)
        for words in (">4.25<", "after 4.10 s cannot help",
                      'data-head="vCPU"><span>0 writer<'):
            self.assertIn(words, text)

    def test_needs_nothing_from_elsewhere(self):
        text = page.comparison([named("one")])
        self.assertIsNone(re.search(
            r"<(script|link|img)[^>]*\s(src|href)=", text))
        self.assertNotIn("@import", text)

    def test_names_are_no_markup(self):
        text = page.comparison([named("<b>one</b>")])
        self.assertNotIn("<b>one", text)

    def test_damage_and_never_stand_out(self):
        self.assertIn('class="bad">never<',
                      page.table([["a"], ["never"]]))


@unittest.skipIf(page is None, "no python3-plotly")
class PlotShellTest(unittest.TestCase):
    def setUp(self):
        self.directory = self.enterContext(tempfile.TemporaryDirectory())
        os.mkdir(os.path.join(self.directory, "deeper"))
        for name in ("one", os.path.join("deeper", "two")):
            with open(os.path.join(self.directory, name + ".json"),
                      "w") as fh:
                fh.write(named(name).to_json())

    def run_shell(self, *args):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            self.assertIn(PlotShell().run([*args, self.directory]),
                          (0, None))
        return out.getvalue()

    def test_directories(self):
        text = self.run_shell("--text")
        self.assertIn("| one", text)
        self.assertIn("two", text)

    def test_page_by_default(self):
        self.assertTrue(self.run_shell().startswith("<!DOCTYPE html>"))

    def test_numbers_in_their_order(self):
        for name in "a9", "a10":
            with open(os.path.join(self.directory, name + ".json"),
                      "w") as fh:
                fh.write(named(name).to_json())
        text = self.run_shell("--text")
        self.assertLess(text.index("a9"), text.index("a10"))

    def test_before_there_were_deadlines_and_records(self):
        data = named("old").serialize()
        del data["record"]
        del data["scenario"]["dirty_quota_deadline"]
        with open(os.path.join(self.directory, "one.json"), "w") as fh:
            json.dump(data, fh)
        self.assertIn("old", self.run_shell("--text"))
        self.assertIn("old", self.run_shell())

    def test_chart_types(self):
        name = os.path.join(self.directory, "page.html")
        there = named("one")
        there._guest_timings = there._counters.timings()
        there._qemu_timings = there._guest_timings
        with open(os.path.join(self.directory, "one.json"), "w") as fh:
            fh.write(there.to_json())
        os.remove(os.path.join(self.directory, "deeper", "two.json"))
        self.run_shell("--output", name, "--split-guest-cpu",
                       "--migration-iters")
        with open(name) as fh:
            text = fh.read()
        self.assertIn("Migration iterations", text)
        self.assertIn("Dirty ring size", text)
        self.assertIn("Dirty quota deadline", text)


if __name__ == "__main__":
    unittest.main()
