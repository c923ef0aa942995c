#
# Migration test batches of scenarios
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import fnmatch
import os
import sys
import time

from guestperf.report import Report

from stressvm import probe

# What needs to know who dirties memory, unless auto-converge stands in
NEED_MECHANISM = ("dirty-limit", "dirty-quota")


def select(comparisons, pattern):
    """(comparison, scenario) whose names with a '/' between them match"""
    return [(comparison, scenario) for comparison in comparisons
            for scenario in comparison._scenarios
            if fnmatch.fnmatch("%s/%s" % (comparison._name, scenario._name),
                               pattern)]


def why_not(engine, hardware, scenario):
    """Why a scenario cannot be run, or None"""
    wanted = scenario.capabilities()
    for name in wanted:
        if not probe.has_capability(engine._binary, name):
            return "%s has no capability '%s'" % (engine._binary, name)
    needy = [name for name in NEED_MECHANISM if name in wanted]
    if needy and not scenario._auto_converge:
        if engine._accel != "kvm":
            return "'%s' needs KVM" % needy[0]
        if not hardware._dirty_ring_size and not probe.has_statistics():
            return "'%s' needs --dirty-ring-size with this KVM" % needy[0]
    return None


def duration(seconds):
    """For people"""
    if seconds < 100:
        return "%d s" % round(seconds)
    return "%d min" % round(seconds / 60)


class Batch(object):
    """
    Scenarios one after another, each with all binaries by turns

    @engines: (label, Engine); the label is None for the binary itself
    """

    def __init__(self, engines, hardware, output, resume=False,
                 out=sys.stderr):

        self._engines = engines
        self._hardware = hardware
        self._output = output
        self._resume = resume
        self._out = out
        self.reports = []
        self.skipped = []
        self.failed = []

    def _say(self, text):
        print(text, file=self._out, flush=True)

    def filename(self, label, comparison, scenario):
        directory = comparison._name
        if label is not None:
            directory += "@" + label
        return os.path.join(self._output, directory,
                            scenario._name + ".json")

    def _is_done(self, filename, engine, scenario):
        """The report is there, of the same run, and newer than the binary"""
        try:
            if (os.stat(filename).st_mtime <
                    os.stat(engine._binary).st_mtime):
                return False
            report = Report.from_json_file(filename)
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return (report._scenario.serialize() == scenario.serialize() and
                report._hardware.serialize() == self._hardware.serialize() and
                (report._binary, report._guest, report._accel,
                 report._sleep, report._transport, report._dst_host) ==
                (engine._binary, engine._guest, engine._accel,
                 engine._sleep, engine._transport, engine._dst_host))

    @staticmethod
    def _write(filename, report):
        """All of it or nothing, whatever interrupts"""
        os.makedirs(os.path.dirname(filename), exist_ok=True)
        new = filename + ".new"
        try:
            with open(new, "w") as fh:
                print(report.to_json(), file=fh)
            os.replace(new, filename)
        except BaseException:
            if os.path.exists(new):
                os.remove(new)
            raise

    def run(self, selected):
        todo = []
        for comparison, scenario in selected:
            for label, engine in self._engines:
                filename = self.filename(label, comparison, scenario)
                reason = why_not(engine, self._hardware, scenario)
                if reason is not None:
                    self.skipped.append(filename)
                    self._say("Skipping %s: %s" % (filename, reason))
                elif self._resume and self._is_done(filename, engine,
                                                    scenario):
                    self.reports.append(filename)
                    self._say("Keeping %s" % filename)
                else:
                    todo.append((filename, label, engine, scenario))

        begin = time.monotonic()
        for i, (filename, label, engine, scenario) in enumerate(todo):
            elapsed = time.monotonic() - begin
            expected = ""
            if i:
                expected = ", about %s to go" % duration(
                    elapsed / i * (len(todo) - i))
            self._say("%d of %d: %s (%s elapsed%s)" % (
                i + 1, len(todo), filename, duration(elapsed), expected))
            try:
                report = engine.run(self._hardware, scenario)
            except Exception as e:
                if engine._debug:
                    raise
                self.failed.append(filename)
                self._say("Failed %s: %s" % (filename, e))
                continue
            report._label = label
            self._write(filename, report)
            self.reports.append(filename)
        self._say("%d run, %d kept, %d skipped, %d failed, %s" % (
            len(todo) - len(self.failed),
            len(self.reports) - len(todo) + len(self.failed),
            len(self.skipped), len(self.failed),
            duration(time.monotonic() - begin)))
