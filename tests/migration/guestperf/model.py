#
# Migration test model: what is possible
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""
What a pre-copy migration can reach, whoever slows the guest down.

"What is possible" of docs/devel/dirty-throttle.rst derives it.
All is in pages and seconds.
"""

import math

from dataclasses import dataclass
from typing import Sequence

from stressvm.measure import MIB
from stressvm.stressguest import PAGE_SIZE, Role

# What a page needs in the stream besides its content: its address and flags
PAGE_HEADER_BYTES = 8

# The part of the link that writers may take: the default of migration
# parameter throttle-trigger-threshold
THRESHOLD = 0.5

# The least part that a deadline leaves them: with less, a migration is hardly
# shorter
LEAST = 0.05

# With so much of memory dirty the first pass is in vain, and it is better to
# begin with throttling at once
IN_VAIN = 0.7


@dataclass(frozen=True)
class Writer:
    """Somebody who writes a set of pages again and again"""
    pages: int
    rate: float


@dataclass(frozen=True)
class Model:
    link: float                 # Pages per second
    ram: int                    # Pages in use
    writers: Sequence[Writer]
    downtime: float             # Seconds
    deadline: float = 0         # Seconds, 0 for none

    @property
    def first_pass(self):
        """The first pass over memory: no migration takes less"""
        return self.ram / self.link

    @property
    def demand(self):
        """What the writers dirty per second if nobody slows them down"""
        return sum(writer.rate for writer in self.writers)

    @property
    def dirty(self):
        """What is dirty after the first pass"""
        return sum(min(writer.pages, writer.rate * self.first_pass)
                   for writer in self.writers)

    @property
    def backlog(self):
        """What is dirty after the first pass, but may not be"""
        return max(self.dirty - self.link * self.downtime, 0)

    def time(self, kept):
        """
        The least time until the switch-over

        @kept: what the writers dirty per second after the first pass
        """
        if not self.backlog:
            return self.first_pass
        if kept >= self.link:
            return math.inf
        return self.first_pass + self.backlog / (self.link - kept)

    @property
    def tight(self):
        """Whether the deadline is too soon to begin after the first pass"""
        return 0 < self.deadline < self.time(LEAST * self.link)

    @property
    def wanted_kept(self):
        """What the strategy lets them dirty per second, at the most"""
        if not self.deadline:
            return THRESHOLD * self.link
        if self.tight:
            return LEAST * self.link
        return self.link - self.backlog / (self.deadline - self.first_pass)

    @property
    def possible_kept(self):
        """What the writers may dirty per second after the first pass"""
        if not self.backlog:
            return self.demand
        return min(self.demand, self.wanted_kept)

    @property
    def possible_time(self):
        """The least time until the switch-over in which they may do so"""
        after = self.time(self.possible_kept)
        if self.dirty < IN_VAIN * self.ram and not self.deadline:
            return after
        # Half of what they dirty is still to be sent anyway
        at_once = ((self.ram - self.link * self.downtime) /
                   (self.link - self.possible_kept / 2))
        return min(after, max(at_once, self.first_pass, self.deadline))


def pages_of(role):
    """How many pages one vCPU's region has"""
    if role.kind == "hot":
        return role.pages or 256
    return (role.mb or 0) * MIB // PAGE_SIZE


def writers_of(words, rates):
    """Index and Writer of each vCPU that writes"""
    writers = []
    for index, (word, rate) in enumerate(zip(words, rates)):
        role = Role.parse(word)
        if role.kind in ("writer", "hot", "burst") and rate:
            writers.append((index, Writer(pages_of(role), rate)))
    return writers


def model_of(scenario, words, rates):
    """
    The model of a scenario with the stress guest

    @words: what each vCPU does
    @rates: how many pages each of them visits per second if left alone
    """
    return Model(
        scenario._bandwidth * MIB / (PAGE_SIZE + PAGE_HEADER_BYTES),
        sum(pages_of(Role.parse(word)) for word in words),
        tuple(writer for _, writer in writers_of(words, rates)),
        scenario._downtime / 1000,
        scenario.deadline())
