/*
 * Dirty throttle: what reports are worth
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/dirty-throttle/estimate.h"

#define VCPUS 5

static uint64_t sum(const uint64_t *pages)
{
    uint64_t all = 0;

    for (int i = 0; i < VCPUS; i++) {
        all += pages[i];
    }
    return all;
}

/* The parts are all that was found, in proportion, whatever the numbers are. */
static void test_parts_are_the_whole(void)
{
    GRand *rand = g_rand_new_with_seed(1);
    DirtyEstimate e;

    dirty_estimate_init(&e);
    for (int n = 0; n < 10000; n++) {
        uint64_t reported[VCPUS], found, given = 0;

        for (int i = 0; i < VCPUS; i++) {
            reported[i] = g_rand_int(rand) >> g_rand_int_range(rand, 4, 32);
        }
        reported[0]++;
        reported[VCPUS - 1] = 0;
        found = g_rand_int(rand) >> g_rand_int_range(rand, 0, 32);
        if (!dirty_estimate_correct(&e, sum(reported), found)) {
            continue;
        }
        for (int i = 0; i < VCPUS; i++) {
            uint64_t part = dirty_estimate_part(&e, reported[i]);
            uint64_t exact = found * reported[i];

            g_assert_cmpuint((part + 1) * sum(reported), >=, exact);
            g_assert_cmpuint(part * sum(reported), <=,
                             exact + sum(reported));
            given += part;
        }
        g_assert_cmpuint(given, ==, found);
        g_assert_cmpuint(e.worth, >=, DIRTY_WORTH_MIN);
        g_assert_cmpuint(e.worth, <=, DIRTY_WORTH_MAX);
    }
    g_rand_free(rand);
}

/* Who has reported nothing, has dirtied nothing. */
static void test_nothing_for_nothing(void)
{
    DirtyEstimate e;

    dirty_estimate_init(&e);
    g_assert_true(dirty_estimate_correct(&e, 3000, 10000));
    g_assert_cmpuint(dirty_estimate_part(&e, 0), ==, 0);
    g_assert_cmpuint(dirty_estimate_part(&e, 3000), ==, 10000);
    g_assert_cmpuint(dirty_estimate_part(&e, 0), ==, 0);
    g_assert_true(dirty_estimate_correct(&e, 0, 0));
    g_assert_cmpuint(dirty_estimate_part(&e, 0), ==, 0);
}

static void test_worth(void)
{
    DirtyEstimate e;

    dirty_estimate_init(&e);
    g_assert_cmpuint(e.worth, ==, DIRTY_WORTH_ONE);
    /* half of what is reported are reads */
    g_assert_true(dirty_estimate_correct(&e, 20000, 10000));
    g_assert_cmpuint(e.worth, ==, DIRTY_WORTH_ONE / 2);
    /* half is not reported */
    g_assert_true(dirty_estimate_correct(&e, 10000, 20000));
    g_assert_cmpuint(e.worth, ==, 2 * DIRTY_WORTH_ONE);
    /* too little to tell */
    g_assert_true(dirty_estimate_correct(&e, 100, 1));
    g_assert_cmpuint(e.worth, ==, 2 * DIRTY_WORTH_ONE);
    /* nothing but reads; but they may end */
    g_assert_true(dirty_estimate_correct(&e, 100000, 0));
    g_assert_cmpuint(e.worth, ==, DIRTY_WORTH_MIN);
}

static void test_unexplained(void)
{
    DirtyEstimate e;

    dirty_estimate_init(&e);
    g_assert_true(dirty_estimate_correct(&e, 2500, 10000));
    g_assert_false(dirty_estimate_correct(&e, 2499, 10000));
    g_assert_false(dirty_estimate_correct(&e, 0, 10000));
    /* Nobody reports what KVM itself writes, which is not much. */
    g_assert_true(dirty_estimate_correct(&e, 0, 500));
}

