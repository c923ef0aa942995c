/*
 * Dirty throttle: what migration code calls
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_DIRTY_THROTTLE_HOOKS_H
#define MIGRATION_DIRTY_THROTTLE_HOOKS_H

#include "qapi/qapi-types-migration.h"

/* Capabilities were set, or have their first values.  With the BQL held. */
void dirty_throttle_capabilities_changed(void);

/* A migration of any kind is going to begin: forget the last one's record. */
void dirty_throttle_migration_init(void);

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
 * dirty_throttle_migration_pending: what is left to be sent
 *
 * @pending_bytes: all of it
 * @remaining_bytes: memory
 *
 * Migration thread, before each turn.
 */
void dirty_throttle_migration_pending(uint64_t pending_bytes,
                                      uint64_t remaining_bytes);

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
 * Whether the migration is to sync dirty memory, although there is more to send
 * than can be switched over.  Migration thread, between two turns.
 */
bool dirty_throttle_migration_wants_sync(void);

/*
 * Whether the migration leaves the guest's speed to the dirty throttle.
 * Migration thread.
 */
bool dirty_throttle_migration_in_charge(void);

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
DirtyThrottleInfo *dirty_throttle_query_migration(void);

/**
 * dirty_throttle_query_record: what was done for the last migration
 *
 * To be asked when it is over or has gone to postcopy.  Called with the BQL
 * held.
 *
 * Returns: NULL unless it had a capability that slows vCPUs; the caller frees
 * it
 */
DirtyThrottleRecord *dirty_throttle_query_record(void);

/* calc-dirty-rate is going to begin.  With the BQL held. */
void dirty_throttle_measure_soon(void);

/**
 * dirty_throttle_measure_begin: calc-dirty-rate begins
 *
 * @watch: memory is going to be write-protected, so that vCPUs can be watched
 *
 * The thread that measures, before it begins to log dirty memory.
 */
void dirty_throttle_measure_begin(bool watch);

/* Nothing is dirty now; what vCPUs dirty from here on is measured. */
void dirty_throttle_measure_from_now(void);

/**
 * dirty_throttle_measure_end: calc-dirty-rate is done
 *
 * @rate_mbps: what all vCPUs have dirtied together, in different pages; below
 *             0 if that could not be found out
 * @took_ms: how long it took
 */
void dirty_throttle_measure_end(int64_t rate_mbps, int64_t took_ms);

#endif
