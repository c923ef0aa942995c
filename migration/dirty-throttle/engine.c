/*
 * Dirty throttle: one step, sample in, decision out
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * The control law.  A migration sends memory in iterations: all of it in the
 * first, and in each later one what was dirtied during the one before, until
 * what is left can be switched over within the downtime limit.
 *
 * Estimated, in pages/s:
 *
 *   B  the link's bandwidth: sent in a whole window of the sender / its time;
 *      rises at once, falls slowly, stands still while the link is stuck
 *                                                                    (link.c)
 *   d  what devices dirty: found dirty by a sync, less what vCPUs were charged
 *      for, / time of the iteration; the lower of the last two iterations
 *   r  the dirty page rate: charged to vCPUs since the last decision / time,
 *      and d
 *   t  the pause in an iteration, for its sync: since the sender's last
 *      progress; the lower of the last two
 *
 * Computed from these, f being throttle-trigger-threshold, or with a deadline
 * what it takes to be done by then, but no less than 5 %:
 *
 *   D        what the first pass is going to leave dirty: what is dirty
 *            already, or more if it grows less and less, but does  (growth.c)
 *   sync     in the first pass, D is 70 % of memory, or a deadline has it
 *            throttled already, and a sync saves half of memory; and if that
 *            has ended it, a sync saves 3 % of an iteration        (target.c)
 *   need     dirtied + r * remaining / B, which is what this iteration will
 *            leave to the next one, exceeds both what can be switched over and
 *            f * what this one began with; or in the end, r > c    (target.c)
 *   c        what the link carries in the end: B, or less if t is long
 *                                                                  (target.c)
 *   budget   f * (B - d), for all vCPUs together; less where iterations are
 *            short and t is long; and in an iteration in which too much has
 *            been dirtied already, to make up for that             (target.c)
 *   share    budget / number of vCPUs, earned by each as time passes (pool.c)
 *   pool     what a vCPU earns and does not need; every 10 ms it pays for
 *            those who are in debt                                   (pool.c)
 *   penalty  debt / (share + what the pool pays), but for no more than the
 *            ceiling of any second, or debt / limit if that is longer; at most
 *            100 ms at a stretch                         (account.c, vcpu.c)
 *
 * Phases:
 *
 *       +-------------------------------+
 *       v                               v
 *   FIRST_PASS ---> WATCHING <------> THROTTLING
 *                       ^                 ^
 *                       +--> CANNOT_HELP <+
 *
 *   FIRST_PASS    the second iteration begins, which may
 *                 be because of a sync in the middle       -> WATCHING, and on
 *                 the deadline leaves less than 10 %       -> THROTTLING
 *   WATCHING      need                                     -> THROTTLING
 *                 need, and a reason that is still known   -> CANNOT_HELP
 *   THROTTLING    a reason, but not in the first pass      -> CANNOT_HELP
 *                 the deadline leaves 30 % or more, in the
 *                 first pass                               -> FIRST_PASS
 *                 no need, and no penalty for 2 s, nor in
 *                 the whole iteration before this one      -> WATCHING
 *   CANNOT_HELP   relief                                   -> THROTTLING
 *                 no need, with DEVICES, and auto-converge
 *                 does not hide it                         -> WATCHING
 *
 *   reason  DEVICES: d > 0.9 * c, at a sync.  FLOOR: for 1 s some vCPUs have
 *           been as slow as they can get, and r >= B.  CEILING: the same with
 *           shares.  MECHANISM: nothing tells who dirties memory, from the
 *           beginning to the end.
 *           UNEXPLAINED: what tells so turned out not to, at a sync; to the
 *           end as well                                       (estimate.c)
 *   alike   MECHANISM and UNEXPLAINED are no reason if all vCPUs may be slowed
 *           alike.  Then each is charged for the time that it runs, at what
 *           all of them dirty in that time, and there is no limit.
 *                                                             (estimate.c)
 *   relief  c is twice what was dirtied when the reason was found; or a whole
 *           iteration, without auto-converge, did not show the reason.
 *
 *                limit             share     auto-converge
 *   FIRST_PASS   no                no        no
 *   WATCHING     if it once was    no        no
 *   THROTTLING   if needed         yes       no
 *   DEVICES      if it once was    no        yes
 *   FLOOR        yes               no        yes
 *   CEILING      yes               yes       no
 *   MECHANISM, UNEXPLAINED
 *                no                no        yes
 *
 * Each of the three only if its capability is enabled.  Syncs in the middle of
 * an iteration are for shares, in FIRST_PASS and THROTTLING.
 */

