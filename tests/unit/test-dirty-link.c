/*
 * Dirty throttle: what the link carries
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/dirty-throttle/link.h"

#define MS 1000000LL
#define S (1000 * MS)

/* A window has ended, in which so much was sent. */
static void window(DirtyLink *l, uint64_t pages, int64_t now)
{
    dirty_link_progress(l, pages, 0, now, now);
}

/* A link that carries @pps for @ns, in windows of 100 ms */
static void run(DirtyLink *l, int64_t *now, uint64_t pps, int64_t ns)
{
    for (int64_t end = *now + ns; *now < end;) {
        *now += 100 * MS;
        window(l, pps / 10, *now);
    }
}

static void test_learns_at_once(void)
{
    DirtyLink l = { 0 };
    int64_t now = S;

    /* who knows since when that was sent */
    window(&l, 10000000, now);
    g_assert_cmpuint(l.pps, ==, 0);
    run(&l, &now, 10000000, 100 * MS);
    g_assert_cmpuint(l.pps, ==, 0);
    run(&l, &now, 25000, 100 * MS);
    g_assert_cmpuint(l.pps, ==, 25000);
    run(&l, &now, 50000, 100 * MS);
    g_assert_cmpuint(l.pps, ==, 50000);
}

static void test_falls_within_a_second(void)
{
    DirtyLink l = { 0 };
    int64_t now = S;

    run(&l, &now, 25000, S);
    /* one slow window is not believed in full */
    run(&l, &now, 7500, 200 * MS);
    g_assert_cmpuint(l.pps, >, 15000);
    run(&l, &now, 7500, 800 * MS);
    g_assert_cmpuint(l.pps, <, 7500 * 120 / 100);
    g_assert_cmpuint(l.pps, >=, 7500);
}

/* However long it lasts, one window is not believed in full. */
static void test_one_long_window(void)
{
    DirtyLink l = { 0 };
    int64_t now = S;

    run(&l, &now, 25000, S);
    now += 900 * S;
    window(&l, 100, now);
    g_assert_cmpuint(l.pps, >=, 12500);
    run(&l, &now, 25000, 100 * MS);
    g_assert_cmpuint(l.pps, ==, 25000);
    /* but several are */
    for (int i = 0; i < 5; i++) {
        now += S;
        window(&l, 100, now);
    }
    g_assert_cmpuint(l.pps, <, 1000);
}

/* What is sent before a window ends is no rate, but belongs to that. */
static void test_within_a_window(void)
{
    DirtyLink l = { 0 };
    int64_t now = S;

    run(&l, &now, 25000, S);
    for (int i = 1; i <= 50; i++) {
        dirty_link_progress(&l, 50, 0, now, now + i);
        g_assert_cmpuint(l.pps, ==, 25000);
    }
    now += 100 * MS;
    window(&l, 500, now);
    g_assert_cmpuint(l.pps, ==, 30000);
}

/* What is sent beside other work is the least that the link carries. */
static void test_slack_only_rises(void)
{
    DirtyLink l = { 0 };
    int64_t now = S;

    run(&l, &now, 25000, S);
    for (int i = 0; i < 100; i++) {
        dirty_link_slack(&l);
        run(&l, &now, 100, 100 * MS);
        g_assert_cmpuint(l.pps, ==, 25000);
    }
    dirty_link_slack(&l);
    run(&l, &now, 30000, 100 * MS);
    g_assert_cmpuint(l.pps, ==, 30000);
    /* it lasts for one window */
    run(&l, &now, 100, 100 * MS);
    g_assert_cmpuint(l.pps, <, 30000);
}

/* A window that was not spent on sending makes the estimate rise only. */
static void test_free_pages(void)
{
    DirtyLink l = { 0 };
    int64_t now = S;

    run(&l, &now, 25000, S);
    for (int i = 0; i < 100; i++) {
        now += 100 * MS;
        dirty_link_progress(&l, i, 100000, now, now);
        g_assert_cmpuint(l.pps, ==, 25000);
    }
    now += 100 * MS;
    dirty_link_progress(&l, 2600, 100000, now, now);
    g_assert_cmpuint(l.pps, ==, 26000);
    /* one with a few of them was */
    now += 100 * MS;
    dirty_link_progress(&l, 1000, 1000, now, now);
    g_assert_cmpuint(l.pps, <, 26000);
}

/* Until a window was spent on sending, the estimate is a lower bound. */
static void test_told(void)
{
    DirtyLink l = { 0 };
    int64_t now = S;

    window(&l, 0, now);
    run(&l, &now, 0, 100 * MS);
    g_assert_false(l.told);
    now += 100 * MS;
    dirty_link_progress(&l, 4, 100000, now, now);
    dirty_link_slack(&l);
    run(&l, &now, 25, 100 * MS);
    g_assert_cmpuint(l.pps, ==, 40);
    g_assert_false(l.told);
    run(&l, &now, 25000, 100 * MS);
    g_assert_true(l.told);
    /* what it was told it knows */
    now += 100 * MS;
    dirty_link_progress(&l, 4, 100000, now, now);
    g_assert_true(l.told);
}

static void test_short_windows_are_added_up(void)
{
    DirtyLink l = { 0 };

    /* 1000 pages in the first ms of every 60 ms */
    for (int i = 0; i < 1000; i++) {
        window(&l, i % 60 == 1 ? 1000 : 0, S + i * MS);
        g_assert_cmpuint(l.pps, <=, 1000 * 1000 / 50);
    }
    g_assert_cmpuint(l.pps, >=, 1000 * 1000 / 60 / 2);
}

static void test_large(void)
{
    DirtyLink l = { 0 };

    window(&l, 0, S - 1);
    window(&l, 0, S);
    window(&l, 1ULL << 40, 2 * S);
    g_assert_cmpuint(l.pps, ==, 1ULL << 40);
    window(&l, 0, 2 * S + 100 * MS);
    g_assert_cmpuint(l.pps, <, (1ULL << 40) * 3 / 4 + (1ULL << 31));
    g_assert_cmpuint(l.pps, >, (1ULL << 40) * 3 / 4 - (1ULL << 31));
    /* what a budget may be at most */
    window(&l, 1ULL << 42, 2 * S + 200 * MS);
    g_assert_cmpuint(l.pps, ==, 1ULL << 40);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/dirty-link/rise", test_learns_at_once);
    g_test_add_func("/dirty-link/fall", test_falls_within_a_second);
    g_test_add_func("/dirty-link/stall", test_one_long_window);
    g_test_add_func("/dirty-link/within", test_within_a_window);
    g_test_add_func("/dirty-link/slack", test_slack_only_rises);
    g_test_add_func("/dirty-link/free", test_free_pages);
    g_test_add_func("/dirty-link/told", test_told);
    g_test_add_func("/dirty-link/short", test_short_windows_are_added_up);
    g_test_add_func("/dirty-link/large", test_large);
    return g_test_run();
}
