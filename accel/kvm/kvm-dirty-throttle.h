/*
 * KVM: make a vCPU pay for the pages that it dirties
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef ACCEL_KVM_KVM_DIRTY_THROTTLE_H
#define ACCEL_KVM_KVM_DIRTY_THROTTLE_H

#include "kvm-dirty-int.h"

/* In the vCPU thread, while the vCPU is not in the list. */
void kvm_dirty_throttle_vcpu_init(KVMDirtyVcpu *d);
void kvm_dirty_throttle_vcpu_destroy(KVMDirtyVcpu *d);

/* Look and pay if that is due.  In the vCPU thread, no BQL. */
void kvm_dirty_throttle_pay(KVMDirtyVcpu *d);

/* Have the vCPU look and pay before it enters the guest.  In its thread. */
void kvm_dirty_throttle_want_look(KVMDirtyVcpu *d);

/* Whether the vCPU was kicked, or its timer has run out, to look and pay. */
bool kvm_dirty_throttle_interrupted(KVMDirtyVcpu *d);

/* As DirtyThrottleOps says. */
void kvm_dirty_throttle_charge_and_kick(void);
void kvm_dirty_throttle_watch_time(bool watch);
void kvm_dirty_throttle_wake(void);
void kvm_dirty_throttle_stop_watching(void);

#endif
