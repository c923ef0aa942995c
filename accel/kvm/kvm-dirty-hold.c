/*
 * KVM: get vCPUs out of the guest, and keep them out for a moment
 *
 * Every vCPU counts when it goes into KVM_RUN and when it has come back, so an
 * odd count says that it is in there.  Who wants it out kicks it and waits for
 * another count.
 *
 * The BQL is held all the time, so no vCPU comes or goes meanwhile.  It is no
 * deadlock: a vCPU needs neither the BQL nor any other of our locks to come
 * back from KVM_RUN, and the BQL is not among what it may hold in there.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <signal.h>
#include "qemu/atomic.h"
#include "qemu/main-loop.h"
#include "sysemu/cpus.h"
#include "kvm-dirty-hold.h"

void kvm_dirty_hold_init(KVMState *s)
{
    qemu_event_init(&s->dirty->hold.left, false);
    qemu_event_init(&s->dirty->hold.released, true);
}

/* Either who holds or waits sees the new count, or the caller sees that. */
static void kvm_dirty_hold_count(KVMDirtyVcpu *d)
{
    qatomic_store_release(&d->hold.runs, d->hold.runs + 1);
    /* Pairs with kvm_dirty_vcpus_leave(). */
    smp_mb();
}

void kvm_dirty_hold_left(KVMDirtyVcpu *d)
{
    KVMDirtyTracking *t = d->cpu->kvm_state->dirty;

    kvm_dirty_hold_count(d);
    if (unlikely(qatomic_read(&t->hold.awaited))) {
        qemu_event_set(&t->hold.left);
    }
}

/*
 * Nothing ends the wait early, and nothing has to: the BQL is held for as long
 * as vCPUs are, so whoever wants something of this one waits for that anyway.
 * In particular the vCPU must not go back to its main loop instead, where its
 * state may be read: KVM_RUN may still have to finish an instruction.
 */
void kvm_dirty_hold_enter(KVMDirtyVcpu *d)
{
    KVMDirtyTracking *t = d->cpu->kvm_state->dirty;

    kvm_dirty_hold_count(d);
    while (unlikely(qatomic_read(&t->hold.held))) {
        kvm_dirty_hold_left(d);
        qemu_event_wait(&t->hold.released);
        kvm_dirty_hold_count(d);
    }
}

bool kvm_dirty_hold_interrupted(KVMDirtyVcpu *d)
{
    return qatomic_xchg(&d->hold.leave_due, false);
}

/* In the guest, and not since we began to wait, but longer than that */
static bool kvm_dirty_vcpu_is_awaited(KVMDirtyVcpu *d)
{
    /* Pairs with the count on leaving: what KVM told before is seen after. */
    uint32_t runs = qatomic_load_acquire(&d->hold.runs);

    return runs % 2 && runs == d->hold.awaited_run;
}

static bool kvm_dirty_vcpus_are_awaited(KVMState *s)
{
    KVMDirtyVcpu *d;

    QLIST_FOREACH(d, &s->dirty->vcpus, next) {
        if (kvm_dirty_vcpu_is_awaited(d)) {
            return true;
        }
    }
    return false;
}

/*
 * A kick that comes while the vCPU is on its way into KVM_RUN sets
 * immediate_exit, which is cleared only after KVM_RUN.  One that comes too late
 * makes the next KVM_RUN return at once, and nothing else.
 */
void kvm_dirty_vcpus_leave(KVMState *s)
{
    KVMDirtyVcpu *d;

    assert(qemu_mutex_iothread_locked());
    qatomic_set(&s->dirty->hold.awaited, true);
    /*
     * Pairs with kvm_dirty_hold_left(): either the new count is seen here, or
     * there it is seen that somebody waits.  In kvm_dirty_vcpus_hold() also
     * with kvm_dirty_hold_enter().
     */
    smp_mb();
    QLIST_FOREACH(d, &s->dirty->vcpus, next) {
        d->hold.awaited_run = qatomic_read(&d->hold.runs);
        if (d->hold.awaited_run % 2) {
            qatomic_set(&d->hold.leave_due, true);
            pthread_kill(d->cpu->thread->thread, SIG_IPI);
        }
    }
    while (kvm_dirty_vcpus_are_awaited(s)) {
        qemu_event_wait(&s->dirty->hold.left);
        qemu_event_reset(&s->dirty->hold.left);
        /* Reset before the counts are read: who leaves later sets it again. */
        smp_mb();
    }
    qatomic_set(&s->dirty->hold.awaited, false);
}

/*
 * A vCPU that counts itself in after this was set sees it, see
 * kvm_dirty_hold_enter(); and one that had done so before is waited for.
 */
void kvm_dirty_vcpus_hold(KVMState *s)
{
    qemu_event_reset(&s->dirty->hold.released);
    qatomic_set(&s->dirty->hold.held, true);
    kvm_dirty_vcpus_leave(s);
}

void kvm_dirty_vcpus_release(KVMState *s)
{
    qatomic_set(&s->dirty->hold.held, false);
    qemu_event_set(&s->dirty->hold.released);
}
