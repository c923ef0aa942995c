/*
 * Dirty throttle: what is known of a vCPU
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/dirty-throttle/estimate.h"
#include "migration/dirty-throttle/vcpu.h"

#define US 1000LL
#define MS 1000000LL
#define S DIRTY_NS_PER_S

/* Watched from page 0 at time 0, with these rates. */
static DirtyVcpu watched(uint64_t limit_pps, uint64_t share_pps)
{
    DirtyVcpu v;

    dirty_vcpu_init(&v, 0);
    dirty_account_set_rate(&v.limit, limit_pps, 0);
    dirty_account_set_rate(&v.share, share_pps, 0);
    g_assert_cmpint(dirty_vcpu_charge(&v, 0, 0), ==, 0);
    return v;
}

static void test_the_smaller_counts(void)
{
    DirtyVcpu v = watched(1000, 100);

    g_assert_cmpint(dirty_vcpu_charge(&v, 5, 0), ==, 50 * MS);
    v = watched(100, 1000);
    g_assert_cmpint(dirty_vcpu_charge(&v, 5, 0), ==, 50 * MS);
    v = watched(1000, DIRTY_RATE_UNLIMITED);
    g_assert_cmpint(dirty_vcpu_charge(&v, 5, 0), ==, 5 * MS);
    v = watched(DIRTY_RATE_UNLIMITED, 1000);
    g_assert_cmpint(dirty_vcpu_charge(&v, 5, 0), ==, 5 * MS);
    g_assert_cmpuint(dirty_vcpu_debt_pages(&v), ==, 5);
}

/* What was dirtied while nobody looked is not charged. */
static void test_first_report_is_free(void)
{
    DirtyVcpu v;

    dirty_vcpu_init(&v, 0);
    dirty_account_set_rate(&v.limit, 1, 0);
    dirty_account_set_rate(&v.share, 1, 0);
    g_assert_cmpint(dirty_vcpu_charge(&v, 1000000, 0), ==, 0);
    g_assert_cmpint(dirty_vcpu_charge(&v, 1000010, 0), >, 0);

    /* nor what comes after it was unplugged and plugged again */
    dirty_vcpu_forget(&v, 0);
    g_assert_cmpint(dirty_account_limited(&v.share), ==, 0);
    dirty_vcpu_init(&v, 0);
    dirty_account_set_rate(&v.limit, 1, 0);
    g_assert_cmpint(dirty_vcpu_charge(&v, 500, 0), ==, 0);
}

/*
 * A look may count a page that harvesting then finds to be dirty already: the
 * total goes back, and what follows is charged once it exceeds the old one.
 */
static void test_total_goes_back(void)
{
    DirtyVcpu v = watched(1000, DIRTY_RATE_UNLIMITED);

    dirty_vcpu_charge(&v, 10, 0);
    dirty_vcpu_charge(&v, 8, 0);
    g_assert_cmpuint(dirty_vcpu_debt_pages(&v), ==, 10);
    dirty_vcpu_charge(&v, 12, 0);
    g_assert_cmpuint(dirty_vcpu_debt_pages(&v), ==, 12);
}

/* Penalties that are cut short do not add up to more than one. */
static void test_stretch_is_bounded(void)
{
    DirtyVcpu v = watched(1, DIRTY_RATE_UNLIMITED);
    int64_t now = 0, off_ns = 0, penalty;

    while ((penalty = dirty_vcpu_charge(&v, 1000, now))) {
        int64_t slept = MIN(penalty, 30 * MS);

        now += slept;
        off_ns += slept;
        dirty_vcpu_resume(&v, slept, true, now);
    }
    g_assert_cmpint(off_ns, ==, DIRTY_PENALTY_MAX_NS);

    /* after it was in the guest, it is off for as long again */
    g_assert_cmpint(dirty_vcpu_resume(&v, 0, false, now), ==,
                    DIRTY_LOOK_MIN_NS);
    g_assert_cmpint(dirty_vcpu_charge(&v, 1000, now), ==, 0);
    g_assert_cmpint(dirty_vcpu_charge(&v, 1010, now), ==,
                    DIRTY_PENALTY_MAX_NS);
    g_assert_cmpuint(v.paid_ns, ==, DIRTY_PENALTY_MAX_NS);
}

