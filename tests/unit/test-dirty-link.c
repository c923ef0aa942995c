/*
 * Dirty throttle: what the link carries
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/dirty-throttle/link.h"

#define MS 1000000LL
#define S (1000 * MS)

/* A link that carries @pps for @ns, told every 100 ms. */
static void run(DirtyLink *l, int64_t *now, uint64_t *sent, uint64_t pps,
                int64_t ns)
{
    for (int64_t end = *now + ns; *now < end; *now += 100 * MS) {
        dirty_link_sent(l, *sent, true, *now);
        *sent += pps / 10;
    }
}

static void test_learns_at_once(void)
{
    DirtyLink l = { 0 };
    uint64_t sent = 0;
    int64_t now = S;

    g_assert_cmpuint(l.pps, ==, 0);
    run(&l, &now, &sent, 25000, 200 * MS);
    g_assert_cmpuint(l.pps, ==, 25000);
    run(&l, &now, &sent, 50000, 300 * MS);
    g_assert_cmpuint(l.pps, ==, 50000);
}

static void test_falls_within_a_second(void)
{
    DirtyLink l = { 0 };
    uint64_t sent = 0;
    int64_t now = S;

    run(&l, &now, &sent, 25000, S);
    /* one slow span is not believed in full */
    run(&l, &now, &sent, 7500, 200 * MS);
    g_assert_cmpuint(l.pps, >, 15000);
    run(&l, &now, &sent, 7500, 900 * MS);
    g_assert_cmpuint(l.pps, <, 7500 * 120 / 100);
    g_assert_cmpuint(l.pps, >=, 7500);
}

/* A long stall in one span falls as far as many short ones. */
static void test_one_long_span(void)
{
    DirtyLink l = { 0 };
    uint64_t sent = 0;
    int64_t now = S;

    run(&l, &now, &sent, 25000, S);
    dirty_link_sent(&l, sent, true, now);
    dirty_link_sent(&l, sent + 100, true, now + 10 * S);
    g_assert_cmpuint(l.pps, <=, 20);
}

static void test_nothing_to_send_tells_nothing(void)
{
    DirtyLink l = { 0 };
    uint64_t sent = 0;
    int64_t now = S;

    run(&l, &now, &sent, 25000, S);
    for (int i = 0; i < 100; i++) {
        now += 100 * MS;
        dirty_link_sent(&l, sent, false, now);
    }
    g_assert_cmpuint(l.pps, ==, 25000);
    /* nor does the span in which it ran out */
    now += 100 * MS;
    dirty_link_sent(&l, sent, true, now);
    g_assert_cmpuint(l.pps, ==, 25000);
}

static void test_a_break_tells_nothing(void)
{
    DirtyLink l = { 0 };
    uint64_t sent = 0;
    int64_t now = S;

    run(&l, &now, &sent, 25000, S);
    dirty_link_break(&l);
    now += 10 * S;
    run(&l, &now, &sent, 25000, S);
    g_assert_cmpuint(l.pps, ==, 25000);
}

static void test_short_spans_are_added_up(void)
{
    DirtyLink l = { 0 };

    /* 1000 pages in the first ms of every 100 ms: 10000 pages/s */
    for (int i = 0; i < 1000; i++) {
        dirty_link_sent(&l, 1000 * ((i + 99) / 100), true, S + i * MS);
        if (l.pps) {
            g_assert_cmpuint(l.pps, <=, 20000);
            g_assert_cmpuint(l.pps, >=, 5000);
        }
    }
}

static void test_large(void)
{
    DirtyLink l = { 0 };

    dirty_link_sent(&l, 0, true, S);
    dirty_link_sent(&l, 1ULL << 40, true, 2 * S);
    g_assert_cmpuint(l.pps, ==, 1ULL << 40);
    dirty_link_sent(&l, 1ULL << 40, true, 2 * S + 100 * MS);
    g_assert_cmpuint(l.pps, <, (1ULL << 40) * 3 / 4 + (1ULL << 31));
    g_assert_cmpuint(l.pps, >, (1ULL << 40) * 3 / 4 - (1ULL << 31));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/dirty-link/rise", test_learns_at_once);
    g_test_add_func("/dirty-link/fall", test_falls_within_a_second);
    g_test_add_func("/dirty-link/stall", test_one_long_span);
    g_test_add_func("/dirty-link/idle", test_nothing_to_send_tells_nothing);
    g_test_add_func("/dirty-link/break", test_a_break_tells_nothing);
    g_test_add_func("/dirty-link/bursts", test_short_spans_are_added_up);
    g_test_add_func("/dirty-link/large", test_large);
    return g_test_run();
}
