#
# VMs with the stress guest: figures as text
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import math

from typing import Sequence

from stressvm.measure import Spread


def number(value: float | None) -> str:
    """Three digits or what stands before the point; counts as they are"""
    if value is None:
        return "-"
    if isinstance(value, int):
        return str(value)
    if math.isinf(value):
        return "never"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return "%.*f" % (digits, value)


def median_and_range(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    if number(spread.low) == number(spread.high):
        return number(spread.median)
    return "%s [%s .. %s]" % (number(spread.median), number(spread.low),
                              number(spread.high))


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """
    A table that reads well as it is, and is markdown too

    The first line is the head, the first column is text, the others numbers.
    """
    widths = [max(map(len, column)) for column in zip(*lines)]

    def text(cells: Sequence[str]) -> str:
        padded = [cells[0].ljust(widths[0])]
        padded += [c.rjust(w) for c, w in zip(cells[1:], widths[1:])]
        return "| " + " | ".join(padded) + " |"

    rule = ["-" * widths[0]] + ["-" * (w - 1) + ":" for w in widths[1:]]
    return "\n".join([text(lines[0]), text(rule)] + [text(line)
                                                    for line in lines[1:]])
