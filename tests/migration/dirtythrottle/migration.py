#
# Dirty throttle tests: one migration, watched
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import time

from typing import Any, Callable, Mapping, Sequence

from stressvm.timeline import ENDED, Poll, Timeline
from stressvm.vm import VM
from stressvm.waiting import TimeLimit, wait_until

POLL_SECONDS = 0.05

# Some instructions of one thread, on a machine that does other work too
SETTLED_SECONDS = 20

# MiB/s, for a migration that must not end
LASTING_LINK = 1

# Where the bytes go when nobody needs a destination
SINK = "exec:cat >/dev/null"


class Migration:
    """
    A migration of @src to @dst, or to nowhere

    Capabilities and parameters are set on both sides, as management software
    does; the link is in MiB/s, the downtime limit in milliseconds.
    """

    def __init__(self, src: VM, dst: VM | None = None,
                 link: float = 100, downtime: int = 300,
                 capabilities: Sequence[str] = (),
                 parameters: Mapping[str, Any] | None = None,
                 timeline: Timeline | None = None):
        self.src = src
        self.dst = dst
        self.timeline = timeline or Timeline()
        self._uri = SINK
        for vm in filter(None, (src, dst)):
            if capabilities:
                vm.set_capabilities(*capabilities)
            if parameters:
                vm.set_parameters(**parameters)
        src.set_link(link)
        src.set_parameters(downtime_limit=downtime)

    def start(self) -> "Migration":
        if self.dst is not None:
            self._uri = self.dst.listen()
        self.src.cmd("migrate", uri=self._uri)
        return self

    def poll(self) -> Poll:
        poll = Poll(time.monotonic(), self.src.migration())
        self.timeline.polls.append(poll)
        return poll

    def watch(self, seconds: float,
              each: Callable[[Poll], None] = lambda poll: None
              ) -> Poll | None:
        """Poll, and call @each, until it has ended; None if it has not"""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            poll = self.poll()
            each(poll)
            if poll.status in ENDED:
                return poll
            time.sleep(POLL_SECONDS)
        return None

    def wait(self, status: str, seconds: float) -> Poll:
        """Wait until the migration has got to @status"""
        deadline = time.monotonic() + seconds
        while True:
            poll = self.poll()
            if poll.status == status:
                self._settle()
                return poll
            if poll.status in ENDED or time.monotonic() > deadline:
                raise TimeLimit("migration is '%s' (%s), not '%s' within %d s"
                                % (poll.status,
                                   poll.info.get("error-desc", "-"),
                                   status, seconds))
            time.sleep(POLL_SECONDS)

    def cancel(self, seconds: float = 20) -> float:
        """Cancel it, and wait; how long that took"""
        begin = time.monotonic()
        self.src.cmd("migrate_cancel")
        while self.poll().status not in ENDED:
            if time.monotonic() > begin + seconds:
                raise TimeLimit("not cancelled within %d s" % seconds)
            time.sleep(0.002)
        took = time.monotonic() - begin
        self._settle()
        return took

    def _settle(self) -> None:
        """
        Wait until QEMU has done all that completing a migration means

        The status tells that it is completed a little before that.
        """
        if self.timeline.polls[-1].status == "completed":
            wait_until("postmigrate", SETTLED_SECONDS, lambda: self.src.cmd(
                "query-status")["status"] == "postmigrate")
