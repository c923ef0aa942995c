/*
 * pvsched: how the host schedules the thread of a vCPU
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_MISC_PVSCHED_THREAD_H
#define HW_MISC_PVSCHED_THREAD_H

#include "qemu/thread.h"
#include "boost.h"

/* How a boost is brought about */
typedef enum PVSchedMeans {
    PVSCHED_BY_NOTHING,
    PVSCHED_BY_NICE,
    PVSCHED_BY_REAL_TIME,
} PVSchedMeans;

/* What this process may do to its threads */
typedef struct PVSchedRights {
    PVSchedMeans means;
    /* the lowest nice value that a thread can get */
    int nice;
} PVSchedRights;

/* struct sched_attr of Linux, whose first version will do */
typedef struct PVSchedAttr {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime;
    uint64_t deadline;
    uint64_t period;
} PVSchedAttr;

typedef struct PVSchedThread {
    int tid;
    clockid_t cpu_clock;
    int64_t cpu_ns;
    /* the thread is as somebody else wants it, or as we do */
    PVSchedMode mode;
    PVSchedAttr baseline;
    PVSchedAttr ours;
} PVSchedThread;

/* Find out by trying, in a thread that is for nothing else. */
PVSchedRights pvsched_rights(void);

/**
 * pvsched_thread_init: get to know a thread
 *
 * @t: is filled in
 * @thread: a thread of this process
 * @tid: its number
 */
void pvsched_thread_init(PVSchedThread *t, QemuThread *thread, int tid);

/* Leaves the thread as its baseline is. */
void pvsched_thread_destroy(PVSchedThread *t);

/* For how long it has run */
int64_t pvsched_thread_cpu_ns(PVSchedThread *t);

/**
 * pvsched_thread_set: have a thread boosted, or as it was
 *
 * What it was is read right before it is changed.  If meanwhile somebody else
 * has changed the thread, that is what it is to be like from now on.
 *
 * @t: the thread
 * @mode: what is to be in force
 * @rights: by which means
 *
 * Returns: whether it is.  If not, the thread is as it was.
 */
bool pvsched_thread_set(PVSchedThread *t, PVSchedMode mode,
                        const PVSchedRights *rights);

/*
 * A mutex whose holder runs as soon as who waits for it.  Threads of all kinds
 * take it, and one that must not wait for boosted vCPUs.
 */
void pvsched_mutex_init(QemuMutex *mutex);

/* The thread that calls this shall not have to wait for boosted ones. */
void pvsched_thread_be_first(const PVSchedRights *rights);

#endif
