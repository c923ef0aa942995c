/*
 * Throttle simulator: the engine of this series
 *
 * All arithmetic and every decision is the engine's own, of
 * migration/dirty-throttle/.  What is here are the calls that
 * migration/dirty-throttle.c makes.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/dirty-throttle/engine.h"
#include "migration/dirty-throttle/estimate.h"
#include "migration/dirty-throttle/pool.h"
#include "policy.h"

/* As in migration/dirty-throttle.c */
#define DECIDE_NS (100 * SIM_MS)

/* dirty-quota-interval */
#define QUOTA_INTERVAL_NS (100 * SIM_MS)

/* A penalty that would end so soon anyway is not worth a kick. */
#define WAKE_MIN_NS SIM_MS

/*
 * Is the first pass cut when the engine says so, as soon as the link is known,
 * or half of memory is dirty, or never?  The latter ones are what the engine's
 * rule is compared with.
 */
typedef enum EngineCut {
    ENGINE_CUT_BY_RULE,
    ENGINE_CUT_AT_ONCE,
    ENGINE_CUT_AT_HALF,
    ENGINE_CUT_NEVER,
} EngineCut;

typedef struct EngineVcpu {
    DirtyVcpu v;
    /* what was told of it, besides what it dirtied: pages read, or time */
    double false_pages;
    int64_t told_ns;
    /* it sleeps for a penalty, and not because of auto-converge */
    bool paying;
    /* when that makes it sleep again */
    int64_t slice_end_ns;
} EngineVcpu;

typedef struct Engine {
    DirtyEngine e;
    DirtyPool pool;
    DirtyEstimate estimate;
    Converge converge;
    EngineVcpu *vcpus;
    EngineCut cut;
    DirtyDecision decision;
    unsigned rounds;
    int64_t decided_ns;
    /* without a ring: found by the present iteration, up to now */
    double found_pages;
    double looked_pages;
    /* on the host's clock */
    int64_t spent_us;
    uint64_t steps;
    /* since when the deadline is said to be missed, and what can be met */
    int64_t late_since_ns;
    int64_t late_ns;
    unsigned phases;
    int64_t phases_ns[3];
    bool seen[DIRTY_PHASE_CANNOT_HELP + 1];
    bool flaps;
} Engine;

static bool engine_is_alike(const Engine *e)
{
    return dirty_means_alike(&e->e.means);
}

/* What the accelerator tells of a vCPU */
static uint64_t engine_look(Sim *s, SimVcpu *v)
{
    Engine *e = s->state;
    EngineVcpu *ev = &e->vcpus[v->index];

    if (engine_is_alike(e)) {
        return v->ran_ns / 1000;
    }
    if (s->scenario->false_pps) {
        ev->false_pages += (double)s->scenario->false_pps *
                           (v->ran_ns - ev->told_ns) / SIM_S;
        ev->told_ns = v->ran_ns;
    }
    return v->dirtied + ev->false_pages;
}

static DirtyVcpuSample engine_sample(Sim *s, int64_t now_ns)
{
    Engine *e = s->state;
    DirtyVcpuSample sample = { .converging = e->converge.percent };

    for (unsigned i = 0; i < s->nr_vcpus; i++) {
        dirty_engine_add_vcpu(&sample, &e->vcpus[i].v, now_ns);
    }
    return sample;
}

static void engine_set_decision(Sim *s, DirtyDecision decision, int64_t now_ns)
{
    Engine *e = s->state;

    if (!e->decision.share && decision.share) {
        dirty_pool_init(&e->pool, now_ns);
    }
    if (!decision.fallback) {
        converge_stop(&e->converge);
    }
    e->decision = decision;
    s->throttling = decision.share || decision.limit || e->converge.percent;
    s->share_pps = decision.share && !decision.fallback && !decision.limit ?
                   e->e.budget_pps / s->nr_vcpus : 0;
}

