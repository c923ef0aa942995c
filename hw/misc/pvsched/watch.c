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

/* Returns: in how many ns to look again */
static int64_t watch_look(PVSchedWatch *w)
{
    int64_t within_ns = PVSCHED_LOOK_LATE_NS, ns;
    unsigned boosted[PVSCHED_KINDS] = { };

    for (unsigned i = 0; i < w->nr_vcpus; i++) {
        ns = pvsched_vcpu_watch(&w->vcpus[i], boosted);
        within_ns = MIN(within_ns, ns);
    }
    QEMU_LOCK_GUARD(&w->lock);
    ns = pvsched_vm_look_within(&w->vm, boosted, w->processors, get_clock());
    return MIN(within_ns, ns);
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
 * Who turns boosts on, or wants a look earlier, does that first and then reads
 * for how long this waits.  That is written twice: before all that is looked
 * at, so that who comes later posts the semaphore, and this does not wait; and
 * then, if nobody came, as long as it is.
 */
static void watch_wait(PVSchedWatch *w, int64_t within_ns)
{
    int ms = within_ns / SCALE_MS;

    if (qatomic_cmpxchg(&w->common->waits_ms, INT_MAX, ms) == INT_MAX) {
        qemu_sem_timedwait(&w->common->wake, ms);
    }
}

/* What takes long to find out, and hardly ever changes */
static void watch_begin(PVSchedWatch *w)
{
    PVSchedRights rights;

    qatomic_set(&w->new_rights, false);
    WITH_QEMU_LOCK_GUARD(&w->lock) {
        rights = w->rights;
    }
    pvsched_thread_be_first(&rights);
    w->processors = g_get_num_processors();
    qatomic_set(&w->common->processors, MAX(sysconf(_SC_NPROCESSORS_ONLN), 1));
}

static void *watch_thread(void *opaque)
{
    PVSchedWatch *w = opaque;
    PVSchedCommon *c = w->common;
    bool on = false;

    rcu_register_thread();
    for (;;) {
        qatomic_xchg(&c->waits_ms, INT_MAX);
        if (qatomic_read(&w->stopping)) {
            break;
        }
        if (!qatomic_read(&c->on)) {
            on = false;
            qemu_sem_wait(&c->wake);
            continue;
        }
        if (!on || qatomic_read(&w->new_rights)) {
            watch_begin(w);
            on = true;
        }
        watch_bill(w);
        qatomic_set(&c->runnable,
                    pvsched_runnable_update(&w->runnable, get_clock()));
        watch_wait(w, watch_look(w));
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
    pvsched_mutex_init(&w->lock);
    pvsched_vm_init(&w->vm, get_clock());
    pvsched_runnable_open(&w->runnable);
    qemu_thread_create(&w->thread, "pvsched", watch_thread, w,
                       QEMU_THREAD_JOINABLE);
}

/* The thread takes no lock that is held here. */
void pvsched_watch_stop(PVSchedWatch *w)
{
    qatomic_set(&w->stopping, true);
    qemu_sem_post(&w->common->wake);
    qemu_thread_join(&w->thread);
    pvsched_runnable_close(&w->runnable);
    qemu_mutex_destroy(&w->lock);
}

void pvsched_watch_set_rights(PVSchedWatch *w, const PVSchedRights *rights)
{
    WITH_QEMU_LOCK_GUARD(&w->lock) {
        w->rights = *rights;
        qatomic_set(&w->new_rights, true);
    }
    pvsched_common_wake(w->common, 0);
}

void pvsched_watch_set_budget(PVSchedWatch *w, PVSchedKind kind,
                              unsigned percent)
{
    QEMU_LOCK_GUARD(&w->lock);
    pvsched_vm_set_budget(&w->vm, kind, percent, g_get_num_processors(),
                          get_clock());
}
