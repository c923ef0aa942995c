/*
 * Dirty throttle: a vCPU's budget
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/dirty-throttle/budget.h"

#define MS 1000000LL
#define RANDOM_RUNS 300

/* A budget that started at time 0 with nothing saved. */
static DirtyBudget limited(uint64_t rate_pps)
{
    DirtyBudget b;

    dirty_budget_init(&b, 0);
    dirty_budget_set_rate(&b, rate_pps, 0);
    return b;
}

static void test_unlimited(void)
{
    DirtyBudget b;

    dirty_budget_init(&b, 0);
    dirty_budget_charge(&b, UINT64_MAX, 0);
    g_assert_cmpint(dirty_budget_penalty_ns(&b, 0), ==, 0);
    g_assert_cmpuint(dirty_budget_debt_pages(&b), ==, 0);
}

static void test_penalty_is_the_time_the_debt_takes(void)
{
    DirtyBudget b = limited(1000);

    dirty_budget_charge(&b, 7, 0);
    g_assert_cmpint(dirty_budget_penalty_ns(&b, 0), ==, 7 * MS);
    g_assert_cmpint(dirty_budget_penalty_ns(&b, 3 * MS), ==, 4 * MS);
    g_assert_cmpint(dirty_budget_penalty_ns(&b, 7 * MS - 1), ==, 1);
    g_assert_cmpint(dirty_budget_penalty_ns(&b, 7 * MS), ==, 0);
}

static void test_penalty_is_bounded_and_debt_survives(void)
{
    DirtyBudget b = limited(100);
    int64_t now = 0;

    dirty_budget_charge(&b, 1000, 0);
    for (int stretch = 0; stretch < 100; stretch++) {
        g_assert_cmpint(dirty_budget_penalty_ns(&b, now), ==,
                        DIRTY_PENALTY_MAX_NS);
        now += DIRTY_PENALTY_MAX_NS;
    }
    g_assert_cmpint(dirty_budget_penalty_ns(&b, now), ==, 0);
}

static void test_asking_pays_nothing(void)
{
    DirtyBudget b = limited(1000);

    dirty_budget_charge(&b, 50, 0);
    for (int i = 0; i < 1000; i++) {
        g_assert_cmpint(dirty_budget_penalty_ns(&b, 0), ==, 50 * MS);
    }
}

static void test_idle_saves_a_burst_and_no_more(void)
{
    DirtyBudget b = limited(1000);
    uint64_t burst = 1000 * DIRTY_BURST_NS / DIRTY_NS_PER_S;

    dirty_budget_charge(&b, burst, 3600 * DIRTY_NS_PER_S);
    g_assert_cmpint(dirty_budget_penalty_ns(&b, 3600 * DIRTY_NS_PER_S), ==, 0);
    dirty_budget_charge(&b, 1, 3600 * DIRTY_NS_PER_S);
    g_assert_cmpint(dirty_budget_penalty_ns(&b, 3600 * DIRTY_NS_PER_S), ==,
                    MS);
}

static void test_raised_rate_shortens_the_penalty(void)
{
    DirtyBudget b = limited(1000);

    dirty_budget_charge(&b, 100, 0);
    dirty_budget_set_rate(&b, 10000, 0);
    g_assert_cmpuint(dirty_budget_debt_pages(&b), ==, 100);
    g_assert_cmpint(dirty_budget_penalty_ns(&b, 0), ==, 10 * MS);
}

static void test_lowered_rate_cuts_savings(void)
{
    DirtyBudget b = limited(1000000);

    /* saves 50000 pages */
    dirty_budget_charge(&b, 0, DIRTY_NS_PER_S);
    dirty_budget_set_rate(&b, 1000, DIRTY_NS_PER_S);
    dirty_budget_charge(&b, 51, DIRTY_NS_PER_S);
    g_assert_cmpint(dirty_budget_penalty_ns(&b, DIRTY_NS_PER_S), ==, MS);
}

static void test_lifted_limit_forgives(void)
{
    DirtyBudget b = limited(1);

    dirty_budget_charge(&b, 1000, 0);
    dirty_budget_set_rate(&b, DIRTY_RATE_UNLIMITED, 0);
    g_assert_cmpint(dirty_budget_penalty_ns(&b, 0), ==, 0);
    /* and does not come back */
    dirty_budget_set_rate(&b, 1, 0);
    g_assert_cmpint(dirty_budget_penalty_ns(&b, 0), ==, 0);
}

