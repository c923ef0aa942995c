/*
 * pvsched: what a thread is due on this host
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_MISC_PVSCHED_SHARE_H
#define HW_MISC_PVSCHED_SHARE_H

/* Shares, and numbers of threads, are in millionths. */
#define PVSCHED_ONE 1000000

/* How many threads want to run, on average of the last second */
typedef struct PVSchedRunnable {
    int64_t counted_ns;
    int64_t threads;
    /* where the kernel tells; -1: nowhere */
    int fd;
} PVSchedRunnable;

/* One thread */
typedef struct PVSchedShare {
    /* known up to then: for how long it has run, and was due to */
    int64_t at_ns;
    int64_t cpu_ns;
    int64_t due_ns;
    /* how much of the time it has run, on average of the last second */
    int64_t used;
} PVSchedShare;

/* For as long as it is needed: QEMU may leave /proc behind. */
void pvsched_runnable_open(PVSchedRunnable *r);
void pvsched_runnable_close(PVSchedRunnable *r);

/**
 * pvsched_runnable_update: count the host's threads, if it is time to
 *
 * To count costs as much as some looks at vCPUs, and an average of a second
 * needs no more than 20 of them.
 *
 * @r: open; used by one thread only
 * @now_ns: the time
 *
 * Returns: how many want to run, but for the one that asks; millionths
 */
unsigned pvsched_runnable_update(PVSchedRunnable *r, int64_t now_ns);

/**
 * pvsched_share_of: what one of the host's threads is due
 *
 * @others: how many others want to run; millionths
 * @processors: how many there are
 *
 * Returns: 1..PVSCHED_ONE
 */
unsigned pvsched_share_of(int64_t others, unsigned processors);

/**
 * pvsched_share_update: go on to now
 *
 * @s: the thread
 * @runnable: how many want to run, with this one; millionths
 * @processors: how many there are
 * @now_ns: the time
 * @cpu_ns: for how long this one has run
 *
 * Returns: for how long it was due to run, since @s was all zero
 */
int64_t pvsched_share_update(PVSchedShare *s, unsigned runnable,
                             unsigned processors, int64_t now_ns,
                             int64_t cpu_ns);

#endif
