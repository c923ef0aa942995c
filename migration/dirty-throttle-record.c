/*
 * Dirty throttle: what the engine makes of a migration, as it is told
 *
 * While the migration runs, that is in query-migrate; a change is in an event;
 * and all changes, with what was taken from vCPUs, are in the record of a
 * migration that is over.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "qapi/clone-visitor.h"
#include "qapi/qapi-events-migration.h"
#include "qapi/qapi-types-migration.h"
#include "qapi/qapi-visit-migration.h"
#include "dirty-throttle-hooks.h"
#include "dirty-throttle-int.h"

DirtyThrottleMode dirty_throttle_mode(const DirtyMeans *means)
{
    if (means->share) {
        return means->limit ? DIRTY_THROTTLE_MODE_LIMIT_AND_QUOTA
                            : DIRTY_THROTTLE_MODE_QUOTA;
    }
    return means->limit ? DIRTY_THROTTLE_MODE_LIMIT
                        : DIRTY_THROTTLE_MODE_NONE;
}

DirtyThrottleMechanism dirty_throttle_mechanism(DirtyThrottle *t)
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

/* Names of what the engine knows by numbers */
static const DirtyThrottlePhase record_phases[] = {
    [DIRTY_PHASE_FIRST_PASS] = DIRTY_THROTTLE_PHASE_FIRST_PASS,
    [DIRTY_PHASE_WATCHING] = DIRTY_THROTTLE_PHASE_WATCHING,
    [DIRTY_PHASE_THROTTLING] = DIRTY_THROTTLE_PHASE_THROTTLING,
    [DIRTY_PHASE_CANNOT_HELP] = DIRTY_THROTTLE_PHASE_CANNOT_HELP,
};

static const DirtyThrottleReason record_reasons[] = {
    [DIRTY_REASON_MECHANISM] = DIRTY_THROTTLE_REASON_NO_MECHANISM,
    [DIRTY_REASON_UNEXPLAINED] = DIRTY_THROTTLE_REASON_UNEXPLAINED,
    [DIRTY_REASON_DEVICES] = DIRTY_THROTTLE_REASON_DEVICES,
    [DIRTY_REASON_FLOOR] = DIRTY_THROTTLE_REASON_FLOOR,
    [DIRTY_REASON_CEILING] = DIRTY_THROTTLE_REASON_CEILING,
};

void dirty_throttle_tell_engine(DirtyThrottle *t, DirtyThrottleInfo *info)
{
    DirtyThrottleMigration *m = &t->migration;
    DirtyEngine *e = &m->engine;
    int64_t expected_ns;

    info->phase = record_phases[e->phase];
    info->phase_time = (get_clock() - e->phase_ns) / SCALE_MS;
    info->has_reason = e->decision.reason != DIRTY_REASON_NONE;
    if (info->has_reason) {
        info->reason = record_reasons[e->decision.reason];
    }
    info->fallback = m->fallback;
    info->bandwidth = dirty_throttle_pps_to_mbps(e->link.pps);
    info->budget = dirty_throttle_pps_to_mbps(e->budget_pps);
    info->device_rate = dirty_throttle_pps_to_mbps(e->device_pps);
    info->has_pool = m->sharing;
    info->pool = dirty_throttle_pages_to_bytes(m->pool.pages);
    expected_ns = dirty_target_expected_ns(&e->iteration);
    info->has_expected_time = expected_ns >= 0;
    info->expected_time = expected_ns / SCALE_MS;
    info->has_deadline_missed = e->deadline;
    info->deadline_missed = e->late_ns;
    info->has_earliest_time = e->late_ns > 0;
    info->earliest_time = e->late_ns / SCALE_MS;
}

/* The @n-th change, of those that are remembered */
static DirtyChange *record_change(DirtyThrottleMigration *m, uint64_t n)
{
    return &m->changes[n % DIRTY_CHANGES_MAX];
}

/*
 * In the main loop, with the BQL: only there an event may be sent whose rate is
 * limited, because the monitor's timer for that runs there.
 */
static void record_send_event(void *opaque)
{
    g_autofree DirtyThrottleInfo *info = opaque;

    WITH_QEMU_LOCK_GUARD(&dirty_throttle.lock) {
        if (!dirty_throttle.migration.precopy) {
            return;
        }
    }
    qapi_event_send_migration_throttle(info->phase, info->has_reason,
                                       info->reason, info->fallback,
                                       info->bandwidth, info->budget,
                                       info->device_rate,
                                       info->has_deadline_missed,
                                       info->deadline_missed,
                                       info->has_earliest_time,
                                       info->earliest_time);
}

