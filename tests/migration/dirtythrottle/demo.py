#!/usr/bin/env python3
#
# Dirty throttle demonstration
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""
Migrate a guest that dirties memory faster than the link can carry it: without
a throttle, with 'auto-converge', and with 'dirty-quota', side by side.
"""

import argparse
import os
import shutil
import sys
import time

from dataclasses import replace
from typing import Callable, Sequence

from stressvm import measure, probe, table
from stressvm.timeline import Poll
from stressvm.vm import exit_on_signals
from stressvm.waiting import TimeLimit

from dirtythrottle.experiments import (
    GIVE_UP_SECONDS, Figures, Prepared, cost_to_guest, prepared
)
from dirtythrottle.strategy import (
    AUTO_CONVERGE, DIRTY_LIMIT, DIRTY_QUOTA, NONE, Strategy
)
from dirtythrottle.testbed import Testbed

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


def status_line(run: Prepared, begin: float, poll: Poll) -> str:
    """Where the migration stands, and what each vCPU gets done"""
    recent = measure.between(run.timeline.samples,
                             max(begin, poll.time - 1), poll.time)
    speeds = []
    for i, role in enumerate(run.src.roles):
        kept = measure.share(measure.rate(recent, i), run.before[i])
        speeds.append("%s %3s%%" % (
            role.kind, "-" if kept is None else "%.0f" % kept))
    written = measure.mb(measure.rate(recent, 0))
    return "%5.1f s %4d MiB left, %s MB/s written, %s" % (
        poll.time - begin, poll.ram("remaining") // measure.MIB,
        "  -" if written is None else "%3.0f" % written, ", ".join(speeds))


def migrate(binary: str, accel: str, testbed: Testbed, strategy: Strategy,
            seconds: float, screen: Screen) -> Figures:
    """Migrate for at most @seconds; cancelled if that was not enough"""
    with prepared(binary, testbed, strategy, accel=accel) as run:
        screen.say("\n%s: vCPU 0 writes %.0f MB/s, the link carries %d MB/s."
                   % (strategy.name, measure.mb(run.before[0]), testbed.link))
        begin = run.begin()
        last = run.migration.watch(seconds, lambda poll: screen.show(
            lambda: status_line(run, begin, poll)))
        end = time.monotonic()
        screen.show(
            lambda: status_line(run, begin, run.timeline.polls[-1]),
            last=True)
        figures = cost_to_guest(run, strategy, begin, end)
        if last is None:
            took = run.migration.cancel()
            screen.say("Cancelled, which took %.0f ms." % (took * 1000))
        elif last.status == "completed":
            figures["total s"] = last.info["total-time"] / 1000
            figures["downtime ms"] = last.info["downtime"]
            dst = run.migration.dst.guest
            dst.wait_up()
            figures["errors"] = sum(vcpu.errors for vcpu in dst.wait_passes(
                PASSES_AT_DESTINATION, GIVE_UP_SECONDS))
        else:
            raise TimeLimit("migration %s: %s" % (
                last.status, last.info.get("error-desc", "-")))
        return figures


def cell(name: str, figures: Figures) -> str:
    if name == "total s" and name not in figures:
        return "no end in sight"
    return table.number(figures.get(name))


def summary(testbed: Testbed, results: dict[str, Figures]) -> str:
    """What each strategy has come to, side by side"""
    kept = [("vCPU %d (%s) kept, %%" % (i, role.kind),
             "%d %s kept %%" % (i, role.kind))
            for i, role in enumerate(testbed.roles)]
    rows = [("total time, s", "total s"), ("downtime, ms", "downtime ms"),
            *kept, ("longest stall, ms", "stall ms"),
            ("errors at the destination", "errors")]
    lines = [["", *results]]
    for title, name in rows:
        lines.append([title] + [
            cell(name, figures) for figures in results.values()])
    return table.aligned(lines)


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default=probe.default_binary(),
                        help="QEMU (default: %(default)s)")
    parser.add_argument("--ring", type=int, default=4096,
                        help="entries of the dirty ring (default: 4096)")
    parser.add_argument("--limit", type=int, metavar="N",
                        help="show 'dirty-limit' as well, with N MB/s for "
                        "each vCPU")
    parser.add_argument("--seconds", type=float, default=8,
                        help="of the first, hopeless attempt (default: 8)")
    return parser.parse_args(argv)


def missing(args: argparse.Namespace) -> str | None:
    """Why single vCPUs cannot be throttled here, or None"""
    if not probe.kvm_available():
        return "this machine has no usable /dev/kvm, and TCG has no dirty ring"
    if not probe.ring_available():
        return "this kernel's KVM has no dirty ring"
    if not DIRTY_QUOTA.works_with(args.binary):
        return "this QEMU has no capability 'dirty-quota'"
    return None


def demonstrate(args: argparse.Namespace) -> None:
    lack = missing(args)
    accel = "kvm" if probe.kvm_available() else "tcg"
    testbed = Testbed(ring=args.ring if probe.ring_available() else 0)
    # What each has to work with, and how long it may take
    attempts = [(NONE, testbed, args.seconds),
                (AUTO_CONVERGE, testbed, GIVE_UP_SECONDS)]
    if lack:
        print("%s: only what slows all vCPUs alike is shown."
              % (lack[0].upper() + lack[1:]), flush=True)
    else:
        attempts.append((DIRTY_QUOTA, testbed, GIVE_UP_SECONDS))
        if args.limit is not None:
            attempts.append((DIRTY_LIMIT, replace(testbed, limit=args.limit),
                             GIVE_UP_SECONDS))
    screen = Screen()
    results = {strategy.name: migrate(args.binary, accel, testbed, strategy,
                                      seconds, screen)
               for strategy, testbed, seconds in attempts}
    screen.say("\n" + summary(testbed, results))


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
