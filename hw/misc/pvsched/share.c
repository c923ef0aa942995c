/*
 * pvsched: what a thread is due on this host
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "share.h"

/* What is remembered of before is forgotten by a factor of e in a second. */
#define AVERAGE_NS 1000000000LL

/* So many threads are supposed to want each processor if nobody tells. */
#define UNKNOWN_THREADS 16

/*
 * The kernel tells how many threads run or wait for a processor just now.  Who
 * asks is one of them, and does not count.
 *
 * Returns: -1 if it does not tell
 */
static int count_runnable(void)
{
    g_autofree char *text = NULL;
    int runnable;

    if (!g_file_get_contents("/proc/loadavg", &text, NULL, NULL) ||
        sscanf(text, "%*s %*s %*s %d/", &runnable) != 1) {
        return -1;
    }
    return MAX(runnable - 1, 0);
}

/*
 * With R threads on N processors, a thread that wakes up is one more, and is due
 * N / (R + 1).  A vCPU that wants to run is counted in R, so this is less than
 * it gets anyway, and it saves nothing; which is right, as it does not sleep.
 */
unsigned pvsched_share_of(int64_t runnable, unsigned processors)
{
    int64_t threads = runnable + PVSCHED_SHARE_ALL;
    int64_t all = (int64_t)PVSCHED_SHARE_ALL * processors;

    return threads <= all ? PVSCHED_SHARE_ALL :
           MAX(all / (threads / 1000) * (PVSCHED_SHARE_ALL / 1000), 1);
}

unsigned pvsched_share_update(PVSchedShare *s, int64_t now_ns)
{
    int runnable = s->unknown ? -1 : count_runnable();
    int64_t ns = now_ns - s->updated_ns;

    if (runnable < 0) {
        s->unknown = true;
        return PVSCHED_SHARE_ALL / UNKNOWN_THREADS;
    }
    ns = s->updated_ns ? MIN(MAX(ns, 0), AVERAGE_NS) : AVERAGE_NS;
    s->runnable += ((int64_t)runnable * PVSCHED_SHARE_ALL - s->runnable) *
                   (ns / 1000) / (AVERAGE_NS / 1000);
    s->updated_ns = now_ns;
    return pvsched_share_of(s->runnable,
                            MAX(sysconf(_SC_NPROCESSORS_ONLN), 1));
}
