#
# Dirty throttle chaos: the list of what shall happen
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""
What happens in a chaos run is a list of events, made from the seed alone and
before anything happens. An event is a small dictionary that JSON can hold: "do"
names it, the rest are its parameters. One that does not fit the moment does
nothing, so any part of a list is a list, and a failure can be replayed and made
smaller.

The list is in groups: a VM is booted; then, several times over, some events, a
migration with events in its middle, and its end.
"""

import random

from typing import Any, Callable, Iterator

Event = dict[str, Any]

# 0: none; -1: nor the statistics that KVM has
RINGS = (-1, 0, 1024, 2048, 4096, 8192, 16384, 32768, 65536)

# Those of which a migration has any mixture. Others exclude each other:
# multifd and postcopy-ram, in 7.2 without a message.
MIXED = ("auto-converge", "dirty-limit", "dirty-quota", "adaptive-reaper",
         "xbzrle", "return-path", "events", "pause-before-switchover",
         "late-block-activate")
EXCLUSIVE = ("multifd", "postcopy-ram")
CAPABILITIES = MIXED + EXCLUSIVE

# Value by value: accepted, and refused
PARAMETERS: dict[str, tuple[list[Any], list[Any]]] = {
    "vcpu-dirty-limit": ([1, 2, 10, 50, 1000, 4294967296],
                         [0, 4294967297, -1, "fast", 1.5]),
    "x-vcpu-dirty-limit-period": ([1, 10, 100, 1000], [0, 1001, -5, None]),
    "dirty-quota-interval": ([1, 3, 10, 100, 1000], [0, 1001, True]),
    "dirty-quota-deadline": ([0, 1, 5, 20, 1000000], [-1, 1000001, "soon"]),
    "throttle-trigger-threshold": ([1, 10, 50, 99, 100], [0, 101]),
    "cpu-throttle-initial": ([1, 20, 99], [0, 100]),
    "cpu-throttle-increment": ([1, 10, 99], [0, 100]),
    "max-cpu-throttle": ([99], [0, 100]),
    "cpu-throttle-tailslow": ([True, False], [3]),
    "downtime-limit": ([1, 5, 30, 300], [2000001, -1]),
    "multifd-channels": ([1, 2, 4], [0, 256]),
    "xbzrle-cache-size": ([4194304, 67108864], [1000, 3]),
    "announce-rounds": ([0, 1, 5], [1001]),
}

# What a vCPU may do: role, and pages per second with 0 for no limit
WORK = [("writer", 0), ("writer", 50000), ("writer", 5000), ("writer", 200),
        ("hot", 0), ("hot", 50000), ("hot", 1000), ("reader", 0),
        ("reader", 1000)]

MAX_VCPUS = 3
# That many more may be plugged in
MORE_VCPUS = 2

DIRTY_RATE_MODES = ("page-sampling", "dirty-bitmap", "dirty-ring")

# MiB/s. The guests are small, so these are seconds and less.
SLOW_LINKS = (8, 30, 60)
FAST_LINKS = (100, 200, 500, 4000)


class Generator:
    """Events without end, always the same ones for a seed"""

    def __init__(self, seed: int):
        self._random = random.Random(seed)

    def __iter__(self) -> Iterator[Event]:
        while True:
            yield self._boot()
            for _ in range(self._random.randint(2, 6)):
                yield from self._several(0, 6, self._AT_REST)
                if self._random.random() < 0.15:
                    yield self._one(self._WHOLE)
                    continue
                migrate = self._migrate()
                yield migrate
                yield from self._several(2, 18, self._IN_MIGRATION)
                if migrate["capabilities"]["postcopy-ram"] and (
                        self._random.random() < 0.7):
                    yield {"do": "postcopy"}
                    yield from self._several(0, 8, self._IN_MIGRATION)
                yield self._one(self._ENDS)

    def _several(self, least: int, most: int,
                 table: dict[str, int]) -> Iterator[Event]:
        for _ in range(self._random.randint(least, most)):
            yield self._one(table)

    def _one(self, table: dict[str, int]) -> Event:
        name, = self._random.choices(list(table), list(table.values()))
        make: Callable[[], Event] = getattr(self, "_" + name)
        return {"do": name, **make()}

    # -- how often what happens, where

    _AT_REST = {
        "capability": 3, "parameter": 3, "bad_parameter": 2,
        "bad_capability": 1, "limit": 8, "unlimit": 4, "bad_limit": 1,
        "stop": 2, "cont": 2, "reset": 2, "plug": 2, "unplug": 2, "role": 10,
        "freeze": 2, "dirty_rate": 4, "screendump": 3, "display": 1,
        "savevm": 2, "loadvm": 2, "flood": 1, "wait": 4, "check": 3,
        "bad_migrate": 1,
    }
    _IN_MIGRATION = {
        "capability": 2, "parameter": 6, "bad_parameter": 2,
        "bad_capability": 1, "limit": 6, "unlimit": 4, "bad_limit": 1,
        "stop": 3, "cont": 5, "reset": 1, "plug": 1, "unplug": 1, "role": 12,
        "link": 8, "stall": 4, "heal": 4, "freeze": 3, "freeze_destination": 3,
        "dirty_rate": 3, "screendump": 4, "display": 1, "savevm": 1,
        "flood": 2, "wait": 14, "bad_migrate": 1, "postcopy": 4,
        "go_on": 2,
    }
    # Those with a beginning, a middle and an end of their own
    _WHOLE = {"snapshot": 1, "file": 1}
    _ENDS = {"finish": 12, "cancel": 6, "break": 2, "kill_destination": 1}

    # -- what is chosen for each

    def _boot(self) -> Event:
        vcpus = self._random.randint(1, MAX_VCPUS)
        return {
            "do": "boot",
            "ring": self._random.choice(RINGS),
            "mb": self._random.choice((8, 16, 24)),
            "work": [self._work() for _ in range(vcpus)],
            "vga": self._random.random() < 0.5,
        }

    def _work(self) -> list[Any]:
        return list(self._random.choice(WORK))

    def _vcpu(self) -> int:
        return self._random.randrange(MAX_VCPUS)

    def _migrate(self) -> Event:
        chosen = {name: self._random.random() < 0.25 for name in MIXED}
        for name in ("dirty-limit", "dirty-quota"):
            chosen[name] = self._random.random() < 0.45
        other = self._random.choice(EXCLUSIVE + ("",) * 3)
        chosen.update((name, name == other) for name in EXCLUSIVE)
        names = self._random.sample(sorted(PARAMETERS),
                                    self._random.randint(0, 3))
        return {
            "do": "migrate",
            "to": self._random.choice(("vm",) * 5 + ("sink",)),
            "ring": self._random.choice(RINGS),
            "link": self._random.choice(SLOW_LINKS * 2 + FAST_LINKS),
            "downtime": self._random.choice((1, 1, 10, 50, 300)),
            "capabilities": chosen,
            "parameters": {name: self._random.choice(PARAMETERS[name][0])
                           for name in names},
        }

    def _capability(self) -> Event:
        return {"name": self._random.choice(CAPABILITIES),
                "state": self._random.random() < 0.5}

    def _bad_capability(self) -> Event:
        return {"name": self._random.choice(("dirty-quoat", "", "1"))}

    def _parameter(self) -> Event:
        name = self._random.choice(sorted(PARAMETERS))
        return {"name": name,
                "value": self._random.choice(PARAMETERS[name][0])}

    def _bad_parameter(self) -> Event:
        name = self._random.choice(sorted(PARAMETERS))
        return {"name": name,
                "value": self._random.choice(PARAMETERS[name][1])}

    def _limit(self) -> Event:
        # One that is met at once would be no test, and one that makes the
        # guest crawl lets the run wait
        return {"mbps": self._random.choice((4, 8, 20, 50, 200, 100000)),
                "vcpu": self._random.choice((None, self._vcpu()))}

    def _unlimit(self) -> Event:
        return {"vcpu": self._random.choice((None, self._vcpu()))}

    def _bad_limit(self) -> Event:
        return self._random.choice(
            ({"mbps": 4294967297, "vcpu": None}, {"mbps": 5, "vcpu": -1},
             {"mbps": 5, "vcpu": MAX_VCPUS + MORE_VCPUS},
             {"mbps": "x", "vcpu": None}))

    def _role(self) -> Event:
        return {"vcpu": self._vcpu(), "work": self._work()}

    def _link(self) -> Event:
        return {"mbps": self._random.choice(SLOW_LINKS + FAST_LINKS)}

    def _freeze(self) -> Event:
        return {"ms": self._random.choice((1, 10, 50, 120))}

    _freeze_destination = _freeze

    def _dirty_rate(self) -> Event:
        return {"mode": self._random.choice(DIRTY_RATE_MODES)}

    def _flood(self) -> Event:
        return {"ms": 200}

    def _wait(self) -> Event:
        return {"ms": self._random.choice((5, 20, 60, 150))}

    def _cancel(self) -> Event:
        # Some of the time the source gets to know no more of its destination
        return {"stalled": self._random.random() < 0.3}

    def _file(self) -> Event:
        return {"ring": self._random.choice(RINGS)}

    @staticmethod
    def _nothing() -> Event:
        return {}

    _stop = _cont = _reset = _plug = _unplug = _screendump = _display = _nothing
    _savevm = _loadvm = _check = _bad_migrate = _stall = _heal = _nothing
    _postcopy = _go_on = _snapshot = _finish = _nothing
    _break = _kill_destination = _nothing
