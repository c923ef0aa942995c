/*
 * KVM: which vCPU dirties which page, and what it pays for that
 *
 * Here the parts are put together.  Each of them calls and includes only what
 * stands below it:
 *
 *   kvm-dirty.c
 *   kvm-dirty-throttle.c  a vCPU looks, pays, sleeps, is kicked
 *   kvm-dirty-quota.c     exits when the quota is used up
 *   kvm-dirty-faults.c    page faults, where nothing else tells
 *   kvm-dirty-time.c      how long vCPUs run, where they do not tell, either
 *   kvm-dirty-found.c     how much they have really dirtied
 *   kvm-dirty-reaper.c    when rings are harvested
 *   kvm-dirty-ring.c      look, harvest
 *   kvm-dirty-reset.c     write-protect what was harvested
 *   kvm-dirty-hold.c      vCPUs are got out of the guest, and held
 *   kvm-dirty-charge.c    whom a page is charged to
 *   kvm-dirty-int.h       what they keep
 *
 * Copyright IBM, Corp. 2008
 *           Red Hat, Inc. 2008
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/timer.h"
#include "kvm-dirty.h"
#include "kvm-dirty-charge.h"
#include "kvm-dirty-faults.h"
#include "kvm-dirty-found.h"
#include "kvm-dirty-hold.h"
#include "kvm-dirty-quota.h"
#include "kvm-dirty-reaper.h"
#include "kvm-dirty-reset.h"
#include "kvm-dirty-ring.h"
#include "kvm-dirty-throttle.h"
#include "trace.h"

/* What is remembered of a vCPU that was unplugged, or a new one. */
static KVMDirtyVcpu *kvm_dirty_vcpu_unpark(CPUState *cpu)
{
    KVMDirtyVcpu *d;

    QLIST_FOREACH(d, &cpu->kvm_state->dirty->parked, next) {
        if (d->kvm_fd == cpu->kvm_fd) {
            QLIST_REMOVE(d, next);
            return d;
        }
    }
    return g_new0(KVMDirtyVcpu, 1);
}

int kvm_dirty_vcpu_init(CPUState *cpu)
{
    KVMDirtyTracking *t = cpu->kvm_state->dirty;
    KVMDirtyVcpu *d = kvm_dirty_vcpu_unpark(cpu);
    int ret;

    d->cpu = cpu;
    d->kvm_fd = cpu->kvm_fd;
    cpu->kvm_dirty = d;
    kvm_dirty_reaper_vcpu_init(d);
    kvm_dirty_quota_vcpu_init(d);
    ret = kvm_dirty_ring_vcpu_init(d);
    if (ret) {
        return ret;
    }

    if (t->faults.supported) {
        kvm_dirty_faults_vcpu_init(d);
    }
    kvm_dirty_throttle_vcpu_init(d);
    dirty_throttle_vcpu_reset(cpu->cpu_index);
    kvm_slots_lock();
    QLIST_INSERT_HEAD(&t->vcpus, d, next);
    d->listed = true;
    kvm_slots_unlock();
    return 0;
}

void kvm_dirty_vcpu_destroy(CPUState *cpu)
{
    KVMDirtyVcpu *d = cpu->kvm_dirty;

    if (d->listed) {
        kvm_slots_lock();
        if (d->ring.gfns) {
            /* What the vCPU has dirtied stays dirty without it. */
            kvm_dirty_ring_mark_now(cpu->kvm_state, d);
            kvm_dirty_ring_reap(cpu->kvm_state, d, false);
        }
        QLIST_REMOVE(d, next);
        d->listed = false;
        kvm_slots_unlock();
        dirty_throttle_vcpu_reset(cpu->cpu_index);
        kvm_dirty_throttle_vcpu_destroy(d);
        if (cpu->kvm_state->dirty->faults.supported) {
            kvm_dirty_faults_vcpu_destroy(d);
        }
    }
    cpu->kvm_dirty = NULL;
    d->cpu = NULL;
    QLIST_INSERT_HEAD(&cpu->kvm_state->dirty->parked, d, next);
}

