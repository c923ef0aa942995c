/*
 * KVM dirty rings: write-protect what was harvested, and miss nothing
 *
 * Copyright IBM, Corp. 2008
 *           Red Hat, Inc. 2008
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include "qemu/atomic.h"
#include "qemu/error-report.h"
#include "qemu/rcu.h"
#include "kvm-dirty-hold.h"
#include "kvm-dirty-reset.h"
#include "trace.h"

/*
 * KVM_RESET_DIRTY_RINGS goes through all rings.  It gathers up to 64 pages that
 * lie close together, counting each as it takes it out of its ring, and
 * protects them when it meets one that lies elsewhere, and at the end of a
 * ring.  Since Linux 6.16 it looks for a pending signal before each entry, and
 * once more at the end of a ring.  If there is one it returns at once: the
 * pages that it has gathered are counted, but stay writable, and what the
 * guest writes there from now on is in no ring.
 *
 * To KVM a signal is pending whenever the thread has something to do before it
 * goes back to user space:
 *
 * - a signal that it does not block;
 * - task work, for example of io_uring, which completes requests in the thread
 *   that submitted them;
 * - that it has to stop, for SIGSTOP, a freezer or a debugger.
 *
 * So the ioctl is done with all signals blocked, and by a thread that has never
 * submitted I/O which is completed in it: the calling thread, or if that has,
 * one that does nothing else.  Most vCPU threads do no I/O; and to be handed
 * over a full ring would wait for two threads to be woken up, which takes
 * milliseconds while vCPUs keep all CPUs busy.  (glibc keeps two signals for
 * itself, for setuid() and for pthread_cancel(): QEMU calls the former before
 * vCPUs run, the latter never.  Live patching has the kernel wake only threads
 * that do not get back to user space for seconds.)  Nobody but who harvested
 * waits for the other thread, with kvm_slots_lock() held, and it takes no lock
 * itself.
 *
 * A stop cannot be kept away, but does not remain unseen.  Once requested it
 * stays pending until the ioctl returns, so that
 *
 * - if KVM saw it before the last entry, fewer entries were reset than had been
 *   harvested;
 * - if KVM saw it only at the end, all are counted, but the thread sleeps
 *   before the ioctl is back in user space, and the kernel counts such sleeps.
 *
 * In both cases the reset is suspect.  (Only if it is requested in the some
 * 30 ns before KVM looks for the last time and is taken back within the
 * microseconds until the thread gets to sleep, nothing tells.)  When it slept
 * for another reason, for a lock in KVM for example, that is a false alarm and
 * costs nothing but time.
 *
 * A suspect reset is repaired by write-protecting all memory anew, before the
 * bitmaps are read out.  Until then nothing is lost: the bits of all pages that
 * were harvested are still in the slots' bitmaps, which nobody has seen.
 */

/*
 * So many idle calls in a row mean that KVM does not find the rest of what was
 * harvested.
 */
#define RESET_IDLE_MAX 1000

/* How often the calling thread has slept, other than for want of a CPU */
static long kvm_dirty_reset_sleeps(void)
{
    struct rusage usage;

    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_nvcsw;
}

/*
 * Reset so many entries.  A call that stopped early has done a part of the work
 * or none, and tells so by a smaller number, 0 or -EINTR.
 */
static void kvm_dirty_reset_pages(KVMState *s, uint64_t pages)
{
    KVMDirtyTracking *t = s->dirty;
    long sleeps = kvm_dirty_reset_sleeps();
    unsigned idle = 0, calls = 0;

    t->reset.left = pages;
    while (t->reset.left && idle < RESET_IDLE_MAX) {
        int ret = kvm_vm_ioctl(s, KVM_RESET_DIRTY_RINGS);

        if (ret > 0 && ret <= t->reset.left) {
            t->reset.left -= ret;
            idle = 0;
        } else if (ret == -EINTR || ret == 0) {
            idle++;
        } else {
            error_report("KVM_RESET_DIRTY_RINGS: %d, with %" PRIu64 " entries "
                         "harvested", ret, t->reset.left);
            abort();
        }
        calls++;
    }
    t->reset.complete = calls == 1 && kvm_dirty_reset_sleeps() == sleeps;
}

static void *kvm_dirty_reset_thread(void *opaque)
{
    KVMState *s = opaque;
    KVMDirtyTracking *t = s->dirty;
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    rcu_register_thread();
    while (true) {
        uint64_t pages = qatomic_load_acquire(&t->reset.pages);

        if (pages) {
            kvm_dirty_reset_pages(s, pages);
            qatomic_store_release(&t->reset.pages, 0);
            qemu_event_set(&t->reset.done);
        }
        qemu_event_wait(&t->reset.wanted);
        qemu_event_reset(&t->reset.wanted);
        /* Reset before the pages are read: who wants more sets it again. */
        smp_mb();
    }
    return NULL;
}

void kvm_dirty_reset_init(KVMState *s)
{
    KVMDirtyTracking *t = s->dirty;
    QemuThread thread;

    qemu_event_init(&t->reset.wanted, false);
    qemu_event_init(&t->reset.done, false);
    qemu_thread_create(&thread, "kvm-reset", kvm_dirty_reset_thread, s,
                       QEMU_THREAD_DETACHED);
}

/*
 * Let the other thread do it.  The lock allows one at a time.  While pages is 0
 * the rest belongs to who has the lock, otherwise to the thread.  An event may
 * wake somebody too early.
 */
static void kvm_dirty_reset_hand_over(KVMDirtyTracking *t, uint64_t pages)
{
    qemu_event_reset(&t->reset.done);
    qatomic_store_release(&t->reset.pages, pages);
    qemu_event_set(&t->reset.wanted);
    while (qatomic_load_acquire(&t->reset.pages)) {
        qemu_event_wait(&t->reset.done);
    }
}

uint64_t kvm_dirty_reset(KVMState *s, uint64_t pages)
{
    KVMDirtyTracking *t = s->dirty;
    sigset_t all, old;

    if (qemu_thread_may_have_task_work()) {
        kvm_dirty_reset_hand_over(t, pages);
    } else {
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        kvm_dirty_reset_pages(s, pages);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
    }
    if (!t->reset.complete) {
        trace_kvm_dirty_reset_suspect(pages);
        t->reset.suspect = true;
    }
    return t->reset.left;
}

/*
 * A slot's pages are write-protected when its logging begins, so logging is
 * taken away and given back.  In between a write would go unnoticed, so vCPUs
 * are held; devices' writes are noted elsewhere.
 */
void kvm_dirty_reset_repair(KVMState *s)
{
    KVMDirtyTracking *t = s->dirty;

    if (!t->reset.suspect) {
        return;
    }
    kvm_dirty_vcpus_hold(s);
    for (int i = 0; i < s->nr_as; i++) {
        KVMMemoryListener *kml = s->as[i].ml;

        for (int j = 0; kml && j < kml->nr_slots_allocated; j++) {
            KVMSlot *mem = &kml->slots[j];

            if (mem->memory_size && mem->flags & KVM_MEM_LOG_DIRTY_PAGES) {
                kvm_slot_protect(kml, mem);
            }
        }
    }
    kvm_dirty_vcpus_release(s);
    t->reset.suspect = false;
    trace_kvm_dirty_reset_repaired();
}
