#
# Dirty throttle chaos: what 'make chaos' starts
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""
Migrations in which anything may happen, for minutes or hours.

CHAOS_SEED      the run of that number once more
CHAOS_EVENTS    until that many events have fitted, however long that takes
CHAOS_SECONDS   for that long, 1200 by default
CHAOS_REPLAY    the events of that file, as a failure left it in build/chaos
CHAOS_SHOW      a fault of QEMU's own, see known.py
QEMU_BINARY     another build
SANITIZER       asan or tsan: what 'make build-asan', 'make build-tsan' built
"""

import logging
import os
import secrets
import sys

from pathlib import Path
from typing import Any

from stressvm import probe
from stressvm.vm import exit_on_signals

from dirtythrottle.chaos.events import Generator
from dirtythrottle.chaos.known import FAULTS
from dirtythrottle.chaos.run import Run, lines, parse, summary
from dirtythrottle.chaos.sanitizer import SLOWNESS

_SECONDS = 1200


def number(name: str) -> int | None:
    text = os.environ.get(name, "")
    if not text:
        return None
    if not text.isdecimal():
        sys.exit("chaos: %s is '%s', not a number" % (name, text))
    return int(text)


def say(line: Any) -> None:
    print(line, flush=True)


def main() -> int:
    name = os.environ.get("SANITIZER", "")
    if name not in SLOWNESS:
        sys.exit("chaos: SANITIZER is '%s', neither of %s" % (
            name, ", ".join(filter(None, SLOWNESS))))
    binary = probe.default_binary()
    if not probe.kvm_available() or not probe.ring_available():
        say("chaos: needs KVM with a dirty ring, nothing was done")
        return 0
    if not os.access(binary, os.X_OK):
        sys.exit("chaos: no QEMU at %s" % binary)
    exit_on_signals()
    # What QEMU dies from is a failure's text, not a warning beside it
    logging.getLogger("qemu").setLevel(logging.CRITICAL)

    shown = os.environ.get("CHAOS_SHOW", "")
    if shown and shown not in FAULTS:
        sys.exit("chaos: CHAOS_SHOW is '%s', none of %s" % (
            shown, ", ".join(FAULTS)))
    run = Run(binary, SLOWNESS[name], shown, say=say)
    replay = os.environ.get("CHAOS_REPLAY")
    if replay:
        label = "replay"
        run.play(parse(Path(replay).read_text()))
    else:
        seed = number("CHAOS_SEED")
        if seed is None:
            seed = secrets.randbelow(10 ** 6)
        label = "seed-%d" % seed
        say("chaos: seed %d; CHAOS_SEED=%d does it again" % (seed, seed))
        events, seconds = number("CHAOS_EVENTS"), number("CHAOS_SECONDS")
        if events is None and seconds is None:
            seconds = _SECONDS
        infinite = float("inf")
        run.play(Generator(seed),
                 infinite if events is None else events,
                 infinite if seconds is None else seconds)

    run.save(probe.build_dir() / "chaos", label)
    for i, failure in enumerate(run.failures, 1):
        say("FAILED %s" % failure.broken.signature)
        say("  %d events%s, in build/chaos/%s-%d.jsonl:" % (
            len(failure.minimal),
            "" if failure.again else ", which did not fail again", label, i))
        say(lines(failure.minimal))
    for text, times in sorted(run.counts.items()):
        if text.startswith(("kept away", "not here")):
            say("%s, %d times" % (text, times))
    say("%s, %d s" % (summary(run.counts, len(run.failures)),
                      run.counts["seconds"]))
    return 1 if run.failures else 0


if __name__ == "__main__":
    sys.exit(main())
