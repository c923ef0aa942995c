#
# Dirty throttle tests: the rows of the benchmark
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

from dataclasses import dataclass, replace
from typing import Sequence

from stressvm.stressguest import Role

from dirtythrottle.experiments import (
    Cancel, Converge, Experiment, Forecast, Holds, Quiet, Raise, Stop
)
from dirtythrottle.hostile import TESTBED as HOSTILE_TESTBED
from dirtythrottle.hostile import Hostile
from dirtythrottle.reaping import Full, Reap
from dirtythrottle.scheduling import Beside, Interrupts, Latency, Lockers
from dirtythrottle.strategy import (
    AUTO_CONVERGE, BOOSTED, BOTH, COMMAND, DIRTY_LIMIT, DIRTY_QUOTA, NONE,
    QUOTA_BOOSTED, QUOTA_WAITS, REAPER_1S, REAPER_ADAPTIVE, REAPER_GEARS,
    STATIC_RT, Strategy, UNBOOSTED, with_ceiling, with_deadline
)
from dirtythrottle.testbed import LARGE_READER, LARGE_WRITER, Testbed

BY_LIMIT = (DIRTY_LIMIT, COMMAND)
BY_ITSELF = (DIRTY_QUOTA, AUTO_CONVERGE)
BY_REAPER = (REAPER_1S, REAPER_GEARS, REAPER_ADAPTIVE)

# Two writers and two readers share the memory that one pair has otherwise
_HALF = (Role("writer", rate=50000, mb=100), Role("reader", mb=100))


@dataclass(frozen=True)
class Row:
    """One line of comparison: what is done, and the ways to do it"""
    name: str
    title: str
    experiment: Experiment
    testbed: Testbed
    strategies: Sequence[Strategy]
    # Only the first of @strategies that a binary has, instead of all it has
    first: bool = True

    def strategies_of(self, binary: str) -> list[Strategy]:
        known = [s for s in self.strategies if s.works_with(binary)]
        return known[:1] if self.first else known

    def scaled(self, divisor: int) -> "Row | None":
        """
        The same on a testbed that is @divisor times smaller and slower

        None, if a limit has no such part, or if what the experiment does has
        rates of its own.
        """
        if not isinstance(self.experiment, (Converge, Holds, Latency, Beside,
                                            Interrupts)):
            return None
        try:
            return replace(self, testbed=self.testbed.scaled(divisor),
                           title="%s, at 1/%d" % (self.title, divisor))
        except ValueError:
            return None


def _limit_rows() -> list[Row]:
    """Where somebody says how many MiB/s"""
    two_pairs = _HALF + _HALF
    rows = [
        Row("limit25-ring4096", "limit 25 MB/s, ring 4096", Converge(),
            Testbed(limit=25), BY_LIMIT),
        Row("limit25-ring65536", "limit 25 MB/s, ring 65536", Converge(),
            Testbed(limit=25, ring=65536), BY_LIMIT),
        Row("limit25-two", "limit 25 MB/s, two writers, two readers",
            Converge(), Testbed(limit=25, roles=two_pairs), BY_LIMIT),
        Row("limit1", "limit 1 MB/s, the default", Converge(),
            Testbed(limit=1), BY_LIMIT),
        Row("cancel", "migrate_cancel with limit 1 MB/s", Cancel(),
            Testbed(limit=1), BY_LIMIT),
        Row("stop", "stop with limit 1 MB/s", Stop(),
            Testbed(limit=1), BY_LIMIT),
        Row("raise", "limit raised from 10 to 100 MB/s", Raise(),
            Testbed(limit=10), (COMMAND,)),
    ]
    for ring in (1024, 4096, 65536):
        for limit in (1, 2, 5, 10, 25, 100):
            rows.append(Row(
                "holds-%d-ring%d" % (limit, ring),
                "limit %d MB/s holds, ring %d" % (limit, ring),
                Holds(), Holds.testbed(limit, ring), BY_LIMIT))
    return rows


def _quota_rows() -> list[Row]:
    """Where nobody says a number"""
    two_pairs = _HALF + _HALF
    return [
        Row("link-ring4096", "1 writer, 1 reader, ring 4096", Converge(),
            Testbed(), BY_ITSELF, first=False),
        Row("link-ring65536", "1 writer, 1 reader, ring 65536", Converge(),
            Testbed(ring=65536), BY_ITSELF, first=False),
        Row("link-two", "two writers, two readers", Converge(),
            Testbed(roles=two_pairs), BY_ITSELF, first=False),
        Row("link-hot", "1 writer, 1 writer to a hot set", Converge(),
            Testbed(roles=(LARGE_WRITER, Role("hot", rate=50000, pages=256))),
            BY_ITSELF, first=False),
        Row("link-fast", "1 writer as fast as it can, 1 reader", Converge(),
            Testbed(roles=(Role("writer", mb=200), LARGE_READER)), BY_ITSELF,
            first=False),
        Row("link-all", "2 writers as fast as they can, nearly all memory",
            Converge(), Testbed(roles=(Role("writer", mb=200),) * 2), BY_ITSELF,
            first=False),
        Row("link-slow-writer", "1 writer at 40 MB/s, 1 reader", Converge(),
            Testbed(roles=(Role("writer", rate=10240, mb=200), LARGE_READER)),
            (NONE,) + BY_ITSELF, first=False),
        Row("link-drops", "link 100, 30 after 3 s, 100 MB/s after 9 s",
            Converge(), Testbed(link_changes=((3, 30), (9, 100))),
            BY_ITSELF, first=False),
    ]


