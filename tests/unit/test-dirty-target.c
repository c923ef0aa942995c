/*
 * Dirty throttle: does a migration need throttling
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/dirty-throttle/account.h"
#include "migration/dirty-throttle/target.h"

/* The second pass over 200 MiB at 100 MB/s has just begun. */
static const DirtyIteration second_pass = {
    .number = 2,
    .begin_pages = 51200,
    .remaining_pages = 51200,
    .link_pps = 24414,
    .switchover_pages = 7324,
    .threshold_percent = 50,
};

static void test_writer_beyond_the_link(void)
{
    DirtyIteration it = second_pass;

    it.dirty_pps = 50000;
    g_assert_true(dirty_target_needs_throttle(&it));
}

static void test_not_in_the_first_pass(void)
{
    DirtyIteration it = second_pass;

    it.number = 1;
    it.dirty_pps = 50000;
    it.dirtied_pages = 51200;
    g_assert_false(dirty_target_needs_throttle(&it));
}

static void test_not_when_it_converges(void)
{
    DirtyIteration it = second_pass;

    /* 40 % of what the link carries */
    it.dirty_pps = 9765;
    g_assert_false(dirty_target_needs_throttle(&it));
    /* just below, and just above half of it */
    it.dirty_pps = 12100;
    g_assert_false(dirty_target_needs_throttle(&it));
    it.dirty_pps = 12300;
    g_assert_true(dirty_target_needs_throttle(&it));
}

static void test_not_when_the_rest_can_be_switched_over(void)
{
    DirtyIteration it = second_pass;

    /* the iteration is short, all it leaves fits into the downtime */
    it.begin_pages = 8000;
    it.remaining_pages = 2000;
    it.dirtied_pages = 5000;
    it.dirty_pps = 20000;
    g_assert_false(dirty_target_needs_throttle(&it));
    it.dirtied_pages = 6000;
    g_assert_true(dirty_target_needs_throttle(&it));
}

static void test_already_too_much(void)
{
    DirtyIteration it = second_pass;

    it.dirtied_pages = 25601;
    it.remaining_pages = 0;
    g_assert_true(dirty_target_needs_throttle(&it));
    it.dirtied_pages = 25600;
    g_assert_false(dirty_target_needs_throttle(&it));
}

/* Without pauses */
static uint64_t budget_pps(uint64_t link_pps, unsigned threshold_percent,
                           uint64_t device_pps)
{
    DirtyIteration it = {
        .link_pps = link_pps,
        .threshold_percent = threshold_percent,
    };

    return dirty_target_budget_pps(&it, device_pps);
}

/* vCPUs get half of what devices leave, and devices leave something. */
static void test_budget(void)
{
    g_assert_cmpuint(budget_pps(1000, 50, 0), ==, 500);
    g_assert_cmpuint(budget_pps(1000, 50, 100), ==, 450);
    g_assert_cmpuint(budget_pps(1000, 50, 600), ==, 200);
    g_assert_cmpuint(budget_pps(1000, 100, 600), ==, 400);
    g_assert_cmpuint(budget_pps(1000, 50, 1000), ==, 0);
    g_assert_cmpuint(budget_pps(1000, 50, 5000), ==, 0);
    for (unsigned device = 0; device < 1000; device += 10) {
        g_assert_cmpuint(device + budget_pps(1000, 99, device),
                         <, 1000);
    }
}

static void test_unknown_link(void)
{
    DirtyIteration it = second_pass;

    it.link_pps = 0;
    it.dirty_pps = UINT64_MAX;
    g_assert_false(dirty_target_needs_throttle(&it));
}

static void test_large(void)
{
    DirtyIteration it = {
        .number = 2,
        .begin_pages = 1ULL << 35,
        .remaining_pages = 1ULL << 35,
        .link_pps = 1ULL << 28,
        .switchover_pages = 1ULL << 26,
        .threshold_percent = 100,
        .dirty_pps = (1ULL << 28) - (1ULL << 10),
    };

    g_assert_false(dirty_target_needs_throttle(&it));
    it.dirty_pps = (1ULL << 28) + (1ULL << 10);
    g_assert_true(dirty_target_needs_throttle(&it));
    it.dirty_pps = UINT64_MAX;
    g_assert_true(dirty_target_needs_throttle(&it));

    /* what fits into 64 bits as bytes, over the fastest link there may be */
    it.begin_pages = it.remaining_pages = 1ULL << 52;
    it.link_pps = DIRTY_RATE_MAX_PPS;
    it.dirty_pps = 1ULL << 20;
    g_assert_false(dirty_target_needs_throttle(&it));
}