/*
 * A vCPU that was let into the guest may not have got to run there, or does
 * not write any more: whatever it owes, only what it dirties is penalised.
 */
static void test_no_penalty_for_nothing(void)
{
    DirtyVcpu v = watched(1, DIRTY_RATE_UNLIMITED);
    int64_t now = 0, look, last = DIRTY_LOOK_MIN_NS / 2;

    g_assert_cmpint(dirty_vcpu_charge(&v, 1000, now), >, 0);
    now += DIRTY_PENALTY_MAX_NS;
    dirty_vcpu_resume(&v, DIRTY_PENALTY_MAX_NS, false, now);
    for (int i = 0; i < 50; i++) {
        g_assert_cmpint(dirty_vcpu_charge(&v, 1000, now), ==, 0);
        /* longer and longer, to be sure that it runs, up to a millisecond */
        look = dirty_vcpu_resume(&v, 0, false, now);
        g_assert_cmpint(look, >=, MIN(last * 2, DIRTY_DEBT_RUN_MAX_NS));
        g_assert_cmpint(look, <=, DIRTY_DEBT_RUN_MAX_NS);
        now += look;
        last = look;
    }
    /* an instruction that dirties some pages gets done */
    for (int i = 1; i < DIRTY_RUN_MIN_PAGES; i++) {
        g_assert_cmpint(dirty_vcpu_charge(&v, 1000 + i, now), ==, 0);
        now += dirty_vcpu_resume(&v, 0, false, now);
    }
    g_assert_cmpint(dirty_vcpu_charge(&v, 1000 + DIRTY_RUN_MIN_PAGES, now), ==,
                    DIRTY_PENALTY_MAX_NS);
}

/* What a vCPU slept of late: when each penalty began, and when it ended */
typedef struct Sleeps {
    int64_t from_ns[4096];
    int64_t to_ns[4096];
    unsigned n;
} Sleeps;

static void sleeps_add(Sleeps *s, int64_t from_ns, int64_t to_ns)
{
    g_assert_cmpuint(s->n, <, ARRAY_SIZE(s->from_ns));
    s->from_ns[s->n] = from_ns;
    s->to_ns[s->n++] = to_ns;
}

/* The most that was slept in a second: in one that ends with a penalty */
static int64_t sleeps_most_ns(const Sleeps *s)
{
    int64_t most_ns = 0;

    for (unsigned last = 0; last < s->n; last++) {
        int64_t from_ns = s->to_ns[last] - S, ns = 0;

        for (unsigned i = 0; i <= last; i++) {
            ns += MAX(s->to_ns[i] - MAX(s->from_ns[i], from_ns), 0);
        }
        most_ns = MAX(most_ns, ns);
    }
    return most_ns;
}

/*
 * However much a vCPU owes, whenever it is looked at, and however it is kicked,
 * it does not sleep for more than its ceiling of any second; and for nearly as
 * much, if it is looked at when it wants to be.
 */
