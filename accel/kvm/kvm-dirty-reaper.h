/*
 * KVM dirty rings: the reaper
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef ACCEL_KVM_KVM_DIRTY_REAPER_H
#define ACCEL_KVM_KVM_DIRTY_REAPER_H

#include "kvm-dirty-int.h"

/* Start the thread that harvests rings before they are full. */
void kvm_dirty_reaper_init(KVMState *s);

/* Nothing is known of a new vCPU's ring.  While it is not in the list. */
void kvm_dirty_reaper_vcpu_init(KVMDirtyVcpu *d);

/**
 * kvm_dirty_reaper_full: a ring was full, the reaper came too late
 *
 * @fill: entries that there were in the ring then; 0 if that is not known
 *
 * Any thread, under kvm_slots_lock().
 */
void kvm_dirty_reaper_full(KVMDirtyVcpu *d, uint32_t fill);

#endif