void kvm_dirty_vcpu_pay(CPUState *cpu)
{
    kvm_dirty_throttle_pay(cpu->kvm_dirty);
}

void kvm_dirty_vcpu_enter(CPUState *cpu)
{
    kvm_dirty_hold_enter(cpu->kvm_dirty);
}

void kvm_dirty_vcpu_left(CPUState *cpu)
{
    kvm_dirty_hold_left(cpu->kvm_dirty);
}

/*
 * A generic kick sets thread_kicked before it sends the signal, and a request
 * to leave sets exit_request; both are seen here or raise immediate_exit
 * again after it was eaten, so that the next KVM_RUN returns at once.
 */
bool kvm_dirty_vcpu_interrupted(CPUState *cpu)
{
    bool left = kvm_dirty_hold_interrupted(cpu->kvm_dirty);
    bool look = kvm_dirty_throttle_interrupted(cpu->kvm_dirty);

    return (left || look) && !qatomic_read(&cpu->thread_kicked) &&
           !qatomic_read(&cpu->exit_request);
}

/*
 * Only the vCPU's own ring: it is the one that is full, and harvesting the
 * others would make their vCPUs fault again for nothing.
 *
 * No BQL is needed.  Rings and bitmaps are under kvm_slots_lock(); slots come
 * and go, logging starts and bitmaps are read out under that lock too, so an
 * entry meets either the bitmap it belongs to or none.  A sync gives the lock
 * to others between the batches that it harvests: what is added then, by this
 * harvest or the reaper's, was write-protected again before the lock was given
 * up, so it is as good as harvested by the sync itself.  If the reset was
 * suspect, that is made up for under the same hold of the lock under which the
 * bitmaps are read out.
 */
void kvm_dirty_vcpu_ring_full(CPUState *cpu)
{
    KVMDirtyVcpu *d = cpu->kvm_dirty;
    int64_t exit_ns = get_clock();

    trace_kvm_dirty_ring_full(cpu->cpu_index);
    kvm_slots_lock();
    kvm_dirty_reaper_full(d, kvm_dirty_ring_reap_full(d, exit_ns));
    kvm_slots_unlock();

    dirty_throttle_ring_full(cpu->cpu_index);
    if (dirty_throttle_in_service()) {
        kvm_dirty_throttle_want_look(d);
    }
}

void kvm_dirty_vcpu_quota_exhausted(CPUState *cpu)
{
    kvm_dirty_quota_count(cpu->kvm_dirty);
    kvm_dirty_throttle_want_look(cpu->kvm_dirty);
}

/*
 * When an epoch begins
 *
 * During a migration it begins when the migration's sync reads out the slots'
 * bitmaps, under the same hold of kvm_slots_lock().  What was harvested before
 * that belongs to the past, and the sync finds it; what is harvested later
 * belongs to the new epoch, and the next sync finds it.
 *
 * An entry that has been looked at must not lie in its ring at that moment: it
 * would be charged in the past and found in the new epoch.  So nobody looks
 * from the flush's mark to the epoch.  What was looked at before is harvested
 * by the flush.  What comes meanwhile is charged when it is harvested, or
 * looked at in the new epoch.  Until then a debt is not noticed; that is
 * mostly the time of the harvest, some 43 ns for each entry.
 *
 * Let C be the pages charged between two syncs.  Each of them was harvested
 * between the two, so the second sync finds it.  A page that comes through a
 * ring and is found by that sync was harvested between the two as well, and
 * looked at by then, so it is in C.  What the sync finds beyond the number of
 * pages in C, devices have dirtied.
 *
 * Outside a migration an epoch begins once a second, when the throttle thread
 * says so.
 */

/*
 * Let every page count again.  Under kvm_slots_lock().
 *
 * Returns: what to free when the lock has been given up
 */