#include "qemu/osdep.h"
#include "account.h"
#include "engine.h"

/*
 * Devices that dirty so much of what the link carries in the end leave vCPUs
 * too little to live on, and the migration gains too little from it: an
 * iteration gets shorter by less than a tenth.
 */
#define DEVICES_ALONE_PERCENT 90

/*
 * A reason why throttling cannot help is taken back when the link carries so
 * many times what was dirtied when it was found: enough not to find it again at
 * once.
 */
#define RELIEF_FACTOR 2

/*
 * Throttling goes on for so long after the last penalty.  A guest that is quiet
 * only while it is slowed down makes it begin and end that often: less than one
 * change a second.
 */
#define QUIET_NS (2 * DIRTY_SETTLE_NS)

/*
 * If the sender has not got on for longer, the link is stuck, or a sync takes
 * its time; see link.h.
 */
#define STUCK_NS 200000000LL

/* Shorter iterations say too little about the rate of devices. */
#define DEVICE_ITERATION_MIN_NS 100000000LL

/* vCPUs are as slow as they can get.  It is kept so, but is not enough. */
static bool engine_is_at_floor(DirtyReason reason)
{
    return reason == DIRTY_REASON_FLOOR || reason == DIRTY_REASON_CEILING;
}

void dirty_engine_add_vcpu(DirtyVcpuSample *s, const DirtyVcpu *v,
                           int64_t now_ns)
{
    s->dirtied_pages += v->dirtied_pages;
    s->paid_ns += v->paid_ns;
    s->at_floor |= dirty_vcpu_at_floor(v, now_ns);
}

/* Nothing tells vCPUs apart: all are slowed alike, or else by the fallback. */
static void engine_lose_mechanism(DirtyEngine *e, DirtyReason reason,
                                  int64_t now_ns)
{
    e->untold = reason;
    if (dirty_means_alike(&e->means)) {
        e->decision.limit = false;
        e->decision.fallback &= e->decision.reason == DIRTY_REASON_DEVICES;
        if (e->phase != DIRTY_PHASE_CANNOT_HELP) {
            e->decision.reason = reason;
        }
        return;
    }
    e->phase = DIRTY_PHASE_CANNOT_HELP;
    e->phase_ns = now_ns;
    e->deadline = false;
    e->late_ns = 0;
    e->decision = (DirtyDecision) {
        .fallback = e->means.converge,
        .reason = reason,
    };
}

DirtyDecision dirty_engine_begin(DirtyEngine *e, const DirtyMeans *means,
                                 const DirtyVcpuSample *vcpus, int64_t now_ns)
{
    *e = (DirtyEngine) {
        .means = *means,
        .phase = DIRTY_PHASE_FIRST_PASS,
        .phase_ns = now_ns,
        .begin_ns = now_ns,
        .iteration_ns = now_ns,
        .iteration_dirtied_pages = vcpus->dirtied_pages,
        .decided_ns = now_ns,
        .decided_dirtied_pages = vcpus->dirtied_pages,
        .paid_change_ns = now_ns,
        .paid_ns = vcpus->paid_ns,
    };
    if (!means->mechanism && (means->limit || means->share)) {
        engine_lose_mechanism(e, DIRTY_REASON_MECHANISM, now_ns);
    }
    return e->decision;
}

DirtyDecision dirty_engine_unexplained(DirtyEngine *e, int64_t now_ns)
{
    e->means.mechanism = false;
    engine_lose_mechanism(e, DIRTY_REASON_UNEXPLAINED, now_ns);
    return e->decision;
}

