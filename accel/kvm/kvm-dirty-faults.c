/*
 * KVM: page faults of vCPUs, where nothing else tells who dirties memory
 *
 * Where dirty logging works by write protection, the first write to a page
 * after its bit in the log was cleared is a fault, and KVM counts the faults of
 * each vCPU in its statistics.  A migration clears a page's bit just before it
 * sends the page, so such a fault is a page that has to be sent again.
 *
 * Other faults count, too: the first access to a page that is not mapped, for
 * example.  And processors that log dirtied pages by themselves take no faults
 * for them.  So this is an estimate, which the throttle compares with what logs
 * have shown.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/error-report.h"
#include "sysemu/kvm.h"
#include "kvm-dirty-faults.h"
#include "trace.h"

/*
 * Counters by name: a fault that made a page accessible, and one that only took
 * away a write protection, without a lock.  On some KVMs all are of the first
 * kind.
 */
static const char *const fault_counters[KVM_DIRTY_FAULT_COUNTERS] = {
    "pf_fixed",
    "pf_fast",
};

void kvm_dirty_faults_init(KVMState *s)
{
#ifdef TARGET_I386
    /* On other architectures KVM counts no such faults. */
    s->dirty->faults.supported = kvm_check_extension(s,
                                                     KVM_CAP_BINARY_STATS_FD);
#endif
}

/* Find the counters; all from the first to the last are read at once. */
static void kvm_dirty_faults_find(KVMDirtyVcpu *d)
{
    off_t offsets[KVM_DIRTY_FAULT_COUNTERS] = { 0 }, end = 0;
    struct kvm_stats_header header;
    g_autofree char *descs = NULL;
    size_t desc_size, size;

    if (pread(d->faults.fd, &header, sizeof(header), 0) != sizeof(header)) {
        return;
    }
    desc_size = sizeof(struct kvm_stats_desc) + header.name_size;
    size = desc_size * header.num_desc;
    descs = g_malloc(size);
    if (pread(d->faults.fd, descs, size, header.desc_offset) != size) {
        return;
    }
    for (size_t i = 0; i < header.num_desc; i++) {
        struct kvm_stats_desc *desc = (void *)(descs + i * desc_size);

        for (int n = 0; n < KVM_DIRTY_FAULT_COUNTERS; n++) {
            if (!strncmp(desc->name, fault_counters[n], header.name_size)) {
                offsets[n] = header.data_offset + desc->offset;
            }
        }
    }
    if (!offsets[0]) {
        return;
    }
    d->faults.from = offsets[0];
    for (int n = 0; n < KVM_DIRTY_FAULT_COUNTERS; n++) {
        if (offsets[n]) {
            d->faults.from = MIN(d->faults.from, offsets[n]);
            end = MAX(end, offsets[n] + sizeof(uint64_t));
        }
    }
    d->faults.size = end - d->faults.from;
    d->faults.data = g_malloc(d->faults.size);
    for (int n = 0; n < KVM_DIRTY_FAULT_COUNTERS; n++) {
        d->faults.index[n] = offsets[n] ? (offsets[n] - d->faults.from) /
                                          sizeof(uint64_t) : -1;
    }
}

void kvm_dirty_faults_vcpu_init(KVMDirtyVcpu *d)
{
    memset(&d->faults, 0, sizeof(d->faults));
    d->faults.fd = kvm_vcpu_ioctl(d->cpu, KVM_GET_STATS_FD, NULL);
    if (d->faults.fd >= 0) {
        qemu_set_cloexec(d->faults.fd);
        kvm_dirty_faults_find(d);
    }
}

void kvm_dirty_faults_vcpu_destroy(KVMDirtyVcpu *d)
{
    if (d->faults.fd >= 0) {
        close(d->faults.fd);
    }
    d->faults.fd = -1;
    g_clear_pointer(&d->faults.data, g_free);
}

bool kvm_dirty_faults_due(KVMDirtyVcpu *d)
{
    uint32_t runs = qatomic_read(&d->hold.runs);

    /* The vCPU thread itself may have looked since, which does no harm. */
    if (runs == d->faults.looked_run && !(runs & 1)) {
        return false;
    }
    d->faults.looked_run = runs;
    return true;
}

void kvm_dirty_faults_look(KVMDirtyVcpu *d)
{
    uint64_t faults = 0;

    if (d->faults.data && pread(d->faults.fd, d->faults.data, d->faults.size,
                                d->faults.from) == d->faults.size) {
        for (int n = 0; n < KVM_DIRTY_FAULT_COUNTERS; n++) {
            int index = d->faults.index[n];

            faults += index < 0 ? 0 : d->faults.data[index];
        }
    }
    if (faults > d->faults.count) {
        d->dirtied_pages += faults - d->faults.count;
        d->faults.count = faults;
    }
}

void kvm_dirty_faults_start(KVMState *s)
{
    KVMDirtyVcpu *d;

    if (!s->dirty->faults.supported || s->dirty->faults.counting) {
        return;
    }
    s->dirty->faults.counting = true;
    QLIST_FOREACH(d, &s->dirty->vcpus, next) {
        /* What was counted while nobody looked must not seem to be new. */
        kvm_dirty_faults_look(d);
        if (!d->faults.data) {
            /* Syncs find what it dirties, and that nobody is charged for it. */
            warn_report_once("KVM does not tell the page faults of vCPUs: who"
                             " dirties memory is not known");
        }
    }
}

void kvm_dirty_faults_stop(KVMState *s)
{
    s->dirty->faults.counting = false;
}
