#
# Dirty throttle tests: tests that change what KVM does for QEMU
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import os
import shlex
import tempfile

from pathlib import Path

from dirtythrottle import kvmshim
from dirtythrottle.base import ThrottleTest


class ShimTest(ThrottleTest):
    """A test that preloads a library, whose source says what it does"""

    shim_source = "reset-shim.c"

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.dir = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.shim = kvmshim.build(cls.dir, cls.shim_source)

    def change(self, **environment: int) -> None:
        """From now on VMs get the library, with this environment"""
        self.log = os.path.join(self.dir, self.id())
        prefix = Path(self.shim_source).stem.replace("-", "_").upper()
        words = ["%s=%d" % (name, value)
                 for name, value in environment.items()]
        # A script, so that nobody but QEMU itself gets the library
        script = Path(self.dir, "qemu-" + self.id())
        script.write_text("#!/bin/sh\nexec env %s \"$@\"\n" % shlex.join(
            ["LD_PRELOAD=" + self.shim, "%s_LOG=%s" % (prefix, self.log),
             *words, self.binary]))
        script.chmod(0o700)
        self.binary = str(script)

    def check_changed(self) -> None:
        """The test was one: something was different"""
        self.assertGreater(os.path.getsize(self.log), 0, "nothing was changed")
