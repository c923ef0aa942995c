#
# Migration test figures of one run
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""
From a report to the figures that tell one strategy from another. Pure
functions of the report. Without the stress guest's counters there are none of
the vCPUs and of the model.
"""

import math

from guestperf.model import model_of, writers_of

from stressvm import measure

SECOND = 1.0


def seconds_or_never(milliseconds):
    """A forecast's time; infinite for never"""
    return math.inf if milliseconds is None else milliseconds / 1000


class VcpuFigures(object):

    def __init__(self, role, before, kept, worst, lost, stall, slowed):

        self._role = role
        self._before = before # pages per second before the migration
        self._kept = kept # percentage of that, during the migration
        self._worst = worst # the same for the worst second
        self._lost = lost # work that it did not get done, seconds
        self._stall = stall # the longest time it stood still, milliseconds
        # percentage of before while vCPUs were slowed, None if none was
        self._slowed = slowed


class Figures(object):

    def __init__(self, report):

        self._report = report
        history = report._progress_history
        self._completed = history[-1]._status == "completed"
        self._post_copy = any(progress._status == "postcopy-active"
                              for progress in history)
        self._begin = history[0]._now - history[0]._duration / 1000
        if self._completed:
            # The source says this exactly, our looking is 50 ms late
            self._end = self._begin + history[-1]._duration / 1000
        else:
            self._end = history[-1]._now
        self._total = (self._end - self._begin if self._completed
                       else math.inf)
        self._downtime = history[-1]._downtime if self._completed else None
        # When the guest was ready to be switched over, None with post-copy,
        # for which that is earlier, and nobody says when
        self._ready = None
        if not self._post_copy:
            self._ready = self._total - (self._downtime or 0) / 1000
        self._deadline = report._scenario.deadline() or None
        # Whether that was ever said to be missed, and the earliest time that
        # was told with it first, None for none
        told = [progress._throttle for progress in history
                if progress._throttle is not None and
                progress._throttle._deadline_missed]
        self._missed = bool(told)
        self._earliest = next(
            (throttle._earliest_time / 1000 for throttle in told
             if throttle._earliest_time is not None), None)
        # Seconds that were forecast before it began, None if nothing was
        self._forecast = None
        if report._forecast is not None:
            self._forecast = seconds_or_never(report._forecast._total_time)
        self._sent = max(progress._ram._transferred_bytes
                         for progress in history)
        self._iterations = max(progress._ram._iterations
                               for progress in history)

        self._vcpus = []
        self._stall = None
        self._errors = None # What was damaged, None if nobody looked
        self._model = None
        self._time_percent = None
        self._writers_percent = None
        if report._counters is not None:
            self._count(report._counters)

    def _count(self, counters):
        self._vcpus = [self._vcpu(i) for i in range(len(counters._roles))]
        self._stall = max(
            (vcpu._stall for vcpu in self._vcpus if vcpu._stall is not None),
            default=None)
        if counters._errors is not None:
            self._errors = [text for text in counters._errors if text]

        rates = [vcpu._before for vcpu in self._vcpus]
        self._model = model_of(self._report._scenario, counters._roles, rates)
        self._writers = writers_of(counters._roles, rates)
        self._time_percent, self._writers_percent = self._compare()

    def _samples(self, begin, end):
        return measure.between(self._report._counters._samples, begin, end)

    def _vcpu(self, i):
        counters = self._report._counters
        role = counters._roles[i].split(",")[0]
        before = measure.rate(self._samples(0, self._begin), i)
        stall = counters._gaps and counters._gaps[i]
        if not before:
            return VcpuFigures(role, before, None, None, None, None, None)
        if stall is not None and self._downtime is not None:
            # A guest whose clock stands still meanwhile cannot see it
            stall = max(stall, self._downtime)
        during = self._samples(self._begin, self._end)
        kept = measure.rate(during, i)
        # So that a window may hold the whole downtime
        worst = measure.lowest(
            self._samples(self._begin, self._end + SECOND), i, SECOND)
        lost = None
        if kept is not None:
            lost = (1 - kept / before) * (self._end - self._begin)
        slowed = None
        throttled = self._throttled()
        if throttled is not None:
            slowed = measure.rate(self._samples(
                throttled, self._end - (self._downtime or 0) / 1000), i)
        return VcpuFigures(role, before, measure.share(kept, before),
                           measure.share(worst, before), lost, stall,
                           measure.share(slowed, before))

    def _throttled(self):
        """When vCPUs were first slowed, by the host's clock, None for never"""
        record = self._report._record
        if record is not None and record._throttled_after is not None:
            return self._begin + record._throttled_after / 1000
        return next((progress._now
                     for progress in self._report._progress_history
                     if progress._throttle_pcent), None)

    def forecast_error(self):
        """
        How much longer than it took it was forecast to take, in %

        None without a forecast, or if one of the two is never.
        """
        if self._forecast is None or math.inf in (self._forecast,
                                                  self._total):
            return None
        return 100 * (self._forecast / self._total - 1)

    def is_forecast_right(self):
        """
        Whether a migration that did not end was forecast not to, or one that
        did, to do so; None without a forecast
        """
        if self._forecast is None:
            return None
        if self._completed:
            return self._forecast != math.inf
        # Nobody waited for longer
        return self._forecast > self._end - self._begin

    def iterations(self):
        """(begin, end) of each iteration over RAM, by the host's clock"""
        begins = []
        last = 0
        for progress in self._report._progress_history:
            if progress._ram._iterations > last and progress._now < self._end:
                last = progress._ram._iterations
                begins.append(progress._now)
        return list(zip(begins, begins[1:] + [self._end]))

    def dirtied(self):
        """
        Pages that the writers dirtied per second after the first pass

        A page that is written several times in one iteration is sent once, so
        it counts once. A writer walks its pages in order, so in one iteration
        it dirties as many as it writes until it has been over all of them.
        """
        iterations = self.iterations()[1:]
        if not iterations:
            return None
        pages = 0
        for begin, end in iterations:
            samples = self._samples(begin, end)
            for index, writer in self._writers:
                rate = measure.rate(samples, index)
                if rate is not None:
                    pages += min(rate * (end - begin), writer.pages)
        begin = iterations[0][0]
        if self._end <= begin:
            return None
        return pages / (self._end - begin)

    def _compare(self):
        """How near the run came to what the model says is possible"""
        if not self._completed:
            return 0, None
        if self._post_copy:
            # Writers are not slowed by the link but by what is missing, of
            # which the model knows nothing
            return measure.share(self._model.first_pass, self._total), None
        # An emulated link does not slow down what is sent while the guest
        # stands still, so only what is before that can be compared
        time = measure.share(self._model.possible_time, self._ready)
        if self._model.tight:
            # Writers are slowed in the first pass, and what is after it says
            # little of what they keep
            return time, None
        return time, measure.share(self.dirtied(), self._model.possible_kept)