/*
 * An iteration is over.  Do the reasons why throttling cannot help still hold?
 *
 * While auto-converge acts, vCPUs dirty less, and so do devices that work for
 * them.  This must not be taken for a sign that auto-converge is not needed: it
 * would be lifted, found to be needed again, and start anew at its initial
 * percentage, in a saw tooth that need not ever end.  So meanwhile nothing that
 * the guest does takes a reason back.  A guest that gets quiet by itself soon
 * ends the migration anyway.
 *
 * Otherwise it takes a whole iteration in which vCPUs were never at their floor
 * in vain.  Half of one is not enough: a vCPU that dirties the same set of
 * pages in each of them has dirtied all of it after a while, and then seems
 * quiet.
 */
static void engine_review(DirtyEngine *e, const DirtyVcpuSample *vcpus)
{
    uint64_t carried_pps = dirty_target_carried_pps(&e->iteration);
    bool alone = carried_pps && e->device_pps >
                                carried_pps * DEVICES_ALONE_PERCENT / 100;

    if (vcpus->converging) {
        return;
    }
    if (alone && !e->devices_alone) {
        e->helpless_pps = e->device_pps;
    }
    e->devices_alone = alone;
    if (e->in_vain_ns < e->iteration_ns) {
        e->floor_in_vain = false;
    }
}

/*
 * An iteration is over.  Nothing was sent between the last progress and the end
 * of the sync, which is now.
 */
static void engine_measure_pause(DirtyEngine *e, int64_t now_ns)
{
    int64_t pause_ns = MAX(now_ns - e->progress_ns, 0);

    e->iteration.pause_ns = MIN(pause_ns, e->pause_latest_ns);
    e->pause_latest_ns = pause_ns;
}

uint64_t dirty_engine_found(const DirtyEngine *e, uint64_t to_send_pages)
{
    return dirty_pages_since(to_send_pages, e->iteration.remaining_pages);
}

void dirty_engine_synced(DirtyEngine *e, uint64_t iteration,
                         uint64_t to_send_pages, const DirtyVcpuSample *vcpus,
                         int64_t now_ns)
{
    DirtyIteration *it = &e->iteration;
    uint64_t by_vcpus = dirty_pages_since(vcpus->dirtied_pages,
                                          e->iteration_dirtied_pages);
    uint64_t found = dirty_engine_found(e, to_send_pages);
    int64_t took_ns = now_ns - e->iteration_ns;
    bool cut = e->decision.sync;

    if (iteration > 1) {
        engine_measure_pause(e, now_ns);
    }
    if (iteration > 1 && took_ns >= DEVICE_ITERATION_MIN_NS && !cut) {
        uint64_t by_devices = dirty_pages_since(found, by_vcpus);
        uint64_t pps = dirty_pages_rate_pps(by_devices, took_ns);

        e->device_pps = MIN(pps, e->device_latest_pps);
        e->device_latest_pps = pps;
        engine_review(e, vcpus);
    }
    e->first_pass_cut |= cut && iteration == 2;
    e->decision.sync = false;
    e->last_iteration_ns = e->iteration_ns;
    e->iteration_ns = now_ns;
    e->iteration_dirtied_pages = vcpus->dirtied_pages;
    it->number = iteration;
    it->begin_pages = to_send_pages;
    it->remaining_pages = to_send_pages;
    dirty_link_slack(&e->link);
}

void dirty_engine_progress(DirtyEngine *e, uint64_t sent_pages,
                           uint64_t remaining_pages, uint64_t switchover_pages,
                           int64_t window, int64_t now_ns)
{
    DirtyIteration *it = &e->iteration;
    uint64_t sent = sent_pages > e->sent_pages ? sent_pages - e->sent_pages
                                               : 0;
    uint64_t gone = it->remaining_pages > remaining_pages ?
                    it->remaining_pages - remaining_pages : 0;

    /*
     * The guest is not switched over, nor memory synced, as long as devices
     * have too much to send.  That no memory is left to send meanwhile is no
     * sign of a slow link.
     */
    if (!remaining_pages) {
        dirty_link_slack(&e->link);
    }
    /*
     * What remains also shrinks by pages that turn out to be zero, and by those
     * that the guest says it does not need.
     */
    dirty_link_progress(&e->link, sent, gone > sent ? gone - sent : 0, window,
                        now_ns);
    e->sent_pages = sent_pages;
    e->progress_ns = now_ns;
    it->remaining_pages = remaining_pages;
    it->switchover_pages = switchover_pages;
}