/* With long syncs, in the end, it takes less than the link carries. */
static void test_syncs_in_vain(void)
{
    DirtyIteration it = second_pass;

    it.pause_ns = DIRTY_NS_PER_S / 20;
    it.dirty_pps = 12150;
    g_assert_cmpuint(dirty_target_carried_pps(&it), ==, 12207);
    it.begin_pages = 8000;
    it.remaining_pages = 100;
    g_assert_false(dirty_target_needs_throttle(&it));
    it.dirty_pps = 12250;
    g_assert_true(dirty_target_needs_throttle(&it));
    it.pause_ns = 0;
    g_assert_false(dirty_target_needs_throttle(&it));
    /* It has not come to that yet. */
    it.pause_ns = DIRTY_NS_PER_S / 20;
    it.begin_pages = 100000;
    g_assert_false(dirty_target_needs_throttle(&it));
}

/* A time that does not fit into 64 bits is never. */
static void test_expected_in_no_lifetime(void)
{
    DirtyIteration it = second_pass;

    it.dirty_pps = 0;
    it.dirtied_pages = 0;
    it.remaining_pages = it.link_pps * 10;
    g_assert_cmpint(dirty_target_expected_ns(&it), ==, 10 * DIRTY_NS_PER_S);
    it.remaining_pages = 1ULL << 52;
    it.link_pps = 1;
    g_assert_cmpint(dirty_target_expected_ns(&it), ==, -1);
}

/*
 * The sender sends for 50 ms, pauses, and gets on although memory is dirtied in
 * both.
 */
static void test_budget_with_pauses(void)
{
    DirtyIteration it = { .link_pps = 10000, .threshold_percent = 50 };

    for (int ms = 0; ms < 1000; ms += 10) {
        uint64_t pps;

        it.pause_ns = ms * 1000000LL;
        pps = dirty_target_budget_pps(&it, 0);
        /* A pause that short does no harm. */
        g_assert_true(ms > 20 || pps == 5000);
        g_assert_cmpuint(pps * (50 + ms) / 1000, <, 10000 * 50 / 1000);
        g_assert_cmpuint((pps + 2) * (50 + ms), >=,
                         MIN(5000 * (50 + ms), 7500 * 50));
    }

    /* Devices have their part, but vCPUs never stop for them. */
    it.pause_ns = DIRTY_NS_PER_S * 7 / 10;
    g_assert_cmpuint(dirty_target_budget_pps(&it, 0), ==, 500);
    g_assert_cmpuint(dirty_target_budget_pps(&it, 100), ==, 400);
    g_assert_cmpuint(dirty_target_budget_pps(&it, 400), ==, 300);
    g_assert_cmpuint(dirty_target_budget_pps(&it, 600), ==, 293);
    /* In an iteration that takes long they do no harm. */
    it.begin_pages = it.remaining_pages = 100000;
    g_assert_cmpuint(dirty_target_budget_pps(&it, 0), ==, 5000);
    it.begin_pages = it.remaining_pages = 10000;
    g_assert_cmpuint(dirty_target_budget_pps(&it, 0), ==,
                     10000 * 3 / 4 * 10 / 17);
    it.begin_pages = it.remaining_pages = 0;
    /* A threshold above three quarters stands without a pause. */
    it.threshold_percent = 90;
    it.pause_ns = DIRTY_NS_PER_S / 1000;
    g_assert_cmpuint(dirty_target_budget_pps(&it, 0), ==, 9000);
}

/*
 * An iteration leaves a quarter more than it may, at most.  For that what was
 * dirtied too much is made up for in the rest of it, unless vCPUs would have to
 * slow down by more than half.
 */
