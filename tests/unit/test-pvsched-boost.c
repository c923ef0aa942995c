/*
 * pvsched: when a vCPU is boosted, with a made-up clock and a made-up host
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/misc/pvsched-abi.h"
#include "hw/misc/pvsched/boost.h"

#define US 1000LL
#define MS (1000 * US)
#define S (1000 * MS)

#define ALL ((1u << PVSCHED_CRITICAL) | (1u << PVSCHED_RT))
#define CRITICAL_PERCENT 10
#define RT_PERCENT 50

#define RANDOM_RUNS 200
#define RANDOM_LOOKS 5000

/* Two others want the vCPU's processor. */
#define THREADS 3

static uint64_t ask(unsigned activities, unsigned number, uint64_t us)
{
    return activities | (uint64_t)number << PVSCHED_REQ_SEQ_SHIFT |
           us << PVSCHED_REQ_US_SHIFT;
}

/* A vCPU that has slept for a second, so that it has saved what it may */
typedef struct Rested {
    PVSchedBoost b;
    PVSchedLook l;
} Rested;

static void rested(Rested *r)
{
    *r = (Rested) { .l.may = ALL };
    pvsched_boost_init(&r->b, &r->l);
    pvsched_boost_set_budget(&r->b, PVSCHED_CRITICAL, CRITICAL_PERCENT, 0);
    pvsched_boost_set_budget(&r->b, PVSCHED_RT, RT_PERCENT, 0);
    r->l.now_ns = S;
    r->l.due_ns = S / THREADS;
    g_assert_cmpint(pvsched_boost_look(&r->b, &r->l), ==, PVSCHED_NORMAL);
}

/* It does not run, because it sleeps or has to wait; then look. */
static PVSchedMode stands(Rested *r, int64_t ns, uint64_t request)
{
    r->l.now_ns += ns;
    r->l.due_ns += ns / THREADS;
    r->l.request = request;
    return pvsched_boost_look(&r->b, &r->l);
}

/* Let the vCPU run, and look */
static PVSchedMode run(Rested *r, int64_t ns, uint64_t request)
{
    r->l.cpu_ns += ns;
    return stands(r, ns, request);
}

/* With a minus sign: a debt */
static int64_t credit(Rested *r)
{
    return dirty_account_allowance(&r->b.fair, 0, r->l.due_ns);
}

static void owe(Rested *r, int64_t ns)
{
    dirty_account_charge(&r->b.fair, ns + credit(r), r->l.due_ns);
}

static uint32_t state(Rested *r)
{
    PVSchedLine line;

    pvsched_boost_line(&r->b, r->l.now_ns, &line);
    return line.state;
}

static void test_asks_and_is_done(void)
{
    uint64_t request = ask(PVSCHED_REQ_RT_RUNNING, 1, 1000);
    Rested r;

    rested(&r);
    g_assert_cmpint(run(&r, MS, request), ==, PVSCHED_BOOSTED);
    g_assert_cmphex(state(&r), ==, PVSCHED_STATE_BOOSTED);
    g_assert_cmpint(run(&r, 100 * US, request), ==, PVSCHED_BOOSTED);
    g_assert_cmpint(run(&r, 100 * US, 0), ==, PVSCHED_NORMAL);
    g_assert_cmphex(state(&r), ==, 0);
    g_assert_cmpuint(r.b.counters.requests, ==, 1);
    g_assert_cmpuint(r.b.counters.boosts, ==, 1);
    g_assert_cmpuint(r.b.counters.refused, ==, 0);
    g_assert_cmpint(r.b.counters.boosted_ns[PVSCHED_RT], ==, 200 * US);
}

static void test_ends_when_the_guest_said(void)
{
    uint64_t request = ask(PVSCHED_REQ_SOFTIRQ, 1, 300);
    Rested r;

    rested(&r);
    g_assert_cmpint(run(&r, MS, request), ==, PVSCHED_BOOSTED);
    g_assert_cmpint(run(&r, 299 * US, request), ==, PVSCHED_BOOSTED);
    g_assert_cmpint(run(&r, US, request), ==, PVSCHED_NORMAL);
    /* It was no refusal, and it stays like that. */
    g_assert_cmphex(state(&r), ==, 0);
    g_assert_cmpint(run(&r, MS, request), ==, PVSCHED_NORMAL);
    /* Other activities with the same number are no new request. */
    request = ask(PVSCHED_REQ_INTERRUPT, 1, 300);
    g_assert_cmpint(run(&r, MS, request), ==, PVSCHED_NORMAL);
    request = ask(PVSCHED_REQ_INTERRUPT, 2, 300);
    g_assert_cmpint(run(&r, MS, request), ==, PVSCHED_BOOSTED);
}

