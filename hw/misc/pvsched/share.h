/*
 * pvsched: what a thread is due on this host
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_MISC_PVSCHED_SHARE_H
#define HW_MISC_PVSCHED_SHARE_H

/* Shares are in millionths of a processor. */
#define PVSCHED_SHARE_ALL 1000000

typedef struct PVSchedShare {
    int64_t updated_ns;
    /* threads that want to run, on average of the last second; millionths */
    int64_t runnable;
    /* nobody tells how many there are */
    bool unknown;
} PVSchedShare;

/**
 * pvsched_share_update: count the host's threads once more
 *
 * @s: all zero at first; used by one thread only
 * @now_ns: the time
 *
 * Returns: what one more thread is due, 1..PVSCHED_SHARE_ALL
 */
unsigned pvsched_share_update(PVSchedShare *s, int64_t now_ns);

/* The same, if on average @runnable millionths of threads want to run */
unsigned pvsched_share_of(int64_t runnable, unsigned processors);

#endif
