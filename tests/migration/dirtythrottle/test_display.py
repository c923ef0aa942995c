#
# Dirty throttle tests: looking at the screen costs no vCPU anything
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import os
import tempfile
import unittest

from typing import Any, Callable

from stressvm.stressguest import Role
from stressvm.timeline import Poll
from stressvm.vm import StressVM

from dirtythrottle.base import EVENTUALLY, READER, WRITER, ThrottleTest
from dirtythrottle.migration import LASTING_LINK, Migration
from dirtythrottle.vnc import Viewer, server_args

# The whole set is dirty again within 50 ms, and costs the link 8 MiB in each
# iteration, no matter how often it is written
HOT = Role("hot", rate=50000, pages=2048)
HOT_MIB = 8

# So that something changes on the screen, and QEMU keeps looking
SCREEN = Role("screen", rate=100, pages=16)

# A pass over the set takes a second and a half with it; charged for the set
# 30 times a second, the vCPU would be held at a tenth of its speed
LIMIT = 5

WATCH_SECONDS = 4


class DisplayTest(ThrottleTest):
    needs = ("dirty-limit", "dirty-quota")

    def directory(self) -> str:
        return self.enterContext(
            tempfile.TemporaryDirectory(prefix="dirtythrottle-"))

    def watched(self, display: str, *roles: Role) -> StressVM:
        """A VM whose screen somebody looks at 30 times a second"""
        where = self.directory()
        src = self.source(roles, display=display, args=server_args(where))
        self.viewer = self.enterContext(Viewer(where))
        return src

    def check_viewer(self) -> None:
        """QEMU has sent what was drawn"""
        self.assertGreater(self.viewer.received, 0)

    def check_charged_once(self, src: StressVM, look: Callable[[Poll], Any]
                           ) -> None:
        """
        In a migration that stays in its first pass, a hot set is charged once

        vCPU 0 has the hot set, and a limit. @look is called at each poll.
        """
        full = self.rate(src)
        src.limit(LIMIT, cpu_index=0)
        self.wait_slow(src, full)
        migration = Migration(src, link=LASTING_LINK,
                              capabilities=["dirty-quota"]).start()
        # what it owed from before, and for the set
        self.wait_fast(src, full)
        charged = 0.0
        seen = set()
        for _ in range(WATCH_SECONDS):
            # A second each, and what is told is that of the last second
            migration.watch(1, look)
            poll = migration.poll()
            self.assertEqual(poll.status, "active")
            vcpu = poll.info["dirty-throttle"]["vcpus"][0]
            charged += vcpu["rate"]
            seen.add(vcpu["penalties"])
        syncs = poll.ram("dirty-sync-count")
        self.assertEqual(syncs, 1)
        self.assertLessEqual(charged, HOT_MIB * (syncs + 1))
        self.assertEqual(len(seen), 1, "penalties: %s" % seen)

    def test_vnc_charges_nothing(self) -> None:
        src = self.watched("VGA", HOT, READER, SCREEN)
        self.check_charged_once(src, lambda poll: None)
        self.check_viewer()

    def test_screendumps_charge_nothing(self) -> None:
        src = self.source((HOT, READER), display="bochs-display")
        file = os.path.join(self.directory(), "screen.ppm")
        self.check_charged_once(src, lambda poll: src.cmd(
            "screendump", filename=file))
        self.assertGreater(os.path.getsize(file), 0)

    def check_migrates(self, display: str, screen: Role) -> None:
        """A throttled migration loses nothing, neither RAM nor the screen"""
        src = self.watched(display, WRITER, READER, screen)
        dst = self.destination(src, display=display)
        Migration(src, dst, link=50, downtime=300,
                  capabilities=["dirty-quota"]).start().wait(
                      "completed", EVENTUALLY)
        self.check_viewer()
        self.check_memory(dst)

    def test_vnc(self) -> None:
        self.check_migrates("VGA", SCREEN)

    def test_remapped(self) -> None:
        """The screen's memory comes and goes, with what is dirty in it"""
        self.check_migrates("bochs-display",
                            Role("screen", rate=2000, pages=64, remap=1))


if __name__ == "__main__":
    unittest.main()
