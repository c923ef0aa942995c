/*
 * Dirty throttle: what vCPUs are thought to have dirtied, and what they have
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "estimate.h"

/*
 * Fewer pages tell nothing: a few hundred may be dirtied by KVM itself, or be
 * reported just after the sync that has found them.  They are 4 MiB, which any
 * link sends within a downtime limit.
 */
#define FOUND_MIN_PAGES 1024

/* What a vCPU reports that runs all the time: microseconds */
#define TIME_PAGES_PER_S 1000000

/*
 * What is known of the worth of time counts as if it had been seen for 2 ms, so
 * that a run of some microseconds, in which there may be one burst of writes or
 * none, hardly changes it.  vCPUs that are as slow as they get run for as long
 * in two penalties, so a writer that stops is noticed after as many.
 */
#define TIME_KNOWN_PAGES (TIME_PAGES_PER_S / 500)

void dirty_estimate_init(DirtyEstimate *e)
{
    *e = (DirtyEstimate) { .worth = DIRTY_WORTH_ONE };
}

void dirty_estimate_init_by_time(DirtyEstimate *e)
{
    *e = (DirtyEstimate) { .by_time = true };
}

/*
 * With the worth w that is known, and w' that is seen now,
 *
 *   (known * w + reported * w') / (known + reported), w' = found / reported
 *
 * No vCPU may have run.  All is shifted so that the products fit into 64 bits;
 * more than DIRTY_WORTH_MAX does not count.
 */
static void estimate_correct_by_time(DirtyEstimate *e)
{
    uint64_t known_pages = TIME_KNOWN_PAGES >> e->shift;
    uint64_t sum = known_pages + e->reported_sum;
    uint64_t found_pages = MIN(e->found_pages >> e->shift,
                               sum * (DIRTY_WORTH_MAX / DIRTY_WORTH_ONE));

    e->worth = MIN((found_pages * DIRTY_WORTH_ONE + known_pages * e->worth) /
                   sum, DIRTY_WORTH_MAX);
}

bool dirty_estimate_correct(DirtyEstimate *e, uint64_t reported_pages,
                            uint64_t found_pages)
{
    e->shift = 0;
    while (reported_pages >> e->shift > UINT32_MAX) {
        e->shift++;
    }
    e->reported_sum = reported_pages >> e->shift;
    e->found_pages = found_pages;
    e->remainder = 0;
    if (e->by_time) {
        estimate_correct_by_time(e);
        return true;
    }
    if (MAX(found_pages, reported_pages) < FOUND_MIN_PAGES) {
        return true;
    }
    if (found_pages / (DIRTY_WORTH_MAX / DIRTY_WORTH_ONE) > reported_pages) {
        return false;
    }
    /*
     * At least one page was reported.  The quotient is at most four, and some
     * more for rounding; the remainder below reported_pages.  Both are shifted
     * so that the product fits into 64 bits.
     */
    e->worth = MIN((found_pages >> e->shift) * DIRTY_WORTH_ONE /
                   e->reported_sum, DIRTY_WORTH_MAX);
    e->worth = MAX(e->worth, DIRTY_WORTH_MIN);
    return true;
}

/*
 * With found = q * sum + r, the part is
 *
 *   found * reported / sum = q * reported + r * reported / sum
 *
 * r and reported are below 2^32, so the product does not overflow, nor does it
 * with the remainder of the division before, which is below sum.
 */
uint64_t dirty_estimate_part(DirtyEstimate *e, uint64_t reported_pages)
{
    uint64_t q, part;

    reported_pages >>= e->shift;
    if (!reported_pages) {
        return 0;
    }
    q = e->found_pages / e->reported_sum;
    part = e->found_pages % e->reported_sum * reported_pages + e->remainder;
    e->remainder = part % e->reported_sum;
    return q * reported_pages + part / e->reported_sum;
}
