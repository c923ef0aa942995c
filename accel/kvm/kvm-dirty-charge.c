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
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "kvm-dirty.h"

/*
 * When an epoch begins
 *
 * During a migration it begins when the migration's sync reads out the slots'
 * bitmaps, under the same hold of kvm_slots_lock().  What was harvested before
 * that belongs to the past, and the sync finds it; what is harvested later
 * belongs to the new epoch, and the next sync finds it.
 *
 * An entry that has been looked at must not lie in its ring at that moment: it
 * would be charged in the past and found in the new epoch.  So nobody looks
 * from the flush's mark to the epoch.  What was looked at before is harvested
 * by the flush.  What comes meanwhile is charged when it is harvested, or
 * looked at in the new epoch.  Until then a debt is not noticed; that is
 * mostly the time of the harvest, some 43 ns for each entry.
 *
 * Let C be the pages charged between two syncs.  Each of them was harvested
 * between the two, so the second sync finds it.  A page that comes through a
 * ring and is found by that sync was harvested between the two as well, and
 * looked at by then, so it is in C.  What the sync finds beyond the number of
 * pages in C, devices have dirtied.
 *
 * Outside a migration an epoch begins once a second, when the throttle thread
 * says so.
 */

void kvm_dirty_charge(KVMDirtyVcpu *d, KVMSlot *mem, uint64_t offset)
{
    if (!kvm_dirty_tracking.charging) {
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
static GPtrArray *kvm_dirty_charge_forget(KVMState *s)
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

GPtrArray *kvm_dirty_epoch_locked(KVMState *s)
{
    KVMDirtyVcpu *d;

    kvm_dirty_tracking.epoch_due = false;
    QLIST_FOREACH(d, &kvm_dirty_tracking.vcpus, next) {
        /* Whether it owes a penalty now is asked at the next look. */
        dirty_throttle_charge(d->cpu->cpu_index, d->dirtied_pages);
    }
    dirty_throttle_epoch_began();
    return kvm_dirty_charge_forget(s);
}

/*
 * No sync has to find what was charged, so what was looked at may stay in the
 * rings.  They are harvested all the same: a page that the guest writes all
 * the time gets into a ring again, and counts again, only after that.
 */
void kvm_dirty_epoch(void)
{
    g_autoptr(GPtrArray) old = NULL;
    KVMDirtyVcpu *d;

    kvm_slots_lock();
    old = kvm_dirty_epoch_locked(kvm_state);
    QLIST_FOREACH(d, &kvm_dirty_tracking.vcpus, next) {
        kvm_dirty_ring_mark(d, kvm_dirty_ring_fill(d));
    }
    kvm_slots_unlock();
    kvm_dirty_ring_reap(kvm_state, NULL);
}

void kvm_dirty_charge_stop(KVMState *s)
{
    g_autoptr(GPtrArray) old = NULL;

    kvm_slots_lock();
    kvm_dirty_tracking.charging = false;
    old = kvm_dirty_charge_forget(s);
    kvm_slots_unlock();
}
