/*
 * Dirty throttle: the account of one vCPU
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "account.h"

/*
 * No debt and no earning is larger, so that the sum of a balance and either
 * cannot overflow.  At the highest rate it takes 48 days to get there.
 */
#define BALANCE_MAX_PAGES (1LL << 62)

/*
 * Above this rate the penalty is computed in microseconds, because a debt of a
 * tenth of a second times 10^9 would not fit into 64 bits.
 */
#define COARSE_RATE_PPS (1ULL << 36)

/*
 * With rate = q * 10^9 + r and less than a second's worth of ns,
 *
 *   rate * ns / 10^9 = q * ns + r * ns / 10^9
 *
 * q is below 1100 (2^40 / 10^9), r and ns are below 2^30, so neither product
 * overflows.  @frac carries the remainder of the division to the next call;
 * nothing is lost to rounding, however often the time is looked at.
 */
static uint64_t account_earned_below_1s(uint64_t rate_pps, uint64_t ns,
                                        uint64_t *frac)
{
    uint64_t q = rate_pps / DIRTY_NS_PER_S, r = rate_pps % DIRTY_NS_PER_S;
    uint64_t part = r * ns + *frac;

    *frac = part % DIRTY_NS_PER_S;
    return q * ns + part / DIRTY_NS_PER_S;
}

/* The same for any time, up to the largest balance */
static uint64_t account_earned(uint64_t rate_pps, uint64_t ns, uint64_t *frac)
{
    uint64_t pages;

    if (__builtin_mul_overflow(ns / DIRTY_NS_PER_S, rate_pps, &pages)) {
        pages = BALANCE_MAX_PAGES;
    }
    pages = MIN(pages, BALANCE_MAX_PAGES);
    pages += account_earned_below_1s(rate_pps, ns % DIRTY_NS_PER_S, frac);
    return MIN(pages, BALANCE_MAX_PAGES);
}

uint64_t dirty_rate_pages(uint64_t rate_pps, int64_t ns)
{
    uint64_t frac = 0;

    return account_earned(rate_pps, ns, &frac);
}

/*
 * The time counts in microseconds, so that the product fits into 64 bits for
 * up to 2^44 pages, 64 PiB.
 */
uint64_t dirty_pages_rate_pps(uint64_t pages, int64_t ns)
{
    if (ns < 1000) {
        return 0;
    }
    if (pages > UINT64_MAX / 1000000) {
        return DIRTY_RATE_MAX_PPS;
    }
    return MIN(pages * 1000000 / (ns / 1000), DIRTY_RATE_MAX_PPS);
}

/* What exceeds a burst is left for the pool. */
static void account_cut_savings(DirtyAccount *a)
{
    int64_t burst_pages;

    /* At least one page, else a slow rate could never be in credit. */
    if (a->balance_pages <= 1) {
        return;
    }
    burst_pages = MAX(dirty_rate_pages(a->rate_pps, DIRTY_BURST_NS), 1);
    if (a->balance_pages > burst_pages) {
        a->left_pages += a->balance_pages - burst_pages;
        a->left_pages = MIN(a->left_pages, BALANCE_MAX_PAGES);
        a->balance_pages = burst_pages;
    }
}

/* Bring the balance up to date. */
static void account_earn(DirtyAccount *a, int64_t now_ns)
{
    int64_t elapsed_ns = now_ns - a->updated_ns;

    /*
     * A clock that stands still earns nothing.  If it goes back, updated_ns
     * stays until the clock has passed it again, so that no time counts twice.
     */
    if (elapsed_ns <= 0) {
        return;
    }
    a->updated_ns = now_ns;

    /* A balance is at most a burst, 2^36: the sum is below 2^63. */
    a->balance_pages += (int64_t)account_earned(a->rate_pps, elapsed_ns,
                                                &a->earned_frac);
    account_cut_savings(a);
}

void dirty_account_init(DirtyAccount *a, int64_t now_ns)
{
    *a = (DirtyAccount) {
        .rate_pps = DIRTY_RATE_UNLIMITED,
        .updated_ns = now_ns,
    };
}

void dirty_account_set_rate(DirtyAccount *a, uint64_t rate_pps, int64_t now_ns)
{
    if (rate_pps == a->rate_pps) {
        return;
    }
    if (rate_pps == DIRTY_RATE_UNLIMITED) {
        dirty_account_init(a, now_ns);
        return;
    }
    g_assert(rate_pps <= DIRTY_RATE_MAX_PPS);

    if (dirty_account_limited(a)) {
        account_earn(a, now_ns);
    } else {
        a->updated_ns = now_ns;
    }
    a->rate_pps = rate_pps;
    account_cut_savings(a);
}

void dirty_account_charge(DirtyAccount *a, uint64_t pages, int64_t now_ns)
{
    if (!dirty_account_limited(a)) {
        return;
    }
    account_earn(a, now_ns);
    a->balance_pages -= (int64_t)MIN(pages, BALANCE_MAX_PAGES);
    a->balance_pages = MAX(a->balance_pages, -BALANCE_MAX_PAGES);
}

int64_t dirty_account_penalty_ns(DirtyAccount *a, int64_t now_ns)
{
    uint64_t debt_pages, income_pps;

    if (!dirty_account_limited(a)) {
        return 0;
    }
    account_earn(a, now_ns);
    debt_pages = dirty_account_debt_pages(a);
    if (!debt_pages) {
        return 0;
    }

    income_pps = MIN(a->rate_pps + a->extra_pps, DIRTY_RATE_MAX_PPS);
    if (debt_pages > dirty_rate_pages(income_pps, DIRTY_PENALTY_MAX_NS)) {
        return DIRTY_PENALTY_MAX_NS;
    }
    if (income_pps > COARSE_RATE_PPS) {
        return MIN(debt_pages * 1000 / (income_pps / 1000000) + 1,
                   DIRTY_PENALTY_MAX_NS);
    }
    /*
     * Here the debt is at most a tenth of the rate.  That is below 2^33 pages,
     * and times 10^9 below 2^63.  The fraction of a page that has been earned
     * shortens the time.  Rounding up makes the debt zero at its end.
     */
    return MIN(DIV_ROUND_UP(debt_pages * DIRTY_NS_PER_S - a->earned_frac,
                            income_pps), DIRTY_PENALTY_MAX_NS);
}

void dirty_account_pay(DirtyAccount *a, uint64_t pages)
{
    g_assert(pages <= dirty_account_debt_pages(a));
    a->balance_pages += (int64_t)pages;
}

int64_t dirty_account_allowance(DirtyAccount *a, int64_t penalty_ns,
                                int64_t now_ns)
{
    account_earn(a, now_ns);
    return a->balance_pages +
           (int64_t)dirty_rate_pages(MIN(a->rate_pps + a->extra_pps,
                                         DIRTY_RATE_MAX_PPS), penalty_ns);
}