def _deadline_rows() -> list[Row]:
    """The reference work, in the time that somebody says"""
    rows = [Row("deadline-%d" % seconds, "to be done in %d s" % seconds,
                Converge(), Testbed(), (with_deadline(seconds),))
            for seconds in (3, 5, 6, 7, 8, 10, 15, 20)]
    rows.append(Row("deadline-15-drops",
                    "link 100, 30 after 3 s, 100 MB/s after 9 s, in 15 s",
                    Converge(), Testbed(link_changes=((3, 30), (9, 100))),
                    (with_deadline(15),)))
    return rows


def _ceiling_rows() -> list[Row]:
    """No vCPU sleeps for more than somebody says, of any second"""
    return [
        Row("ceiling-40", "1 writer, 1 reader, no more than 40 % of a second",
            Converge(), Testbed(), (with_ceiling(40),)),
        Row("ceiling-90", "1 writer, 1 reader, no more than 90 % of a second",
            Converge(), Testbed(), (with_ceiling(90),)),
    ]


def _faults_rows() -> list[Row]:
    """The same without a ring, by page faults"""
    rows = [replace(row, name=row.name.replace("link", "faults").replace(
                        "ring4096", "one"),
                    title=row.title.removesuffix(", ring 4096") + ", no ring",
                    testbed=replace(row.testbed, ring=0))
            for row in _quota_rows() if row.testbed.ring == 4096]
    for limit in (10, 25, 100):
        rows.append(Row(
            "holds-%d-faults" % limit,
            "limit %d MB/s holds, no ring" % limit,
            Holds(), Holds.testbed(limit, 0), BY_LIMIT))
    return rows


def _alike_rows() -> list[Row]:
    """The same where nothing tells who dirties memory"""
    alike = (BOTH, AUTO_CONVERGE)
    rows = [replace(row, name=row.name.replace("faults", "alike"),
                    title=row.title + ", no statistics",
                    testbed=replace(row.testbed, withheld=True),
                    strategies=alike)
            for row in _faults_rows() if isinstance(row.experiment, Converge)]
    rows += [replace(row, name="alike-" + row.name,
                     title=row.title + ", no ring, no statistics",
                     testbed=replace(row.testbed, ring=0, withheld=True),
                     strategies=(BOTH,))
             for row in _guest_rows() if row.name.startswith("display")]
    rows.append(Row("alike-quiet", "the writer stops, no ring, no statistics",
                    Quiet(), Testbed(ring=0, withheld=True), (BOTH,)))
    return rows


def _forecast_rows() -> list[Row]:
    """What is told beforehand, where the link stays as it is"""
    rows = [replace(row, name="forecast-" + row.name,
                    title="forecast: " + row.title, experiment=Forecast(),
                    strategies=(NONE, AUTO_CONVERGE, DIRTY_QUOTA), first=False)
            for row in _quota_rows() + _faults_rows()
            if isinstance(row.experiment, Converge) and
            not row.testbed.link_changes]
    rows += [replace(row, name="forecast-" + row.name,
                     title="forecast: " + row.title, experiment=Forecast())
             for row in _deadline_rows() + _ceiling_rows()
             if not row.testbed.link_changes]
    return rows


def _guest_rows() -> list[Row]:
    """What KVM and QEMU do by themselves costs nothing"""
    # It draws so little that it matters to nobody but who looks at it
    draws = (LARGE_WRITER, LARGE_READER, Role("screen", rate=100, pages=16))
    sleeps = (LARGE_WRITER, LARGE_READER, Role("wakeups", rate=5000))
    return [
        Row("display-30hz", "screen looked at 30 times a second", Converge(),
            Testbed(roles=draws, display="VGA", viewed=True), BY_ITSELF,
            first=False),
        Row("display-0hz", "the same, nobody looks", Converge(),
            Testbed(roles=draws, display="VGA"), BY_ITSELF, first=False),
        Row("wakeups-5000", "steal time, 5000 wakeups a second", Converge(),
            Testbed(roles=sleeps, pv=True), BY_ITSELF, first=False),
        Row("wakeups-5000-plain", "the same without steal time", Converge(),
            Testbed(roles=sleeps), BY_ITSELF, first=False),
    ]


# What all writers of a row with the reaper dirty together, in pages/s: 234
# MiB/s, less than half of what two cores can do
_TOGETHER = 60000
# More pages than the largest ring has entries
_EACH_MB = 300


def _shared(kind: str, vcpus: int, rate: int | None = None,
            **options: int) -> Sequence[Role]:
    """Roles of vCPUs that do and have the same"""
    return (Role(kind, rate=rate and rate // vcpus, mb=_EACH_MB,
                 **options),) * vcpus


