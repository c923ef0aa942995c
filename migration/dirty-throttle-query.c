/*
 * Dirty throttle: what is told about it
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/lockable.h"
#include "qemu/timer.h"
#include "dirty-throttle-hooks.h"
#include "dirty-throttle-int.h"

void dirty_throttle_query_vcpu(int cpu_index, DirtyThrottleVcpuInfo *info)
{
    DirtyThrottle *t = &dirty_throttle;
    DirtyThrottleVcpu *vcpu = &t->vcpus[cpu_index];

    QEMU_LOCK_GUARD(&t->lock);
    info->limit_mbps = dirty_throttle_limit_mbps(t, vcpu);
    QEMU_LOCK_GUARD(&vcpu->lock);
    info->rate_pps = dirty_history_rate_pps(&vcpu->history);
}

/* What a round is for a VM without rings: as much as a common ring holds */
#define ROUND_PAGES 4096

bool dirty_throttle_query_rounds(uint64_t *throttle_time_us,
                                 uint64_t *ring_full_time_us)
{
    DirtyThrottle *t = &dirty_throttle;
    uint64_t sum_pps = 0, round_pages;
    unsigned plugged = 0;

    QEMU_LOCK_GUARD(&t->lock);
    if (!t->migration.limiting) {
        return false;
    }
    round_pages = t->ops->ring_pages ?: ROUND_PAGES;
    *throttle_time_us = 0;
    for (unsigned i = 0; i < t->nr_vcpus; i++) {
        DirtyVcpu *v = &t->vcpus[i].v;
        DirtyCounters recent;

        QEMU_LOCK_GUARD(&t->vcpus[i].lock);
        if (!v->total_known) {
            continue;
        }
        plugged++;
        sum_pps += dirty_history_rate_pps(&t->vcpus[i].history);
        recent = dirty_history_recent(&t->vcpus[i].history);
        if (recent.dirtied_pages) {
            *throttle_time_us = MAX(*throttle_time_us,
                                    recent.paid_ns / SCALE_US * round_pages /
                                    recent.dirtied_pages);
        }
    }
    *ring_full_time_us = 0;
    if (sum_pps) {
        *ring_full_time_us = round_pages * 1000000 * plugged / sum_pps;
    }
    return true;
}

/* Called with t->lock held. */
static DirtyThrottleVcpuStats *query_vcpu(DirtyThrottle *t, int cpu_index)
{
    DirtyThrottleVcpu *vcpu = &t->vcpus[cpu_index];
    uint64_t limit_mbps = dirty_throttle_limit_mbps(t, vcpu);
    DirtyThrottleVcpuStats *stats;
    DirtyVcpu *v = &vcpu->v;
    DirtyCounters recent;

    QEMU_LOCK_GUARD(&vcpu->lock);
    if (!v->total_known) {
        return NULL;
    }
    recent = dirty_history_recent(&vcpu->history);
    stats = g_new0(DirtyThrottleVcpuStats, 1);
    stats->cpu_index = cpu_index;
    stats->rate = dirty_throttle_pps_to_mbps(
        dirty_history_rate_pps(&vcpu->history));
    stats->has_limit = limit_mbps != 0;
    stats->limit = limit_mbps;
    stats->has_quota = dirty_account_limited(&v->share);
    if (stats->has_quota) {
        stats->quota = dirty_throttle_pps_to_mbps(v->share.rate_pps +
                                                  v->share.extra_pps);
    }
    stats->debt = dirty_throttle_pages_to_bytes(dirty_vcpu_debt_pages(v));
    stats->penalty_time = (v->paid_ns - vcpu->paid_before_ns) / SCALE_MS;
    stats->penalties = v->penalties - vcpu->penalties_before;
    stats->ring_full_exits = v->ring_full_exits - vcpu->full_before;
    if (recent.time_ns) {
        stats->throttled = MIN(100.0 * recent.paid_ns / recent.time_ns, 100);
    }
    return stats;
}

/* Called with t->lock held. */
static DirtyReaperStats *query_reaper(DirtyThrottle *t,
                                      const DirtyReaperInfo *now)
{
    const DirtyReaperInfo *before = &t->migration.reaped_before;
    DirtyReaperStats *stats = g_new0(DirtyReaperStats, 1);

    stats->interval = now->interval_ns / SCALE_MS;
    stats->reaps = now->reaps - before->reaps;
    stats->pages = now->reaped_pages - before->reaped_pages;
    stats->new_pages = now->new_pages - before->new_pages;
    stats->time = (now->time_ns - before->time_ns) / SCALE_US;
    return stats;
}

static uint64_t query_ring_full_exits(DirtyThrottleVcpu *vcpu)
{
    QEMU_LOCK_GUARD(&vcpu->lock);
    return vcpu->v.ring_full_exits - vcpu->full_before;
}

DirtyThrottleInfo *dirty_throttle_query_migration(void)
{
    DirtyThrottle *t = &dirty_throttle;
    DirtyThrottleVcpuStatsList **tail;
    DirtyReaperInfo reaped = { 0 };
    DirtyThrottleMode mode;
    DirtyThrottleInfo *info;

    /* This takes an accelerator's lock, and such are not taken under t->lock */
    if (dirty_throttle_has_rings()) {
        t->ops->query_reaper(&reaped);
    }

    QEMU_LOCK_GUARD(&t->lock);
    mode = dirty_throttle_mode(&t->migration.engine.means);
    if (!t->migration.precopy || (mode == DIRTY_THROTTLE_MODE_NONE &&
                                  !dirty_throttle_adaptive_reaper())) {
        return NULL;
    }
    info = g_new0(DirtyThrottleInfo, 1);
    info->mode = mode;
    info->has_mechanism = t->migration.engine.means.mechanism ||
                          dirty_means_alike(&t->migration.engine.means);
    if (info->has_mechanism) {
        info->mechanism = dirty_throttle_mechanism(t);
    }
    if (dirty_throttle_has_rings()) {
        info->reaper = query_reaper(t, &reaped);
    }
    info->has_reaper = info->reaper != NULL;
    if (info->mode == DIRTY_THROTTLE_MODE_NONE) {
        info->phase = DIRTY_THROTTLE_PHASE_OFF;
    } else {
        info->forecast = dirty_throttle_forecast_migration(t);
        info->has_forecast = info->forecast != NULL;
        dirty_throttle_tell_engine(t, info);
    }
    tail = &info->vcpus;
    for (unsigned i = 0; i < t->nr_vcpus; i++) {
        DirtyThrottleVcpuStats *stats = query_vcpu(t, i);

        info->ring_full_exits += query_ring_full_exits(&t->vcpus[i]);
        if (stats) {
            QAPI_LIST_APPEND(tail, stats);
        }
    }
    return info;
}
