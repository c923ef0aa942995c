#
# Throttle simulator: what it predicts, beside what was measured
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""
python3 -m throttlesim.calibrate PROGRAM RESULTS.json...

Simulates each row of `make bench` that migrates a guest to its end, as it is
described there, with the policy of each column, and prints medians of the
measured runs, predictions, and by how much they are off.
"""

import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile

from typing import Any, Sequence

from dirtythrottle.experiments import Converge
from dirtythrottle.rows import ROWS
from dirtythrottle.testbed import Testbed
from stressvm.measure import MIB
from stressvm.stressguest import PAGE_SIZE, Role

# Columns are "BINARY, STRATEGY"
POLICIES = {
    "no throttle": "none",
    "dirty-quota": "dirty-quota",
    "dirty-quota, auto-converge": "dirty-quota",
    "auto-converge": "auto-converge",
    "dirty-limit": "dirty-limit",
}

# Those of other binaries
PEER_POLICIES = {**POLICIES, "dirty-limit": "feedback"}

THIS = "this"

# What the guest has besides the sets of its vCPUs, and where these begin
GUEST_MIB = 5
SETS_FROM_MIB = 16

# Zero pages are not sent, but looked at, and mapped for that: so much of the
# link's time they take, if no row tells better
ZERO_PART = 0.36

HOT_PAGES = 256

NS_PER_S = 1e9

Figures = dict[str, float]


def _set_mib(role: Role) -> float:
    if role.kind == "hot":
        return (role.pages or HOT_PAGES) * PAGE_SIZE / MIB
    return role.mb or 1


def _actor(number: int, role: Role) -> str:
    lines = ["[vcpus %d]" % number, "set-mib = %g" % _set_mib(role)]
    if role.kind == "reader":
        lines.append("pattern = reads")
    if role.rate:
        lines.append("rate = %d" % role.rate)
    return "\n".join(lines)


def _used_mib(testbed: Testbed) -> float:
    return sum(map(_set_mib, testbed.roles)) + GUEST_MIB


def scenario(testbed: Testbed, zero_part: float, write_ns: float | None
             ) -> str:
    """The same as a scenario of the simulator"""
    used = _used_mib(testbed)
    below = SETS_FROM_MIB - GUEST_MIB
    mechanism = ("ring" if testbed.ring else
                 "time" if testbed.withheld else "statistics")
    lines = ["[vm]", "title = row of the bench",
             "ram-mib = %g" % (used + below * zero_part),
             "zero-mib = %g" % (testbed.ram_mb - used - below),
             "mechanism = %s" % mechanism]
    if testbed.ring:
        lines.append("ring = %d" % testbed.ring)
    lines += ["[link]", "mib = %g" % testbed.link]
    if testbed.link_changes:
        lines.append("changes = " + ";".join(
            "%g:%g" % change for change in testbed.link_changes))
    lines += ["[machine]", "cpus = %d" % (os.cpu_count() or 1),
              "zero-ns = %.0f" % max(zero_part * NS_PER_S * PAGE_SIZE /
                                     (testbed.link * MIB), 1)]
    if write_ns:
        lines.append("write-ns = %.0f" % write_ns)
    lines += ["[migration]", "downtime-ms = %d" % testbed.downtime]
    if testbed.limit is not None:
        lines.append("limit-mib = %g" % testbed.limit)
    return "\n".join(lines + [_actor(*role) for role in
                              enumerate(testbed.roles)]) + "\n"


def predicted(program: str, testbed: Testbed, policy: str, zero_part: float,
              write_ns: float | None) -> Figures | None:
    """Total, and what the slowest writer keeps; None if it never ends"""
    with tempfile.NamedTemporaryFile("w", suffix=".ini",
                                     encoding="utf-8") as file:
        file.write(scenario(testbed, zero_part, write_ns))
        file.flush()
        done = subprocess.run([program, "--csv", "--policy", policy,
                               file.name], check=True, text=True,
                              stdout=subprocess.PIPE)
    row = next(csv.DictReader(done.stdout.splitlines()))
    if row["completed"] != "1":
        return None
    return {"total s": float(row["total_s"]),
            "writer kept %": 100 * float(row["writer_kept"])}


def measured(runs: Sequence[dict[str, Any]]) -> Figures | None:
    """Medians; of several writers, the one that keeps least"""
    found = []
    for figures in runs:
        kept = [value for name, value in figures.items()
                if name.endswith(" writer kept %") and value is not None]
        found.append((float("inf") if figures["total s"] == "never"
                      else figures["total s"], min(kept, default=100)))
    total = statistics.median(total for total, _ in found)
    if total == float("inf"):
        return None
    return {"total s": total,
            "writer kept %": statistics.median(kept for _, kept in found)}


def _write_ns(testbed: Testbed, runs: Sequence[dict[str, Any]]
              ) -> float | None:
    """What a write takes a vCPU that nobody slows down, if one showed it"""
    shown = [figures[name] for figures in runs
             for number, role in enumerate(testbed.roles)
             if role.kind == "writer" and not role.rate
             for name in ("%d %s before, pages/s" % (number, role.kind),)
             if figures.get(name)]
    return NS_PER_S / statistics.median(shown) if shown else None


def _zero_part(found: dict[tuple[str, str], list[Any]],
               rows: dict[str, Any]) -> float:
    """Of the link's time, as long as the first pass of throttled rows tells"""
    shown = []
    for (name, column), runs in found.items():
        if name not in rows or POLICIES.get(
                column.split(", ", 1)[1]) != "dirty-quota":
            continue
        testbed = rows[name].testbed
        used = _used_mib(testbed)
        if testbed.ram_mb - used < testbed.link:
            continue
        shown += [(figures["throttled after s"] * testbed.link - used) /
                  (testbed.ram_mb - used)
                  for figures in runs if figures["throttled after s"]]
    return max(statistics.median(shown), 0) if shown else ZERO_PART