static void check_ceiling(unsigned percent, int64_t run_ns, bool kicked)
{
    DirtyVcpu v = watched(DIRTY_RATE_UNLIMITED, 1);
    g_autofree Sleeps *sleeps = g_new0(Sleeps, 1);
    int64_t now = 0, look = 0;
    uint64_t total = 1000000;

    dirty_vcpu_set_ceiling(&v, percent);
    while (now < 5 * S) {
        int64_t penalty;

        now += MAX(run_ns, look);
        total += DIRTY_RUN_MIN_PAGES;
        penalty = dirty_vcpu_charge(&v, total, now);
        if (kicked && penalty) {
            now += penalty / 3;
            sleeps_add(sleeps, now - penalty / 3, now);
            g_assert_cmpint(dirty_vcpu_resume(&v, penalty / 3, true, now), ==,
                            0);
            now += 20 * US;
            /* What is left of it is not put off. */
            g_assert_cmpint(dirty_vcpu_charge(&v, total, now), >=,
                            penalty / 2);
            penalty -= penalty / 3;
        }
        now += penalty;
        if (penalty) {
            sleeps_add(sleeps, now - penalty, now);
        }
        look = dirty_vcpu_resume(&v, penalty, false, now);
    }
    g_assert_cmpint(sleeps_most_ns(sleeps), <=, S / 100 * percent + 10 * US);
    if (!run_ns) {
        g_assert_cmpint(sleeps_most_ns(sleeps), >=, S / 100 * percent / 10 * 9);
        g_assert_true(dirty_vcpu_at_floor(&v, now));
    }
}

static void test_ceiling(void)
{
    static const unsigned percents[] = { 1, 2, 20, 40, 50, 75, 90, 99 };

    for (int i = 0; i < ARRAY_SIZE(percents); i++) {
        check_ceiling(percents[i], 0, false);
        check_ceiling(percents[i], 0, true);
        check_ceiling(percents[i], 3 * MS, false);
        check_ceiling(percents[i], 70 * MS, true);
    }
}

/* Short penalties are not put off, if they are not more in a second. */
static void test_below_the_ceiling(void)
{
    DirtyVcpu v = watched(DIRTY_RATE_UNLIMITED, 1000);
    int64_t now = 0;
    uint64_t total = 0;

    dirty_vcpu_set_ceiling(&v, 40);
    for (int i = 0; i < 100; i++) {
        now += 20 * MS;
        total += 30;
        /* what 30 ms earn, less what 20 ms have earned, or 10 and a bit */
        g_assert_cmpint(dirty_vcpu_charge(&v, total, now), >=, 9 * MS);
        g_assert_cmpint(dirty_vcpu_charge(&v, total, now), <=, 11 * MS);
        now += 10 * MS;
        dirty_vcpu_resume(&v, 10 * MS, false, now);
    }
}

/* A penalty that is put off does not make the vCPU leave every few pages. */
static void test_kept_awake(void)
{
    DirtyVcpu v = watched(DIRTY_RATE_UNLIMITED, 1);
    int64_t now = MS, longest = 40 * MS;

    dirty_vcpu_set_ceiling(&v, 40);
    g_assert_cmpint(dirty_vcpu_charge(&v, 1000000, now), ==, longest);
    now += longest;
    /* a million pages in a millisecond; 67 ms awake, at half the speed */
    g_assert_cmpint(dirty_vcpu_resume(&v, longest, false, now), ==,
                    DIRTY_LOOK_MAX_NS);
    g_assert_cmpint(dirty_vcpu_allow_pages(&v, now), >=, 30 * MS);
    g_assert_cmpint(dirty_vcpu_charge(&v, 1001000, now + 60 * MS), ==, 0);
    g_assert_cmpint(dirty_vcpu_charge(&v, 1002000, now + 67 * MS), ==, longest);
    /* A sleeping vCPU owes what it owes, whatever is put off. */
    g_assert_cmpint(dirty_vcpu_owed_ns(&v, now + 60 * MS), ==, longest);
    /* A limit is not put off. */
    dirty_account_set_rate(&v.limit, 1, now + 67 * MS);
    dirty_vcpu_resume(&v, 0, false, now + 67 * MS);
    dirty_vcpu_charge(&v, 1003000, now + 67 * MS);
    g_assert_cmpint(dirty_vcpu_resume(&v, longest, false, now + 107 * MS), <=,
                    DIRTY_DEBT_RUN_MAX_NS);
    g_assert_cmpint(dirty_vcpu_allow_pages(&v, now + 107 * MS), ==,
                    DIRTY_RUN_MIN_PAGES);
    g_assert_cmpint(dirty_vcpu_charge(&v, 1004000, now + 108 * MS), ==,
                    DIRTY_PENALTY_MAX_NS);
}

