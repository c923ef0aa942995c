/*
 * KVM dirty quotas: vCPUs that leave the guest when they have dirtied enough
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef ACCEL_KVM_KVM_DIRTY_QUOTA_H
#define ACCEL_KVM_KVM_DIRTY_QUOTA_H

#include "kvm-dirty-int.h"

/* Find out whether KVM has dirty quotas; once, from kvm_init(). */
void kvm_dirty_quota_init(KVMState *s);

/* A new vCPU has no quota.  While it is not in the list. */
void kvm_dirty_quota_vcpu_init(KVMDirtyVcpu *d);

/*
 * Give every vCPU a quota that has none, used up at its first page, or take
 * all quotas away.  Under kvm_slots_lock().
 */
void kvm_dirty_quota_start(KVMState *s);
void kvm_dirty_quota_stop(KVMState *s);

/**
 * kvm_dirty_quota_set: let a vCPU dirty some more pages
 *
 * @pages: as DirtyThrottleAllowance says
 *
 * In the vCPU thread, not under kvm_slots_lock().
 *
 * Returns: false if vCPUs have no quotas
 */
bool kvm_dirty_quota_set(KVMDirtyVcpu *d, int64_t pages);

/*
 * A vCPU has left KVM_RUN because its quota is used up: take in what KVM has
 * counted.  In its thread, not under kvm_slots_lock(), no BQL.
 */
void kvm_dirty_quota_count(KVMDirtyVcpu *d);

#endif
