#
# Dirty throttle chaos: QEMU built with a sanitizer, and what that finds
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import os

from pathlib import Path

# What it makes of a second
SLOWNESS = {"": 1.0, "asan": 4.0, "tsan": 10.0}

# Long enough for both stacks of a race
_LINES = 120

# So begins a finding's last line, which says what it is
_SUMMARY = "SUMMARY: "

# QEMU tells the address sanitizer what it has to know of coroutines; where one
# is left by a jump, that cannot tell the size of the stack.
_HARMLESS = ("ASan doesn't fully support makecontext/swapcontext",
             "ASan is ignoring requested __asan_handle_no_return",
             "False positive error reports may follow",
             "For details see ")


def reports() -> Path | None:
    """Where scripts/sanitized lets sanitizers write to"""
    path = os.environ.get("SANITIZER_REPORTS")
    return Path(path) if path else None


def stretches_races() -> bool:
    """Whether QEMU meets its own short races now and then"""
    return bool(os.environ.get("SANITIZER"))


class Findings:
    """What a sanitizer has written, each line taken once"""

    def __init__(self) -> None:
        self._directory = reports()
        # How much of each file has been taken: a process may add to its own
        self._taken: dict[Path, int] = {}

    def take(self) -> str | None:
        """Summaries first, because the first line tells failures apart"""
        if self._directory is None:
            return None
        lines = []
        for path in sorted(self._directory.iterdir()):
            text = path.read_text(errors="replace")
            lines += [line for line in
                      text[self._taken.get(path, 0):].splitlines()
                      if not any(text in line for text in _HARMLESS)]
            self._taken[path] = len(text)
        summaries = dict.fromkeys(line for line in lines
                                  if line.startswith(_SUMMARY))
        return "\n".join([*summaries, *lines][:_LINES]) or None

    def forget(self) -> None:
        """All processes have ended, and what they wrote is known"""
        for path in self._taken:
            path.unlink()
        self._taken.clear()