/* From now on vCPUs are watched for being at their floor, or not. */
static void engine_watch_floor(DirtyEngine *e, const DirtyVcpuSample *vcpus,
                               int64_t now_ns)
{
    e->at_floor = vcpus->at_floor;
    e->floor_ns = now_ns;
    e->floor_dirtied_pages = vcpus->dirtied_pages;
}

/*
 * What a phase means for the guest.
 *
 * A limit stays once it was needed: it is a number that somebody chose, and
 * dirty-limit promises that it holds until the migration ends.  What a deadline
 * requires in the first pass is no need for it.  A share is what the link
 * leaves.  It is lifted as soon as the migration does without.
 *
 * A limit stays in force with DIRTY_REASON_FLOOR: auto-converge comes on top of
 * it.  With DIRTY_REASON_CEILING it could do no more than shares do, and would
 * break what they promise.  With DIRTY_REASON_DEVICES a share would take
 * everything from vCPUs for next to nothing.
 */
static void engine_set_phase(DirtyEngine *e, DirtyPhase phase,
                             DirtyReason reason, const DirtyVcpuSample *vcpus,
                             int64_t now_ns)
{
    bool slow_vcpus = phase == DIRTY_PHASE_THROTTLING ||
                      engine_is_at_floor(reason);
    bool alike = dirty_means_alike(&e->means);

    if (e->phase != phase) {
        e->phase_ns = now_ns;
        engine_watch_floor(e, vcpus, now_ns);
    }
    e->phase = phase;
    e->decision = (DirtyDecision) {
        .limit = e->means.limit && !alike &&
                 ((slow_vcpus && e->needed) || e->decision.limit),
        .share = e->means.share && slow_vcpus,
        .fallback = e->means.converge && phase == DIRTY_PHASE_CANNOT_HELP &&
                    reason != DIRTY_REASON_CEILING,
        .reason = reason ?: e->untold,
    };
}

/*
 * Does what is done about the load hide it?  Then the migration is taken to
 * need help still, because nobody can see whether it would converge without.
 *
 * Throttling hides the load as long as some vCPU sleeps for a penalty now and
 * then, or has not had the time to.  It goes on for a whole iteration without
 * any, which costs nobody anything: a guest that is quiet only while it is
 * slowed down would else begin anew again and again.
 */
static bool engine_hides_load(const DirtyEngine *e,
                              const DirtyVcpuSample *vcpus, int64_t now_ns)
{
    int64_t change_ns;

    switch (e->phase) {
    case DIRTY_PHASE_THROTTLING:
        change_ns = MAX(e->paid_change_ns, e->phase_ns);
        return now_ns - change_ns < QUIET_NS ||
               change_ns > e->last_iteration_ns;
    case DIRTY_PHASE_CANNOT_HELP:
        return vcpus->converging || engine_is_at_floor(e->decision.reason);
    default:
        return false;
    }
}

/*
 * Penalties are in force.  If some vCPUs are at their floor for a second, and
 * yet as much is dirtied in it as the link carries, slowing vCPUs is no help.
 *
 * The rate in that second tells so.  What the iteration leaves would not: most
 * of it may have been dirtied before throttling began.
 */
static void engine_judge_floor(DirtyEngine *e, const DirtyVcpuSample *vcpus,
                               int64_t now_ns)
{
    uint64_t pps;

    if (vcpus->at_floor != e->at_floor || vcpus->converging) {
        engine_watch_floor(e, vcpus, now_ns);
    }
    if (now_ns - e->floor_ns < DIRTY_SETTLE_NS) {
        return;
    }
    pps = dirty_pages_rate_pps(dirty_pages_since(vcpus->dirtied_pages,
                                                 e->floor_dirtied_pages),
                               now_ns - e->floor_ns) + e->device_pps;
    engine_watch_floor(e, vcpus, now_ns);
    if (e->at_floor && pps >= e->link.pps) {
        e->floor_in_vain = true;
        e->in_vain_ns = now_ns;
        e->helpless_pps = pps;
    }
}

