/*
 * KVM dirty rings: write-protect what was harvested, and miss nothing
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef ACCEL_KVM_KVM_DIRTY_RESET_H
#define ACCEL_KVM_KVM_DIRTY_RESET_H

#include "kvm-dirty-int.h"

/* Start a thread that can reset rings for all others; once, from kvm_init(). */
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
uint64_t kvm_dirty_reset(KVMState *s, uint64_t pages);

/*
 * Write-protect what resets may have left writable.  Called with the BQL held,
 * under kvm_slots_lock(), which must be held until the bitmaps of slots have
 * been read out: so no reset comes in between.
 */
void kvm_dirty_reset_repair(KVMState *s);

#endif
