#
# Throttle simulator: a page with what came of all runs
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""The page of guestperf, with simulated runs in place of real ones"""

import html

from typing import Any, Sequence

from guestperf import charts, page

from throttlesim.series import SimSeries

HEADS = ("policy", "total", "of what is possible", "work lost",
         "writers keep", "readers keep", "Jain's index", "worst second",
         "longest stall", "rate varies by", "phases")

LEGEND = (
    ("of what is possible", "the least time in which writers may dirty half of"
     " what the link carries, as a part of the total; only where link and"
     " guest are steady"),
    ("work lost", "the sum over vCPUs, in seconds of one of them"),
    ("writers keep, readers keep", "the least of any, of what it wants, from"
     " when vCPUs are slowed down"),
    ("Jain's index", "how evenly writers are slowed: 100 % if all alike"),
    ("worst second", "the least that any vCPU keeps in a second"),
    ("rate varies by", "the standard deviation of what all vCPUs dirty in 100"
     " ms, as a part of the mean"),
)

Row = dict[str, str]


def _percent(value: str) -> str:
    return "%.1f %%" % (100 * float(value))


def _cells(row: Row) -> tuple[str, ...]:
    total, possible = float(row["total_s"]), float(row["possible_s"])
    completed = row["completed"] == "1"
    return (row["policy"],
            "%.2f s" % total if completed else "never",
            "%.0f %%" % (100 * possible / total)
            if completed and possible else "-",
            "%.1f s" % float(row["lost_s"]),
            _percent(row["writer_kept"]), _percent(row["reader_kept"]),
            _percent(row["jain"]), _percent(row["worst_second"]),
            "%.0f ms" % float(row["stall_ms"]), _percent(row["oscillation"]),
            row["phases"] if row["vcpu_bytes"] != "0" else "-")


def _scenario(title: str, rows: Sequence[Row],
              runs: dict[tuple[str, str], SimSeries], detailed: str) -> str:
    name = rows[0]["scenario"]
    named: list[tuple[str, Any]] = [
        (row["policy"], runs[name, row["policy"]]) for row in rows
        if (name, row["policy"]) in runs]
    pieces = ["<h2>%s</h2>" % html.escape(name),
              "<p>%s</p>" % html.escape(title),
              page.table([HEADS, *map(_cells, rows)]),
              "<details><summary>side by side</summary>%s</details>" %
              page.chart(charts.together(named))]
    if (name, detailed) in runs:
        pieces.append("<details><summary>%s</summary>%s</details>" % (
            detailed, page.chart(charts.timeline(runs[name, detailed]))))
    return "\n".join(pieces)


def document(titles: dict[str, str], rows: Sequence[Row],
             runs: dict[tuple[str, str], SimSeries],
             detailed: str = "dirty-quota") -> str:
    """All scenarios, in the order of @titles, which has their titles by name"""
    head = "Migrations in a simulator"
    body = ["<h1>%s</h1>" % head,
            "<p>The engine is the one that QEMU runs. A click in the legend of"
            " a chart shows or hides a line, dragging enlarges.</p>"]
    for name, title in titles.items():
        body.append(_scenario(title, [row for row in rows
                                      if row["scenario"] == name], runs,
                              detailed))
    body += ["<h2>What the tables tell</h2>",
             "<dl>%s</dl>" % "".join("<dt>%s</dt><dd>%s.</dd>" % tuple(
                 map(html.escape, entry)) for entry in LEGEND)]
    return page.document(head, "\n".join(body))
