#
# Dirty throttle tests: what the guest does, and who slows it down
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

from stressvm import probe
from stressvm.stressguest import Role
from stressvm.vm import RAM_MB

# The writer of most scenarios dirties 195 MiB/s, twice what the link carries
WRITER = Role("writer", rate=50000, mb=200)
READER = Role("reader", mb=200)


@dataclass(frozen=True)
class Throttle:
    """A way to slow the guest down during a migration"""
    name: str
    # Migration capabilities; a binary must know them all
    capabilities: Sequence[str] = ()
    # More of them that it must know, though they stay off
    knows: Sequence[str] = ()
    # Migration parameters, before the limit is put into those that take it
    parameters: Mapping[str, Any] = field(default_factory=dict)
    # The limit is set by command before the migration begins
    by_command: bool = False
    # The limit goes into this parameter
    limit_parameter: str | None = None
    # The reaper's interval comes from a gear table; see gears-shim.c
    gears: bool = False

    def works_with(self, binary: str) -> bool:
        return all(probe.has_capability(binary, name)
                   for name in (*self.capabilities, *self.knows))

    def all_parameters(self, limit: int | None) -> dict[str, Any]:
        parameters = dict(self.parameters)
        if self.limit_parameter and limit is not None:
            parameters[self.limit_parameter] = limit
        return parameters


NONE = Throttle("no throttle")
COMMAND = Throttle("limit by command", by_command=True)
DIRTY_LIMIT = Throttle("dirty-limit", capabilities=("dirty-limit",),
                       limit_parameter="vcpu_dirty_limit")
DIRTY_QUOTA = Throttle("dirty-quota", capabilities=("dirty-quota",))
AUTO_CONVERGE = Throttle("auto-converge", capabilities=("auto-converge",))

REAPER_1S = Throttle("1 s reaper")
# The table shortens the wait of this series' reaper; others wait otherwise
REAPER_GEARS = Throttle("gears", knows=("adaptive-reaper",), gears=True)
REAPER_ADAPTIVE = Throttle("adaptive", capabilities=("adaptive-reaper",))


@dataclass(frozen=True)
class Scenario:
    """A guest and a link; @limit, in MiB/s, for throttles that need one"""
    roles: Sequence[Role] = (WRITER, READER)
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
