#
# VMs with the stress guest: waiting for what may take a while
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import time

from typing import Any, Callable


class TimeLimit(Exception):
    """Something did not happen in the time it may take"""


def wait_until(what: str, seconds: float, condition: Callable[[], Any],
               interval: float = 0.01) -> Any:
    """Wait until @condition returns something true, and return that"""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise TimeLimit("%s: not within %.1f s" % (what, seconds))
        time.sleep(interval)
