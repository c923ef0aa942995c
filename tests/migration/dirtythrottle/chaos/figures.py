#
# Dirty throttle chaos: does what query-migrate tells fit together?
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import math

from typing import Any, Iterator, Mapping

Info = Mapping[str, Any]

STATUSES = frozenset((
    "none", "setup", "cancelling", "cancelled", "active", "postcopy-active",
    "postcopy-paused", "postcopy-recover", "completed", "failed", "colo",
    "pre-switchover", "device", "wait-unplug"))

# A migration may get from one to the other of these without our seeing it, but
# never back
_ENDED = frozenset(("completed", "failed", "cancelled"))

# Phases in which vCPUs may have a share, as 'quota'
_SHARING = ("throttling", "cannot-help")

# Reasons that mean that nothing tells who dirties memory; if it goes by the CPU
# time of vCPUs then, one is told in all phases
_NO_MECHANISM = ("no-mechanism", "unexplained")

# More than any memory can be written with
_TOO_FAST_MBPS = 1e6

# The budget is that of the last decision, and the bandwidth may have fallen
# since; that it does so by half in the 100 ms takes a machine that is very busy
_FALLEN = 2

# What may pass while one answer is put together, and setting a migration up,
# which the total time has not in it
_LATER_MS = 3000

# Pages that may be sent meanwhile, on a machine that is very busy
_LATER_PAGES = 10000

# While memory is sent
_SENDING = ("active", "postcopy-active", "device", "pre-switchover",
            "cancelling")


def inconsistencies(info: Info, capabilities: Mapping[str, bool],
                    max_vcpus: int, has_ring: bool) -> list[str]:
    """What cannot be in one answer to query-migrate"""
    return list(_general(info, capabilities)) + list(
        _throttle(info, capabilities, max_vcpus, has_ring))


def regressions(earlier: Info, later: Info) -> list[str]:
    """What cannot follow one another during one migration"""
    return list(_regressions(earlier, later))


def _general(info: Info, capabilities: Mapping[str, bool]) -> Iterator[str]:
    status = info.get("status", "none")
    if status not in STATUSES:
        yield "unknown status '%s'" % status
    if (status == "failed") < ("error-desc" in info):
        yield "an error while the status is '%s'" % status
    for name in ("total-time", "setup-time", "downtime", "expected-downtime"):
        # QEMU has no bound for a switch-over that is never to be expected
        if not 0 <= info.get(name, 0):
            yield "%s is %s" % (name, info[name])
    percentage = info.get("cpu-throttle-percentage")
    if percentage is not None and not 1 <= percentage <= 99:
        yield "auto-converge takes %d %%" % percentage

    ram = info.get("ram")
    if ram is None:
        return
    for name, value in ram.items():
        if not (isinstance(value, (int, float)) and math.isfinite(value) and
                value >= 0):
            yield "ram's %s is %s" % (name, value)
    if ram["remaining"] > ram["total"]:
        yield "%d of %d bytes remain" % (ram["remaining"], ram["total"])
    # Read one after the other, while pages are sent
    later = ram["normal-bytes"] - ram["normal"] * ram["page-size"]
    if not 0 <= later <= (_LATER_PAGES * ram["page-size"]
                          if status in _SENDING else 0):
        yield "%d normal pages have %d bytes" % (ram["normal"],
                                                 ram["normal-bytes"])
    if status == "completed" and ram["remaining"]:
        yield "completed with %d bytes left" % ram["remaining"]


def _throttle(info: Info, capabilities: Mapping[str, bool], max_vcpus: int,
              has_ring: bool) -> Iterator[str]:
    limit, quota = capabilities["dirty-limit"], capabilities["dirty-quota"]
    throttle = info.get("dirty-throttle")
    in_service = "dirty-limit-throttle-time-per-round" in info
    if in_service != ("dirty-limit-ring-full-time" in info):
        yield "one of the members of dirty-limit, but not the other"
    if in_service and not limit:
        yield "members of dirty-limit, which is off"
    if throttle is None:
        return
    mode = {(False, False): "none", (True, False): "limit",
            (False, True): "quota", (True, True): "limit-and-quota"}[
                limit, quota]
    phase, reason = throttle["phase"], throttle.get("reason")
    if throttle["mode"] != mode:
        yield "mode is '%s', not '%s'" % (throttle["mode"], mode)
    if (mode == "none") != (phase == "off") and "mechanism" in throttle:
        yield "mode '%s' in phase '%s'" % (mode, phase)
    alike = throttle.get("mechanism") == "cpu-time"
    if (alike or phase == "cannot-help") != (reason is not None):
        yield "reason '%s' in phase '%s'" % (reason, phase)
    if alike and not (quota and capabilities["auto-converge"]):
        yield "all vCPUs alike in mode '%s'" % mode
    # Where nothing is to be throttled, nobody asks what it would be done with
    if mode != "none" and not alike and (
            ("mechanism" in throttle) == (reason in _NO_MECHANISM)):
        yield "mechanism '%s', reason '%s'" % (throttle.get("mechanism"),
                                               reason)
    if ("reaper" in throttle) != has_ring:
        yield "a reaper without rings, or none with"
    if throttle["fallback"] and (phase != "cannot-help" or
                                 not capabilities["auto-converge"]):
        yield "fallback in phase '%s'" % phase
    if throttle["phase-time"] > info.get("total-time", 0) + _LATER_MS:
        yield "in its phase for %d ms of %d" % (throttle["phase-time"],
                                                info.get("total-time", 0))
    if "pool" in throttle and not (quota and phase in _SHARING):
        yield "a pool in mode '%s', phase '%s'" % (mode, phase)
    for name in ("bandwidth", "budget", "device-rate"):
        if not 0 <= throttle[name] < _TOO_FAST_MBPS:
            yield "%s is %s MB/s" % (name, throttle[name])
    if throttle["budget"] > throttle["bandwidth"] * _FALLEN:
        yield "a budget of %s of %s MB/s" % (throttle["budget"],
                                             throttle["bandwidth"])
    yield from _vcpus(throttle, max_vcpus)
    yield from _reaper(throttle)


