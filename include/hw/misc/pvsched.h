/*
 * pvsched: what an accelerator calls
 *
 * A vCPU that has registered a line has hooks; without the device this costs
 * one load.  Hooks come and go with the BQL held, and are called in the vCPU's
 * thread without it; what they belong to is freed after a grace period of RCU.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_MISC_PVSCHED_H
#define HW_MISC_PVSCHED_H

#include "exec/hwaddr.h"
#include "hw/core/cpu.h"
#include "qemu/rcu.h"

typedef struct PVSchedHooks PVSchedHooks;

struct PVSchedHooks {
    void (*left)(PVSchedHooks *h);
    bool (*rang)(PVSchedHooks *h, hwaddr addr);
    int64_t (*penalty_waits)(PVSchedHooks *h, bool due);
};

/* By cpu_index; NULL without the device, an entry is NULL without a line. */
extern PVSchedHooks **pvsched_hooks;

/* For the time of an RCU critical section */
static inline PVSchedHooks *pvsched_vcpu_hooks(CPUState *cpu)
{
    PVSchedHooks **hooks = qatomic_rcu_read(&pvsched_hooks);

    return hooks ? qatomic_rcu_read(&hooks[cpu->cpu_index]) : NULL;
}

/* The vCPU is out of the guest.  In its thread, without the BQL. */
static inline void pvsched_vcpu_left(CPUState *cpu)
{
    if (unlikely(qatomic_read(&pvsched_hooks))) {
        PVSchedHooks *h;

        RCU_READ_LOCK_GUARD();
        h = pvsched_vcpu_hooks(cpu);
        if (h) {
            h->left(h);
        }
    }
}

/**
 * pvsched_vcpu_rang: has the vCPU left the guest to ring its doorbell?
 *
 * In its thread, without the BQL.
 *
 * @cpu: the vCPU
 * @addr: what it wrote to
 *
 * Returns: true if that was all, so that there is no need to take the BQL and
 * to do that write
 */
static inline bool pvsched_vcpu_rang(CPUState *cpu, hwaddr addr)
{
    if (unlikely(qatomic_read(&pvsched_hooks))) {
        PVSchedHooks *h;

        RCU_READ_LOCK_GUARD();
        h = pvsched_vcpu_hooks(cpu);
        return h && h->rang(h, addr);
    }
    return false;
}

/**
 * pvsched_vcpu_penalty_waits: may a penalty of this vCPU wait?
 *
 * To be asked when one is due, and then each time that the vCPU is out of the
 * guest, until the answer is no.  In its thread, without the BQL.
 *
 * @cpu: the vCPU
 * @due: false if the one that waited is not due any more
 *
 * Returns: for how many ns at most; 0: it waits no longer
 */
static inline int64_t pvsched_vcpu_penalty_waits(CPUState *cpu, bool due)
{
    if (unlikely(qatomic_read(&pvsched_hooks))) {
        PVSchedHooks *h;

        RCU_READ_LOCK_GUARD();
        h = pvsched_vcpu_hooks(cpu);
        return h ? h->penalty_waits(h, due) : 0;
    }
    return 0;
}

#endif
