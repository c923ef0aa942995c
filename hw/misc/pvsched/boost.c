/*
 * pvsched: when a vCPU is boosted, and for how long
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/misc/pvsched-abi.h"
#include "boost.h"

#define NS_PER_US 1000LL

static const int64_t longest_ns[PVSCHED_KINDS] = {
    [PVSCHED_CRITICAL] = PVSCHED_CRITICAL_MAX_US * NS_PER_US,
    [PVSCHED_RT] = PVSCHED_RT_MAX_US * NS_PER_US,
};

unsigned pvsched_request_activities(uint64_t request)
{
    return request & PVSCHED_REQ_ACTIVITIES;
}

/* An RT task that is interrupted is an RT task still. */
static PVSchedKind request_kind(uint64_t request)
{
    return request & PVSCHED_REQ_RT ? PVSCHED_RT : PVSCHED_CRITICAL;
}

static unsigned request_number(uint64_t request)
{
    return request >> PVSCHED_REQ_SEQ_SHIFT & PVSCHED_REQ_SEQ_MASK;
}

static int64_t request_ns(uint64_t request)
{
    return (int64_t)(request >> PVSCHED_REQ_US_SHIFT) * NS_PER_US;
}

/* What an account has, or with a minus sign owes, as of now */
static int64_t account_balance(DirtyAccount *a, int64_t now_ns)
{
    return dirty_account_allowance(a, 0, now_ns);
}

static void account_set_percent(DirtyAccount *a, unsigned percent,
                                unsigned processors, int64_t now_ns)
{
    dirty_account_set_rate(a, MIN(DIRTY_NS_PER_S / 100 * percent * processors,
                                  DIRTY_RATE_MAX_PPS), now_ns);
}

void pvsched_boost_resume(PVSchedBoost *b, const PVSchedLook *l)
{
    b->mode = PVSCHED_NORMAL;
    b->request = 0;
    b->refused = false;
    b->waits = false;
    b->cpu_ns = l->cpu_ns;
    b->watched_request = 0;
    b->watched_cpu_ns = l->cpu_ns;
    b->watched_ns = l->now_ns;
}

void pvsched_boost_init(PVSchedBoost *b, const PVSchedLook *l)
{
    *b = (PVSchedBoost) { };
    pvsched_boost_resume(b, l);
    for (int kind = 0; kind < PVSCHED_KINDS; kind++) {
        dirty_account_init(&b->budget[kind], l->now_ns);
        pvsched_boost_set_budget(b, kind, 0, l->now_ns);
    }
    dirty_account_init(&b->fair, l->due_ns);
    dirty_account_set_rate(&b->fair, DIRTY_NS_PER_S, l->due_ns);
    dirty_account_init(&b->wait, l->now_ns);
    account_set_percent(&b->wait, PVSCHED_WAIT_PERCENT, 1, l->now_ns);
}

void pvsched_boost_set_budget(PVSchedBoost *b, PVSchedKind kind,
                              unsigned percent, int64_t now_ns)
{
    account_set_percent(&b->budget[kind], percent, 1, now_ns);
}

static void charge_boosted(PVSchedBoost *b, int64_t ran_ns,
                           const PVSchedLook *l)
{
    dirty_account_charge(&b->fair, ran_ns, b->fair.updated_ns);
    dirty_account_charge(&b->budget[b->kind], ran_ns, l->now_ns);
    b->unbilled_ns[b->kind] += ran_ns;
    b->used_ns += ran_ns;
    b->counters.boosted_ns[b->kind] += ran_ns;
}

/*
 * Without a boost it is the scheduler that decides for how long a vCPU runs.
 * What that gives it beyond its due counts as well, for it has others wait
 * first and makes up for that later; but no more than a burst, because nobody
 * else may have wanted it.
 */
static void charge_unboosted(PVSchedBoost *b, int64_t ran_ns,
                             const PVSchedLook *l)
{
    int64_t then_ns = b->fair.updated_ns;
    int64_t most_ns = account_balance(&b->fair, then_ns) +
                      l->due_ns - then_ns + PVSCHED_BURST_NS;

    dirty_account_charge(&b->fair, MIN(ran_ns, MAX(most_ns, 0)), then_ns);
}

/*
 * What the thread ran since the latest look, it ran as that had decided.  Less
 * than a microsecond of it is left for the next look, so that rounding takes
 * nothing away.  It comes out of what was due meanwhile: so that is earned
 * afterwards, and only then cut down to a burst.
 */
static void account_for_run(PVSchedBoost *b, const PVSchedLook *l)
{
    int64_t ran_ns = l->cpu_ns - b->cpu_ns;

    if (ran_ns >= NS_PER_US) {
        ran_ns -= ran_ns % NS_PER_US;
        b->cpu_ns += ran_ns;
        if (b->mode == PVSCHED_BOOSTED) {
            charge_boosted(b, ran_ns, l);
        } else {
            charge_unboosted(b, ran_ns, l);
        }
    }
    dirty_account_charge(&b->fair, 0, l->due_ns);
}