/* Nor does it with a limit that is far from being reached. */
static void test_kept_awake_with_a_limit(void)
{
    DirtyVcpu v = watched(100000000, 1);
    int64_t now = MS, longest = 40 * MS;

    dirty_vcpu_set_ceiling(&v, 40);
    g_assert_cmpint(dirty_vcpu_charge(&v, 400, now), ==, longest);
    now += longest;
    g_assert_cmpint(dirty_vcpu_resume(&v, longest, false, now), ==,
                    DIRTY_LOOK_MAX_NS);
    g_assert_cmpint(dirty_vcpu_allow_pages(&v, now), >, 10000);
    g_assert_true(dirty_vcpu_set_ceiling(&v, 39));
    g_assert_false(dirty_vcpu_set_ceiling(&v, 39));
    g_assert_false(dirty_vcpu_set_ceiling(&v, 40));
}

/* The next look comes when the lower of the two allowances is used up. */
static void test_next_look(void)
{
    DirtyVcpu v = watched(10000, 1000);
    int64_t look;

    /* 1000 pages/s, as seen in 100 ms */
    dirty_vcpu_charge(&v, 100, 100 * MS);
    v.limit.balance_pages = 0;
    v.share.balance_pages = -9;
    /* one page may be dirtied until 10 ms are owed: at 1000 pages/s, 1 ms */
    look = dirty_vcpu_resume(&v, 0, false, 100 * MS);
    g_assert_cmpint(look, >=, MS);
    g_assert_cmpint(look, <=, MS + MS / 100);

    v = watched(DIRTY_RATE_UNLIMITED, DIRTY_RATE_UNLIMITED);
    dirty_vcpu_charge(&v, 100, 100 * MS);
    g_assert_cmpint(dirty_vcpu_resume(&v, 0, false, 100 * MS), ==, 0);
}

static void test_allow_pages(void)
{
    DirtyVcpu v = watched(DIRTY_RATE_UNLIMITED, DIRTY_RATE_UNLIMITED);

    g_assert_cmpint(dirty_vcpu_allow_pages(&v, 0), ==, INT64_MAX);
    /* ten milliseconds' worth of debt, and what was saved */
    v = watched(100000, DIRTY_RATE_UNLIMITED);
    dirty_vcpu_charge(&v, 0, MS);
    g_assert_cmpint(dirty_vcpu_allow_pages(&v, MS), >=, 1000);
    /* the smaller of both counts */
    v = watched(100000, 1000);
    g_assert_cmpint(dirty_vcpu_allow_pages(&v, MS), <, 1000);
    /* and deep in debt it gets on */
    dirty_vcpu_charge(&v, 1000000, MS);
    g_assert_cmpint(dirty_vcpu_allow_pages(&v, MS), ==, DIRTY_RUN_MIN_PAGES);
}

/*
 * A debt gets less as time passes, whether the vCPU writes or not: nobody is
 * shown to owe what it no longer would have to pay.
 */
static void test_debt_of_a_vcpu_that_stopped(void)
{
    DirtyVcpu v = watched(1000, 100);

    dirty_vcpu_charge(&v, 500, 0);
    g_assert_cmpuint(dirty_vcpu_debt_pages(&v), ==, 500);
    dirty_vcpu_resume(&v, DIRTY_PENALTY_MAX_NS, false, DIRTY_PENALTY_MAX_NS);
    for (int64_t now = 200 * MS; now <= 1000 * MS; now += 10 * MS) {
        dirty_vcpu_charge(&v, 500, now);
        g_assert_cmpuint(dirty_vcpu_debt_pages(&v), <=, 500 - now / MS / 10);
    }
    dirty_vcpu_charge(&v, 500, 6000 * MS);
    g_assert_cmpuint(dirty_vcpu_debt_pages(&v), ==, 0);
}

