#
# Throttle simulator: many made-up scenarios in one go
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""What the simulator says of scenarios that are in no file"""

import csv
import os
import subprocess
import tempfile

from typing import Sequence

from throttlesim import search

# A line of figures, by the names of its columns
Row = dict[str, str]

# One scenario's, by policy
Rows = dict[str, Row]


def run(program: str, scenarios: Sequence[search.Scenario],
        policies: Sequence[str]) -> list[Rows]:
    """As many as there are scenarios, in the same order"""
    args = [part for policy in policies for part in ("--policy", policy)]
    with tempfile.TemporaryDirectory() as where:
        for number, scenario in enumerate(scenarios):
            path = os.path.join(where, "%d.ini" % number)
            with open(path, "w", encoding="utf-8") as file:
                file.write(search.text(scenario))
            args.append(path)
        done = subprocess.run([program, "--csv", *args], check=True, text=True,
                              stdout=subprocess.PIPE)
    found: list[Rows] = [{} for _ in scenarios]
    for row in csv.DictReader(done.stdout.splitlines()):
        found[int(row["scenario"])][row["policy"]] = row
    return found
