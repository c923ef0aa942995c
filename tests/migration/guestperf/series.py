#
# Migration test series: from a report to what is drawn
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""
Pure functions of a report. Times are in seconds since the migration began, and
a series is a pair of lists, times and values.
"""

from guestperf.figures import Figures

from stressvm.measure import MIB, mb
from stressvm.timeline import ENDED

# As fine as people can see, and not more than a page can hold
BIN_SECONDS = 0.1

# How much of what was before and after the migration is drawn
BEFORE_SECONDS = 2
AFTER_SECONDS = 3


def counters_series(report, begin, end):
    """What each vCPU did per second, in % of before, for the stress guest"""
    found = []
    samples = [sample for sample in report._counters._samples
               if begin - BEFORE_SECONDS <= sample.time <=
               end + AFTER_SECONDS]
    for vcpu in range(len(report._counters._roles)):
        times, rates, last = [], [], None
        for sample in samples:
            if last is None:
                last = sample
            elif sample.time >= last.time + BIN_SECONDS:
                times.append(sample.time - begin)
                rates.append((sample.ops[vcpu] - last.ops[vcpu]) /
                             (sample.time - last.time))
                last = sample
        found.append((times, rates))
    return found


def timings_series(report, begin):
    """The same for the Linux guest, which tells how long a GiB takes"""
    found = {}
    for record in report._guest_timings._records:
        times, rates = found.setdefault(record._tid, ([], []))
        times.append(record._timestamp - begin)
        rates.append(1000 / max(record._value, 1))
    return list(found.values())


def in_percent_of_before(times, rates):
    before = [rate for time, rate in zip(times, rates) if time < 0]
    usual = sum(before) / len(before) if before else max(rates, default=0)
    if not usual:
        return times, [None] * len(rates)
    return times, [100 * rate / usual for rate in rates]


class Series(object):

    def __init__(self, report):

        self._report = report
        self._figures = Figures(report)
        self._begin = self._figures._begin
        self._end = self._figures._end - self._begin

    def end(self):
        return self._end

    def vcpu_names(self):
        if self._report._counters is None:
            return ["guest %d" % i for i in
                    range(len(timings_series(self._report, 0)))]
        return ["%d %s" % (i, vcpu._role)
                for i, vcpu in enumerate(self._figures._vcpus)]

    def throughput(self):
        """What each vCPU gets done, in % of before the migration"""
        if self._report._counters is None:
            found = timings_series(self._report, self._begin)
        else:
            found = counters_series(self._report, self._begin,
                                    self._figures._end)
        return [in_percent_of_before(*series) for series in found]

    def _progress(self, value):
        """What there is of a value that progress records tell over time"""
        points = [(progress._now - self._begin, value(progress))
                  for progress in self._report._progress_history]
        points = [point for point in points if point[1] is not None]
        return [time for time, _ in points], [value for _, value in points]

    def _throttle(self, value):
        return self._progress(
            lambda progress: progress._throttle and value(progress._throttle))

    def dirty_rate(self):
        """What is dirtied, in MiB/s, by QEMU's own count"""
        return self._progress(
            lambda progress: mb(progress._ram._dirty_rate_pps)
            if progress._status == "active" else None)

    def vcpu_dirty_rates(self):
        """The same for each vCPU, where the dirty throttle counts"""
        return self._vcpu_series(lambda vcpu: vcpu._rate)

    def bandwidth(self):
        return self._throttle(lambda throttle: throttle._bandwidth)

    def budget(self):
        return self._throttle(lambda throttle: throttle._budget)

    def penalties(self):
        """The part of its time, in %, that each vCPU slept for penalties"""
        return self._vcpu_series(lambda vcpu: vcpu._throttled)

    def cpu_throttle(self):
        """The same for all vCPUs together, by auto-converge"""
        return self._progress(lambda progress: progress._throttle_pcent)

    def remaining(self):
        """MiB"""
        return self._progress(
            lambda progress: progress._ram._remaining_bytes / MIB
            if progress._ram._total_bytes else None)

    def forecasts(self):
        """RunForecast at each time while it ran"""
        return self._throttle(lambda throttle: throttle._forecast)

    def forecast_before(self):
        """Seconds, infinite for never; None if there was none"""
        return self._figures._forecast

    def total(self):
        """Seconds, infinite for never"""
        return self._figures._total

    def _vcpu_series(self, value):
        indices = sorted({
            vcpu._index for progress in self._report._progress_history
            if progress._throttle is not None
            for vcpu in progress._throttle._vcpus})

        def of(index):
            def find(throttle):
                return next((value(vcpu) for vcpu in throttle._vcpus
                             if vcpu._index == index), None)
            return find

        return [(index, self._throttle(of(index))) for index in indices]

    @staticmethod
    def _phase(progress):
        if progress._status == "postcopy-active":
            return "post-copy"
        if progress._status != "active":
            return progress._status
        throttle = progress._throttle
        if throttle is not None:
            if throttle._fallback:
                return "fallback"
            return throttle._phase.replace("-", " ")
        if progress._ram._iterations <= 1:
            return "first pass"
        if progress._throttle_pcent:
            return "auto-converge"
        return "iterating"

    def first_pass_end(self):
        """None if the migration had no other"""
        iterations = self._figures.iterations()
        if len(iterations) < 2:
            return None
        return iterations[0][1] - self._begin

    def deadline(self):
        """None for none"""
        return self._figures._deadline

    def phases(self):
        """(begin, end, name) of each, the downtime the last of them"""
        switch = self._end
        if self._figures._downtime:
            switch -= self._figures._downtime / 1000
        changes = []
        for progress in self._report._progress_history:
            phase = self._phase(progress)
            if not changes:
                changes.append((0.0, phase))
            elif changes[-1][1] != phase:
                changes.append((progress._now - self._begin, phase))
        found = []
        for (begin, name), (end, _) in zip(
                changes, changes[1:] + [(switch, None)]):
            end = min(end, switch)
            if end > begin and name not in ENDED:
                found.append((begin, end, name))
        if switch < self._end:
            found.append((switch, self._end, "downtime"))
        return found
