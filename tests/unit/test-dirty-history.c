/*
 * Dirty throttle: what a vCPU has done of late
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/dirty-throttle/account.h"
#include "migration/dirty-throttle/history.h"

#define MS 1000000LL
#define S DIRTY_NS_PER_S

static void test_rates(void)
{
    DirtyHistory h = { };

    g_assert_cmpuint(dirty_history_rate_pps(&h), ==, 0);
    for (int i = 1; i <= 25; i++) {
        /* 100 pages/s, then 1000 */
        dirty_history_note(&h, i <= 10 ? 10 * i : 100 + 100 * (i - 10),
                           i * MS, i * 100 * MS);
        if (i == 1) {
            g_assert_cmpuint(dirty_history_rate_pps(&h), ==, 0);
        }
        if (i == 10) {
            g_assert_cmpuint(dirty_history_rate_pps(&h), ==, 100);
        }
    }
    g_assert_cmpuint(dirty_history_rate_pps(&h), ==, 1000);
    /* the last ten records, of which nine spans are between */
    g_assert_cmpint(dirty_history_recent(&h).time_ns, ==, 900 * MS);
    g_assert_cmpuint(dirty_history_recent(&h).dirtied_pages, ==, 900);
    g_assert_cmpuint(dirty_history_recent(&h).paid_ns, ==, 9 * MS);
}

/* A correction makes counts smaller, but no rate of it. */
static void test_rate_after_correction(void)
{
    DirtyHistory h = { };

    dirty_history_note(&h, 1000, 0, 1);
    dirty_history_note(&h, 0, 0, S);
    g_assert_cmpuint(dirty_history_rate_pps(&h), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/dirty-history/rates", test_rates);
    g_test_add_func("/dirty-history/corrected", test_rate_after_correction);
    return g_test_run();
}
