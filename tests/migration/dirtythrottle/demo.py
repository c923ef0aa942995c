#!/usr/bin/env python3
#
# Dirty throttle demonstration
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""
Migrate a guest that dirties memory faster than the link can carry it: first
without a throttle, then with the migration capability 'dirty-limit'.
"""

import argparse
import contextlib
import os
import shutil
import sys
import time

from typing import Callable, Sequence

from dirtythrottle import measure, probe, table
from dirtythrottle.experiments import (
    BEFORE_SECONDS, Figures, Run, cost_to_guest, errors_at
)
from dirtythrottle.migration import Migration
from dirtythrottle.scenario import DIRTY_LIMIT, NONE, Scenario, Throttle
from dirtythrottle.timeline import Progress, Sampler, Timeline
from dirtythrottle.vm import StressVM, TimeLimit, exit_on_signals

GIVE_UP_SECONDS = 60
PASSES_AT_DESTINATION = 2

TTY_SECONDS = 0.1
LOG_SECONDS = 1


class Screen:
    """One line that changes, or on anything but a terminal one each second"""

    def __init__(self) -> None:
        self._tty = sys.stdout.isatty()
        self._interval = TTY_SECONDS if self._tty else LOG_SECONDS
        self._next = 0.0

    def say(self, text: str) -> None:
        """A line that stays; the next that changes is due an interval later"""
        print(text, flush=True)
        self._next = time.monotonic() + self._interval

    def show(self, line: Callable[[], str], last: bool = False) -> None:
        """Show @line, if it is time for that, or if it is the last"""
        now = time.monotonic()
        if now < self._next and not last:
            return
        self._next = now + self._interval
        text = line()
        if not self._tty:
            print(text, flush=True)
            return
        # Back to the line's begin, and nothing left of a longer one before. A
        # line that wraps could not be overwritten.
        text = text[:shutil.get_terminal_size().columns - 1]
        print("\r\033[K" + text, end="\n" if last else "", flush=True)


def status_line(run: Run, begin: float, progress: Progress) -> str:
    """Where the migration stands, and what each vCPU gets done"""
    recent = measure.between(run.timeline.samples,
                             max(begin, progress.time - 1), progress.time)
    speeds = []
    for i, role in enumerate(run.src.roles):
        kept = measure.share(measure.rate(recent, i), run.before[i])
        speeds.append("%s %3s%%" % (
            role.kind, "-" if kept is None else "%.0f" % kept))
    written = measure.mb(measure.rate(recent, 0))
    limits = [entry["limit-rate"] for entry in run.src.limits()]
    return "%5.1f s %4d MiB left, %s MB/s written, %s, %s" % (
        progress.time - begin, progress.ram("remaining") // measure.MIB,
        "  -" if written is None else "%3.0f" % written, ", ".join(speeds),
        "limit %d MB/s" % min(limits) if limits else "no limit")


class Demo:
    def __init__(self, binary: str, accel: str, ring: int,
                 scenario: Scenario) -> None:
        self._binary = binary
        self._accel = accel
        self._ring = ring
        self._scenario = scenario
        self._screen = Screen()
        self.say = self._screen.say
        self._stack = contextlib.ExitStack()
        self._timeline = Timeline()
        self._before: list[float | None] = []

    def __enter__(self) -> "Demo":
        self._stack.__enter__()
        return self

    def __exit__(self, *args: object) -> None:
        self._stack.__exit__(*args)

    def boot(self) -> None:
        self._src = self._stack.enter_context(StressVM(
            self._binary, self._scenario.roles, self._ring, self._accel))
        self._src.boot()
        self._stack.enter_context(Sampler(self._src.guest, self._timeline))
        time.sleep(BEFORE_SECONDS)
        self._before = [measure.rate(self._timeline.samples, i)
                        for i in range(len(self._scenario.roles))]
        self._screen.say("The guest is up: vCPU 0 writes %.0f MB/s, the link "
                         "carries %d MB/s." % (measure.mb(self._before[0]),
                                               self._scenario.link))

    def migrate(self, throttle: Throttle, seconds: float) -> Figures:
        """Migrate for at most @seconds; cancelled if that was not enough"""
        with StressVM(self._binary, self._scenario.roles, self._ring,
                      self._accel, incoming=True) as dst:
            dst.launch()
            migration = Migration(
                self._src, dst, self._scenario.link, self._scenario.downtime,
                throttle.capabilities,
                throttle.all_parameters(self._scenario.limit), self._timeline)
            run = Run(self._src, migration, self._timeline, self._before)
            begin = run.begin()
            last = migration.watch(seconds, lambda progress: self._screen.show(
                lambda: status_line(run, begin, progress)))
            end = time.monotonic()
            self._screen.show(
                lambda: status_line(run, begin, self._timeline.progress[-1]),
                last=True)
            figures = cost_to_guest(run, throttle, begin, end)
            if last is None:
                took = migration.cancel()
                self._screen.say("Cancelled, which took %.0f ms."
                                 % (took * 1000))
            elif last.status == "completed":
                figures["total s"] = last.info["total-time"] / 1000
                figures["downtime ms"] = last.info["downtime"]
                dst.guest.wait_up()
                figures["errors"] = errors_at(
                    dst.guest, PASSES_AT_DESTINATION, GIVE_UP_SECONDS)
            else:
                raise TimeLimit("migration %s: %s" % (
                    last.status, last.info.get("error-desc", "-")))
            return figures

    def summary(self, results: dict[str, Figures]) -> None:
        kept = [("vCPU %d (%s) kept, %%" % (i, role.kind),
                 "%d %s kept %%" % (i, role.kind))
                for i, role in enumerate(self._scenario.roles)]
        rows = [("total time, s", "total s"), ("downtime, ms", "downtime ms"),
                *kept, ("longest stall, ms", "stall ms"),
                ("errors at the destination", "errors")]
        lines = [["", *results]]
        for title, name in rows:
            lines.append([title] + [
                self._cell(name, figures) for figures in results.values()])
        self._screen.say("\n" + table.aligned(lines))

    @staticmethod
    def _cell(name: str, figures: Figures) -> str:
        if name == "total s" and name not in figures:
            return "no end in sight"
        return table.number(figures.get(name))


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default=probe.default_binary(),
                        help="QEMU (default: %(default)s)")
    parser.add_argument("--ring", type=int, default=4096,
                        help="entries of the dirty ring (default: 4096)")
    parser.add_argument("--limit", type=int, default=25,
                        help="MB/s for each vCPU (default: 25)")
    parser.add_argument("--seconds", type=float, default=8,
                        help="of the first, hopeless attempt (default: 8)")
    return parser.parse_args(argv)


def missing(args: argparse.Namespace) -> str | None:
    """Why there can be no throttling here, or None"""
    if not probe.kvm_available():
        return ("This machine has no usable /dev/kvm, and TCG has no dirty "
                "ring, so there is nothing to throttle with: only the first "
                "part is shown.")
    if not probe.ring_available():
        return ("This kernel's KVM has no dirty ring, so there is nothing to "
                "throttle with: only the first part is shown.")
    if not DIRTY_LIMIT.works_with(args.binary):
        return ("This QEMU has no capability 'dirty-limit': only the first "
                "part is shown.")
    return None


def demonstrate(args: argparse.Namespace) -> None:
    lack = missing(args)
    if lack:
        print(lack, flush=True)
    accel = "kvm" if probe.kvm_available() else "tcg"
    ring = args.ring if probe.ring_available() else 0
    results = {}
    with Demo(args.binary, accel, ring, Scenario(limit=args.limit)) as demo:
        demo.boot()
        demo.say("\nMigration without a throttle:")
        results["no throttle"] = demo.migrate(NONE, args.seconds)
        if not lack:
            demo.say("\nThe same with dirty-limit, %d MB/s for each vCPU:"
                     % args.limit)
            results["dirty-limit"] = demo.migrate(DIRTY_LIMIT, GIVE_UP_SECONDS)
        demo.summary(results)


def main(argv: Sequence[str]) -> int:
    args = parse_args(argv)
    if not os.access(args.binary, os.X_OK):
        print("demo: no QEMU at %s, run 'make build'" % args.binary,
              file=sys.stderr)
        return 1
    exit_on_signals()
    try:
        demonstrate(args)
    except TimeLimit as error:
        print("\ndemo: %s" % error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