/* Why throttling vCPUs cannot help, if the migration needs help at all. */
static DirtyReason engine_find_reason(DirtyEngine *e,
                                      const DirtyVcpuSample *vcpus,
                                      int64_t now_ns)
{
    if (dirty_target_carried_pps(&e->iteration) / RELIEF_FACTOR >=
        e->helpless_pps) {
        e->devices_alone = false;
        e->floor_in_vain = false;
    }
    if (e->devices_alone) {
        return DIRTY_REASON_DEVICES;
    }
    if (e->phase == DIRTY_PHASE_THROTTLING ||
        engine_is_at_floor(e->decision.reason)) {
        engine_judge_floor(e, vcpus, now_ns);
    }
    if (!e->floor_in_vain) {
        return DIRTY_REASON_NONE;
    }
    return e->means.share ? DIRTY_REASON_CEILING : DIRTY_REASON_FLOOR;
}

/*
 * What vCPUs may dirty, in percent of what devices leave: with a deadline what
 * it takes to meet that, else throttle-trigger-threshold.
 *
 * If a deadline leaves vCPUs less than the least, they get that, and then it is
 * known when it can be over.  If that is clearly later, the deadline is missed.
 */
static void engine_set_threshold(DirtyEngine *e, const DirtyAim *aim,
                                 int64_t now_ns)
{
    DirtyIteration *it = &e->iteration;
    int64_t passed_ns = now_ns - e->begin_ns, earliest_ns;
    int64_t tolerance_ns = MIN(aim->deadline_ns / DIRTY_DEADLINE_PARTS,
                               DIRTY_DEADLINE_TOLERANCE_NS);

    e->late_ns = 0;
    e->deadline = aim->deadline_ns && e->means.share && it->link_pps;
    if (!e->deadline) {
        it->threshold_percent = aim->threshold_percent;
        return;
    }
    it->threshold_percent =
        dirty_target_deadline_percent(it, e->device_pps,
                                      aim->deadline_ns - passed_ns -
                                      DIRTY_DEADLINE_AHEAD_NS);
    if (it->threshold_percent >= DIRTY_DEADLINE_LEAST_PERCENT) {
        /* It may have become easy, but too late. */
        if (passed_ns > aim->deadline_ns + tolerance_ns) {
            e->late_ns = passed_ns;
        }
        return;
    }
    it->threshold_percent = DIRTY_DEADLINE_LEAST_PERCENT;
    earliest_ns = dirty_target_earliest_ns(it, e->device_pps);
    if (earliest_ns < 0) {
        e->late_ns = -1;
    } else if (passed_ns + earliest_ns > aim->deadline_ns + tolerance_ns) {
        e->late_ns = passed_ns + earliest_ns;
    }
}

/* Does a deadline require it to throttle vCPUs in the first pass? */
static bool engine_must_begin(const DirtyEngine *e)
{
    unsigned percent = e->phase == DIRTY_PHASE_THROTTLING ?
                       DIRTY_DEADLINE_STOP_PERCENT :
                       DIRTY_DEADLINE_BEGIN_PERCENT;

    return e->deadline && e->iteration.threshold_percent < percent;
}

/*
 * Is there to be a sync in the middle?  Only if that has ended the first pass,
 * or may do so: in other guests it may be a hot set that is dirtied, which
 * would be dirtied again before its turn, and charged again, for nothing.
 *
 * Where charges are estimates there is none: a sync tells what they are worth,
 * and one in the middle would tell too little, because it does not find pages
 * that were to be sent anyway.
 */
static bool engine_wants_sync(const DirtyEngine *e, uint64_t dirtied_pages)
{
    DirtyIteration it = e->iteration;

    it.dirtied_pages = dirtied_pages;
    it.throttled = e->phase == DIRTY_PHASE_THROTTLING;
    return e->means.share && !e->means.estimated &&
           (it.number < 2 || e->first_pass_cut) && dirty_target_wants_sync(&it);
}

/* What the first pass is going to leave dirty, as far as can be told */
static uint64_t engine_expect(DirtyEngine *e, uint64_t dirtied_pages,
                              int64_t now_ns)
{
    const DirtyIteration *it = &e->iteration;
    double seconds = (double)(now_ns - e->iteration_ns) / DIRTY_NS_PER_S;
    double left = it->link_pps ? (double)it->remaining_pages / it->link_pps
                               : 0;

    return dirty_growth_note(&e->growth, seconds, dirtied_pages, left,
                             it->begin_pages);
}

