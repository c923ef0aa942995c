#
# Migration test dirty throttle progress
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""
What query-migrate tells of the dirty throttle, at one moment; and when the
migration is over, or has gone to post-copy, the record of it
"""

from guestperf.forecast import RunForecast


class VcpuThrottle(object):

    def __init__(self, index, rate, limit=None, quota=None, debt=0,
                 throttled=0, penalty_time=0, penalties=0,
                 ring_full_exits=0):

        self._index = index
        self._rate = rate # MiB per second
        self._limit = limit # MiB per second, None for no limit
        self._quota = quota # its share, MiB per second; None for none
        self._debt = debt # bytes
        self._throttled = throttled # percentage of the last second
        self._penalty_time = penalty_time # milliseconds
        self._penalties = penalties
        self._ring_full_exits = ring_full_exits

    @classmethod
    def from_info(cls, info):
        return cls(info["cpu-index"],
                   info["rate"],
                   info.get("limit"),
                   info.get("quota"),
                   info["debt"],
                   info["throttled"],
                   info["penalty-time"],
                   info["penalties"],
                   info["ring-full-exits"])

    def serialize(self):
        return {
            "index": self._index,
            "rate": self._rate,
            "limit": self._limit,
            "quota": self._quota,
            "debt": self._debt,
            "throttled": self._throttled,
            "penalty_time": self._penalty_time,
            "penalties": self._penalties,
            "ring_full_exits": self._ring_full_exits,
        }

    @classmethod
    def deserialize(cls, data):
        return cls(**data)


class Throttle(object):

    def __init__(self, mode, phase, bandwidth, budget, device_rate, vcpus,
                 mechanism=None, reason=None, fallback=False, pool=None,
                 expected_time=None, ring_full_exits=0, reaper_interval=None,
                 deadline_missed=None, earliest_time=None, forecast=None):

        self._mode = mode # 'limit', 'quota', or 'limit-and-quota'
        self._phase = phase
        self._bandwidth = bandwidth # MiB per second
        self._budget = budget # MiB per second
        self._device_rate = device_rate # MiB per second
        self._vcpus = vcpus # List of VcpuThrottle
        self._mechanism = mechanism
        self._reason = reason # Why it cannot help, None if it can
        self._fallback = fallback # Whether auto-converge has taken over
        self._pool = pool # bytes, None without shares
        self._expected_time = expected_time # milliseconds, None for never
        self._ring_full_exits = ring_full_exits
        self._reaper_interval = reaper_interval # milliseconds
        # Whether that is what will become of the deadline, None for none
        self._deadline_missed = deadline_missed
        # When, if so, it can be; milliseconds, None if nobody knows
        self._earliest_time = earliest_time
        self._forecast = forecast # RunForecast, None if nobody knows

    @classmethod
    def from_info(cls, info):
        """From query-migrate's answer; None if there is no throttle"""
        info = info.get("dirty-throttle")
        if info is None:
            return None
        return cls(info["mode"],
                   info["phase"],
                   info["bandwidth"],
                   info["budget"],
                   info["device-rate"],
                   [VcpuThrottle.from_info(vcpu) for vcpu in info["vcpus"]],
                   info.get("mechanism"),
                   info.get("reason"),
                   info["fallback"],
                   info.get("pool"),
                   info.get("expected-time"),
                   info["ring-full-exits"],
                   info.get("reaper", {}).get("interval"),
                   info.get("deadline-missed"),
                   info.get("earliest-time"),
                   RunForecast.from_info(info.get("forecast")))

    def serialize(self):
        return {
            "mode": self._mode,
            "phase": self._phase,
            "bandwidth": self._bandwidth,
            "budget": self._budget,
            "device_rate": self._device_rate,
            "vcpus": [vcpu.serialize() for vcpu in self._vcpus],
            "mechanism": self._mechanism,
            "reason": self._reason,
            "fallback": self._fallback,
            "pool": self._pool,
            "expected_time": self._expected_time,
            "ring_full_exits": self._ring_full_exits,
            "reaper_interval": self._reaper_interval,
            "deadline_missed": self._deadline_missed,
            "earliest_time": self._earliest_time,
            "forecast": self._forecast and self._forecast.serialize(),
        }

    @classmethod
    def deserialize(cls, data):
        if data is None:
            return None
        fields = dict(data)
        fields["vcpus"] = [VcpuThrottle.deserialize(vcpu)
                           for vcpu in data["vcpus"]]
        fields["forecast"] = RunForecast.deserialize(data.get("forecast"))
        return cls(**fields)