static GPtrArray *kvm_dirty_epoch_begin(KVMState *s)
{
    KVMDirtyVcpu *d;

    QLIST_FOREACH(d, &s->dirty->vcpus, next) {
        /* Whether it owes a penalty now is asked at the next look. */
        dirty_throttle_charge(d->cpu->cpu_index, d->dirtied_pages);
    }
    dirty_throttle_epoch_began();
    return kvm_dirty_charge_anew(s);
}

/*
 * An epoch without a sync.  Nobody has to find what was charged, so what was
 * looked at may stay in the rings.  They are harvested all the same: a page
 * that the guest writes all the time gets into a ring again, and counts again,
 * only after that.
 */
static void kvm_dirty_new_epoch(void)
{
    g_autoptr(GPtrArray) old = NULL;

    kvm_slots_lock();
    old = kvm_dirty_epoch_begin(kvm_state);
    kvm_dirty_ring_mark_now(kvm_state, NULL);
    kvm_dirty_ring_reap(kvm_state, NULL, true);
    kvm_slots_unlock();
}

void kvm_dirty_sync_begin(KVMState *s)
{
    bool epoch_due = dirty_throttle_sync_begins_epoch();

    trace_kvm_dirty_ring_flush(0);
    /* Hardware may buffer dirty pages until its vCPU leaves the guest. */
    kvm_dirty_vcpus_leave(s);
    kvm_slots_lock();
    kvm_dirty_ring_flush(s, epoch_due);
    trace_kvm_dirty_ring_flush(1);
    kvm_dirty_reset_repair(s);
}

void kvm_dirty_sync_end(KVMState *s)
{
    g_autoptr(GPtrArray) old = NULL;

    if (s->dirty->epoch_due) {
        old = kvm_dirty_epoch_begin(s);
        s->dirty->epoch_due = false;
    }
    kvm_slots_unlock();
}

void kvm_dirty_log_read_begin(KVMState *s, KVMSlot *mem)
{
    kvm_dirty_found_read_begin(s, mem);
}

void kvm_dirty_log_read_end(KVMState *s, KVMSlot *mem)
{
    kvm_dirty_found_read_end(s, mem);
}

void kvm_dirty_removal_begin(KVMState *s)
{
    kvm_dirty_vcpus_hold(s);
    kvm_dirty_ring_mark_now(s, NULL);
    kvm_dirty_ring_reap(s, NULL, false);
}

void kvm_dirty_removal_end(KVMState *s)
{
    kvm_dirty_vcpus_release(s);
}

static void kvm_dirty_query_reaper(DirtyReaperInfo *info)
{
    kvm_slots_lock();
    *info = kvm_state->dirty->reaped;
    kvm_slots_unlock();
}

void kvm_dirty_init(KVMState *s)
{
    static DirtyThrottleOps ops = {
        .charge_and_kick = kvm_dirty_throttle_charge_and_kick,
        .wake = kvm_dirty_throttle_wake,
        .stop_watching = kvm_dirty_throttle_stop_watching,
        .new_epoch = kvm_dirty_new_epoch,
        .query_reaper = kvm_dirty_query_reaper,
    };

    s->dirty = g_new0(KVMDirtyTracking, 1);
    kvm_dirty_hold_init(s);
    if (s->kvm_dirty_ring_size) {
        kvm_dirty_reset_init(s);
        kvm_dirty_reaper_init(s);
    }
    kvm_dirty_quota_init(s);
    if (!s->kvm_dirty_ring_size && !s->dirty->quota.supported) {
        kvm_dirty_faults_init(s);
        s->dirty->found.supported = true;
        ops.take_found_pages = kvm_dirty_found_take;
        ops.look_ahead = kvm_dirty_found_look_ahead;
        ops.watch_time = kvm_dirty_throttle_watch_time;
    }
    ops.ring_pages = s->kvm_dirty_ring_size;
    ops.can_quota = s->dirty->quota.supported;
    ops.tells_apart = ops.ring_pages || ops.can_quota ||
                      s->dirty->faults.supported;
    dirty_throttle_register(&ops);
}