def _vcpus(throttle: Info, max_vcpus: int) -> Iterator[str]:
    vcpus = throttle["vcpus"]
    indices = [vcpu["cpu-index"] for vcpu in vcpus]
    if indices != sorted(set(indices)) or not all(
            0 <= index < max_vcpus for index in indices):
        yield "vCPUs %s of %d" % (indices, max_vcpus)
    for vcpu in vcpus:
        for name in ("rate", "quota"):
            if not 0 <= vcpu.get(name, 0) < _TOO_FAST_MBPS:
                yield "vCPU %d: %s is %s MB/s" % (vcpu["cpu-index"], name,
                                                  vcpu[name])
        if not 0 <= vcpu["throttled"] <= 100:
            yield "vCPU %d: throttled %s %%" % (vcpu["cpu-index"],
                                                vcpu["throttled"])
        if "limit" in vcpu and vcpu["limit"] < 1:
            yield "vCPU %d: a limit of %d" % (vcpu["cpu-index"],
                                              vcpu["limit"])
        if "quota" in vcpu and "pool" not in throttle:
            yield "vCPU %d: a quota, and no pool" % vcpu["cpu-index"]
        # One that is interrupted counts when it ends, which is soon
        if vcpu["penalty-time"] > _LATER_MS and not vcpu["penalties"]:
            yield "vCPU %d: slept without a penalty" % vcpu["cpu-index"]
    # Those that have been unplugged count in the total
    if sum(vcpu["ring-full-exits"] for vcpu in vcpus) > \
            throttle["ring-full-exits"]:
        yield "vCPUs' rings were full more often than all together"


def _reaper(throttle: Info) -> Iterator[str]:
    reaper = throttle.get("reaper")
    if reaper is None:
        return
    if reaper["new-pages"] > reaper["pages"]:
        yield "%d of %d harvested pages are new" % (reaper["new-pages"],
                                                    reaper["pages"])
    if not reaper["interval"] <= 1000:
        yield "the reaper looks in %d ms" % reaper["interval"]


def _regressions(earlier: Info, later: Info) -> Iterator[str]:
    before, after = earlier.get("status"), later.get("status")
    if before in _ENDED and after != before:
        yield "from '%s' to '%s'" % (before, after)
    if "ram" in earlier and "ram" in later:
        for name in ("transferred", "normal", "duplicate", "dirty-sync-count"):
            if later["ram"][name] < earlier["ram"][name]:
                yield "ram's %s went from %d to %d" % (
                    name, earlier["ram"][name], later["ram"][name])
    first, second = (info.get("dirty-throttle") for info in (earlier, later))
    if not first or not second:
        return
    if "reaper" in first and "reaper" in second:
        for name in ("reaps", "pages", "new-pages", "time"):
            if second["reaper"][name] < first["reaper"][name]:
                yield "the reaper's %s went from %d to %d" % (
                    name, first["reaper"][name], second["reaper"][name])
    if second["ring-full-exits"] < first["ring-full-exits"]:
        yield "rings were full %d times, and then %d" % (
            first["ring-full-exits"], second["ring-full-exits"])
    then = {vcpu["cpu-index"]: vcpu for vcpu in first["vcpus"]}
    for vcpu in second["vcpus"]:
        old = then.get(vcpu["cpu-index"])
        for name in ("penalties", "penalty-time", "ring-full-exits"):
            if old and vcpu[name] < old[name]:
                yield "vCPU %d: %s went from %d to %d" % (
                    vcpu["cpu-index"], name, old[name], vcpu[name])