class VcpuRecord(object):
    """What a migration took from a vCPU"""

    def __init__(self, index, penalty_time, penalties, longest_penalty,
                 lowest_rate=None):

        self._index = index
        self._penalty_time = penalty_time # milliseconds
        self._penalties = penalties
        self._longest_penalty = longest_penalty # milliseconds
        self._lowest_rate = lowest_rate # MiB per second, None if never slowed

    @classmethod
    def from_info(cls, info):
        return cls(info["cpu-index"],
                   info["penalty-time"],
                   info["penalties"],
                   info["longest-penalty"],
                   info.get("lowest-rate"))

    def serialize(self):
        return {
            "index": self._index,
            "penalty_time": self._penalty_time,
            "penalties": self._penalties,
            "longest_penalty": self._longest_penalty,
            "lowest_rate": self._lowest_rate,
        }

    @classmethod
    def deserialize(cls, data):
        return cls(**data)


class ThrottleChange(object):
    """What the throttle made of a migration, from some time on"""

    def __init__(self, time, phase, reason=None, fallback=False,
                 deadline_missed=False):

        self._time = time # milliseconds since the migration began
        self._phase = phase
        self._reason = reason # Why it could not help, None if it could
        self._fallback = fallback # Whether auto-converge had taken over
        self._deadline_missed = deadline_missed

    @classmethod
    def from_info(cls, info):
        return cls(info["time"],
                   info["phase"],
                   info.get("reason"),
                   info["fallback"],
                   info["deadline-missed"])

    def serialize(self):
        return {
            "time": self._time,
            "phase": self._phase,
            "reason": self._reason,
            "fallback": self._fallback,
            "deadline_missed": self._deadline_missed,
        }

    @classmethod
    def deserialize(cls, data):
        return cls(**data)


class ThrottleRecord(object):

    def __init__(self, mode, changes, vcpus, mechanism=None,
                 throttled_after=None):

        self._mode = mode # 'limit', 'quota', or 'limit-and-quota'
        self._changes = changes # List of ThrottleChange
        self._vcpus = vcpus # List of VcpuRecord
        self._mechanism = mechanism
        # When throttling began, milliseconds; None if it never did
        self._throttled_after = throttled_after

    @classmethod
    def from_info(cls, info):
        """From query-migrate's answer; None if there is no record"""
        info = info.get("dirty-throttle-record")
        if info is None:
            return None
        return cls(info["mode"],
                   [ThrottleChange.from_info(change)
                    for change in info["changes"]],
                   [VcpuRecord.from_info(vcpu) for vcpu in info["vcpus"]],
                   info.get("mechanism"),
                   info.get("throttled-after"))

    def serialize(self):
        return {
            "mode": self._mode,
            "changes": [change.serialize() for change in self._changes],
            "vcpus": [vcpu.serialize() for vcpu in self._vcpus],
            "mechanism": self._mechanism,
            "throttled_after": self._throttled_after,
        }

    @classmethod
    def deserialize(cls, data):
        if data is None:
            return None
        fields = dict(data)
        fields["changes"] = [ThrottleChange.deserialize(change)
                             for change in data["changes"]]
        fields["vcpus"] = [VcpuRecord.deserialize(vcpu)
                           for vcpu in data["vcpus"]]
        return cls(**fields)
