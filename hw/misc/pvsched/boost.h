/*
 * pvsched: when a vCPU is boosted, for how long, and how it pays for that
 *
 * A guest asks, and whoever looks at its line (the vCPU's own thread, or one
 * that watches) asks here what is to be in force from now on.  Asking is free;
 * what counts is the CPU time that the vCPU gets while it is boosted.  It is
 * bounded thrice:
 *
 * - by the longest time for one request, and by what the guest itself has said;
 * - by a budget for each kind of activity, a percentage of the time.  That is
 *   how much an operator wants to be boosted at all;
 * - by fairness: see below.
 *
 * Fairness
 *
 * A boost shall bring forward what the vCPU is due, but not add to it.  The
 * host's scheduler (CFS) lets that thread run whose virtual time is least, and
 * a thread of weight w that runs for t gets older by t / w.  A boosted vCPU
 * runs for b and gets no older.  The same guest without a boost would be older
 * by b / w, and that is made up for afterwards: the thread gets the smaller
 * weight v, its nice value being 10 more, until it has run for so long, p, that
 *
 *   p / v = (b + p) / w     that is     p * (w / v - 1) = b
 *
 * From then on the scheduler treats it as if it had never been boosted, however
 * many others compete and whatever their weights are.  w / v - 1 is 8.3: a vCPU
 * that owes 8.3 ms has paid when it has run for 1 ms, for which it has to wait
 * as long as for 9.3.
 *
 * A newer scheduler (EEVDF) weighs anew what a thread is older than others when
 * its nice value changes, so that the wait has to come before that.  Therefore
 * it is only when the vCPU has waited, and runs again, that what it ran before
 * counts, and no more of it than the wait.  A vCPU that runs for
 * PVSCHED_ALONE_NS like that has a processor for itself.  Then it pays
 * without a wait, as it took nothing from anybody.
 *
 * A boost by means of the nice value makes the vCPU older by b / x, with x for
 * its weight then, so only the part 1 - w / x of it is owed.
 *
 * A thread that sleeps does not get older while others do, which pays as well:
 * with n others of its weight on its processor, 1 / n of the time.  How many
 * there are nobody tells, so they are taken for PVSCHED_OTHERS.  With fewer of
 * them a guest that sleeps pays more than it had to.  At worst the host has
 * forgiven the same time as well; so a guest gets no more than its share and
 * 1 / PVSCHED_OTHERS of the time that it sleeps.  While it pays, sleep earns it
 * nothing: what it pays makes it older, and the host forgives that.
 *
 * A debt beyond PVSCHED_DEBT_MAX_NS is for those who would never pay by
 * themselves because they always ask: no more boosts, until half of it has been
 * paid.
 * So in the long run who asks for ever is boosted as fast as it pays, which is
 * to say that it gets its fair share.  Where a thread cannot pay, because it
 * may not get its nice value back, or because nice values mean nothing between
 * it and others (a control group of its own), it gets no credit: then it is
 * boosted for what it has saved by sleeping.
 *
 * This needs an account, a token bucket with debt, on a clock that goes while
 * the vCPU sleeps.  Those that the dirty throttle has do that: read ns for
 * pages.
 *
 * All functions are pure: the caller brings the times.  None takes a lock.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_MISC_PVSCHED_BOOST_H
#define HW_MISC_PVSCHED_BOOST_H

#include "migration/dirty-throttle/account.h"

/* So many threads are supposed to compete with one that sleeps. */
#define PVSCHED_OTHERS 16

/* What may be owed before boosts are refused */
#define PVSCHED_DEBT_MAX_NS (DIRTY_NS_PER_S / 10)

/* A boost is not worth it for less. */
#define PVSCHED_BOOST_MIN_NS (DIRTY_NS_PER_S / 10000)

/* Longer than a slice of a thread that pays, beside others */
#define PVSCHED_ALONE_NS (DIRTY_NS_PER_S / 50)

/* For how much of the time penalties may wait */
#define PVSCHED_WAIT_PERCENT 10

typedef enum PVSchedKind {
    PVSCHED_CRITICAL,
    PVSCHED_RT,
    PVSCHED_KINDS,
} PVSchedKind;

/* What is in force for the thread of a vCPU */
typedef enum PVSchedMode {
    PVSCHED_NORMAL,
    PVSCHED_BOOSTED,
    PVSCHED_PAYING,
} PVSchedMode;

/* What is known when somebody looks */
typedef struct PVSchedLook {
    int64_t now_ns;
    /* for how long the vCPU's thread has run, slept, and wanted to run */
    int64_t cpu_ns;
    int64_t asleep_ns;
    int64_t waited_ns;
    /* from the line */
    uint64_t request;
    /* bits (1 << kind): nobody but this vCPU has a reason against a boost */
    unsigned may;
    /* It is the watching thread that looks. */
    bool watching;
} PVSchedLook;

/* What it means to be boosted and to pay, in thousandths; see Fairness */
typedef struct PVSchedTerms {
    /* 1 - w / x, or all of it */
    unsigned owed;
    /* w / v - 1; 0: a debt cannot be paid by running */
    unsigned paid;
} PVSchedTerms;

typedef struct PVSchedCounters {
    uint64_t requests;
    uint64_t boosts;
    uint64_t refused;
    uint64_t waits;
    int64_t boosted_ns[PVSCHED_KINDS];
    int64_t paying_ns;
    int64_t waited_ns;
} PVSchedCounters;

