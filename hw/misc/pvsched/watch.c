/*
 * pvsched: the thread that watches vCPUs which cannot look for themselves
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/lockable.h"
#include "qemu/timer.h"
#include "watch.h"

#define LOOK_US 1000
#define IDLE_MS 20

/* Returns: whether some vCPU has to be looked at again soon */
static bool watch_look(PVSchedWatch *w)
{
    bool active = false;

    for (unsigned i = 0; i < w->nr_vcpus; i++) {
        active |= pvsched_vcpu_watch(&w->vcpus[i]);
    }
    return active;
}

/* What the VM was boosted since, it has spent. */
static void watch_bill(PVSchedWatch *w)
{
    int64_t now_ns = get_clock();

    QEMU_LOCK_GUARD(&w->lock);
    for (unsigned i = 0; i < w->nr_vcpus; i++) {
        pvsched_vcpu_bill(&w->vcpus[i], &w->vm, now_ns);
    }
    qatomic_set(&w->common->may, pvsched_vm_may(&w->vm, now_ns));
}

/*
 * Who turns boosts on, or asks for one, does that first and then sees that this
 * thread is idle; or else this sees what they did after it has said that it is.
 */
static void watch_wait(PVSchedWatch *w)
{
    PVSchedCommon *c = w->common;

    qatomic_xchg(&c->idle, true);
    if (qatomic_read(&w->stopping)) {
        return;
    }
    if (qatomic_read(&c->on)) {
        qemu_sem_timedwait(&c->wake, IDLE_MS);
    } else {
        qemu_sem_wait(&c->wake);
    }
    qatomic_set(&c->idle, false);
}

static void watch_be_first(PVSchedWatch *w)
{
    PVSchedRights rights;

    WITH_QEMU_LOCK_GUARD(&w->lock) {
        rights = w->rights;
    }
    pvsched_thread_be_first(&rights);
}

static void *watch_thread(void *opaque)
{
    PVSchedWatch *w = opaque;
    bool on = false;

    rcu_register_thread();
    while (!qatomic_read(&w->stopping)) {
        if (!qatomic_read(&w->common->on)) {
            on = false;
            watch_wait(w);
            continue;
        }
        if (!on) {
            watch_be_first(w);
            on = true;
        }
        watch_bill(w);
        qatomic_set(&w->common->share,
                    pvsched_share_update(&w->share, get_clock()));
        if (watch_look(w)) {
            g_usleep(LOOK_US);
        } else {
            watch_wait(w);
        }
    }
    rcu_unregister_thread();
    return NULL;
}

void pvsched_watch_start(PVSchedWatch *w, PVSchedCommon *common,
                         PVSchedVcpu *vcpus, unsigned nr_vcpus)
{
    w->common = common;
    w->vcpus = vcpus;
    w->nr_vcpus = nr_vcpus;
    qemu_mutex_init(&w->lock);
    pvsched_vm_init(&w->vm, get_clock());
    qemu_thread_create(&w->thread, "pvsched", watch_thread, w,
                       QEMU_THREAD_JOINABLE);
}

/* The thread takes no lock that is held here. */
void pvsched_watch_stop(PVSchedWatch *w)
{
    qatomic_set(&w->stopping, true);
    qemu_sem_post(&w->common->wake);
    qemu_thread_join(&w->thread);
    qemu_mutex_destroy(&w->lock);
}

void pvsched_watch_set_rights(PVSchedWatch *w, const PVSchedRights *rights)
{
    QEMU_LOCK_GUARD(&w->lock);
    w->rights = *rights;
}

void pvsched_watch_set_budget(PVSchedWatch *w, PVSchedKind kind,
                              unsigned percent)
{
    QEMU_LOCK_GUARD(&w->lock);
    pvsched_vm_set_budget(&w->vm, kind, percent, g_get_num_processors(),
                          get_clock());
}
