/*
 * Dirty throttle: how much of memory the first pass is going to leave dirty
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_DIRTY_THROTTLE_GROWTH_H
#define MIGRATION_DIRTY_THROTTLE_GROWTH_H

/* How what is dirty has grown since the first pass began; all zero at first */
typedef struct DirtyGrowth {
    /* as of the last note */
    double seconds;
    double pages;
    /* what was dirty, integrated over time, and that once more */
    double page_seconds;
    double page_seconds2;
    /* what was expected then */
    double expected_pages;
} DirtyGrowth;

/**
 * dirty_growth_note: what is dirty by now, and what will be
 *
 * Some sets are written to at random.  Let W pages be in there, x of them dirty
 * by now, t, and each of the others be dirtied at a rate of l.  With A, the
 * integral of x over the time so far, and C, the integral of A,
 *
 *   x' = l * (W - x)    x = l * (W * t - A)    A = l * (W * t^2 / 2 - C)
 *
 * the latter two being the first one integrated.  They give
 *
 *   l = (2 * A - x * t) / (A * t - 2 * C)    W = x + x' / l
 *
 * and after a time u more there will be dirty
 *
 *   D = W - (W - x) * exp(-l * u) = x + x' / l * (1 - exp(-l * u))
 *
 * Nearly all that this takes from the past are integrals, which uneven rates do
 * little to.  Only x' is of the latest time, because it falls at once when a
 * set has come to its end.
 *
 * Others are swept over.  Then x grows steadily, 2 * A = x * t and l = 0, and
 * nobody can tell where that ends.  Close to it W comes out larger than memory,
 * which is no set either.  In both cases no more is expected than is dirty.
 *
 * If a set comes to its end within the latest time, x' is anything between what
 * it was and none.  So what counts is the lower expectation of two in a row.
 *
 * @g: the growth so far
 * @seconds: the time since the first pass began, growing
 * @pages: different pages dirtied since then
 * @left_seconds: until it is over
 * @most_pages: the size of memory
 *
 * Returns: how many pages will be dirty when the first pass is over, as far as
 * can be told; no less than @pages
 */
double dirty_growth_note(DirtyGrowth *g, double seconds, double pages,
                         double left_seconds, double most_pages);

#endif
