/*
 * KVM dirty rings: look and harvest
 *
 * Everything here is called under kvm_slots_lock(), from any thread.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef ACCEL_KVM_KVM_DIRTY_RING_H
#define ACCEL_KVM_KVM_DIRTY_RING_H

#include "kvm-dirty-int.h"

/**
 * kvm_dirty_ring_vcpu_init: map a new vCPU's ring, unless it is
 *
 * Returns: 0, or -errno
 */
int kvm_dirty_ring_vcpu_init(KVMDirtyVcpu *d);

/*
 * Charge the vCPU for what has come into its ring, unless an epoch is due.
 * Reads the shared ring only: no ioctl, nothing is write-protected again, no
 * page gets lost or found.
 */
void kvm_dirty_ring_look(KVMDirtyVcpu *d);

/*
 * Entries that wait in a ring.  Costs a few reads of the shared ring, however
 * many there are.
 */
uint32_t kvm_dirty_ring_fill(KVMDirtyVcpu *d);

/*
 * Mark everything that is in a ring by now to be harvested.
 *
 * @fill: as kvm_dirty_ring_fill() says
 */
void kvm_dirty_ring_mark(KVMDirtyVcpu *d, uint32_t fill);

/* The same for one ring, or all (NULL). */
void kvm_dirty_ring_mark_now(KVMState *s, KVMDirtyVcpu *only);

/**
 * kvm_dirty_ring_reap: harvest what was marked, in batches
 *
 * @only: the only ring to be harvested; NULL: all.  With @yield it is the one
 *        of the calling vCPU.
 * @yield: give the lock to others between the batches
 */
void kvm_dirty_ring_reap(KVMState *s, KVMDirtyVcpu *only, bool yield);

/**
 * kvm_dirty_ring_flush: harvest all that is in the rings by now
 *
 * The lock is given to others between batches.
 *
 * @epoch_due: an epoch begins when the caller says so.  Until then nobody
 *             looks.
 */
void kvm_dirty_ring_flush(KVMState *s, bool epoch_due);

/**
 * kvm_dirty_ring_reap_full: harvest a vCPU's full ring
 *
 * In the vCPU thread.  The lock is given to others between batches.
 *
 * @exit_ns: when the vCPU left the guest
 *
 * Returns: entries that there were in the ring then; 0 if that is not known
 */
uint32_t kvm_dirty_ring_reap_full(KVMDirtyVcpu *d, int64_t exit_ns);

#endif
