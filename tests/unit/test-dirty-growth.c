/*
 * Dirty throttle: how much of memory the first pass is going to leave dirty
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <math.h>
#include "migration/dirty-throttle/growth.h"

/* Of memory, and how long the first pass takes */
#define RAM_PAGES 100000.0
#define PASS_S 10.0

/* A guest is looked at so often, and dirties pages at such a rate. */
#define STEP_S 0.1
#define RATE_PPS 30000.0

/* What is dirty of a set that is written to at random */
static double at_random(double set, double seconds)
{
    return set * (1 - exp(-RATE_PPS * seconds / set));
}

/* And of one that is swept over */
static double swept(double set, double seconds)
{
    return MIN(set, RATE_PPS * seconds);
}

/* What is expected after @seconds of the first pass */
static double expected(double (*dirty)(double set, double seconds), double set,
                       double seconds)
{
    DirtyGrowth g = { };
    double pages = 0;

    for (double now = STEP_S; now <= seconds + STEP_S / 2; now += STEP_S) {
        pages = dirty_growth_note(&g, now, dirty(set, now), PASS_S - now,
                                  RAM_PAGES);
    }
    return pages;
}

static void assert_near(double got, double want)
{
    if (got < want * 0.95 || got > want * 1.05) {
        g_error("%.1f is not %.1f", got, want);
    }
}

/* A third is dirty, or so, when it is known how much will be. */
static void test_at_random(void)
{
    assert_near(expected(at_random, 90000, 1), 90000 * (1 - exp(-30 / 9.0)));
    assert_near(expected(at_random, 60000, 1), 60000);
    assert_near(expected(at_random, 20000, 1), 20000);
}

/* Slow writers do not get to the end of their set. */
static void test_ends_before(void)
{
    DirtyGrowth g = { };
    double pages = 0;

    for (double now = STEP_S; now < 3; now += STEP_S) {
        pages = dirty_growth_note(&g, now, at_random(90000, now), 5 - now,
                                  RAM_PAGES);
    }
    assert_near(pages, at_random(90000, 5));
}

/* Nobody knows where a sweep ends. */
static void test_sweep(void)
{
    for (double now = STEP_S; now < 3; now += STEP_S) {
        g_assert_cmpfloat(expected(swept, 90000, now), <=,
                          RATE_PPS * now * 1.001);
    }
}

/* But that it has ended is known, also if that was between two looks. */
static void test_sweep_ends(void)
{
    for (double end = 1; end < 1 + STEP_S; end += STEP_S / 10) {
        for (double now = STEP_S; now < 5; now += STEP_S) {
            g_assert_cmpfloat(expected(swept, RATE_PPS * end, now), <=,
                              RATE_PPS * MIN(now, end) * 1.001);
        }
    }
}

/* Bursts do not make a sweep look like growth that gets less. */
static void test_bursts(void)
{
    DirtyGrowth g = { };

    for (int n = 1; n <= 20; n++) {
        double now = n * STEP_S, burst_s = n % 2 * STEP_S / 3;
        double dirty = swept(80000, now + burst_s);

        g_assert_cmpfloat(dirty_growth_note(&g, now, dirty, PASS_S - now,
                                            RAM_PAGES), <=, dirty * 1.01);
    }
}

static void test_nothing(void)
{
    DirtyGrowth g = { };

    g_assert_cmpfloat(dirty_growth_note(&g, 0, 0, 10, RAM_PAGES), ==, 0);
    g_assert_cmpfloat(dirty_growth_note(&g, 1, 0, 10, RAM_PAGES), ==, 0);
    g_assert_cmpfloat(dirty_growth_note(&g, 2, 5, 10, RAM_PAGES), ==, 5);
    /* Time that stands still, or goes back, tells nothing. */
    g_assert_cmpfloat(dirty_growth_note(&g, 2, 9, 10, RAM_PAGES), ==, 9);
    g_assert_cmpfloat(dirty_growth_note(&g, 1, 9, 10, RAM_PAGES), ==, 9);
    g_assert_cmpfloat(g.pages, ==, 5);
    g_assert_cmpfloat(dirty_growth_note(&g, 3, 9, 10, RAM_PAGES), ==, 9);
}

/* Of 6 * t: 3 * t^2, and t^3 */
static void test_integrals(void)
{
    DirtyGrowth g = { };

    dirty_growth_note(&g, 1, 6, 10, RAM_PAGES);
    dirty_growth_note(&g, 3, 18, 10, RAM_PAGES);
    g_assert_cmpfloat(g.page_seconds, ==, 27);
    g_assert_cmpfloat(g.page_seconds2, ==, 27);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/dirty-growth/at-random", test_at_random);
    g_test_add_func("/dirty-growth/ends-before", test_ends_before);
    g_test_add_func("/dirty-growth/sweep", test_sweep);
    g_test_add_func("/dirty-growth/sweep/ends", test_sweep_ends);
    g_test_add_func("/dirty-growth/bursts", test_bursts);
    g_test_add_func("/dirty-growth/nothing", test_nothing);
    g_test_add_func("/dirty-growth/integrals", test_integrals);
    return g_test_run();
}
