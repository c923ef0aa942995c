/*
 * Dirty throttle tests: what a QEMU asks of KVM's dirty rings
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef DIRTYTHROTTLE_KVM_SHIM_H
#define DIRTYTHROTTLE_KVM_SHIM_H

#include <stdbool.h>
#include <stdint.h>

/* A file of this layout; kvmshim.py has it, too. */
typedef struct KvmShimCounters {
    /* entries that a ring has room for; 0 before KVM was told */
    uint64_t ring_size;
    /* exits for a full ring, and of how many the vCPU has gone on since */
    uint64_t full;
    uint64_t handled;
    /* from such an exit to the next entry: time, and the vCPU thread's CPU */
    uint64_t handled_ns;
    uint64_t handled_cpu_ns;
    /* the longest; whoever reads may set it to 0 and so begin anew */
    uint64_t handled_max_ns;
    /* calls of KVM_RESET_DIRTY_RINGS that reset any entries */
    uint64_t resets;
    /*
     * entries reset: pages write-protected again; and of those the reaper's:
     * all that were reset while no vCPU waited because its ring was full
     */
    uint64_t reset_entries;
    uint64_t reaper_entries;
    /* how often the reaper's wait was made a shorter one */
    uint64_t shortened;
} KvmShimCounters;

extern KvmShimCounters *kvm_shim_counters;

/* Whether the calling thread is QEMU's reaper, by its name */
bool kvm_shim_in_reaper(void);

#endif
