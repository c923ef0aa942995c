/*
 * Dirty throttle: a vCPU's account
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/dirty-throttle/account.h"

#define MS 1000000LL
#define RANDOM_RUNS 300

/* An account that started at time 0 with nothing saved. */
static DirtyAccount limited(uint64_t rate_pps)
{
    DirtyAccount a;

    dirty_account_init(&a, 0);
    dirty_account_set_rate(&a, rate_pps, 0);
    return a;
}

static void test_unlimited(void)
{
    DirtyAccount a;

    dirty_account_init(&a, 0);
    dirty_account_charge(&a, UINT64_MAX, 0);
    g_assert_cmpint(dirty_account_penalty_ns(&a, 0), ==, 0);
    g_assert_cmpuint(dirty_account_debt_pages(&a), ==, 0);
}

static void test_penalty_is_the_time_the_debt_takes(void)
{
    DirtyAccount a = limited(1000);

    dirty_account_charge(&a, 7, 0);
    g_assert_cmpint(dirty_account_penalty_ns(&a, 0), ==, 7 * MS);
    g_assert_cmpint(dirty_account_penalty_ns(&a, 3 * MS), ==, 4 * MS);
    g_assert_cmpint(dirty_account_penalty_ns(&a, 7 * MS - 1), ==, 1);
    g_assert_cmpint(dirty_account_penalty_ns(&a, 7 * MS), ==, 0);
}

static void test_penalty_is_bounded_and_debt_survives(void)
{
    DirtyAccount a = limited(100);
    int64_t now = 0;

    dirty_account_charge(&a, 1000, 0);
    for (int stretch = 0; stretch < 100; stretch++) {
        g_assert_cmpint(dirty_account_penalty_ns(&a, now), ==,
                        DIRTY_PENALTY_MAX_NS);
        now += DIRTY_PENALTY_MAX_NS;
    }
    g_assert_cmpint(dirty_account_penalty_ns(&a, now), ==, 0);
}

static void test_asking_pays_nothing(void)
{
    DirtyAccount a = limited(1000);

    dirty_account_charge(&a, 50, 0);
    for (int i = 0; i < 1000; i++) {
        g_assert_cmpint(dirty_account_penalty_ns(&a, 0), ==, 50 * MS);
    }
}

static void test_idle_saves_a_burst_and_no_more(void)
{
    DirtyAccount a = limited(1000);
    uint64_t burst = 1000 * DIRTY_BURST_NS / DIRTY_NS_PER_S;

    dirty_account_charge(&a, burst, 3600 * DIRTY_NS_PER_S);
    g_assert_cmpint(dirty_account_penalty_ns(&a, 3600 * DIRTY_NS_PER_S), ==, 0);
    dirty_account_charge(&a, 1, 3600 * DIRTY_NS_PER_S);
    g_assert_cmpint(dirty_account_penalty_ns(&a, 3600 * DIRTY_NS_PER_S), ==,
                    MS);
}

static void test_raised_rate_shortens_the_penalty(void)
{
    DirtyAccount a = limited(1000);

    dirty_account_charge(&a, 100, 0);
    dirty_account_set_rate(&a, 10000, 0);
    g_assert_cmpuint(dirty_account_debt_pages(&a), ==, 100);
    g_assert_cmpint(dirty_account_penalty_ns(&a, 0), ==, 10 * MS);
}

static void test_lowered_rate_cuts_savings(void)
{
    DirtyAccount a = limited(1000000);

    /* saves 50000 pages */
    dirty_account_charge(&a, 0, DIRTY_NS_PER_S);
    dirty_account_set_rate(&a, 1000, DIRTY_NS_PER_S);
    dirty_account_charge(&a, 51, DIRTY_NS_PER_S);
    g_assert_cmpint(dirty_account_penalty_ns(&a, DIRTY_NS_PER_S), ==, MS);
}

static void test_lifted_limit_forgives(void)
{
    DirtyAccount a = limited(1);

    dirty_account_charge(&a, 1000, 0);
    dirty_account_set_rate(&a, DIRTY_RATE_UNLIMITED, 0);
    g_assert_cmpint(dirty_account_penalty_ns(&a, 0), ==, 0);
    /* and does not come back */
    dirty_account_set_rate(&a, 1, 0);
    g_assert_cmpint(dirty_account_penalty_ns(&a, 0), ==, 0);
}

static void test_clock_stands_still_or_goes_back(void)
{
    DirtyAccount a = limited(1000);

    dirty_account_charge(&a, 10, 50 * MS);
    dirty_account_charge(&a, 90, 50 * MS);
    /* 50 pages were earned by 50 ms, the burst allows them all */
    g_assert_cmpint(dirty_account_penalty_ns(&a, 50 * MS), ==, 50 * MS);
    g_assert_cmpint(dirty_account_penalty_ns(&a, 20 * MS), ==, 50 * MS);
    /* the 30 ms that come again do not count again */
    g_assert_cmpint(dirty_account_penalty_ns(&a, 50 * MS), ==, 50 * MS);
    g_assert_cmpint(dirty_account_penalty_ns(&a, 60 * MS), ==, 40 * MS);
}

