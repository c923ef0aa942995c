/*
 * KVM: how long vCPUs run, where nothing tells who dirties memory
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef ACCEL_KVM_KVM_DIRTY_TIME_H
#define ACCEL_KVM_KVM_DIRTY_TIME_H

#include "kvm-dirty-int.h"

/* From now on time counts, or does not.  Under kvm_slots_lock(). */
void kvm_dirty_time_watch(KVMState *s, bool watch);

/* Add the time that a vCPU has run to what is told.  Under kvm_slots_lock(). */
void kvm_dirty_time_look(KVMDirtyVcpu *d);

#endif
