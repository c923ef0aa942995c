/*
 * Dirty throttle: what a vCPU has done of late, for who asks
 *
 * No decision depends on it.  No function takes a lock.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_DIRTY_THROTTLE_HISTORY_H
#define MIGRATION_DIRTY_THROTTLE_HISTORY_H

/* Rates are computed from the latest and the oldest of so many records. */
#define DIRTY_RATE_RECORDS 10

typedef struct DirtyRecord {
    int64_t time_ns;
    uint64_t dirtied_pages;
    uint64_t paid_ns;
} DirtyRecord;

/* records[(next + n) % DIRTY_RATE_RECORDS], oldest first; all zero at first */
typedef struct DirtyHistory {
    DirtyRecord records[DIRTY_RATE_RECORDS];
    unsigned next;
} DirtyHistory;

/**
 * dirty_history_record: keep a record of a vCPU's counters
 *
 * @dirtied_pages: charged so far; may get less, by a correction
 * @paid_ns: slept for penalties so far
 * @now_ns: the time, above 0
 */
void dirty_history_record(DirtyHistory *h, uint64_t dirtied_pages,
                          uint64_t paid_ns, int64_t now_ns);

/* What the records span; all zero while there is but one. */
DirtyRecord dirty_history_recent(const DirtyHistory *h);

/* Pages/s dirtied of late. */
uint64_t dirty_history_rate_pps(const DirtyHistory *h);

#endif
