/*
 * KVM: get vCPUs out of the guest, and keep them out for a moment
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef ACCEL_KVM_KVM_DIRTY_HOLD_H
#define ACCEL_KVM_KVM_DIRTY_HOLD_H

#include "kvm-dirty-int.h"

/* Once, from kvm_init(). */
void kvm_dirty_hold_init(KVMState *s);

/* The vCPU will call KVM_RUN now, without taking a lock.  In its thread. */
void kvm_dirty_hold_enter(KVMDirtyVcpu *d);

/* The vCPU has left KVM_RUN.  In its thread, no BQL. */
void kvm_dirty_hold_left(KVMDirtyVcpu *d);

/* Whether the vCPU was kicked to leave the guest since it was last asked. */
bool kvm_dirty_hold_interrupted(KVMDirtyVcpu *d);

/*
 * Wait until each vCPU has been outside KVM_RUN at least for a moment, so that
 * KVM has told of all that it had dirtied.  With the BQL held.
 */
void kvm_dirty_vcpus_leave(KVMState *s);

/*
 * Wait until all vCPUs are outside KVM_RUN, and keep them there until they are
 * released.  The BQL must be held from the one call to the other.
 */
void kvm_dirty_vcpus_hold(KVMState *s);
void kvm_dirty_vcpus_release(KVMState *s);

#endif
