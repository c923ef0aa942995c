/*
 * KVM dirty rings: look and harvest
 *
 * KVM tells in each vCPU's ring which pages the vCPU has dirtied.  A page gets
 * in once, when the write protection of its mapping is lifted, and again only
 * after it was harvested and KVM_RESET_DIRTY_RINGS has protected it again.
 * Looking at a ring is free; harvesting costs the guest a fault for each page
 * that it writes again.
 *
 * Copyright IBM, Corp. 2008
 *           Red Hat, Inc. 2008
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bitmap.h"
#include "qemu/bitops.h"
#include "qemu/error-report.h"
#include "qemu/timer.h"
#include "kvm-dirty-charge.h"
#include "kvm-dirty-reset.h"
#include "kvm-dirty-ring.h"
#include "trace.h"

int kvm_dirty_ring_vcpu_init(KVMDirtyVcpu *d)
{
    KVMState *s = d->cpu->kvm_state;

    d->ring.reaped_ns = get_clock();
    if (s->kvm_dirty_ring_size && !d->ring.gfns) {
        /* MAP_SHARED: the kernel fills the ring, entries go back in it */
        d->ring.gfns = mmap(NULL, s->kvm_dirty_ring_bytes,
                            PROT_READ | PROT_WRITE, MAP_SHARED, d->kvm_fd,
                            qemu_real_host_page_size() *
                            KVM_DIRTY_LOG_PAGE_OFFSET);
        if (d->ring.gfns == MAP_FAILED) {
            d->ring.gfns = NULL;
            return -errno;
        }
    }
    return 0;
}

/* Pairs with the barrier in KVM: what comes with the flag is read after it. */
static bool kvm_dirty_gfn_is_dirty(struct kvm_dirty_gfn *gfn)
{
    return qatomic_load_acquire(&gfn->flags) == KVM_DIRTY_GFN_F_DIRTY;
}

/*
 * The slot that a page lies in.
 *
 * Returns: NULL for an entry that outlived its slot, or the slot's logging
 */
static KVMSlot *kvm_dirty_gfn_slot(KVMState *s, struct kvm_dirty_gfn *gfn)
{
    uint32_t as_id = gfn->slot >> 16, slot_id = gfn->slot & 0xffff;
    KVMMemoryListener *kml;
    KVMSlot *mem;

    if (as_id >= s->nr_as) {
        return NULL;
    }
    kml = s->as[as_id].ml;
    if (slot_id >= kml->nr_slots_allocated) {
        return NULL;
    }
    mem = &kml->slots[slot_id];
    if (gfn->offset >= mem->memory_size / qemu_real_host_page_size()) {
        return NULL;
    }
    return mem->dirty_bmap ? mem : NULL;
}

