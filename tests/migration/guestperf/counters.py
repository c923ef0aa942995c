#
# Migration test stress guest counters over time
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

from guestperf.timings import TimingRecord, Timings

from stressvm.measure import MIB
from stressvm.stressguest import PAGE_SIZE
from stressvm.timeline import Sample

PAGES_PER_GIB = 1024 * MIB // PAGE_SIZE


class Counters(object):

    def __init__(self, roles, samples, gaps=None, errors=None):

        self._roles = roles # List of words, as the guest's command line has
        self._samples = samples # List of Sample, in seconds since the epoch
        self._gaps = gaps # Longest gap of each vCPU, milliseconds
        # What each vCPU found damaged at the destination, None for nothing;
        # None for all of them if that was not looked at
        self._errors = errors

    def timings(self):
        """
        How long each vCPU takes for a GiB, as the Linux guest tells it

        A vCPU that stands still has no record until it moves again.
        """
        records = []
        last = {}
        for sample in self._samples:
            for vcpu, ops in enumerate(sample.ops):
                if vcpu not in last:
                    last[vcpu] = (sample.time, ops)
                before, done = last[vcpu]
                if ops > done and sample.time > before:
                    records.append(TimingRecord(
                        vcpu, sample.time,
                        round(1000 * (sample.time - before) *
                              PAGES_PER_GIB / (ops - done))))
                    last[vcpu] = (sample.time, ops)
        return Timings(records)

    def serialize(self):
        return {
            "roles": self._roles,
            "times": [round(sample.time, 4) for sample in self._samples],
            "ops": [list(ops) for ops in
                    zip(*[sample.ops for sample in self._samples])],
            "gaps": self._gaps,
            "errors": self._errors,
        }

    @classmethod
    def deserialize(cls, data):
        if data is None:
            return None
        return cls(data["roles"],
                   [Sample(time, ops) for time, ops in
                    zip(data["times"], zip(*data["ops"]))],
                   data["gaps"],
                   data["errors"])
