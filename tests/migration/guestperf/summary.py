#
# Migration test summary table
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import re

from guestperf.figures import Figures, seconds_or_never

from stressvm import table
from stressvm.measure import MIB, Spread

NAME_HEADS = ("strategy", "total s")
FORECAST_HEADS = ("forecast s", "error %")
HEADS = ("downtime ms", "sent MiB", "stall ms", "time, % of model",
         "writers, % of model")
DEADLINE_HEADS = ("deadline s", "ready s", "told s")
VCPU_HEADS = ("worst second %", "lost s")
RECORD_HEADS = ("vCPU", "penalties", "slept s", "longest ms", "lowest MiB/s")
VCPU_FORECAST_HEADS = ("vCPU", "forecast to keep %", "kept %")

LEGEND = (
    ("total", "until the guest runs at the destination; never: not within "
              "the time that the scenario allows"),
    ("forecast", "the total that QEMU told before the migration began, and "
                 "the same for a guest that dirties a bit less or more; -: "
                 "this QEMU forecasts nothing, or not this strategy"),
    ("error", "by how much the forecast is longer than the total, in %. If "
              "one of them is never, right or wrong: a migration that did "
              "not end should have been forecast to last longer than anybody "
              "waited"),
    ("stall", "the longest time for which any vCPU did nothing that was due"),
    ("time, % of model", "how long it should take to how long it took, until "
                         "the switch-over; 100 is as fast as possible at half "
                         "of the link for the writers, or, with a deadline, "
                         "in time with as much for them as can be. "
                         "Post-copy: of the time that one pass over memory "
                         "takes"),
    ("writers, % of model", "what writers dirtied after the first pass, in % "
                            "of half of the link, or of what the deadline "
                            "leaves them. More than 100: they kept "
                            "more, and the migration took longer for it. -: "
                            "the deadline is so tight that they have to be "
                            "slowed in the first pass"),
    ("deadline", "by when the guest was to be ready to be switched over, and "
                 "when it was"),
    ("told", "when it can be ready at the earliest, as QEMU told it when it "
             "first said that the deadline will be missed; -: it never did"),
    ("worst second", "the least that a vCPU got done in any second, in % of "
                     "what it did before the migration"),
    ("lost", "work that a vCPU did not get done during the migration, in "
             "seconds at its speed before; less than 0: it got faster, as "
             "others left it their CPU time"),
)


class Group(object):
    """The runs that differ in their strategy or their binary only"""

    def __init__(self, title):

        self._title = title
        self._reports = []


def title_of(report):
    scenario = report._scenario
    title = "Link %g MiB/s" % scenario._bandwidth
    if scenario._roles:
        title += ", " + " and ".join(scenario._roles)
    return title


def natural(text):
    """A key by which 50 comes before 100"""
    return [int(word) if word.isdecimal() else word
            for word in re.split(r"(\d+)", text)]


def group(reports):
    """Groups in the order of their titles, reports as they come"""
    groups = {}
    for report in reports:
        title = title_of(report)
        groups.setdefault(title, Group(title))._reports.append(report)
    return sorted(groups.values(), key=lambda of: natural(of._title))


def names(reports):
    """What tells the reports of a group apart"""
    full = [report._scenario._name for report in reports]
    prefix = ""
    if len(set(full)) > 1:
        words = [name.split("-") for name in full]
        common = 0
        while all(len(w) > common + 1 for w in words) and (
                len({w[common] for w in words}) == 1):
            common += 1
        prefix = "".join(word + "-" for word in words[0][:common])
    return [name[len(prefix):] +
            (" (%s)" % report._label if report._label else "")
            for name, report in zip(full, reports)]


def vcpu_names(reports):
    """The vCPUs that any of the reports has, in their order"""
    found = []
    for report in reports:
        for i, vcpu in enumerate(Figures(report)._vcpus):
            name = "%d %s" % (i, vcpu._role)
            if name not in found:
                found.append(name)
    return found


def forecast_spread(forecast):
    """Seconds"""
    if forecast is None:
        return "-"
    return table.median_and_range(Spread(*(
        seconds_or_never(time) for time in (
            forecast._total_time, forecast._least_time,
            forecast._most_time))))


def forecast_cells(report, figures):
    error = table.number(figures.forecast_error())
    if figures._forecast is not None and figures.forecast_error() is None:
        error = "right" if figures.is_forecast_right() else "wrong"
    return [forecast_spread(report._forecast), error]


def deadline_cells(figures):
    told = table.number(figures._earliest)
    if figures._missed and figures._earliest is None:
        told = "nobody knows"
    return [table.number(figures._deadline), table.number(figures._ready),
            told]