static void test_budget_makes_up(void)
{
    for (unsigned ahead = 0; ahead < 3500; ahead += 100) {
        for (unsigned device = 0; device <= 50; device += 50) {
            DirtyIteration it = {
                .begin_pages = 10000,
                .remaining_pages = 10000,
                .dirtied_pages = ahead,
                .link_pps = 1000,
                .switchover_pages = 10,
                .threshold_percent = 50,
            };
            uint64_t pps = budget_pps(1000, 50, device);

            for (; it.remaining_pages; it.remaining_pages -= 100) {
                uint64_t now_pps = dirty_target_budget_pps(&it, device);

                g_assert_cmpuint(now_pps, <=, pps);
                g_assert_cmpuint(now_pps, >=, pps / 2);
                g_assert_true(ahead > 1000 || now_pps == pps);
                it.dirtied_pages += (now_pps + device) / 10;
            }
            g_assert_cmpuint(it.dirtied_pages, <=,
                             (pps + device) * 10 * 5 / 4 + 1);
            g_assert_true(ahead < 1500 || it.dirtied_pages >=
                                          (pps + device) * 10 * 5 / 4 - 100);
        }
    }
}

/*
 * RAM may have what devices leave of the downtime.  If they leave nothing, RAM
 * is not what the migration waits for.
 */
static void test_switchover_with_devices(void)
{
    g_assert_cmpuint(dirty_target_switchover_pages(7324, 0), ==, 7324);
    g_assert_cmpuint(dirty_target_switchover_pages(7324, 324), ==, 7000);
    g_assert_cmpuint(dirty_target_switchover_pages(7324, 7323), ==, 1);
    g_assert_cmpuint(dirty_target_switchover_pages(7324, 7324), ==, 7324);
    g_assert_cmpuint(dirty_target_switchover_pages(7324, UINT64_MAX), ==, 7324);
    g_assert_cmpuint(dirty_target_switchover_pages(0, 0), ==, 0);
}

/* As little as can be switched over is never too much. */
static void test_budget_up_to_switchover(void)
{
    DirtyIteration it = {
        .begin_pages = 1000,
        .remaining_pages = 500,
        .dirtied_pages = 1500,
        .link_pps = 1000,
        .switchover_pages = 2000,
        .threshold_percent = 50,
    };

    g_assert_cmpuint(dirty_target_budget_pps(&it, 0), ==, 500);
    it.dirtied_pages = 2300;
    g_assert_cmpuint(dirty_target_budget_pps(&it, 0), ==, 400);
    it.dirtied_pages = 3000;
    g_assert_cmpuint(dirty_target_budget_pps(&it, 0), ==, 250);
    /* nothing remains, and no time is left to make up for anything */
    it.remaining_pages = 0;
    g_assert_cmpuint(dirty_target_budget_pps(&it, 0), ==, 250);
}

/* What it takes to be done in time, and when it is too late */
static void test_deadline(void)
{
    DirtyIteration it = {
        .link_pps = 1000,
        .remaining_pages = 3000,
        .dirtied_pages = 2500,
        .switchover_pages = 500,
    };
    const int64_t s = DIRTY_NS_PER_S;

    /* 5000 pages, so with half of the link for vCPUs it takes 10 s. */
    g_assert_cmpuint(dirty_target_deadline_percent(&it, 0, 10 * s), ==, 50);
    g_assert_cmpuint(dirty_target_deadline_percent(&it, 0, 20 * s), ==, 75);
    g_assert_cmpuint(dirty_target_deadline_percent(&it, 0, 9999 * s), ==, 99);
    g_assert_cmpuint(dirty_target_deadline_percent(&it, 0, 5 * s), ==, 0);
    g_assert_cmpuint(dirty_target_deadline_percent(&it, 0, 0), ==, 0);
    g_assert_cmpuint(dirty_target_deadline_percent(&it, 0, -s), ==, 0);
    /* of what devices leave */
    g_assert_cmpuint(dirty_target_deadline_percent(&it, 500, 20 * s), ==, 50);
    g_assert_cmpuint(dirty_target_deadline_percent(&it, 1000, 20 * s), ==, 0);

    it.threshold_percent = 5;
    g_assert_cmpint(dirty_target_earliest_ns(&it, 0), ==, s * 5000 / 950);
    g_assert_cmpint(dirty_target_earliest_ns(&it, 500), ==, s * 10000 / 950);
    g_assert_cmpint(dirty_target_earliest_ns(&it, 1000), ==, -1);

    /* It can be switched over. */
    it.remaining_pages = it.dirtied_pages = 100;
    g_assert_cmpuint(dirty_target_deadline_percent(&it, 0, s), ==, 50);
    g_assert_cmpuint(dirty_target_deadline_percent(&it, 0, -s), ==, 50);
    g_assert_cmpint(dirty_target_earliest_ns(&it, 0), ==, 0);
}

