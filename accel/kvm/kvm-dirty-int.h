/*
 * KVM: what is known of the memory that vCPUs dirty
 *
 * Each of kvm-dirty-*.c has its fields here, and changes them alone, unless a
 * field says otherwise.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef ACCEL_KVM_KVM_DIRTY_INT_H
#define ACCEL_KVM_KVM_DIRTY_INT_H

#include <linux/kvm.h>
#include "qemu/queue.h"
#include "qemu/thread.h"
#include "hw/core/cpu.h"
#include "migration/dirty-throttle.h"
#include "migration/dirty-throttle/ring-pace.h"
#include "sysemu/kvm_int.h"

/* Counters in a vCPU's statistics that are added up */
#define KVM_DIRTY_FAULT_COUNTERS 2

/* One vCPU */
typedef struct KVMDirtyVcpu {
    CPUState *cpu;
    int kvm_fd;
    /* it is in the list of those that can dirty memory; under the BQL */
    bool listed;
    /*
     * Under kvm_slots_lock(), which also keeps the vCPU thread alive, and the
     * ring and kvm_run mapped, for as long as this is in the list.
     */
    QLIST_ENTRY(KVMDirtyVcpu) next;
    /*
     * What is told of it: pages charged since creation; without a ring, pages
     * counted by KVM while they were being watched; or else page faults, or
     * the time for which it has run.  Under kvm_slots_lock().
     */
    uint64_t dirtied_pages;

    struct {
        /* Atomic: KVM_RUN begun and ended, so odd in between; by its thread */
        uint32_t runs;
        /* under the BQL: the run whose end is waited for; even: none */
        uint32_t awaited_run;
        /* Atomic: the vCPU was kicked only to leave the guest. */
        bool leave_due;
    } hold;

    /* Under kvm_slots_lock(), like the slots' bitmaps that go with it */
    struct {
        /* NULL: there are no rings */
        struct kvm_dirty_gfn *gfns;
        /* first entry not harvested; first one not looked at, not before */
        uint32_t fetch;
        uint32_t looked;
        /* up to where it is being harvested, batch by batch; not before */
        uint32_t reap_to;
        /* when it was last harvested; entries since creation */
        int64_t reaped_ns;
        uint64_t reaped_pages;
        /* the latter when the vCPU last went on after its ring had been full */
        uint64_t full_reaped_pages;
        /*
         * KVM has overrun the ring, so that a gap comes before its next entry;
         * so many entries of the gap are still to be handed back
         */
        bool overrun;
        uint32_t gap;
    } ring;

    /* Under kvm_slots_lock() */
    struct {
        DirtyRingPace pace;
    } reaper;

    /* Under kvm_slots_lock() */
    struct {
        /* KVM_RUN returns when the vCPU has dirtied so much */
        bool given;
        /*
         * KVM's count of the pages it has dirtied, as of the latest exit for
         * its quota, if there was one since it was given one; and the entries
         * that had been in its ring by then
         */
        bool count_known;
        uint64_t count;
        uint64_t count_entries;
    } quota;

    /* Under kvm_slots_lock(); where the counters are is set once */
    struct {
        /* the statistics; -1: none */
        int fd;
        /*
         * From the first counter to the last; NULL: there are none.  And where
         * each of them is in there, -1: nowhere
         */
        uint64_t *data;
        off_t from;
        ssize_t size;
        int index[KVM_DIRTY_FAULT_COUNTERS];
        /* faults as of the last look, and the run it happened in */
        uint64_t count;
        uint32_t looked_run;
    } faults;

    /* Under kvm_slots_lock() */
    struct {
        /* CPU time as of the last look */
        uint64_t us;
    } time;

    struct {
        /* Used by the vCPU thread only */
        timer_t timer;
        bool has_timer;
        int64_t look_at_ns;
        /* Atomic: look and pay before entering the guest. */
        bool look_due;
        /* Atomic: its timer will make it look. */
        bool timer_armed;
        /* A penalty waits for the vCPU; of its thread alone. */
        bool waiting;
        /* Atomic: the vCPU sleeps for a penalty. */
        bool paying;
        /*
         * When the penalty that the vCPU sleeps for, or last did, is over.
         * Under kvm_slots_lock().
         */
        int64_t paying_until_ns;
    } throttle;
} KVMDirtyVcpu;

/* What all vCPUs have in common */
typedef struct KVMDirtyTracking {
    /*
     * All vCPUs that can dirty memory.  Changed under the BQL and
     * kvm_slots_lock(), so either of them is enough to read it.
     */
    QLIST_HEAD(, KVMDirtyVcpu) vcpus;
    /*
     * Those that were unplugged.  KVM keeps such a vCPU until the VM ends (see
     * kvm_parked_vcpus) and remembers where its ring stands, so this has to be
     * remembered, too.  Under the BQL.
     */
    QLIST_HEAD(, KVMDirtyVcpu) parked;
    /*
     * Under kvm_slots_lock(): a sync that begins an epoch is under way.  What
     * is in the rings, and is not harvested for it, belongs to that epoch.
     */
    bool epoch_due;
    /* Under kvm_slots_lock(): counted by the ring; interval by the reaper. */
    DirtyReaperInfo reaped;

    /* Written under the BQL */
    struct {
        /* Atomic: vCPUs are kept out of the guest, until released. */
        bool held;
        QemuEvent released;
        /* Atomic: somebody waits for vCPUs to leave it, which set left. */
        bool awaited;
        QemuEvent left;
    } hold;

    /* Under kvm_slots_lock() */
    struct {
        /* Somebody wants to know who dirties memory. */
        bool charging;
    } charge;

    /* How rings are reset, and what came of it */
    struct {
        /* Atomic: the other thread is to reset so many entries, 0: none. */
        uint64_t pages;
        QemuEvent wanted;
        QemuEvent done;
        /* of the entries that were to be reset, KVM does not find so many */
        uint64_t left;
        /* none of their pages was left writable */
        bool complete;
        /*
         * Under kvm_slots_lock(): pages may have been left writable.  Also
         * set by who knows of other such pages.
         */
        bool suspect;
    } reset;

    struct {
        /* A ring was full.  Posted only by who sets woken, which is atomic. */
        QemuSemaphore wake;
        bool woken;
    } reaper;

    struct {
        /* KVM has dirty quotas; set once */
        bool supported;
        /* Under kvm_slots_lock(): vCPUs have quotas. */
        bool enabled;
    } quota;

    struct {
        /* Nothing else tells who dirties memory, and KVM has statistics. */
        bool supported;
        /* Under kvm_slots_lock(): faults are counted. */
        bool counting;
    } faults;

    /* Under kvm_slots_lock() */
    struct {
        /* Nothing else tells: what counts is how long vCPUs run. */
        bool watched;
    } time;

    /* Under kvm_slots_lock() */
    struct {
        /* What is told of vCPUs are estimates; set once. */
        bool supported;
        /* Pages that get dirty in logs are counted. */
        bool counting;
        /*
         * Those that were read out; those and what had not been read out when
         * somebody looked ahead; and what has been told of the larger one
         */
        uint64_t pages;
        uint64_t ahead_pages;
        uint64_t taken_pages;
        /* what was set already in the log that is being read */
        uint64_t known_pages;
        /* a log as it is, for a moment; and how many bytes there are for it */
        unsigned long *ahead_bmap;
        size_t ahead_size;
    } found;
} KVMDirtyTracking;

#endif
