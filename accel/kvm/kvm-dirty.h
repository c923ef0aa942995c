/*
 * KVM: which vCPU dirties which page, and what it pays for that
 *
 * What kvm-all.c needs.  How it works is told in
 * docs/devel/dirty-throttle.rst.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef ACCEL_KVM_KVM_DIRTY_H
#define ACCEL_KVM_KVM_DIRTY_H

#include "sysemu/kvm.h"
#include "sysemu/kvm_int.h"

/* Once, from kvm_init(), when it is known whether there are dirty rings. */
void kvm_dirty_init(KVMState *s);

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
 * kvm_dirty_vcpu_pay: sleep for what has been dirtied
 *
 * In the vCPU thread, before KVM_RUN, without the BQL.  Returns early when
 * the vCPU is kicked; KVM_RUN then returns at once, because the kick has set
 * immediate_exit.
 */
void kvm_dirty_vcpu_pay(CPUState *cpu);

/* The vCPU will call KVM_RUN now, without taking a lock.  As above. */
void kvm_dirty_vcpu_enter(CPUState *cpu);

/* The vCPU has left KVM_RUN.  As above. */
void kvm_dirty_vcpu_left(CPUState *cpu);

/**
 * kvm_dirty_vcpu_interrupted: was KVM_RUN interrupted only for our sake?
 *
 * Called after kvm_eat_signals(), in the vCPU thread.
 *
 * Returns: true if nobody else wants anything of the vCPU, so that it can go
 * back to kvm_dirty_vcpu_pay() without taking the BQL
 */
bool kvm_dirty_vcpu_interrupted(CPUState *cpu);

/* A vCPU has left KVM_RUN because its ring is full.  In its thread, no BQL. */
void kvm_dirty_vcpu_ring_full(CPUState *cpu);

/* The same, because its quota is used up. */
void kvm_dirty_vcpu_quota_exhausted(CPUState *cpu);

/**
 * kvm_dirty_sync_begin: get what rings tell into the slots' bitmaps
 *
 * Every page dirtied so far, of all address spaces.  With the BQL held, not
 * under kvm_slots_lock(); returns with that lock held, for the bitmaps to be
 * read out.
 */
void kvm_dirty_sync_begin(KVMState *s);

/* The bitmaps have been read out.  Gives up kvm_slots_lock(). */
void kvm_dirty_sync_end(KVMState *s);

/*
 * Without rings a slot's log is read out into its bitmap between these two.
 * Under kvm_slots_lock().
 */
void kvm_dirty_log_read_begin(KVMState *s, KVMSlot *mem);
void kvm_dirty_log_read_end(KVMState *s, KVMSlot *mem);

/*
 * From the one to the other no vCPU dirties anything, and all that was dirtied
 * before is in the slots' bitmaps.  With the BQL and kvm_slots_lock() held, for
 * a slot to be removed.
 */
void kvm_dirty_removal_begin(KVMState *s);
void kvm_dirty_removal_end(KVMState *s);

#endif
