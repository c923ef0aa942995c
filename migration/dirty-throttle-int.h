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
#include "qemu/units.h"
#include "qapi/qapi-types-migration.h"
#include "migration/dirty-throttle.h"
#include "dirty-throttle/demand.h"
#include "dirty-throttle/engine.h"
#include "dirty-throttle/estimate.h"
#include "dirty-throttle/pool.h"
#include "dirty-throttle/history.h"
#include "dirty-throttle/vcpu.h"

typedef struct DirtyThrottleVcpu {
    /* limit set by the operator in MB/s, 0: none; under DirtyThrottle.lock */
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
    /* what it dirties while nobody slows it; v.dirtied_pages when that began */
    DirtyDemand demand;
    uint64_t demand_from_pages;

    /*
     * The lowest rate that the migration has allowed the vCPU, while it was
     * penalised; v's counters when that began; under DirtyThrottle.lock
     */
    uint64_t lowest_pps;
    uint64_t paid_before_ns;
    uint64_t penalties_before;
    uint64_t full_before;
} DirtyThrottleVcpu;

/* How many changes are remembered: one a second for a minute */
#define DIRTY_CHANGES_MAX 64

/* The engine has found that the migration needs something else than before. */
typedef struct DirtyChange {
    int64_t time_ns;
    DirtyPhase phase;
    DirtyReason reason;
    bool fallback;
    bool deadline_missed;
} DirtyChange;

/* All pages that a migration looks at, and those that are not zero */
typedef struct DirtyMemory {
    uint64_t all_pages;
    uint64_t used_pages;
} DirtyMemory;

/* An outgoing migration, as far as the throttle is concerned */
typedef struct DirtyThrottleMigration {
    /* it is in precopy */
    bool precopy;
    /* and the throttle works for it */
    bool active;
    /* what is to be sent that is no memory; for the migration's thread only */
    uint64_t other_bytes;
    /* the thread of the migration, while that is active */
    QemuThread thread;
    /* memory when it began */
    DirtyMemory memory;
    /* what harvesting had amounted to when it began */
    DirtyReaperInfo reaped_before;
    /* the limit of capability dirty-limit is in force */
    bool limiting;
    /* the shares of capability dirty-quota are in force */
    bool sharing;
    /* auto-converge may slow the guest; also read without the lock */
    bool fallback;
    DirtyEngine engine;
    /* events are wanted */
    bool tells;
    /* all changes, of which the latest are remembered in a ring */
    uint64_t nr_changes;
    DirtyChange changes[DIRTY_CHANGES_MAX];
    /* when limits or shares were first put in force; 0: not yet */
    int64_t throttled_ns;
    DirtyPool pool;
    /* rounds of the pool; each begins with another vCPU */
    unsigned rounds;
} DirtyThrottleMigration;

/* What calc-dirty-rate has found out */
typedef struct DirtyMeasurement {
    /* when it was over, by the guest's clock, and how long it took */
    int64_t guest_ns;
    int64_t took_ns;
    DirtyMemory memory;
    /* of each vCPU, or of all of them together if there are no indexes */
    unsigned nr_demands;
    DirtyDemand *demands;
    int *cpu_indexes;
} DirtyMeasurement;

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
    int64_t noted_ns;
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
    /* calc-dirty-rate is at work */
    bool measuring;
    /* vCPUs are watched for it, because nobody slows them */
    bool watching_demands;
    /* since when demands count, for that or in a first pass */
    int64_t demands_ns;
    /* what it has found the last time, NULL: nothing yet */
    DirtyMeasurement *measurement;
    DirtyThrottleMigration migration;
    /* of the last one that has ended; NULL: none has, or another is coming */
    DirtyThrottleRecord *record;
} DirtyThrottle;

/* The one object of the dirty throttle; there is one machine per process. */
extern DirtyThrottle dirty_throttle;

/* Whether the accelerator, if there is one, has dirty rings. */
bool dirty_throttle_has_rings(void);

/* In the units of QAPI: bytes, and MB/s, which are 2^20 bytes/s */
static inline uint64_t dirty_throttle_pages_to_bytes(uint64_t pages)
{
    return pages * qemu_real_host_page_size();
}

static inline double dirty_throttle_pps_to_mbps(uint64_t pps)
{
    return (double)dirty_throttle_pages_to_bytes(pps) / MiB;
}

/* As QAPI has it.  The latter two are called with t->lock held. */
DirtyThrottleMode dirty_throttle_mode(const DirtyMeans *means);
DirtyThrottleMechanism dirty_throttle_mechanism(DirtyThrottle *t);
void dirty_throttle_tell_engine(DirtyThrottle *t, DirtyThrottleInfo *info);

/*
 * Remember what has changed, if something has, and have an event sent.  Called
 * with t->lock held.
 */
void dirty_throttle_note_change(DirtyThrottle *t, int64_t now_ns);

/*
 * Put down what was done for the migration that has ended, or is not in precopy
 * any more.  Called with t->lock held.
 */
void dirty_throttle_record(DirtyThrottle *t);

/* The limit on a vCPU, 0: none.  Called with t->lock held. */
uint64_t dirty_throttle_limit_mbps(DirtyThrottle *t, DirtyThrottleVcpu *vcpu);

/*
 * Correct charges: so much have vCPUs really dirtied since this was last done.
 * Called with t->lock held, after a look.
 */
void dirty_throttle_correct(DirtyThrottle *t, uint64_t found_pages);

/* Leave charges as they are, if there is nothing to compare with.  As above. */
void dirty_throttle_accept(DirtyThrottle *t);

/* From now on the thread notes the demands of vCPUs.  With t->lock held. */
void dirty_throttle_watch_demands(DirtyThrottle *t);

/*
 * How much memory is there, and how much of it has to be sent?  Reads some of
 * it, as page sampling does.  Any thread.
 */
DirtyMemory dirty_throttle_memory(void);

/* Demands count from @from_ns on, which is now.  Called with t->lock held. */
void dirty_throttle_count_demands(DirtyThrottle *t, int64_t from_ns);

/*
 * Note what vCPUs have dirtied so far, if nobody slows them and somebody wants
 * to know.  Called with t->lock held, after a look.
 */
void dirty_throttle_note_demands(DirtyThrottle *t, int64_t now_ns);

/* The first pass is over, and corrected.  Called with t->lock held. */
void dirty_throttle_correct_demands(DirtyThrottle *t);

/**
 * dirty_throttle_forecast_migration: what will become of the one that runs
 *
 * Called with the BQL and t->lock held.
 *
 * Returns: NULL if that cannot be told yet, or throttling is no help; the
 * caller frees it
 */
DirtyForecastInfo *dirty_throttle_forecast_migration(DirtyThrottle *t);

#endif
