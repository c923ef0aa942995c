/*
 * KVM: how much vCPUs have really dirtied, as logs show
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef ACCEL_KVM_KVM_DIRTY_FOUND_H
#define ACCEL_KVM_KVM_DIRTY_FOUND_H

#include "kvm-dirty-int.h"

/*
 * From now on what is found counts, if that was not yet so; or it does not.
 * Under kvm_slots_lock().
 */
void kvm_dirty_found_start(KVMState *s);
void kvm_dirty_found_stop(KVMState *s);

/* Nothing was found yet.  Under kvm_slots_lock(). */
void kvm_dirty_found_reset(KVMState *s);

/*
 * A slot's log is read out into its bitmap between these two.  Under
 * kvm_slots_lock().
 */
void kvm_dirty_found_read_begin(KVMState *s, KVMSlot *mem);
void kvm_dirty_found_read_end(KVMState *s, KVMSlot *mem);

/* As DirtyThrottleOps says.  Not under kvm_slots_lock(). */
uint64_t kvm_dirty_found_take(void);
bool kvm_dirty_found_look_ahead(void);

#endif
