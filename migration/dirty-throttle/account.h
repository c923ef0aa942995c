/*
 * Dirty throttle: the account of one vCPU
 *
 * An account is a token bucket with debt.  Pages are earned as time passes, at
 * the rate that is allowed; pages that were dirtied are charged.  A charge is
 * never refused, because a page is dirty by the time anybody hears of it: the
 * balance goes below zero, and the vCPU pays by sleeping until it is zero
 * again.  The same account with its sign turned is known as GCRA.
 *
 * What an idle vCPU earns beyond a burst is not its own any more: it is kept
 * apart as what the vCPU leaves, for the common pool to collect.
 *
 * In any span of time the pages charged are at most rate * span + burst, not
 * counting the one charge that put the account in debt.  The burst is what
 * DIRTY_BURST_NS earn.
 *
 * All functions are pure: the caller brings the time.  None takes a lock; an
 * account that several threads use needs one around each call.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_DIRTY_THROTTLE_ACCOUNT_H
#define MIGRATION_DIRTY_THROTTLE_ACCOUNT_H

#define DIRTY_NS_PER_S 1000000000LL

/* No limit.  Charging such an account costs one comparison. */
#define DIRTY_RATE_UNLIMITED UINT64_MAX

/* The highest rate: 4 PiB/s in pages of 4 KiB, far beyond any memory bus. */
#define DIRTY_RATE_MAX_PPS (1ULL << 40)

/*
 * The longest penalty at a stretch.  Soft lockup detectors, watchdogs and
 * network peers of a guest bear a tenth of a second; they notice seconds.
 */
#define DIRTY_PENALTY_MAX_NS (DIRTY_NS_PER_S / 10)

/*
 * How much an idle vCPU may save: enough that a short flurry of writes
 * goes unpunished, so little that a limit holds within one percent over five
 * seconds.
 */
#define DIRTY_BURST_NS (DIRTY_NS_PER_S / 20)

typedef struct DirtyAccount {
    /* 0..DIRTY_RATE_MAX_PPS, or DIRTY_RATE_UNLIMITED */
    uint64_t rate_pps;
    /* what the common pool will pay as well, by the average of late */
    uint64_t extra_pps;
    /* above 0: pages saved; below 0: debt */
    int64_t balance_pages;
    /* part of a page that has been earned, in billionths of a page */
    uint64_t earned_frac;
    /* earned beyond the burst, and not yet collected */
    uint64_t left_pages;
    /* time up to which pages have been earned */
    int64_t updated_ns;
} DirtyAccount;

/**
 * dirty_account_init: an unlimited account that owes nothing
 *
 * @a: the account
 * @now_ns: the time, on the clock that all later calls use
 */
void dirty_account_init(DirtyAccount *a, int64_t now_ns);

/**
 * dirty_account_set_rate: change what is allowed, from now on
 *
 * A debt stays the same number of pages, so that a higher rate shortens the
 * penalty at once.  Savings beyond the burst of the new rate are left to the
 * pool.  With DIRTY_RATE_UNLIMITED a debt is forgiven.
 *
 * @a: the account
 * @rate_pps: 0..DIRTY_RATE_MAX_PPS, or DIRTY_RATE_UNLIMITED; with 0 only
 *            dirty_account_pay() pays a debt
 * @now_ns: the time
 */
void dirty_account_set_rate(DirtyAccount *a, uint64_t rate_pps, int64_t now_ns);

/**
 * dirty_account_charge: count pages that the vCPU has dirtied
 *
 * @a: the account
 * @pages: any number; a debt beyond 2^62 pages stays at that
 * @now_ns: the time
 */
void dirty_account_charge(DirtyAccount *a, uint64_t pages, int64_t now_ns);

/**
 * dirty_account_penalty_ns: how long to sleep now
 *
 * @a: the account
 * @now_ns: the time
 *
 * Returns: 0 without a debt, else the time that pays it off, at most
 * DIRTY_PENALTY_MAX_NS.  Asking pays nothing: only time that passes does, for
 * however long of it the vCPU sleeps.
 */
int64_t dirty_account_penalty_ns(DirtyAccount *a, int64_t now_ns);

/**
 * dirty_account_pay: pay off a debt, or part of it, with pages of the pool
 *
 * @a: a limited account
 * @pages: at most the debt
 */
void dirty_account_pay(DirtyAccount *a, uint64_t pages);

/**
 * dirty_account_allowance: what may be dirtied before a penalty gets too long
 *
 * @a: a limited account
 * @penalty_ns: 0..DIRTY_NS_PER_S
 * @now_ns: the time
 *
 * Returns: the pages that, charged now, would lead to a penalty of @penalty_ns;
 * 0 or less if the debt there is already leads to one
 */
int64_t dirty_account_allowance(DirtyAccount *a, int64_t penalty_ns,
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
 * @ns: the time; below a microsecond the rate is taken for 0
 *
 * Returns: 0..DIRTY_RATE_MAX_PPS, rounded down
 */
uint64_t dirty_pages_rate_pps(uint64_t pages, int64_t ns);

/**
 * dirty_account_debt_pages: what is owed as of the last call with a time
 *
 * @a: the account
 */
static inline uint64_t dirty_account_debt_pages(const DirtyAccount *a)
{
    return a->balance_pages < 0 ? -a->balance_pages : 0;
}

static inline bool dirty_account_limited(const DirtyAccount *a)
{
    return a->rate_pps != DIRTY_RATE_UNLIMITED;
}

#endif
