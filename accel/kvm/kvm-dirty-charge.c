/*
 * KVM dirty rings: whom a dirtied page is charged to
 *
 * A page is charged once in an epoch, to the vCPU in whose ring it shows up
 * first.  What has been charged is in a bitmap of its own beside the one in
 * which a slot's dirty pages are collected.  That one is emptied by everybody
 * who syncs dirty memory, for a display 30 times a second; and KVM puts pages
 * that it writes itself, with steal time for example, into a ring again and
 * again.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "kvm-dirty-charge.h"

void kvm_dirty_charge(KVMDirtyVcpu *d, KVMSlot *mem, uint64_t offset)
{
    if (!d->cpu->kvm_state->dirty->charge.charging) {
        return;
    }
    if (!mem->charged_bmap) {
        mem->charged_bmap = g_malloc0(mem->dirty_bmap_size);
    }
    if (!test_and_set_bit(offset, mem->charged_bmap)) {
        d->dirtied_pages++;
    }
}

/*
 * Take all bitmaps away; the next page charged gets a new one.  That is fresh
 * memory, which costs a fault for every 4 KiB of it that is used, 128 MiB of
 * the guest's memory.  Clearing them would mean 400 MB under kvm_slots_lock()
 * for a guest of 12 TiB, however little of it was dirtied.
 */
GPtrArray *kvm_dirty_charge_anew(KVMState *s)
{
    GPtrArray *old = g_ptr_array_new_with_free_func(g_free);

    for (int i = 0; i < s->nr_as; i++) {
        KVMMemoryListener *kml = s->as[i].ml;

        for (unsigned j = 0; kml && j < kml->nr_slots_allocated; j++) {
            if (kml->slots[j].charged_bmap) {
                g_ptr_array_add(old,
                                g_steal_pointer(&kml->slots[j].charged_bmap));
            }
        }
    }
    return old;
}

void kvm_dirty_charge_start(KVMState *s)
{
    s->dirty->charge.charging = true;
}

GPtrArray *kvm_dirty_charge_stop(KVMState *s)
{
    s->dirty->charge.charging = false;
    return kvm_dirty_charge_anew(s);
}