static void test_clock_stands_still_or_goes_back(void)
{
    DirtyBudget b = limited(1000);

    dirty_budget_charge(&b, 10, 50 * MS);
    dirty_budget_charge(&b, 90, 50 * MS);
    /* 50 pages were earned by 50 ms, the burst allows them all */
    g_assert_cmpint(dirty_budget_penalty_ns(&b, 50 * MS), ==, 50 * MS);
    g_assert_cmpint(dirty_budget_penalty_ns(&b, 20 * MS), ==, 50 * MS);
    /* the 30 ms that come again do not count again */
    g_assert_cmpint(dirty_budget_penalty_ns(&b, 50 * MS), ==, 50 * MS);
    g_assert_cmpint(dirty_budget_penalty_ns(&b, 60 * MS), ==, 40 * MS);
}

static void test_clock_jumps(void)
{
    DirtyBudget b = limited(DIRTY_RATE_MAX_PPS);

    dirty_budget_charge(&b, UINT64_MAX, 0);
    g_assert_cmpint(dirty_budget_penalty_ns(&b, 0), ==, DIRTY_PENALTY_MAX_NS);
    g_assert_cmpint(dirty_budget_penalty_ns(&b, INT64_MAX - DIRTY_NS_PER_S),
                    ==, 0);
    g_assert_cmpint(dirty_budget_penalty_ns(&b, INT64_MAX), ==, 0);
    g_assert_cmpint(b.balance_pages, ==,
                    DIRTY_RATE_MAX_PPS / (DIRTY_NS_PER_S / DIRTY_BURST_NS));
}

static void test_debt_saturates(void)
{
    DirtyBudget b = limited(1);

    for (int i = 0; i < 10; i++) {
        dirty_budget_charge(&b, UINT64_MAX, 0);
    }
    g_assert_cmpuint(dirty_budget_debt_pages(&b), ==, 1ULL << 62);
    g_assert_cmpint(dirty_budget_penalty_ns(&b, 0), ==, DIRTY_PENALTY_MAX_NS);
}

/* Every power of two, and its neighbours, from 1 page/s to the maximum. */
static void test_all_rates(void)
{
    for (int shift = 0; shift <= 40; shift++) {
        for (int off = -1; off <= 1; off++) {
            uint64_t rate = (1ULL << shift) + off;
            DirtyBudget b;
            int64_t penalty, now = 0;

            if (!rate || rate > DIRTY_RATE_MAX_PPS) {
                continue;
            }
            b = limited(rate);
            /* a second's worth, in ten penalties if exact */
            dirty_budget_charge(&b, rate, 0);
            while ((penalty = dirty_budget_penalty_ns(&b, now))) {
                g_assert_cmpint(penalty, >, 0);
                g_assert_cmpint(penalty, <=, DIRTY_PENALTY_MAX_NS);
                now += penalty;
                g_assert_cmpint(now, <=, DIRTY_NS_PER_S + MS);
            }
            g_assert_cmpint(now, >=, DIRTY_NS_PER_S);
        }
    }
}

static uint64_t random_rate(void)
{
    return MIN(1ULL << g_test_rand_int_range(0, 41),
               DIRTY_RATE_MAX_PPS);
}

/*
 * A vCPU that dirties at random, pays every penalty, and is now and then woken
 * before the penalty is over: from any time on, it dirties at most what the
 * rate, the burst and the charge that ran into debt allow.
 */
static void test_rate_is_never_exceeded(void)
{
    for (int run = 0; run < RANDOM_RUNS; run++) {
        uint64_t rate = MIN(random_rate(), 1ULL << 30);
        uint64_t max_charge = 1 + rate / 100;
        DirtyBudget b = limited(rate);
        int64_t now = 0, start = 0;
        uint64_t charged = 0;

        for (int step = 0; step < 2000; step++) {
            int64_t penalty = dirty_budget_penalty_ns(&b, now);

            if (penalty) {
                now += g_test_rand_bit() ? penalty :
                       g_test_rand_int_range(0, penalty + 1);
                continue;
            }
            now += g_test_rand_int_range(0, 3 * MS);
            if (g_test_rand_int_range(0, 50) == 0) {
                /* any time may be the beginning of a window */
                start = now;
                charged = 0;
            }
            uint64_t pages = g_test_rand_double_range(0, max_charge);
            double allowed = (double)rate * (now - start) / DIRTY_NS_PER_S +
                             MAX(rate / 20.0, 1) + max_charge + 1;

            dirty_budget_charge(&b, pages, now);
            charged += pages;
            g_assert_cmpfloat(charged, <=, allowed);
        }
    }
}

/*
 * However often and whenever the balance is looked at, what is owed at the
 * end is what was charged less what was earned: exact, in whole pages.
 */
