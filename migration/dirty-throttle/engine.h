/*
 * Dirty throttle: one step, sample in, decision out
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_DIRTY_THROTTLE_ENGINE_H
#define MIGRATION_DIRTY_THROTTLE_ENGINE_H

#include "growth.h"
#include "link.h"
#include "target.h"
#include "vcpu.h"

typedef enum DirtyPhase {
    /* everything is sent once; only a deadline can require throttling */
    DIRTY_PHASE_FIRST_PASS,
    /* the migration converges by itself */
    DIRTY_PHASE_WATCHING,
    DIRTY_PHASE_THROTTLING,
    /* throttling vCPUs does not make the migration converge */
    DIRTY_PHASE_CANNOT_HELP,
} DirtyPhase;

/* Why throttling vCPUs cannot help, or not one by one */
typedef enum DirtyReason {
    DIRTY_REASON_NONE,
    /* nothing tells which vCPU dirties memory */
    DIRTY_REASON_MECHANISM,
    /* what tells so does not explain how much was dirtied */
    DIRTY_REASON_UNEXPLAINED,
    /* devices alone dirty as much as the link carries, or nearly so */
    DIRTY_REASON_DEVICES,
    /* vCPUs are at their floor, and it is not enough */
    DIRTY_REASON_FLOOR,
    /* the same with shares: vCPUs sleep for as long as they may */
    DIRTY_REASON_CEILING,
} DirtyReason;

/* How vCPUs fare; what a step has to know of them */
typedef struct DirtyVcpuSample {
    /* charged to all vCPUs, growing */
    uint64_t dirtied_pages;
    /* slept by all vCPUs, growing */
    uint64_t paid_ns;
    /* some are at their floor */
    bool at_floor;
    /* auto-converge slows them, so that they dirty less than they would */
    bool converging;
} DirtyVcpuSample;

/* What there is to help a migration with; stays as it is while that runs */
typedef struct DirtyMeans {
    /* something tells which vCPU dirties memory */
    bool mechanism;
    /* or at least how long each of them runs */
    bool cpu_time;
    /* it takes a sync to know how much they have really dirtied */
    bool estimated;
    /* capabilities dirty-limit, dirty-quota and auto-converge */
    bool limit;
    bool share;
    bool converge;
} DirtyMeans;

/*
 * Whether vCPUs are all slowed alike, because nothing tells them apart: they
 * share out what the link requires, as with capability dirty-quota, but pay for
 * the time that they run.  That is for those who allow auto-converge, which
 * does not tell vCPUs apart, either.
 */
static inline bool dirty_means_alike(const DirtyMeans *m)
{
    return !m->mechanism && m->cpu_time && m->share && m->converge;
}

/* What the operator wants; may change at any time */
typedef struct DirtyAim {
    /*
     * throttle-trigger-threshold: how much of what is sent may come back as
     * dirty; 1..100
     */
    unsigned threshold_percent;
    /*
     * dirty-quota-deadline: when it is to be over, from when it began; 0: there
     * is none
     */
    int64_t deadline_ns;
} DirtyAim;

/* What is to be done from now on */
typedef struct DirtyDecision {
    /* hold each vCPU within the limit of capability dirty-limit */
    bool limit;
    /* hold each vCPU within its share of the budget, and run the pool */
    bool share;
    /* let auto-converge slow the guest */
    bool fallback;
    /* sync dirty memory, although the iteration is not over */
    bool sync;
    /*
     * Why throttling cannot help, in DIRTY_PHASE_CANNOT_HELP; else why vCPUs
     * are slowed alike, if they are
     */
    DirtyReason reason;
} DirtyDecision;

typedef struct DirtyEngine {
    DirtyMeans means;
    /* why nothing tells vCPUs apart, if so */
    DirtyReason untold;
    DirtyPhase phase;
    /* since when the phase lasts */
    int64_t phase_ns;
    /* what was decided last */
    DirtyDecision decision;
    DirtyLink link;
    /* the iteration is going to leave too much */
    bool needed;
    /* how what is dirty has grown in the first pass */
    DirtyGrowth growth;
    /* a sync in the middle has ended the first pass */
    bool first_pass_cut;
    /* what vCPUs may dirty */
    uint64_t budget_pps;
    /*
     * What devices dirty: the lower rate of the last two iterations, because
     * one burst of DMA is no rate; and that of the last one
     */
    uint64_t device_pps;
    uint64_t device_latest_pps;
    /*
     * Reasons why throttling cannot help, as long as nothing takes them back:
     * devices leave next to nothing of the link; vCPUs were as slow as they
     * can get in vain, and when that was last seen.  And what was dirtied when
     * the latest of them was found.
     */
    bool devices_alone;
    bool floor_in_vain;
    int64_t in_vain_ns;
    uint64_t helpless_pps;
    /* as of the last sync, progress and decision */
    DirtyIteration iteration;
    /* when the migration began */
    int64_t begin_ns;
    /*
     * There is a deadline; and when the guest can be switched over, from when
     * the migration began, if that is later by more than what is tolerated; 0:
     * it is not; -1: nobody knows
     */
    bool deadline;
    int64_t late_ns;

    /* what the sender had sent at the last progress, and when that was */
    uint64_t sent_pages;
    int64_t progress_ns;
    /*
     * When the iteration began, and the one before; what vCPUs had been charged
     * by then
     */
    int64_t iteration_ns;
    int64_t last_iteration_ns;
    uint64_t iteration_dirtied_pages;
    /* the pause of the last iteration; what counts is the lower of two */
    int64_t pause_latest_ns;
    /* when the last decision was made, and what they were charged by then */
    int64_t decided_ns;
    uint64_t decided_dirtied_pages;
    /* when penalties were last seen to grow, and their sum */
    int64_t paid_change_ns;
    uint64_t paid_ns;
    /*
     * Whether some vCPUs are at their floor, since when that has not changed,
     * and what had been dirtied by then
     */
    bool at_floor;
    int64_t floor_ns;
    uint64_t floor_dirtied_pages;
} DirtyEngine;

