/*
 * KVM dirty rings: look, harvest, reset
 *
 * KVM tells in each vCPU's ring which pages the vCPU has dirtied.  A page gets
 * in once, when the write protection of its mapping is lifted, and again only
 * after it was harvested and KVM_RESET_DIRTY_RINGS has protected it again.
 * Looking at a ring is free; harvesting costs the guest a fault for each page
 * that it writes again.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bitmap.h"
#include "qemu/bitops.h"
#include "qemu/error-report.h"
#include "qemu/timer.h"
#include "kvm-dirty.h"
#include "trace.h"

KVMDirtyTracking kvm_dirty_tracking;

/*
 * Rings of vCPUs that were unplugged.  KVM keeps such a vCPU until the VM ends
 * (see kvm_parked_vcpus) and remembers where its ring stands, so this has to be
 * remembered, too.  Under the BQL.
 */
static QLIST_HEAD(, KVMDirtyVcpu) kvm_dirty_parked =
    QLIST_HEAD_INITIALIZER(kvm_dirty_parked);

static KVMDirtyVcpu *kvm_dirty_vcpu_unpark(CPUState *cpu)
{
    KVMDirtyVcpu *d;

    QLIST_FOREACH(d, &kvm_dirty_parked, next) {
        if (d->kvm_fd == cpu->kvm_fd) {
            QLIST_REMOVE(d, next);
            return d;
        }
    }
    return g_new0(KVMDirtyVcpu, 1);
}