/*
 * A new number makes a new request.  So does a request after none, or the
 * guest's counter would have to be right for its own good only.
 */
static void note_request(PVSchedBoost *b, uint64_t request, int64_t now_ns)
{
    bool asked = pvsched_request_activities(b->request);

    /* Without activities all is the same, whatever the rest says. */
    if (!pvsched_request_activities(request)) {
        b->request = 0;
        return;
    }
    if (!asked || request_number(request) != request_number(b->request)) {
        b->since_ns = now_ns;
        b->used_ns = 0;
        b->counted_refused = false;
        b->counters.requests++;
    }
    b->request = request;
}

/* The guest itself has said when this is over. */
static bool request_over(const PVSchedBoost *b, int64_t now_ns)
{
    return !b->request || now_ns - b->since_ns >= request_ns(b->request);
}

/*
 * A vCPU that gets its processor has no use for a boost, and would only have to
 * leave the guest to end it.  So the watching thread boosts those that ask for
 * the same as at its look before, and ran for less than half of the time since.
 * Whether it waits or sleeps makes no difference: in sleep a boost costs
 * nothing.
 */
static bool waits_for_processor(const PVSchedBoost *b, const PVSchedLook *l)
{
    return b->watched_request == b->request &&
           (l->cpu_ns - b->watched_cpu_ns) * 2 < l->now_ns - b->watched_ns;
}

/* Who has lost its credit gets it back when half of the debt is earned. */
static bool in_credit(PVSchedBoost *b, const PVSchedLook *l)
{
    int64_t least_ns = b->broke ? -PVSCHED_CREDIT_NS / 2 : -PVSCHED_CREDIT_NS;

    b->broke = account_balance(&b->fair, l->due_ns) <= least_ns;
    return !b->broke;
}

static bool has_budget(PVSchedBoost *b, PVSchedKind kind, const PVSchedLook *l)
{
    bool goes_on = b->mode == PVSCHED_BOOSTED && b->kind == kind;

    return l->may & 1u << kind && b->used_ns < longest_ns[kind] &&
           account_balance(&b->budget[kind], l->now_ns) >
           (goes_on ? 0 : PVSCHED_BOOST_MIN_NS);
}

static void begin_boost(PVSchedBoost *b, PVSchedKind kind)
{
    if (b->mode != PVSCHED_BOOSTED) {
        b->counters.boosts++;
    }
    b->mode = PVSCHED_BOOSTED;
    b->kind = kind;
}

static void decide(PVSchedBoost *b, const PVSchedLook *l)
{
    PVSchedKind kind = request_kind(b->request);

    b->refused = false;
    if (!request_over(b, l->now_ns)) {
        if (!has_budget(b, kind, l) || !in_credit(b, l)) {
            b->refused = true;
            b->counters.refused += !b->counted_refused;
            b->counted_refused = true;
        } else if (b->mode == PVSCHED_BOOSTED || !l->watching ||
                   waits_for_processor(b, l)) {
            begin_boost(b, kind);
            return;
        }
    }
    b->mode = PVSCHED_NORMAL;
}

PVSchedMode pvsched_boost_look(PVSchedBoost *b, const PVSchedLook *l)
{
    account_for_run(b, l);
    note_request(b, l->request, l->now_ns);
    decide(b, l);
    if (l->watching) {
        b->watched_request = b->request;
        b->watched_cpu_ns = l->cpu_ns;
        b->watched_ns = l->now_ns;
    }
    return b->mode;
}

static int64_t look_within(int64_t ns)
{
    return MIN(MAX(ns, PVSCHED_LOOK_SOON_NS), PVSCHED_LOOK_LATE_NS);
}

/* For how long an account lasts while @processors spend what it has and gets */
static int64_t lasts_ns(DirtyAccount *a, unsigned processors, int64_t now_ns)
{
    /* ns per ms */
    int64_t spent = (processors * DIRTY_NS_PER_S - (int64_t)a->rate_pps) / 1000;

    return spent > 0 ? account_balance(a, now_ns) * 1000 / spent * 1000 :
           PVSCHED_LOOK_LATE_NS;
}

/*
 * No vCPU runs for longer than the time that goes by, and what it is due only
 * adds to what it has.  So a boost needs no look before what is left of it has
 * passed: of its credit, its budget, its request.  Asleep, it uses none of it.
 * Who is refused has to sleep for a while first.
 */