uint32_t kvm_dirty_ring_fill(KVMDirtyVcpu *d)
{
    KVMState *s = d->cpu->kvm_state;
    uint32_t mask = s->kvm_dirty_ring_size - 1;
    uint32_t first = d->ring.fetch;
    uint32_t low = d->ring.looked - first, high = s->kvm_dirty_ring_size;

    if (!kvm_dirty_gfn_is_dirty(&d->ring.gfns[first & mask])) {
        return 0;
    }
    /*
     * All before low are dirty, and none from high on was.  Dirty ones lie in
     * a row and stay dirty until they are harvested, so halving finds where
     * the row ends, or ended a moment ago.
     */
    while (low < high) {
        uint32_t middle = (low + high) / 2;

        if (kvm_dirty_gfn_is_dirty(&d->ring.gfns[(first + middle) & mask])) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/*
 * KVM has put more into a ring than there is room for.  It does not notice, and
 * has overwritten entries, so that it knows of more of them than the ring has:
 * after those that are in there have been harvested and reset, a gap of entries
 * follows that are not dirty, and then comes what KVM puts in from now on.
 * The gap has to be handed back as if it had been harvested.
 *
 * Nobody knows which pages the lost entries were for.  So all pages of logged
 * slots count as dirty, and are write-protected anew before anybody sees that.
 */
static void kvm_dirty_ring_overrun(KVMDirtyVcpu *d)
{
    KVMState *s = d->cpu->kvm_state;

    warn_report_once("KVM has overrun the dirty ring of vCPU %d: all memory "
                     "counts as dirty", d->cpu->cpu_index);
    trace_kvm_dirty_ring_overrun(d->cpu->cpu_index);
    d->ring.overrun = true;
    s->dirty->reset.suspect = true;
    for (int i = 0; i < s->nr_as; i++) {
        KVMMemoryListener *kml = s->as[i].ml;

        for (int j = 0; kml && j < kml->nr_slots_allocated; j++) {
            KVMSlot *mem = &kml->slots[j];

            if (mem->dirty_bmap) {
                bitmap_set(mem->dirty_bmap, 0,
                           mem->memory_size / qemu_real_host_page_size());
            }
        }
    }
}

/*
 * The gap that an overrun has left where the next entry should be.  0: there
 * is none, or nothing has come after it yet.
 */
static uint32_t kvm_dirty_ring_gap(KVMDirtyVcpu *d)
{
    uint32_t size = d->cpu->kvm_state->kvm_dirty_ring_size;

    for (uint32_t gap = 0; gap < size; gap++) {
        uint32_t i = (d->ring.fetch + gap) & (size - 1);

        if (kvm_dirty_gfn_is_dirty(&d->ring.gfns[i])) {
            return gap;
        }
    }
    return 0;
}

void kvm_dirty_ring_mark(KVMDirtyVcpu *d, uint32_t fill)
{
    uint32_t size = d->cpu->kvm_state->kvm_dirty_ring_size;

    if (fill == size) {
        /* A vCPU leaves the guest before its last 64 entries are used up. */
        kvm_dirty_ring_overrun(d);
    }
    /* Where the entries end cannot be told if there is a gap in between. */
    d->ring.reap_to = d->ring.fetch + (d->ring.overrun ? size : fill);
}

void kvm_dirty_ring_mark_now(KVMState *s, KVMDirtyVcpu *only)
{
    KVMDirtyVcpu *d;

    QLIST_FOREACH(d, &s->dirty->vcpus, next) {
        if (!only || d == only) {
            kvm_dirty_ring_mark(d, kvm_dirty_ring_fill(d));
        }
    }
}

/* Charge for the first entry not looked at, which there is. */
static void kvm_dirty_ring_look_at(KVMDirtyVcpu *d, struct kvm_dirty_gfn *gfn)
{
    KVMSlot *mem = kvm_dirty_gfn_slot(d->cpu->kvm_state, gfn);

    if (mem) {
        kvm_dirty_charge(d, mem, gfn->offset);
    }
    d->ring.looked++;
}

void kvm_dirty_ring_look(KVMDirtyVcpu *d)
{
    KVMState *s = d->cpu->kvm_state;
    uint32_t size = s->kvm_dirty_ring_size;

    while (!s->dirty->epoch_due && d->ring.looked - d->ring.fetch < size) {
        struct kvm_dirty_gfn *gfn = &d->ring.gfns[d->ring.looked & (size - 1)];

        if (!kvm_dirty_gfn_is_dirty(gfn)) {
            break;
        }
        kvm_dirty_ring_look_at(d, gfn);
    }
}

/*
 * Hand an entry of a gap back to KVM.  What KVM does with it is harmless: it
 * protects a page that once was in it.
 *
 * KVM does not put anything into the gap: it goes on behind the entry that the
 * gap was found to end at.  If it gets round to the gap, having overrun the
 * ring once more, that is seen.
 *
 * Returns: false if this entry does not belong to a gap
 */
static bool kvm_dirty_ring_hand_back(KVMDirtyVcpu *d,
                                     struct kvm_dirty_gfn *gfn)
{
    if (!d->ring.gap && d->ring.overrun) {
        d->ring.gap = kvm_dirty_ring_gap(d);
        d->ring.overrun = !d->ring.gap;
    }
    if (!d->ring.gap ||
        qatomic_cmpxchg(&gfn->flags, 0, KVM_DIRTY_GFN_F_RESET)) {
        return false;
    }
    d->ring.gap--;
    d->ring.fetch++;
    d->ring.looked = d->ring.fetch;
    return true;
}

/*
 * Move a vCPU's entries into the slots' bitmaps and hand them back to KVM,
 * which takes them with the next KVM_RESET_DIRTY_RINGS.  Called under
 * kvm_slots_lock(), which must be held until that: a bit that another thread
 * can see before the page is write-protected again would let it send the page
 * and miss a write that comes after.
 *
 * Returns: the number of entries, at most @max
 */
static uint32_t kvm_dirty_ring_harvest(KVMDirtyVcpu *d, uint32_t max)
{
    KVMState *s = d->cpu->kvm_state;
    uint32_t mask = s->kvm_dirty_ring_size - 1;
    uint32_t count = 0;

    trace_kvm_dirty_ring_reap_vcpu(d->cpu->cpu_index);
    while (count < max) {
        struct kvm_dirty_gfn *gfn = &d->ring.gfns[d->ring.fetch & mask];
        KVMSlot *mem;

        if (!kvm_dirty_gfn_is_dirty(gfn)) {
            if (!kvm_dirty_ring_hand_back(d, gfn)) {
                break;
            }
            count++;
            continue;
        }
        d->ring.gap = 0;
        if (d->ring.looked == d->ring.fetch) {
            kvm_dirty_ring_look_at(d, gfn);
        }
        mem = kvm_dirty_gfn_slot(s, gfn);
        if (mem && !test_and_set_bit(gfn->offset, mem->dirty_bmap)) {
            s->dirty->reaped.new_pages++;
        }
        trace_kvm_dirty_ring_page(d->cpu->cpu_index, d->ring.fetch,
                                  gfn->offset);
        /*
         * A release, so that the CPU that does the reset sees the whole entry
         * as this one saw it, even if a third CPU filled it in.
         */
        qatomic_store_release(&gfn->flags, KVM_DIRTY_GFN_F_RESET);
        d->ring.fetch++;
        count++;
    }
    /* The distance tells what is marked; it must not wrap around. */
    if ((int32_t)(d->ring.reap_to - d->ring.fetch) < 0) {
        d->ring.reap_to = d->ring.fetch;
    }
    d->ring.reaped_ns = get_clock();
    d->ring.reaped_pages += count;
    /* calc-dirty-rate reads it without the lock. */
    qatomic_set__nocheck(&d->cpu->dirty_pages, d->cpu->dirty_pages + count);

    return count;
}

/*
 * So many entries are harvested and reset before the slots lock is given to
 * those who wait for it.  That takes about 180 us, some 43 ns for each.  A
 * reset makes all vCPUs flush their TLBs, and therefore batches are not small.
 */
#define REAP_BATCH_PAGES 4096

/* Whether KVM has no entry left to put anything in. */
static bool kvm_dirty_ring_has_no_room(KVMState *s, KVMDirtyVcpu *d)
{
    for (uint32_t i = 0; i < s->kvm_dirty_ring_size; i++) {
        if (!qatomic_read(&d->ring.gfns[i].flags)) {
            return false;
        }
    }
    return true;
}

/*
 * KVM has not reset the last @left entries that were harvested: it has overrun
 * their ring since, and what it put in is not handed back.  So do that now.
 */
static void kvm_dirty_ring_harvest_again(KVMState *s, uint32_t left)
{
    uint32_t mask = s->kvm_dirty_ring_size - 1;
    uint32_t again = 0, rings = 0;
    KVMDirtyVcpu *d;

    QLIST_FOREACH(d, &s->dirty->vcpus, next) {
        if (!kvm_dirty_ring_has_no_room(s, d)) {
            continue;
        }
        /* All pages count as dirty now, which sets the bits of these. */
        kvm_dirty_ring_overrun(d);
        rings++;
        for (uint32_t i = d->ring.fetch - left; i != d->ring.fetch; i++) {
            again += kvm_dirty_gfn_is_dirty(&d->ring.gfns[i & mask]);
            qatomic_store_release(&d->ring.gfns[i & mask].flags,
                                  KVM_DIRTY_GFN_F_RESET);
        }
    }
    /* With two such rings nothing tells how much is left of which. */
    if (rings != 1 || !again) {
        error_report("KVM_RESET_DIRTY_RINGS: %" PRIu32 " entries that were "
                     "harvested cannot be reset", left);
        abort();
    }
}

/*
 * Harvest a batch of what is marked, of one vCPU or all (NULL).  Under
 * kvm_slots_lock().
 *
 * Returns: how many entries; REAP_BATCH_PAGES if there may be more
 */
static uint32_t kvm_dirty_ring_reap_batch(KVMState *s, KVMDirtyVcpu *only)
{
    DirtyReaperInfo *reaped = &s->dirty->reaped;
    int64_t start_ns = get_clock();
    uint32_t count = 0;
    KVMDirtyVcpu *d;

    QLIST_FOREACH(d, &s->dirty->vcpus, next) {
        uint32_t marked = d->ring.reap_to - d->ring.fetch;

        if (marked && (!only || d == only)) {
            count += kvm_dirty_ring_harvest(d, MIN(marked,
                                                   REAP_BATCH_PAGES - count));
        }
        if (count == REAP_BATCH_PAGES) {
            break;
        }
    }
    if (count) {
        uint64_t left = count;

        while ((left = kvm_dirty_reset(s, left))) {
            kvm_dirty_ring_harvest_again(s, left);
        }
        reaped->reaped_pages += count;
        reaped->time_ns += get_clock() - start_ns;
        trace_kvm_dirty_ring_reap(count, (get_clock() - start_ns) / SCALE_US);
    }
    return count;
}

void kvm_dirty_ring_reap(KVMState *s, KVMDirtyVcpu *only, bool yield)
{
    uint32_t count = kvm_dirty_ring_reap_batch(s, only);

    s->dirty->reaped.reaps += count > 0;
    while (count == REAP_BATCH_PAGES) {
        if (yield) {
            kvm_slots_yield();
        }
        count = kvm_dirty_ring_reap_batch(s, only);
    }
}

void kvm_dirty_ring_flush(KVMState *s, bool epoch_due)
{
    /* What is marked now is all that had been dirtied; the rest can wait. */
    kvm_dirty_ring_mark_now(s, NULL);
    s->dirty->epoch_due = epoch_due;
    kvm_dirty_ring_reap(s, NULL, true);
}

/*
 * A ring that is full, but without entries, is all right if somebody has
 * harvested it since it was full the last time.  Otherwise KVM has overrun it,
 * and would never let the vCPU go on: what it takes for entries is a gap.  If
 * nothing tells where the gap ends, a quarter of the ring is handed back, so
 * that the vCPU goes on and KVM puts an entry behind it.
 *
 * So much is always part of the gap.  KVM takes a ring for full when all but a
 * reserve of 64 entries are in use, or of 576 with page-modification logging.
 * It refuses rings that are smaller than that or than a page: so a ring has at
 * least 256 entries and is full with 192, or 1024 and 448.
 */
static void kvm_dirty_ring_check_full(KVMDirtyVcpu *d)
{
    uint32_t size = d->cpu->kvm_state->kvm_dirty_ring_size;

    if (kvm_dirty_gfn_is_dirty(&d->ring.gfns[d->ring.fetch & (size - 1)]) ||
        d->ring.reaped_pages != d->ring.full_reaped_pages) {
        return;
    }
    kvm_dirty_ring_overrun(d);
    if (!kvm_dirty_ring_gap(d)) {
        d->ring.gap = size / 4;
    }
    kvm_dirty_ring_mark(d, d->ring.gap);
}

uint32_t kvm_dirty_ring_reap_full(KVMDirtyVcpu *d, int64_t exit_ns)
{
    uint32_t fill = kvm_dirty_ring_fill(d);

    kvm_dirty_ring_mark(d, fill);
    /* Who waited for the lock may have waited for a harvest of this ring. */
    if (d->ring.reaped_ns >= exit_ns) {
        fill = 0;
    }
    kvm_dirty_ring_check_full(d);
    kvm_dirty_ring_reap(d->cpu->kvm_state, d, true);
    d->ring.full_reaped_pages = d->ring.reaped_pages;
    return fill;
}
