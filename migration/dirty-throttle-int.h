/*
 * Dirty throttle: what the thread and the queries share
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_DIRTY_THROTTLE_INT_H
#define MIGRATION_DIRTY_THROTTLE_INT_H

#include "qemu/thread.h"
#include "migration/dirty-throttle.h"
#include "dirty-throttle/engine.h"
#include "dirty-throttle/estimate.h"
#include "dirty-throttle/pool.h"
#include "dirty-throttle/history.h"
#include "dirty-throttle/vcpu.h"

typedef struct DirtyThrottleVcpu {
    /* ceiling set by the operator in MB/s, 0: none; under DirtyThrottle.lock */
    uint64_t limit_mbps;

    /*
     * Protects what follows.  A leaf: charges come from under accelerator
     * locks, and no other lock is taken under it.
     */
    QemuMutex lock;
    DirtyVcpu v;
    DirtyHistory history;
    /* v.dirtied_pages when the present epoch began; only with rings */
    uint64_t epoch_pages;

    /* v's counters when the migration began; under DirtyThrottle.lock */
    uint64_t paid_before_ns;
    uint64_t penalties_before;
    uint64_t full_before;
} DirtyThrottleVcpu;

/* An outgoing migration, as far as the throttle is concerned */
typedef struct DirtyThrottleMigration {
    /* it is in precopy */
    bool precopy;
    /* and the throttle works for it */
    bool active;
    /* the thread of the migration, while that is active */
    QemuThread thread;
    /* what harvesting had amounted to when it began */
    DirtyReaperInfo reaped_before;
    /* the limit of capability dirty-limit is in force */
    bool limiting;
    /* the shares of capability dirty-quota are in force */
    bool sharing;
    /* auto-converge may slow the guest; also read without the lock */
    bool fallback;
    DirtyEngine engine;
    DirtyPool pool;
    /* rounds of the pool; each begins with another vCPU */
    unsigned rounds;
} DirtyThrottleMigration;

typedef struct DirtyThrottle {
    /* set once by dirty_throttle_register(), before any vCPU exists */
    const DirtyThrottleOps *ops;
    unsigned nr_vcpus;
    DirtyThrottleVcpu *vcpus;

    /*
     * Atomic: a copy of the capability, for a thread that lives before and
     * after the migration object does.
     */
    bool adaptive_reaper;
    /* any account is limited; also read without the lock, by vCPU threads */
    bool in_service;

    /*
     * Protects what follows, and what is said to be under it above.  Order:
     * BQL, this lock, DirtyThrottleVcpu.lock; accelerator locks are taken
     * before DirtyThrottleVcpu.lock, and never with this lock held.
     */
    QemuMutex lock;
    /* work for the thread: a limit was set or a migration began */
    QemuCond wake;
    bool thread_created;
    QemuThread thread;
    /* when it looks ahead again; only the thread itself uses it */
    int64_t look_ahead_ns;
    unsigned nr_operator_limits;
    int64_t epoch_ns;
    int64_t recorded_ns;
    /*
     * What a page reported is worth; found since it was last corrected.  Only
     * with take_found_pages().
     */
    DirtyEstimate estimate;
    uint64_t found_pages;
    /*
     * Reports do not explain what syncs find: nobody is charged for them, as
     * long as vCPUs do not report time instead.
     */
    bool unexplained;
    DirtyThrottleMigration migration;
} DirtyThrottle;

/* The one object of the dirty throttle; there is one machine per process. */
extern DirtyThrottle dirty_throttle;

/* Whether the accelerator, if there is one, has dirty rings. */
bool dirty_throttle_has_rings(void);

/* The ceiling on a vCPU, 0: none.  Called with t->lock held. */
uint64_t dirty_throttle_limit_mbps(DirtyThrottle *t, DirtyThrottleVcpu *vcpu);

#endif