int kvm_dirty_vcpu_init(CPUState *cpu)
{
    KVMState *s = cpu->kvm_state;
    KVMDirtyVcpu *d = kvm_dirty_vcpu_unpark(cpu);

    d->cpu = cpu;
    d->kvm_fd = cpu->kvm_fd;
    d->reaped_ns = get_clock();
    d->pace = (DirtyRingPace) { 0 };
    cpu->kvm_dirty = d;
    d->count_known = false;
    d->has_quota = false;
    if (!s->kvm_dirty_ring_size && !kvm_dirty_tracking.can_quota) {
        return 0;
    }

    if (s->kvm_dirty_ring_size && !d->gfns) {
        /* MAP_SHARED: the kernel fills the ring, entries go back in it */
        d->gfns = mmap(NULL, s->kvm_dirty_ring_bytes, PROT_READ | PROT_WRITE,
                       MAP_SHARED, cpu->kvm_fd, qemu_real_host_page_size() *
                       KVM_DIRTY_LOG_PAGE_OFFSET);
        if (d->gfns == MAP_FAILED) {
            d->gfns = NULL;
            return -errno;
        }
    }

    kvm_dirty_throttle_vcpu_init(d);
    dirty_throttle_vcpu_reset(cpu->cpu_index);
    kvm_slots_lock();
    QLIST_INSERT_HEAD(&kvm_dirty_tracking.vcpus, d, next);
    d->listed = true;
    kvm_slots_unlock();
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
    uint32_t low = d->looked - d->fetch, high = s->kvm_dirty_ring_size;

    if (!kvm_dirty_gfn_is_dirty(&d->gfns[d->fetch & mask])) {
        return 0;
    }
    /*
     * All before low are dirty, and none from high on was.  Dirty ones lie in
     * a row and stay dirty until they are harvested, so halving finds where
     * the row ends, or ended a moment ago.
     */
    while (low < high) {
        uint32_t middle = (low + high) / 2;

        if (kvm_dirty_gfn_is_dirty(&d->gfns[(d->fetch + middle) & mask])) {
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
    d->overrun = true;
    kvm_dirty_tracking.reset.suspect = true;
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
        if (kvm_dirty_gfn_is_dirty(&d->gfns[(d->fetch + gap) & (size - 1)])) {
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
    d->reap_to = d->fetch + (d->overrun ? size : fill);
}

/* Charge for the first entry not looked at, which there is. */
static void kvm_dirty_ring_look_at(KVMDirtyVcpu *d, struct kvm_dirty_gfn *gfn)
{
    KVMSlot *mem = kvm_dirty_gfn_slot(d->cpu->kvm_state, gfn);

    if (mem) {
        kvm_dirty_charge(d, mem, gfn->offset);
    }
    d->looked++;
}

uint64_t kvm_dirty_ring_look(KVMDirtyVcpu *d)
{
    uint32_t size = d->cpu->kvm_state->kvm_dirty_ring_size;

    while (!kvm_dirty_tracking.epoch_due && d->looked - d->fetch < size) {
        struct kvm_dirty_gfn *gfn = &d->gfns[d->looked & (size - 1)];

        if (!kvm_dirty_gfn_is_dirty(gfn)) {
            break;
        }
        kvm_dirty_ring_look_at(d, gfn);
    }
    return d->dirtied_pages;
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
    if (!d->gap && d->overrun) {
        d->gap = kvm_dirty_ring_gap(d);
        d->overrun = !d->gap;
    }
    if (!d->gap || qatomic_cmpxchg(&gfn->flags, 0, KVM_DIRTY_GFN_F_RESET)) {
        return false;
    }
    d->gap--;
    d->fetch++;
    d->looked = d->fetch;
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
        struct kvm_dirty_gfn *gfn = &d->gfns[d->fetch & mask];
        KVMSlot *mem;

        if (!kvm_dirty_gfn_is_dirty(gfn)) {
            if (!kvm_dirty_ring_hand_back(d, gfn)) {
                break;
            }
            count++;
            continue;
        }
        d->gap = 0;
        if (d->looked == d->fetch) {
            kvm_dirty_ring_look_at(d, gfn);
        }
        mem = kvm_dirty_gfn_slot(s, gfn);
        if (mem && !test_and_set_bit(gfn->offset, mem->dirty_bmap)) {
            kvm_dirty_tracking.reaped.new_pages++;
        }
        trace_kvm_dirty_ring_page(d->cpu->cpu_index, d->fetch, gfn->offset);
        /*
         * A release, so that the CPU that does the reset sees the whole entry
         * as this one saw it, even if a third CPU filled it in.
         */
        qatomic_store_release(&gfn->flags, KVM_DIRTY_GFN_F_RESET);
        d->fetch++;
        count++;
    }
    /* The distance tells what is marked; it must not wrap around. */
    if ((int32_t)(d->reap_to - d->fetch) < 0) {
        d->reap_to = d->fetch;
    }
    d->reaped_ns = get_clock();
    d->reaped_pages += count;
    d->cpu->dirty_pages += count;

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
        if (!qatomic_read(&d->gfns[i].flags)) {
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

    QLIST_FOREACH(d, &kvm_dirty_tracking.vcpus, next) {
        if (!kvm_dirty_ring_has_no_room(s, d)) {
            continue;
        }
        /* All pages count as dirty now, which sets the bits of these. */
        kvm_dirty_ring_overrun(d);
        rings++;
        for (uint32_t i = d->fetch - left; i != d->fetch; i++) {
            again += kvm_dirty_gfn_is_dirty(&d->gfns[i & mask]);
            qatomic_store_release(&d->gfns[i & mask].flags,
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
    DirtyReaperInfo *reaped = &kvm_dirty_tracking.reaped;
    int64_t start_ns = get_clock();
    uint32_t count = 0;
    KVMDirtyVcpu *d;

    QLIST_FOREACH(d, &kvm_dirty_tracking.vcpus, next) {
        uint32_t marked = d->reap_to - d->fetch;

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

        while ((left = kvm_dirty_reset(left))) {
            kvm_dirty_ring_harvest_again(s, left);
        }
        reaped->reaped_pages += count;
        reaped->time_ns += get_clock() - start_ns;
        trace_kvm_dirty_ring_reap(count, (get_clock() - start_ns) / SCALE_US);
    }
    return count;
}

/* Harvest what is marked of one ring, or of all (NULL).  As above. */
static void kvm_dirty_ring_reap_marked(KVMState *s, KVMDirtyVcpu *d, bool yield)
{
    uint32_t count = kvm_dirty_ring_reap_batch(s, d);

    kvm_dirty_tracking.reaped.reaps += count > 0;
    while (count == REAP_BATCH_PAGES) {
        if (yield) {
            kvm_slots_yield();
        }
        count = kvm_dirty_ring_reap_batch(s, d);
    }
}

void kvm_dirty_ring_reap(KVMState *s, KVMDirtyVcpu *d)
{
    kvm_slots_lock();
    kvm_dirty_ring_reap_marked(s, d, true);
    kvm_slots_unlock();
}

/* Mark all that is in one ring, or in all (NULL).  Under kvm_slots_lock(). */
static void kvm_dirty_ring_mark_one_or_all(KVMDirtyVcpu *only)
{
    KVMDirtyVcpu *d;

    QLIST_FOREACH(d, &kvm_dirty_tracking.vcpus, next) {
        if (!only || d == only) {
            kvm_dirty_ring_mark(d, kvm_dirty_ring_fill(d));
        }
    }
}

void kvm_dirty_ring_reap_locked(KVMState *s, KVMDirtyVcpu *d)
{
    kvm_dirty_ring_mark_one_or_all(d);
    kvm_dirty_ring_reap_marked(s, d, false);
}

void kvm_dirty_vcpu_destroy(CPUState *cpu)
{
    KVMDirtyVcpu *d = cpu->kvm_dirty;

    if (d->listed) {
        kvm_slots_lock();
        if (d->gfns) {
            /* What the vCPU has dirtied stays dirty without it. */
            kvm_dirty_ring_reap_locked(cpu->kvm_state, d);
        }
        QLIST_REMOVE(d, next);
        d->listed = false;
        kvm_slots_unlock();
        dirty_throttle_vcpu_reset(cpu->cpu_index);
        kvm_dirty_throttle_vcpu_destroy(d);
    }
    cpu->kvm_dirty = NULL;
    d->cpu = NULL;
    QLIST_INSERT_HEAD(&kvm_dirty_parked, d, next);
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

    if (kvm_dirty_gfn_is_dirty(&d->gfns[d->fetch & (size - 1)]) ||
        d->reaped_pages != d->full_reaped_pages) {
        return;
    }
    kvm_dirty_ring_overrun(d);
    if (!kvm_dirty_ring_gap(d)) {
        d->gap = size / 4;
    }
    kvm_dirty_ring_mark(d, d->gap);
}

/*
 * Only the vCPU's own ring: it is the one that is full, and harvesting the
 * others would make their vCPUs fault again for nothing.
 *
 * No BQL is needed.  Rings and bitmaps are under kvm_slots_lock(); slots come
 * and go, logging starts and bitmaps are read out under that lock too, so an
 * entry meets either the bitmap it belongs to or none.  A sync takes the lock
 * to harvest and once more to read the bitmaps out: what is added between the
 * two, by this harvest or the reaper's, was write-protected again before the
 * lock was given up, so it is as good as harvested by the sync itself.  If the
 * reset was suspect, that is made up for under the same hold of the lock under
 * which the bitmaps are read out.
 */
void kvm_dirty_ring_full(CPUState *cpu)
{
    KVMDirtyVcpu *d = cpu->kvm_dirty;
    int64_t exit_ns = get_clock();
    uint32_t fill;

    trace_kvm_dirty_ring_full(cpu->cpu_index);
    kvm_slots_lock();
    fill = kvm_dirty_ring_fill(d);
    kvm_dirty_ring_mark(d, fill);
    /* Who waited for the lock may have waited for a harvest of this ring. */
    if (d->reaped_ns >= exit_ns) {
        fill = 0;
    }
    kvm_dirty_ring_check_full(d);
    kvm_dirty_ring_reap_marked(cpu->kvm_state, d, true);
    d->full_reaped_pages = d->reaped_pages;
    kvm_dirty_reaper_full(d, fill);
    kvm_slots_unlock();

    dirty_throttle_ring_full(cpu->cpu_index);
    if (dirty_throttle_in_service()) {
        qatomic_set(&d->look_due, true);
    }
}

void kvm_dirty_ring_flush(KVMState *s, bool epoch_due)
{
    trace_kvm_dirty_ring_flush(0);
    /* Hardware may buffer dirty pages until its vCPU leaves the guest. */
    kvm_dirty_vcpus_leave();
    /* What is marked now is all that had been dirtied; the rest can wait. */
    kvm_slots_lock();
    kvm_dirty_ring_mark_one_or_all(NULL);
    kvm_dirty_tracking.epoch_due |= epoch_due;
    kvm_slots_unlock();
    kvm_dirty_ring_reap(s, NULL);
    trace_kvm_dirty_ring_flush(1);
}