static double engine_sum_dirtied(const Sim *s)
{
    double pages = 0;

    for (unsigned i = 0; i < s->nr_vcpus; i++) {
        pages += s->vcpus[i].dirtied;
    }
    return pages;
}

static void engine_begin(Sim *s, bool limit, bool share)
{
    Engine *e = g_new0(Engine, 1);
    SimMechanism mechanism = s->scenario->mechanism;
    int64_t now_ns = sim_clock_ns(s, s->now_ns);
    DirtyMeans means = {
        .mechanism = mechanism != SIM_MECHANISM_NONE &&
                     mechanism != SIM_MECHANISM_TIME,
        .cpu_time = mechanism != SIM_MECHANISM_NONE,
        .estimated = scenario_estimates(s->scenario),
        .limit = limit,
        .share = share,
        .converge = true,
    };
    DirtyVcpuSample vcpus;

    s->state = e;
    e->vcpus = g_new0(EngineVcpu, s->nr_vcpus);
    e->seen[DIRTY_PHASE_FIRST_PASS] = true;
    converge_begin(&e->converge, s);
    dirty_estimate_init(&e->estimate);
    for (unsigned i = 0; i < s->nr_vcpus; i++) {
        dirty_vcpu_init(&e->vcpus[i].v, now_ns);
    }
    vcpus = engine_sample(s, now_ns);
    engine_set_decision(s, dirty_engine_begin(&e->e, &means, &vcpus, now_ns),
                        now_ns);
    if (engine_is_alike(e)) {
        dirty_estimate_init_by_time(&e->estimate);
        for (unsigned i = 0; i < s->nr_vcpus; i++) {
            e->vcpus[i].v.worth = 0;
        }
    }
    for (unsigned i = 0; i < s->nr_vcpus; i++) {
        dirty_vcpu_charge(&e->vcpus[i].v, engine_look(s, &s->vcpus[i]),
                          now_ns);
    }
}

static void engine_begin_quota(Sim *s)
{
    engine_begin(s, false, true);
}

static void engine_begin_limit(Sim *s)
{
    engine_begin(s, true, false);
}

static void engine_begin_both(Sim *s)
{
    engine_begin(s, true, true);
}

static void engine_begin_overruled(Sim *s, EngineCut cut)
{
    Engine *e;

    engine_begin(s, false, true);
    e = s->state;
    e->cut = cut;
}

static void engine_begin_at_once(Sim *s)
{
    engine_begin_overruled(s, ENGINE_CUT_AT_ONCE);
}

static void engine_begin_at_half(Sim *s)
{
    engine_begin_overruled(s, ENGINE_CUT_AT_HALF);
}

static void engine_begin_after_pass(Sim *s)
{
    engine_begin_overruled(s, ENGINE_CUT_NEVER);
}

static void engine_end(Sim *s)
{
    Engine *e = s->state;

    g_free(e->vcpus);
    g_free(e);
}

/*
 * It is known how much vCPUs have really dirtied.  Here they report all of
 * that, and more, so that it is always explained.
 */
static void engine_correct(Sim *s, int64_t now_ns)
{
    Engine *e = s->state;
    uint64_t reported_pages = 0, found_pages = e->found_pages;
    bool explained;

    e->found_pages = 0;
    for (unsigned i = 0; i < s->nr_vcpus; i++) {
        reported_pages += e->vcpus[i].v.reported_pages;
    }
    explained = dirty_estimate_correct(&e->estimate, reported_pages,
                                       found_pages);
    g_assert(explained);
    for (unsigned i = 0; i < s->nr_vcpus; i++) {
        DirtyVcpu *v = &e->vcpus[i].v;

        dirty_vcpu_correct(v, dirty_estimate_part(&e->estimate,
                                                  v->reported_pages),
                           e->estimate.worth, now_ns);
    }
}

/* Look ahead: what vCPUs have dirtied since, as the log shows */
static void engine_look_ahead(Sim *s)
{
    Engine *e = s->state;
    double dirtied = engine_sum_dirtied(s);

    e->found_pages += dirtied - e->looked_pages;
    e->looked_pages = dirtied;
}