static void test_debt_is_never_lost(void)
{
    for (int run = 0; run < RANDOM_RUNS; run++) {
        uint64_t rate = MIN(random_rate(), 1ULL << 30);
        DirtyBudget b = limited(rate), seldom;
        int64_t now = 0;

        dirty_budget_charge(&b, 1ULL << 40, 0);
        seldom = b;
        for (int step = 0; step < 500; step++) {
            uint64_t pages = g_test_rand_int_range(0, 1000);

            now += g_test_rand_int_range(0, 1 << 20);
            dirty_budget_charge(&b, pages, now);
            if (g_test_rand_bit()) {
                dirty_budget_penalty_ns(&b, now);
            }
            seldom.balance_pages -= pages;
        }
        dirty_budget_penalty_ns(&seldom, now);
        dirty_budget_penalty_ns(&b, now);
        g_assert_cmpint(b.balance_pages, ==, seldom.balance_pages);
        g_assert_cmpuint(b.earned_frac, ==, seldom.earned_frac);
    }
}

static void test_idle_is_never_penalised(void)
{
    for (int run = 0; run < RANDOM_RUNS; run++) {
        DirtyBudget b = limited(random_rate());
        int64_t now = 0;

        for (int step = 0; step < 200; step++) {
            now += g_test_rand_int();
            if (g_test_rand_bit()) {
                dirty_budget_set_rate(&b, random_rate(), now);
            }
            dirty_budget_charge(&b, 0, now);
            g_assert_cmpint(dirty_budget_penalty_ns(&b, now), ==, 0);
        }
    }
}

/* A rate that changes all the time keeps pages, whatever they cost in time. */
static void test_rate_changes_keep_debt(void)
{
    for (int run = 0; run < RANDOM_RUNS; run++) {
        DirtyBudget b = limited(random_rate());
        uint64_t debt = 1ULL << g_test_rand_int_range(0, 62);

        dirty_budget_charge(&b, debt, 0);
        for (int step = 0; step < 100; step++) {
            dirty_budget_set_rate(&b, random_rate(), 0);
            g_assert_cmpuint(dirty_budget_debt_pages(&b), ==, debt);
        }
    }
}

static void test_rate_of_pages(void)
{
    g_assert_cmpuint(dirty_pages_rate_pps(25000, DIRTY_NS_PER_S), ==, 25000);
    g_assert_cmpuint(dirty_pages_rate_pps(1, 1999), ==, 1000000);
    g_assert_cmpuint(dirty_rate_pages(25000, 3600 * DIRTY_NS_PER_S), ==,
                     25000 * 3600);
    g_assert_cmpuint(dirty_rate_pages(DIRTY_RATE_MAX_PPS, INT64_MAX), ==,
                     1ULL << 62);
    /* no time, no rate */
    g_assert_cmpuint(dirty_pages_rate_pps(25000, 999), ==, 0);
    g_assert_cmpuint(dirty_pages_rate_pps(25000, -DIRTY_NS_PER_S), ==, 0);
    for (unsigned i = 0; i < 64; i++) {
        g_assert_cmpuint(dirty_pages_rate_pps(1ULL << i, DIRTY_NS_PER_S), ==,
                         MIN(1ULL << i, DIRTY_RATE_MAX_PPS));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/dirty-budget/unlimited", test_unlimited);
    g_test_add_func("/dirty-budget/penalty",
                    test_penalty_is_the_time_the_debt_takes);
    g_test_add_func("/dirty-budget/bounded",
                    test_penalty_is_bounded_and_debt_survives);
    g_test_add_func("/dirty-budget/asking", test_asking_pays_nothing);
    g_test_add_func("/dirty-budget/burst",
                    test_idle_saves_a_burst_and_no_more);
    g_test_add_func("/dirty-budget/raise",
                    test_raised_rate_shortens_the_penalty);
    g_test_add_func("/dirty-budget/lower", test_lowered_rate_cuts_savings);
    g_test_add_func("/dirty-budget/lift", test_lifted_limit_forgives);
    g_test_add_func("/dirty-budget/clock/back",
                    test_clock_stands_still_or_goes_back);
    g_test_add_func("/dirty-budget/clock/jump", test_clock_jumps);
    g_test_add_func("/dirty-budget/saturate", test_debt_saturates);
    g_test_add_func("/dirty-budget/all-rates", test_all_rates);
    g_test_add_func("/dirty-budget/rate-of-pages", test_rate_of_pages);
    g_test_add_func("/dirty-budget/random/rate", test_rate_is_never_exceeded);
    g_test_add_func("/dirty-budget/random/debt", test_debt_is_never_lost);
    g_test_add_func("/dirty-budget/random/idle",
                    test_idle_is_never_penalised);
    g_test_add_func("/dirty-budget/random/changes",
                    test_rate_changes_keep_debt);
    return g_test_run();
}
