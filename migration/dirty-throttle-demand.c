/*
 * Dirty throttle: what vCPUs dirty while nobody slows them
 *
 * That is noted while calc-dirty-rate is at work, and in the first pass of a
 * migration.  So is how much memory there is to dirty.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#ifdef CONFIG_LINUX
#include <sys/mman.h>
#endif
#include "qemu/cutils.h"
#include "qemu/lockable.h"
#include "qemu/rcu.h"
#include "exec/ramblock.h"
#include "dirty-throttle-int.h"
#include "ram.h"

/* Of so many pages the part that is not zero is known within two percent. */
#define SAMPLES 4096

/* Is a page there, and not zero?  Reading one that is not might make one. */
static bool demands_is_used(void *page)
{
    size_t size = qemu_real_host_page_size();
#ifdef CONFIG_LINUX
    unsigned char resident;

    if (mincore(page, size, &resident) || !(resident & 1)) {
        return false;
    }
#endif
    return !buffer_is_zero(page, size);
}

DirtyMemory dirty_throttle_memory(void)
{
    DirtyMemory memory = { };
    uint64_t size = 0;
    g_autoptr(GRand) rand = g_rand_new();
    RAMBlock *block;

    RCU_READ_LOCK_GUARD();
    RAMBLOCK_FOREACH_MIGRATABLE(block) {
        size += block->used_length;
    }
    RAMBLOCK_FOREACH_MIGRATABLE(block) {
        uint64_t pages = block->used_length / qemu_real_host_page_size();
        uint64_t samples = DIV_ROUND_UP(SAMPLES * (double)block->used_length,
                                        size);
        uint64_t found = 0;

        for (uint64_t i = 0; i < samples; i++) {
            uint64_t page = g_rand_double(rand) * pages;

            found += demands_is_used(block->host +
                                     page * qemu_real_host_page_size());
        }
        if (samples) {
            memory.used_pages += (double)pages * found / samples;
        }
        memory.all_pages += pages;
    }
    return memory;
}

void dirty_throttle_count_demands(DirtyThrottle *t, int64_t from_ns)
{
    t->demands_ns = from_ns;
    for (unsigned i = 0; i < t->nr_vcpus; i++) {
        DirtyThrottleVcpu *vcpu = &t->vcpus[i];

        QEMU_LOCK_GUARD(&vcpu->lock);
        vcpu->demand = (DirtyDemand) { };
        vcpu->demand_from_pages = vcpu->v.dirtied_pages;
    }
}

/* What vCPUs have dirtied since demands count.  Called with t->lock held. */
static void demands_note(DirtyThrottle *t, int64_t now_ns)
{
    for (unsigned i = 0; i < t->nr_vcpus; i++) {
        DirtyThrottleVcpu *vcpu = &t->vcpus[i];

        QEMU_LOCK_GUARD(&vcpu->lock);
        dirty_demand_note(&vcpu->demand, now_ns - t->demands_ns,
                          dirty_pages_since(vcpu->v.dirtied_pages,
                                            vcpu->demand_from_pages));
    }
}

void dirty_throttle_note_demands(DirtyThrottle *t, int64_t now_ns)
{
    const DirtyEngine *e = &t->migration.engine;

    if (t->migration.active) {
        if (e->iteration.number != 1 || e->phase != DIRTY_PHASE_FIRST_PASS) {
            return;
        }
        if (t->demands_ns != e->iteration_ns) {
            dirty_throttle_count_demands(t, e->iteration_ns);
        }
    } else if (!t->watching_demands) {
        return;
    }
    demands_note(t, now_ns);
}

void dirty_throttle_correct_demands(DirtyThrottle *t)
{
    for (unsigned i = 0; i < t->nr_vcpus; i++) {
        DirtyThrottleVcpu *vcpu = &t->vcpus[i];

        QEMU_LOCK_GUARD(&vcpu->lock);
        dirty_demand_correct(&vcpu->demand,
                             dirty_pages_since(vcpu->v.dirtied_pages,
                                               vcpu->demand_from_pages));
    }
}
