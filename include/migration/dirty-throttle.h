/*
 * Dirty throttle: slow only the vCPUs that dirty memory
 *
 * What accelerators and monitors need.  What migration code calls is in
 * migration/dirty-throttle-hooks.h.  How the parts play together is told in
 * docs/devel/dirty-throttle.rst.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_DIRTY_THROTTLE_H
#define MIGRATION_DIRTY_THROTTLE_H

/* Accelerators */

/* What harvesting dirty rings has amounted to since the VM was created */
typedef struct DirtyReaperInfo {
    /* how long the reaper waits now before it looks at the rings again */
    int64_t interval_ns;
    /* times that rings were harvested: by the reaper, full, or for a sync */
    uint64_t reaps;
    /* entries harvested; each is a fault if the page is written again */
    uint64_t reaped_pages;
    /* of those, pages that were not known to be dirty */
    uint64_t new_pages;
    /* spent harvesting */
    int64_t time_ns;
} DirtyReaperInfo;

/*
 * What an accelerator offers that can make vCPUs sleep.  The policy does not
 * know how it tells who dirties memory.
 */
typedef struct DirtyThrottleOps {
    /* it can tell which vCPU dirtied a page, or estimate it */
    bool tells_apart;
    /* entries of a vCPU's dirty ring, 0: there is none */
    uint32_t ring_pages;
    /* it can make vCPUs leave the guest when they have used up a quota */
    bool can_quota;
    /*
     * Begin to watch what vCPUs dirty, if that was not yet so.  Then call
     * dirty_throttle_charge() for every vCPU, and make those that run while
     * they owe a penalty leave the guest.  Any thread; takes no BQL.
     */
    void (*charge_and_kick)(void);
    /*
     * Wake vCPUs that sleep for longer than dirty_throttle_penalty() says
     * now.  Any thread; takes no BQL.
     */
    void (*wake)(void);
    /*
     * Nothing has to be watched until charge_and_kick() is called again.
     * Called by the throttle thread; takes no BQL.
     */
    void (*stop_watching)(void);
    /*
     * Let pages count again that were charged before.  Only with rings.  Any
     * thread; takes no BQL.
     */
    void (*new_epoch)(void);
    /*
     * What it tells are estimates only.  Returns: pages that vCPUs have dirtied
     * in truth, as dirty syncs have found since this was last called.  NULL:
     * what it tells are dirtied pages.  Any thread; takes no BQL.
     */
    uint64_t (*take_found_pages)(void);
    /*
     * Find out what the next sync is going to find, for take_found_pages() to
     * tell.  Returns: false if only a sync can.  NULL without
     * take_found_pages().  The throttle thread; takes no BQL.
     */
    bool (*look_ahead)(void);
    /*
     * From now on tell how long each vCPU runs, as if every microsecond were a
     * page; or do so no more.  NULL without take_found_pages().  Any thread;
     * takes no BQL.
     */
    void (*watch_time)(bool watch);
    /* Only with rings.  Any thread; takes no BQL. */
    void (*query_reaper)(DirtyReaperInfo *info);
} DirtyThrottleOps;

/**
 * dirty_throttle_register: an accelerator offers its services
 *
 * Once, while the machine is being created.
 */
void dirty_throttle_register(const DirtyThrottleOps *ops);

/* Whether any vCPU is limited at the moment.  Any thread. */
bool dirty_throttle_in_service(void);

/**
 * dirty_throttle_vcpu_reset: a vCPU starts to count from 0, or is unplugged
 *
 * Any thread, while dirty_throttle_charge() cannot be called for it.
 */
void dirty_throttle_vcpu_reset(int cpu_index);

/* A vCPU has stopped because its ring is full.  Any thread, no BQL needed. */
void dirty_throttle_ring_full(int cpu_index);

/*
 * Whether dirty rings are harvested when it is time for them, instead of all
 * of them once a second.  Any thread.
 */
bool dirty_throttle_adaptive_reaper(void);

/**
 * dirty_throttle_sync_begins_epoch: is it the migration that syncs now?
 *
 * For an accelerator with rings, which then lets pages count again.  Called in
 * the thread that syncs, not under locks of the accelerator's.
 */
bool dirty_throttle_sync_begins_epoch(void);

/*
 * All that vCPUs have been charged by now belongs to past epochs.  Only with
 * rings.  Any thread, no BQL needed; no vCPU is charged at the same time.
 */
void dirty_throttle_epoch_began(void);

/**
 * dirty_throttle_charge: tell what a vCPU has dirtied so far
 *
 * @cpu_index: the vCPU
 * @dirtied_pages: pages it has newly dirtied since it was created
 *
 * Any thread, no BQL needed; the caller sees to it that two reports on one
 * vCPU come in order.  A total below the last one counts as that.
 *
 * Returns: the penalty it has to sleep for now.  What is owed beyond a tenth
 * of a second comes up again after the guest has run.
 */
int64_t dirty_throttle_charge(int cpu_index, uint64_t dirtied_pages);

/* What a vCPU still has to sleep for.  Any thread, no BQL needed. */
int64_t dirty_throttle_penalty(int cpu_index);

/* What a vCPU may do in the guest before it has to look at what it dirtied */
typedef struct DirtyThrottleAllowance {
    /*
     * Pages that it may dirty, for accelerators that can make it leave the
     * guest then: some even if it is in debt; INT64_MAX: no limit
     */
    int64_t pages;
    /*
     * After so much time in the guest it may have dirtied those, and should
     * look by itself; 0: it need not
     */
    int64_t time_ns;
} DirtyThrottleAllowance;

/**
 * dirty_throttle_resume: a vCPU has slept for its penalty, if it had any
 *
 * @cpu_index: the vCPU; called from its own thread
 * @paid_ns: how long it has slept
 * @kicked: the sleep was cut short, the vCPU does not enter the guest
 *
 * Returns: what it may do now; of no meaning if it was @kicked
 */
DirtyThrottleAllowance dirty_throttle_resume(int cpu_index, int64_t paid_ns,
                                             bool kicked);

/* Monitors, with the BQL held */

/* Limits that there can be, in MB/s (2^20 bytes a second). */
#define DIRTY_LIMIT_MIN_MBPS 1
#define DIRTY_LIMIT_MAX_MBPS (1ULL << 32)

/* What is known of one vCPU, for people and for QMP */
typedef struct DirtyThrottleVcpuInfo {
    /* the limit in force, 0: none */
    uint64_t limit_mbps;
    /* pages/s newly dirtied, over the last second or a little less */
    uint64_t rate_pps;
} DirtyThrottleVcpuInfo;

/* Whether there is somebody who tells vCPUs apart: else there are no limits. */
bool dirty_throttle_available(void);

/**
 * dirty_throttle_set_limit: the operator's limit on a vCPU
 *
 * @cpu_index: 0..max_cpus - 1; the vCPU need not be plugged
 * @limit_mbps: DIRTY_LIMIT_MIN_MBPS..DIRTY_LIMIT_MAX_MBPS, 0: none
 * @errp: why it cannot be set
 *
 * Returns: false if it cannot be set, because memory cannot be logged.  Where
 * one was set already, another one can be.
 */
bool dirty_throttle_set_limit(int cpu_index, uint64_t limit_mbps, Error **errp);

/* @cpu_index: as above */
void dirty_throttle_query_vcpu(int cpu_index, DirtyThrottleVcpuInfo *info);

/* Whether the limit of a migration is in force now. */
bool dirty_throttle_migration_limits(void);

#endif