def rows(reports):
    """The table: heads, then a line for each report"""
    vcpus = vcpu_names(reports)
    deadlines = any(report._scenario.deadline() for report in reports)
    forecasts = any(report._forecast is not None for report in reports)
    lines = [list(NAME_HEADS) + list(FORECAST_HEADS if forecasts else ()) +
             list(HEADS) + list(DEADLINE_HEADS if deadlines else ()) +
             ["%s %s" % (vcpu, head) for vcpu in vcpus
              for head in VCPU_HEADS]]
    for name, report in zip(names(reports), reports):
        figures = Figures(report)
        if figures._errors:
            name += ", MEMORY DAMAGED"
        line = [name, table.number(figures._total)]
        if forecasts:
            line += forecast_cells(report, figures)
        line += [table.number(value) for value in (
            figures._downtime, round(figures._sent / MIB), figures._stall,
            figures._time_percent, figures._writers_percent)]
        if deadlines:
            line += deadline_cells(figures)
        of = {"%d %s" % (i, vcpu._role): vcpu
              for i, vcpu in enumerate(figures._vcpus)}
        for vcpu in vcpus:
            values = (of[vcpu]._worst, of[vcpu]._lost) if vcpu in of else (
                None, None)
            line += [table.number(value) for value in values]
        lines.append(line)
    return lines


def forecast_rows(report, names):
    """
    What each vCPU was to keep while vCPUs are slowed, and kept: heads, then a
    line for each

    @names: of all vCPUs of the guest
    """
    lines = [list(VCPU_FORECAST_HEADS)]
    shares = {vcpu._index: vcpu._share for vcpu in report._forecast._slowed}
    kept = [vcpu._slowed for vcpu in Figures(report)._vcpus]
    for i, name in enumerate(names):
        lines.append([name, table.number(shares.get(i)),
                      table.number(kept[i] if i < len(kept) else None)])
    if None in shares:
        lines.append(["all together", table.number(shares[None]), "-"])
    return lines


def forecast_text(report):
    """What was to become of a migration, and what has"""
    forecast = report._forecast
    figures = Figures(report)
    words = ["Forecast with %s: " % forecast._strategy]
    if forecast._ends:
        words.append("ends after %s s, downtime %d ms, vCPUs slowed for %s" % (
            forecast_spread(forecast), forecast._downtime,
            seconds(forecast._throttled_time)))
    else:
        words.append("never ends")
        if forecast._least_time is not None:
            words.append(", or after %s" % seconds(forecast._least_time))
    if forecast._deadline_missed is not None:
        words.append(", deadline " + (
            "missed" if forecast._deadline_missed else "met"))
    if figures._completed:
        words.append(". It ended after %s, downtime %d ms." % (
            seconds(1000 * figures._total), figures._downtime))
    else:
        words.append(". It did not end.")
    return "".join(words)


def record_rows(record, names):
    """
    What was taken from each vCPU: heads, then a line for each

    @names: of all vCPUs of the guest
    """
    return [list(RECORD_HEADS)] + [
        [names[vcpu._index] if vcpu._index < len(names) else
         str(vcpu._index)] + [table.number(value) for value in (
             vcpu._penalties, vcpu._penalty_time / 1000,
             vcpu._longest_penalty, vcpu._lowest_rate)]
        for vcpu in record._vcpus]


def seconds(milliseconds):
    return "%.2f s" % (milliseconds / 1000)


def record_change(change):
    why = [words for words, there in (
        (change._reason, change._reason),
        ("auto-converge", change._fallback),
        ("deadline will be missed", change._deadline_missed)) if there]
    return "after %s %s%s" % (
        seconds(change._time), change._phase.replace("-", " "),
        " (%s)" % ", ".join(why) if why else "")


def record_text(record):
    """When throttling began, and what QEMU made of the migration, and why"""
    began = "never throttled"
    if record._throttled_after is not None:
        began = "throttled after " + seconds(record._throttled_after)
    return "; ".join(["%s by %s, %s" % (
        record._mode.capitalize(), record._mechanism or "nothing", began)] +
        [record_change(change) for change in record._changes]) + "."


def machine(report):
    """What all runs have in common"""
    hardware = report._hardware
    words = ["%d vCPUs" % hardware._cpus, "%g GiB" % hardware._mem,
             report._accel.upper()]
    if hardware._dirty_ring_size:
        words.append("dirty ring %d" % hardware._dirty_ring_size)
    words.append("downtime limit %d ms" % report._scenario._downtime)
    words.append(report._binary)
    return ", ".join(words)


def text(reports):
    """All groups for a terminal"""
    pieces = []
    for of in group(reports):
        pieces.append("%s\n(%s)\n\n%s\n" % (
            of._title, machine(of._reports[0]),
            table.aligned(rows(of._reports))))
    pieces += ["%s: %s." % entry for entry in LEGEND]
    return "\n".join(pieces)
