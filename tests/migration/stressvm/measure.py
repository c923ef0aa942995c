#
# VMs with the stress guest: from a timeline to figures
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""
Pure functions, so that they can be tested without a VM.

Samples are in the order of their times. Rates are operations per second by the
host's clock, so a vCPU that stands still shows as one.
"""

import bisect
import statistics

from dataclasses import dataclass
from operator import attrgetter
from typing import Iterator, Sequence

from stressvm.stressguest import PAGE_SIZE
from stressvm.timeline import Poll, Sample

MIB = 1024 * 1024

_by_time = attrgetter("time")


def between(samples: Sequence[Sample], start: float,
            end: float) -> Sequence[Sample]:
    """The samples taken from @start to @end, both included"""
    first = bisect.bisect_left(samples, start, key=_by_time)
    last = bisect.bisect_right(samples, end, key=_by_time)
    return samples[first:last]


def rate(samples: Sequence[Sample], vcpu: int) -> float | None:
    """Operations per second over all samples; None if they span no time"""
    if len(samples) < 2 or samples[-1].time <= samples[0].time:
        return None
    return ((samples[-1].ops[vcpu] - samples[0].ops[vcpu]) /
            (samples[-1].time - samples[0].time))


def windows(samples: Sequence[Sample], vcpu: int,
            width: float) -> Iterator[tuple[float, float]]:
    """
    (start, rate) of every window that begins and ends with a sample and is at
    least @width long
    """
    last = 0
    for first, sample in enumerate(samples):
        while (last < len(samples) and
               samples[last].time < sample.time + width):
            last += 1
        if last == len(samples):
            return
        yield sample.time, rate((sample, samples[last]), vcpu)


def lowest(samples: Sequence[Sample], vcpu: int, width: float) -> float | None:
    return min((r for _, r in windows(samples, vcpu, width)), default=None)


def highest(samples: Sequence[Sample], vcpu: int,
            width: float) -> float | None:
    return max((r for _, r in windows(samples, vcpu, width)), default=None)


def time_until(samples: Sequence[Sample], vcpu: int, wanted: float,
               width: float, since: float) -> float | None:
    """How long after @since the rate was first @wanted for a whole @width"""
    for start, found in windows(between(samples, since, float("inf")),
                                vcpu, width):
        if found >= wanted:
            return start - since
    return None


def last_operation(samples: Sequence[Sample]) -> float | None:
    """
    When the guest was last seen at work

    On the source of a migration that is when it switched over.
    """
    last = bisect.bisect_left(samples, sum(samples[-1].ops),
                              key=lambda sample: sum(sample.ops))
    return samples[last].time


def throttled_since(polls: Sequence[Poll]) -> float | None:
    """When QEMU first said that it slows vCPUs down"""
    return next((p.time for p in polls if p.throttles), None)


def share(part: float | None, whole: float | None) -> float | None:
    """@part in per cent of @whole"""
    if part is None or not whole:
        return None
    return 100 * part / whole


def per(whole: float, number: int) -> float | None:
    """How much each of @number has of @whole"""
    return whole / number if number else None


def mb(operations: float | None) -> float | None:
    """Operations, each of them on one page, in MiB"""
    if operations is None:
        return None
    return operations * PAGE_SIZE / MIB


@dataclass(frozen=True)
class Spread:
    """Median and range over runs; infinite stands for 'never'"""
    median: float
    low: float
    high: float


def spread(values: Sequence[float | None]) -> Spread | None:
    """None among the values was not measured, and does not count"""
    known = sorted(v for v in values if v is not None)
    if not known:
        return None
    # Not the mean of the middle two, which 'never' would swallow
    return Spread(statistics.median_low(known), known[0], known[-1])
