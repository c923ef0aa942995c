#
# Throttle simulator: when to begin, in random guests
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""
python3 -m throttlesim.firstpass [--seed N] [--count N] PROGRAM

Makes up guests that dirty much of their memory, and migrates each of them three
times: with the engine's rule of when the first pass is cut, and with the same
engine that throttles at once, and only after the first pass.  Prints how much
longer each takes than the shorter of the latter two, and how much more work is
lost than with the cheaper of them.

Often one of them is shorter and the other one cheaper, which is a trade.  The
rule is not to cost the guest more than it saves.  So it is good if it comes
close, in time and in work, to the one that is cheaper.  A guest that sweeps may
have a twin, which has done the same when half of memory is dirty, and then
nothing more.  Where it is good for the guest to begin before that, and for the
twin not to, no rule can be good for both.
"""

import argparse
import dataclasses
import math
import random
import statistics
import sys

from dataclasses import dataclass
from typing import Iterator, Sequence

from throttlesim import batch, search
from throttlesim.series import PAGES_PER_MIB

RULE = "dirty-quota"
AT_ONCE = "at-once"
AFTER = "after-first-pass"
AT_HALF = "at-half"
POLICIES = (RULE, AT_ONCE, AFTER)

# MiB/s, and how long the first pass takes
LINK_MIB = (100, 400)
FIRST_PASS_S = (4, 20)

# What is written to, of all memory, and how fast, of the link
SET_PARTS = (0.2, 1)
RATES = (0.5, 16)
MOST_VCPUS = 8
SWEEP = "sweep"
PATTERNS = (SWEEP, "random")

# vCPUs that sleep as long as they may dirty no more than that, of the link:
# else a migration may never end, whenever vCPUs are throttled.
FLOOR_PART = 0.25

# A fault takes that, or less, so that vCPUs can write at such a rate: what they
# lose by faults is lost whenever they are throttled.
FAULT_NS = 6800
WRITE_NS = 260
ABLE = 1.1

# The goal
LONGER = 1.05
DEARER = 1.1

# Less work is as good as none: what is lost before anybody looks
LEAST_LOST_S = 0.2

# Sets and rates up to which guests are much the same
SET_STEPS = (0.5, 0.8, math.inf)
RATE_STEPS = (2, math.inf)

# The set of a twin, of memory: a bit more than half, up to which it is alike
TWIN_PART = 0.51

SHOWN = 8


@dataclass(frozen=True)
class Guest:
    """One that is made up: sizes in MiB, a rate of the link, for all vCPUs"""
    link_mib: float
    ram_mib: float
    set_part: float
    rate: float
    vcpus: int
    pattern: str
    ring: int

    @classmethod
    def made_up(cls, rand: random.Random) -> "Guest":
        link_mib = search.log_uniform(rand, *LINK_MIB)
        most = FLOOR_PART * link_mib * PAGES_PER_MIB / search.FLOOR_PPS
        return cls(link_mib, link_mib * search.log_uniform(rand,
                                                           *FIRST_PASS_S),
                   rand.uniform(*SET_PARTS), search.log_uniform(rand, *RATES),
                   rand.randint(1, min(int(most), MOST_VCPUS)),
                   rand.choice(PATTERNS), 2 ** rand.randint(10, 16))

    def scenario(self) -> search.Scenario:
        each_mib = self.ram_mib * self.set_part / self.vcpus
        each_pps = self.rate * self.link_mib * PAGES_PER_MIB / self.vcpus
        fault_ns = min(1e9 / (each_pps * ABLE) - WRITE_NS, FAULT_NS)
        return {
            "vm": {"title": "made up", "ram-mib": "%.0f" % self.ram_mib,
                   "ring": str(self.ring)},
            "link": {"mib": "%.1f" % self.link_mib},
            "machine": {"fault-ns": "%.0f" % max(fault_ns, 1),
                        "write-ns": str(WRITE_NS)},
            "vcpus writer": {"count": str(self.vcpus),
                             "set-mib": "%.2f" % each_mib,
                             "rate": "%.0f" % each_pps,
                             "pattern": self.pattern}}


@dataclass(frozen=True)
class Price:
    """
    Of a migration: how long it took, or until it was given up, and what vCPUs
    did not get done
    """
    ended: bool
    total_s: float
    lost_s: float

    @classmethod
    def of(cls, row: batch.Row) -> "Price":
        return cls(row["completed"] == "1", float(row["total_s"]),
                   max(float(row["lost_s"]), LEAST_LOST_S))

    @property
    def cost(self) -> tuple[float, float]:
        """What to compare by: work, and if that is the same, time"""
        return self.lost_s, self.total_s

    def beats(self, other: "Price") -> bool:
        return self.total_s <= other.total_s and self.lost_s <= other.lost_s

    def near(self, other: "Price") -> bool:
        """Is it no more than the goal above the other?"""
        return (self.total_s <= other.total_s * LONGER and
                self.lost_s <= other.lost_s * DEARER)


@dataclass(frozen=True)
class Outcome:
    """What came of a guest with each policy"""
    guest: Guest
    prices: dict[str, Price]

    @property
    def trade(self) -> bool:
        """One of the two takes less time, the other one less work"""
        one, other = self.prices[AT_ONCE], self.prices[AFTER]
        return not one.beats(other) and not other.beats(one)

    @property
    def cheaper(self) -> Price:
        return min(self.prices[AT_ONCE], self.prices[AFTER],
                   key=lambda price: price.cost)

    def good(self, policy: str) -> bool:
        return self.prices[policy].near(self.cheaper)

    def longer(self, policy: str) -> float:
        """How many times as long as the shorter one"""
        return self.prices[policy].total_s / min(
            self.prices[other].total_s for other in (AT_ONCE, AFTER))

    def dearer(self, policy: str) -> float:
        """How many times what the cheaper one costs"""
        return self.prices[policy].lost_s / min(
            self.prices[other].lost_s for other in (AT_ONCE, AFTER))

    @property
    def off(self) -> float:
        """How far the rule is from the cheaper one, of the goal"""
        rule, other = self.prices[RULE], self.cheaper
        return max(rule.total_s / other.total_s / LONGER,
                   rule.lost_s / other.lost_s / DEARER)


def outcomes(program: str, guests: Sequence[Guest],
             policies: Sequence[str] = POLICIES) -> list[Outcome]:
    if not guests:
        return []
    found = batch.run(program, [guest.scenario() for guest in guests],
                      policies)
    return [Outcome(guest, {policy: Price.of(row)
                            for policy, row in rows.items()})
            for guest, rows in zip(guests, found)]


def has_twin(guest: Outcome, twin: Outcome) -> bool:
    """
    Is it good for one to begin before half is dirty, and not for the other?
    To begin later is no better for the guest, nor earlier for the twin.
    """
    return not (guest.good(AT_HALF) or guest.good(AFTER) or
                twin.good(AT_HALF) or twin.good(AT_ONCE))


def with_twin(program: str, missed: Sequence[Outcome]) -> list[Outcome]:
    """Those for which no rule can be good that is so for their twins"""
    guests = [one.guest for one in missed if one.guest.pattern == SWEEP and
              one.guest.set_part > TWIN_PART]
    policies = (AT_ONCE, AT_HALF, AFTER)
    twins = [dataclasses.replace(guest, set_part=TWIN_PART) for guest in guests]
    return [one for one, twin in zip(outcomes(program, guests, policies),
                                     outcomes(program, twins, policies))
            if has_twin(one, twin)]


TABLE = "%-33s %7s %8s %6s %6s %8s %6s %7s %5s"
HEAD = (TABLE % ("", "", "time, of", "the", "least", "work, of", "the", "least",
                 "")).rstrip() + "\n" + TABLE % (
    "", "guests", "median", "worst", "> 5 %", "median", "worst", "> 10 %",
    "good")


def _part(good: Sequence[bool]) -> str:
    return "%.0f%%" % (100 * sum(good) / len(good))


def line(what: str, of: Sequence[Outcome], policy: str) -> str:
    times = [one.longer(policy) for one in of]
    costs = [one.dearer(policy) for one in of]
    return TABLE % (
        what, len(of), "%.2f" % statistics.median(times), "%.2f" % max(times),
        _part([one > LONGER for one in times]),
        "%.2f" % statistics.median(costs), "%.2f" % max(costs),
        _part([one > DEARER for one in costs]),
        _part([one.good(policy) for one in of]))


def kinds(of: Sequence[Outcome]) -> Iterator[tuple[str, list[Outcome]]]:
    """Those that are much the same"""
    for pattern in PATTERNS:
        for least_part, most_part in zip((0, *SET_STEPS), SET_STEPS):
            for least, most in zip((0, *RATE_STEPS), RATE_STEPS):
                these = [one for one in of if one.guest.pattern == pattern and
                         least_part <= one.guest.set_part < most_part and
                         least <= one.guest.rate < most]
                if these:
                    yield "%s, W/R %g..%g, %g..%g * B" % (
                        pattern, least_part, most_part, least, most), these


def against(of: Sequence[Outcome], policy: str) -> str:
    """The rule on the whole: means of ratios, so that 2 and 1/2 are 1"""
    return ("The rule takes %.2f times as long as %s, and costs %.2f times as"
            " much work" % (
                statistics.geometric_mean(
                    one.prices[RULE].total_s / one.prices[policy].total_s
                    for one in of), policy,
                statistics.geometric_mean(
                    one.prices[RULE].lost_s / one.prices[policy].lost_s
                    for one in of)))


def worst(of: Sequence[Outcome]) -> Iterator[str]:
    """Those that are most off, with what each policy costs"""
    for one in sorted(of, key=lambda one: -one.off)[:SHOWN]:
        guest = one.guest
        yield "%5.2f %-6s W/R %.2f, %5.2f * B, %d vCPUs, R/B %4.1f s:%s" % (
            one.off, guest.pattern, guest.set_part, guest.rate, guest.vcpus,
            guest.ram_mib / guest.link_mib, "".join(
                "  %.1f/%.1f" % (price.total_s, price.lost_s)
                for price in one.prices.values()))


def report(of: Sequence[Outcome]) -> Iterator[str]:
    yield HEAD
    for policy in POLICIES:
        yield line(policy, of, policy)
    yield ""
    for what, these in kinds(of):
        yield line(what, these, RULE)
    yield ""
    yield against(of, AT_ONCE)
    yield against(of, AFTER)
    yield "%d of all %d migrations never end" % (
        sum(not price.ended for one in of for price in one.prices.values()),
        len(of) * len(POLICIES))
    for what, these in (
            ("that are a trade", [one for one in of if one.trade]),
            ("in which one is better", [one for one in of if not one.trade])):
        yield "It is good in %d of %d %s" % (
            sum(one.good(RULE) for one in these), len(these), what)
    yield "The worst, by how far, and seconds / work lost of %s:" % (
        ", ".join(POLICIES))
    yield from worst(of)


def main() -> int:
    parser = argparse.ArgumentParser(prog="throttlesim.firstpass")
    parser.add_argument("program")
    parser.add_argument("--seed", type=int, default=search.FIRST_SEED)
    parser.add_argument("--count", type=int, default=400)
    args = parser.parse_args()

    rand = random.Random(args.seed)
    guests = [Guest.made_up(rand) for _ in range(args.count)]
    found = outcomes(args.program, guests)
    for said in report(found):
        print(said)
    missed = [one for one in found if not one.good(RULE)]
    print("Of the %d in which it is not, no rule can be in %d" % (
        len(missed), len(with_twin(args.program, missed))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