int64_t pvsched_boost_look_within(PVSchedBoost *b, const PVSchedLook *l)
{
    int64_t left_ns;

    if (b->mode != PVSCHED_BOOSTED) {
        return !b->request ? PVSCHED_LOOK_LATE_NS :
               b->refused ? PVSCHED_LOOK_LATE_NS / 2 : PVSCHED_LOOK_SOON_NS;
    }
    left_ns = MIN(account_balance(&b->fair, l->due_ns) + PVSCHED_CREDIT_NS,
                  lasts_ns(&b->budget[b->kind], 1, l->now_ns));
    left_ns = MIN(left_ns, longest_ns[b->kind] - b->used_ns);
    left_ns = MIN(left_ns, b->since_ns + request_ns(b->request) - l->now_ns);
    return look_within(left_ns);
}

void pvsched_boost_failed(PVSchedBoost *b)
{
    b->counters.boosts -= b->mode == PVSCHED_BOOSTED;
    b->mode = PVSCHED_NORMAL;
    b->refused = b->request != 0;
}

/* How much longer a penalty may wait that has waited for @waited_ns. */
static int64_t wait_left_ns(PVSchedBoost *b, int64_t waited_ns, int64_t now_ns)
{
    int64_t said_ns = b->since_ns + request_ns(b->request) - now_ns;
    int64_t most_ns = MIN(PVSCHED_WAIT_MAX_US * NS_PER_US,
                          account_balance(&b->wait, now_ns));

    if (!(b->request & PVSCHED_REQ_CRITICAL)) {
        return 0;
    }
    return MIN(said_ns, most_ns - waited_ns);
}

int64_t pvsched_boost_penalty_waits(PVSchedBoost *b, bool due,
                                    uint64_t request, int64_t now_ns)
{
    int64_t waited_ns = b->waits ? now_ns - b->waits_since_ns : 0, left_ns;

    /* The VM may have been stopped meanwhile. */
    waited_ns = MIN(waited_ns, PVSCHED_WAIT_MAX_US * NS_PER_US);
    note_request(b, request, now_ns);
    left_ns = due ? wait_left_ns(b, waited_ns, now_ns) : 0;
    if (left_ns <= 0) {
        if (b->waits) {
            dirty_account_charge(&b->wait, waited_ns, now_ns);
            b->counters.waited_ns += waited_ns;
        }
        b->waits = false;
        return 0;
    }
    if (!b->waits) {
        b->waits = true;
        b->waits_since_ns = now_ns;
        b->counters.waits++;
    }
    return left_ns;
}

static uint32_t left_us(DirtyAccount *a, int64_t now_ns)
{
    return MAX(account_balance(a, now_ns), 0) / NS_PER_US;
}

void pvsched_boost_line(PVSchedBoost *b, int64_t now_ns, PVSchedLine *line)
{
    *line = (PVSchedLine) {
        .state = (b->mode == PVSCHED_BOOSTED ? PVSCHED_STATE_BOOSTED : 0) |
                 (b->waits ? PVSCHED_STATE_PENALTY : 0) |
                 (b->refused ? PVSCHED_STATE_REFUSED : 0),
        .critical_us = left_us(&b->budget[PVSCHED_CRITICAL], now_ns),
        .rt_us = left_us(&b->budget[PVSCHED_RT], now_ns),
        .wait_us = left_us(&b->wait, now_ns),
    };
}

void pvsched_vm_set_budget(PVSchedVm *vm, PVSchedKind kind, unsigned percent,
                           unsigned processors, int64_t now_ns)
{
    account_set_percent(&vm->budget[kind], percent, processors, now_ns);
}

void pvsched_vm_init(PVSchedVm *vm, int64_t now_ns)
{
    for (int kind = 0; kind < PVSCHED_KINDS; kind++) {
        dirty_account_init(&vm->budget[kind], now_ns);
        pvsched_vm_set_budget(vm, kind, 0, 1, now_ns);
    }
}

void pvsched_vm_bill(PVSchedVm *vm, PVSchedBoost *b, int64_t now_ns)
{
    for (int kind = 0; kind < PVSCHED_KINDS; kind++) {
        dirty_account_charge(&vm->budget[kind], b->unbilled_ns[kind], now_ns);
        b->unbilled_ns[kind] = 0;
    }
}

unsigned pvsched_vm_may(PVSchedVm *vm, int64_t now_ns)
{
    unsigned may = 0;

    for (int kind = 0; kind < PVSCHED_KINDS; kind++) {
        if (account_balance(&vm->budget[kind], now_ns) > 0) {
            may |= 1u << kind;
        }
    }
    return may;
}

int64_t pvsched_vm_look_within(PVSchedVm *vm,
                               const unsigned boosted[PVSCHED_KINDS],
                               unsigned processors, int64_t now_ns)
{
    int64_t least_ns = PVSCHED_LOOK_LATE_NS, left_ns;

    for (int kind = 0; kind < PVSCHED_KINDS; kind++) {
        left_ns = lasts_ns(&vm->budget[kind], MIN(boosted[kind], processors),
                           now_ns);
        least_ns = MIN(least_ns, left_ns);
    }
    return look_within(least_ns);
}