static void test_longest_boost_for_a_request(void)
{
    uint64_t request = ask(PVSCHED_REQ_INTERRUPT, 1, UINT32_MAX);
    Rested r;

    rested(&r);
    g_assert_cmpint(run(&r, MS, request), ==, PVSCHED_BOOSTED);
    g_assert_cmpint(run(&r, 2 * MS - US, request), ==, PVSCHED_BOOSTED);
    g_assert_cmpint(run(&r, US, request), ==, PVSCHED_NORMAL);
    g_assert_cmphex(state(&r), ==, PVSCHED_STATE_REFUSED);
    g_assert_cmpint(run(&r, MS, request), ==, PVSCHED_NORMAL);
    /* It counts once, and nothing is refused to who asks no more. */
    g_assert_cmpuint(r.b.counters.refused, ==, 1);
    run(&r, MS, 0);
    g_assert_cmphex(state(&r), ==, 0);
}

/* Less than a microsecond at a time is charged as well; a third is due. */
static void test_short_pieces(void)
{
    uint64_t request = ask(PVSCHED_REQ_RT_RUNNING, 1, UINT32_MAX);
    int64_t before_ns;
    Rested r;

    rested(&r);
    run(&r, MS, request);
    before_ns = credit(&r);
    for (int i = 0; i < 10000; i++) {
        run(&r, 333, request);
    }
    g_assert_cmpint(before_ns - credit(&r), >=, 2219 * US);
    g_assert_cmpint(before_ns - credit(&r), <=, 2221 * US);
}

static void test_sleep_costs_nothing(void)
{
    uint64_t request = ask(PVSCHED_REQ_RT_WAITING, 1, UINT32_MAX);
    int64_t before_ns;
    Rested r;

    rested(&r);
    run(&r, MS, request);
    before_ns = credit(&r);
    for (int i = 0; i < 10000; i++) {
        g_assert_cmpint(stands(&r, MS, request), ==, PVSCHED_BOOSTED);
    }
    g_assert_cmpint(credit(&r), >=, before_ns);
    g_assert_cmpint(r.b.counters.boosted_ns[PVSCHED_RT], ==, 0);
}

/* The watching thread boosts who waits, and nobody who gets its processor. */
static void test_watching_thread_boosts_who_waits(void)
{
    uint64_t request = ask(PVSCHED_REQ_NO_PREEMPT, 1, 50000);
    Rested r;

    rested(&r);
    r.l.watching = true;
    g_assert_cmpint(run(&r, MS, request), ==, PVSCHED_NORMAL);
    g_assert_cmpint(run(&r, MS, request), ==, PVSCHED_NORMAL);
    g_assert_cmpint(stands(&r, MS, request), ==, PVSCHED_BOOSTED);
    g_assert_cmpint(run(&r, MS, request), ==, PVSCHED_BOOSTED);
    g_assert_cmpint(run(&r, MS, 0), ==, PVSCHED_NORMAL);

    /* Another request each time: who gets to ask has its processor. */
    for (int i = 2; i < 100; i++) {
        request = ask(PVSCHED_REQ_NO_PREEMPT, i, 50000);
        g_assert_cmpint(stands(&r, MS, request), ==, PVSCHED_NORMAL);
    }
}

static void test_nobody_may(void)
{
    uint64_t request = ask(PVSCHED_REQ_RT_RUNNING, 1, 50000);
    Rested r;

    rested(&r);
    r.l.may = 1u << PVSCHED_CRITICAL;
    g_assert_cmpint(run(&r, MS, request), ==, PVSCHED_NORMAL);
    g_assert_cmphex(state(&r), ==, PVSCHED_STATE_REFUSED);
    r.l.may = ALL;
    g_assert_cmpint(run(&r, MS, request), ==, PVSCHED_BOOSTED);
    r.l.may = 0;
    g_assert_cmpint(run(&r, MS, request), ==, PVSCHED_NORMAL);
    /* What could not be brought about is not charged. */
    r.l.may = ALL;
    g_assert_cmpint(run(&r, MS, request), ==, PVSCHED_BOOSTED);
    pvsched_boost_failed(&r.b);
    r.l.may = 0;
    run(&r, MS, request);
    g_assert_cmpint(r.b.counters.boosted_ns[PVSCHED_RT], ==, MS);
}

