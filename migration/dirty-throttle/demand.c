/*
 * Dirty throttle: how much memory a vCPU dirties in how much time
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "account.h"
#include "demand.h"

/* 2^-30 of the longest time is some 0.1 us. */
#define BISECTIONS 30

/* To tell what comes after it, at least so much of the time is looked at. */
#define LATEST_PART 0.25

/* What lies between two points of the curve is taken for a straight line. */
static double between(double x, double x0, double y0, double x1, double y1)
{
    return x1 > x0 ? y0 + (y1 - y0) * (x - x0) / (x1 - x0) : y1;
}

void dirty_demand_note(DirtyDemand *d, int64_t ns, uint64_t pages)
{
    if (ns <= d->span_ns) {
        return;
    }
    pages = MAX(pages, d->span_pages);
    while (d->known < DIRTY_DEMAND_POINTS &&
           ns >= DIRTY_DEMAND_FIRST_NS << d->known) {
        d->pages[d->known] = between(DIRTY_DEMAND_FIRST_NS << d->known,
                                     d->span_ns, d->span_pages, ns, pages);
        d->known++;
    }
    d->span_ns = ns;
    d->span_pages = pages;
}

void dirty_demand_correct(DirtyDemand *d, uint64_t pages)
{
    double factor = d->span_pages ? (double)pages / d->span_pages : 0;

    for (unsigned n = 0; n < d->known; n++) {
        d->pages[n] *= factor;
    }
    d->span_pages *= factor;
}

/* The time is one that was measured. */
static double demand_measured(const DirtyDemand *d, double seconds)
{
    double ns = seconds * DIRTY_NS_PER_S, x0 = 0, y0 = 0;

    for (unsigned n = 0; n < d->known; n++) {
        double x1 = DIRTY_DEMAND_FIRST_NS << n;

        if (ns <= x1) {
            return between(ns, x0, y0, x1, d->pages[n]);
        }
        x0 = x1;
        y0 = d->pages[n];
    }
    return between(ns, x0, y0, d->span_ns, d->span_pages);
}

/* It goes on as in the latest part of it, from a point that is early enough. */
static double demand_beyond(const DirtyDemand *d, double seconds)
{
    double ns = seconds * DIRTY_NS_PER_S, x0 = 0, y0 = 0;

    for (unsigned n = 0; n < d->known; n++) {
        double x1 = DIRTY_DEMAND_FIRST_NS << n;

        if (x1 <= d->span_ns * (1 - LATEST_PART)) {
            x0 = x1;
            y0 = d->pages[n];
        }
    }
    return between(ns, x0, y0, d->span_ns, d->span_pages);
}

double dirty_demand_pages(const DirtyDemand *d, double seconds)
{
    if (!d->span_ns) {
        return 0;
    }
    return seconds * DIRTY_NS_PER_S <= d->span_ns ?
           demand_measured(d, seconds) : demand_beyond(d, seconds);
}

double dirty_demand_sum(const DirtyDemand *d, unsigned nr, double seconds)
{
    double pages = 0;

    for (unsigned i = 0; i < nr; i++) {
        pages += dirty_demand_pages(&d[i], seconds);
    }
    return pages;
}

double dirty_demand_seconds(const DirtyDemand *d, unsigned nr, double pages,
                            double seconds)
{
    double low = 0, high = seconds;

    if (dirty_demand_sum(d, nr, seconds) <= pages) {
        return seconds;
    }
    for (int i = 0; i < BISECTIONS; i++) {
        double middle = (low + high) / 2;

        if (dirty_demand_sum(d, nr, middle) < pages) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return high;
}