void dirty_throttle_note_change(DirtyThrottle *t, int64_t now_ns)
{
    DirtyThrottleMigration *m = &t->migration;
    const DirtyEngine *e = &m->engine;
    DirtyChange now = {
        .time_ns = now_ns,
        .phase = e->phase,
        .reason = e->decision.reason,
        .fallback = m->fallback,
        .deadline_missed = e->late_ns,
    };

    if (m->nr_changes) {
        DirtyChange *last = record_change(m, m->nr_changes - 1);

        if (now.phase == last->phase && now.reason == last->reason &&
            now.fallback == last->fallback &&
            now.deadline_missed == last->deadline_missed) {
            return;
        }
    }
    *record_change(m, m->nr_changes++) = now;
    if (m->tells) {
        DirtyThrottleInfo *info = g_new0(DirtyThrottleInfo, 1);

        dirty_throttle_tell_engine(t, info);
        aio_bh_schedule_oneshot(qemu_get_aio_context(), record_send_event,
                                info);
    }
}

/* Called with t->lock held. */
static DirtyThrottleVcpuRecordList *record_vcpus(DirtyThrottle *t)
{
    DirtyThrottleVcpuRecordList *list = NULL, **tail = &list;

    for (unsigned i = 0; i < t->nr_vcpus; i++) {
        DirtyThrottleVcpu *vcpu = &t->vcpus[i];
        DirtyThrottleVcpuRecord *r;

        QEMU_LOCK_GUARD(&vcpu->lock);
        if (!vcpu->v.total_known) {
            continue;
        }
        r = g_new0(DirtyThrottleVcpuRecord, 1);
        r->cpu_index = i;
        r->penalty_time = (vcpu->v.paid_ns - vcpu->paid_before_ns) / SCALE_MS;
        r->penalties = vcpu->v.penalties - vcpu->penalties_before;
        r->longest_penalty = vcpu->v.longest_ns / SCALE_MS;
        r->has_lowest_rate = vcpu->lowest_pps != UINT64_MAX;
        if (r->has_lowest_rate) {
            r->lowest_rate = dirty_throttle_pps_to_mbps(vcpu->lowest_pps);
        }
        QAPI_LIST_APPEND(tail, r);
    }
    return list;
}

/* Called with t->lock held. */
static DirtyThrottleChangeList *record_changes(DirtyThrottleMigration *m)
{
    DirtyThrottleChangeList *list = NULL, **tail = &list;
    uint64_t n = m->nr_changes > DIRTY_CHANGES_MAX ?
                 m->nr_changes - DIRTY_CHANGES_MAX : 0;

    for (; n < m->nr_changes; n++) {
        DirtyChange *change = record_change(m, n);
        DirtyThrottleChange *c = g_new0(DirtyThrottleChange, 1);

        c->time = (change->time_ns - m->engine.begin_ns) / SCALE_MS;
        c->phase = record_phases[change->phase];
        c->has_reason = change->reason != DIRTY_REASON_NONE;
        if (c->has_reason) {
            c->reason = record_reasons[change->reason];
        }
        c->fallback = change->fallback;
        c->deadline_missed = change->deadline_missed;
        QAPI_LIST_APPEND(tail, c);
    }
    return list;
}

void dirty_throttle_record(DirtyThrottle *t)
{
    DirtyThrottleMigration *m = &t->migration;
    DirtyThrottleMode mode = dirty_throttle_mode(&m->engine.means);
    DirtyThrottleRecord *r;

    qapi_free_DirtyThrottleRecord(t->record);
    t->record = NULL;
    if (mode == DIRTY_THROTTLE_MODE_NONE) {
        return;
    }
    r = g_new0(DirtyThrottleRecord, 1);
    r->mode = mode;
    r->has_mechanism = m->active && (m->engine.means.mechanism ||
                                     dirty_means_alike(&m->engine.means));
    if (r->has_mechanism) {
        r->mechanism = dirty_throttle_mechanism(t);
    }
    r->has_throttled_after = m->throttled_ns;
    r->throttled_after = (m->throttled_ns - m->engine.begin_ns) / SCALE_MS;
    r->changes = record_changes(m);
    r->vcpus = record_vcpus(t);
    t->record = r;
}

DirtyThrottleRecord *dirty_throttle_query_record(void)
{
    DirtyThrottle *t = &dirty_throttle;

    QEMU_LOCK_GUARD(&t->lock);
    /* Its state may say that it is over before its thread has come here. */
    if (t->migration.precopy) {
        dirty_throttle_record(t);
    }
    return t->record ? QAPI_CLONE(DirtyThrottleRecord, t->record) : NULL;
}

void dirty_throttle_migration_init(void)
{
    DirtyThrottle *t = &dirty_throttle;

    QEMU_LOCK_GUARD(&t->lock);
    qapi_free_DirtyThrottleRecord(t->record);
    t->record = NULL;
}