/* An RT task that is interrupted is boosted at the expense of RT. */
static void test_kinds_have_budgets_of_their_own(void)
{
    Rested r;

    rested(&r);
    run(&r, MS, ask(PVSCHED_REQ_RT_RUNNING | PVSCHED_REQ_INTERRUPT, 1, 9999));
    run(&r, MS, ask(PVSCHED_REQ_INTERRUPT, 2, 9999));
    g_assert_cmpint(r.b.counters.boosted_ns[PVSCHED_RT], ==, MS);
    run(&r, 500 * US, 0);
    g_assert_cmpint(r.b.counters.boosted_ns[PVSCHED_CRITICAL], ==, 500 * US);
}

/* Savings and a little credit, and then no boost until half of it is earned */
static void test_credit_ends(void)
{
    uint64_t request = ask(PVSCHED_REQ_RT_RUNNING, 1, UINT32_MAX);
    Rested r;

    rested(&r);
    g_assert_cmpint(credit(&r), ==, PVSCHED_BURST_NS);
    owe(&r, PVSCHED_CREDIT_NS);
    g_assert_cmpint(run(&r, 0, request), ==, PVSCHED_NORMAL);
    g_assert_cmphex(state(&r), ==, PVSCHED_STATE_REFUSED);
    stands(&r, PVSCHED_CREDIT_NS / 2 * THREADS, 0);
    g_assert_cmpint(run(&r, 0, request), ==, PVSCHED_NORMAL);
    stands(&r, US * THREADS, 0);
    g_assert_cmpint(run(&r, 0, request), ==, PVSCHED_BOOSTED);
    /* It may go on until the credit is used up again. */
    g_assert_cmpint(run(&r, MS, request), ==, PVSCHED_BOOSTED);
    stands(&r, 0, 0);
    g_assert_cmpint(run(&r, 0, request), ==, PVSCHED_BOOSTED);
    g_assert_cmpint(run(&r, 10 * MS, request), ==, PVSCHED_NORMAL);
}

/* What it gets without a boost counts as well, up to a burst of debt. */
static void test_unboosted_counts(void)
{
    Rested r;

    rested(&r);
    /* A third of the time is due. */
    run(&r, 30 * MS, 0);
    g_assert_cmpint(credit(&r), ==, PVSCHED_BURST_NS - 20 * MS);
    for (int i = 0; i < 30; i++) {
        run(&r, MS, 0);
    }
    g_assert_cmpint(credit(&r), >=, PVSCHED_BURST_NS - 40 * MS - US);
    g_assert_cmpint(credit(&r), <=, PVSCHED_BURST_NS - 40 * MS + US);
    for (int i = 0; i < 1000; i++) {
        run(&r, MS, 0);
    }
    g_assert_cmpint(credit(&r), >=, -PVSCHED_BURST_NS);
    g_assert_cmpint(credit(&r), <=, -PVSCHED_BURST_NS + MS);
    /* Of long sleep a burst is left. */
    stands(&r, 100 * S, 0);
    g_assert_cmpint(credit(&r), ==, PVSCHED_BURST_NS);
    /* And if nobody looked while it ran for less than it was due */
    r.l.cpu_ns += 20 * S;
    stands(&r, 100 * S, 0);
    g_assert_cmpint(credit(&r), ==, PVSCHED_BURST_NS);
}

/* Nor does it help to register again, or to do so with another thread. */
static void test_debt_survives(void)
{
    uint64_t request = ask(PVSCHED_REQ_NO_PREEMPT, 1, 50000);
    PVSchedLook l = { .now_ns = 2 * S, .cpu_ns = 5 * S, .may = ALL };
    Rested r;

    rested(&r);
    owe(&r, 2 * PVSCHED_BURST_NS);
    l.due_ns = r.l.due_ns;
    g_assert_cmpint(run(&r, 0, request), ==, PVSCHED_NORMAL);
    pvsched_boost_penalty_waits(&r.b, true, request, r.l.now_ns);
    pvsched_boost_resume(&r.b, &l);
    g_assert_cmphex(state(&r), ==, 0);
    g_assert_false(pvsched_boost_active(&r.b));
    l.request = request;
    g_assert_cmpint(pvsched_boost_look(&r.b, &l), ==, PVSCHED_NORMAL);
    g_assert_cmpint(credit(&r), ==, -2 * PVSCHED_BURST_NS);
}

static int64_t penalty_waits(Rested *r, uint64_t request, int64_t now_ns)
{
    return pvsched_boost_penalty_waits(&r->b, true, request, now_ns);
}

