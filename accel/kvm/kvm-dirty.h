/*
 * KVM: which vCPU dirties which page
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef ACCEL_KVM_KVM_DIRTY_H
#define ACCEL_KVM_KVM_DIRTY_H

#include <linux/kvm.h>
#include "qemu/queue.h"
#include "qemu/thread.h"
#include "hw/core/cpu.h"
#include "migration/dirty-throttle.h"
#include "migration/dirty-throttle/ring-pace.h"
#include "sysemu/kvm_int.h"

/* One vCPU's dirty ring and quota, and what is needed to make it pay */
typedef struct KVMDirtyVcpu {
    CPUState *cpu;
    int kvm_fd;
    /* it is in the list of those that can dirty memory; under the BQL */
    bool listed;

    /*
     * Under kvm_slots_lock(), like the slots' bitmaps that go with it.  The
     * lock also keeps the vCPU thread alive, and the ring and kvm_run mapped,
     * for as long as this is in the list.
     */
    QLIST_ENTRY(KVMDirtyVcpu) next;
    /* NULL: there are no rings */
    struct kvm_dirty_gfn *gfns;
    /* first entry not harvested; first one not looked at, at least fetch */
    uint32_t fetch;
    uint32_t looked;
    /* up to where it is being harvested, batch by batch; at least fetch */
    uint32_t reap_to;
    /* when it was last harvested; entries since creation */
    int64_t reaped_ns;
    uint64_t reaped_pages;
    /* the latter when the vCPU last went on after its ring had been full */
    uint64_t full_reaped_pages;
    /*
     * KVM has overrun the ring, so that a gap comes before its next entry; so
     * many entries of the gap are still to be handed back
     */
    bool overrun;
    uint32_t gap;
    /* how fast it fills, for the reaper */
    DirtyRingPace pace;
    /*
     * pages charged since creation; without a ring, pages counted by KVM while
     * they were being watched
     */
    uint64_t dirtied_pages;

    /*
     * The vCPU has a quota.  KVM's count of the pages it has dirtied, as of
     * the latest exit for its quota, if there was one since it has it; and the
     * entries that had been in its ring by then.
     */
    bool has_quota;
    bool count_known;
    uint64_t count;
    uint64_t count_entries;

    /* when the penalty that the vCPU sleeps for, or last did, is over */
    int64_t paying_until_ns;

    /* Used by the vCPU thread only */
    timer_t timer;
    bool has_timer;
    int64_t look_at_ns;

    /* Atomic: KVM_RUN begun and ended, so odd in between; by its thread */
    uint32_t runs;
    /* under the BQL: the run whose end is waited for; even: none */
    uint32_t awaited_run;
    /* Atomic: the vCPU was kicked only to leave the guest. */
    bool leave_due;

    /* Atomic: the vCPU has to look at its ring before it enters the guest. */
    bool look_due;
    /* Atomic: its timer will make it look. */
    bool timer_armed;
    /* Atomic: the vCPU sleeps for a penalty. */
    bool paying;
} KVMDirtyVcpu;

/* kvm-dirty-ring.c */

/**
 * kvm_dirty_vcpu_init: map a new vCPU's ring and make the vCPU known
 *
 * Called in the vCPU thread, with the BQL held.
 *
 * Returns: 0, or -errno from mapping the ring
 */
int kvm_dirty_vcpu_init(CPUState *cpu);

/*
 * The reverse, for a vCPU that leaves.  To be called while kvm_run is still
 * mapped: until this is done a kick may come, whose handler writes to it.
 */
void kvm_dirty_vcpu_destroy(CPUState *cpu);

/**
 * kvm_dirty_ring_look: how much a vCPU has dirtied
 *
 * Reads the shared ring only: no ioctl, nothing is write-protected again, no
 * page gets lost or found.  What has come into the ring is charged; but not
 * while a sync that begins an epoch is under way.  Called under
 * kvm_slots_lock(), from any thread.
 *
 * Returns: pages charged since the vCPU was created
 */
uint64_t kvm_dirty_ring_look(KVMDirtyVcpu *d);

/* How rings are reset, and what came of it */
typedef struct KVMDirtyReset {
    /* Atomic: the other thread is to reset so many entries, 0: none. */
    uint64_t pages;
    QemuEvent wanted;
    QemuEvent done;
    /* of the entries that were to be reset, KVM does not find so many */
    uint64_t left;
    /* none of their pages was left writable */
    bool complete;
    /* Under kvm_slots_lock(): pages may have been left writable. */
    bool suspect;
} KVMDirtyReset;

