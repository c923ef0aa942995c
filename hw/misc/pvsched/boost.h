/*
 * pvsched: when a vCPU is boosted, and for how long
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A guest asks, and whoever looks at its line (the vCPU's own thread, or one
 * that watches) asks here what is to be in force from now on.  Asking is free;
 * what counts is the CPU time that the vCPU gets while it is boosted.  It is
 * bounded thrice:
 *
 * - by the longest time for one request, and by what the guest itself has said;
 * - by a budget for each kind of activity, a percentage of the time.  That is
 *   how much an operator wants to be boosted at all;
 * - by fairness: a boost shall bring forward what the vCPU is due, but not add
 *   to it.
 *
 * Fairness
 *
 * With R threads that want to run on N processors, each is due N / R of the
 * time, at most all of it.  A vCPU that runs for less than it is due, because
 * it sleeps, saves the rest, up to a burst.  What it runs comes out of these
 * savings, and a boost may go into debt by a little credit.  So over any time
 *
 *   what a vCPU runs <= what it is due + burst + credit
 *
 * whatever it asks for: without a boost the host's scheduler sees to that, and
 * with savings and credit used up there is no boost.  Then it competes like any
 * other thread, until it has slept.  On a host that is not busy it may get more
 * than that without a boost, and no debt beyond a burst comes of it.
 *
 * Others that want its processor wait while it is boosted, so the credit is
 * also how long they do, again and again, beside a guest that asks for ever.
 *
 * No thread is ever slowed down for a boost that it had.  It could hold a lock
 * of QEMU's then, for which all of QEMU would wait.
 *
 * This needs an account, a token bucket with debt, on a clock that goes as fast
 * as the vCPU earns.  Those that the dirty throttle has do that: read ns for
 * pages.
 *
 * All functions are pure: the caller brings the times.  None takes a lock.
 */

#ifndef HW_MISC_PVSCHED_BOOST_H
#define HW_MISC_PVSCHED_BOOST_H

#include "migration/dirty-throttle/account.h"

/* What is due and not used is saved up to this: what such an account saves. */
#define PVSCHED_BURST_NS DIRTY_BURST_NS

/* What may be owed: enough for some critical sections, little to wait for */
#define PVSCHED_CREDIT_NS (DIRTY_NS_PER_S / 200)

/* A boost is not worth it for less. */
#define PVSCHED_BOOST_MIN_NS (DIRTY_NS_PER_S / 10000)

/*
 * A vCPU that asks and has no boost may wait for a processor, and it may not
 * take longer than this to find out.  If nothing is to be expected, somebody
 * looks all the same: vCPUs that wait cannot say that they ask.
 */
#define PVSCHED_LOOK_SOON_NS (DIRTY_NS_PER_S / 1000)
#define PVSCHED_LOOK_LATE_NS (DIRTY_NS_PER_S / 20)

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
} PVSchedMode;

/* What is known when somebody looks */
typedef struct PVSchedLook {
    int64_t now_ns;
    /* for how long the vCPU's thread has run, and for how long it was to */
    int64_t cpu_ns;
    int64_t due_ns;
    /* from the line */
    uint64_t request;
    /* bits (1 << kind): nobody but this vCPU has a reason against a boost */
    unsigned may;
    /* It is the watching thread that looks. */
    bool watching;
} PVSchedLook;

typedef struct PVSchedCounters {
    uint64_t requests;
    uint64_t boosts;
    uint64_t refused;
    uint64_t waits;
    int64_t boosted_ns[PVSCHED_KINDS];
    int64_t waited_ns;
} PVSchedCounters;

typedef struct PVSchedBoost {
    PVSchedMode mode;
    PVSchedKind kind;
    /* what the latest look has seen, and who asks in vain */
    uint64_t request;
    int64_t cpu_ns;
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
    /* what it is due and has not run; its clock is due_ns */
    DirtyAccount fair;
    /* it has no credit any more */
    bool broke;
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

/*
 * What the latest look wanted did not come about: it is as normal, and who
 * asked is refused.
 */
void pvsched_boost_failed(PVSchedBoost *b);

/**
 * pvsched_boost_active: does the vCPU ask for a boost, or have one?
 *
 * @b: the vCPU
 */
static inline bool pvsched_boost_active(const PVSchedBoost *b)
{
    return b->mode != PVSCHED_NORMAL || b->request;
}

/**
 * pvsched_boost_look_within: when does somebody have to look again?
 *
 * @b: the vCPU
 * @l: what the latest look knew
 *
 * Returns: in so many ns, PVSCHED_LOOK_SOON_NS..PVSCHED_LOOK_LATE_NS, if the
 *          vCPU does not look for itself before
 */
int64_t pvsched_boost_look_within(PVSchedBoost *b, const PVSchedLook *l);

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

/* No budget of either kind */
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
 * pvsched_vm_look_within: when may what is left of the budgets be used up?
 *
 * @vm: the VM
 * @boosted: how many vCPUs are boosted
 * @processors: how many the host has for the VM
 * @now_ns: the time
 *
 * Returns: in so many ns, PVSCHED_LOOK_SOON_NS..PVSCHED_LOOK_LATE_NS
 */
int64_t pvsched_vm_look_within(PVSchedVm *vm,
                               const unsigned boosted[PVSCHED_KINDS],
                               unsigned processors, int64_t now_ns);

#endif
