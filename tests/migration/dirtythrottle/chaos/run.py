#
# Dirty throttle chaos: a run of many events, and what came of it
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import json
import tempfile
import time
import traceback

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Iterable

from qemu.machine.machine import QEMUMachineError
from qemu.qmp import QMPError

from stressvm.stressguest import StressGuestError
from stressvm.waiting import TimeLimit

from dirtythrottle.chaos.broken import Broken
from dirtythrottle.chaos.events import Event
from dirtythrottle.chaos.machine import Patience
from dirtythrottle.chaos.minimise import minimise
from dirtythrottle.chaos.sanitizer import Findings
from dirtythrottle.chaos.world import World

# How often a list is tried before it counts as one that does not fail
_TRIES = 2

_PROGRESS_SECONDS = 30


@dataclass
class Failure:
    """What broke, by which events"""
    broken: Broken
    # From the last boot on, and as few of them as still fail
    events: list[Event]
    minimal: list[Event]
    # Whether it failed once more when only these events were played
    again: bool
    log: str


@dataclass
class Run:
    """
    Plays events until there were enough of them, or time is up

    @say gets lines for people.
    """
    binary: str
    # How much longer everything may take than with a plain build
    slowness: float = 1
    # A fault in known.py that events do not keep away from
    shown: str = ""
    # For making a failure's list shorter
    minimise_seconds: float = 120
    # After that many different ones there is enough to do
    most_failures: int = 5
    say: Callable[[str], None] = print
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    # When the next line about how it gets on is due
    _next_line: float = field(default=float("inf"), init=False)

    def play(self, events: Iterable[Event], most: float = float("inf"),
             seconds: float = float("inf")) -> None:
        begin = time.monotonic()
        source = iter(events)
        self._next_line = begin + _PROGRESS_SECONDS
        while True:
            left = begin + seconds - time.monotonic()
            if (left <= 0 or self.counts["events"] >= most or
                    len(self.failures) >= self.most_failures):
                break
            played: list[Event] = []
            broken, log = self._world(source, played,
                                      most - self.counts["events"],
                                      begin + seconds)
            if broken is None:
                break
            self._fail(broken, played, log)
            # From the next boot on
            source = _from_boot(source)
        self.counts["seconds"] = round(time.monotonic() - begin)

    def _world(self, source: Iterable[Event], played: list[Event],
               most: float, deadline: float
               ) -> tuple[Broken | None, str]:
        """Events from @source, added to @played, until one breaks something"""
        with tempfile.TemporaryDirectory(prefix="chaos-",
                                         dir="/var/tmp") as directory:
            findings = Findings()
            world = World(self.binary, directory,
                          Patience().times(self.slowness), findings.take,
                          self.shown)
            try:
                for event in source:
                    if event["do"] == "boot":
                        # Nothing is left of what was before
                        played.clear()
                    played.append(event)
                    world.do(event)
                    self._progress(world)
                    if (world.counts["events"] >= most or
                            time.monotonic() > deadline):
                        break
                world.settle()
                return None, ""
            except Broken as broken:
                return self._explained(broken, findings), world.logs()
            except (TimeLimit, StressGuestError, QMPError,
                    QEMUMachineError, OSError) as error:
                broken = Broken(type(error).__name__, "%s\n%s" % (
                    error, traceback.format_exc()))
                return self._explained(broken, findings), world.logs()
            finally:
                self.counts += world.counts
                world.close()
                findings.take()
                findings.forget()

    @staticmethod
    def _explained(broken: Broken, findings: Findings) -> Broken:
        """A sanitizer that ended QEMU says better why"""
        text = findings.take()
        return Broken("sanitizer", text) if text else broken

    def _progress(self, world: World) -> None:
        if time.monotonic() < self._next_line:
            return
        self._next_line += _PROGRESS_SECONDS
        self.say(summary(self.counts + world.counts, len(self.failures)))

    # -- failures

    def _fail(self, broken: Broken, played: list[Event], log: str) -> None:
        if any(f.broken.signature == broken.signature
               for f in self.failures):
            self.counts["repeated failures"] += 1
            self.say("once more: %s" % broken.signature)
            return
        self.say("FAILED %s\n%s" % (broken, log))
        self.say("the last events: %s" % json.dumps(played[-5:]))
        deadline = time.monotonic() + self.minimise_seconds
        again = self._fails(played, broken, deadline)
        minimal = played
        if again:
            self.say("%d events fail again; making them fewer" % len(played))
            minimal = minimise(
                played,
                lambda candidate: self._fails(candidate, broken, deadline),
                lambda: time.monotonic() > deadline)
        self.failures.append(Failure(broken, played, minimal, again, log))

    def _fails(self, events: list[Event], broken: Broken,
               deadline: float) -> bool:
        """Whether a list of events breaks the same thing"""
        for _ in range(_TRIES):
            if time.monotonic() > deadline:
                return False
            # Its figures are not the run's
            run = Run(self.binary, self.slowness, self.shown,
                      say=lambda line: None)
            found, _ = run._world(iter(events), [], float("inf"),
                                  float("inf"))
            if found and found.signature == broken.signature:
                return True
        return False

    def save(self, directory: Path, name: str) -> None:
        """What failed, to be replayed"""
        directory.mkdir(parents=True, exist_ok=True)
        for number, failure in enumerate(self.failures, 1):
            stem = "%s-%d" % (name, number)
            Path(directory, stem + ".jsonl").write_text(
                lines(failure.minimal))
            Path(directory, stem + ".log").write_text(
                "%s\n\nThe guest's VMs said:\n%s\n"
                "All events since the VM was booted:\n%s" % (
                    failure.broken, failure.log, lines(failure.events)))


def lines(events: Iterable[Event]) -> str:
    return "".join(json.dumps(event) + "\n" for event in events)


def parse(text: str) -> list[Event]:
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _from_boot(source: Iterable[Event]) -> Iterable[Event]:
    skipping = True
    for event in source:
        skipping = skipping and event["do"] != "boot"
        if not skipping:
            yield event


def summary(counts: Counter[str], failures: int) -> str:
    """One line of figures"""
    return ("%d events; %d migrations: %d completed (%d by postcopy), "
            "%d cancelled, %d failed as they had to; %d checks, %.1f million "
            "pages read; %d failures" % (
                counts["events"], counts["migrations"], counts["completed"],
                counts["postcopy"], counts["cancelled"], counts["failed"],
                counts["checks"], counts["pages"] / 1e6,
                failures + counts["repeated failures"]))
