/*
 * Dirty throttle: what one vCPU may dirty
 *
 * A budget is a token bucket with debt.  Pages are earned as time passes, at
 * the rate that is allowed; pages that were dirtied are charged.  A charge is
 * never refused, because a page is dirty by the time anybody hears of it: the
 * balance goes below zero, and the vCPU pays by sleeping until it is zero
 * again.  The same account with its sign turned is known as GCRA.
 *
 * What an idle vCPU earns beyond a burst is not its own any more: it is kept
 * apart as what the vCPU leaves, for the common pool to collect.
 *
 * Over any span of time the pages charged, less the one charge that put the
 * budget in debt, are at most rate * span + burst, where burst is what can be
 * saved up in DIRTY_BURST_NS.
 *
 * All functions are pure: the caller brings the time.  None takes a lock; a
 * budget that several threads use needs one around each call.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_DIRTY_THROTTLE_BUDGET_H
#define MIGRATION_DIRTY_THROTTLE_BUDGET_H

#define DIRTY_NS_PER_S 1000000000LL

/* No limit.  Charging such a budget costs one comparison. */
#define DIRTY_RATE_UNLIMITED UINT64_MAX

/* The highest rate: 4 PiB/s in pages of 4 KiB, far beyond any memory bus. */
#define DIRTY_RATE_MAX_PPS (1ULL << 40)

/*
 * The longest penalty at a stretch.  Soft lockup detectors, watchdogs and
 * network peers of a guest bear a tenth of a second; they notice seconds.
 */
#define DIRTY_PENALTY_MAX_NS (DIRTY_NS_PER_S / 10)

/*
 * Budget that an idle vCPU may save: enough that a short flurry of writes
 * goes unpunished, so little that a limit holds within one percent over five
 * seconds.
 */
#define DIRTY_BURST_NS (DIRTY_NS_PER_S / 20)

typedef struct DirtyBudget {
    /* 0..DIRTY_RATE_MAX_PPS, or DIRTY_RATE_UNLIMITED */
    uint64_t rate_pps;
    /* what the common pool is expected to add to that */
    uint64_t extra_pps;
    /* above 0: pages saved; below 0: debt */
    int64_t balance_pages;
    /* part of a page that has been earned, in billionths of a page */
    uint64_t earned_frac;
    /* earned beyond the burst, and not yet collected */
    uint64_t left_pages;
    /* time up to which pages have been earned */
    int64_t updated_ns;
} DirtyBudget;

/**
 * dirty_budget_init: an unlimited budget that owes nothing
 *
 * @b: the budget
 * @now_ns: the time, on the clock that all later calls use
 */
void dirty_budget_init(DirtyBudget *b, int64_t now_ns);

/**
 * dirty_budget_set_rate: change what is allowed, from now on
 *
 * A debt stays the same number of pages, so that a higher rate shortens the
 * penalty at once.  Savings are cut to the burst of the new rate, the rest of
 * them is left.  With DIRTY_RATE_UNLIMITED a debt is forgiven.
 *
 * @b: the budget
 * @rate_pps: 0..DIRTY_RATE_MAX_PPS, or DIRTY_RATE_UNLIMITED; with 0 only
 *            dirty_budget_pay() pays a debt
 * @now_ns: the time
 */
void dirty_budget_set_rate(DirtyBudget *b, uint64_t rate_pps, int64_t now_ns);

/**
 * dirty_budget_charge: count pages that the vCPU has dirtied
 *
 * @b: the budget
 * @pages: any number; a debt beyond 2^62 pages stays at that
 * @now_ns: the time
 */
void dirty_budget_charge(DirtyBudget *b, uint64_t pages, int64_t now_ns);

/**
 * dirty_budget_penalty_ns: how long to sleep now
 *
 * @b: the budget
 * @now_ns: the time
 *
 * Returns: 0 without a debt, else the time that pays it off, at most
 * DIRTY_PENALTY_MAX_NS.  Asking pays nothing: the debt stays until time has
 * passed, however a sleep ends.
 */
int64_t dirty_budget_penalty_ns(DirtyBudget *b, int64_t now_ns);

/**
 * dirty_budget_pay: somebody else pays for pages
 *
 * @b: a limited budget
 * @pages: at most the debt
 */
void dirty_budget_pay(DirtyBudget *b, uint64_t pages);

/**
 * dirty_budget_allowance: what may be dirtied before a penalty gets too long
 *
 * @b: a limited budget
 * @penalty_ns: 0..DIRTY_NS_PER_S
 * @now_ns: the time
 *
 * Returns: the pages that, charged now, lead to a penalty of @penalty_ns; not
 * above 0 if what is owed already costs as much
 */
int64_t dirty_budget_allowance(DirtyBudget *b, int64_t penalty_ns,
                               int64_t now_ns);

/**
 * dirty_rate_pages: what a rate earns in a time
 *
 * @rate_pps: 0..DIRTY_RATE_MAX_PPS
 * @ns: not below 0
 *
 * Returns: whole pages, rounded down, at most 2^62
 */
uint64_t dirty_rate_pages(uint64_t rate_pps, int64_t ns);

/**
 * dirty_pages_rate_pps: what pages in a time make as a rate
 *
 * @pages: any number
 * @ns: the time; in less than a microsecond, no rate is to be seen
 *
 * Returns: 0..DIRTY_RATE_MAX_PPS, rounded down
 */
uint64_t dirty_pages_rate_pps(uint64_t pages, int64_t ns);

/**
 * dirty_budget_debt_pages: what is owed as of the last call with a time
 *
 * @b: the budget
 */
static inline uint64_t dirty_budget_debt_pages(const DirtyBudget *b)
{
    return b->balance_pages < 0 ? -b->balance_pages : 0;
}

static inline bool dirty_budget_limited(const DirtyBudget *b)
{
    return b->rate_pps != DIRTY_RATE_UNLIMITED;
}

#endif
