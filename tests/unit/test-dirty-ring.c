/*
 * Unit tests for KVM's dirty rings: whom pages are charged to, and when
 *
 * The guest and KVM are made up: a write to a protected page puts an entry into
 * the ring, and a reset protects the page again.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitmap.h"
#include "qemu/bitops.h"
#include "accel/kvm/kvm-dirty-charge.h"
#include "accel/kvm/kvm-dirty-reset.h"
#include "accel/kvm/kvm-dirty-ring.h"

/* A page is in the ring once at most, so that the ring is never full. */
#define PAGES 16384
#define RING_SIZE (2 * PAGES)

/* More than a batch, so that the lock is given to others in a harvest */
#define MANY 6000

/* KVM, and the guest */
static struct kvm_dirty_gfn ring[RING_SIZE];
static uint32_t put, taken;
static unsigned long *writable, *written;

/* QEMU */
static CPUState *cpu;
static KVMState *s;
static KVMDirtyVcpu vcpu;
static KVMSlot slot;

/* The guest writes so many pages while others have the lock, and they look. */
static unsigned beside;

static void guest_writes(unsigned page)
{
    struct kvm_dirty_gfn *gfn = &ring[put % RING_SIZE];

    set_bit(page, written);
    if (!test_and_set_bit(page, writable)) {
        g_assert_cmpint(gfn->flags, ==, 0);
        gfn->offset = page;
        gfn->flags = KVM_DIRTY_GFN_F_DIRTY;
        put++;
    }
}

static void guest_writes_many(unsigned count)
{
    while (count--) {
        guest_writes(g_test_rand_int_range(0, PAGES));
    }
}

uint64_t kvm_dirty_reset(KVMState *state, uint64_t pages)
{
    for (; pages; pages--, taken++) {
        struct kvm_dirty_gfn *gfn = &ring[taken % RING_SIZE];

        g_assert_cmpint(gfn->flags, ==, KVM_DIRTY_GFN_F_RESET);
        clear_bit(gfn->offset, writable);
        gfn->flags = 0;
    }
    return 0;
}

void kvm_slots_yield(void)
{
    guest_writes_many(beside);
    kvm_dirty_ring_look(&vcpu);
}

/*
 * A dirty sync, as kvm-dirty.c does it: what it finds, and what had been
 * charged when the epoch ended, are the same pages.
 */
static void sync_and_compare(void)
{
    g_autoptr(GPtrArray) old = NULL;

    kvm_dirty_ring_flush(s, true);
    if (slot.charged_bmap) {
        g_assert(bitmap_equal(slot.charged_bmap, slot.dirty_bmap, PAGES));
    } else {
        g_assert(bitmap_empty(slot.dirty_bmap, PAGES));
    }
    old = kvm_dirty_charge_anew(s);
    s->dirty->epoch_due = false;
    bitmap_andnot(written, written, slot.dirty_bmap, PAGES);
    bitmap_zero(slot.dirty_bmap, PAGES);
}

static void begin(void)
{
    memset(ring, 0, sizeof(ring));
    put = 0;
    taken = 0;
    beside = 0;
    bitmap_zero(writable, PAGES);
    bitmap_zero(written, PAGES);
    bitmap_zero(slot.dirty_bmap, PAGES);
    g_clear_pointer(&slot.charged_bmap, g_free);
    vcpu = (KVMDirtyVcpu) { .cpu = cpu, .ring.gfns = ring };
    QLIST_INIT(&s->dirty->vcpus);
    QLIST_INSERT_HEAD(&s->dirty->vcpus, &vcpu, next);
    kvm_dirty_charge_start(s);
}

/* A page is charged once, when somebody looks at its entry or harvests it. */
static void test_once(void)
{
    begin();
    guest_writes(7);
    guest_writes(8);
    kvm_dirty_ring_look(&vcpu);
    g_assert_cmpuint(vcpu.dirtied_pages, ==, 2);

    guest_writes(9);
    kvm_dirty_ring_flush(s, false);
    g_assert_cmpuint(vcpu.dirtied_pages, ==, 3);

    guest_writes(9);
    kvm_dirty_ring_look(&vcpu);
    kvm_dirty_ring_flush(s, false);
    g_assert_cmpuint(vcpu.dirtied_pages, ==, 3);

    sync_and_compare();
    guest_writes(9);
    kvm_dirty_ring_look(&vcpu);
    g_assert_cmpuint(vcpu.dirtied_pages, ==, 4);
}

/* While an epoch is due, nobody looks; else everybody may at any time. */
static void test_epoch_due(void)
{
    begin();
    beside = 100;
    guest_writes_many(MANY);
    kvm_dirty_ring_flush(s, false);
    g_assert_cmpuint(vcpu.ring.looked, >, vcpu.ring.fetch);

    guest_writes_many(MANY);
    kvm_dirty_ring_flush(s, true);
    g_assert_cmpuint(vcpu.ring.looked, ==, vcpu.ring.fetch);
    kvm_dirty_ring_look(&vcpu);
    g_assert_cmpuint(vcpu.ring.looked, ==, vcpu.ring.fetch);

    s->dirty->epoch_due = false;
    kvm_dirty_ring_look(&vcpu);
    g_assert_cmpuint(vcpu.ring.looked, >, vcpu.ring.fetch);
}

/* Whatever comes when: syncs find what was charged, and in the end all. */
static void test_any_order(void)
{
    begin();
    beside = 500;
    for (int i = 0; i < 200; i++) {
        guest_writes_many(g_test_rand_int_range(0, MANY));
        switch (g_test_rand_int_range(0, 4)) {
        case 0:
            kvm_dirty_ring_look(&vcpu);
            break;
        case 1:
            /* The reaper */
            kvm_dirty_ring_flush(s, false);
            break;
        default:
            sync_and_compare();
        }
    }
    beside = 0;
    sync_and_compare();
    g_assert(bitmap_empty(written, PAGES));
}

int main(int argc, char **argv)
{
    static KVMMemoryListener kml = { .slots = &slot, .nr_slots_allocated = 1 };
    static struct KVMAs as = { .ml = &kml };

    writable = bitmap_new(PAGES);
    written = bitmap_new(PAGES);
    slot.memory_size = PAGES * qemu_real_host_page_size();
    slot.dirty_bmap_size = BITS_TO_LONGS(PAGES) * sizeof(unsigned long);
    slot.dirty_bmap = bitmap_new(PAGES);
    s = g_new0(KVMState, 1);
    s->nr_as = 1;
    s->as = &as;
    s->kvm_dirty_ring_size = RING_SIZE;
    s->dirty = g_new0(KVMDirtyTracking, 1);
    cpu = g_new0(CPUState, 1);
    cpu->kvm_state = s;

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/dirty-ring/once", test_once);
    g_test_add_func("/dirty-ring/epoch-due", test_epoch_due);
    g_test_add_func("/dirty-ring/any-order", test_any_order);
    return g_test_run();
}
