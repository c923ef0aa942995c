/*
 * Dirty throttle: what vCPUs are thought to have dirtied, and what they have
 *
 * Some accelerators only see something that goes with a dirtied page, such as
 * a fault of the vCPU that wrote to it.  The sum of what they report need not
 * be what was dirtied: other things may count as well, or not all pages do.
 * But each dirty sync tells how many pages vCPUs have really dirtied.  So what
 * is reported counts at the worth that was found out last, and each sync
 * corrects what was charged before it: then the sum of all charges is what was
 * found, shared out in proportion to the reports.
 *
 * Where nothing goes with a dirtied page, what is reported is how long vCPUs
 * run, as if each microsecond were a page.  Then what was found is shared out
 * in proportion to that time, so that all vCPUs are treated alike.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_DIRTY_THROTTLE_ESTIMATE_H
#define MIGRATION_DIRTY_THROTTLE_ESTIMATE_H

/*
 * The worth of a page reported that is a page dirtied.  A microsecond of time
 * is worth so little that with a smaller one writers would not be told apart.
 */
#define DIRTY_WORTH_ONE (1U << 14)

/*
 * The most that a page reported may be worth.  If more than four pages were
 * dirtied for each of them, the reports do not tell who has done it.
 */
#define DIRTY_WORTH_MAX (4 * DIRTY_WORTH_ONE)

/*
 * The least, so that a vCPU that begins to write is noticed before the next
 * sync, however much was reported for nothing before
 */
#define DIRTY_WORTH_MIN (DIRTY_WORTH_ONE / 16)

typedef struct DirtyEstimate {
    /* reports are of time, which need not be worth anything */
    bool by_time;
    /* DIRTY_WORTH_MIN..DIRTY_WORTH_MAX; by time from 0 on */
    unsigned worth;
    /* of the correction under way: reports are divided by 2^shift, then sum */
    unsigned shift;
    uint64_t reported_sum;
    uint64_t found_pages;
    /* the part of a page that was not given to those before, / reported_sum */
    uint64_t remainder;
} DirtyEstimate;

/* What is reported counts as it is, until a sync tells better. */
void dirty_estimate_init(DirtyEstimate *e);

/* Time is going to be reported, and nothing is known yet of its worth. */
void dirty_estimate_init_by_time(DirtyEstimate *e);

/**
 * dirty_estimate_correct: it is known what was really dirtied
 *
 * @e: the estimate; its worth is the right one from now on, unless too little
 *     was found to tell
 * @reported_pages: by all vCPUs since the correction before
 * @found_pages: dirtied by vCPUs since then
 *
 * Returns: false if the reports do not explain what was found; time always does
 */
bool dirty_estimate_correct(DirtyEstimate *e, uint64_t reported_pages,
                            uint64_t found_pages);

/**
 * dirty_estimate_part: what one vCPU has dirtied
 *
 * For each vCPU once after dirty_estimate_correct().
 *
 * @reported_pages: by this vCPU since the correction before
 *
 * Returns: its part of what was found.  All parts together are all that was
 * found, if all have reported what dirty_estimate_correct() was told; up to
 * one page for each vCPU less if that was 2^32 pages or more.
 */
uint64_t dirty_estimate_part(DirtyEstimate *e, uint64_t reported_pages);

#endif
