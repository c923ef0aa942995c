/*
 * Dirty throttle: how much memory a vCPU dirties in how much time
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/dirty-throttle/account.h"
#include "migration/dirty-throttle/demand.h"

#define MS 1000000LL

/* A writer to @set pages that dirties @pps of them, looked at every @step_ms */
static DirtyDemand writer(uint64_t set, uint64_t pps, int64_t step_ms,
                          int64_t span_ms)
{
    DirtyDemand d = { };

    for (int64_t ms = step_ms; ms <= span_ms; ms += step_ms) {
        dirty_demand_note(&d, ms * MS, MIN(set, pps * ms / 1000));
    }
    return d;
}

static void assert_near(double got, double want)
{
    if (got < want * 0.999 - 1 || got > want * 1.001 + 1) {
        g_error("%.1f is not %.1f", got, want);
    }
}

static void test_nothing_known(void)
{
    DirtyDemand d = { };

    g_assert_cmpfloat(dirty_demand_pages(&d, 0), ==, 0);
    g_assert_cmpfloat(dirty_demand_pages(&d, 1000), ==, 0);
    g_assert_cmpfloat(dirty_demand_seconds(&d, 1, 0, 7), ==, 7);
}

static void test_set_is_learnt(void)
{
    DirtyDemand d = writer(50000, 100000, 10, 5000);

    assert_near(dirty_demand_pages(&d, 0.01), 1000);
    assert_near(dirty_demand_pages(&d, 0.3), 30000);
    assert_near(dirty_demand_pages(&d, 0.64), 50000);
    assert_near(dirty_demand_pages(&d, 5), 50000);
    /* It has ended, so it is no larger later. */
    assert_near(dirty_demand_pages(&d, 1000), 50000);
}

/* The points between which looks come are found in between. */
static void test_rare_looks(void)
{
    DirtyDemand often = writer(1000000, 1000, 1, 4000);
    DirtyDemand rarely = writer(1000000, 1000, 330, 3960);

    for (double s = 0; s < 8; s += 0.1) {
        assert_near(dirty_demand_pages(&often, s), 1000 * s);
        assert_near(dirty_demand_pages(&rarely, s), 1000 * s);
    }
}

/* Beyond what was measured it goes on as it did of late. */
static void test_beyond(void)
{
    DirtyDemand d = { };

    dirty_demand_note(&d, 320 * MS, 10000);
    dirty_demand_note(&d, 640 * MS, 10320);
    assert_near(dirty_demand_pages(&d, 1.64), 11320);
}

/* Time and pages only grow, whatever is said. */
static void test_backwards(void)
{
    DirtyDemand d = { };

    dirty_demand_note(&d, 40 * MS, 400);
    dirty_demand_note(&d, 30 * MS, 1000);
    g_assert_cmpuint(d.span_pages, ==, 400);
    dirty_demand_note(&d, 80 * MS, 100);
    g_assert_cmpuint(d.span_pages, ==, 400);
    g_assert_cmpint(d.span_ns, ==, 80 * MS);
    g_assert_cmpuint(d.known, ==, 4);
}

static void test_longest(void)
{
    DirtyDemand d = writer(UINT64_MAX, 1000, 1000, 200000);

    g_assert_cmpuint(d.known, ==, DIRTY_DEMAND_POINTS);
    assert_near(dirty_demand_pages(&d, 200), 200000);
    assert_near(dirty_demand_pages(&d, 100), 100000);
}

static void test_correct(void)
{
    DirtyDemand d = writer(50000, 100000, 10, 1000), none = { };

    dirty_demand_correct(&d, 25000);
    assert_near(dirty_demand_pages(&d, 0.3), 15000);
    assert_near(dirty_demand_pages(&d, 3), 25000);
    dirty_demand_correct(&d, 0);
    g_assert_cmpfloat(dirty_demand_pages(&d, 1), ==, 0);
    dirty_demand_correct(&none, 1000);
    g_assert_cmpfloat(dirty_demand_pages(&none, 1), ==, 0);
}

static void test_seconds(void)
{
    DirtyDemand d = writer(50000, 100000, 10, 5000), two[] = { d, d };

    for (double pages = 0; pages < 50000; pages += 777) {
        double s = dirty_demand_seconds(&d, 1, pages, 60);

        assert_near(dirty_demand_pages(&d, s), pages);
    }
    /* Two of them take half as long. */
    assert_near(1e6 * dirty_demand_seconds(two, 2, 20000, 60), 1e6 * 0.1);
    /* It takes for ever to get more than there is. */
    g_assert_cmpfloat(dirty_demand_seconds(&d, 1, 60000, 60), ==, 60);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/dirty-demand/nothing", test_nothing_known);
    g_test_add_func("/dirty-demand/set", test_set_is_learnt);
    g_test_add_func("/dirty-demand/rare-looks", test_rare_looks);
    g_test_add_func("/dirty-demand/beyond", test_beyond);
    g_test_add_func("/dirty-demand/backwards", test_backwards);
    g_test_add_func("/dirty-demand/longest", test_longest);
    g_test_add_func("/dirty-demand/correct", test_correct);
    g_test_add_func("/dirty-demand/seconds", test_seconds);
    return g_test_run();
}