typedef struct PVSchedBoost {
    PVSchedMode mode;
    PVSchedKind kind;
    PVSchedTerms terms;
    /* what the latest look has seen, and who asks in vain */
    uint64_t request;
    int64_t cpu_ns;
    int64_t asleep_ns;
    int64_t waited_ns;
    bool refused;
    /* of this request: since when, boosted for so long, counted as refused */
    int64_t since_ns;
    int64_t used_ns;
    bool counted_refused;
    /* what the watching thread's latest look has seen */
    uint64_t watched_request;
    int64_t watched_cpu_ns;
    int64_t watched_ns;

    DirtyAccount budget[PVSCHED_KINDS];
    /* on a clock that goes while the vCPU sleeps and is not paying */
    DirtyAccount fair;
    int64_t rested_ns;
    /* it has no credit any more, and pays */
    bool broke;
    /* what it ran while paying and has not waited for; and without a wait */
    int64_t unproven_ns;
    int64_t alone_ns;
    /* paid beyond the debt, because it took a while to notice */
    int64_t prepaid_ns;
    /* boosted, and not yet charged to the VM */
    int64_t unbilled_ns[PVSCHED_KINDS];

    /* a penalty waits, since when; and the budget for that */
    bool waits;
    int64_t waits_since_ns;
    DirtyAccount wait;

    PVSchedCounters counters;
} PVSchedBoost;

/* The budgets of all vCPUs of a VM together */
typedef struct PVSchedVm {
    DirtyAccount budget[PVSCHED_KINDS];
} PVSchedVm;

/* What the line tells the guest */
typedef struct PVSchedLine {
    uint32_t state;
    uint32_t critical_us;
    uint32_t rt_us;
    uint32_t wait_us;
} PVSchedLine;

/**
 * pvsched_boost_init: a vCPU that asks for nothing, owes and has saved nothing
 *
 * @b: the vCPU
 * @l: what is known; its request is not looked at
 */
void pvsched_boost_init(PVSchedBoost *b, const PVSchedLook *l);

/**
 * pvsched_boost_resume: nobody has looked for a while, or at another thread
 *
 * What the vCPU owes and has saved stays; it asks for nothing.
 *
 * @b: the vCPU
 * @l: what is known; its request is not looked at
 */
void pvsched_boost_resume(PVSchedBoost *b, const PVSchedLook *l);

/**
 * pvsched_boost_set_budget: for how much of the time it may be boosted
 *
 * @b: the vCPU
 * @kind: for which kind of activity
 * @percent: 0..100
 * @now_ns: the time
 */
void pvsched_boost_set_budget(PVSchedBoost *b, PVSchedKind kind,
                              unsigned percent, int64_t now_ns);

/**
 * pvsched_boost_look: what is to be in force from now on?
 *
 * The time since the latest look is accounted for by what was in force; so if
 * that cannot be brought about, pvsched_boost_failed() must be told.
 *
 * @b: the vCPU
 * @l: what is known
 *
 * Returns: what @b->mode is from now on
 */
PVSchedMode pvsched_boost_look(PVSchedBoost *b, const PVSchedLook *l);

/* What the latest look wanted did not come about: it is as normal. */
void pvsched_boost_failed(PVSchedBoost *b);

/**
 * pvsched_boost_active: does somebody have to look again soon?
 *
 * @b: the vCPU
 */
static inline bool pvsched_boost_active(const PVSchedBoost *b)
{
    return b->mode != PVSCHED_NORMAL || b->request;
}

/**
 * pvsched_boost_penalty_waits: for how long a penalty may wait
 *
 * To be asked when one is due, and again when that time has passed or the
 * request has changed, until the answer is that it is to be paid.
 *
 * @b: the vCPU
 * @due: false if the one that waited is not due any more
 * @request: from the line
 * @now_ns: the time
 *
 * Returns: for how many ns at most; 0: it waits no longer
 */
int64_t pvsched_boost_penalty_waits(PVSchedBoost *b, bool due,
                                    uint64_t request, int64_t now_ns);

/**
 * pvsched_boost_line: what to tell the guest
 *
 * @b: the vCPU
 * @now_ns: the time
 * @line: is filled in
 */
void pvsched_boost_line(PVSchedBoost *b, int64_t now_ns, PVSchedLine *line);

/* What a request asks for, without what means nothing and numbers. */
unsigned pvsched_request_activities(uint64_t request);

/**
 * pvsched_vm_set_budget: for how much of the host's time the VM may be boosted
 *
 * @vm: the VM
 * @kind: for which kind of activity
 * @percent: 0..100
 * @processors: how many the host has for the VM
 * @now_ns: the time
 */
void pvsched_vm_set_budget(PVSchedVm *vm, PVSchedKind kind, unsigned percent,
                           unsigned processors, int64_t now_ns);

void pvsched_vm_init(PVSchedVm *vm, int64_t now_ns);

/**
 * pvsched_vm_bill: charge the VM for what a vCPU was boosted
 *
 * @vm: the VM
 * @b: the vCPU
 * @now_ns: the time
 */
void pvsched_vm_bill(PVSchedVm *vm, PVSchedBoost *b, int64_t now_ns);

/**
 * pvsched_vm_may: for which kinds the VM has a budget left
 *
 * @vm: the VM
 * @now_ns: the time
 *
 * Returns: bits (1 << kind)
 */
unsigned pvsched_vm_may(PVSchedVm *vm, int64_t now_ns);

/**
 * pvsched_weight: the weight that CFS gives to a nice value
 *
 * @nice: -20..19
 *
 * Returns: in thousandths, 1024 for 0 and 1.25 times as much for each step down
 */
int64_t pvsched_weight(int nice);

#endif
