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
#include "qemu/units.h"
#include "qapi/qapi-types-migration.h"
#include "dirty-throttle-hooks.h"
#include "dirty-throttle-int.h"

static uint64_t pages_to_bytes(uint64_t pages)
{
    return pages * qemu_real_host_page_size();
}

static double pps_to_mbps(uint64_t pps)
{
    return (double)pages_to_bytes(pps) / MiB;
}

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
        DirtyRecord recent;

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
    DirtyRecord recent;

    QEMU_LOCK_GUARD(&vcpu->lock);
    if (!v->total_known) {
        return NULL;
    }
    recent = dirty_history_recent(&vcpu->history);
    stats = g_new0(DirtyThrottleVcpuStats, 1);
    stats->cpu_index = cpu_index;
    stats->rate = pps_to_mbps(dirty_history_rate_pps(&vcpu->history));
    stats->has_limit = limit_mbps != 0;
    stats->limit = limit_mbps;
    stats->has_quota = dirty_account_limited(&v->share);
    if (stats->has_quota) {
        stats->quota = pps_to_mbps(v->share.rate_pps + v->share.extra_pps);
    }
    stats->debt = pages_to_bytes(dirty_vcpu_debt_pages(v));
    stats->penalty_time = (v->paid_ns - vcpu->paid_before_ns) / SCALE_MS;
    stats->penalties = v->penalties - vcpu->penalties_before;
    stats->ring_full_exits = v->ring_full_exits - vcpu->full_before;
    if (recent.time_ns) {
        stats->throttled = MIN(100.0 * recent.paid_ns / recent.time_ns, 100);
    }
    return stats;
}

static DirtyThrottleMode query_mode(const DirtyMeans *means)
{
    if (means->share) {
        return means->limit ? DIRTY_THROTTLE_MODE_LIMIT_AND_QUOTA
                            : DIRTY_THROTTLE_MODE_QUOTA;
    }
    return means->limit ? DIRTY_THROTTLE_MODE_LIMIT
                        : DIRTY_THROTTLE_MODE_NONE;
}

/* Called with t->lock held. */
static DirtyThrottleMechanism query_mechanism(DirtyThrottle *t)
{
    const DirtyThrottleOps *ops = t->ops;

    if (dirty_means_alike(&t->migration.engine.means)) {
        return DIRTY_THROTTLE_MECHANISM_CPU_TIME;
    }
    if (ops->take_found_pages) {
        return DIRTY_THROTTLE_MECHANISM_FAULT_STATISTICS;
    }
    if (!ops->can_quota) {
        return DIRTY_THROTTLE_MECHANISM_DIRTY_RING;
    }
    return ops->ring_pages ? DIRTY_THROTTLE_MECHANISM_DIRTY_RING_AND_DIRTY_QUOTA
                           : DIRTY_THROTTLE_MECHANISM_DIRTY_QUOTA;
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

/* What the engine makes of the migration.  Called with t->lock held. */
static void query_engine(DirtyThrottle *t, DirtyThrottleInfo *info)
{
    static const DirtyThrottlePhase phases[] = {
        [DIRTY_PHASE_FIRST_PASS] = DIRTY_THROTTLE_PHASE_FIRST_PASS,
        [DIRTY_PHASE_WATCHING] = DIRTY_THROTTLE_PHASE_WATCHING,
        [DIRTY_PHASE_THROTTLING] = DIRTY_THROTTLE_PHASE_THROTTLING,
        [DIRTY_PHASE_CANNOT_HELP] = DIRTY_THROTTLE_PHASE_CANNOT_HELP,
    };
    static const DirtyThrottleReason reasons[] = {
        [DIRTY_REASON_MECHANISM] = DIRTY_THROTTLE_REASON_NO_MECHANISM,
        [DIRTY_REASON_UNEXPLAINED] = DIRTY_THROTTLE_REASON_UNEXPLAINED,
        [DIRTY_REASON_DEVICES] = DIRTY_THROTTLE_REASON_DEVICES,
        [DIRTY_REASON_FLOOR] = DIRTY_THROTTLE_REASON_FLOOR,
    };
    DirtyThrottleMigration *m = &t->migration;
    DirtyEngine *e = &m->engine;
    int64_t expected_ns;

    info->phase = phases[e->phase];
    info->phase_time = (get_clock() - e->phase_ns) / SCALE_MS;
    info->has_reason = e->decision.reason != DIRTY_REASON_NONE;
    if (info->has_reason) {
        info->reason = reasons[e->decision.reason];
    }
    info->fallback = m->fallback;
    info->bandwidth = pps_to_mbps(e->link.pps);
    info->budget = pps_to_mbps(e->budget_pps);
    info->device_rate = pps_to_mbps(e->device_pps);
    info->has_pool = m->sharing;
    info->pool = pages_to_bytes(m->pool.pages);
    expected_ns = dirty_target_expected_ns(&e->iteration);
    info->has_expected_time = expected_ns >= 0;
    info->expected_time = expected_ns / SCALE_MS;
    info->has_deadline_missed = e->deadline;
    info->deadline_missed = e->late_ns;
    info->has_earliest_time = e->late_ns > 0;
    info->earliest_time = e->late_ns / SCALE_MS;
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
    mode = query_mode(&t->migration.engine.means);
    if (!t->migration.precopy || (mode == DIRTY_THROTTLE_MODE_NONE &&
                                  !dirty_throttle_adaptive_reaper())) {
        return NULL;
    }
    info = g_new0(DirtyThrottleInfo, 1);
    info->mode = mode;
    info->has_mechanism = t->migration.engine.means.mechanism ||
                          dirty_means_alike(&t->migration.engine.means);
    if (info->has_mechanism) {
        info->mechanism = query_mechanism(t);
    }
    info->has_reaper = dirty_throttle_has_rings();
    if (info->has_reaper) {
        info->reaper = query_reaper(t, &reaped);
    }
    if (info->mode == DIRTY_THROTTLE_MODE_NONE) {
        info->phase = DIRTY_THROTTLE_PHASE_OFF;
    } else {
        query_engine(t, info);
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
