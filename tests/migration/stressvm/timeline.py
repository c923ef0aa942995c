#
# VMs with the stress guest: what happened when
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import threading
import time

from dataclasses import dataclass, field
from typing import Any, Callable

from stressvm.stressguest import StressGuest

# Two samples within the shortest time that matters, the 20 ms within which a
# limit may be waited for; and few enough to leave the guest its CPU
SAMPLE_SECONDS = 0.01

# The statuses of a migration that is over
ENDED = ("completed", "failed", "cancelled")


@dataclass(frozen=True)
class Sample:
    """How many operations each vCPU had done at one time"""
    time: float
    ops: tuple[int, ...]


@dataclass(frozen=True)
class Poll:
    """What query-migrate said at one time"""
    time: float
    info: dict[str, Any]

    @property
    def status(self) -> str:
        return self.info.get("status", "none")

    def ram(self, name: str) -> int:
        return self.info.get("ram", {}).get(name, 0)

    @property
    def dirty_bytes_per_second(self) -> int:
        return self.ram("dirty-pages-rate") * self.ram("page-size")

    @property
    def throttles(self) -> bool:
        """QEMU slows vCPUs down, and says so"""
        phase = self.info.get("dirty-throttle", {}).get("phase")
        return bool(self.info.get("cpu-throttle-percentage") or
                    self.info.get("dirty-limit-throttle-time-per-round") or
                    phase == "throttling")


@dataclass
class Timeline:
    """All times are as time.monotonic() counts, so comparable"""
    samples: list[Sample] = field(default_factory=list)
    polls: list[Poll] = field(default_factory=list)


class Sampler(threading.Thread):
    """
    Adds a guest's counters to @samples for as long as it is entered

    It only reads memory, so it sees what happens while QEMU does not answer.
    The guest is up at the first of @sides. The counters migrate with it, so of
    several sides the one that runs has the largest.
    """

    def __init__(self, samples: list[Sample], *sides: StressGuest,
                 clock: Callable[[], float] = time.monotonic):
        super().__init__(name="sampler", daemon=True)
        self._samples = samples
        self._sides = sides
        self._clock = clock
        self._done = threading.Event()

    def __enter__(self) -> "Sampler":
        self.start()
        return self

    def __exit__(self, *args: Any) -> None:
        self._done.set()
        self.join()

    def run(self) -> None:
        vcpus = range(self._sides[0].nr_vcpus)
        while not self._done.wait(SAMPLE_SECONDS):
            self._samples.append(Sample(self._clock(), tuple(
                max(side.ops(i) for side in self._sides) for i in vcpus)))
