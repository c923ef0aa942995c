/*
 * KVM: how long vCPUs run, where nothing tells who dirties memory
 *
 * That is the CPU time of the vCPU's thread.  A vCPU that is halted, or sleeps
 * for a penalty, or waits for a CPU of the host, uses none.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <time.h>
#include "qemu/timer.h"
#include "kvm-dirty-time.h"

/*
 * Called under kvm_slots_lock(), which keeps the thread from going away.
 *
 * Returns: microseconds since the thread was created
 */
static uint64_t kvm_dirty_time_us(KVMDirtyVcpu *d)
{
    struct timespec ts;
    clockid_t clock;

    if (pthread_getcpuclockid(d->cpu->thread->thread, &clock) ||
        clock_gettime(clock, &ts)) {
        return d->time.us;
    }
    return (ts.tv_sec * NANOSECONDS_PER_SECOND + ts.tv_nsec) / SCALE_US;
}

void kvm_dirty_time_watch(KVMState *s, bool watch)
{
    KVMDirtyVcpu *d;

    QLIST_FOREACH(d, &s->dirty->vcpus, next) {
        d->time.us = kvm_dirty_time_us(d);
    }
    s->dirty->time.watched = watch;
}

void kvm_dirty_time_look(KVMDirtyVcpu *d)
{
    uint64_t us = kvm_dirty_time_us(d);

    d->dirtied_pages += us - d->time.us;
    d->time.us = us;
}