static void test_penalty_waits(void)
{
    uint64_t request = ask(PVSCHED_REQ_NO_PREEMPT, 1, 50000);
    int64_t now_ns;
    Rested r;

    rested(&r);
    now_ns = r.l.now_ns;
    /* Only for what is critical */
    g_assert_cmpint(penalty_waits(&r, 0, now_ns), ==, 0);
    g_assert_cmpint(penalty_waits(&r, ask(PVSCHED_REQ_RT_RUNNING, 9, 50000),
                                  now_ns), ==, 0);
    g_assert_cmpint(penalty_waits(&r, request, now_ns), ==, 2 * MS);
    g_assert_cmphex(state(&r), ==, PVSCHED_STATE_PENALTY);
    now_ns += MS;
    g_assert_cmpint(penalty_waits(&r, request, now_ns), ==, MS);
    now_ns += 500 * US;
    g_assert_cmpint(penalty_waits(&r, 0, now_ns), ==, 0);
    g_assert_cmphex(state(&r), ==, 0);
    g_assert_cmpuint(r.b.counters.waits, ==, 1);
    g_assert_cmpint(r.b.counters.waited_ns, ==, 1500 * US);

    /* As long as the guest has said, if that is less */
    request = ask(PVSCHED_REQ_NO_PREEMPT, 2, 700);
    g_assert_cmpint(penalty_waits(&r, request, now_ns), ==, 700 * US);
    now_ns += 700 * US;
    g_assert_cmpint(penalty_waits(&r, request, now_ns), ==, 0);

    /* Until it is lifted */
    request = ask(PVSCHED_REQ_NO_PREEMPT, 3, 700);
    g_assert_cmpint(penalty_waits(&r, request, now_ns), ==, 700 * US);
    pvsched_boost_penalty_waits(&r.b, false, request, now_ns);
    g_assert_cmphex(state(&r), ==, 0);

    /* A VM that is stopped meanwhile has not waited for all that time. */
    now_ns += S;
    request = ask(PVSCHED_REQ_NO_PREEMPT, 4, 50000);
    g_assert_cmpint(penalty_waits(&r, request, now_ns), ==, 2 * MS);
    now_ns += 60 * S;
    g_assert_cmpint(penalty_waits(&r, request, now_ns), ==, 0);
    g_assert_cmpint(r.b.counters.waited_ns, <=, 5 * MS);
}

/* Somebody else has made the thread what it is. */
static void test_failed(void)
{
    uint64_t request = ask(PVSCHED_REQ_RT_RUNNING, 1, 50000);
    Rested r;

    rested(&r);
    g_assert_cmpint(run(&r, 0, request), ==, PVSCHED_BOOSTED);
    pvsched_boost_failed(&r.b);
    g_assert_cmphex(state(&r), ==, PVSCHED_STATE_REFUSED);
    g_assert_cmpuint(r.b.counters.boosts, ==, 0);
    run(&r, 10 * MS, request);
    g_assert_cmpint(r.b.counters.boosted_ns[PVSCHED_RT], ==, 0);
    pvsched_boost_failed(&r.b);
    run(&r, 0, 0);
    pvsched_boost_failed(&r.b);
    g_assert_cmphex(state(&r), ==, 0);
}

/* Who says that it is critical all the time waits for a tenth of it. */
static void test_waiting_has_a_budget(void)
{
    int64_t start_ns, now_ns, left_ns;
    unsigned number = 0;
    Rested r;

    rested(&r);
    now_ns = start_ns = r.l.now_ns;
    while (now_ns < start_ns + 100 * S) {
        left_ns = penalty_waits(&r, ask(PVSCHED_REQ_NO_PREEMPT, number++,
                                        50000), now_ns);
        g_assert_cmpint(left_ns, <=, 2 * MS);
        now_ns += left_ns ?: 10 * US;
    }
    g_assert_cmpint(r.b.counters.waited_ns, <=, 10 * S + 10 * MS);
    g_assert_cmpint(r.b.counters.waited_ns, >=, 9 * S);
}

/*
 * Whatever a guest asks, however time goes by and whoever looks: a boost is
 * within the budget and what the last looks could not know, it ends with the
 * first look that has a reason, and the debt is bounded.
 */