/*
 * What is dirtied while nothing is sent does not make the budget smaller.  With
 * a deadline what was dirtied is in the threshold already.
 */
static uint64_t engine_budget_pps(const DirtyEngine *e, int64_t now_ns)
{
    DirtyIteration it = e->iteration;

    if (e->deadline || now_ns - e->progress_ns >= STUCK_NS) {
        it.dirtied_pages = 0;
    }
    return dirty_target_budget_pps(&it, e->device_pps);
}

bool dirty_engine_urgent(const DirtyEngine *e, const DirtyVcpuSample *vcpus)
{
    return dirty_engine_watches(e) &&
           dirty_pages_since(vcpus->dirtied_pages, e->iteration_dirtied_pages) >
           dirty_target_may_leave(&e->iteration) / 2;
}

DirtyDecision dirty_engine_decide(DirtyEngine *e, const DirtyVcpuSample *vcpus,
                                  const DirtyAim *aim, int64_t now_ns)
{
    DirtyIteration *it = &e->iteration;
    uint64_t new_pages = dirty_pages_since(vcpus->dirtied_pages,
                                           e->decided_dirtied_pages);
    int64_t took_ns = now_ns - e->decided_ns;
    uint64_t by_vcpus;
    DirtyReason reason;
    bool needed;

    if (took_ns < (dirty_engine_urgent(e, vcpus) ? DIRTY_LOOK_MAX_NS :
                                                   DIRTY_LINK_SPAN_NS) ||
        !(e->means.mechanism || dirty_means_alike(&e->means))) {
        return e->decision;
    }
    /* The latest moments may be a burst; the iteration so far is none. */
    if (took_ns < DIRTY_LINK_SPAN_NS) {
        new_pages = dirty_pages_since(vcpus->dirtied_pages,
                                      e->iteration_dirtied_pages);
        took_ns = now_ns - e->iteration_ns;
    }
    /*
     * A guest that has used little of its memory begins with zero pages, which
     * tell nothing of the link.  The first pass can wait for others to come;
     * after it the least that the link carries is better than nothing.
     */
    it->link_pps = e->link.told || it->number > 1 ? e->link.pps : 0;
    it->dirty_pps = dirty_pages_rate_pps(new_pages, took_ns) + e->device_pps;
    /* Devices dirty as steadily as ever, for all that is known. */
    by_vcpus = dirty_pages_since(vcpus->dirtied_pages,
                                 e->iteration_dirtied_pages);
    it->dirtied_pages = by_vcpus +
                        dirty_rate_pages(e->device_pps,
                                         MAX(now_ns - e->iteration_ns, 0));
    engine_set_threshold(e, aim, now_ns);
    e->decided_ns = now_ns;
    e->decided_dirtied_pages = vcpus->dirtied_pages;
    e->budget_pps = engine_budget_pps(e, now_ns);
    if (vcpus->paid_ns != e->paid_ns) {
        e->paid_ns = vcpus->paid_ns;
        e->paid_change_ns = now_ns;
    }

    e->needed = dirty_target_needs_throttle(it);
    if (it->number < 2) {
        engine_set_phase(e, engine_must_begin(e) ? DIRTY_PHASE_THROTTLING :
                            DIRTY_PHASE_FIRST_PASS, DIRTY_REASON_NONE, vcpus,
                         now_ns);
        by_vcpus = engine_expect(e, by_vcpus, now_ns);
        e->decision.sync = engine_wants_sync(e, by_vcpus);
        return e->decision;
    }
    needed = e->needed || engine_hides_load(e, vcpus, now_ns);
    reason = needed ? engine_find_reason(e, vcpus, now_ns)
                    : DIRTY_REASON_NONE;
    engine_set_phase(e, reason ? DIRTY_PHASE_CANNOT_HELP :
                        needed ? DIRTY_PHASE_THROTTLING :
                                 DIRTY_PHASE_WATCHING, reason, vcpus, now_ns);
    e->decision.sync = e->phase == DIRTY_PHASE_THROTTLING &&
                       engine_wants_sync(e, by_vcpus);
    if (e->deadline && reason) {
        e->late_ns = -1;
    }
    return e->decision;
}