/* Add what is known of one vCPU to a sample. */
void dirty_engine_add_vcpu(DirtyVcpuSample *s, const DirtyVcpu *v,
                           int64_t now_ns);

/**
 * dirty_engine_begin: a migration begins
 *
 * @means: what may be decided
 * @vcpus: how vCPUs fare
 * @now_ns: the time
 *
 * Returns: what to do until the first dirty_engine_decide().  That is nothing,
 * or the fallback if without a mechanism nothing else will ever help.
 */
DirtyDecision dirty_engine_begin(DirtyEngine *e, const DirtyMeans *means,
                                 const DirtyVcpuSample *vcpus, int64_t now_ns);

/**
 * dirty_engine_unexplained: nobody can tell any more who dirties memory
 *
 * For the rest of the migration, with DIRTY_REASON_UNEXPLAINED.
 *
 * @now_ns: the time
 *
 * Returns: what to do from now on; until the migration ends, unless vCPUs are
 * slowed alike
 */
DirtyDecision dirty_engine_unexplained(DirtyEngine *e, int64_t now_ns);

/**
 * dirty_engine_found: what a sync has found that was not dirty before
 *
 * To be asked before dirty_engine_synced().
 *
 * @to_send_pages: what the migration has to send now
 */
uint64_t dirty_engine_found(const DirtyEngine *e, uint64_t to_send_pages);

/**
 * dirty_engine_synced: a new iteration begins
 *
 * Pages found dirty that no vCPU was charged for have been dirtied by devices.
 * A sync in the middle does not tell: it has not found pages that were to be
 * sent anyway, for which vCPUs were charged.
 *
 * @iteration: its number; 1 is the first pass over memory
 * @to_send_pages: what the migration has to send now
 * @vcpus: how vCPUs fare; charged is what this sync has found, and no more
 * @now_ns: the time
 */
void dirty_engine_synced(DirtyEngine *e, uint64_t iteration,
                         uint64_t to_send_pages, const DirtyVcpuSample *vcpus,
                         int64_t now_ns);

/**
 * dirty_engine_progress: how far the migration has got
 *
 * @sent_pages: sent so far, growing; pages that were zero do not count
 * @remaining_pages: what this iteration still has to send
 * @switchover_pages: as in DirtyIteration
 * @window: as in dirty_link_progress()
 * @now_ns: the time
 */
void dirty_engine_progress(DirtyEngine *e, uint64_t sent_pages,
                           uint64_t remaining_pages, uint64_t switchover_pages,
                           int64_t window, int64_t now_ns);

/* The first pass is over and nothing is throttled; it may be urgent to. */
static inline bool dirty_engine_watches(const DirtyEngine *e)
{
    return e->iteration.number > 1 && e->phase <= DIRTY_PHASE_WATCHING;
}

/**
 * dirty_engine_urgent: is it time to decide, however short ago that was?
 *
 * That is so while nothing is throttled, and half of what the iteration may
 * leave has been dirtied already.  Fast writers get there within some
 * milliseconds after a sync.
 *
 * @vcpus: how vCPUs fare
 */
bool dirty_engine_urgent(const DirtyEngine *e, const DirtyVcpuSample *vcpus);

/**
 * dirty_engine_decide: what to do from now on
 *
 * @vcpus: how vCPUs fare
 * @aim: what the operator wants
 * @now_ns: the time
 *
 * Returns: the decision; the last one if less than DIRTY_LINK_SPAN_NS has
 * passed since, or DIRTY_LOOK_MAX_NS if it is urgent
 */
DirtyDecision dirty_engine_decide(DirtyEngine *e, const DirtyVcpuSample *vcpus,
                                  const DirtyAim *aim, int64_t now_ns);

#endif