static void test_random(void)
{
    for (int seed = 1; seed <= RANDOM_RUNS; seed++) {
        g_autoptr(GRand) rnd = g_rand_new_with_seed(seed);
        unsigned percent[PVSCHED_KINDS] = { g_rand_int_range(rnd, 0, 101),
                                            g_rand_int_range(rnd, 0, 101) };
        int64_t start_ns, longest_look_ns = 0, due_ns;
        Rested r;

        rested(&r);
        for (int kind = 0; kind < PVSCHED_KINDS; kind++) {
            pvsched_boost_set_budget(&r.b, kind, percent[kind], r.l.now_ns);
        }
        start_ns = r.l.now_ns;
        due_ns = r.l.due_ns;
        for (int i = 0; i < RANDOM_LOOKS; i++) {
            int64_t ns = g_rand_int_range(rnd, 0, 3 * MS);
            uint64_t request = (uint64_t)g_rand_int(rnd) << 32 |
                               g_rand_int(rnd);
            PVSchedMode mode;

            longest_look_ns = MAX(longest_look_ns, ns);
            r.l.may = g_rand_int_range(rnd, 0, 8) ? ALL : 0;
            r.l.watching = g_rand_boolean(rnd);
            switch (g_rand_int_range(rnd, 0, 5)) {
            case 0:
                request = 0;
                break;
            case 1:
                /* Takes itself back into the past as well */
                request = r.l.request;
                break;
            case 2:
                request >>= g_rand_int_range(rnd, 0, 64);
                break;
            case 3:
                request |= UINT64_MAX << PVSCHED_REQ_US_SHIFT;
                break;
            }
            if (g_rand_int_range(rnd, 0, 3)) {
                mode = run(&r, ns, request);
            } else {
                mode = stands(&r, ns, request);
            }
            g_assert_cmpint(mode, ==, r.b.mode);
            if (mode == PVSCHED_BOOSTED) {
                g_assert_cmphex(request & PVSCHED_REQ_ACTIVITIES, !=, 0);
                g_assert_cmphex(r.l.may, !=, 0);
                g_assert_cmpuint(percent[r.b.kind], !=, 0);
            }
            if (g_rand_int_range(rnd, 0, 50) == 0) {
                pvsched_boost_failed(&r.b);
            }
        }
        for (int kind = 0; kind < PVSCHED_KINDS; kind++) {
            int64_t earned_ns = (r.l.now_ns - start_ns + 50 * MS) / 100 *
                                percent[kind];

            g_assert_cmpint(r.b.counters.boosted_ns[kind], <=,
                            earned_ns + longest_look_ns);
        }
        g_assert_cmpint(r.b.counters.boosted_ns[0] +
                        r.b.counters.boosted_ns[1], <=,
                        r.l.due_ns - due_ns + PVSCHED_BURST_NS +
                        PVSCHED_CREDIT_NS + longest_look_ns);
        g_assert_cmpint(-credit(&r), <=, PVSCHED_BURST_NS);
        /* And when it asks no more, nothing is left in force. */
        r.l.watching = true;
        g_assert_cmpint(run(&r, 0, 0), ==, PVSCHED_NORMAL);
        g_assert_false(pvsched_boost_active(&r.b));
    }
}

/* A boost is looked at before it may be over, and who waits for one soon. */
static void test_look_within(void)
{
    uint64_t request = ask(PVSCHED_REQ_RT_RUNNING, 1, UINT32_MAX);
    Rested r;

    rested(&r);
    r.l.watching = true;
    g_assert_cmpint(pvsched_boost_look_within(&r.b, &r.l), ==,
                    PVSCHED_LOOK_LATE_NS);
    /* It runs well without. */
    run(&r, 0, request);
    g_assert_cmpint(run(&r, MS, request), ==, PVSCHED_NORMAL);
    g_assert_cmpint(pvsched_boost_look_within(&r.b, &r.l), ==,
                    PVSCHED_LOOK_SOON_NS);
    /* Nothing of a boost is used up while it sleeps, but what it said is. */
    g_assert_cmpint(stands(&r, 2 * MS, request), ==, PVSCHED_BOOSTED);
    g_assert_cmpint(pvsched_boost_look_within(&r.b, &r.l), ==,
                    PVSCHED_LOOK_LATE_NS);
    r.l.watching = false;
    run(&r, 0, ask(PVSCHED_REQ_RT_RUNNING, 2, 7000));
    g_assert_cmpint(pvsched_boost_look_within(&r.b, &r.l), ==, 7 * MS);
    stands(&r, 4 * MS, r.l.request);
    g_assert_cmpint(pvsched_boost_look_within(&r.b, &r.l), ==, 3 * MS);
    /* 2 ms for what is critical */
    run(&r, 0, ask(PVSCHED_REQ_NO_PREEMPT, 3, 50000));
    g_assert_cmpint(pvsched_boost_look_within(&r.b, &r.l), ==, 2 * MS);
    run(&r, 400 * US, r.l.request);
    g_assert_cmpint(pvsched_boost_look_within(&r.b, &r.l), ==, 1600 * US);
    /* All but 4 ms of its credit are gone. */
    owe(&r, MS);
    run(&r, 0, ask(PVSCHED_REQ_RT_RUNNING, 4, UINT32_MAX));
    g_assert_cmpint(pvsched_boost_look_within(&r.b, &r.l), ==, 4 * MS);
    /* Of its budget 3 ms are left, and it earns half of what it spends. */
    rested(&r);
    run(&r, 0, request);
    g_assert_cmpint(run(&r, 22 * MS, request), ==, PVSCHED_BOOSTED);
    g_assert_cmpint(pvsched_boost_look_within(&r.b, &r.l), ==, 6 * MS);
    owe(&r, PVSCHED_CREDIT_NS);
    g_assert_cmpint(run(&r, 0, request), ==, PVSCHED_NORMAL);
    g_assert_cmpint(pvsched_boost_look_within(&r.b, &r.l), ==,
                    PVSCHED_LOOK_LATE_NS / 2);
}

