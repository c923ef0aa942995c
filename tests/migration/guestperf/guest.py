#
# Migration test with the stress guest
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""
The bare-metal guest of tests/migration/stress-guest, on both sides of a
migration, and what it counts meanwhile; before that, what QEMU forecasts.

This needs QEMU's own Python package in the path.
"""

import time

from dataclasses import replace

from guestperf import forecast
from guestperf.counters import Counters

from stressvm.stressguest import Role, StressGuestError
from stressvm.timeline import Sampler
from stressvm.vm import UP_SECONDS, StressVM

# What the guest needs besides its regions, and where the PCI hole begins
RESERVED_MB = 32
LOW_MB = 3 * 1024

# A pass over its memory takes a slow guest that long
CHECK_SECONDS = 120
PASSES = 2


def roles_of(hardware, scenario):
    """
    What each vCPU does: the scenario's roles by turns

    Those that do not say how large their memory is share what there is.
    """
    words = scenario._roles or ["writer"]
    roles = [Role.parse(words[i % len(words)])
             for i in range(hardware._cpus)]
    memory = min(int(hardware._mem * 1024), LOW_MB) - RESERVED_MB
    share = memory // hardware._cpus
    roles = [replace(role, mb=share)
             if role.kind in ("writer", "reader", "burst") and not role.mb
             else role for role in roles]
    wanted = sum(role.mb or 0 for role in roles)
    if wanted > memory:
        raise StressGuestError("the vCPUs' roles need %d MiB and there are %d"
                               % (wanted, memory))
    return roles


def machine(binary, hardware, scenario, accel, wrapper, where, args=()):
    return StressVM(binary, roles_of(hardware, scenario),
                    ring=hardware._dirty_ring_size, accel=accel,
                    args=args, ram_mb=int(hardware._mem * 1024),
                    wrapper=wrapper, base_temp_dir=where)


def gaps_of(guest):
    """Each vCPU's longest gap, in milliseconds"""
    return [vcpu.max_gap_ms for vcpu in guest.vcpus()]


class Watch(object):
    """
    Sample the counters of both sides for as long as it is entered

    @run_up: for how long the guest runs then before it is migrated, seconds
    """

    def __init__(self, src, dst, hardware, scenario, accel, run_up):
        self._src = src
        self._dst = dst
        self._scenario = scenario
        self._mode = forecast.mode_of(hardware, accel)
        self._run_up = run_up
        self._is_forecast = False
        # RunForecast of the migration, None if there is none
        self.forecast = None
        self._samples = []
        # By the clock of guestperf's progress records
        self._sampler = Sampler(self._samples, src.guest, dst.guest,
                                clock=time.time)
        self._gaps = None
        self._errors = None

    def __enter__(self):
        self._src.wait_at_work()
        self._is_forecast = forecast.is_wanted(self._src, self._scenario)
        if self._is_forecast:
            # It costs the guest something, so it is over before anybody counts
            forecast.measure(self._src, self._mode, self._run_up)
        self._sampler.__enter__()
        return self

    def __exit__(self, *args):
        self._sampler.__exit__(*args)

    def begin(self):
        """The migration begins: from now on count gaps"""
        if self._is_forecast:
            self.forecast = forecast.ask(self._src, self._scenario)
        self._src.guest.new_epoch()
        self._src.guest.wait_epoch()

    def end(self, completed):
        """The migration has ended: look at what it did to the guest"""
        self._gaps = gaps_of(self._src.guest)
        if not completed:
            return
        guest = self._dst.guest
        guest.wait_up(UP_SECONDS)
        self._gaps = [max(gaps) for gaps in
                      zip(self._gaps, gaps_of(guest))]

    def check_memory(self):
        """Let every vCPU at the destination look at all of its memory"""
        self._errors = [vcpu.error_text() for vcpu in
                        self._dst.guest.wait_passes(PASSES, CHECK_SECONDS)]

    def counters(self):
        return Counters([role.word() for role in self._src.roles],
                        self._samples, self._gaps, self._errors)
