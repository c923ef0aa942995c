/*
 * Dirty throttle: one step, sample in, decision out
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "budget.h"
#include "engine.h"

/* Shorter iterations say too little about the rate of devices. */
#define DEVICE_ITERATION_MIN_NS 100000000LL

static uint64_t rate_pps(uint64_t pages, int64_t ns)
{
    return ns >= 1000 ? pages * 1000000 / (ns / 1000) : 0;
}

void dirty_engine_begin(DirtyEngine *e, const DirtyVcpuSample *vcpus,
                        int64_t now_ns)
{
    *e = (DirtyEngine) {
        .phase = DIRTY_PHASE_FIRST_PASS,
        .phase_ns = now_ns,
        .iteration_ns = now_ns,
        .iteration_dirtied_pages = vcpus->dirtied_pages,
        .decided_ns = now_ns,
        .decided_dirtied_pages = vcpus->dirtied_pages,
        .paid_change_ns = now_ns,
        .paid_ns = vcpus->paid_ns,
    };
}

void dirty_engine_synced(DirtyEngine *e, uint64_t iteration,
                         uint64_t to_send_pages, const DirtyVcpuSample *vcpus,
                         int64_t now_ns)
{
    DirtyTargetSample *t = &e->target;
    uint64_t by_vcpus = vcpus->dirtied_pages - e->iteration_dirtied_pages;
    uint64_t found = to_send_pages > t->remaining_pages ?
                     to_send_pages - t->remaining_pages : 0;
    int64_t took_ns = now_ns - e->iteration_ns;

    if (iteration > 1 && took_ns >= DEVICE_ITERATION_MIN_NS) {
        e->device_pps = found > by_vcpus ? rate_pps(found - by_vcpus, took_ns)
                                         : 0;
    }
    e->iteration_ns = now_ns;
    e->iteration_dirtied_pages = vcpus->dirtied_pages;
    t->iteration = iteration;
    t->iteration_pages = to_send_pages;
    t->remaining_pages = to_send_pages;
    dirty_link_slack(&e->link);
}

void dirty_engine_progress(DirtyEngine *e, uint64_t sent_pages,
                           uint64_t remaining_pages, uint64_t switchover_pages,
                           int64_t window, int64_t now_ns)
{
    DirtyTargetSample *t = &e->target;
    uint64_t sent = sent_pages > e->sent_pages ? sent_pages - e->sent_pages
                                               : 0;
    uint64_t gone = t->remaining_pages > remaining_pages ?
                    t->remaining_pages - remaining_pages : 0;

    /*
     * What remains also gets less by pages that are found to be zero, and by
     * those that the guest tells it does not need.
     */
    dirty_link_progress(&e->link, sent, gone > sent ? gone - sent : 0, window,
                        now_ns);
    e->sent_pages = sent_pages;
    t->remaining_pages = remaining_pages;
    t->switchover_pages = switchover_pages;
}

static void engine_set_phase(DirtyEngine *e, DirtyPhase phase,
                             DirtyReason reason, int64_t now_ns)
{
    if (e->phase != phase) {
        e->phase_ns = now_ns;
    }
    e->phase = phase;
    e->reason = reason;
}

/* Why throttling vCPUs cannot help, if the migration needs help at all. */
static DirtyReason engine_find_reason(DirtyEngine *e,
                                      const DirtyVcpuSample *vcpus,
                                      bool has_mechanism, int64_t now_ns)
{
    if (!has_mechanism) {
        return DIRTY_REASON_MECHANISM;
    }
    if (e->device_pps && !e->budget_pps) {
        return DIRTY_REASON_DEVICES;
    }
    if (!vcpus->at_floor || dirty_target_shrinks(&e->target)) {
        e->floor_ns = 0;
    } else if (!e->floor_ns) {
        e->floor_ns = now_ns;
    }
    if (e->floor_ns && now_ns - e->floor_ns >= DIRTY_SETTLE_NS) {
        return DIRTY_REASON_FLOOR;
    }
    return DIRTY_REASON_NONE;
}

void dirty_engine_decide(DirtyEngine *e, const DirtyVcpuSample *vcpus,
                         bool has_mechanism, unsigned threshold_percent,
                         int64_t now_ns)
{
    DirtyTargetSample *t = &e->target;
    uint64_t new_pages = vcpus->dirtied_pages - e->decided_dirtied_pages;
    int64_t took_ns = now_ns - e->decided_ns;
    DirtyReason reason;
    bool needed, free_of_charge;

    if (took_ns < DIRTY_LINK_SPAN_NS) {
        return;
    }
    t->link_pps = e->link.pps;
    t->threshold_percent = threshold_percent;
    t->dirty_pps = rate_pps(new_pages, took_ns) + e->device_pps;
    /* Devices dirty as steadily as ever, for all that is known. */
    t->dirtied_pages = vcpus->dirtied_pages - e->iteration_dirtied_pages +
                       (now_ns - e->iteration_ns) / 1000000 *
                       e->device_pps / 1000;
    e->decided_ns = now_ns;
    e->decided_dirtied_pages = vcpus->dirtied_pages;
    e->budget_pps = dirty_target_budget_pps(t->link_pps, threshold_percent,
                                            e->device_pps);
    if (vcpus->paid_ns != e->paid_ns) {
        e->paid_ns = vcpus->paid_ns;
        e->paid_change_ns = now_ns;
    }

    if (t->iteration < 2) {
        engine_set_phase(e, DIRTY_PHASE_FIRST_PASS, DIRTY_REASON_NONE, now_ns);
        return;
    }
    needed = dirty_target_needs_throttle(t);
    /* While it works, throttling hides that it is needed. */
    free_of_charge = now_ns - MAX(e->paid_change_ns, e->phase_ns) >=
                     DIRTY_SETTLE_NS;
    if (e->phase == DIRTY_PHASE_THROTTLING && !free_of_charge) {
        needed = true;
    }
    reason = needed ? engine_find_reason(e, vcpus, has_mechanism, now_ns)
                    : DIRTY_REASON_NONE;
    engine_set_phase(e, reason ? DIRTY_PHASE_CANNOT_HELP :
                        needed ? DIRTY_PHASE_THROTTLING :
                                 DIRTY_PHASE_WATCHING, reason, now_ns);
}