static void engine_count_phase(Engine *e, DirtyPhase before, int64_t now_ns)
{
    if (e->e.phase == before) {
        return;
    }
    e->phases++;
    /* To get into a phase for the first time is no flapping. */
    if (!e->seen[e->e.phase]) {
        e->seen[e->e.phase] = true;
        return;
    }
    /* The times of the latest ones, the oldest first */
    memmove(e->phases_ns, e->phases_ns + 1,
            sizeof(e->phases_ns) - sizeof(e->phases_ns[0]));
    e->phases_ns[ARRAY_SIZE(e->phases_ns) - 1] = now_ns;
    if (e->phases_ns[0] && now_ns - e->phases_ns[0] < 2 * SIM_S) {
        e->flaps = true;
    }
}

/* What was first said of a deadline that is missed, if nobody took it back */
static void engine_note_late(Engine *e, int64_t now_ns)
{
    if (!e->e.late_ns) {
        e->late_since_ns = 0;
    } else if (!e->late_since_ns) {
        e->late_since_ns = now_ns;
        e->late_ns = e->e.late_ns;
    }
}

/*
 * The engine is told that it wants the sync, or does not, so that it goes on as
 * it does after a first pass that it has cut itself, or has not.
 */
static void engine_overrule(Engine *e)
{
    const DirtyIteration *it = &e->e.iteration;

    if (e->cut != ENGINE_CUT_BY_RULE && it->number < 2) {
        e->e.decision.sync = e->e.link.pps &&
                             (e->cut == ENGINE_CUT_AT_ONCE ||
                              (e->cut == ENGINE_CUT_AT_HALF &&
                               it->dirtied_pages >= it->begin_pages / 2));
    }
}

static void engine_decide(Sim *s, int64_t now_ns)
{
    Engine *e = s->state;
    DirtyPhase before = e->e.phase;
    DirtyVcpuSample vcpus;
    DirtyAim aim = {
        .threshold_percent = s->scenario->threshold_percent,
        .deadline_ns = s->scenario->deadline_ns,
    };
    bool due = now_ns - e->decided_ns >= DECIDE_NS;

    if (!due && !dirty_engine_watches(&e->e)) {
        return;
    }
    vcpus = engine_sample(s, now_ns);
    if (!due && !dirty_engine_urgent(&e->e, &vcpus)) {
        return;
    }
    e->decided_ns = now_ns;
    if (engine_is_alike(e) && e->e.iteration.number > 1) {
        engine_look_ahead(s);
        engine_correct(s, now_ns);
    }
    vcpus = engine_sample(s, now_ns);
    engine_set_decision(s, dirty_engine_decide(&e->e, &vcpus, &aim, now_ns),
                        now_ns);
    engine_overrule(e);
    engine_note_late(e, now_ns);
    engine_count_phase(e, before, now_ns);
}

static void engine_share(Sim *s, int64_t now_ns)
{
    Engine *e = s->state;

    dirty_pool_begin(&e->pool, e->e.budget_pps, s->nr_vcpus, QUOTA_INTERVAL_NS,
                     now_ns);
    for (unsigned i = 0; i < s->nr_vcpus; i++) {
        dirty_pool_collect(&e->pool, &e->vcpus[i].v.share);
        dirty_vcpu_set_ceiling(&e->vcpus[i].v,
                               s->scenario->max_throttle_percent);
    }
    e->rounds++;
    for (unsigned i = 0; i < s->nr_vcpus; i++) {
        unsigned n = (e->rounds + i) % s->nr_vcpus;

        dirty_pool_pay(&e->pool, &e->vcpus[n].v.share);
    }
}

