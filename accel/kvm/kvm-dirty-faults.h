/*
 * KVM: page faults of vCPUs, where nothing else tells who dirties memory
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef ACCEL_KVM_KVM_DIRTY_FAULTS_H
#define ACCEL_KVM_KVM_DIRTY_FAULTS_H

#include "kvm-dirty-int.h"

/* Once, from kvm_init(), when it is known that nothing else tells. */
void kvm_dirty_faults_init(KVMState *s);

/*
 * Begin, or end, to read a vCPU's statistics.  With the BQL held, while the
 * vCPU is not in the list; the former in its thread.
 */
void kvm_dirty_faults_vcpu_init(KVMDirtyVcpu *d);
void kvm_dirty_faults_vcpu_destroy(KVMDirtyVcpu *d);

/**
 * kvm_dirty_faults_due: is a look worth its time?
 *
 * Under kvm_slots_lock().
 *
 * One that takes no faults is looked at like any other.  It may be a writer all
 * of whose pages are dirty, and once they are clean, after a sync, it dirties
 * them as fast as it can until the next look.
 *
 * Returns: false if the vCPU has not run since the last look
 */
bool kvm_dirty_faults_due(KVMDirtyVcpu *d);

/* Add a vCPU's new faults to what it has dirtied.  Under kvm_slots_lock(). */
void kvm_dirty_faults_look(KVMDirtyVcpu *d);

/* From now on faults count, or do not.  Under kvm_slots_lock(). */
void kvm_dirty_faults_start(KVMState *s);
void kvm_dirty_faults_stop(KVMState *s);

#endif
