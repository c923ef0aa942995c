#
# Throttle simulator: a grid of deadlines against what is possible
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""
python3 -m throttlesim.deadlines PROGRAM

Migrates guests with sets of many sizes and rates over several links, each with
deadlines from such that nobody can meet to such that need hardly any
throttling.  Prints when each migration was over and what writers kept, beside
what is possible, and how many are as they should be.  The curve T(w) is that of
"What is possible" in docs/devel/dirty-throttle.rst.
"""

import argparse
import enum
import math
import statistics
import sys

from dataclasses import dataclass
from typing import Callable, Iterator, Sequence

from throttlesim import batch, search
from throttlesim.series import PAGES_PER_MIB

POLICY = "dirty-quota"

RAM_MIB = 432
SETS_MIB = (50, 100, 200, 400)

# Of the link
RATES = (0.5, 1.0, 3.0, 16.0)

# MB/s, and how many times as large the guest is: 432 MiB take half a second at
# 1000 MB/s, and a deadline is one second or more
LINKS = ((50, 1), (100, 1), (1000, 10))

DOWNTIME_S = 0.3

# What a page takes in the stream
PAGE_BYTES = 4096 + 8

# A vCPU whose writes are logged does up to 141000 of them in a second.
VCPU_PPS = 100000

# Of the first pass: what nobody can meet
TOO_SHORT = (0.6, 0.8)

# Of the link: what writers are left with, by the curve, with most deadlines,
# which are in whole seconds; and how many times what the last of them takes is
# the longest
PARTS = (0.05, 0.1, 0.25, 0.5)
LONGEST = 1.5

# The goal, for the end, for what writers keep, and for the end that is told if
# a deadline cannot be met, so many seconds after the first pass at the latest
LATE_PART = 0.05
KEPT_PART = 0.1
TOLD_PART = 0.1
TOLD_S = 2

# The engine aims at 150 ms before the deadline, and the sender looks in windows
# of 100 ms.  With so much time after the first pass that makes w differ by less
# than the goal for what writers keep, if they keep half of the link.
LONG_S = 3

SHOWN = 5


class Kind(enum.Enum):
    """How much time there is, for who leaves the first pass alone"""
    TOO_SHORT = "the first pass takes longer"
    FIRST_PASS = "too short even if writers stand still after the first pass"
    CEILING = "too short for what vCPUs dirty that sleep as long as they may"
    CURVE = "the curve leaves writers more than that"


@dataclass(frozen=True)
class Guest:
    """What T(w) depends on; a set is of so many MiB, a rate is of the link"""
    set_mib: float
    rate: float
    link_mb: float
    times: int

    @property
    def link_pps(self) -> float:
        return self.link_mb * 1e6 / PAGE_BYTES

    @property
    def first_pass_s(self) -> float:
        return RAM_MIB * self.times * PAGES_PER_MIB / self.link_pps

    @property
    def backlog_s(self) -> float:
        """How long the link needs for what the first pass leaves too much"""
        set_s = self.set_mib * self.times * PAGES_PER_MIB / self.link_pps
        return min(set_s, self.rate * self.first_pass_s) - DOWNTIME_S

    def time_s(self, part: float) -> float:
        """T(w), for a w that is a part of the link"""
        return self.first_pass_s + self.backlog_s / (1 - part)

    def part(self, time_s: float) -> float:
        """The w that belongs to T, as a part of the link; 0: none does"""
        left_s = time_s - self.first_pass_s
        return max(1 - self.backlog_s / left_s, 0) if left_s > 0 else 0

    @property
    def vcpus(self) -> int:
        return math.ceil(self.rate * self.link_pps / VCPU_PPS)

    @property
    def least_part(self) -> float:
        """Of the link, what vCPUs dirty that sleep as long as they may"""
        return min(self.vcpus * search.FLOOR_PPS / self.link_pps, self.rate)

    def kind(self, deadline_s: float) -> Kind:
        part = self.part(deadline_s)
        return (Kind.TOO_SHORT if deadline_s <= self.first_pass_s else
                Kind.FIRST_PASS if part <= 0 else
                Kind.CEILING if part < self.least_part else Kind.CURVE)

    def deadlines(self) -> list[int]:
        """In seconds, each once"""
        first_s = self.first_pass_s
        return sorted({
            *(math.floor(first_s * part) for part in TOO_SHORT),
            math.ceil((first_s + self.time_s(0)) / 2),
            *(math.ceil(self.time_s(part)) for part in PARTS),
            math.ceil(LONGEST * self.time_s(PARTS[-1]))})

    def scenario(self, deadline_s: int) -> search.Scenario:
        pps = self.rate * self.link_pps
        return {
            "vm": {"title": "made up",
                   "ram-mib": "%d" % (RAM_MIB * self.times)},
            "link": {"mib": "%.3f" % (self.link_mb * 1e6 / 2**20)},
            "migration": {"deadline-s": "%d" % deadline_s,
                          "downtime-ms": "%.0f" % (1000 * DOWNTIME_S)},
            "vcpus writer": {
                "count": str(self.vcpus), "rate": "%.0f" % (pps / self.vcpus),
                "set-mib": "%.3f" % (self.set_mib * self.times / self.vcpus)}}


@dataclass(frozen=True)
class Point:
    """One of the grid"""
    guest: Guest
    deadline_s: int

    @property
    def kind(self) -> Kind:
        return self.guest.kind(self.deadline_s)

    @property
    def left_s(self) -> float:
        """After the first pass"""
        return self.deadline_s - self.guest.first_pass_s


def grid() -> list[Point]:
    guests = [Guest(set_mib, rate, link_mb, times) for link_mb, times in LINKS
              for set_mib in SETS_MIB for rate in RATES]
    return [Point(guest, deadline_s) for guest in guests
            for deadline_s in guest.deadlines()]


@dataclass(frozen=True)
class Outcome:
    """What came of one; over is when the guest can be switched over"""
    point: Point
    over_s: float
    total_s: float
    # the first pass was over, it was told that the deadline is missed, and what
    # was told; 0: it was not
    first_pass_s: float
    told_at_s: float
    told_s: float
    # what writers dirtied after the first pass, as a part of the link; and what
    # they did of what they wanted
    part: float
    did: float

    @classmethod
    def of(cls, point: Point, row: batch.Row) -> "Outcome":
        total_s = (float(row["total_s"]) if row["completed"] == "1"
                   else math.inf)
        return cls(point, total_s - float(row["downtime_ms"]) / 1000, total_s,
                   float(row["first_pass_s"]), float(row["late_since_s"]),
                   float(row["late_s"]),
                   float(row["dirtied_pps"]) / point.guest.link_pps,
                   float(row["writer_kept"]))

    @property
    def met(self) -> bool:
        return self.over_s <= self.point.deadline_s * (1 + LATE_PART)

    @property
    def told(self) -> bool:
        return bool(self.told_at_s)

    @property
    def told_soon(self) -> bool:
        return self.told and self.told_at_s <= self.first_pass_s + TOLD_S

    @property
    def told_off(self) -> float:
        """By which part of it the time that was told is wrong"""
        return abs(self.over_s / self.told_s - 1) if self.told_s else math.inf

    def _kept(self, part: float) -> float:
        """
        Of such a part of the link.  Writers that want no more are to be left
        alone, and a page that is written twice in an iteration is no matter.
        """
        if self.did >= 1 or part >= self.point.guest.rate:
            return self.did
        return self.part / part

    @property
    def kept(self) -> float:
        """Of what the curve leaves writers with this deadline"""
        return self._kept(self.point.guest.part(self.point.deadline_s))

    @property
    def kept_in_time(self) -> float:
        """Of what it leaves them in the time that the migration took"""
        part = self.point.guest.part(self.over_s)
        return self._kept(part) if part > 0 else math.inf


def outcomes(program: str, of: Sequence[Point]) -> list[Outcome]:
    found = batch.run(program, [point.guest.scenario(point.deadline_s)
                                for point in of], [POLICY])
    return [Outcome.of(point, rows[POLICY])
            for point, rows in zip(of, found)]


HEAD = "%8s %5s %6s %6s %9s %8s %8s %9s %9s %8s" % (
    "set MiB", "rate", "vCPUs", "MB/s", "deadline", "over", "told", "writers",
    "curve", "% of it")


def shown(one: Outcome) -> str:
    guest = one.point.guest
    part = min(guest.part(one.point.deadline_s), guest.rate)
    return "%8d %5s %6d %6d %9d %8.2f %8s %9.3f %9s %8s" % (
        guest.set_mib * guest.times, guest.rate, guest.vcpus, guest.link_mb,
        one.point.deadline_s, one.over_s,
        "%.2f" % one.told_s if one.told else "-", one.part,
        "%.3f" % part if part else "-",
        "%.0f" % (100 * one.kept) if part else "-")


def _count(of: Sequence[Outcome], good: Callable[[Outcome], bool],
           what: str) -> str:
    return "  %3d of %3d %s" % (sum(map(good, of)), len(of), what)


def _worst(of: Sequence[Outcome],
           key: Callable[[Outcome], float]) -> list[str]:
    worst = sorted(of, key=key, reverse=True)[:SHOWN]
    return ["  the worst:", "  " + HEAD] + ["  " + shown(one)
                                            for one in worst]


def time_summary(of: Sequence[Outcome]) -> Iterator[str]:
    met = [one for one in of if one.met]
    missed = [one for one in of if not one.met]
    if met:
        yield _count(of, lambda one: one.met,
                     "are met within %.0f %%" % (100 * LATE_PART))
        yield _count(met, lambda one: one.told,
                     "of these are said to be missed")
        yield from _worst(met, lambda one: one.over_s / one.point.deadline_s)
    if missed:
        yield _count(of, lambda one: not one.met, "are missed")
        yield _count(missed, lambda one: one.told_soon,
                     "of these are said to be, in time")
        yield _count(missed, lambda one: one.told_off <= TOLD_PART,
                     "with a time that holds within %.0f %%" %
                     (100 * TOLD_PART))
        yield from _worst(missed, lambda one: one.told_off)


def kept_summary(of: Sequence[Outcome]) -> Iterator[str]:
    yield _count(of, lambda one: abs(one.kept - 1) <= KEPT_PART,
                 "keep what the curve has within %.0f %%" % (100 * KEPT_PART))
    yield _count(of, lambda one: abs(one.kept_in_time - 1) <= KEPT_PART,
                 "keep what it has for the time that it took")
    yield _count(of, lambda one: one.kept > 1 + KEPT_PART, "keep more")
    yield "  they keep %.0f %% (median)" % (
        100 * statistics.median(one.kept for one in of))
    yield from _worst(of, lambda one: -one.kept)


def summary(of: Sequence[Outcome]) -> Iterator[str]:
    kinds = {kind: [one for one in of if one.point.kind == kind]
             for kind in Kind}
    for kind, these in kinds.items():
        yield "\n%d deadlines: %s" % (len(these), kind.value)
        yield from time_summary(these)
    for what, least_s, most_s in (("less than", 0, LONG_S),
                                  ("no less than", LONG_S, math.inf)):
        yield "\nWriters of these, with %s %d s after the first pass" % (
            what, LONG_S)
        yield from kept_summary([
            one for one in kinds[Kind.CURVE]
            if least_s <= one.point.left_s < most_s])


def main() -> int:
    parser = argparse.ArgumentParser(prog="throttlesim.deadlines")
    parser.add_argument("program")
    args = parser.parse_args()

    found = outcomes(args.program, grid())
    print(HEAD)
    for one in found:
        print(shown(one))
    for line in summary(found):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