static void engine_set_limits(Sim *s, int64_t now_ns)
{
    Engine *e = s->state;
    uint64_t pps = e->decision.limit ? s->scenario->limit_pps ?: 256 :
                                       DIRTY_RATE_UNLIMITED;

    for (unsigned i = 0; i < s->nr_vcpus; i++) {
        DirtyVcpu *v = &e->vcpus[i].v;

        dirty_account_set_rate(&v->limit, pps, now_ns);
        if (!e->decision.share && dirty_account_limited(&v->share)) {
            dirty_account_set_rate(&v->share, DIRTY_RATE_UNLIMITED, now_ns);
        }
    }
}

/* Those who sleep for more than they owe now are woken. */
static void engine_wake(Sim *s, int64_t now_ns)
{
    Engine *e = s->state;

    for (unsigned i = 0; i < s->nr_vcpus; i++) {
        SimVcpu *v = &s->vcpus[i];
        int64_t owed_ns;

        if (!e->vcpus[i].paying || v->wake_ns <= s->now_ns) {
            continue;
        }
        owed_ns = dirty_vcpu_owed_ns(&e->vcpus[i].v, now_ns);
        if (s->now_ns + owed_ns < v->wake_ns - WAKE_MIN_NS) {
            guest_wake_at(v, s->now_ns + owed_ns);
        }
    }
}

static void engine_step(Sim *s)
{
    Engine *e = s->state;
    int64_t now_ns = sim_clock_ns(s, s->now_ns);
    int64_t begin_us = g_get_monotonic_time();

    for (unsigned i = 0; i < s->nr_vcpus; i++) {
        SimVcpu *v = &s->vcpus[i];

        if (dirty_vcpu_charge(&e->vcpus[i].v, engine_look(s, v), now_ns) &&
            v->wake_ns == SIM_NEVER && v->leave_ns == SIM_NEVER) {
            guest_kick(s, v);
        }
    }
    engine_decide(s, now_ns);
    engine_set_limits(s, now_ns);
    if (e->decision.share) {
        engine_share(s, now_ns);
    }
    engine_wake(s, now_ns);
    e->spent_us += g_get_monotonic_time() - begin_us;
    e->steps++;
}

static int64_t engine_leave(Sim *s, SimVcpu *v, bool full)
{
    Engine *e = s->state;
    EngineVcpu *ev = &e->vcpus[v->index];
    int64_t penalty_ns = 0;

    if (dirty_vcpu_limited(&ev->v)) {
        penalty_ns = dirty_vcpu_charge(&ev->v, engine_look(s, v),
                                       sim_clock_ns(s, v->now_ns));
    }
    ev->paying = penalty_ns;
    if (!penalty_ns && e->converge.percent && v->now_ns >= ev->slice_end_ns) {
        penalty_ns = converge_sleep_ns(&e->converge);
        ev->slice_end_ns = v->now_ns + penalty_ns + CONVERGE_SLICE_NS;
    }
    return penalty_ns;
}

/*
 * A vCPU leaves the guest when it has used up its allowance: after so many
 * pages with KVM's quota, which is after as many faults at the earliest; else
 * when that may be so.
 */
static int64_t engine_leave_ns(Sim *s, DirtyVcpu *v, int64_t look_ns,
                               int64_t now_ns)
{
    int64_t pages;

    if (s->scenario->mechanism != SIM_MECHANISM_QUOTA) {
        return look_ns;
    }
    pages = dirty_vcpu_allow_pages(v, now_ns);
    return pages < INT64_MAX / s->scenario->fault_ns ?
           pages * s->scenario->fault_ns : 0;
}

static int64_t engine_enter(Sim *s, SimVcpu *v, int64_t slept_ns)
{
    Engine *e = s->state;
    EngineVcpu *ev = &e->vcpus[v->index];
    int64_t now_ns = sim_clock_ns(s, v->now_ns);
    int64_t look_ns = dirty_vcpu_resume(&ev->v, ev->paying ? slept_ns : 0,
                                        false, now_ns);

    look_ns = engine_leave_ns(s, &ev->v, look_ns, now_ns);
    ev->paying = false;
    if (e->converge.percent) {
        int64_t slice_ns = MAX(ev->slice_end_ns - v->now_ns, 1);

        look_ns = look_ns ? MIN(look_ns, slice_ns) : slice_ns;
    }
    return look_ns;
}

