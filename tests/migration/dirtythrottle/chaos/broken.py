#
# Dirty throttle chaos: what is not as it should be
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import re


class Broken(Exception):
    """
    An invariant does not hold

    @invariant names it; @text tells how.
    """

    def __init__(self, invariant: str, text: str):
        super().__init__("%s: %s" % (invariant, text))
        self.invariant = invariant
        self.text = text

    @property
    def signature(self) -> str:
        """The same for two failures that are likely to have one cause"""
        first = self.text.strip().partition("\n")[0]
        return "%s: %s" % (self.invariant,
                           re.sub(r"[0-9a-f]*\d[0-9a-f]*", "N", first))
