/*
 * Dirty throttle: slow only the vCPUs that dirty memory
 *
 * The one header that the accelerator, the QMP commands and the migration
 * code see.  docs/devel/dirty-throttle.rst tells how the parts play together.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_DIRTY_THROTTLE_H
#define MIGRATION_DIRTY_THROTTLE_H

struct DirtyThrottleInfo;

/* Limits that there can be, in MB/s (2^20 bytes a second). */
#define DIRTY_LIMIT_MIN_MBPS 1
#define DIRTY_LIMIT_MAX_MBPS (1ULL << 32)

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
 * What an accelerator that can tell which vCPU dirtied a page offers.  The
 * policy does not know how it does that.
 */
typedef struct DirtyThrottleOps {
    /* entries of a vCPU's dirty ring, 0: there is none */
    uint32_t ring_pages;
    /* vCPUs leave the guest when they have dirtied as much as they may */
    bool has_quota;
    /*
     * Call dirty_throttle_charge() for every vCPU, and make those that run
     * while they owe a penalty leave the guest.  Any thread; takes no BQL.
     */
    void (*look)(void);
    /*
     * Wake vCPUs that sleep for longer than dirty_throttle_penalty() says
     * now.  Any thread; takes no BQL.
     */
    void (*wake)(void);
    /*
     * Nothing has to be looked at until look() is called again.  Called by
     * the throttle thread; takes no BQL.
     */
    void (*rest)(void);
    /*
     * Let pages count again that were charged before.  Only with rings.
     * Called by the throttle thread; takes no BQL.
     */
    void (*new_epoch)(void);
    /* Only with rings.  Any thread; takes no BQL. */
    void (*query_reaper)(DirtyReaperInfo *info);
} DirtyThrottleOps;

/* What is known of one vCPU, for people and for QMP */
typedef struct DirtyThrottleVcpuInfo {
    /* ceiling in force, 0: none */
    uint64_t limit_mbps;
    /* pages/s newly dirtied, over the last second or a little less */
    uint64_t rate_pps;
} DirtyThrottleVcpuInfo;

/**
 * dirty_throttle_register: an accelerator offers its services
 *
 * Once, while the machine is being created.
 */
void dirty_throttle_register(const DirtyThrottleOps *ops);

/* Whether an accelerator has registered.  Any thread. */
bool dirty_throttle_available(void);

/* Whether that accelerator has dirty rings.  Any thread. */
bool dirty_throttle_has_rings(void);

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

/* Capabilities were set, or have their first values.  With the BQL held. */
void dirty_throttle_capabilities_changed(void);

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

/**
 * dirty_throttle_resume: a vCPU has slept for its penalty, if it had any
 *
 * @cpu_index: the vCPU; called from its own thread
 * @paid_ns: how long it has slept
 * @kicked: the sleep was cut short, the vCPU does not enter the guest
 *
 * Returns: after how much time in the guest it should look at what it dirtied
 * by itself, because its budget may be used up by then; 0: it need not
 */
int64_t dirty_throttle_resume(int cpu_index, int64_t paid_ns, bool kicked);

/**
 * dirty_throttle_allowance: how much a vCPU may dirty before the next look
 *
 * For accelerators that can make it leave the guest then.  Called after
 * dirty_throttle_resume(), from the vCPU's own thread.
 *
 * Returns: pages; some even if it is in debt, INT64_MAX: no limit
 */
int64_t dirty_throttle_allowance(int cpu_index);

/**
 * dirty_throttle_set_limit: the operator's ceiling on a vCPU
 *
 * @cpu_index: 0..max_cpus - 1; the vCPU need not be plugged
 * @limit_mbps: DIRTY_LIMIT_MIN_MBPS..DIRTY_LIMIT_MAX_MBPS, 0: none
 *
 * Called with the BQL held.
 */
void dirty_throttle_set_limit(int cpu_index, uint64_t limit_mbps);

/* Called with the BQL held, with a valid @cpu_index. */
void dirty_throttle_query(int cpu_index, DirtyThrottleVcpuInfo *info);

/**
 * dirty_throttle_query_rounds: what the limit does to the guest
 *
 * @throttle_time_us: the longest time for which a vCPU sleeps per ring full
 *                    of pages dirtied
 * @ring_full_time_us: how long it takes to fill a ring at the average dirty
 *                     page rate, 0: nothing is being dirtied
 *
 * Called with the BQL held.
 *
 * Returns: false, and sets nothing, unless a migration limits vCPUs now
 */
bool dirty_throttle_query_rounds(uint64_t *throttle_time_us,
                                 uint64_t *ring_full_time_us);

/**
 * dirty_throttle_query_migration: all that is to know of the throttle now
 *
 * Called with the BQL held.
 *
 * Returns: NULL unless a migration is in precopy, and with a capability of the
 * dirty throttle; the caller frees it
 */
struct DirtyThrottleInfo *dirty_throttle_query_migration(void);

/* The same for people. */
void dirty_throttle_print(Monitor *mon, const struct DirtyThrottleInfo *info);

/**
 * dirty_throttle_migration_begin: an outgoing precopy migration starts
 *
 * Migration thread, before the first dirty sync; no BQL.  The thread keeps the
 * migration object from going away until dirty_throttle_migration_end().
 */
void dirty_throttle_migration_begin(void);

/**
 * dirty_throttle_migration_end: vCPUs get back what the migration took
 *
 * For every way out of precopy, postcopy included; does nothing the second
 * time.  Migration thread, with or without the BQL.
 */
void dirty_throttle_migration_end(void);

/**
 * dirty_throttle_migration_synced: a new iteration begins
 *
 * @iteration: dirty syncs so far
 * @to_send_bytes: what the migration now has to send
 */
void dirty_throttle_migration_synced(uint64_t iteration,
                                     uint64_t to_send_bytes);

/**
 * dirty_throttle_migration_progress: where the migration stands
 *
 * @sent_ram_bytes: size of all pages sent since it began, over all channels,
 *                  before compression; without those that were zero
 * @remaining_bytes: what this iteration still has to send
 * @switchover_bytes: what can be sent within the downtime limit
 * @window_ms: when the present one of those spans began in which the sender
 *             keeps to max-bandwidth; any clock, not 0
 *
 * Migration thread, several times a second.
 */
void dirty_throttle_migration_progress(uint64_t sent_ram_bytes,
                                       uint64_t remaining_bytes,
                                       uint64_t switchover_bytes,
                                       int64_t window_ms);

/*
 * Whether the migration leaves the guest's speed to the dirty throttle.
 * Migration thread.
 */
bool dirty_throttle_migration_in_charge(void);

/* Whether the limit of a migration is in force now.  With the BQL held. */
bool dirty_throttle_migration_limits(void);

#endif