static void engine_synced(Sim *s, uint64_t found_pages)
{
    Engine *e = s->state;
    int64_t now_ns = sim_clock_ns(s, s->now_ns);
    DirtyVcpuSample vcpus;

    for (unsigned i = 0; i < s->nr_vcpus; i++) {
        dirty_vcpu_charge(&e->vcpus[i].v, engine_look(s, &s->vcpus[i]),
                          now_ns);
    }
    if (scenario_estimates(s->scenario)) {
        engine_look_ahead(s);
        if (s->sender.iteration < 2) {
            e->found_pages = 0;
            for (unsigned i = 0; i < s->nr_vcpus; i++) {
                dirty_vcpu_accept(&e->vcpus[i].v);
            }
        } else {
            engine_correct(s, now_ns);
        }
    }
    vcpus = engine_sample(s, now_ns);
    dirty_engine_synced(&e->e, s->sender.iteration, s->memory.nr_to_send,
                        &vcpus, now_ns);
    converge_synced(&e->converge, s, found_pages, e->decision.fallback);
}

static void engine_progress(Sim *s)
{
    Engine *e = s->state;
    int64_t now_ns = sim_clock_ns(s, s->now_ns);

    dirty_engine_progress(&e->e, s->sender.sent_pages, s->memory.nr_to_send,
                          s->sender.switchover_pages,
                          s->sender.window_ns / SIM_MS + 1, now_ns);
}

static bool engine_wants_sync(const Sim *s)
{
    const Engine *e = s->state;

    return e->e.decision.sync;
}

PolicyEngineState policy_engine_state(const Sim *s)
{
    static const char *const reasons[] = {
        "", "no-mechanism", "unexplained", "devices", "floor", "ceiling"
    };
    static const char *const phases[] = {
        "first pass", "watching", "throttling", "cannot help"
    };
    Engine *e = s->state;

    if (s->policy->step != engine_step) {
        return (PolicyEngineState) { .phase = "", .reason = "" };
    }
    return (PolicyEngineState) {
        .steps = e->steps,
        .step_ns = e->steps ? e->spent_us * 1000.0 / e->steps : 0,
        .vcpu_bytes = sizeof(DirtyVcpu),
        .phases = e->phases,
        .flaps = e->flaps,
        .late_since_ns = e->late_since_ns,
        .late_ns = e->late_ns,
        .phase = e->decision.fallback ? "fallback" : phases[e->e.phase],
        .reason = reasons[e->decision.reason],
    };
}

#define POLICY_ENGINE(begin_function)   \
    .begin = begin_function,            \
    .end = engine_end,                  \
    .step = engine_step,                \
    .leave = engine_leave,              \
    .enter = engine_enter,              \
    .synced = engine_synced,            \
    .progress = engine_progress,        \
    .wants_sync = engine_wants_sync

const SimPolicy policy_quota = {
    .name = "dirty-quota",
    POLICY_ENGINE(engine_begin_quota),
};

const SimPolicy policy_limit = {
    .name = "dirty-limit",
    POLICY_ENGINE(engine_begin_limit),
};

const SimPolicy policy_limit_and_quota = {
    .name = "limit-and-quota",
    POLICY_ENGINE(engine_begin_both),
};

const SimPolicy policy_at_once = {
    .name = "at-once",
    .on_request = true,
    POLICY_ENGINE(engine_begin_at_once),
};

const SimPolicy policy_at_half = {
    .name = "at-half",
    .on_request = true,
    POLICY_ENGINE(engine_begin_at_half),
};

const SimPolicy policy_after_pass = {
    .name = "after-first-pass",
    .on_request = true,
    POLICY_ENGINE(engine_begin_after_pass),
};
