#
# Migration test reports: what is written is read again
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import inspect
import unittest

from guestperf.forecast import RunForecast
from guestperf.hardware import Hardware
from guestperf.progress import Progress, ProgressStats
from guestperf.scenario import Scenario
from guestperf.throttle import Throttle, ThrottleRecord

# As query-dirty-forecast has it, and query-migrate
FORECAST_INFO = {
    "strategy": "dirty-quota-deadline", "ends": True, "total-time": 7610,
    "least-time": 7200, "most-time": 8020, "downtime": 274,
    "throttled-time": 3420, "deadline-missed": False,
    "slowed": [{"cpu-index": 1, "share": 25.6}, {"share": 50.5}],
}
NEVER_INFO = {"strategy": "none", "ends": False, "slowed": []}

# As query-migrate has it
INFO = {
    "status": "active",
    "dirty-throttle": {
        "mode": "quota", "mechanism": "dirty-ring", "phase": "cannot-help",
        "phase-time": 1843, "reason": "floor", "fallback": True,
        "bandwidth": 95.5, "budget": 47.75, "device-rate": 0.5,
        "pool": 4096, "expected-time": 2103, "ring-full-exits": 12,
        "deadline-missed": True, "earliest-time": 9107,
        "forecast": FORECAST_INFO,
        "reaper": {"interval": 250, "reaps": 3, "pages": 9, "new-pages": 5,
                   "time": 70},
        "vcpus": [{"cpu-index": 1, "rate": 45.9, "limit": 25, "quota": 46.7,
                   "debt": 65536, "throttled": 71.5, "penalty-time": 1301,
                   "penalties": 167, "ring-full-exits": 12}],
    },
}

# When the migration is over
RECORD_INFO = {
    "status": "completed",
    "dirty-throttle-record": {
        "mode": "quota", "mechanism": "dirty-ring", "throttled-after": 352,
        "changes": [
            {"time": 0, "phase": "first-pass", "fallback": False,
             "deadline-missed": False},
            {"time": 4101, "phase": "cannot-help", "reason": "ceiling",
             "fallback": True, "deadline-missed": True}],
        "vcpus": [
            {"cpu-index": 1, "penalty-time": 4254, "penalties": 323,
             "longest-penalty": 32, "lowest-rate": 3.25},
            {"cpu-index": 2, "penalty-time": 5, "penalties": 6,
             "longest-penalty": 7}],
    },
}

STATS = ProgressStats(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)


def fields_apart(cls, first):
    """An object whose fields all differ from each other and their defaults"""
    names = inspect.signature(cls).parameters
    return {name: first + i for i, name in enumerate(names)}


class SerializeTest(unittest.TestCase):
    def check_same(self, cls, fields):
        """Serialize and deserialize change nothing and drop nothing"""
        there = cls(**fields)
        back = cls.deserialize(there.serialize())
        self.assertEqual(vars(back), vars(there))
        self.assertEqual(sorted(map(repr, vars(back).values())),
                         sorted(map(repr, fields.values())))

    def test_hardware(self):
        self.check_same(Hardware, fields_apart(Hardware, 100))

    def test_scenario(self):
        self.check_same(Scenario, fields_apart(Scenario, 10000))

    def test_throttle(self):
        there = Throttle.from_info(INFO)
        back = Throttle.deserialize(there.serialize())
        self.assertEqual(back.serialize(), there.serialize())
        self.assertEqual(vars(back._vcpus[0]), vars(there._vcpus[0]))

    def test_forecast(self):
        for info in FORECAST_INFO, NEVER_INFO:
            there = RunForecast.from_info(info)
            back = RunForecast.deserialize(there.serialize())
            self.assertEqual([vars(vcpu) for vcpu in back._slowed],
                             [vars(vcpu) for vcpu in there._slowed])
            self.assertEqual({**vars(back), "_slowed": None},
                             {**vars(there), "_slowed": None})
        self.assertIsNone(RunForecast.deserialize(None))

    def test_record(self):
        there = ThrottleRecord.from_info(RECORD_INFO)
        back = ThrottleRecord.deserialize(there.serialize())
        self.assertEqual((back._mode, back._mechanism, back._throttled_after),
                         ("quota", "dirty-ring", 352))
        for name in "_changes", "_vcpus":
            self.assertEqual(
                [vars(entry) for entry in getattr(back, name)],
                [vars(entry) for entry in getattr(there, name)])

    def test_progress(self):
        there = Progress("active", STATS, 1.5, 100, 101, 102, 103, 104, 105,
                         106, Throttle.from_info(INFO))
        data = there.serialize()
        self.assertEqual(data["throttle"]["vcpus"][0]["penalty_time"], 1301)
        self.assertEqual(Progress.deserialize(data).serialize(), data)
        self.assertEqual(
            Progress.deserialize(data)._dirty_limit_ring_full_time, 106)


