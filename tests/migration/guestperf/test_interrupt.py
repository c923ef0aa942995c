#
# Migration test batches: nothing stays behind
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from guestperf import shell

from stressvm import probe
from stressvm.waiting import wait_until

BATCH = os.path.join(os.path.dirname(os.path.dirname(shell.__file__)),
                     "guestperf-batch.py")

# However slow the machine is
SOON = 60

# To be in the middle of it, not at its beginning, nor in the second for which
# the guest is measured before
IN_THE_MIDDLE_SECONDS = 3


class InterruptTest(unittest.TestCase):
    """Interrupted in the middle of a migration that would last a minute"""

    def setUp(self):
        self.binary = probe.default_binary()
        if not os.access(self.binary, os.X_OK):
            self.skipTest("no QEMU at %s" % self.binary)
        self.accel = "kvm" if probe.kvm_available() else "tcg"
        self.directory = self.enterContext(tempfile.TemporaryDirectory())
        self.temporary = os.path.join(self.directory, "tmp")
        os.mkdir(self.temporary)

    def machines(self):
        """The QEMUs that this test has started, by where their files are"""
        found = []
        for pid in filter(str.isdecimal, os.listdir("/proc")):
            try:
                with open("/proc/%s/environ" % pid, "rb") as fh:
                    environ = fh.read().split(b"\0")
                name = os.readlink("/proc/%s/exe" % pid)
            except OSError:
                continue
            if (b"TMPDIR=" + self.temporary.encode() in environ and
                    os.path.realpath(self.binary) == name):
                found.append(int(pid))
        return found

    def interrupted_by(self, signum):
        """How the batch ended, and what it said"""
        environ = dict(os.environ, TMPDIR=self.temporary)
        with subprocess.Popen(
                [sys.executable, "-B", BATCH, "--binary", self.binary,
                 "--guest", "stress-guest", "--accel", self.accel,
                 "--cpus", "2", "--mem", "0.15", "--sleep", "1",
                 "--filter", "compr-throttle/link50-rate50000-none",
                 "--output", self.directory],
                env=environ, stderr=subprocess.PIPE, text=True) as batch:
            try:
                wait_until("two machines", SOON,
                           lambda: len(self.machines()) == 2)
                time.sleep(IN_THE_MIDDLE_SECONDS)
                self.assertIsNone(batch.poll())
                batch.send_signal(signum)
                _, said = batch.communicate(timeout=SOON)
            finally:
                batch.kill()
        wait_until("no machine", SOON, lambda: not self.machines())
        return batch.returncode, said

    def files(self):
        return [name for _, _, names in os.walk(self.directory)
                for name in names]

    def test_interrupt(self):
        status, said = self.interrupted_by(signal.SIGINT)
        self.assertEqual(status, 130)
        self.assertIn("--resume", said)
        self.assertEqual(os.listdir(self.temporary), [])
        self.assertEqual(self.files(), [])

    def test_terminate(self):
        status, _ = self.interrupted_by(signal.SIGTERM)
        self.assertEqual(status, 128 + signal.SIGTERM)
        self.assertEqual(os.listdir(self.temporary), [])
        self.assertEqual(self.files(), [])

    def test_kill(self):
        """Files may stay behind then, but no machine"""
        status, _ = self.interrupted_by(signal.SIGKILL)
        self.assertEqual(status, -signal.SIGKILL)


if __name__ == "__main__":
    unittest.main()
