/*
 * pvsched: how the host schedules the thread of a vCPU
 *
 * A real-time priority where that is allowed, or else a nice value.  The first
 * takes CAP_SYS_NICE or RLIMIT_RTPRIO, the second and the way back from nice 19
 * CAP_SYS_NICE or RLIMIT_NICE.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sched.h>
#include <sys/syscall.h>
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "thread.h"
#include "hw/misc/trace.h"

/* Boosted vCPUs, and the thread that watches them and must not wait for them */
#define BOOST_PRIORITY 1
#define WATCH_PRIORITY 2

#define NICE_LOWEST (-20)
#define NICE_HIGHEST 19
#define NICE_PAYING_MORE 10

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

static int nice_paying(const PVSchedAttr *baseline)
{
    return MIN(baseline->nice + NICE_PAYING_MORE, NICE_HIGHEST);
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
    to = attr_real_time(&attr, BOOST_PRIORITY);
    if (attr_set(0, &to)) {
        rights->means = PVSCHED_BY_REAL_TIME;
        attr_set(0, &attr);
    }
    to = attr_nice(&attr, NICE_HIGHEST);
    rights->can_return = attr_set(0, &to) && attr_set(0, &attr);
    return NULL;
}

PVSchedRights pvsched_rights(void)
{
    PVSchedRights rights;
    QemuThread thread;

    qemu_thread_create(&thread, "pvsched-try", rights_try, &rights,
                       QEMU_THREAD_JOINABLE);
    qemu_thread_join(&thread);
    trace_pvsched_rights(rights.means, rights.nice, rights.can_return);
    return rights;
}

/*
 * Between control groups that share out processors, and between sessions with
 * autogroup, it is the groups that compete, and a nice value matters only
 * within.  That is known of the group that a thread is in when it is asked.
 */
static bool thread_nice_counts(int tid)
{
    g_autofree char *path = g_strdup_printf("/proc/self/task/%d/cgroup", tid);
    g_autofree char *text = NULL, *autogroup = NULL;
    g_auto(GStrv) lines = NULL;

    if (g_file_get_contents("/proc/sys/kernel/sched_autogroup_enabled",
                            &autogroup, NULL, NULL) && autogroup[0] != '0') {
        return false;
    }
    if (!g_file_get_contents(path, &text, NULL, NULL)) {
        return true;
    }
    lines = g_strsplit(text, "\n", 0);
    for (char **line = lines; *line; line++) {
        /* hierarchy:controllers:path; the second version has neither of two */
        g_auto(GStrv) fields = g_strsplit(*line, ":", 3);
        g_auto(GStrv) controllers = NULL;

        if (g_strv_length(fields) < 3) {
            continue;
        }
        if (!*fields[1]) {
            g_autofree char *weight = g_strdup_printf(
                "/sys/fs/cgroup%s/cpu.weight", fields[2]);

            if (g_file_test(weight, G_FILE_TEST_EXISTS)) {
                return false;
            }
        }
        controllers = g_strsplit(fields[1], ",", 0);
        if (g_strv_contains((const char *const *)controllers, "cpu") &&
            strcmp(fields[2], "/")) {
            return false;
        }
    }
    return true;
}

void pvsched_thread_init(PVSchedThread *t, QemuThread *thread, int tid)
{
    g_autofree char *path = g_strdup_printf("/proc/self/task/%d/schedstat",
                                            tid);

    *t = (PVSchedThread) {
        .tid = tid,
        .schedstat_fd = open(path, O_RDONLY | O_CLOEXEC),
        .nice_counts = thread_nice_counts(tid),
    };
    if (pthread_getcpuclockid(thread->thread, &t->cpu_clock)) {
        t->cpu_clock = CLOCK_THREAD_CPUTIME_ID;
    }
    attr_get(tid, &t->baseline);
}

void pvsched_thread_destroy(PVSchedThread *t)
{
    const PVSchedRights none = { .means = PVSCHED_BY_NOTHING };

    pvsched_thread_set(t, PVSCHED_NORMAL, &none);
    if (t->schedstat_fd >= 0) {
        close(t->schedstat_fd);
    }
    t->schedstat_fd = -1;
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

/*
 * What is left of the time without what the thread ran and what it waited for
 * a processor.  The kernel adds the latter when the wait is over, and the
 * former at times, so this can go back.  Where it tells neither, nobody is
 * taken to sleep.
 */
int64_t pvsched_thread_asleep_ns(PVSchedThread *t, int64_t now_ns)
{
    unsigned long long ran_ns, waited_ns;
    char text[80];
    ssize_t len = pread(t->schedstat_fd, text, sizeof(text) - 1, 0);

    if (len > 0) {
        text[len] = '\0';
        if (sscanf(text, "%llu %llu", &ran_ns, &waited_ns) == 2) {
            t->asleep_ns = now_ns - (int64_t)ran_ns - (int64_t)waited_ns;
            t->waited_ns = waited_ns;
        }
    }
    return t->asleep_ns;
}

static PVSchedAttr thread_attr(const PVSchedThread *t, PVSchedMode mode,
                               const PVSchedRights *rights)
{
    switch (mode) {
    case PVSCHED_BOOSTED:
        return rights->means == PVSCHED_BY_REAL_TIME ?
               attr_real_time(&t->baseline, BOOST_PRIORITY) :
               attr_nice(&t->baseline, MIN(rights->nice, t->baseline.nice));
    case PVSCHED_PAYING:
        return attr_nice(&t->baseline, nice_paying(&t->baseline));
    default:
        return t->baseline;
    }
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
        if (!attr_ordinary(&now) || (mode == PVSCHED_BOOSTED &&
                                     rights->means == PVSCHED_BY_NOTHING)) {
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

PVSchedTerms pvsched_thread_terms(const PVSchedThread *t,
                                  const PVSchedRights *rights)
{
    int64_t weight = pvsched_weight(t->baseline.nice);
    /* The kernel rounds it to a whole number, which matters for a small one. */
    int64_t paying = DIV_ROUND_UP(pvsched_weight(nice_paying(&t->baseline)),
                                  1000) * 1000;
    PVSchedTerms terms = { .owed = 1000 };

    if (rights->means == PVSCHED_BY_NICE) {
        terms.owed -= weight * 1000 /
                      pvsched_weight(MIN(rights->nice, t->baseline.nice));
    }
    if (t->nice_counts && rights->can_return && attr_ordinary(&t->baseline) &&
        t->baseline.nice >= rights->nice && weight > paying) {
        terms.paid = weight * 1000 / paying - 1000;
    }
    return terms;
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
        if (!attr_set(0, &to)) {
            /* No priority above that of a boost; beside it is next best. */
            to.priority = BOOST_PRIORITY;
            attr_set(0, &to);
        }
    }
}
