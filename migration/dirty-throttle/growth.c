/*
 * Dirty throttle: how much of memory the first pass is going to leave dirty
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "growth.h"

/* 1 / (1 + x / 64) is squared so often: that gives its 64th power. */
#define SQUARINGS 6

/* exp(-x), and up to half a percent more */
static double growth_stays(double x)
{
    double stays = 1 / (1 + x / (1 << SQUARINGS));

    for (int i = 0; i < SQUARINGS; i++) {
        stays *= stays;
    }
    return stays;
}

/* Between two notes it grows steadily: the integrals of a straight line. */
static void growth_integrate(DirtyGrowth *g, double seconds, double pages)
{
    double took = seconds - g->seconds, more = pages - g->pages;

    g->page_seconds2 += (g->page_seconds + (g->pages / 2 + more / 6) * took) *
                        took;
    g->page_seconds += (g->pages + more / 2) * took;
}

/* @pps: how fast it has grown of late.  See growth.h. */
static double growth_expect(const DirtyGrowth *g, double pps,
                            double left_seconds, double most_pages)
{
    double less = 2 * g->page_seconds - g->pages * g->seconds;
    double rate = less / (g->page_seconds * g->seconds - 2 * g->page_seconds2);

    /* As long as nothing is dirty the rate is no number, and not above 0. */
    if (!(rate > 0) || g->pages + pps / rate > most_pages) {
        return g->pages;
    }
    return g->pages + pps / rate * (1 - growth_stays(rate * left_seconds));
}

double dirty_growth_note(DirtyGrowth *g, double seconds, double pages,
                         double left_seconds, double most_pages)
{
    double before = g->expected_pages, pps;

    pages = MAX(pages, g->pages);
    if (seconds > g->seconds) {
        pps = (pages - g->pages) / (seconds - g->seconds);
        growth_integrate(g, seconds, pages);
        g->seconds = seconds;
        g->pages = pages;
        g->expected_pages = growth_expect(g, pps, left_seconds, most_pages);
    }
    return MAX(pages, MIN(before, g->expected_pages));
}
