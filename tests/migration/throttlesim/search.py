#
# Throttle simulator: a search for scenarios in which a promise is broken
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""
python3 -m throttlesim.search [--seed N] [--seconds N] [--count N] PROGRAM

Makes up scenarios, and has the simulator check each. One that fails is made as
short as it still fails for the same reason, and kept in the directory
found; from there it goes to scenarios, with what it has taught.
"""

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import time

from typing import Callable

# Groups and keys, in order
Scenario = dict[str, dict[str, str]]

FIRST_SEED = 1

# A guest does not migrate at all if devices dirty more than nine tenths of
# what the link carries, in the end in turns of 50 ms with syncs in between:
# then that is no promise
DEVICE_PART = 0.6
TURN_US = 50e3
SYNC_US_PER_MIB = 50 / 1024

# What vCPUs dirty in the model, in pages/s, if they sleep for 99 % of the time,
# and the part of a link that all of them may take: if it is more, a migration
# does not converge, and that is what it says
FLOOR_PPS = 1600
FLOOR_PART = 0.4

PAGES_PER_MIB = 256

MOST_KINDS = 3

# Most take milliseconds
TIMEOUT_SECONDS = 300


def log_uniform(rand: random.Random, low: float, high: float) -> float:
    """As many between 1 and 10 as between 10 and 100"""
    return float(low * (high / low) ** rand.random())


def _vcpus(rand: random.Random, ram: float, link: float) -> dict[str, str]:
    most = link * PAGES_PER_MIB * FLOOR_PART / FLOOR_PPS / MOST_KINDS
    group = {"count": "%d" % log_uniform(rand, 1, max(min(most, 64), 1))}
    each = ram / int(group["count"])
    group["set-mib"] = "%.0f" % max(log_uniform(rand, each / 100, each), 1)
    group["pattern"] = rand.choice(("sweep", "sweep", "random", "reads"))
    if rand.random() < 0.8:
        group["rate"] = "%.0f" % (log_uniform(rand, 0.02, 20) * link *
                                  PAGES_PER_MIB / int(group["count"]))
    if rand.random() < 0.25:
        group["on-ms"] = "%.0f" % log_uniform(rand, 10, 10000)
        group["off-ms"] = "%.0f" % log_uniform(rand, 10, 10000)
        if rand.random() < 0.5:
            group["apart-ms"] = "%.0f" % log_uniform(rand, 1, 1000)
    if group["pattern"] != "reads" and rand.random() < 0.2:
        group["shared"] = "yes"
    if group["pattern"] != "reads" and rand.random() < 0.1:
        group["watched-rate"] = "%.0f" % log_uniform(rand, 10, 1e5)
    return group


def _link(rand: random.Random, link: float) -> dict[str, str]:
    group = {"mib": "%.0f" % link, "capped": rand.choice(("yes", "no"))}
    if rand.random() < 0.3:
        group["jitter-percent"] = "%.0f" % log_uniform(rand, 1, 60)
    if rand.random() < 0.3:
        moment, changes = 0.0, []
        for _ in range(rand.randint(1, 4)):
            moment += log_uniform(rand, 0.5, 20)
            changes.append("%.1f:%.0f" % (moment, max(
                log_uniform(rand, 0.1, 1) * link, 1)))
            if rand.random() < 0.2:
                moment += log_uniform(rand, 0.1, 5)
                changes[-1] = "%.1f:0" % (moment - 0.1)
        changes.append("%.1f:%.0f" % (moment + 5, link))
        group["changes"] = ";".join(changes)
    return group


def made_up(rand: random.Random) -> Scenario:
    link = log_uniform(rand, 100, 20000)
    # So much that the first pass takes one second to two minutes
    ram = link * log_uniform(rand, 1, 120)
    found: Scenario = {
        "vm": {"title": "made up", "ram-mib": "%.0f" % ram},
        "link": _link(rand, link),
        "migration": {"give-up-s": "2000",
                      "downtime-ms": "%.0f" % log_uniform(rand, 100, 1000)},
    }
    mechanism = rand.choice(("ring", "ring", "statistics"))
    found["vm"]["mechanism"] = mechanism
    if mechanism == "ring":
        found["vm"]["ring"] = str(2 ** rand.randint(10, 16))
    for number in range(rand.randint(1, MOST_KINDS)):
        found["vcpus %d" % number] = _vcpus(rand, ram / MOST_KINDS, link)
    if rand.random() < 0.2:
        part = DEVICE_PART / (1 + ram * SYNC_US_PER_MIB / TURN_US)
        found["device disk"] = {
            "set-mib": "%.0f" % max(log_uniform(rand, ram / 1000, ram / 3), 1),
            "rate": "%.0f" % (log_uniform(rand, part / 60, part) * link *
                              PAGES_PER_MIB)}
    return found


def text(scenario: Scenario) -> str:
    return "\n".join(
        "[%s]\n%s" % (group, "".join("%s = %s\n" % key
                                     for key in keys.items()))
        for group, keys in scenario.items())


def wrong(program: str, scenario: Scenario) -> str | None:
    """What is not as promised, without its figures; None if all is"""
    with tempfile.NamedTemporaryFile("w", suffix=".ini",
                                     encoding="utf-8") as file:
        file.write(text(scenario))
        file.flush()
        try:
            done = subprocess.run([program, "--tap", file.name], text=True,
                                  stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, check=False,
                                  timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            return "it takes longer than %d s" % TIMEOUT_SECONDS
    if not done.returncode:
        return None
    said = re.search("^# (.*)", done.stdout, re.MULTILINE)
    # A scenario that is no scenario any more fails otherwise
    return (re.sub("[0-9.]+", "N", said[1]) if said else
            done.stderr or "exit status %d" % done.returncode)


def _shorter(scenario: Scenario) -> list[Scenario]:
    """All that lack one thing"""
    found = []
    for group, keys in scenario.items():
        if group not in ("vm", "link", "migration"):
            found.append({name: value for name, value in scenario.items()
                          if name != group})
        for key in keys:
            # Else one that only takes long never ends
            if key == "give-up-s":
                continue
            found.append({name: {k: v for k, v in value.items()
                                 if (name, k) != (group, key)}
                          for name, value in scenario.items()})
    return found


def minimised(scenario: Scenario,
              fails: Callable[[Scenario], bool]) -> Scenario:
    """Without anything that it does not take to fail"""
    again = True
    while again:
        again = False
        for shorter in _shorter(scenario):
            if fails(shorter):
                scenario, again = shorter, True
                break
    return scenario


def main() -> int:
    parser = argparse.ArgumentParser(prog="throttlesim.search")
    parser.add_argument("program")
    parser.add_argument("--seed", type=int, default=FIRST_SEED)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--count", type=int)
    parser.add_argument("--found", default="build/sim/found")
    args = parser.parse_args()

    end = time.monotonic() + args.seconds
    seed = args.seed
    failed = 0
    while (seed - args.seed < args.count if args.count
           else time.monotonic() < end):
        scenario = made_up(random.Random(seed))
        reason = wrong(args.program, scenario)
        if reason:
            failed += 1
            short = minimised(scenario, lambda one, reason=reason:
                              wrong(args.program, one) == reason)
            os.makedirs(args.found, exist_ok=True)
            path = os.path.join(args.found, "seed-%d.ini" % seed)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text(short))
            print("%s: %s" % (path, reason), flush=True)
        seed += 1
    print("%d scenarios from seed %d on, %d broke a promise" % (
        seed - args.seed, args.seed, failed))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
