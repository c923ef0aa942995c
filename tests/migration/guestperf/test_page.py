#
# Migration test reports: what people get to read
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import contextlib
import io
import os
import re
import tempfile
import unittest

from guestperf import summary
from guestperf.series import Series
from guestperf.shell import PlotShell
from guestperf.test_figures import COMPLETED, progress, report, slowed, steady
from guestperf.throttle import Throttle, VcpuThrottle

try:
    from guestperf import page
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


if __name__ == "__main__":
    unittest.main()