/* Penalties of this length, each after a run of @run_ns, for a while */
static void pay(DirtyVcpu *v, int64_t penalty_ns, int64_t run_ns,
                int64_t *now_ns)
{
    for (int i = 0; i < 20; i++) {
        *now_ns += penalty_ns + run_ns;
        dirty_vcpu_resume(v, penalty_ns, false, *now_ns);
    }
}

static void test_floor(void)
{
    DirtyVcpu v = watched(DIRTY_RATE_UNLIMITED, 1);
    int64_t now = 0;

    g_assert_false(dirty_vcpu_at_floor(&v, now));
    dirty_vcpu_charge(&v, 1000000, 0);
    g_assert_false(dirty_vcpu_at_floor(&v, now));
    pay(&v, DIRTY_PENALTY_MAX_NS, DIRTY_LOOK_MIN_NS, &now);
    g_assert_true(dirty_vcpu_at_floor(&v, now));
    pay(&v, DIRTY_PENALTY_MAX_NS / 2, DIRTY_LOOK_MIN_NS, &now);
    g_assert_false(dirty_vcpu_at_floor(&v, now));
    /* a busy host makes the runs look long, which changes nothing */
    pay(&v, DIRTY_PENALTY_MAX_NS, DIRTY_PENALTY_MAX_NS, &now);
    g_assert_true(dirty_vcpu_at_floor(&v, now));

    /* a vCPU that does not write any more is not slowed */
    g_assert_true(dirty_vcpu_at_floor(&v, now + DIRTY_SETTLE_NS - 1));
    g_assert_false(dirty_vcpu_at_floor(&v, now + DIRTY_SETTLE_NS));
    pay(&v, 0, DIRTY_PENALTY_MAX_NS, &now);
    g_assert_false(dirty_vcpu_at_floor(&v, now));
    /* nor one that has been unplugged */
    pay(&v, DIRTY_PENALTY_MAX_NS, DIRTY_LOOK_MIN_NS, &now);
    dirty_vcpu_forget(&v, now);
    g_assert_false(dirty_vcpu_at_floor(&v, now));
}

/* What a limit alone holds back is held back as far as it will ever be. */
static void test_floor_of_a_limit(void)
{
    DirtyVcpu v = watched(1000, DIRTY_RATE_UNLIMITED);
    int64_t now = 0;

    dirty_vcpu_charge(&v, 1000000, 0);
    pay(&v, 10 * MS, 10 * MS, &now);
    g_assert_true(dirty_vcpu_at_floor(&v, now));
    g_assert_false(dirty_vcpu_at_floor(&v, now + DIRTY_SETTLE_NS));
    dirty_account_set_rate(&v.share, 1000, now);
    g_assert_false(dirty_vcpu_at_floor(&v, now));
}

/* Kicks cut a penalty in pieces; all of them together are one. */
static void test_floor_in_pieces(void)
{
    DirtyVcpu v = watched(DIRTY_RATE_UNLIMITED, 1);
    int64_t now = 0;

    dirty_vcpu_charge(&v, 1000000, 0);
    for (int i = 0; i < 20; i++) {
        for (int piece = 0; piece < 4; piece++) {
            now += DIRTY_PENALTY_MAX_NS / 4;
            dirty_vcpu_resume(&v, DIRTY_PENALTY_MAX_NS / 4, piece < 3, now);
        }
        g_assert_true(dirty_vcpu_at_floor(&v, now));
    }
    g_assert_cmpuint(v.penalties, ==, 20);
    g_assert_cmpint(v.longest_ns, ==, DIRTY_PENALTY_MAX_NS);
}

