#
# Migration test forecasts: what QEMU tells of a migration beforehand
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""
What query-dirty-forecast tells before a migration, and query-migrate while it
runs, for the strategy that the scenario has. A QEMU that has no such command
is not asked, and nothing is measured.
"""

from stressvm.waiting import wait_until

COMMAND = "query-dirty-forecast"

# What calc-dirty-rate takes, in seconds
MEASURE_LEAST = 1
MEASURE_MOST = 60

# In which a measurement is over, besides the time that it is to take
PATIENCE_SECONDS = 30


class VcpuForecast(object):
    """A vCPU that will be slowed"""

    def __init__(self, share, index=None):

        self._share = share # percentage of its work that it keeps meanwhile
        # None if nothing tells vCPUs apart: it is all of them
        self._index = index

    @classmethod
    def from_info(cls, info):
        return cls(info["share"], info.get("cpu-index"))

    def serialize(self):
        return {
            "share": self._share,
            "index": self._index,
        }

    @classmethod
    def deserialize(cls, data):
        return cls(**data)


class RunForecast(object):

    def __init__(self, strategy, ends, slowed, total_time=None,
                 least_time=None, most_time=None, downtime=None,
                 throttled_time=None, deadline_missed=None):

        self._strategy = strategy # As QEMU names it
        self._ends = ends
        self._slowed = slowed # List of VcpuForecast
        # Milliseconds since the migration begins, None for never
        self._total_time = total_time
        # The same for a guest that dirties a bit less, or more
        self._least_time = least_time
        self._most_time = most_time
        self._downtime = downtime # milliseconds, None if it does not end
        # For how long vCPUs are slowed: milliseconds, None likewise
        self._throttled_time = throttled_time
        self._deadline_missed = deadline_missed # None if there is none

    @classmethod
    def from_info(cls, info):
        """From QEMU's answer; None if it tells nothing"""
        if info is None:
            return None
        return cls(info["strategy"],
                   info["ends"],
                   [VcpuForecast.from_info(vcpu) for vcpu in info["slowed"]],
                   info.get("total-time"),
                   info.get("least-time"),
                   info.get("most-time"),
                   info.get("downtime"),
                   info.get("throttled-time"),
                   info.get("deadline-missed"))

    def serialize(self):
        return {
            "strategy": self._strategy,
            "ends": self._ends,
            "slowed": [vcpu.serialize() for vcpu in self._slowed],
            "total_time": self._total_time,
            "least_time": self._least_time,
            "most_time": self._most_time,
            "downtime": self._downtime,
            "throttled_time": self._throttled_time,
            "deadline_missed": self._deadline_missed,
        }

    @classmethod
    def deserialize(cls, data):
        if data is None:
            return None
        fields = dict(data)
        fields["slowed"] = [VcpuForecast.deserialize(vcpu)
                            for vcpu in data["slowed"]]
        return cls(**fields)


def strategy_of(scenario):
    """QEMU's name for what a scenario does, None if it forecasts no such"""
    if (scenario._dirty_limit or scenario._post_copy or scenario._pause or
            scenario._compression_mt or scenario._compression_xbzrle):
        return None
    if scenario.deadline():
        return "dirty-quota-deadline"
    if scenario._dirty_quota:
        return "dirty-quota"
    return "auto-converge" if scenario._auto_converge else "none"


def is_wanted(vm, scenario):
    """Whether a scenario has a forecast, and this QEMU makes them"""
    return strategy_of(scenario) is not None and COMMAND in {
        command["name"] for command in vm.cmd("query-commands")}


def mode_of(hardware, accel):
    """How to find out most of what the guest dirties"""
    if accel != "kvm":
        # The others are for KVM, and QEMU crashes with them if it has none
        return "page-sampling"
    return "dirty-ring" if hardware._dirty_ring_size else "dirty-bitmap"


def measure(vm, mode, seconds):
    """Let QEMU measure what the guest dirties"""
    seconds = min(max(seconds, MEASURE_LEAST), MEASURE_MOST)
    vm.cmd("calc-dirty-rate", calc_time=seconds, mode=mode)
    wait_until("a measurement", seconds + PATIENCE_SECONDS, lambda:
               vm.cmd("query-dirty-rate")["status"] == "measured")


def ask(vm, scenario):
    """
    What will become of a migration that begins now, after a measurement

    Bandwidth, downtime limit and deadline are those that QEMU was told. None
    if it cannot do here what the scenario wants.
    """
    strategy = strategy_of(scenario)
    return next((RunForecast.from_info(info)
                 for info in vm.cmd(COMMAND)["forecasts"]
                 if info["strategy"] == strategy), None)
