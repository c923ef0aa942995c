/*
 * pvsched: the thread that watches vCPUs which cannot look for themselves
 *
 * A vCPU that waits for a processor does not leave the guest, so nobody hears
 * what it asks for; and one that is boosted may forget to say that it is done.
 * While a vCPU asks and may yet be boosted, this thread looks once a
 * millisecond; while one is boosted, when that may be over; while one is
 * refused, every 25 ms; else every 50 ms; and while boosts are off or the VM is
 * stopped not at all.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_MISC_PVSCHED_WATCH_H
#define HW_MISC_PVSCHED_WATCH_H

#include "vcpu.h"

typedef struct PVSchedWatch {
    PVSchedCommon *common;
    PVSchedVcpu *vcpus;
    unsigned nr_vcpus;
    QemuThread thread;
    /* Used by that thread only */
    PVSchedRunnable runnable;
    unsigned processors;
    /* Atomic */
    bool stopping;
    bool new_rights;
    /* For what the VM may have; taken before that of a vCPU */
    QemuMutex lock;
    PVSchedVm vm;
    PVSchedRights rights;
} PVSchedWatch;

void pvsched_watch_start(PVSchedWatch *w, PVSchedCommon *common,
                         PVSchedVcpu *vcpus, unsigned nr_vcpus);
void pvsched_watch_stop(PVSchedWatch *w);

void pvsched_watch_set_rights(PVSchedWatch *w, const PVSchedRights *rights);

/* For how much of the host's time vCPUs may be boosted, all together */
void pvsched_watch_set_budget(PVSchedWatch *w, PVSchedKind kind,
                              unsigned percent);

#endif
