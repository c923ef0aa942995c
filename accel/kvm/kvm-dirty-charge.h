/*
 * KVM dirty rings: whom a dirtied page is charged to
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef ACCEL_KVM_KVM_DIRTY_CHARGE_H
#define ACCEL_KVM_KVM_DIRTY_CHARGE_H

#include "kvm-dirty-int.h"

/*
 * Charge a vCPU for a page that it has dirtied, unless somebody was in this
 * epoch.  Under kvm_slots_lock().
 *
 * @mem: the slot, whose memory is being logged
 * @offset: the page in it
 */
void kvm_dirty_charge(KVMDirtyVcpu *d, KVMSlot *mem, uint64_t offset);

/* Somebody wants to know who dirties memory.  Under kvm_slots_lock(). */
void kvm_dirty_charge_start(KVMState *s);

/**
 * kvm_dirty_charge_stop: nobody wants to know any more
 *
 * Under kvm_slots_lock().
 *
 * Returns: what to free when the lock has been given up
 */
GPtrArray *kvm_dirty_charge_stop(KVMState *s);

/* Let every page count again.  As above. */
GPtrArray *kvm_dirty_charge_anew(KVMState *s);

#endif