/* What all vCPUs have in common */
typedef struct KVMDirtyTracking {
    /*
     * All vCPUs that can dirty memory.  Changed under the BQL and
     * kvm_slots_lock(), so either of them is enough to read it.
     */
    QLIST_HEAD(, KVMDirtyVcpu) vcpus;
    KVMDirtyReset reset;
    /*
     * Written under the BQL.  Atomic: vCPUs are kept out of the guest, until
     * released; somebody waits for vCPUs to leave it, which set left.
     */
    bool held;
    bool awaited;
    QemuEvent released;
    QemuEvent left;
    /* Under kvm_slots_lock(). */
    DirtyReaperInfo reaped;
    /* A ring was full.  Posted only by who sets woken, which is atomic. */
    QemuSemaphore wake;
    bool woken;
    /* KVM has dirty quotas; set once */
    bool can_quota;
    /* Under kvm_slots_lock(): vCPUs have quotas. */
    bool has_quotas;
    /* Under kvm_slots_lock(): somebody wants to know who dirties memory. */
    bool charging;
    /*
     * Under kvm_slots_lock(): a sync that begins an epoch is under way.  What
     * is in the rings, and is not harvested for it, belongs to that epoch.
     */
    bool epoch_due;
} KVMDirtyTracking;

extern KVMDirtyTracking kvm_dirty_tracking;

/* How much a vCPU has dirtied, by whatever tells.  As above. */
static inline uint64_t kvm_dirty_look(KVMDirtyVcpu *d)
{
    return d->gfns ? kvm_dirty_ring_look(d) : d->dirtied_pages;
}

/*
 * Mark everything that is in a ring by now to be harvested.  Under
 * kvm_slots_lock().
 *
 * @fill: as kvm_dirty_ring_fill() says
 */
void kvm_dirty_ring_mark(KVMDirtyVcpu *d, uint32_t fill);

/*
 * Entries that wait in a ring.  Costs a few reads of the shared ring, however
 * many there are.  Under kvm_slots_lock().
 */
uint32_t kvm_dirty_ring_fill(KVMDirtyVcpu *d);

/**
 * kvm_dirty_ring_reap: harvest what was marked, in batches
 *
 * @d: the only ring to be harvested, of the calling vCPU; NULL: all
 *
 * Not called under kvm_slots_lock(), which is given to others between the
 * batches.
 */
void kvm_dirty_ring_reap(KVMState *s, KVMDirtyVcpu *d);

/* Harvest one ring, or all (NULL), at once; under kvm_slots_lock(). */
void kvm_dirty_ring_reap_locked(KVMState *s, KVMDirtyVcpu *d);

/*
 * Get every page dirtied so far into the slots' bitmaps.  With the BQL held,
 * not under kvm_slots_lock().  Before the bitmaps are read out,
 * kvm_dirty_reset_repair() has to be called under that lock.
 *
 * @epoch_due: kvm_dirty_epoch_locked() will be called when the bitmaps are
 *             read out
 */
void kvm_dirty_ring_flush(KVMState *s, bool epoch_due);

/* A vCPU has left KVM_RUN because its ring is full.  In its thread, no BQL. */
void kvm_dirty_ring_full(CPUState *cpu);

/* kvm-dirty-charge.c */

/*
 * Charge a vCPU for a page that it has dirtied, unless somebody was in this
 * epoch.  Under kvm_slots_lock().
 *
 * @mem: the slot, whose memory is being logged
 * @offset: the page in it
 */
void kvm_dirty_charge(KVMDirtyVcpu *d, KVMSlot *mem, uint64_t offset);

/**
 * kvm_dirty_epoch_locked: let every page count again
 *
 * Under kvm_slots_lock().
 *
 * Returns: what to free when the lock has been given up
 */
GPtrArray *kvm_dirty_epoch_locked(KVMState *s);

/* The same, and harvest all rings; not under kvm_slots_lock(), no BQL. */
void kvm_dirty_epoch(void);

/* Nobody wants to know any more.  Not under kvm_slots_lock(). */
void kvm_dirty_charge_stop(KVMState *s);

/* kvm-dirty-reset.c */

/* Start the thread that resets rings; once, from kvm_init(). */
void kvm_dirty_reset_init(KVMState *s);

/**
 * kvm_dirty_reset: have KVM write-protect what was harvested
 *
 * @pages: how many entries were handed back to KVM
 *
 * Called under kvm_slots_lock(), from any thread.  Pages may be left writable
 * nevertheless; kvm_dirty_reset_repair() then has something to do.
 *
 * Returns: how many of the entries KVM does not find, 0 unless it has overrun a
 * ring meanwhile
 */
uint64_t kvm_dirty_reset(uint64_t pages);

/*
 * Write-protect what resets may have left writable.  Called with the BQL held,
 * under kvm_slots_lock(), which must be held until the bitmaps of slots have
 * been read out: so no reset comes in between.
 */