def _migrates(testbed: Testbed) -> bool:
    """Whether there is nothing in it that the model leaves out"""
    return not (testbed.pv or testbed.display) and all(
        role.kind in ("writer", "reader", "hot") for role in testbed.roles)


def results(paths: Sequence[str]) -> dict[tuple[str, str], list[Any]]:
    """Figures of all runs by row and column"""
    found: dict[tuple[str, str], list[Any]] = {}
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for result in json.load(file)["results"]:
                if result["error"] is None:
                    found.setdefault((result["row"], result["column"]),
                                     []).append(result["figures"])
    return found


def main() -> int:
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        return 1
    rows = {row.name: row for row in ROWS
            if isinstance(row.experiment, Converge) and _migrates(row.testbed)}
    found = results(sys.argv[2:])
    zero_part = _zero_part(found, rows)
    print("a zero page takes %.0f %% of another's time" % (100 * zero_part))
    print("%-20s %-28s %20s %20s" % ("row", "column", "total s",
                                     "writer keeps %"))
    for (name, column), runs in found.items():
        binary, strategy = column.split(", ", 1)
        policy = (PEER_POLICIES if binary != THIS else POLICIES).get(strategy)
        if name not in rows or policy is None:
            continue
        real = measured(runs)
        testbed = rows[name].testbed
        model = predicted(sys.argv[1], testbed, policy, zero_part,
                          _write_ns(testbed, runs))
        if real is None or model is None:
            print("%-20s %-28s %20s" % (
                name, column, "%s / %s" % ("never" if real is None else "ends",
                                           "never" if model is None
                                           else "ends")))
            continue
        print("%-20s %-28s %s" % (name, column, " ".join(
            "%6.2f /%6.2f %+4.0f %%" % (
                real[key], model[key], 100 * (model[key] / real[key] - 1))
            for key in real)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
