#
# Dirty throttle tests: who slows the guest down, and how
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

from stressvm import probe


@dataclass(frozen=True)
class Strategy:
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
    # vCPUs tell a device that has these properties what they do
    pvsched: str | None = None
    # The vCPUs' threads have a real-time priority for good
    static_rt: bool = False

    def works_with(self, binary: str) -> bool:
        return (all(probe.has_capability(binary, name)
                    for name in (*self.capabilities, *self.knows)) and
                (self.pvsched is None or probe.has_device(binary, "pvsched")))

    def device_args(self) -> tuple[str, ...]:
        if self.pvsched is None:
            return ()
        return ("-device", ",".join(filter(None, ("pvsched", self.pvsched))))

    def all_parameters(self, limit: int | None) -> dict[str, Any]:
        parameters = dict(self.parameters)
        if self.limit_parameter and limit is not None:
            parameters[self.limit_parameter] = limit
        return parameters


NONE = Strategy("no throttle")
COMMAND = Strategy("limit by command", by_command=True)
DIRTY_LIMIT = Strategy("dirty-limit", capabilities=("dirty-limit",),
                       limit_parameter="vcpu_dirty_limit")
DIRTY_QUOTA = Strategy("dirty-quota", capabilities=("dirty-quota",))
BOTH = Strategy("dirty-quota, auto-converge",
                capabilities=("dirty-quota", "auto-converge"))
AUTO_CONVERGE = Strategy("auto-converge", capabilities=("auto-converge",))


def with_deadline(seconds: int) -> Strategy:
    return Strategy("dirty-quota, in %d s" % seconds,
                    capabilities=("dirty-quota",),
                    parameters={"dirty_quota_deadline": seconds})


def with_ceiling(percent: int) -> Strategy:
    return Strategy("dirty-quota, ceiling %d %%" % percent,
                    capabilities=("dirty-quota",),
                    parameters={"max_cpu_throttle": percent})


REAPER_1S = Strategy("1 s reaper")
# The table shortens the wait of this series' reaper; others wait otherwise
REAPER_GEARS = Strategy("gears", knows=("adaptive-reaper",), gears=True)
REAPER_ADAPTIVE = Strategy("adaptive", capabilities=("adaptive-reaper",))

UNBOOSTED = Strategy("unboosted")
STATIC_RT = Strategy("static RT", static_rt=True)
BOOSTED = Strategy("pvsched", pvsched="boost=on")
QUOTA_WAITS = Strategy("dirty-quota, pvsched", capabilities=("dirty-quota",),
                       pvsched="")
QUOTA_BOOSTED = Strategy("dirty-quota, pvsched, boost",
                         capabilities=("dirty-quota",), pvsched="boost=on")