void kvm_dirty_reset_repair(KVMState *s);

/* kvm-dirty-hold.c */

/* Once, from kvm_init(). */
void kvm_dirty_hold_init(void);

/*
 * Wait until each vCPU has been outside KVM_RUN at least for a moment, so that
 * KVM has told of all that it had dirtied.  With the BQL held.
 */
void kvm_dirty_vcpus_leave(void);

/*
 * Wait until all vCPUs are outside KVM_RUN, and keep them there until they are
 * released.  The BQL must be held from the one call to the other.
 */
void kvm_dirty_vcpus_hold(void);
void kvm_dirty_vcpus_release(void);

/* What kvm_dirty_vcpu_enter() does when vCPUs are held. */
void kvm_dirty_vcpu_wait(CPUState *cpu);

/* Either who holds or waits sees the new count, or the caller sees that. */
static inline void kvm_dirty_vcpu_count(CPUState *cpu)
{
    KVMDirtyVcpu *d = cpu->kvm_dirty;

    qatomic_store_release(&d->runs, d->runs + 1);
    /* Pairs with kvm_dirty_vcpus_leave(). */
    smp_mb();
}

/* The vCPU has left KVM_RUN.  In its thread, no BQL. */
static inline void kvm_dirty_vcpu_left(CPUState *cpu)
{
    kvm_dirty_vcpu_count(cpu);
    if (unlikely(qatomic_read(&kvm_dirty_tracking.awaited))) {
        qemu_event_set(&kvm_dirty_tracking.left);
    }
}

/* The vCPU will call KVM_RUN now, without taking a lock.  As above. */
static inline void kvm_dirty_vcpu_enter(CPUState *cpu)
{
    kvm_dirty_vcpu_count(cpu);
    if (unlikely(qatomic_read(&kvm_dirty_tracking.held))) {
        kvm_dirty_vcpu_wait(cpu);
    }
}

/* kvm-dirty-reaper.c */

/* Start the thread that harvests rings before they are full. */
void kvm_dirty_reaper_init(KVMState *s);

/**
 * kvm_dirty_reaper_full: a ring was full, the reaper came too late
 *
 * @fill: entries that there were in the ring then; 0 if that is not known
 *
 * Any thread, under kvm_slots_lock().
 */
void kvm_dirty_reaper_full(KVMDirtyVcpu *d, uint32_t fill);

/* kvm-dirty-quota.c */

/* Find out whether KVM has dirty quotas; once, from kvm_init(). */
void kvm_dirty_quota_init(KVMState *s);

/*
 * Give every vCPU a quota that has none, used up at its first page, or take
 * all quotas away.  Under kvm_slots_lock().
 */
void kvm_dirty_quota_start(KVMState *s);
void kvm_dirty_quota_stop(KVMState *s);

/**
 * kvm_dirty_quota_set: let a vCPU dirty some more pages
 *
 * @pages: as dirty_throttle_allowance() says
 *
 * In the vCPU thread, not under kvm_slots_lock().
 *
 * Returns: false if vCPUs have no quotas
 */
bool kvm_dirty_quota_set(KVMDirtyVcpu *d, int64_t pages);

/*
 * A vCPU has left KVM_RUN because its quota is used up.  In its thread, no
 * BQL.
 */
void kvm_dirty_quota_exhausted(CPUState *cpu);

/* kvm-dirty-throttle.c */

/* Offer what there is to throttle vCPUs with; once, from kvm_init(). */
void kvm_dirty_throttle_init(KVMState *s);

void kvm_dirty_throttle_vcpu_init(KVMDirtyVcpu *d);
void kvm_dirty_throttle_vcpu_destroy(KVMDirtyVcpu *d);

/* Do what kvm_dirty_throttle() says, when there is something to do. */
void kvm_dirty_throttle_pay(KVMDirtyVcpu *d);

/**
 * kvm_dirty_throttle: pay before entering the guest
 *
 * In the vCPU thread, before KVM_RUN, without the BQL.  Returns early when
 * the vCPU is kicked; KVM_RUN then returns at once, because the kick has set
 * immediate_exit.
 */
static inline void kvm_dirty_throttle(CPUState *cpu)
{
    if (unlikely(qatomic_read(&cpu->kvm_dirty->look_due))) {
        kvm_dirty_throttle_pay(cpu->kvm_dirty);
    }
}

/**
 * kvm_dirty_throttle_interrupted: was KVM_RUN interrupted only for a look?
 *
 * Called after kvm_eat_signals().  True: nobody else wants anything of the
 * vCPU, it can go back to kvm_dirty_throttle() without taking the BQL.
 */
bool kvm_dirty_throttle_interrupted(CPUState *cpu);

#endif
