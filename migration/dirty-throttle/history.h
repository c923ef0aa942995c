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

/* Rates are computed from the first and the last of so many that are kept. */
#define DIRTY_HISTORY_LENGTH 10

/* As of one time, or how much they have grown between two times */
typedef struct DirtyCounters {
    int64_t time_ns;
    uint64_t dirtied_pages;
    uint64_t paid_ns;
} DirtyCounters;

/* From counters[next] on, the oldest first; all zero in the beginning */
typedef struct DirtyHistory {
    DirtyCounters counters[DIRTY_HISTORY_LENGTH];
    unsigned next;
} DirtyHistory;

/**
 * dirty_history_note: keep a vCPU's counters as they are now
 *
 * @dirtied_pages: charged so far; may get less, by a correction
 * @paid_ns: slept for penalties so far
 * @now_ns: the time, above 0
 */
void dirty_history_note(DirtyHistory *h, uint64_t dirtied_pages,
                        uint64_t paid_ns, int64_t now_ns);

/* From the oldest to the latest that are kept; all zero while there is one. */
DirtyCounters dirty_history_recent(const DirtyHistory *h);

/* Pages/s dirtied of late. */
uint64_t dirty_history_rate_pps(const DirtyHistory *h);

#endif