static void test_huge(void)
{
    DirtyEstimate e;
    uint64_t given;

    dirty_estimate_init(&e);
    g_assert_true(dirty_estimate_correct(&e, 3ULL << 40, 3ULL << 41));
    g_assert_cmpuint(e.worth, >=, 2 * DIRTY_WORTH_ONE - 1);
    g_assert_cmpuint(e.worth, <=, 2 * DIRTY_WORTH_ONE);
    given = dirty_estimate_part(&e, 1ULL << 40);
    g_assert_cmpuint(given, >=, (1ULL << 41) / 100 * 99);
    g_assert_cmpuint(given, <=, 1ULL << 41);
}

/* What a vCPU dirties in a second, each microsecond of which is reported */
static uint64_t by_time_pps(const DirtyEstimate *e)
{
    return 1000000ULL * e->worth / DIRTY_WORTH_ONE;
}

/* Nearly, because what was known before counts as well, and it is rounded */
static void assert_by_time_pps(const DirtyEstimate *e, uint64_t pps)
{
    g_assert_cmpuint(by_time_pps(e), >=, pps / 100 * 98);
    g_assert_cmpuint(by_time_pps(e), <=, pps / 100 * 102);
}

/* Time is worth whatever was dirtied in it, and nothing if nothing was. */
static void test_time(void)
{
    DirtyEstimate e;

    dirty_estimate_init_by_time(&e);
    g_assert_cmpuint(e.worth, ==, 0);
    /* half a second of two vCPUs, one of which writes */
    g_assert_true(dirty_estimate_correct(&e, 1000000, 31250));
    g_assert_cmpuint(dirty_estimate_part(&e, 500000), ==, 15625);
    g_assert_cmpuint(dirty_estimate_part(&e, 500000), ==, 15625);
    assert_by_time_pps(&e, 31250);

    /* They are slowed to a hundredth. */
    g_assert_true(dirty_estimate_correct(&e, 6400, 200));
    assert_by_time_pps(&e, 31250);

    /* Nothing is ever unexplained. */
    g_assert_true(dirty_estimate_correct(&e, 1000, 1000000));
    g_assert_cmpuint(e.worth, ==, DIRTY_WORTH_MAX);
    g_assert_true(dirty_estimate_correct(&e, 0, 1000000));
    g_assert_cmpuint(e.worth, ==, DIRTY_WORTH_MAX);
    g_assert_true(dirty_estimate_correct(&e, 0, UINT64_MAX));
    g_assert_cmpuint(e.worth, ==, DIRTY_WORTH_MAX);
}

/* The less time was seen, the less it changes what is known. */
static void test_little_time(void)
{
    DirtyEstimate e;
    unsigned looks = 0;

    dirty_estimate_init_by_time(&e);
    g_assert_true(dirty_estimate_correct(&e, 1000000, 40000));
    assert_by_time_pps(&e, 40000);

    /* A sync just after a look ahead finds nothing in 20 us, or a burst. */
    g_assert_true(dirty_estimate_correct(&e, 20, 0));
    assert_by_time_pps(&e, 40000);
    g_assert_true(dirty_estimate_correct(&e, 20, 100));
    g_assert_cmpuint(by_time_pps(&e), <, 100000);
    g_assert_cmpuint(dirty_estimate_part(&e, 20), ==, 100);
    /* It tells nothing if nobody has run. */
    g_assert_true(dirty_estimate_correct(&e, 1000000, 40000));
    g_assert_true(dirty_estimate_correct(&e, 0, 0));
    assert_by_time_pps(&e, 40000);

    /* A writer that stops is noticed, be vCPUs as slow as they may. */
    while (by_time_pps(&e) > 4000) {
        g_assert_true(dirty_estimate_correct(&e, 1000, 0));
        looks++;
    }
    g_assert_cmpuint(looks, <=, 6);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/dirty-estimate/whole", test_parts_are_the_whole);
    g_test_add_func("/dirty-estimate/nothing", test_nothing_for_nothing);
    g_test_add_func("/dirty-estimate/worth", test_worth);
    g_test_add_func("/dirty-estimate/unexplained", test_unexplained);
    g_test_add_func("/dirty-estimate/huge", test_huge);
    g_test_add_func("/dirty-estimate/time", test_time);
    g_test_add_func("/dirty-estimate/little-time", test_little_time);
    return g_test_run();
}
