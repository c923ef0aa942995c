/*
 * KVM: how much vCPUs have really dirtied, as logs show
 *
 * Where vCPUs are charged by estimates, this is the truth to compare with: the
 * pages that get dirty in the log of a slot.  A page counts once until its bit
 * is cleared, which a migration does just before it sends the page.  A display
 * clears the bits of its picture at each refresh, so that these pages would
 * count again and again: they are left out.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitmap.h"
#include "sysemu/kvm.h"
#include "kvm-dirty-found.h"
#include "trace.h"

static uint64_t kvm_dirty_slot_pages(KVMSlot *mem)
{
    return mem->memory_size / qemu_real_host_page_size();
}

static bool kvm_dirty_found_counts(KVMState *s, KVMSlot *mem)
{
    return s->dirty->found.counting && mem->log_known && !mem->shown;
}

void kvm_dirty_found_reset(KVMState *s)
{
    s->dirty->found.pages = 0;
    s->dirty->found.ahead_pages = 0;
    s->dirty->found.taken_pages = 0;
}

void kvm_dirty_found_start(KVMState *s)
{
    if (!s->dirty->found.supported || s->dirty->found.counting) {
        return;
    }
    s->dirty->found.counting = true;
    kvm_dirty_found_reset(s);
    for (int i = 0; i < s->nr_as; i++) {
        KVMMemoryListener *kml = s->as[i].ml;

        for (unsigned j = 0; kml && j < kml->nr_slots_allocated; j++) {
            kml->slots[j].log_known = false;
        }
    }
}

void kvm_dirty_found_stop(KVMState *s)
{
    s->dirty->found.counting = false;
    g_clear_pointer(&s->dirty->found.ahead_bmap, g_free);
    s->dirty->found.ahead_size = 0;
}

/*
 * With manual protection the log keeps the bits that were not cleared yet, and
 * the slot's bitmap has those from the last time.  Else reading clears them.
 */
void kvm_dirty_found_read_begin(KVMState *s, KVMSlot *mem)
{
    s->dirty->found.known_pages = 0;
    if (kvm_dirty_found_counts(s, mem) && mem->dirty_bmap &&
        s->manual_dirty_log_protect) {
        s->dirty->found.known_pages =
            bitmap_count_one(mem->dirty_bmap, kvm_dirty_slot_pages(mem));
    }
}

/*
 * A log that is read for the first time may begin with all bits set.  One that
 * was begun anew since the last time may have fewer bits than were known.
 */
void kvm_dirty_found_read_end(KVMState *s, KVMSlot *mem)
{
    if (kvm_dirty_found_counts(s, mem)) {
        uint64_t pages = bitmap_count_one(mem->dirty_bmap,
                                          kvm_dirty_slot_pages(mem));

        if (pages > s->dirty->found.known_pages) {
            s->dirty->found.pages += pages - s->dirty->found.known_pages;
        }
    }
    mem->log_known = true;
}

uint64_t kvm_dirty_found_take(void)
{
    KVMDirtyTracking *t = kvm_state->dirty;
    uint64_t pages;

    kvm_slots_lock();
    pages = MAX(t->found.pages, t->found.ahead_pages);
    pages = pages > t->found.taken_pages ? pages - t->found.taken_pages : 0;
    t->found.taken_pages += pages;
    kvm_slots_unlock();
    return pages;
}

/* In the log, but not yet in the slot's bitmap.  Under kvm_slots_lock(). */
static uint64_t kvm_dirty_found_in_slot(KVMState *s, KVMSlot *mem)
{
    struct kvm_dirty_log log = { .slot = mem->slot | (mem->as_id << 16) };
    uint64_t longs = BITS_TO_LONGS(kvm_dirty_slot_pages(mem)), pages = 0;

    if (!(mem->flags & KVM_MEM_LOG_DIRTY_PAGES) || !mem->dirty_bmap ||
        !kvm_dirty_found_counts(s, mem)) {
        return 0;
    }
    if (s->dirty->found.ahead_size < mem->dirty_bmap_size) {
        g_free(s->dirty->found.ahead_bmap);
        s->dirty->found.ahead_bmap = g_malloc(mem->dirty_bmap_size);
        s->dirty->found.ahead_size = mem->dirty_bmap_size;
    }
    log.dirty_bitmap = s->dirty->found.ahead_bmap;
    if (kvm_vm_ioctl(s, KVM_GET_DIRTY_LOG, &log)) {
        return 0;
    }
    for (uint64_t i = 0; i < longs; i++) {
        unsigned long found = s->dirty->found.ahead_bmap[i] &
                              ~mem->dirty_bmap[i];

        /* Mostly there is none. */
        pages += found ? ctpopl(found) : 0;
    }
    return pages;
}

/*
 * With manual protection, reading a log changes nothing: its bits stay there
 * for the next sync, and as no bitmap of QEMU's gets them, nobody clears them
 * before that.  So this needs no BQL, and costs a copy of the log.
 */
bool kvm_dirty_found_look_ahead(void)
{
    KVMState *s = kvm_state;
    uint64_t pages = 0;

    if (!s->manual_dirty_log_protect) {
        return false;
    }
    kvm_slots_lock();
    for (int i = 0; i < s->nr_as; i++) {
        KVMMemoryListener *kml = s->as[i].ml;

        for (unsigned j = 0; kml && j < kml->nr_slots_allocated; j++) {
            if (kml->slots[j].memory_size) {
                pages += kvm_dirty_found_in_slot(s, &kml->slots[j]);
            }
        }
    }
    s->dirty->found.ahead_pages = s->dirty->found.pages + pages;
    kvm_slots_unlock();
    trace_kvm_dirty_found_look_ahead(pages);
    return true;
}
