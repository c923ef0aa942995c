#
# Dirty throttle tests: what they share
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import os
import tempfile
import time
import unittest

from typing import Any, Sequence

from stressvm import probe
from stressvm.stressguest import Role
from stressvm.timeline import ENDED
from stressvm.vm import StressVM
from stressvm.waiting import wait_until

from dirtythrottle.migration import LASTING_LINK, Migration

# Dirties 195 MiB/s, more than any link here carries. One pass over it is short
# enough to walk it several times in a test.
WRITER = Role("writer", rate=50000, mb=64)
READER = Role("reader", mb=64)

# For migrations whose first pass need not last
SMALL_READER = Role("reader", mb=16)

# Its pages are written by the device alone, two MiB in each iteration
DISK = Role("disk", mb=2)

# Generous: how fast things are is measured by bench.py. Here it only matters
# that they happen, on a machine of two cores that does other work too.
SOON = 20
EVENTUALLY = 60

# A limit of 1 MB/s leaves the writer 0.5 % of its speed and no limit all of
# it, so any line between tells them apart on a noisy machine
SLOW = 0.3
FAST = 0.5
RATE_SECONDS = 0.5

# What 'dirty-limit' migrates with
LIMIT = 1


class ThrottleTest(unittest.TestCase):
    """A test that needs KVM, with a ring unless @ring is 0, and cleans up"""

    ring = 4096
    # Migration capabilities without which there is nothing to test
    needs: Sequence[str] = ()

    @classmethod
    def setUpClass(cls) -> None:
        cls.binary = probe.default_binary()
        if not probe.kvm_available():
            raise unittest.SkipTest("no usable /dev/kvm")
        if cls.ring and not probe.ring_available():
            raise unittest.SkipTest("this kernel's KVM has no dirty ring")
        if not os.access(cls.binary, os.X_OK):
            raise unittest.SkipTest("no QEMU at %s" % cls.binary)
        for name in cls.needs:
            if not probe.has_capability(cls.binary, name):
                raise unittest.SkipTest("%s has no capability '%s'"
                                        % (cls.binary, name))

    def source(self, roles: Sequence[Role] = (WRITER, SMALL_READER),
               **options: Any) -> StressVM:
        """A VM whose guest is at work, and that ends with the test"""
        options.setdefault("ring", self.ring)
        return self.enterContext(
            StressVM(self.binary, roles, **options)).boot()

    def destination(self, src: StressVM, **options: Any) -> StressVM:
        """A VM like @src that waits for its migration"""
        options.setdefault("ring", self.ring)
        dst = self.enterContext(StressVM(self.binary, src.roles,
                                         incoming=True, **options))
        dst.launch()
        return dst

    def disk_image(self) -> str:
        """The name of an image for a guest with the role DISK"""
        image = self.enterContext(tempfile.NamedTemporaryFile(
            prefix="dirtythrottle-", dir=probe.build_dir()))
        image.truncate(DISK.mb << 20)
        return image.name

    @staticmethod
    def rate(vm: StressVM, vcpu: int = 0) -> float:
        """How fast a vCPU is now"""
        before = vm.guest.vcpu(vcpu)
        time.sleep(RATE_SECONDS)
        return vm.guest.vcpu(vcpu).rate_since(before)

    def wait_slow(self, vm: StressVM, full: float, vcpu: int = 0) -> None:
        wait_until("vCPU %d slowed down" % vcpu, SOON,
                   lambda: self.rate(vm, vcpu) < SLOW * full)

    def wait_fast(self, vm: StressVM, full: float, vcpu: int = 0) -> None:
        wait_until("vCPU %d at full speed" % vcpu, SOON,
                   lambda: self.rate(vm, vcpu) > FAST * full)

    @staticmethod
    def limits(vm: StressVM) -> dict[int, int]:
        """The limits of the vCPUs that have one, in MB/s"""
        return {entry["cpu-index"]: entry["limit-rate"]
                for entry in vm.limits()}

    def check_limits(self, vm: StressVM, limits: dict[int, int]) -> None:
        """These vCPUs, and no others, have these limits, in MB/s"""
        self.assertEqual(self.limits(vm), limits)

    def wait_limits(self, vm: StressVM, limits: dict[int, int]) -> None:
        """
        As check_limits(), after something that takes limits away

        A migration tells that it failed, or is in postcopy, a little before.
        """
        wait_until("limits of %s" % limits, SOON,
                   lambda: self.limits(vm) == limits)

    def check_unlimited(self, vm: StressVM, full: float) -> None:
        """No limit is left, neither told nor felt"""
        self.check_limits(vm, {})
        self.wait_fast(vm, full)

    def check_memory(self, vm: StressVM) -> None:
        """No page was lost or is stale, as two more passes show"""
        vm.guest.wait_up(SOON)
        damage = [v.error_text() for v in vm.guest.wait_passes(2, EVENTUALLY)]
        self.assertFalse(any(damage), damage)

    def throttled(self, src: StressVM, dst: StressVM | None = None,
                  capabilities: Sequence[str] = (),
                  link: float = 50) -> Migration:
        """
        A migration in whose middle the guest is slowed down, and that lasts

        Once it is throttled the link gets so slow that the migration cannot
        end by itself during the test.
        """
        full = self.rate(src)
        migration = Migration(
            src, dst, link, 1, ["dirty-limit", *capabilities],
            {"vcpu_dirty_limit": LIMIT}).start()

        def limited() -> bool:
            poll = migration.poll()
            self.assertNotIn(poll.status, ENDED)
            return poll.throttles and all(
                entry["limit-rate"] == LIMIT for entry in src.limits())

        wait_until("throttled", EVENTUALLY, limited)
        src.set_link(LASTING_LINK)
        self.wait_slow(src, full)
        return migration
