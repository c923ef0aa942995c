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
from guestperf.forecast import VcpuForecast
from guestperf.series import Series
from guestperf.shell import PlotShell
from guestperf.test_figures import (
    COMPLETED, foretold, progress, report, slowed, steady, told)
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


def with_forecasts(name, *forecasts, before=None):
    """
    A run of which something else was told each second while it went on

    @before: RunForecast, None for none
    """
    there = named(name, [progress(0.1)] + [
        throttled(1 + i, "first-pass", 80, forecast=forecast)
        for i, forecast in enumerate(forecasts)] + [COMPLETED[-1]])
    there._forecast = before
    return there


NEVER_ENDED = COMPLETED[:-1] + [progress(12, "cancelled", 0, 0, 0)]


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
        lines = summary.rows([named("try-one"),
                              named("try-two", NEVER_ENDED)])
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

    def test_forecast(self):
        lines = summary.rows([
            named("a-none", forecast=foretold()),
            named("a-all", NEVER_ENDED, forecast=foretold()),
            named("a-long", NEVER_ENDED, forecast=foretold(8000, 7200)),
            named("a-quota", forecast=foretold(8000, 7200, 8800)),
            named("a-old")])
        self.assertEqual({len(line) for line in lines}, {len(lines[0])})
        self.assertEqual(
            [line[1:4] for line in lines],
            [["total s", "forecast s", "error %"],
             ["10.0", "never", "wrong"],
             ["never", "never", "right"],
             ["never", "8.00 [7.20 .. never]", "wrong"],
             ["10.0", "8.00 [7.20 .. 8.80]", "-20.0"],
             ["10.0", "-", "-"]])

    def test_no_forecast(self):
        self.assertNotIn("forecast s", summary.rows([named("one")])[0])

    def test_forecast_in_words(self):
        for wanted, there in (
                ("Forecast with dirty-quota: ends after 8.00 [7.20 .. 8.80] "
                 "s, downtime 270 ms, vCPUs slowed for 3.42 s. It ended "
                 "after 10.00 s, downtime 300 ms.",
                 named("one", forecast=foretold(8000, 7200, 8800))),
                ("Forecast with dirty-quota-deadline: ends after 8.00 "
                 "[7.20 .. 8.80] s, downtime 270 ms, vCPUs slowed for "
                 "3.42 s, deadline missed. It did not end.",
                 named("one", NEVER_ENDED, forecast=foretold(
                     8000, 7200, 8800, strategy="dirty-quota-deadline",
                     missed=True))),
                ("Forecast with none: never ends. It did not end.",
                 named("one", NEVER_ENDED,
                       forecast=foretold(strategy="none"))),
                ("Forecast with none: never ends, or after 9.10 s. It did "
                 "not end.",
                 named("one", NEVER_ENDED,
                       forecast=foretold(None, 9100, strategy="none")))):
            self.assertEqual(summary.forecast_text(there), wanted)

    def test_what_vcpus_were_to_keep(self):
        def rows(*slowed_vcpus):
            return summary.forecast_rows(
                named("one", record=RECORD,
                      forecast=foretold(8000, slowed=slowed_vcpus)),
                ["0 writer", "1 reader"])[1:]

        (_, _, kept), reader = rows(VcpuForecast(25.6, 0))
        # From 0.35 s to 9.7 s
        self.assertAlmostEqual(float(kept), 51, delta=1)
        self.assertEqual(reader[:2], ["1 reader", "-"])
        self.assertAlmostEqual(float(reader[2]), 100, delta=1)
        self.assertEqual(rows(VcpuForecast(25.6, 0))[0][:2],
                         ["0 writer", "25.6"])
        self.assertEqual(rows(VcpuForecast(50.5))[2],
                         ["all together", "50.5", "-"])

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

    def test_forecasts(self):
        first, last = foretold(8000), foretold(9000)
        times, told_then = Series(with_forecasts(
            "one", first, None, last)).forecasts()
        self.assertEqual([round(time) for time in times], [1, 3])
        self.assertEqual(told_then, [first, last])
        self.assertEqual(Series(named("one")).forecasts(), ([], []))

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

    @staticmethod
    def forecasts(there):
        """The lines of the chart that only a forecast has"""
        return {trace.name: trace
                for trace in charts.timeline(Series(there)).data
                if trace.yaxis == "y5"}

    def test_forecasts(self):
        lines = self.forecasts(with_forecasts(
            "one", foretold(8000, 7000, 9000), foretold(9500, 9000),
            before=foretold(8800)))
        for name, wanted in (("forecast", (8, 9.5)), ("least", (7, 9)),
                             ("most", (9, None)),
                             ("forecast before it began", (8.8, 8.8)),
                             ("what it took", (10, 10))):
            self.assertEqual(lines[name].y, wanted, name)
        self.assertEqual(lines["forecast"].x, (1, 2))
        self.assertNotIn("forecast never to end", lines)

    def test_never_in_a_chart(self):
        there = with_forecasts("one", foretold(), foretold(9000),
                               before=foretold())
        there._progress_history[-1] = progress(12, "cancelled", 0, 0, 0)
        lines = self.forecasts(there)
        self.assertEqual(set(lines), {"forecast", "least", "most",
                                      "forecast never to end"})
        self.assertEqual(lines["forecast"].y, (None, 9))
        self.assertEqual(lines["forecast never to end"].x, (1,))

    def test_no_forecast_no_chart(self):
        self.assertEqual([len(charts.timeline(Series(there)).layout.annotations)
                          for there in (named("one", THROTTLED),
                                        with_forecasts("two", foretold()))],
                         [4, 5])

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

    def test_forecast(self):
        there = with_forecasts("one", foretold(9000), before=foretold(
            8000, 7200, 8800, slowed=[VcpuForecast(25.6, 0)]))
        text = page.comparison([there, named("two")])
        self.assertEqual(text.count('class="forecast"'), 1)
        for words in ('data-head="forecast s"><span>8.00 [7.20 .. 8.80]<',
                      'data-head="error %"><span>-20.0<',
                      "Forecast with dirty-quota: ends after",
                      'data-head="forecast to keep %"><span>25.6<',
                      "Forecast of the whole time"):
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
        for bad in ("never", "wrong", "never [9.10 .. never]",
                    "one, MEMORY DAMAGED"):
            self.assertIn('class="bad">%s<' % bad,
                          page.table([["a"], [bad]]))
        for good in "right", "8.00 [7.20 .. never]", "nevertheless":
            self.assertNotIn("bad", page.table([["a"], [good]]))


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

    def test_before_there_were_deadlines_records_and_forecasts(self):
        data = named("old").serialize()
        for name in "record", "forecast":
            del data[name]
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