static void test_vm(void)
{
    uint64_t request = ask(PVSCHED_REQ_RT_RUNNING, 1, UINT32_MAX);
    unsigned boosted[PVSCHED_KINDS] = { };
    PVSchedVm vm;
    Rested r;

    pvsched_vm_init(&vm, 0);
    g_assert_cmphex(pvsched_vm_may(&vm, 10 * S), ==, 0);
    /* Half of two processors, so that 50 ms have been saved */
    pvsched_vm_set_budget(&vm, PVSCHED_RT, 50, 2, 10 * S);
    g_assert_cmphex(pvsched_vm_may(&vm, 11 * S), ==, 1u << PVSCHED_RT);
    g_assert_cmpint(pvsched_vm_look_within(&vm, boosted, 11, 11 * S), ==,
                    PVSCHED_LOOK_LATE_NS);
    /* 11 spend it, and it earns as much as one of them spends. */
    boosted[PVSCHED_RT] = 20;
    g_assert_cmpint(pvsched_vm_look_within(&vm, boosted, 11, 11 * S), ==,
                    5 * MS);
    boosted[PVSCHED_RT] = 11;
    g_assert_cmpint(pvsched_vm_look_within(&vm, boosted, 20, 11 * S), ==,
                    5 * MS);
    boosted[PVSCHED_RT] = 1;
    g_assert_cmpint(pvsched_vm_look_within(&vm, boosted, 20, 11 * S), ==,
                    PVSCHED_LOOK_LATE_NS);
    boosted[PVSCHED_RT] = 1000;
    g_assert_cmpint(pvsched_vm_look_within(&vm, boosted, 1000, 11 * S), ==,
                    PVSCHED_LOOK_SOON_NS);
    for (int i = 0; i < 3; i++) {
        rested(&r);
        run(&r, MS, request);
        run(&r, 20 * MS, 0);
        g_assert_cmphex(pvsched_vm_may(&vm, 11 * S), ==, 1u << PVSCHED_RT);
        pvsched_vm_bill(&vm, &r.b, 11 * S);
        /* A second time there is nothing to bill. */
        pvsched_vm_bill(&vm, &r.b, 11 * S);
    }
    g_assert_cmphex(pvsched_vm_may(&vm, 11 * S), ==, 0);
    g_assert_cmphex(pvsched_vm_may(&vm, 11 * S + 9 * MS), ==, 0);
    g_assert_cmphex(pvsched_vm_may(&vm, 11 * S + 11 * MS), ==,
                    1u << PVSCHED_RT);
}

/*
 * A processor with CFS, some hogs and a vCPU.  Who is youngest runs until it
 * is older than another one by a slice.  Boosted, the vCPU runs when it wants
 * to.  A thread that wakes up is as old as the youngest, less some latency.
 */
#define HOGS_MAX 8
#define TICK (100 * US)
#define SLICE (3 * MS)
#define WAKEUP_BONUS (3 * MS)

typedef struct Host {
    int hogs;
    double vcpu_age;
    double hog_age[HOGS_MAX];
    int64_t hog_ns[HOGS_MAX];
    /* whose turn it is; -1: the vCPU's */
    int turn;
    bool was_asleep;
} Host;

static double host_youngest(Host *h, int *who)
{
    *who = 0;
    for (int i = 1; i < h->hogs; i++) {
        if (h->hog_age[i] < h->hog_age[*who]) {
            *who = i;
        }
    }
    return h->hog_age[*who];
}

