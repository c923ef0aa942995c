#!/usr/bin/env python3
#
# Dirty throttle benchmark
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""
Measure what a throttled migration costs, beside other QEMU binaries.

README.rst says what each row measures.
"""

import argparse
import fnmatch
import json
import os
import platform
import sys
import time

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Iterator, Sequence

from qemu.machine.machine import QEMUMachineError
from qemu.qmp import QMPError

from stressvm import measure, probe, table
from stressvm.vm import exit_on_signals
from stressvm.waiting import TimeLimit

from dirtythrottle.experiments import NEVER
from dirtythrottle.rows import ROWS, Row
from dirtythrottle.strategy import Strategy

# Enough for one look: what each issue asks for first
QUICK_ROWS = ("limit25-ring4096", "limit1", "cancel", "raise",
              "holds-10-ring4096", "link-ring4096")


@dataclass(frozen=True)
class Binary:
    label: str
    path: str


@dataclass(frozen=True)
class Column:
    """One way to do what a row asks for"""
    binary: Binary
    strategy: Strategy

    @property
    def title(self) -> str:
        return "%s, %s" % (self.binary.label, self.strategy.name)


@dataclass(frozen=True)
class Result:
    """One run of one row in one column"""
    row: str
    column: str
    run: int
    figures: dict[str, float | None]
    # Why there are no figures
    error: str | None = None


def parse_peer(text: str) -> Binary:
    label, separator, path = text.partition("=")
    if not separator or not label or not os.access(path, os.X_OK):
        raise argparse.ArgumentTypeError(
            "'%s' is not label=path of a program" % text)
    return Binary(label, path)


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default=probe.default_binary(),
                        help="the QEMU to measure (default: %(default)s)")
    parser.add_argument("--peer", type=parse_peer, action="append",
                        metavar="LABEL=PATH",
                        help="another one; also from $PEERS")
    parser.add_argument("--rows", default="*", metavar="PATTERN,...",
                        help="shell patterns of row names")
    parser.add_argument("--strategies", default="*", metavar="PATTERN,...",
                        help="shell patterns of what rows compare, as their"
                        " columns name it")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true",
                        help="one run of the most telling rows")
    parser.add_argument("--scale", type=int, default=1, metavar="N",
                        help="all memory and rates N times smaller, for a"
                        " machine that is so slow; without rows that have no"
                        " such form")
    parser.add_argument("--name", default="bench",
                        help="of the results, build/bench/NAME.json")
    parser.add_argument("--output", type=Path, metavar="FILE",
                        help="in place of that; more and more results"
                        " follow one another if it is a device")
    parser.add_argument("--list", action="store_true",
                        help="show the rows and do nothing")
    args = parser.parse_args(argv)
    try:
        args.peers = args.peer or [
            parse_peer(text) for text in os.environ.get("PEERS", "").split()]
    except argparse.ArgumentTypeError as error:
        parser.error("PEERS: %s" % error)
    if args.scale < 1 or args.runs < 1:
        parser.error("--scale and --runs must be at least 1")
    args.all_rows = scaled_rows(args.scale)
    args.selected = select_rows(args.all_rows, args.rows, args.quick)
    if not args.selected:
        parser.error("no row is called '%s', see --list" % args.rows)
    if args.quick:
        args.runs = 1
    return args


def scaled_rows(divisor: int) -> Sequence[Row]:
    """All rows that there are on a machine @divisor times slower"""
    if divisor == 1:
        return ROWS
    return list(filter(None, (row.scaled(divisor) for row in ROWS)))


def select_rows(rows: Sequence[Row], patterns: str, quick: bool) -> list[Row]:
    return [row for row in rows
            if matches(row.name, patterns) and
            (not quick or row.name in QUICK_ROWS)]


def run_once(row: Row, column: Column, run: int) -> Result:
    try:
        figures = row.experiment.run(column.binary.path, row.testbed,
                                     column.strategy)
    except (TimeLimit, QEMUMachineError, QMPError) as error:
        return Result(row.name, column.title, run, {}, str(error))
    return Result(row.name, column.title, run, figures)


def matches(name: str, patterns: str) -> bool:
    return any(fnmatch.fnmatch(name, p) for p in patterns.split(","))


def measure_row(row: Row, binaries: Sequence[Binary], strategies: str,
                runs: int) -> Iterator[Result]:
    """
    All runs of a row, the columns by turns

    So a machine that gets slower in between is the same for all of them.
    """
    columns = [Column(binary, strategy) for binary in binaries
               for strategy in row.strategies_of(binary.path)
               if matches(strategy.name, strategies)]
    for run in range(runs):
        for column in columns:
            print("  run %d of %d: %s" % (run + 1, runs, column.title),
                  file=sys.stderr, flush=True)
            result = run_once(row, column, run)
            if result.error:
                print("    %s" % result.error, file=sys.stderr)
            yield result


def row_table(row: Row, results: Sequence[Result]) -> str:
    """Figures down, columns across, medians and [ranges]"""
    columns = list(dict.fromkeys(r.column for r in results))
    names = list(dict.fromkeys(n for r in results for n in r.figures))
    lines = [["%s: medians [ranges]" % row.title] + columns]
    for name in names:
        lines.append([name] + [
            table.median_and_range(measure.spread(
                [r.figures.get(name) for r in results if r.column == column]))
            for column in columns])
    failed = [sum(1 for r in results if r.column == column and r.error)
              for column in columns]
    if any(failed):
        lines.append(["runs that failed"] + [str(n) for n in failed])
    return table.aligned(lines)


def save(path: Path, scale: int, binaries: Sequence[Binary],
         results: Sequence[Result]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    def plain(result: Result) -> dict[str, Any]:
        """JSON has no number for 'never'"""
        figures = {name: "never" if value == NEVER else value
                   for name, value in result.figures.items()}
        return {**asdict(result), "figures": figures}

    contents = {
        "machine": {"cpus": os.cpu_count(), "kernel": platform.release()},
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "scale": scale,
        "binaries": [asdict(binary) for binary in binaries],
        "results": [plain(result) for result in results],
    }
    path.write_text(json.dumps(contents, indent=1, allow_nan=False) + "\n")


def main(argv: Sequence[str]) -> int:
    args = parse_args(argv)
    if args.list:
        for row in args.all_rows:
            print("%-30s %s" % (row.name, row.title))
        return 0
    if not probe.kvm_available() or not probe.ring_available():
        print("bench: needs KVM with a dirty ring, nothing was measured",
              file=sys.stderr)
        return 1
    if not os.access(args.binary, os.X_OK):
        print("bench: no QEMU at %s, run 'make build'" % args.binary,
              file=sys.stderr)
        return 1
    exit_on_signals()

    binaries = [Binary("this", args.binary)] + args.peers
    for binary in binaries:
        try:
            probe.capabilities(binary.path)
        except QEMUMachineError as error:
            print("bench: %s does not run: %s" % (binary.path, error),
                  file=sys.stderr)
            return 1
    path = args.output or (
        probe.build_dir() / "bench" / (args.name + ".json"))
    results = []
    for number, row in enumerate(args.selected, 1):
        print("row %d of %d: %s" % (number, len(args.selected), row.title),
              file=sys.stderr, flush=True)
        of_row = []
        for result in measure_row(row, binaries, args.strategies, args.runs):
            of_row.append(result)
            # Each time, so that what is broken off was not for nothing
            save(path, args.scale, binaries, results + of_row)
        if not of_row:
            print("  no binary can do that", file=sys.stderr)
            continue
        results += of_row
        print(row_table(row, of_row) + "\n", flush=True)
    print("results: %s" % path, file=sys.stderr)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
