#
# Migration test report page
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""
One HTML file without anything outside it: the style, plotly's script, charts
and tables. Light or dark as the reader's system is.
"""

import html

from plotly.offline import get_plotlyjs, plot

from guestperf import charts, summary
from guestperf.series import Series

# With more runs than this, their timelines are drawn when asked for
OPEN_TIMELINES = 8

STYLE = """
:root {
  color-scheme: light dark;
  --text: #1c2128; --soft: #5b6470; --back: #ffffff; --card: #f5f6f8;
  --line: #d5d9df; --bad: #b91c1c;
}
@media (prefers-color-scheme: dark) {
  :root {
    --text: #e4e7eb; --soft: #9aa4b1; --back: #14171b; --card: #1d2127;
    --line: #363c45; --bad: #f87171;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1rem; max-width: 1500px; color: var(--text);
  background: var(--back); font: 15px/1.45 sans-serif;
}
h1 { font-size: 1.5rem; margin: 0.5rem 0; }
h2 { font-size: 1.2rem; margin: 2rem 0 0.3rem; }
p { margin: 0.3rem 0 0.8rem; color: var(--soft); overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; margin: 0.6rem 0; }
th, td { padding: 0.35rem 0.6rem; border-bottom: 1px solid var(--line); }
th { text-align: right; vertical-align: bottom; font-weight: 600;
     color: var(--soft); font-size: 0.85rem; }
td { text-align: right; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; }
td:first-child { font-weight: 600; min-width: 9rem; }
.bad { color: var(--bad); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.2rem 1rem;
     color: var(--soft); font-size: 0.9rem; }
dt { font-weight: 600; }
dd { margin: 0; }
.runs { display: grid; gap: 1rem; margin-top: 1rem;
        grid-template-columns:
          repeat(auto-fit, minmax(min(100%, 34rem), 1fr)); }
details { background: var(--card); border: 1px solid var(--line);
          border-radius: 6px; padding: 0.5rem 0.8rem; min-width: 0; }
summary { cursor: pointer; font-weight: 600; }
.chart { min-width: 0; overflow: hidden; }
#report table { width: auto; }
#report th { text-align: right; vertical-align: top; }
#report td { text-align: left; overflow-wrap: anywhere; }
#report td:first-child { font-weight: normal; }
#report .subhead th { text-align: left; color: var(--text); }
@media (max-width: 760px) {
  body { padding: 0.6rem; }
  .summary thead { display: none; }
  .summary, .summary tbody { display: block; }
  .summary tr { display: block; background: var(--card);
       border: 1px solid var(--line); border-radius: 6px;
       margin: 0 0 0.7rem; padding: 0.4rem 0.7rem; }
  .summary td { display: flex; justify-content: space-between; gap: 1rem;
       padding: 0.15rem 0; border: 0; }
  .summary td::before { content: attr(data-head); color: var(--soft);
       font-weight: normal; text-align: left; }
  .summary td:first-child::before { content: none; }
  dl { display: block; }
  dd { margin: 0 0 0.5rem; }
}
@media print { details { break-inside: avoid; } }
"""

# Charts are drawn in the colour of the page's text, and again whenever that
# or their room changes.
SCRIPT = """
const dark = matchMedia('(prefers-color-scheme: dark)');
function draw(chart) {
  if (chart.offsetWidth === 0) {
    return;
  }
  Plotly.relayout(chart, {
    'font.color': getComputedStyle(document.body).color,
    width: chart.parentNode.offsetWidth,
  });
}
function drawAll() {
  document.querySelectorAll('.plotly-graph-div').forEach(draw);
}
dark.addEventListener('change', drawAll);
addEventListener('resize', drawAll);
addEventListener('load', drawAll);
document.querySelectorAll('details').forEach(
  details => details.addEventListener('toggle', drawAll));
"""


def document(title, body, style=""):
    return """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>%s</title>
<style>%s%s</style>
<script>%s</script>
</head>
<body>
%s
<script>%s</script>
</body>
</html>
""" % (html.escape(title), STYLE, style, get_plotlyjs(), body, SCRIPT)


def chart(figure):
    return '<div class="chart">%s</div>' % plot(
        figure, show_link=False, include_plotlyjs=False, output_type="div",
        config={"displaylogo": False,
                "modeBarButtonsToRemove": ["lasso2d", "select2d"]})


def is_bad(cell):
    """What is to stand out"""
    return (cell in ("never", "wrong") or cell.startswith("never [") or
            "DAMAGED" in cell)


def table(lines):
    heads = [html.escape(head) for head in lines[0]]
    pieces = ['<table class="summary"><thead><tr>']
    pieces += ["<th>%s</th>" % head for head in heads]
    pieces.append("</tr></thead><tbody>")
    for line in lines[1:]:
        pieces.append("<tr>")
        for head, cell in zip(heads, line):
            bad = ' class="bad"' if is_bad(cell) else ""
            pieces.append('<td data-head="%s"><span%s>%s</span></td>' % (
                head, bad, html.escape(cell)))
        pieces.append("</tr>")
    pieces.append("</tbody></table>")
    return "".join(pieces)


def legend():
    return "<dl>%s</dl>" % "".join(
        "<dt>%s</dt><dd>%s.</dd>" % tuple(map(html.escape, entry))
        for entry in summary.LEGEND)


def forecast(report, names):
    """What was to become of it, if that was forecast"""
    if report._forecast is None:
        return ""
    return '<p class="forecast">%s</p>%s' % (
        html.escape(summary.forecast_text(report)),
        table(summary.forecast_rows(report, names)))


def record(report, names):
    """What was taken from vCPUs, if anything was to be"""
    if report._record is None:
        return ""
    return '<p class="record">%s</p>%s' % (
        html.escape(summary.record_text(report._record)),
        table(summary.record_rows(report._record, names)))


def of_group(group, is_open):
    named = list(zip(summary.names(group._reports),
                     map(Series, group._reports)))
    pieces = ["<h2>%s</h2>" % html.escape(group._title),
              "<p>%s</p>" % html.escape(
                  summary.machine(group._reports[0])),
              table(summary.rows(group._reports))]
    if len(named) > 1:
        pieces.append("<details%s><summary>side by side</summary>%s"
                      "</details>" % (" open" if is_open else "",
                                      chart(charts.together(named))))
    pieces.append('<div class="runs">')
    for report, (name, series) in zip(group._reports, named):
        pieces.append("<details%s><summary>%s</summary>%s%s%s</details>" % (
            " open" if is_open else "", html.escape(name),
            chart(charts.timeline(series)),
            forecast(report, series.vcpu_names()),
            record(report, series.vcpu_names())))
    pieces.append("</div>")
    return "\n".join(pieces)


def comparison(reports):
    """The page for reports, those side by side that can be compared"""
    is_open = len(reports) <= OPEN_TIMELINES
    groups = summary.group(reports)
    body = ["<h1>Migration strategies side by side</h1>",
            "<p>%d runs. Every chart has one time axis; a click in its legend "
            "shows or hides a line, dragging enlarges.</p>" % len(reports)]
    body += [of_group(group, is_open) for group in groups]
    body += ["<h2>What the table tells</h2>", legend()]
    return document("Migration strategies side by side", "\n".join(body))