/* A tick.  Returns: whether the vCPU ran */
static bool host_tick(Host *h, bool wants, PVSchedMode mode)
{
    int youngest;
    double age = host_youngest(h, &youngest), turn_age;

    if (wants && h->was_asleep) {
        h->vcpu_age = MAX(h->vcpu_age, age - WAKEUP_BONUS);
    }
    h->was_asleep = !wants;
    if (wants && mode == PVSCHED_BOOSTED) {
        return true;
    }
    turn_age = h->turn < 0 ? h->vcpu_age : h->hog_age[h->turn];
    if (h->turn < 0 && (!wants || turn_age > age + SLICE)) {
        h->turn = youngest;
    } else if (h->turn >= 0 && wants && turn_age > h->vcpu_age + SLICE &&
               h->vcpu_age <= age) {
        h->turn = -1;
    } else if (h->turn >= 0 && turn_age > age + SLICE) {
        h->turn = youngest;
    }
    if (h->turn < 0) {
        h->vcpu_age += TICK;
        return true;
    }
    h->hog_age[h->turn] += TICK;
    h->hog_ns[h->turn] += TICK;
    return false;
}

/* What a guest does and asks for, tick by tick */
typedef bool Guest(GRand *rnd, int64_t now_ns, uint64_t *request);

static bool guest_for_ever(GRand *rnd, int64_t now_ns, uint64_t *request)
{
    *request = ask(PVSCHED_REQ_RT_RUNNING, now_ns / TICK, UINT32_MAX);
    return true;
}

static bool guest_critical(GRand *rnd, int64_t now_ns, uint64_t *request)
{
    *request = ask(PVSCHED_REQ_NO_PREEMPT, now_ns / TICK, UINT32_MAX);
    return true;
}

static bool guest_garbage(GRand *rnd, int64_t now_ns, uint64_t *request)
{
    *request = (uint64_t)g_rand_int(rnd) << 32 | g_rand_int(rnd);
    return true;
}

/* Asks in turns, so as to be found in debt and out of it */
static bool guest_turns(GRand *rnd, int64_t now_ns, uint64_t *request)
{
    *request = now_ns / (150 * MS) & 1 ? 0 :
               ask(PVSCHED_REQ_RT_RUNNING, now_ns / (10 * MS), UINT32_MAX);
    return true;
}

/* Sleeps for half of the time, in pieces of 4 ms */
static bool guest_dozer(GRand *rnd, int64_t now_ns, uint64_t *request)
{
    *request = ask(PVSCHED_REQ_RT_RUNNING, now_ns / TICK, UINT32_MAX);
    return now_ns / (4 * MS) & 1;
}

/* Falls asleep and wakes up at random, in pieces of a tick at times */
static bool guest_random(GRand *rnd, int64_t now_ns, uint64_t *request)
{
    bool wants = now_ns / (g_rand_int_range(rnd, 1, 20) * 10 * MS) & 1;

    *request = g_rand_boolean(rnd) ? 0 :
               ask(PVSCHED_REQ_RT_RUNNING, now_ns / TICK, UINT32_MAX);
    return wants;
}

/* Asks nothing while it sleeps, and for all else */
static bool guest_sly(GRand *rnd, int64_t now_ns, uint64_t *request)
{
    bool wants = now_ns / (20 * MS) & 1;

    *request = wants ? ask(PVSCHED_REQ_RT_RUNNING, now_ns / TICK, UINT32_MAX) :
               0;
    return wants;
}

/* Sleeps for half of the time, in pieces of 20 ms */
static bool guest_sleeper(GRand *rnd, int64_t now_ns, uint64_t *request)
{
    *request = ask(PVSCHED_REQ_RT_RUNNING, now_ns / TICK, UINT32_MAX);
    return now_ns / (20 * MS) & 1;
}

/*
 * Who runs may ring its bell at any time, and the watching thread looks each
 * @look_every_ns; or with 0 nobody rings, and it looks when it has to.
 *
 * Returns: for how long the vCPU ran, in 20 s
 */
static int64_t host_run(Host *h, Guest *guest, int hogs, int64_t look_every_ns,
                        unsigned may)
{
    g_autoptr(GRand) rnd = g_rand_new_with_seed(1);
    PVSchedLook l = { .may = may };
    int64_t watch_at_ns = 0;
    PVSchedBoost b;

    *h = (Host) { .hogs = hogs };
    pvsched_boost_init(&b, &l);
    pvsched_boost_set_budget(&b, PVSCHED_CRITICAL, 100, 0);
    pvsched_boost_set_budget(&b, PVSCHED_RT, 100, 0);
    while (l.now_ns < 20 * S) {
        bool wants = guest(rnd, l.now_ns, &l.request);
        bool ran = host_tick(h, wants, b.mode);

        l.now_ns += TICK;
        l.cpu_ns += ran ? TICK : 0;
        l.due_ns = l.now_ns / (hogs + 1);
        l.watching = !look_every_ns || !ran || g_rand_boolean(rnd);
        if ((look_every_ns && ran) || l.now_ns >= watch_at_ns) {
            pvsched_boost_look(&b, &l);
            watch_at_ns = l.now_ns +
                          (look_every_ns ?: pvsched_boost_look_within(&b, &l));
        }
    }
    return l.cpu_ns;
}

