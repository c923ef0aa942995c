#
# Dirty throttle tests: the guest of an experiment, and its link
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

from dataclasses import dataclass
from typing import Sequence

from stressvm.stressguest import Role
from stressvm.vm import RAM_MB

# The writer of most testbeds dirties 195 MiB/s, twice what the link carries
LARGE_WRITER = Role("writer", rate=50000, mb=200)
LARGE_READER = Role("reader", mb=200)


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
