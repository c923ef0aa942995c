#
# Migration test charts
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""
From series to plotly's figures. They are as wide as the page and have no
background, so that they fit any, and the page sets the colour of the text.
"""

import math

from plotly import graph_objs as go
from plotly.subplots import make_subplots

# Readable on white and on black
COLORS = ("#3b82f6", "#f97316", "#10a37f", "#c026d3", "#dc2626", "#b08900",
          "#0891b2", "#84845a")
GRID = "rgba(128, 128, 128, 0.3)"
NEUTRAL = "#8a8f98"

PHASE_COLORS = {
    "first pass": "#8a8f98",
    "watching": "#3b82f6",
    "iterating": "#3b82f6",
    "throttling": "#f97316",
    "auto-converge": "#c026d3",
    "cannot help": "#dc2626",
    "fallback": "#c026d3",
    "post-copy": "#10a37f",
    "downtime": "#dc2626",
}

DEADLINE_COLOR = "#dc2626"

# What a deadline may be later than the end of the migration, in parts of that,
# to be drawn; one that is hours away would leave the migration no room
FAR = 1

# Of a run's charts, where there is one
FORECAST_ROW = 5

ROW_PIXELS = 150
# For the title, the legend and the axis
MARGIN_PIXELS = 130


def color(index):
    return COLORS[index % len(COLORS)]


def line(series, name, index, dash="solid", group=None, shown=True,
         unit="", tint=None):
    times, values = series
    return go.Scatter(
        x=[round(time, 2) for time in times],
        y=[None if value is None else round(value, 2) for value in values],
        name=name, mode="lines", legendgroup=group or name,
        showlegend=shown, hovertemplate="%{y:.4~g} " + unit,
        line={"color": tint or color(index), "dash": dash, "width": 1.5})


def panels(titles, height=ROW_PIXELS):
    """Charts one above the other, with one time axis"""
    figure = make_subplots(
        rows=len(titles), cols=1, shared_xaxes=True,
        vertical_spacing=0.3 / len(titles) / 1.6, subplot_titles=titles)
    # Above the left end of each chart, where a narrow page has room for them
    figure.update_annotations(x=0, xanchor="left", font_size=13)
    figure.update_layout(
        height=height * len(titles) + MARGIN_PIXELS,
        margin={"l": 48, "r": 12, "t": 48, "b": 40},
        paper_bgcolor="rgba(0, 0, 0, 0)", plot_bgcolor="rgba(0, 0, 0, 0)",
        modebar={"bgcolor": "rgba(0, 0, 0, 0)", "color": NEUTRAL,
                 "activecolor": COLORS[0]},
        hovermode="x unified", hoverlabel={"font": {"color": "#111"},
                                           "bgcolor": "#f4f4f4"},
        legend={"orientation": "h", "x": 0, "y": -0.09,
                "yanchor": "top"})
    figure.update_xaxes(gridcolor=GRID, zerolinecolor=GRID)
    figure.update_yaxes(gridcolor=GRID, zerolinecolor=GRID,
                        rangemode="tozero")
    figure.update_xaxes(title_text="seconds since the migration began",
                        title_standoff=4, row=len(titles), col=1)
    return figure


def add_phases(figure, series):
    """What the migration was at, behind all charts"""
    shown = set()
    for begin, end, name in series.phases():
        figure.add_vrect(
            x0=begin, x1=end, line_width=0, opacity=0.16, layer="below",
            fillcolor=PHASE_COLORS.get(name, NEUTRAL), row="all", col=1)
        if name in shown or name == "setup":
            continue
        shown.add(name)
        # A legend needs no room in the chart, where phases may be short
        figure.add_trace(go.Scatter(
            x=[None], y=[None], name=name, mode="markers",
            legendgroup="phase " + name,
            marker={"symbol": "square", "size": 11, "opacity": 0.5,
                    "color": PHASE_COLORS.get(name, NEUTRAL)}),
            row=1, col=1)


def deadline_of(series):
    """Where to draw the deadline, None for nowhere"""
    deadline = series.deadline()
    if deadline is None or deadline > (1 + FAR) * series.end():
        return None
    return deadline


def add_moments(figure, series):
    """Lines across all charts, for what has no duration"""
    for time, name, tint, dash in (
            (series.first_pass_end(), "end of the first pass", NEUTRAL, "dot"),
            (deadline_of(series), "deadline", DEADLINE_COLOR, "dash")):
        if time is None:
            continue
        style = {"color": tint, "dash": dash, "width": 2}
        figure.add_vline(x=time, line=style, row="all", col=1)
        figure.add_trace(go.Scatter(x=[None], y=[None], name=name,
                                    mode="lines", line=style), row=1, col=1)


def add_forecasts(figure, series, times, told):
    """
    How the forecast settles while the migration runs, in the last chart

    @times: when it was told
    @told: RunForecast at each of them
    """
    traces = []
    for name, attribute, dash in (("forecast", "_total_time", "solid"),
                                  ("least", "_least_time", "dot"),
                                  ("most", "_most_time", "dot")):
        values = [getattr(forecast, attribute) for forecast in told]
        traces.append(line(
            (times, [None if value is None else value / 1000
                     for value in values]), name, 6, dash, unit="s"))
    for name, value, dash in (
            ("forecast before it began", series.forecast_before(), "dash"),
            ("what it took", series.total(), "solid")):
        if value is not None and value < math.inf:
            traces.append(line(([0, series.end()], [value] * 2), name, 0,
                               dash, unit="s", tint=NEUTRAL))
    never = [time for time, forecast in zip(times, told)
             if not forecast._ends]
    if never:
        # Where the line has a gap
        traces.append(go.Scatter(
            x=[round(time, 2) for time in never], y=[0] * len(never),
            name="forecast never to end", mode="markers",
            hovertemplate="never", marker={
                "symbol": "x", "size": 6, "color": DEADLINE_COLOR}))
    for trace in traces:
        figure.add_trace(trace, row=FORECAST_ROW, col=1)


def timeline(series):
    """One migration: what it did, and what that did to the guest"""
    times, told = series.forecasts()
    titles = ["Throughput of each vCPU, % of before",
              "Dirty page rate and budget, MiB/s",
              "Penalty, % of the time",
              "Memory still to be sent, MiB"]
    if told:
        titles.append("Forecast of the whole time, s")
    figure = panels(titles)
    names = series.vcpu_names()
    for i, points in enumerate(series.throughput()):
        figure.add_trace(line(points, names[i], i, unit="%"), row=1, col=1)

    for index, points in series.vcpu_dirty_rates():
        figure.add_trace(line(points, names[index], index, shown=False,
                              unit="MiB/s"), row=2, col=1)
    if not series.vcpu_dirty_rates():
        figure.add_trace(line(series.dirty_rate(), "dirty page rate", 5,
                              unit="MiB/s"), row=2, col=1)
    for points, name, dash in (
            (series.budget(), "budget", "dash"),
            (series.bandwidth(), "bandwidth", "dot")):
        if points[0]:
            figure.add_trace(line(points, name, 0, dash, unit="MiB/s",
                                  tint=NEUTRAL), row=2, col=1)

    for index, points in series.penalties():
        figure.add_trace(line(points, names[index], index, shown=False,
                              unit="%"), row=3, col=1)
    if any(series.cpu_throttle()[1]) or not series.penalties():
        figure.add_trace(line(series.cpu_throttle(), "auto-converge", 3,
                              shown=any(series.cpu_throttle()[1]),
                              unit="%"), row=3, col=1)
    figure.update_yaxes(range=[0, 100], row=3, col=1)

    figure.add_trace(line(series.remaining(), "still to be sent", 6,
                          unit="MiB"), row=4, col=1)
    if told:
        add_forecasts(figure, series, times, told)
    add_phases(figure, series)
    add_moments(figure, series)
    return figure


def together(named_series):
    """
    Several strategies on one time axis

    @named_series: (name, Series) of each
    """
    roles = []
    for _, series in named_series:
        roles += [name for name in series.vcpu_names() if name not in roles]
    figure = panels(["vCPU %s, %% of before" % role for role in roles] +
                    ["Memory still to be sent, MiB" +
                     ("; dashed: deadline" if any(
                         deadline_of(series) is not None
                         for _, series in named_series) else "")], 170)
    for i, (name, series) in enumerate(named_series):
        shown = True
        for role, points in zip(series.vcpu_names(), series.throughput()):
            figure.add_trace(
                line(points, name, i, group=name, shown=shown, unit="%"),
                row=1 + roles.index(role), col=1)
            shown = False
        figure.add_trace(
            line(series.remaining(), name, i, group=name, shown=shown,
                 unit="MiB"), row=len(roles) + 1, col=1)
        deadline = deadline_of(series)
        if deadline is not None:
            # A line to the ground, which goes when the strategy is hidden
            figure.add_trace(
                line(([deadline] * 2,
                      [0, max(series.remaining()[1], default=0)]),
                     name + ", deadline", i, "dash", group=name, shown=False,
                     unit="MiB"), row=len(roles) + 1, col=1)
    return figure
