#
# Dirty throttle tests: the guest of an experiment, and its link
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import math

from dataclasses import dataclass, replace
from typing import Sequence

from stressvm.stressguest import Role
from stressvm.vm import RAM_MB

# The writer of most testbeds dirties 195 MiB/s, twice what the link carries
LARGE_WRITER = Role("writer", rate=50000, mb=200)
LARGE_READER = Role("reader", mb=200)

# Where the vCPUs' regions begin. What the guest has below, it always has, and
# it is empty but for some pages.
_BELOW_MB = 16


def _part(number: int | None, divisor: int) -> int | None:
    """0 is no limit, and so is None; nothing else may become that"""
    return number and max(1, round(number / divisor))


def _smaller(role: Role, divisor: int) -> Role:
    return replace(role, rate=_part(role.rate, divisor),
                   mb=_part(role.mb, divisor),
                   pages=_part(role.pages, divisor))


@dataclass(frozen=True)
class Testbed:
    """A guest and a link; @limit, in MiB/s, for strategies that need one"""
    roles: Sequence[Role] = (LARGE_WRITER, LARGE_READER)
    ring: int = 4096
    limit: int | None = None
    link: float = 100
    downtime: int = 300
    # (seconds after the start, new link)
    link_changes: Sequence[tuple[float, float]] = ()
    ram_mb: int = RAM_MB
    # KVM writes into the guest's memory
    pv: bool = False
    # A device that shows a picture, and whether anybody looks at it
    display: str | None = None
    viewed: bool = False
    # KVM's statistics are withheld from QEMU
    withheld: bool = False
    # More arguments of both QEMUs
    args: Sequence[str] = ()

    def scaled(self, divisor: int) -> "Testbed":
        """
        The same @divisor times smaller and slower, for a machine that is so

        Times are as before, and so is the ring.
        """
        if self.limit and self.limit % divisor:
            raise ValueError("a limit of %d MB/s has no %dth part in MB/s" %
                             (self.limit, divisor))
        return replace(
            self,
            roles=tuple(_smaller(role, divisor) for role in self.roles),
            limit=_part(self.limit, divisor), link=self.link / divisor,
            link_changes=tuple((moment, link / divisor)
                               for moment, link in self.link_changes),
            ram_mb=_BELOW_MB +
            math.ceil((self.ram_mb - _BELOW_MB) / divisor))
