#
# Dirty throttle chaos: the shortest list that still fails
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

from typing import Callable, Sequence, TypeVar

T = TypeVar("T")


def minimise(items: Sequence[T], fails: Callable[[list[T]], bool],
             out_of_time: Callable[[], bool] = lambda: False) -> list[T]:
    """
    A part of @items that fails, and that does not if any one is left out

    @items itself is known to fail. Pieces are left out, halves first, then
    smaller and smaller ones. When time is up, the shortest found so far. Where
    failing is a matter of luck, so is how short it gets.
    """
    kept = list(items)
    pieces = 2
    while len(kept) >= 2:
        size = -(-len(kept) // pieces)
        for start in range(0, len(kept), size):
            if out_of_time():
                return kept
            rest = kept[:start] + kept[start + size:]
            if rest and fails(rest):
                kept = rest
                # The same size again, with one piece less
                pieces = max(pieces - 1, 2)
                break
        else:
            if size == 1:
                break
            pieces = min(2 * pieces, len(kept))
    return kept