static void test_clock_jumps(void)
{
    DirtyAccount a = limited(DIRTY_RATE_MAX_PPS);

    dirty_account_charge(&a, UINT64_MAX, 0);
    g_assert_cmpint(dirty_account_penalty_ns(&a, 0), ==, DIRTY_PENALTY_MAX_NS);
    g_assert_cmpint(dirty_account_penalty_ns(&a, INT64_MAX - DIRTY_NS_PER_S),
                    ==, 0);
    g_assert_cmpint(dirty_account_penalty_ns(&a, INT64_MAX), ==, 0);
    g_assert_cmpint(a.balance_pages, ==,
                    DIRTY_RATE_MAX_PPS / (DIRTY_NS_PER_S / DIRTY_BURST_NS));
}

static void test_debt_saturates(void)
{
    DirtyAccount a = limited(1);

    for (int i = 0; i < 10; i++) {
        dirty_account_charge(&a, UINT64_MAX, 0);
    }
    g_assert_cmpuint(dirty_account_debt_pages(&a), ==, 1ULL << 62);
    g_assert_cmpint(dirty_account_penalty_ns(&a, 0), ==, DIRTY_PENALTY_MAX_NS);
}

/* Every power of two, and its neighbours, from 1 page/s to the maximum. */
static void test_all_rates(void)
{
    for (int shift = 0; shift <= 40; shift++) {
        for (int off = -1; off <= 1; off++) {
            uint64_t rate = (1ULL << shift) + off;
            DirtyAccount a;
            int64_t penalty, now = 0;

            if (!rate || rate > DIRTY_RATE_MAX_PPS) {
                continue;
            }
            a = limited(rate);
            /* a second's worth, in ten penalties if exact */
            dirty_account_charge(&a, rate, 0);
            while ((penalty = dirty_account_penalty_ns(&a, now))) {
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
        DirtyAccount a = limited(rate);
        int64_t now = 0, start = 0;
        uint64_t charged = 0;

        for (int step = 0; step < 2000; step++) {
            int64_t penalty = dirty_account_penalty_ns(&a, now);

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

            dirty_account_charge(&a, pages, now);
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
        DirtyAccount a = limited(rate), seldom;
        int64_t now = 0;

        dirty_account_charge(&a, 1ULL << 40, 0);
        seldom = a;
        for (int step = 0; step < 500; step++) {
            uint64_t pages = g_test_rand_int_range(0, 1000);

            now += g_test_rand_int_range(0, 1 << 20);
            dirty_account_charge(&a, pages, now);
            if (g_test_rand_bit()) {
                dirty_account_penalty_ns(&a, now);
            }
            seldom.balance_pages -= pages;
        }
        dirty_account_penalty_ns(&seldom, now);
        dirty_account_penalty_ns(&a, now);
        g_assert_cmpint(a.balance_pages, ==, seldom.balance_pages);
        g_assert_cmpuint(a.earned_frac, ==, seldom.earned_frac);
    }
}

static void test_idle_is_never_penalised(void)
{
    for (int run = 0; run < RANDOM_RUNS; run++) {
        DirtyAccount a = limited(random_rate());
        int64_t now = 0;

        for (int step = 0; step < 200; step++) {
            now += g_test_rand_int();
            if (g_test_rand_bit()) {
                dirty_account_set_rate(&a, random_rate(), now);
            }
            dirty_account_charge(&a, 0, now);
            g_assert_cmpint(dirty_account_penalty_ns(&a, now), ==, 0);
        }
    }
}

/* A rate that changes all the time keeps pages, whatever they cost in time. */
static void test_rate_changes_keep_debt(void)
{
    for (int run = 0; run < RANDOM_RUNS; run++) {
        DirtyAccount a = limited(random_rate());
        uint64_t debt = 1ULL << g_test_rand_int_range(0, 62);

        dirty_account_charge(&a, debt, 0);
        for (int step = 0; step < 100; step++) {
            dirty_account_set_rate(&a, random_rate(), 0);
            g_assert_cmpuint(dirty_account_debt_pages(&a), ==, debt);
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
    g_test_add_func("/dirty-account/unlimited", test_unlimited);
    g_test_add_func("/dirty-account/penalty",
                    test_penalty_is_the_time_the_debt_takes);
    g_test_add_func("/dirty-account/bounded",
                    test_penalty_is_bounded_and_debt_survives);
    g_test_add_func("/dirty-account/asking", test_asking_pays_nothing);
    g_test_add_func("/dirty-account/burst",
                    test_idle_saves_a_burst_and_no_more);
    g_test_add_func("/dirty-account/raise",
                    test_raised_rate_shortens_the_penalty);
    g_test_add_func("/dirty-account/lower", test_lowered_rate_cuts_savings);
    g_test_add_func("/dirty-account/lift", test_lifted_limit_forgives);
    g_test_add_func("/dirty-account/clock/back",
                    test_clock_stands_still_or_goes_back);
    g_test_add_func("/dirty-account/clock/jump", test_clock_jumps);
    g_test_add_func("/dirty-account/saturate", test_debt_saturates);
    g_test_add_func("/dirty-account/all-rates", test_all_rates);
    g_test_add_func("/dirty-account/rate-of-pages", test_rate_of_pages);
    g_test_add_func("/dirty-account/random/rate", test_rate_is_never_exceeded);
    g_test_add_func("/dirty-account/random/debt", test_debt_is_never_lost);
    g_test_add_func("/dirty-account/random/idle",
                    test_idle_is_never_penalised);
    g_test_add_func("/dirty-account/random/changes",
                    test_rate_changes_keep_debt);
    return g_test_run();
}
