#
# Throttle simulator: from its lines to what is drawn
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""
A run as guestperf.charts wants it: times in seconds since the migration began,
and a series is a pair of lists, times and values.
"""

import csv

from dataclasses import dataclass
from typing import Iterator

from stressvm.measure import MIB
from stressvm.stressguest import PAGE_SIZE

PAGES_PER_MIB = MIB / PAGE_SIZE

Points = tuple[list[float], list[float | None]]


@dataclass
class Line:
    """What one kind of vCPUs has done up to a time, and the migration"""
    time: float
    vcpus: str
    count: int
    done: float
    wanted: float
    dirtied: float
    slept: float
    link: float
    to_send: float
    budget: float
    phase: str

    @classmethod
    def of(cls, row: dict[str, str]) -> "Line":
        return cls(float(row["time_s"]), row["vcpus"], int(row["count"]),
                   float(row["done"]), float(row["wanted"]),
                   float(row["dirtied"]), float(row["slept_s"]),
                   float(row["link_pps"]), float(row["to_send"]),
                   float(row["budget_pps"]), row["phase"])


def read(path: str) -> dict[tuple[str, str], "SimSeries"]:
    """All runs of a timeline, by scenario and policy"""
    runs: dict[tuple[str, str], list[Line]] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            runs.setdefault((row["scenario"], row["policy"]), []).append(
                Line.of(row))
    return {key: SimSeries(lines) for key, lines in runs.items()}


class SimSeries:
    """One run; the names of its methods are those of guestperf.series"""

    def __init__(self, lines: list[Line]):
        self._vcpus: dict[str, list[Line]] = {}
        for line in lines:
            self._vcpus.setdefault(line.vcpus, []).append(line)
        # Those of one kind have the migration's part of all
        self._lines = next(iter(self._vcpus.values()))

    def vcpu_names(self) -> list[str]:
        return list(self._vcpus)

    @staticmethod
    def deadline() -> float | None:
        """A timeline tells of none"""
        return None

    @staticmethod
    def forecasts() -> tuple[list[float], list[object]]:
        """No more than of a deadline"""
        return [], []

    def first_pass_end(self) -> float | None:
        """When there was more to send again, None for never"""
        return next((line.time for before, line in self._steps(self._lines)
                     if line.to_send > before.to_send), None)

    @staticmethod
    def _steps(lines: list[Line]) -> Iterator[tuple[Line, Line]]:
        return zip(lines, lines[1:])

    def throughput(self) -> list[Points]:
        """What vCPUs get done, in % of what they want to"""
        found = []
        for lines in self._vcpus.values():
            values: list[float | None] = [
                100 * (b.done - a.done) / (b.wanted - a.wanted)
                if b.wanted > a.wanted else None for a, b in self._steps(lines)]
            found.append(([line.time for line in lines[1:]], values))
        return found

    def vcpu_dirty_rates(self) -> list[tuple[int, Points]]:
        """MiB/s, of all of a kind together"""
        return [(i, ([line.time for line in lines[1:]],
                     [(b.dirtied - a.dirtied) / (b.time - a.time) /
                      PAGES_PER_MIB for a, b in self._steps(lines)]))
                for i, lines in enumerate(self._vcpus.values())]

    def dirty_rate(self) -> Points:
        return [], []

    def budget(self) -> Points:
        return ([line.time for line in self._lines],
                [line.budget / PAGES_PER_MIB or None for line in self._lines])

    def bandwidth(self) -> Points:
        return ([line.time for line in self._lines],
                [line.link / PAGES_PER_MIB for line in self._lines])

    def penalties(self) -> list[tuple[int, Points]]:
        """The part of the time, in %, that vCPUs of a kind sleep"""
        return [(i, ([line.time for line in lines[1:]],
                     [100 * (b.slept - a.slept) / (b.time - a.time) / b.count
                      for a, b in self._steps(lines)]))
                for i, lines in enumerate(self._vcpus.values())]

    def cpu_throttle(self) -> Points:
        return [], []

    def remaining(self) -> Points:
        return ([line.time for line in self._lines],
                [line.to_send / PAGES_PER_MIB for line in self._lines])

    def phases(self) -> list[tuple[float, float, str]]:
        """(begin, end, name) of each"""
        found: list[tuple[float, float, str]] = []
        for a, b in self._steps(self._lines):
            if found and found[-1][2] == b.phase:
                found[-1] = (found[-1][0], b.time, b.phase)
            else:
                found.append((a.time, b.time, b.phase))
        return found
