/*
 * Dirty throttle: the common pool
 *
 * Every vCPU gets the same share of the budget, which is what the VM may dirty:
 * that is the rate of its account.  What it does not use goes to the pool, and
 * the pool pays debts of those that need more, in equal slices, so that the
 * most greedy vCPU gets no more of it than any other in debt.
 *
 * Nothing is minted: shares are rounded down, the remainder is earned by the
 * pool itself, and the pool gives only what it has collected.  The pool never
 * holds more than the budget yields in one interval; what is beyond that was
 * not needed.
 *
 * A round is dirty_pool_begin(), dirty_pool_collect() for every vCPU, then
 * dirty_pool_pay() for every vCPU, beginning with another one each time: where
 * there are fewer pages than debtors, the first get them.  No function takes a
 * lock; an account's lock need be held only around calls with that account.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_DIRTY_THROTTLE_POOL_H
#define MIGRATION_DIRTY_THROTTLE_POOL_H

#include "account.h"

typedef struct DirtyPool {
    uint64_t pages;
    /* the share of each vCPU, as a rate */
    uint64_t share_pps;
    /* what the budget yields in one interval, at least a page */
    uint64_t cap_pages;
    /*
     * What is left of the budget when shares are rounded down: the account of
     * a vCPU that never writes.
     */
    DirtyAccount remainder;
    /* this round: vCPUs in debt, and what each may get */
    unsigned debtors;
    uint64_t slice_pages;
    int64_t round_ns;
    /* length of the last round */
    int64_t elapsed_ns;
} DirtyPool;

/* An empty pool without a budget. */
void dirty_pool_init(DirtyPool *p, int64_t now_ns);

/**
 * dirty_pool_begin: begin a round
 *
 * @p: the pool
 * @budget_pps: what all vCPUs together may dirty, up to DIRTY_RATE_MAX_PPS
 * @vcpus: how many they are, at least 1
 * @interval_ns: dirty-quota-interval, up to a second
 * @now_ns: the time
 */
void dirty_pool_begin(DirtyPool *p, uint64_t budget_pps, unsigned vcpus,
                      int64_t interval_ns, int64_t now_ns);

/**
 * dirty_pool_collect: give a vCPU its share, take what it left
 *
 * An account that was unlimited so far, or is new, starts with nothing.
 *
 * Returns: the debt that was forgiven, because it was more than the share earns
 * in ten seconds; none if that is nothing
 */
uint64_t dirty_pool_collect(DirtyPool *p, DirtyAccount *a);

/**
 * dirty_pool_pay: pay a slice of a vCPU's debt
 *
 * Also keeps an average of what the pool pays for the vCPU, so that penalties
 * are no longer than they need be: while it sleeps, the pool pays as well.
 *
 * Returns: pages paid
 */
uint64_t dirty_pool_pay(DirtyPool *p, DirtyAccount *a);

#endif
