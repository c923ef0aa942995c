/*
 * pvsched: how the host schedules the thread of a vCPU
 *
 * A real-time priority where that is allowed, or else a nice value.  The first
 * takes CAP_SYS_NICE or RLIMIT_RTPRIO, the second CAP_SYS_NICE or RLIMIT_NICE.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sched.h>
#include <sys/syscall.h>
#include "qemu/error-report.h"
#include "thread.h"
#include "hw/misc/trace.h"

/* Boosted vCPUs, and the thread that watches them and must not wait for them */
#define BOOST_PRIORITY 1
#define WATCH_PRIORITY 2

#define NICE_LOWEST (-20)

static bool attr_get(int tid, PVSchedAttr *attr)
{
    return !syscall(SYS_sched_getattr, tid, attr, sizeof(*attr), 0);
}

static bool attr_set(int tid, const PVSchedAttr *attr)
{
    return !syscall(SYS_sched_setattr, tid, attr, 0);
}

static bool attr_equal(const PVSchedAttr *a, const PVSchedAttr *b)
{
    return a->policy == b->policy && a->flags == b->flags &&
           a->nice == b->nice && a->priority == b->priority;
}

/* Others are real-time or idle because somebody wants them to be. */
static bool attr_ordinary(const PVSchedAttr *attr)
{
    return attr->policy == SCHED_OTHER || attr->policy == SCHED_BATCH;
}

static PVSchedAttr attr_real_time(const PVSchedAttr *from, int priority)
{
    return (PVSchedAttr) {
        .size = sizeof(PVSchedAttr),
        .policy = SCHED_FIFO,
        .flags = from->flags,
        .priority = priority,
    };
}

static PVSchedAttr attr_nice(const PVSchedAttr *from, int nice)
{
    PVSchedAttr attr = *from;

    attr.nice = nice;
    return attr;
}

static void *rights_try(void *opaque)
{
    PVSchedRights *rights = opaque;
    PVSchedAttr attr, to;

    *rights = (PVSchedRights) { .means = PVSCHED_BY_NOTHING };
    if (!attr_get(0, &attr)) {
        return NULL;
    }
    rights->nice = attr.nice;
    for (int nice = NICE_LOWEST; nice < attr.nice; nice++) {
        to = attr_nice(&attr, nice);
        if (attr_set(0, &to)) {
            rights->means = PVSCHED_BY_NICE;
            rights->nice = nice;
            attr_set(0, &attr);
            break;
        }
    }
    /* Who watches has to come before those that are boosted. */
    to = attr_real_time(&attr, WATCH_PRIORITY);
    if (attr_set(0, &to)) {
        rights->means = PVSCHED_BY_REAL_TIME;
        attr_set(0, &attr);
    }
    return NULL;
}

PVSchedRights pvsched_rights(void)
{
    PVSchedRights rights;
    QemuThread thread;

    qemu_thread_create(&thread, "pvsched-try", rights_try, &rights,
                       QEMU_THREAD_JOINABLE);
    qemu_thread_join(&thread);
    trace_pvsched_rights(rights.means, rights.nice);
    return rights;
}

void pvsched_thread_init(PVSchedThread *t, QemuThread *thread, int tid)
{
    *t = (PVSchedThread) { .tid = tid };
    if (pthread_getcpuclockid(thread->thread, &t->cpu_clock)) {
        t->cpu_clock = CLOCK_THREAD_CPUTIME_ID;
    }
    attr_get(tid, &t->baseline);
}

void pvsched_thread_destroy(PVSchedThread *t)
{
    const PVSchedRights none = { .means = PVSCHED_BY_NOTHING };

    pvsched_thread_set(t, PVSCHED_NORMAL, &none);
}

int64_t pvsched_thread_cpu_ns(PVSchedThread *t)
{
    struct timespec ts;

    /* A thread that is gone has no clock any more. */
    if (!clock_gettime(t->cpu_clock, &ts)) {
        t->cpu_ns = ts.tv_sec * DIRTY_NS_PER_S + ts.tv_nsec;
    }
    return t->cpu_ns;
}

static PVSchedAttr thread_attr(const PVSchedThread *t, PVSchedMode mode,
                               const PVSchedRights *rights)
{
    if (mode == PVSCHED_NORMAL) {
        return t->baseline;
    }
    return rights->means == PVSCHED_BY_REAL_TIME ?
           attr_real_time(&t->baseline, BOOST_PRIORITY) :
           attr_nice(&t->baseline, MIN(rights->nice, t->baseline.nice));
}

bool pvsched_thread_set(PVSchedThread *t, PVSchedMode mode,
                        const PVSchedRights *rights)
{
    PVSchedAttr now, to;

    if (mode == t->mode) {
        return true;
    }
    /* Without the thread, there is nothing to be set back, either. */
    if (!attr_get(t->tid, &now)) {
        t->mode = PVSCHED_NORMAL;
        return mode == PVSCHED_NORMAL;
    }
    if (t->mode != PVSCHED_NORMAL && !attr_equal(&now, &t->ours)) {
        trace_pvsched_thread_changed(t->tid, now.policy, now.nice,
                                     now.priority);
        t->mode = PVSCHED_NORMAL;
    }
    if (t->mode == PVSCHED_NORMAL) {
        t->baseline = now;
        if (mode == PVSCHED_NORMAL) {
            return true;
        }
        if (!attr_ordinary(&now) || rights->means == PVSCHED_BY_NOTHING) {
            return false;
        }
    }
    to = thread_attr(t, mode, rights);
    if (!attr_set(t->tid, &to)) {
        if (mode != PVSCHED_NORMAL) {
            pvsched_thread_set(t, PVSCHED_NORMAL, rights);
        } else {
            warn_report_once("pvsched: cannot set a vCPU's thread back: %s",
                             strerror(errno));
            t->mode = PVSCHED_NORMAL;
        }
        return false;
    }
    t->ours = to;
    t->mode = mode;
    trace_pvsched_thread_set(t->tid, mode, to.policy, to.nice);
    return true;
}

/* QEMU's mutexes have no such kind; what there is in one can be another. */
void pvsched_mutex_init(QemuMutex *mutex)
{
    pthread_mutexattr_t attr;

    qemu_mutex_init(mutex);
    pthread_mutexattr_init(&attr);
    if (!pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT)) {
        pthread_mutex_destroy(&mutex->lock);
        if (pthread_mutex_init(&mutex->lock, &attr)) {
            pthread_mutex_init(&mutex->lock, NULL);
        }
    }
    pthread_mutexattr_destroy(&attr);
}

void pvsched_thread_be_first(const PVSchedRights *rights)
{
    PVSchedAttr attr, to;

    if (rights->means == PVSCHED_BY_NOTHING || !attr_get(0, &attr)) {
        return;
    }
    if (attr_ordinary(&attr)) {
        to = rights->means == PVSCHED_BY_NICE ?
             attr_nice(&attr, MIN(rights->nice, attr.nice)) :
             attr_real_time(&attr, WATCH_PRIORITY);
        attr_set(0, &to);
    }
}