/* It saves what was dirtied before its turn; a short iteration is not cut. */
static void test_sync_in_the_middle(void)
{
    DirtyIteration it = second_pass;

    it.begin_pages = 160000;
    it.remaining_pages = 80000;
    /* a thirty-second, half of what was dirtied */
    it.dirtied_pages = 10000;
    g_assert_false(dirty_target_wants_sync(&it));
    it.dirtied_pages = 10010;
    g_assert_true(dirty_target_wants_sync(&it));
    /* the sync takes as long as it takes to send a hundred pages */
    it.pause_ns = 4 * 1000000;
    g_assert_false(dirty_target_wants_sync(&it));
    it.dirtied_pages = 10210;
    g_assert_true(dirty_target_wants_sync(&it));
    /* little remains to be sent once instead of twice */
    it.remaining_pages = 40000;
    g_assert_false(dirty_target_wants_sync(&it));
    it.dirtied_pages = 100000;
    g_assert_true(dirty_target_wants_sync(&it));
    /* the next sync comes by itself */
    it.remaining_pages = it.switchover_pages;
    it.dirtied_pages = 160000;
    g_assert_false(dirty_target_wants_sync(&it));

    it = second_pass;
    it.remaining_pages = 25600;
    it.dirtied_pages = 7300;
    g_assert_false(dirty_target_wants_sync(&it));
    it.dirtied_pages = 7330;
    g_assert_true(dirty_target_wants_sync(&it));
    it.link_pps = 0;
    g_assert_false(dirty_target_wants_sync(&it));
}

/* The first pass goes on unless most of what it sends is sent in vain. */
static void test_first_pass_in_vain(void)
{
    DirtyIteration it = second_pass;

    it.number = 1;
    it.begin_pages = 100000;
    it.remaining_pages = 90000;
    it.dirtied_pages = 69000;
    g_assert_false(dirty_target_wants_sync(&it));
    it.dirtied_pages = 70000;
    g_assert_true(dirty_target_wants_sync(&it));
    /* 90 % of them have not been sent yet. */
    it.throttled = true;
    it.dirtied_pages = 56000;
    g_assert_true(dirty_target_wants_sync(&it));
    it.dirtied_pages = 55000;
    g_assert_false(dirty_target_wants_sync(&it));
    it.dirtied_pages = 56000;
    it.remaining_pages = it.switchover_pages;
    g_assert_false(dirty_target_wants_sync(&it));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/dirty-target/beyond-link", test_writer_beyond_the_link);
    g_test_add_func("/dirty-target/first-pass", test_not_in_the_first_pass);
    g_test_add_func("/dirty-target/converges", test_not_when_it_converges);
    g_test_add_func("/dirty-target/switchover",
                    test_not_when_the_rest_can_be_switched_over);
    g_test_add_func("/dirty-target/too-much", test_already_too_much);
    g_test_add_func("/dirty-target/budget", test_budget);
    g_test_add_func("/dirty-target/makes-up", test_budget_makes_up);
    g_test_add_func("/dirty-target/switchover-with-devices",
                    test_switchover_with_devices);
    g_test_add_func("/dirty-target/up-to-switchover",
                    test_budget_up_to_switchover);
    g_test_add_func("/dirty-target/pauses", test_budget_with_pauses);
    g_test_add_func("/dirty-target/in-vain", test_syncs_in_vain);
    g_test_add_func("/dirty-target/unknown-link", test_unknown_link);
    g_test_add_func("/dirty-target/deadline", test_deadline);
    g_test_add_func("/dirty-target/sync", test_sync_in_the_middle);
    g_test_add_func("/dirty-target/sync/first-pass", test_first_pass_in_vain);
    g_test_add_func("/dirty-target/large", test_large);
    g_test_add_func("/dirty-target/no-lifetime", test_expected_in_no_lifetime);
    return g_test_run();
}
