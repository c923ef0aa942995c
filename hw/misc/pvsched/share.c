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
#define COUNT_EVERY_NS (AVERAGE_NS / 20)

/* Nobody saves up what is due in longer, and no product overflows in less. */
#define LONGEST_US 1000000000LL

#define NS_PER_US 1000

/* So many threads are supposed to want each processor if nobody tells. */
#define UNKNOWN_THREADS 16

/* @value was true for the latest @ns of the time. */
static int64_t average(int64_t before, int64_t value, int64_t ns)
{
    return before + (value - before) * (MIN(ns, AVERAGE_NS) / NS_PER_US) /
                    (AVERAGE_NS / NS_PER_US);
}

void pvsched_runnable_open(PVSchedRunnable *r)
{
    *r = (PVSchedRunnable) {
        .fd = qemu_open("/proc/loadavg", O_RDONLY, NULL),
    };
}

void pvsched_runnable_close(PVSchedRunnable *r)
{
    if (r->fd >= 0) {
        close(r->fd);
    }
}

/*
 * The kernel tells how many threads run or wait for a processor just now.  Who
 * asks is one of them, and does not count.
 */
static int count_runnable(PVSchedRunnable *r)
{
    char text[128];
    int runnable;
    ssize_t n = pread(r->fd, text, sizeof(text) - 1, 0);

    text[MAX(n, 0)] = 0;
    return sscanf(text, "%*s %*s %*s %d/", &runnable) == 1 ?
           MAX(runnable - 1, 0) :
           UNKNOWN_THREADS * sysconf(_SC_NPROCESSORS_ONLN);
}

unsigned pvsched_runnable_update(PVSchedRunnable *r, int64_t now_ns)
{
    int64_t ns = r->counted_ns ? now_ns - r->counted_ns : AVERAGE_NS;

    if (ns >= COUNT_EVERY_NS) {
        r->threads = average(r->threads,
                             (int64_t)count_runnable(r) * PVSCHED_ONE, ns);
        r->counted_ns = now_ns;
    }
    return MIN(r->threads, UINT_MAX);
}

unsigned pvsched_share_of(int64_t others, unsigned processors)
{
    int64_t threads = MAX(others, 0) + PVSCHED_ONE;
    int64_t all = (int64_t)PVSCHED_ONE * processors;

    return threads <= all ? PVSCHED_ONE :
           MAX(all / (threads / 1000) * (PVSCHED_ONE / 1000), 1);
}

/* How much of @us a thread ran that has run for @ns of them; millionths */
static int64_t part_of(int64_t ns, int64_t us)
{
    return us < LONGEST_US ? ns * (PVSCHED_ONE / NS_PER_US) / us :
           ns / (us * NS_PER_US / PVSCHED_ONE);
}

/*
 * With R others that want to run on N processors, a thread is due N / (R + 1).
 * It is counted as well while it wants to run, for which nobody tells the time,
 * but which is at least the time for which it runs.  So with that taken off, R
 * is not too small, and the thread is due no more than it would get if it never
 * slept.
 */
int64_t pvsched_share_update(PVSchedShare *s, unsigned runnable,
                             unsigned processors, int64_t now_ns,
                             int64_t cpu_ns)
{
    int64_t us = (now_ns - s->at_ns) / NS_PER_US;
    unsigned share;

    if (us <= 0) {
        return s->due_ns;
    }
    s->used = average(s->used, part_of(cpu_ns - s->cpu_ns, us),
                      us * NS_PER_US);
    share = pvsched_share_of(runnable - s->used, processors);
    s->due_ns += MIN(us, LONGEST_US) * share / (PVSCHED_ONE / NS_PER_US);
    s->at_ns += us * NS_PER_US;
    s->cpu_ns = cpu_ns;
    return s->due_ns;
}
