#
# Dirty throttle chaos: QEMU built with a sanitizer, and what that finds
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import os

from dataclasses import dataclass
from pathlib import Path

# Long enough for both stacks of a race
_LINES = 120


@dataclass(frozen=True)
class Sanitizer:
    """A way to build QEMU; @slowness is what it makes of one second"""
    name: str
    slowness: float
    # Variables of the environment; {log} is where reports go
    options: dict[str, str]


SANITIZERS = {
    "": Sanitizer("", 1, {}),
    "asan": Sanitizer("asan", 4, {
        # Leaks at quit are QEMU's own, by the dozen
        "ASAN_OPTIONS": "log_path={log}:detect_leaks=0:"
                        "detect_stack_use_after_return=0",
        "UBSAN_OPTIONS": "log_path={log}:print_stacktrace=1",
    }),
    "tsan": Sanitizer("tsan", 10, {
        "TSAN_OPTIONS": "log_path={log}:exitcode=0:history_size=4:"
                        "suppressions={suppressions}",
    }),
}


class Findings:
    """What a sanitizer has written, taken once"""

    def __init__(self, sanitizer: Sanitizer, directory: str,
                 suppressions: str):
        self._directory = Path(directory, "findings")
        self._directory.mkdir()
        for name, value in sanitizer.options.items():
            os.environ[name] = value.format(
                log=self._directory / "report", suppressions=suppressions)
        # How much of each has been taken; a process may add to its own
        self._taken: dict[Path, int] = {}

    def take(self) -> str | None:
        texts = []
        for path in sorted(self._directory.iterdir()):
            text = path.read_text(errors="replace")
            if text[self._taken.get(path, 0):].strip():
                texts += text[self._taken.get(path, 0):].splitlines()
            self._taken[path] = len(text)
        return "\n".join(texts[:_LINES]) or None
