/*
 * Dirty throttle: the common pool
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "pool.h"

/*
 * What a vCPU gets out of the pool is averaged over rounds, the latest with a
 * weight of one in so many.  Rounds are 10 ms apart, and what a vCPU is paid is
 * lumpy within a tenth of a second, but steady beyond.
 */
#define EXTRA_WEIGHT 8

/*
 * So many seconds' worth of its share is the most that a vCPU owes.  Where its
 * ceiling lets it dirty more than its share, its debt would grow without bound;
 * when it writes less, it shall not pay for that until the migration ends.
 */
#define DEBT_MAX_NS (10 * DIRTY_NS_PER_S)

/*
 * Forgive what is owed beyond that.  A share of nothing tells nothing: devices
 * may leave none of the link for a moment.
 */
static uint64_t pool_forgive(DirtyPool *p, DirtyAccount *a)
{
    uint64_t most_pages = dirty_rate_pages(p->share_pps, DEBT_MAX_NS);
    uint64_t debt_pages = dirty_account_debt_pages(a), forgiven_pages;

    if (!p->share_pps || debt_pages <= most_pages) {
        return 0;
    }
    forgiven_pages = debt_pages - most_pages;
    dirty_account_pay(a, forgiven_pages);
    return forgiven_pages;
}

void dirty_pool_init(DirtyPool *p, int64_t now_ns)
{
    *p = (DirtyPool) { .round_ns = now_ns };
    dirty_account_init(&p->remainder, now_ns);
}

static void pool_take_left(DirtyPool *p, DirtyAccount *a)
{
    p->pages = MIN(p->pages + a->left_pages, p->cap_pages);
    a->left_pages = 0;
}

void dirty_pool_begin(DirtyPool *p, uint64_t budget_pps, unsigned vcpus,
                      int64_t interval_ns, int64_t now_ns)
{
    p->elapsed_ns = MAX(now_ns - p->round_ns, 0);
    p->round_ns = now_ns;
    p->share_pps = budget_pps / vcpus;
    p->cap_pages = MAX(dirty_rate_pages(budget_pps, interval_ns), 1);
    p->debtors = 0;
    p->slice_pages = 0;

    dirty_account_set_rate(&p->remainder, budget_pps % vcpus, now_ns);
    dirty_account_charge(&p->remainder, 0, now_ns);
    pool_take_left(p, &p->remainder);
}

uint64_t dirty_pool_collect(DirtyPool *p, DirtyAccount *a)
{
    dirty_account_set_rate(a, p->share_pps, p->round_ns);
    /* earns up to now; what exceeds the savings is left */
    dirty_account_charge(a, 0, p->round_ns);
    pool_take_left(p, a);
    p->debtors += dirty_account_debt_pages(a) > 0;
    return pool_forgive(p, a);
}

uint64_t dirty_pool_pay(DirtyPool *p, DirtyAccount *a)
{
    uint64_t paid_pages, paid_pps;

    /* All have been collected: the pool holds what this round has to give. */
    if (p->debtors) {
        p->slice_pages = MAX(p->pages / p->debtors, 1);
        p->debtors = 0;
    }
    paid_pages = MIN(MIN(dirty_account_debt_pages(a), p->slice_pages),
                     p->pages);
    dirty_account_pay(a, paid_pages);
    p->pages -= paid_pages;

    if (p->elapsed_ns > 0) {
        paid_pps = dirty_pages_rate_pps(paid_pages, p->elapsed_ns);
        a->extra_pps = (a->extra_pps * (EXTRA_WEIGHT - 1) + paid_pps) /
                       EXTRA_WEIGHT;
    }
    return paid_pages;
}
