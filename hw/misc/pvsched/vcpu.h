/*
 * pvsched: a vCPU that shares a line with the host
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Three threads meet here, none of which needs the BQL for it:
 *
 * - the vCPU's own looks at its exits and when the guest rings, and asks
 *   whether a penalty may wait;
 * - the watching one looks when something may be over, or may wait;
 * - the main one registers and takes back lines, stops the VM, resets it, asks
 *   for counters.
 *
 * All that is done under the vCPU's lock, so that what is in force, what the
 * line says and what is charged belong together.  The lock is held for the time
 * of some system calls, and nothing is waited for, with one exception: the line
 * may be on a page that a post-copy migration has yet to fetch.  The guest
 * would wait for that as well, and what fetches it needs neither this lock nor
 * the BQL.
 *
 * Priorities do not turn round: the lock is one that inherits priority, and the
 * vCPU itself does not wait for it at an exit.  Who holds it then is looking at
 * this very line.
 *
 * Under the BQL: whether there is a line.  So who has the BQL may read that
 * without the lock; who changes it takes both.
 */

#ifndef HW_MISC_PVSCHED_VCPU_H
#define HW_MISC_PVSCHED_VCPU_H

#include "hw/misc/pvsched.h"
#include "line.h"
#include "share.h"
#include "thread.h"

/* What all vCPUs of a VM have in common, and read under their locks */
typedef struct PVSchedCommon {
    /* Boosts are on, and the VM runs.  Atomic, written under the BQL */
    bool on;
    /* the guest's driver lets penalties wait; the same */
    bool wait;
    /* bits (1 << kind): the VM has a budget; atomic, see watch.c */
    unsigned may;
    /* of the host: its processors, and threads that want them.  Atomic */
    unsigned processors;
    unsigned runnable;
    /* for how long the thread that watches does not look; atomic */
    int waits_ms;
    QemuSemaphore wake;
    /* by vCPU, in RCU's care; changed under the BQL */
    PVSchedHooks **hooks;
    /* where the guest finds the registers, 0: nowhere.  Atomic */
    hwaddr registers;
} PVSchedCommon;

typedef struct PVSchedVcpu {
    PVSchedHooks hooks;
    PVSchedCommon *common;
    unsigned index;
    QemuMutex lock;
    /*
     * The line, or NULL, for who only wants to know whether the request is
     * another one than somebody has looked at already: in RCU's care, atomic
     */
    const uint8_t *line;
    uint64_t looked_at;
    /* Under the lock */
    hwaddr addr;
    PVSchedRam ram;
    PVSchedRights rights;
    PVSchedThread thread;
    /* how much of the time it runs, for how long it was due to, up to when */
    PVSchedShare share;
    PVSchedBoost boost;
} PVSchedVcpu;

/*
 * Have the thread that watches look at once, if it would not in @within_ms.
 * Not under the lock of a vCPU, which it will want.
 */
void pvsched_common_wake(PVSchedCommon *c, int within_ms);

void pvsched_vcpu_init(PVSchedVcpu *v, PVSchedCommon *common, unsigned index);
void pvsched_vcpu_destroy(PVSchedVcpu *v);

/**
 * pvsched_vcpu_register: a vCPU gets a line
 *
 * With the BQL held.  The vCPU has none.
 *
 * @v: the vCPU
 * @cpu: the same
 * @addr: the guest's physical address
 * @ram: its RAM; the reference becomes the vCPU's
 */
void pvsched_vcpu_register(PVSchedVcpu *v, CPUState *cpu, hwaddr addr,
                           PVSchedRam *ram);

/* The vCPU loses its line and is as it was before.  With the BQL held. */
void pvsched_vcpu_unregister(PVSchedVcpu *v);

/* With the BQL held */
static inline bool pvsched_vcpu_registered(const PVSchedVcpu *v)
{
    return v->ram.host;
}

/* By which means it is boosted, and for how much of the time */
void pvsched_vcpu_set_rights(PVSchedVcpu *v, const PVSchedRights *rights);
void pvsched_vcpu_set_budget(PVSchedVcpu *v, PVSchedKind kind,
                             unsigned percent);

/* The guest has rung.  With or without the BQL */
void pvsched_vcpu_ring(PVSchedVcpu *v);

/**
 * pvsched_vcpu_watch: look from the watching thread
 *
 * @v: the vCPU
 * @boosted: counts it, under its kind, if it is boosted
 *
 * Returns: in how many ns to look again, PVSCHED_LOOK_SOON_NS..
 *          PVSCHED_LOOK_LATE_NS
 */
int64_t pvsched_vcpu_watch(PVSchedVcpu *v, unsigned boosted[PVSCHED_KINDS]);

/* Charge the VM for what the vCPU was boosted. */
void pvsched_vcpu_bill(PVSchedVcpu *v, PVSchedVm *vm, int64_t now_ns);

/*
 * The thread of the vCPU gets back what it had, at once.  For who has taken
 * care that nothing may be boosted from now on.
 */
void pvsched_vcpu_rest(PVSchedVcpu *v);

/* Whom vCPUs' counters belong to, and what is in force */
typedef struct PVSchedVcpuState {
    PVSchedMode mode;
    PVSchedCounters counters;
} PVSchedVcpuState;

PVSchedVcpuState pvsched_vcpu_state(PVSchedVcpu *v);

#endif