/*
 * Whatever a guest asks for, with a budget of 100 %: hogs get what they would
 * get if nobody heard it, or at least their fair share, but for 3 %; and a
 * guest that never sleeps gets its own.
 */
static void test_fair_with(Guest *guest, int least_percent, int hogs,
                           int64_t look_every_ns)
{
    int64_t fair_ns = 20 * S / (hogs + 1), vcpu_ns, unheard_ns, hog_ns;
    Host h, unheard;

    vcpu_ns = host_run(&h, guest, hogs, look_every_ns, ALL);
    unheard_ns = host_run(&unheard, guest, hogs, look_every_ns, 0);
    g_test_message("%d hogs, look %d us: %.3f, unheard %.3f", hogs,
                   (int)(look_every_ns / US), (double)vcpu_ns / fair_ns,
                   (double)unheard_ns / fair_ns);
    for (int n = 0; n < hogs; n++) {
        hog_ns = MIN(fair_ns, unheard.hog_ns[n]);
        g_assert_cmpint(h.hog_ns[n], >=, hog_ns * 97 / 100);
    }
    g_assert_cmpint(vcpu_ns, >=, fair_ns * least_percent / 100);
}

static void test_fair(Guest *guest, int least_percent)
{
    for (int hogs = 1; hogs <= HOGS_MAX; hogs++) {
        test_fair_with(guest, least_percent, hogs, MS);
        test_fair_with(guest, least_percent, hogs, 4 * MS);
        test_fair_with(guest, least_percent, hogs, 0);
    }
}

static void test_fair_for_ever(void)
{
    test_fair(guest_for_ever, 97);
}

static void test_fair_critical(void)
{
    test_fair(guest_critical, 97);
}

static void test_fair_garbage(void)
{
    test_fair(guest_garbage, 75);
}

static void test_fair_turns(void)
{
    test_fair(guest_turns, 95);
}

static void test_fair_sleeper(void)
{
    test_fair(guest_sleeper, 0);
}

static void test_fair_dozer(void)
{
    test_fair(guest_dozer, 0);
}

static void test_fair_random(void)
{
    test_fair(guest_random, 0);
}

static void test_fair_sly(void)
{
    test_fair(guest_sly, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pvsched/boost/asks-and-is-done", test_asks_and_is_done);
    g_test_add_func("/pvsched/boost/ends-when-the-guest-said",
                    test_ends_when_the_guest_said);
    g_test_add_func("/pvsched/boost/longest", test_longest_boost_for_a_request);
    g_test_add_func("/pvsched/boost/short-pieces", test_short_pieces);
    g_test_add_func("/pvsched/boost/sleep-costs-nothing",
                    test_sleep_costs_nothing);
    g_test_add_func("/pvsched/boost/watching",
                    test_watching_thread_boosts_who_waits);
    g_test_add_func("/pvsched/boost/nobody-may", test_nobody_may);
    g_test_add_func("/pvsched/boost/kinds",
                    test_kinds_have_budgets_of_their_own);
    g_test_add_func("/pvsched/boost/credit-ends", test_credit_ends);
    g_test_add_func("/pvsched/boost/unboosted", test_unboosted_counts);
    g_test_add_func("/pvsched/boost/debt-survives", test_debt_survives);
    g_test_add_func("/pvsched/boost/failed", test_failed);
    g_test_add_func("/pvsched/boost/penalty-waits", test_penalty_waits);
    g_test_add_func("/pvsched/boost/waiting-has-a-budget",
                    test_waiting_has_a_budget);
    g_test_add_func("/pvsched/boost/random", test_random);
    g_test_add_func("/pvsched/boost/look-within", test_look_within);
    g_test_add_func("/pvsched/boost/vm", test_vm);
    g_test_add_func("/pvsched/boost/fair/for-ever", test_fair_for_ever);
    g_test_add_func("/pvsched/boost/fair/critical", test_fair_critical);
    g_test_add_func("/pvsched/boost/fair/garbage", test_fair_garbage);
    g_test_add_func("/pvsched/boost/fair/turns", test_fair_turns);
    g_test_add_func("/pvsched/boost/fair/sleeper", test_fair_sleeper);
    g_test_add_func("/pvsched/boost/fair/dozer", test_fair_dozer);
    g_test_add_func("/pvsched/boost/fair/random", test_fair_random);
    g_test_add_func("/pvsched/boost/fair/sly", test_fair_sly);
    return g_test_run();
}
