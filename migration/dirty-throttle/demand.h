/*
 * Dirty throttle: how much memory a vCPU dirties in how much time
 *
 * A rate does not tell what a migration has to send again: who writes the same
 * pages again and again dirties them once in an iteration, however long that
 * is.  So what counts is how many different pages are dirtied in a time, for
 * short times and long ones.  Where that stops growing, the write set ends.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_DIRTY_THROTTLE_DEMAND_H
#define MIGRATION_DIRTY_THROTTLE_DEMAND_H

/* 10 ms, 20, 40, ... 82 s: longer than calc-dirty-rate measures */
#define DIRTY_DEMAND_FIRST_NS 10000000LL
#define DIRTY_DEMAND_POINTS 14

typedef struct DirtyDemand {
    /* different pages dirtied in DIRTY_DEMAND_FIRST_NS << n */
    uint64_t pages[DIRTY_DEMAND_POINTS];
    /* how many of those are known */
    unsigned known;
    /* for how long it was measured, and what was dirtied in all of that */
    int64_t span_ns;
    uint64_t span_pages;
} DirtyDemand;

/**
 * dirty_demand_note: what was dirtied so far
 *
 * @d: the demand, all zero at first
 * @ns: the time since the measurement began, growing
 * @pages: different pages dirtied since then
 */
void dirty_demand_note(DirtyDemand *d, int64_t ns, uint64_t pages);

/*
 * Make up for a measurement that has turned out to be wrong: @pages were really
 * dirtied in all of it.
 */
void dirty_demand_correct(DirtyDemand *d, uint64_t pages);

/**
 * dirty_demand_pages: how many different pages are dirtied in a time
 *
 * Beyond what was measured it goes on as in the latest part of that, which is
 * rather too much: who comes back to a page dirties less and less anew.
 *
 * @seconds: the time
 */
double dirty_demand_pages(const DirtyDemand *d, double seconds);

/* The same for @nr vCPUs together */
double dirty_demand_sum(const DirtyDemand *d, unsigned nr, double seconds);

/* How long it takes them to dirty @pages, at most @seconds; the inverse */
double dirty_demand_seconds(const DirtyDemand *d, unsigned nr, double pages,
                            double seconds);

#endif