def _reaper_testbed(roles: Sequence[Role], ring: int) -> Testbed:
    # and what the guest itself needs
    return Testbed(roles=roles, ring=ring, ram_mb=32 + _EACH_MB * len(roles))


def _reaper_rows() -> list[Row]:
    """Where nothing is throttled, but rings get full"""
    rows = []
    for ring in (1024, 4096, 65536):
        for name, title, share in (
                ("steady", "60 000 pages/s",
                 lambda n: _shared("writer", n, _TOGETHER)),
                ("fast", "as fast as they can",
                 lambda n: _shared("writer", n)),
                ("burst", "60 000 pages/s for 0.3 of each s",
                 lambda n: _shared("burst", n, _TOGETHER, on=300, off=700)),
                ("hot", "the same half a ring again and again",
                 lambda n, pages=ring // 2: (Role("hot", pages=pages),) * n),
                ("idle", "no writes",
                 lambda n: _shared("reader", n, _TOGETHER))):
            for vcpus in (1, 2, 4):
                rows.append(Row(
                    "reaper-%s-ring%d-vcpus%d" % (name, ring, vcpus),
                    "%s, ring %d, %d vCPUs" % (title, ring, vcpus),
                    Reap(), _reaper_testbed(share(vcpus), ring),
                    BY_REAPER, first=False))
        rows.append(Row(
            "reaper-mixed-ring%d-vcpus2" % ring,
            "one fast, one the same half a ring again, ring %d" % ring, Reap(),
            _reaper_testbed((Role("writer", mb=_EACH_MB),
                             Role("hot", pages=ring // 2)), ring),
            BY_REAPER, first=False))
    return rows


def _scaling_rows() -> list[Row]:
    """What a full ring costs when many are, and who else wants the BQL"""
    rows = []
    for suffix, title, busy in (("", "", False),
                                ("-bql", ", BQL busy", True)):
        for vcpus in (1, 2, 4, 8, 16):
            rows.append(Row(
                "ring-full-scaling-vcpus%d%s" % (vcpus, suffix),
                "ring 1024 full, %d vCPUs%s" % (vcpus, title), Full(busy),
                Testbed(roles=(Role("writer", mb=400 // vcpus),) * vcpus,
                        ring=1024),
                (REAPER_1S,)))
    return rows


def _hostile_rows() -> list[Row]:
    """Where the guest does its worst, without a throttle and with"""
    return [Row("hostile", "4 vCPUs at their worst, ring 1024", Hostile(),
                HOSTILE_TESTBED, (NONE, DIRTY_LIMIT, DIRTY_QUOTA),
                first=False)]


# What nobody migrates has no rings, and no memory but the guest's own
_SMALL = Testbed(ring=0, ram_mb=64)


def _scheduling_rows() -> list[Row]:
    """Where vCPUs have to get a processor in time, or give it back"""
    rows = []
    for interval in (500, 1000):
        sleeper = Role("latency", interval=interval)
        works = replace(sleeper, work=interval // 10)
        for suffix, title, roles in (
                ("", "", (sleeper,) * 2),
                ("-work", ", a tenth of the time there is work", (works,) * 2),
                ("-busy", ", beside a busy vCPU",
                 (sleeper, Role("reader", mb=16)))):
            rows.append(Row(
                "latency-%d%s" % (interval, suffix),
                "wakeups each %d us, two hogs per core%s" % (interval, title),
                Latency(), replace(_SMALL, roles=roles),
                (UNBOOSTED, STATIC_RT, BOOSTED), first=False))
    rows.append(Row("beside-idle", "idle vCPUs, two hogs per core", Beside(),
                    replace(_SMALL, roles=(Role("idle"),) * 2),
                    (UNBOOSTED,)))
    rows.append(Row("rogue", "asks for ever, two hogs per core", Beside(),
                    replace(_SMALL, roles=(Role("rogue"),) * 2),
                    (UNBOOSTED, BOOSTED), first=False))
    rows.append(Row("interrupts", "tells of each interrupt", Interrupts(),
                    replace(_SMALL, roles=(Role("asker"),)),
                    (UNBOOSTED, BOOSTED), first=False))
    # 195 MiB/s together, as the writer of other rows
    dirties = Role("locker", rate=1250, hold=100, writes=20, mb=100)
    innocent = Role("locker", rate=1250, hold=20)
    rows.append(Row("locker", "4 vCPUs need a lock, two of them dirty memory",
                    Lockers(), Testbed(roles=(dirties,) * 2 + (innocent,) * 2),
                    (NONE, DIRTY_QUOTA, QUOTA_WAITS, QUOTA_BOOSTED),
                    first=False))
    return rows


ROWS = (_limit_rows() + _quota_rows() + _deadline_rows() + _ceiling_rows() +
        _faults_rows() + _forecast_rows() + _alike_rows() + _guest_rows() +
        _reaper_rows() + _scaling_rows() + _hostile_rows() +
        _scheduling_rows())
