/*
 * Dirty throttle: what the link carries
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/dirty-throttle/link.h"

#define MS 1000000LL
#define S (1000 * MS)

/* A link that carries @pps for @ns, in windows of 100 ms */
static void run(DirtyLink *l, int64_t *now, uint64_t pps, int64_t ns)
{
    for (int64_t end = *now + ns; *now < end;) {
        *now += 100 * MS;
        dirty_link_window(l, pps / 10, *now);
    }
}

static void test_learns_at_once(void)
{
    DirtyLink l = { 0 };
    int64_t now = S;

    /* who knows since when that was sent */
    dirty_link_window(&l, 10000000, now);
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

/* A long stall in one window falls as far as many short ones. */
static void test_one_long_window(void)
{
    DirtyLink l = { 0 };
    int64_t now = S;

    run(&l, &now, 25000, S);
    dirty_link_window(&l, 100, now + 10 * S);
    g_assert_cmpuint(l.pps, <=, 20);
}

/* The estimate falls while a window does not end, and knows it when it does. */
static void test_late(void)
{
    DirtyLink l = { 0 };
    int64_t now = S;

    run(&l, &now, 25000, S);
    dirty_link_window(&l, 1000, now + 10 * MS);
    dirty_link_late(&l, 0, 100 * MS, now + 40 * MS);
    g_assert_cmpuint(l.pps, ==, 25000);
    for (int i = 1; i <= 10; i++) {
        uint64_t before = l.pps;

        dirty_link_late(&l, 100, 100 * MS, now + 250 * MS + i * 100 * MS);
        g_assert_cmpuint(l.pps, <, before);
    }
    g_assert_cmpuint(l.pps, <, 25000 / 8);
    dirty_link_window(&l, 49000, now + 2 * S);
    g_assert_cmpuint(l.pps, ==, 25000);
}

/* What is sent beside other work is the least that the link carries. */
static void test_slack_only_rises(void)
{
    DirtyLink l = { 0 };
    int64_t now = S;

    run(&l, &now, 25000, S);
    for (int i = 0; i < 100; i++) {
        dirty_link_slack(&l);
        dirty_link_late(&l, 0, 100 * MS, now + 10 * MS);
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

static void test_a_break_tells_nothing(void)
{
    DirtyLink l = { 0 };
    int64_t now = S;

    run(&l, &now, 25000, S);
    dirty_link_break(&l);
    run(&l, &now, 1000000, 100 * MS);
    g_assert_cmpuint(l.pps, ==, 25000);
    dirty_link_break(&l);
    run(&l, &now, 0, 100 * MS);
    g_assert_cmpuint(l.pps, ==, 25000);
    run(&l, &now, 26000, 100 * MS);
    g_assert_cmpuint(l.pps, ==, 26000);
}

static void test_short_windows_are_added_up(void)
{
    DirtyLink l = { 0 };

    /* 1000 pages in the first ms of every 60 ms */
    for (int i = 0; i < 1000; i++) {
        dirty_link_window(&l, i % 60 == 1 ? 1000 : 0, S + i * MS);
        g_assert_cmpuint(l.pps, <=, 1000 * 1000 / 50);
    }
    g_assert_cmpuint(l.pps, >=, 1000 * 1000 / 60 / 2);
}

static void test_large(void)
{
    DirtyLink l = { 0 };

    dirty_link_window(&l, 0, S);
    dirty_link_window(&l, 1ULL << 40, 2 * S);
    g_assert_cmpuint(l.pps, ==, 1ULL << 40);
    dirty_link_window(&l, 0, 2 * S + 100 * MS);
    g_assert_cmpuint(l.pps, <, (1ULL << 40) * 3 / 4 + (1ULL << 31));
    g_assert_cmpuint(l.pps, >, (1ULL << 40) * 3 / 4 - (1ULL << 31));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/dirty-link/rise", test_learns_at_once);
    g_test_add_func("/dirty-link/fall", test_falls_within_a_second);
    g_test_add_func("/dirty-link/stall", test_one_long_window);
    g_test_add_func("/dirty-link/late", test_late);
    g_test_add_func("/dirty-link/slack", test_slack_only_rises);
    g_test_add_func("/dirty-link/break", test_a_break_tells_nothing);
    g_test_add_func("/dirty-link/short", test_short_windows_are_added_up);
    g_test_add_func("/dirty-link/large", test_large);
    return g_test_run();
}