class QueryMigrateTest(unittest.TestCase):
    def test_members(self):
        throttle = Throttle.from_info(INFO)
        self.assertEqual(
            (throttle._mode, throttle._mechanism, throttle._phase,
             throttle._reason, throttle._fallback, throttle._bandwidth,
             throttle._budget, throttle._device_rate, throttle._pool,
             throttle._expected_time, throttle._ring_full_exits,
             throttle._reaper_interval, throttle._deadline_missed,
             throttle._earliest_time),
            ("quota", "dirty-ring", "cannot-help", "floor", True, 95.5,
             47.75, 0.5, 4096, 2103, 12, 250, True, 9107))
        self.assertEqual(throttle._forecast._total_time, 7610)
        self.assertEqual(
            list(throttle._vcpus[0].serialize().values()),
            [1, 45.9, 25, 46.7, 65536, 71.5, 1301, 167, 12])

    def test_optional_members(self):
        info = dict(INFO["dirty-throttle"])
        for name in ("mechanism", "reason", "pool", "expected-time",
                     "reaper", "deadline-missed", "earliest-time",
                     "forecast"):
            del info[name]
        info["vcpus"] = [{key: value for key, value in vcpu.items()
                          if key not in ("limit", "quota")}
                         for vcpu in info["vcpus"]]
        throttle = Throttle.from_info({"dirty-throttle": info})
        self.assertIsNone(throttle._reaper_interval)
        self.assertIsNone(throttle._pool)
        self.assertIsNone(throttle._deadline_missed)
        self.assertIsNone(throttle._earliest_time)
        self.assertIsNone(throttle._forecast)
        self.assertIsNone(throttle._vcpus[0]._quota)

    def test_forecast(self):
        forecast = RunForecast.from_info(FORECAST_INFO)
        self.assertEqual(
            [(vcpu._index, vcpu._share) for vcpu in forecast._slowed],
            [(1, 25.6), (None, 50.5)])
        self.assertEqual(
            [value for name, value in forecast.serialize().items()
             if name != "slowed"],
            ["dirty-quota-deadline", True, 7610, 7200, 8020, 274, 3420,
             False])

    def test_forecast_of_a_migration_that_never_ends(self):
        forecast = RunForecast.from_info(NEVER_INFO)
        self.assertEqual(
            [value for name, value in forecast.serialize().items()
             if name != "slowed"],
            ["none", False, None, None, None, None, None, None])

    def test_no_throttle(self):
        self.assertIsNone(Throttle.from_info({"status": "active"}))

    def test_record(self):
        record = ThrottleRecord.from_info(RECORD_INFO)
        self.assertEqual(
            (record._mode, record._mechanism, record._throttled_after),
            ("quota", "dirty-ring", 352))
        self.assertEqual(
            [list(change.serialize().values()) for change in record._changes],
            [[0, "first-pass", None, False, False],
             [4101, "cannot-help", "ceiling", True, True]])
        self.assertEqual(
            [list(vcpu.serialize().values()) for vcpu in record._vcpus],
            [[1, 4254, 323, 32, 3.25], [2, 5, 6, 7, None]])

    def test_record_of_a_migration_that_was_never_throttled(self):
        info = dict(RECORD_INFO["dirty-throttle-record"])
        for name in ("mechanism", "throttled-after"):
            del info[name]
        record = ThrottleRecord.from_info({"dirty-throttle-record": info})
        self.assertIsNone(record._mechanism)
        self.assertIsNone(record._throttled_after)

    def test_no_record(self):
        self.assertIsNone(ThrottleRecord.from_info(INFO))


class OlderReportTest(unittest.TestCase):
    """What QEMU 7.2's own guestperf wrote still loads"""

    HARDWARE = {"cpus": 2, "mem": 4, "src_mem_bind": ["0"],
                "dst_mem_bind": ["1"], "src_cpu_bind": ["2"],
                "dst_cpu_bind": ["3"], "prealloc_pages": True,
                "huge_pages": False, "locked_pages": True}
    SCENARIO = {"name": "old", "downtime": 400, "bandwidth": 100,
                "max_iters": 20, "max_time": 60, "pause": True,
                "pause_iters": 3, "post_copy": False, "post_copy_iters": 4,
                "auto_converge": True, "auto_converge_step": 7,
                "compression_mt": False, "compression_mt_threads": 2,
                "compression_xbzrle": True, "compression_xbzrle_cache": 9,
                "multifd": False, "multifd_channels": 8}
    PROGRESS = {"status": "completed", "ram": STATS.serialize(), "now": 2.5,
                "duration": 1, "downtime": 2, "downtime_expected": 3,
                "setup_time": 4, "throttle_pcent": 5}

    def check_loads(self, cls, data):
        """What was there is unchanged, what was not is at its default"""
        loaded = cls.deserialize(data).serialize()
        self.assertEqual({key: loaded[key] for key in data}, data)
        return {key: loaded[key] for key in loaded if key not in data}

    def test_hardware(self):
        self.assertEqual(self.check_loads(Hardware, self.HARDWARE),
                         {"dirty_ring_size": 0})

    def test_scenario(self):
        added = self.check_loads(Scenario, self.SCENARIO)
        self.assertEqual(
            {key: added[key] for key in (
                "dirty_limit", "dirty_quota", "dirty_quota_deadline",
                "adaptive_reaper")},
            {"dirty_limit": False, "dirty_quota": False,
             "dirty_quota_deadline": 0, "adaptive_reaper": False})

    def test_progress(self):
        self.assertIsNone(
            self.check_loads(Progress, self.PROGRESS)["throttle"])

    def test_throttle_before_there_were_deadlines_and_forecasts(self):
        data = Throttle.from_info(INFO).serialize()
        for name in ("deadline_missed", "earliest_time", "forecast"):
            del data[name]
        throttle = Throttle.deserialize(data)
        self.assertIsNone(throttle._deadline_missed)
        self.assertIsNone(throttle._earliest_time)
        self.assertIsNone(throttle._forecast)


if __name__ == "__main__":
    unittest.main()
