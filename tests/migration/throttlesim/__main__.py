#
# Throttle simulator: all scenarios, with all policies
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""
python3 -m throttlesim [--output DIRECTORY] PROGRAM [SCENARIO...]

Prints a table as it gets on, and leaves figures.csv, timeline.csv and
index.html in the directory.
"""

import argparse
import configparser
import csv
import glob
import os
import subprocess
import sys

from throttlesim import page, series

SCENARIOS = os.path.join(os.path.dirname(__file__), "scenarios")


def scenarios() -> list[str]:
    return sorted(glob.glob(os.path.join(SCENARIOS, "*.ini")))


def title(path: str) -> str:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(path)
    return parser["vm"]["title"]


def name(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def shown(row: dict[str, str]) -> str:
    return "%-20s %-16s %8s %9.1f %9.1f %9.1f %9.0f" % (
        row["scenario"], row["policy"],
        "%.2f" % float(row["total_s"]) if row["completed"] == "1" else "never",
        100 * float(row["writer_kept"]), 100 * float(row["reader_kept"]),
        float(row["lost_s"]), float(row["stall_ms"]))


def run(program: str, path: str, timeline: str) -> list[dict[str, str]]:
    done = subprocess.run([program, "--csv", "--timeline", timeline, path],
                          check=True, text=True, stdout=subprocess.PIPE)
    return list(csv.DictReader(done.stdout.splitlines()))


def main() -> int:
    parser = argparse.ArgumentParser(prog="throttlesim")
    parser.add_argument("program")
    parser.add_argument("scenario", nargs="*", default=scenarios())
    parser.add_argument("--output", default="build/sim")
    args = parser.parse_args()

    os.makedirs(args.output, exist_ok=True)
    part = os.path.join(args.output, "part.csv")
    rows: list[dict[str, str]] = []
    runs = {}
    print("%-20s %-16s %8s %9s %9s %9s %9s" % (
        "scenario", "policy", "total s", "writer %", "reader %", "lost s",
        "stall ms"))
    for number, path in enumerate(args.scenario, 1):
        print("# %d of %d: %s" % (number, len(args.scenario), title(path)),
              flush=True)
        found = run(args.program, path, part)
        for row in found:
            print(shown(row), flush=True)
        rows += found
        runs.update(series.read(part))
    os.unlink(part)
    with open(os.path.join(args.output, "figures.csv"), "w", newline="",
              encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    index = os.path.join(args.output, "index.html")
    with open(index, "w", encoding="utf-8") as file:
        file.write(page.document({name(path): title(path)
                                  for path in args.scenario}, rows, runs))
    print("The page is %s" % index)
    return 0


if __name__ == "__main__":
    sys.exit(main())
