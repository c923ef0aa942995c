#
# Dirty throttle tests: what is done on a testbed, and what is measured
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""
An experiment runs once on a testbed and returns its figures by name. A figure
is a number; NEVER, if the limit of time was reached first; or None, if there
was nothing to measure.
"""

import contextlib
import math
import tempfile
import time

from dataclasses import dataclass
from typing import Any, Iterator, Protocol, Sequence

from stressvm import measure
from stressvm.stressguest import PAGE_SIZE, Role, StressGuest
from stressvm.timeline import Poll, Sampler, Timeline
from stressvm.vm import StressVM
from stressvm.waiting import TimeLimit, wait_until

from dirtythrottle.kvmshim import withholding
from dirtythrottle.migration import LASTING_LINK, POLL_SECONDS, Migration
from dirtythrottle.strategy import AUTO_CONVERGE, NONE, Strategy
from dirtythrottle.testbed import Testbed
from dirtythrottle.vnc import Viewer, server_args

NEVER = math.inf

# What "never" means
GIVE_UP_SECONDS = 60

# For the speed that a vCPU has when nobody slows it down
BEFORE_SECONDS = 2

# After a limit is set by command, so that it is in force before it is measured
SETTLE_SECONDS = 4

Figures = dict[str, float | None]


@dataclass
class Prepared:
    """What an experiment works with"""
    src: StressVM
    migration: Migration
    timeline: Timeline
    # Operations per second of each vCPU before anything slowed it down
    before: list[float]

    def begin(self) -> float:
        """Start the migration with fresh gaps; when that was"""
        self.src.guest.new_epoch()
        self.src.guest.wait_epoch()
        begin = time.monotonic()
        self.migration.start()
        return begin


@contextlib.contextmanager
def prepared(binary: str, testbed: Testbed, strategy: Strategy,
             destination: bool = True, accel: str = "kvm"
             ) -> Iterator[Prepared]:
    """The guest works, the limit by command is set, nothing migrates yet"""
    with contextlib.ExitStack() as stack:
        timeline = Timeline()
        where = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="dirtythrottle-"))

        def vm(*more: str, **options: Any) -> StressVM:
            return stack.enter_context(StressVM(
                binary, testbed.roles, testbed.ring, accel,
                ram_mb=testbed.ram_mb, pv=testbed.pv,
                display=testbed.display,
                wrapper=withholding(where) if testbed.withheld else (),
                args=(*testbed.args, *more), **options))

        src = vm(*server_args(where) if testbed.viewed else ())
        dst = None
        if destination:
            dst = vm(incoming=True)
            dst.launch()
        src.boot()
        if testbed.viewed:
            stack.enter_context(Viewer(where))
        stack.enter_context(Sampler(timeline.samples, src.guest))
        time.sleep(BEFORE_SECONDS)
        before = [measure.rate(timeline.samples, i)
                  for i in range(len(testbed.roles))]
        if strategy.by_command and testbed.limit is not None:
            src.limit(testbed.limit)
            time.sleep(SETTLE_SECONDS)
        migration = Migration(
            src, dst, testbed.link, testbed.downtime, strategy.capabilities,
            strategy.all_parameters(testbed.limit), timeline)
        yield Prepared(src, migration, timeline, before)


def worst_gap(guest: StressGuest, kind: str) -> float | None:
    """The longest gap of all vCPUs of one kind, in milliseconds"""
    return max((v.max_gap_ms for v in guest.vcpus() if v.role == kind),
               default=None)


def cost_to_guest(run: Prepared, strategy: Strategy, begin: float,
                  end: float) -> Figures:
    """What each vCPU kept of its speed, from when it was slowed down"""
    guest = run.src.guest
    throttled = begin
    if strategy is not NONE and not strategy.by_command:
        throttled = measure.throttled_since(
            [p for p in run.timeline.polls if p.time >= begin]) or begin
    switched = measure.last_operation(run.timeline.samples)
    samples = measure.between(run.timeline.samples, throttled,
                              min(end, switched))
    figures = {
        "stall ms": max(v.max_gap_ms for v in guest.vcpus()),
        "writer stall ms": worst_gap(guest, "writer"),
        "throttled after s": throttled - begin,
    }
    for i, vcpu in enumerate(guest.vcpus()):
        name = "%d %s" % (i, vcpu.role)
        figures[name + " kept %"] = measure.share(
            measure.rate(samples, i), run.before[i])
        figures[name + " worst second %"] = measure.share(
            measure.lowest(samples, i, 1), run.before[i])
        figures[name + " before, pages/s"] = run.before[i]
    return figures


def what_was_told(polls: Sequence[Poll], begin: float) -> Figures:
    """When QEMU said that it will not do what it was asked for, and what then

    Only what it has said at all.
    """
    figures: Figures = {}
    for poll in polls:
        info = poll.info.get("dirty-throttle", {})
        after = poll.time - begin
        if poll.ram("dirty-sync-count") > 1:
            figures.setdefault("first pass s", after)
        if info.get("reason") == "ceiling":
            figures.setdefault("ceiling told after s", after)
        if info.get("deadline-missed"):
            figures.setdefault("missed told after s", after)
            if "earliest-time" in info:
                earliest = info["earliest-time"] / 1000
                figures.setdefault("earliest told first s", earliest)
                figures["earliest told last s"] = earliest
    return figures


class Experiment(Protocol):
    """What a row of the benchmark does"""

    def run(self, binary: str, testbed: Testbed,
            strategy: Strategy) -> Figures:
        ...


class Converge:
    """Migrate, and look what that costs the guest"""

    def _watch(self, run: Prepared, testbed: Testbed, begin: float) -> bool:
        """True if it has completed before it was too late to wait on"""
        moments = [*testbed.link_changes, (GIVE_UP_SECONDS, None)]
        for moment, link in moments:
            last = run.migration.watch(begin + moment - time.monotonic())
            if last is not None:
                if last.status != "completed":
                    raise TimeLimit("migration %s: %s" % (
                        last.status, last.info.get("error-desc", "-")))
                return True
            if link is not None:
                run.src.set_link(link)
        return False

    def _prepare(self, run: Prepared, testbed: Testbed,
                 strategy: Strategy) -> Figures:
        """Before it begins"""
        return {}

    def _cost(self, run: Prepared, strategy: Strategy, begin: float,
              end: float) -> Figures:
        """After it has ended, or was given up"""
        return {**cost_to_guest(run, strategy, begin, end),
                **what_was_told(run.timeline.polls, begin)}

    def run(self, binary: str, testbed: Testbed,
            strategy: Strategy) -> Figures:
        with prepared(binary, testbed, strategy) as run:
            told = self._prepare(run, testbed, strategy)
            begin = run.begin()
            completed = self._watch(run, testbed, begin)
            figures = self._cost(run, strategy, begin, time.monotonic())
            if completed:
                dst = run.migration.dst.guest
                dst.wait_up()
                info: dict[str, Any] = {}
                # QEMU tells that it is over before it tells how long it took
                wait_until("how long it took", GIVE_UP_SECONDS, lambda:
                           info.update(run.migration.poll().info) or
                           info["total-time"])
                figures["total s"] = info["total-time"] / 1000
                figures["downtime ms"] = info["downtime"]
                figures["errors"] = sum(
                    vcpu.errors for vcpu in dst.wait_passes(1, 30))
            else:
                figures["total s"] = NEVER
                run.migration.cancel()
            return {**told, **figures}


class Forecast(Converge):
    """What QEMU tells beforehand, and what comes of it"""
    MEASURE_SECONDS = 5

    # Names of QEMU's for what is done; whoever has a deadline has one more
    _NAMES = {NONE.name: "none", AUTO_CONVERGE.name: "auto-converge"}

    def _asked(self, run: Prepared, testbed: Testbed,
               strategy: Strategy) -> dict[str, Any]:
        """The forecast for @strategy"""
        vm = run.src
        vm.cmd("calc-dirty-rate", calc_time=self.MEASURE_SECONDS,
               mode="dirty-ring" if testbed.ring else "dirty-bitmap")
        wait_until("a measurement", 2 * self.MEASURE_SECONDS, lambda:
                   vm.cmd("query-dirty-rate")["status"] == "measured")
        arguments = {"bandwidth": int(testbed.link)}
        deadline = strategy.parameters.get("dirty_quota_deadline")
        if deadline:
            arguments["deadline"] = deadline
        # Neither is in force yet, and the forecast has to know of both
        vm.set_parameters(downtime_limit=testbed.downtime, **{
            name: value for name, value in strategy.parameters.items()
            if name == "max_cpu_throttle"})
        name = self._NAMES.get(strategy.name, "dirty-quota-deadline"
                               if deadline else "dirty-quota")
        report = vm.cmd("query-dirty-forecast", **arguments)
        found, = [f for f in report["forecasts"] if f["strategy"] == name]
        return found

    def _prepare(self, run: Prepared, testbed: Testbed,
                 strategy: Strategy) -> Figures:
        forecast = self._asked(run, testbed, strategy)
        return {
            "forecast s": forecast.get("total-time", NEVER) / 1000,
            "forecast least s": forecast.get("least-time", NEVER) / 1000,
            "forecast most s": forecast.get("most-time", NEVER) / 1000,
            "forecast downtime ms": forecast.get("downtime"),
            **{"%d forecast keeps %%" % vcpu["cpu-index"]: vcpu["share"]
               for vcpu in forecast["slowed"] if "cpu-index" in vcpu},
        }

    def run(self, binary: str, testbed: Testbed,
            strategy: Strategy) -> Figures:
        figures = super().run(binary, testbed, strategy)
        told, came = figures["forecast s"], figures["total s"]
        if told is not None and came is not None:
            if NEVER not in (told, came):
                figures["forecast error %"] = (told / came - 1) * 100
            # What lasts longer than anybody waits for has not ended
            figures["forecast wrong"] = (
                (told > GIVE_UP_SECONDS) != (came > GIVE_UP_SECONDS))
        return figures


class Holds:
    """
    A limit during a migration that lasts, with ever more frequent dirty syncs

    The link carries a tenth more than the limit allows, so every iteration is
    a tenth shorter than the one before; and the working set is what the limit
    allows in 1.65 s, more than in any iteration, so no page is written twice
    in one, which would cost the link, and be charged, only once.
    """
    LINK = 1.1
    SET_SECONDS = 1.65
    # Less than one page: the migration ends when nothing is left
    DOWNTIME_MS = 1
    # The first pass and the one after, in which a limit that comes with the
    # migration takes hold
    SKIP_SYNCS = 3
    WINDOW_SECONDS = 5
    # Time for several windows; the iterations are over after about 16 s
    MEASURE_SECONDS = 15

    @classmethod
    def testbed(cls, limit: int, ring: int) -> Testbed:
        return Testbed(
            roles=(Role("writer", rate=50000,
                        mb=math.ceil(limit * cls.SET_SECONDS)),),
            ring=ring, limit=limit, link=limit * cls.LINK,
            downtime=cls.DOWNTIME_MS)

    def run(self, binary: str, testbed: Testbed,
            strategy: Strategy) -> Figures:
        with prepared(binary, testbed, strategy) as run:
            run.begin()
            deadline = time.monotonic() + GIVE_UP_SECONDS
            while run.migration.poll().ram("dirty-sync-count") < (
                    self.SKIP_SYNCS):
                if time.monotonic() > deadline:
                    raise TimeLimit("no iteration ended")
                time.sleep(POLL_SECONDS)
            begin = time.monotonic()
            run.migration.watch(self.MEASURE_SECONDS)
            end = min(time.monotonic(),
                      measure.last_operation(run.timeline.samples))
            if run.migration.poll().status == "active":
                run.migration.cancel()
            return self._figures(run, begin, end)

    def _figures(self, run: Prepared, begin: float, end: float) -> Figures:
        samples = measure.between(run.timeline.samples, begin, end)
        # The rate that QEMU tells belongs to the second or so before
        told = [p.dirty_bytes_per_second / measure.MIB
                for p in run.timeline.polls if begin + 2 < p.time < end]
        return {
            "guest MB/s": measure.mb(measure.rate(samples, 0)),
            "highest 5 s MB/s": measure.mb(
                measure.highest(samples, 0, self.WINDOW_SECONDS)),
            "lowest 5 s MB/s": measure.mb(
                measure.lowest(samples, 0, self.WINDOW_SECONDS)),
            "QEMU's MB/s": sum(told) / len(told) if told else None,
            "stall ms": worst_gap(run.src.guest, "writer"),
            "measured s": end - begin,
        }


class Raise:
    """A limit set by command is raised by command; nothing migrates"""
    TO = 100
    # Reached: nine tenths of it, for long enough to be no burst
    REACHED = 0.9
    WIDTH_SECONDS = 0.3

    def run(self, binary: str, testbed: Testbed,
            strategy: Strategy) -> Figures:
        with prepared(binary, testbed, strategy, destination=False) as run:
            begin = time.monotonic()
            before = measure.rate(measure.between(
                run.timeline.samples, begin - 1, begin), 0)
            run.src.limit(self.TO)
            wanted = self.REACHED * self.TO * measure.MIB / PAGE_SIZE

            def reached() -> float | None:
                return measure.time_until(run.timeline.samples, 0, wanted,
                                          self.WIDTH_SECONDS, begin)

            try:
                wait_until("limit raised", GIVE_UP_SECONDS,
                           lambda: reached() is not None, POLL_SECONDS)
            except TimeLimit:
                pass
            found = reached()
            return {"before MB/s": measure.mb(before),
                    "reached after s": NEVER if found is None else found}


def last_throttled(run: Prepared, strategy: Strategy, seconds: float) -> None:
    """
    Get into the middle of a throttled migration, and stay there @seconds

    From the moment it is throttled the link is so slow that it cannot end.
    """
    run.begin()
    if not strategy.by_command:
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while not run.migration.poll().throttles:
            if time.monotonic() > deadline:
                raise TimeLimit("the migration was never throttled")
            time.sleep(POLL_SECONDS)
    run.src.set_link(LASTING_LINK)
    if run.migration.watch(seconds):
        raise TimeLimit("the migration ended too early")


def full_speed_after(run: Prepared, i: int, begin: float) -> float:
    """When vCPU @i had its speed back, in seconds from @begin"""
    # What a vCPU did before, less the noise of two busy cores
    full = 0.8 * run.before[i]
    width_seconds = 0.1

    def recovered() -> float | None:
        return measure.time_until(run.timeline.samples, i, full, width_seconds,
                                  begin)

    try:
        wait_until("full speed", GIVE_UP_SECONDS,
                   lambda: recovered() is not None, POLL_SECONDS)
    except TimeLimit:
        pass
    found = recovered()
    return NEVER if found is None else found


class Cancel:
    """migrate_cancel while vCPUs are slowed down"""
    THROTTLED_SECONDS = 3

    def run(self, binary: str, testbed: Testbed,
            strategy: Strategy) -> Figures:
        with prepared(binary, testbed, strategy) as run:
            last_throttled(run, strategy, self.THROTTLED_SECONDS)
            begin = time.monotonic()
            cancelled = run.migration.cancel()
            if strategy.by_command:
                run.src.unlimit()
            return {"cancelled after ms": cancelled * 1000,
                    "full speed after s": full_speed_after(run, 0, begin)}


class Quiet:
    """The writer stops to write while vCPUs are slowed down, and goes on"""
    THROTTLED_SECONDS = 3

    def run(self, binary: str, testbed: Testbed,
            strategy: Strategy) -> Figures:
        with prepared(binary, testbed, strategy) as run:
            last_throttled(run, strategy, self.THROTTLED_SECONDS)
            begin = time.monotonic()
            # 1000 operations a second, so that the other has a CPU to itself
            run.src.guest.want(0, "reader", 1000)
            return {"full speed after s": full_speed_after(run, 1, begin)}


class Stop:
    """stop and cont, many times, while vCPUs are slowed down"""
    THROTTLED_SECONDS = 2
    TIMES = 10
    # No multiple of a penalty's length, so that stops fall anywhere in it
    BETWEEN_SECONDS = 0.137

    def run(self, binary: str, testbed: Testbed,
            strategy: Strategy) -> Figures:
        with prepared(binary, testbed, strategy) as run:
            last_throttled(run, strategy, self.THROTTLED_SECONDS)
            took = []
            for _ in range(self.TIMES):
                time.sleep(self.BETWEEN_SECONDS)
                begin = time.monotonic()
                run.src.cmd("stop")
                took.append((time.monotonic() - begin) * 1000)
                run.src.cmd("cont")
            run.migration.cancel()
            return {"stop ms": sorted(took)[len(took) // 2],
                    "longest stop ms": max(took)}