/* What was charged too much is given back, as far as it is not slept off. */
static void test_charged_too_much(void)
{
    DirtyVcpu v = watched(1000, 500);

    dirty_vcpu_charge(&v, 40, 0);
    g_assert_cmpuint(v.reported_pages, ==, 40);
    dirty_vcpu_correct(&v, 10, DIRTY_WORTH_ONE / 4, 0);
    g_assert_cmpuint(v.dirtied_pages, ==, 10);
    g_assert_cmpuint(dirty_account_debt_pages(&v.limit), ==, 10);
    g_assert_cmpuint(dirty_account_debt_pages(&v.share), ==, 10);

    /* what is reported from now on counts a quarter, and no part is lost */
    for (int i = 1; i <= 40; i++) {
        dirty_vcpu_charge(&v, 40 + i, 0);
    }
    g_assert_cmpuint(v.dirtied_pages, ==, 20);
    g_assert_cmpuint(v.reported_pages, ==, 40);
    g_assert_cmpuint(v.charged_pages, ==, 10);

    /* it has paid: nothing to be given back, and no credit for it */
    dirty_vcpu_charge(&v, 80, S);
    g_assert_cmpuint(dirty_vcpu_debt_pages(&v), ==, 0);
    dirty_vcpu_correct(&v, 0, DIRTY_WORTH_ONE, S);
    g_assert_cmpuint(v.dirtied_pages, ==, 10);
    g_assert_cmpint(v.share.balance_pages, ==, 500 * DIRTY_BURST_NS / S);
}

static void test_charged_too_little(void)
{
    DirtyVcpu v = watched(DIRTY_RATE_UNLIMITED, 500);

    dirty_vcpu_charge(&v, 10, 0);
    dirty_vcpu_correct(&v, 40, 4 * DIRTY_WORTH_ONE, 0);
    g_assert_cmpuint(v.dirtied_pages, ==, 40);
    g_assert_cmpuint(dirty_account_debt_pages(&v.share), ==, 40);
    dirty_vcpu_charge(&v, 20, 0);
    g_assert_cmpuint(v.dirtied_pages, ==, 80);

    /* a vCPU that is not watched any more starts anew */
    dirty_vcpu_forget(&v, 0);
    g_assert_cmpuint(v.reported_pages, ==, 0);
    g_assert_cmpuint(v.charged_pages, ==, 0);
    g_assert_cmpuint(v.worth, ==, DIRTY_WORTH_ONE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/dirty-vcpu/smaller", test_the_smaller_counts);
    g_test_add_func("/dirty-vcpu/first", test_first_report_is_free);
    g_test_add_func("/dirty-vcpu/back", test_total_goes_back);
    g_test_add_func("/dirty-vcpu/stretch", test_stretch_is_bounded);
    g_test_add_func("/dirty-vcpu/nothing", test_no_penalty_for_nothing);
    g_test_add_func("/dirty-vcpu/ceiling", test_ceiling);
    g_test_add_func("/dirty-vcpu/below-the-ceiling", test_below_the_ceiling);
    g_test_add_func("/dirty-vcpu/kept-awake", test_kept_awake);
    g_test_add_func("/dirty-vcpu/kept-awake/limit",
                    test_kept_awake_with_a_limit);
    g_test_add_func("/dirty-vcpu/look", test_next_look);
    g_test_add_func("/dirty-vcpu/allow", test_allow_pages);
    g_test_add_func("/dirty-vcpu/debt", test_debt_of_a_vcpu_that_stopped);
    g_test_add_func("/dirty-vcpu/floor", test_floor);
    g_test_add_func("/dirty-vcpu/floor-of-a-limit", test_floor_of_a_limit);
    g_test_add_func("/dirty-vcpu/floor-in-pieces", test_floor_in_pieces);
    g_test_add_func("/dirty-vcpu/too-much", test_charged_too_much);
    g_test_add_func("/dirty-vcpu/too-little", test_charged_too_little);
    return g_test_run();
}
