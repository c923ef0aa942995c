/*
 * Dirty throttle: when to look again
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/dirty-throttle/pace.h"

#define MS 1000000LL

static void test_allowance_lasts_as_predicted(void)
{
    DirtyPace p = { 0 };

    /* a page in 20 us */
    dirty_pace_ran(&p, 2 * MS, 100);
    g_assert_cmpint(dirty_pace_look_ns(&p, 50), >=, MS);
    g_assert_cmpint(dirty_pace_look_ns(&p, 50), <=, MS + MS / 1000);
}

static void test_idle_is_left_alone(void)
{
    DirtyPace p = { 0 };

    g_assert_cmpint(dirty_pace_look_ns(&p, 1), ==, 0);
    dirty_pace_ran(&p, 5 * MS, 0);
    g_assert_cmpint(dirty_pace_look_ns(&p, 1), ==, 0);
    g_assert_cmpint(dirty_pace_look_ns(&p, 0), ==, 0);
}

static void test_debt_gets_the_shortest_run(void)
{
    DirtyPace p = { 0 };

    dirty_pace_ran(&p, MS, 10);
    g_assert_cmpint(dirty_pace_look_ns(&p, 0), ==, DIRTY_LOOK_MIN_NS);
    g_assert_cmpint(dirty_pace_look_ns(&p, INT64_MIN), ==, DIRTY_LOOK_MIN_NS);
}

static void test_slower_is_believed_by_halves(void)
{
    DirtyPace p = { 0 };
    uint64_t fast;

    dirty_pace_ran(&p, MS, 100);
    fast = p.ns_per_page;
    dirty_pace_ran(&p, 100 * MS, 1);
    g_assert_cmpuint(p.ns_per_page, ==, 2 * fast);
    dirty_pace_ran(&p, 100 * MS, 0);
    g_assert_cmpuint(p.ns_per_page, ==, 4 * fast);
    /* faster at once */
    dirty_pace_ran(&p, MS, 1000);
    g_assert_cmpuint(p.ns_per_page, <=, MS / 1000 + 1);
    /* and a vCPU that stopped is forgotten in the end */
    for (int i = 0; i < 25; i++) {
        dirty_pace_ran(&p, MS, 0);
    }
    g_assert_cmpuint(p.ns_per_page, ==, 0);
}

static void test_any_input_stays_in_range(void)
{
    for (int i = 0; i < 200000; i++) {
        DirtyPace p = { 0 };
        int64_t run = g_test_rand_int() *
                      (1LL << g_test_rand_int_range(0, 31));
        uint64_t pages = (uint64_t)(uint32_t)g_test_rand_int() >>
                         g_test_rand_int_range(0, 32);
        int64_t allow = g_test_rand_int() *
                        (1LL << g_test_rand_int_range(0, 31));
        int64_t look;

        dirty_pace_ran(&p, run, pages);
        look = dirty_pace_look_ns(&p, allow);
        if (look) {
            g_assert_cmpint(look, >=, DIRTY_LOOK_MIN_NS);
            g_assert_cmpint(look, <=, DIRTY_LOOK_MAX_NS);
        }
        if (pages && allow <= 0 && p.ns_per_page) {
            g_assert_cmpint(look, ==, DIRTY_LOOK_MIN_NS);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/dirty-pace/predict", test_allowance_lasts_as_predicted);
    g_test_add_func("/dirty-pace/idle", test_idle_is_left_alone);
    g_test_add_func("/dirty-pace/debt", test_debt_gets_the_shortest_run);
    g_test_add_func("/dirty-pace/slower", test_slower_is_believed_by_halves);
    g_test_add_func("/dirty-pace/random", test_any_input_stays_in_range);
    return g_test_run();
}
