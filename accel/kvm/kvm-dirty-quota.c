/*
 * KVM dirty quotas: vCPUs that leave the guest when they have dirtied enough
 *
 * KVM counts the pages that each vCPU dirties, and KVM_RUN returns when the
 * count has got to the quota in kvm_run.  With it no vCPU has to be looked at
 * while it runs, and rings are not needed to tell who dirties memory.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/error-report.h"
#include "sysemu/kvm.h"
#include "kvm-dirty-quota.h"
#include "kvm-dirty-ring.h"
#include "trace.h"

/* The version of the interface that is described in linux-headers */
#define QUOTA_VERSION 1

/*
 * Without rings this is what may be dirtied before the throttle thread knows.
 * As many faults take the guest some hundred times longer than the exit; and
 * processors that log pages by themselves are no more exact.
 */
#define QUOTA_STEP_PAGES 512

/* Already used up, so that KVM_RUN returns as soon as it can */
#define QUOTA_NOTHING 1

void kvm_dirty_quota_init(KVMState *s)
{
    int version = kvm_vm_check_extension(s, KVM_CAP_DIRTY_QUOTA);

    s->dirty->quota.supported = version == QUOTA_VERSION;
    if (version > 0 && version != QUOTA_VERSION) {
        warn_report("KVM's dirty quota has interface version %d, not %d: "
                    "it is not used", version, QUOTA_VERSION);
    }
}

void kvm_dirty_quota_vcpu_init(KVMDirtyVcpu *d)
{
    d->quota.given = false;
    d->quota.count_known = false;
}

/*
 * KVM reads the quota whenever it counts a page, in whatever thread that is,
 * and nothing goes with it that would have to be seen before or after.
 */
static void kvm_dirty_quota_store(KVMDirtyVcpu *d, uint64_t quota)
{
    qatomic_set__nocheck(&d->cpu->kvm_run->dirty_quota, quota);
}

void kvm_dirty_quota_start(KVMState *s)
{
    KVMDirtyVcpu *d;
    int ret;

    if (!s->dirty->quota.supported) {
        return;
    }
    if (!s->dirty->quota.enabled) {
        ret = kvm_vm_enable_cap(s, KVM_CAP_DIRTY_QUOTA, 0, 1);
        if (ret) {
            warn_report_once("KVM's dirty quota cannot be enabled: %s",
                             strerror(-ret));
            return;
        }
        s->dirty->quota.enabled = true;
    }
    QLIST_FOREACH(d, &s->dirty->vcpus, next) {
        if (!d->quota.given) {
            d->quota.given = true;
            d->quota.count_known = false;
            kvm_dirty_quota_store(d, QUOTA_NOTHING);
        }
    }
}

void kvm_dirty_quota_stop(KVMState *s)
{
    KVMDirtyVcpu *d;

    if (!s->dirty->quota.enabled) {
        return;
    }
    kvm_vm_enable_cap(s, KVM_CAP_DIRTY_QUOTA, 0, 0);
    s->dirty->quota.enabled = false;
    QLIST_FOREACH(d, &s->dirty->vcpus, next) {
        d->quota.given = false;
        kvm_dirty_quota_store(d, 0);
    }
}

/*
 * Entries that have ever been in a ring, 0 without one.  They cannot become
 * fewer, whoever looks at the ring and harvests it, and how much of it.
 */
static uint64_t kvm_dirty_quota_entries(KVMDirtyVcpu *d)
{
    return d->ring.gfns ? d->ring.reaped_pages + kvm_dirty_ring_fill(d) : 0;
}

bool kvm_dirty_quota_set(KVMDirtyVcpu *d, int64_t pages)
{
    uint64_t quota = QUOTA_NOTHING;
    bool given;

    if (!d->cpu->kvm_state->dirty->quota.supported) {
        return false;
    }
    kvm_slots_lock();
    given = d->quota.given;
    if (given) {
        if (!d->ring.gfns) {
            pages = MIN(pages, QUOTA_STEP_PAGES);
        }
        if (pages == INT64_MAX) {
            /* The throttle thread sees what it dirties in its ring. */
            quota = 0;
        } else if (d->quota.count_known) {
            /*
             * What has come into the ring since the count was told has been
             * counted as well, but for what KVM itself wrote.
             */
            quota = d->quota.count + pages + kvm_dirty_quota_entries(d) -
                    d->quota.count_entries;
        }
        kvm_dirty_quota_store(d, quota);
        trace_kvm_dirty_quota_set(d->cpu->cpu_index, d->quota.count, quota);
    }
    kvm_slots_unlock();
    return given;
}

void kvm_dirty_quota_count(KVMDirtyVcpu *d)
{
    uint64_t count = d->cpu->kvm_run->dirty_quota_exit.count;

    trace_kvm_dirty_quota_exhausted(d->cpu->cpu_index, count);
    kvm_slots_lock();
    if (d->ring.gfns) {
        d->quota.count_entries = kvm_dirty_quota_entries(d);
    } else if (d->quota.count_known) {
        d->dirtied_pages += count - d->quota.count;
    }
    d->quota.count = count;
    d->quota.count_known = true;
    kvm_slots_unlock();
}
