/*
 * KVM dirty rings: the reaper
 *
 * A full ring stops its vCPU, so a thread harvests rings before they are full.
 * Without capability adaptive-reaper it harvests all of them once a second.
 * With it, it looks at every ring when that one could be three quarters full,
 * and harvests those that would not last until the next look.
 *
 * Copyright IBM, Corp. 2008
 *           Red Hat, Inc. 2008
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/rcu.h"
#include "qemu/timer.h"
#include "kvm-dirty-reaper.h"
#include "kvm-dirty-ring.h"
#include "trace.h"

/*
 * Whether a ring has to be harvested now.  Under kvm_slots_lock(), which the
 * pace of rings is under.
 *
 * @next_ns: lowered to when to look at the ring again, if that is sooner
 */
static bool kvm_dirty_reaper_due(KVMDirtyVcpu *d, uint32_t fill,
                                 int64_t *next_ns)
{
    uint32_t size = d->cpu->kvm_state->kvm_dirty_ring_size;
    DirtyRingPace *p = &d->reaper.pace;
    int64_t now_ns = get_clock();
    int64_t age_ns = now_ns - d->ring.reaped_ns;
    bool due;

    dirty_ring_pace_look(p, d->ring.reaped_pages + fill, fill, now_ns);
    due = dirty_ring_pace_due(p, fill, size, age_ns);
    if (due) {
        /* It will be empty. */
        fill = 0;
    }
    *next_ns = MIN(*next_ns, dirty_ring_pace_next_ns(p, fill, size, age_ns));
    return due;
}

/*
 * Harvest the rings that have to be.
 *
 * Returns: when to look at the rings again
 */
static int64_t kvm_dirty_reaper_reap(KVMState *s, bool woken)
{
    bool adaptive = dirty_throttle_adaptive_reaper();
    /* A full ring shows that the rate is not known: measure it soon. */
    int64_t next_ns = woken ? DIRTY_REAP_MIN_NS : DIRTY_REAP_MAX_NS;
    KVMDirtyVcpu *d;

    kvm_slots_lock();
    QLIST_FOREACH(d, &s->dirty->vcpus, next) {
        uint32_t fill = kvm_dirty_ring_fill(d);

        if (!adaptive || kvm_dirty_reaper_due(d, fill, &next_ns)) {
            kvm_dirty_ring_mark(d, fill);
        }
    }
    s->dirty->reaped.interval_ns = next_ns;
    trace_kvm_dirty_reaper(woken, next_ns);
    kvm_dirty_ring_reap(s, NULL, true);
    kvm_slots_unlock();
    return next_ns;
}

/*
 * Sleep, but with capability adaptive-reaper not through a full ring.
 *
 * Returns: whether a ring was full
 */
static bool kvm_dirty_reaper_wait(KVMDirtyTracking *t, int64_t ns)
{
    bool woken;

    /* However many rings are full, this is as often as they are looked at. */
    g_usleep(DIRTY_REAP_MIN_NS / SCALE_US);
    ns -= DIRTY_REAP_MIN_NS;
    woken = qemu_sem_timedwait(&t->reaper.wake, ns / SCALE_MS) == 0;
    /* Cleared before the look: who sets it from now on wants another one. */
    if (woken) {
        qatomic_set(&t->reaper.woken, false);
    }
    return woken;
}

void kvm_dirty_reaper_full(KVMDirtyVcpu *d, uint32_t fill)
{
    KVMState *s = d->cpu->kvm_state;

    dirty_ring_pace_full(&d->reaper.pace, fill, s->kvm_dirty_ring_size,
                         get_clock());
    /* One wakeup is enough, so only who sets the flag posts. */
    if (dirty_throttle_adaptive_reaper() &&
        !qatomic_xchg(&s->dirty->reaper.woken, true)) {
        qemu_sem_post(&s->dirty->reaper.wake);
    }
}

void kvm_dirty_reaper_vcpu_init(KVMDirtyVcpu *d)
{
    d->reaper.pace = (DirtyRingPace) { 0 };
}

static void *kvm_dirty_reaper_thread(void *opaque)
{
    KVMState *s = opaque;
    int64_t next_ns = DIRTY_REAP_MAX_NS;

    rcu_register_thread();
    while (true) {
        bool woken = kvm_dirty_reaper_wait(s->dirty, next_ns);

        next_ns = kvm_dirty_reaper_reap(s, woken);
    }
    return NULL;
}

void kvm_dirty_reaper_init(KVMState *s)
{
    QemuThread thread;

    s->dirty->reaped.interval_ns = DIRTY_REAP_MAX_NS;
    qemu_sem_init(&s->dirty->reaper.wake, 0);
    qemu_thread_create(&thread, "kvm-reaper", kvm_dirty_reaper_thread, s,
                       QEMU_THREAD_DETACHED);
}
