/*
 * Dirty throttle: the thread, and its life cycle
 *
 * Every step has three parts.  PREPARE: look at what each vCPU has dirtied.
 * CALCULATE: decide what each vCPU may dirty.  SET PENALTY: publish the rates,
 * hand out the common pool, and wake those who sleep for more than they owe
 * now.  The penalties themselves are slept off by the vCPU threads; see
 * accel/kvm/kvm-dirty-throttle.c.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "exec/memory.h"
#include "exec/ramblock.h"
#include "hw/boards.h"
#include "sysemu/cpu-throttle.h"
#include "migration.h"
#include "dirty-throttle-hooks.h"
#include "dirty-throttle-int.h"
#include "ram.h"
#include "trace.h"

/*
 * How often it is decided what the migration needs, unless dirty-quota-interval
 * is shorter, or it is urgent.  The shortest iteration that could do with help
 * lasts longer.
 */
#define DECIDE_NS (100 * SCALE_MS)

/*
 * Outside a migration a page counts again after this time, so that a limit
 * means what calc-dirty-rate reports.
 */
#define EPOCH_NS NANOSECONDS_PER_SECOND

/*
 * It is looked up as often what vCPUs dirty that are slowed alike, but at most
 * in one of so many parts of the time, because the log of a terabyte takes tens
 * of milliseconds.
 */
#define LOOK_AHEAD_PARTS 20

DirtyThrottle dirty_throttle;

static int64_t throttle_now_ns(void)
{
    return get_clock();
}

/*
 * Commands change those that the throttle uses, each by itself, with atomic
 * accesses, so it reads them with such.
 *
 * They belong to the migration object, which quitting frees while this thread
 * still runs.  The migration thread holds a reference to it from before it
 * sets m->active until after it has cleared that.  So this is for those who
 * have seen it set, and still hold t->lock.
 */
static MigrationParameters *throttle_parameters(void)
{
    g_assert(dirty_throttle.migration.active);
    return &migrate_get_current()->parameters;
}

/* The unit in which KVM tracks dirty memory is the host's page. */
static uint64_t throttle_bytes_to_pages(uint64_t bytes)
{
    return bytes / qemu_real_host_page_size();
}

bool dirty_throttle_available(void)
{
    return dirty_throttle.ops && dirty_throttle.ops->tells_apart;
}

bool dirty_throttle_has_rings(void)
{
    return dirty_throttle.ops && dirty_throttle.ops->ring_pages;
}

bool dirty_throttle_in_service(void)
{
    return qatomic_read(&dirty_throttle.in_service);
}

bool dirty_throttle_adaptive_reaper(void)
{
    return qatomic_read(&dirty_throttle.adaptive_reaper);
}

void dirty_throttle_capabilities_changed(void)
{
    qatomic_set(&dirty_throttle.adaptive_reaper, migrate_adaptive_reaper());
}

bool dirty_throttle_migration_limits(void)
{
    DirtyThrottle *t = &dirty_throttle;

    QEMU_LOCK_GUARD(&t->lock);
    return t->migration.limiting;
}

bool dirty_throttle_migration_in_charge(void)
{
    /* Only the migration thread, which asks, changes the former. */
    return dirty_throttle.migration.active &&
           !qatomic_read(&dirty_throttle.migration.fallback);
}

/* Migrations come and go without an accelerator, too. */
static void __attribute__((__constructor__)) throttle_init(void)
{
    qemu_mutex_init(&dirty_throttle.lock);
    qemu_cond_init(&dirty_throttle.wake);
}

void dirty_throttle_register(const DirtyThrottleOps *ops)
{
    DirtyThrottle *t = &dirty_throttle;
    MachineState *ms = MACHINE(qdev_get_machine());

    g_assert(!t->ops);
    t->nr_vcpus = ms->smp.max_cpus;
    t->vcpus = g_new0(DirtyThrottleVcpu, t->nr_vcpus);
    for (unsigned i = 0; i < t->nr_vcpus; i++) {
        qemu_mutex_init(&t->vcpus[i].lock);
        dirty_vcpu_init(&t->vcpus[i].v, throttle_now_ns());
    }
    dirty_estimate_init(&t->estimate);
    t->ops = ops;
}

/* From now on its figures count.  Called with t->lock and vcpu->lock held. */
static void throttle_count_vcpu_from_now(DirtyThrottleVcpu *vcpu)
{
    vcpu->paid_before_ns = vcpu->v.paid_ns;
    vcpu->penalties_before = vcpu->v.penalties;
    vcpu->full_before = vcpu->v.ring_full_exits;
    vcpu->v.longest_ns = 0;
    vcpu->lowest_pps = UINT64_MAX;
}

void dirty_throttle_vcpu_reset(int cpu_index)
{
    DirtyThrottle *t = &dirty_throttle;
    DirtyThrottleVcpu *vcpu = &t->vcpus[cpu_index];

    QEMU_LOCK_GUARD(&t->lock);
    QEMU_LOCK_GUARD(&vcpu->lock);
    dirty_vcpu_forget(&vcpu->v, throttle_now_ns());
    vcpu->history = (DirtyHistory) { };
    throttle_count_vcpu_from_now(vcpu);
    vcpu->v.worth = t->estimate.worth;
}

bool dirty_throttle_sync_begins_epoch(void)
{
    DirtyThrottle *t = &dirty_throttle;

    if (!t->ops) {
        return false;
    }
    QEMU_LOCK_GUARD(&t->lock);
    return t->migration.active && qemu_thread_is_self(&t->migration.thread);
}

void dirty_throttle_epoch_began(void)
{
    DirtyThrottle *t = &dirty_throttle;

    for (unsigned i = 0; i < t->nr_vcpus; i++) {
        QEMU_LOCK_GUARD(&t->vcpus[i].lock);
        t->vcpus[i].epoch_pages = t->vcpus[i].v.dirtied_pages;
    }
}

int64_t dirty_throttle_charge(int cpu_index, uint64_t dirtied_pages)
{
    DirtyThrottleVcpu *vcpu = &dirty_throttle.vcpus[cpu_index];

    QEMU_LOCK_GUARD(&vcpu->lock);
    return dirty_vcpu_charge(&vcpu->v, dirtied_pages, throttle_now_ns());
}

int64_t dirty_throttle_penalty(int cpu_index)
{
    DirtyThrottleVcpu *vcpu = &dirty_throttle.vcpus[cpu_index];

    QEMU_LOCK_GUARD(&vcpu->lock);
    return dirty_vcpu_owed_ns(&vcpu->v, throttle_now_ns());
}

DirtyThrottleAllowance dirty_throttle_resume(int cpu_index, int64_t paid_ns,
                                             bool kicked)
{
    DirtyThrottleVcpu *vcpu = &dirty_throttle.vcpus[cpu_index];
    DirtyThrottleAllowance allowance;
    int64_t now_ns;

    QEMU_LOCK_GUARD(&vcpu->lock);
    now_ns = throttle_now_ns();
    allowance.time_ns = dirty_vcpu_resume(&vcpu->v, paid_ns, kicked, now_ns);
    allowance.pages = dirty_vcpu_allow_pages(&vcpu->v, now_ns);
    trace_dirty_throttle_resume(cpu_index, paid_ns,
                                dirty_vcpu_debt_pages(&vcpu->v),
                                allowance.time_ns);
    return allowance;
}

void dirty_throttle_ring_full(int cpu_index)
{
    DirtyThrottleVcpu *vcpu = &dirty_throttle.vcpus[cpu_index];

    QEMU_LOCK_GUARD(&vcpu->lock);
    vcpu->v.ring_full_exits++;
}

/* How vCPUs fare as of the latest look.  Called with t->lock held. */
static DirtyVcpuSample throttle_sample_vcpus(DirtyThrottle *t)
{
    DirtyVcpuSample sample = { .converging = cpu_throttle_active() };
    int64_t now_ns = throttle_now_ns();

    for (unsigned i = 0; i < t->nr_vcpus; i++) {
        QEMU_LOCK_GUARD(&t->vcpus[i].lock);
        dirty_engine_add_vcpu(&sample, &t->vcpus[i].v, now_ns);
    }
    return sample;
}

/* What had been charged when the epoch began.  Called with t->lock held. */
static uint64_t throttle_past_pages(DirtyThrottle *t)
{
    uint64_t pages = 0;

    for (unsigned i = 0; i < t->nr_vcpus; i++) {
        QEMU_LOCK_GUARD(&t->vcpus[i].lock);
        pages += t->vcpus[i].epoch_pages;
    }
    return pages;
}

/* The limit on a vCPU, 0: none.  Called with t->lock held. */
uint64_t dirty_throttle_limit_mbps(DirtyThrottle *t, DirtyThrottleVcpu *vcpu)
{
    uint64_t mbps = vcpu->limit_mbps;

    if (t->migration.limiting) {
        uint64_t param = qatomic_read__nocheck(
            &throttle_parameters()->vcpu_dirty_limit);

        mbps = mbps ? MIN(mbps, param) : param;
    }
    /* A 32-bit host may read a parameter that is being changed. */
    return MIN(mbps, DIRTY_LIMIT_MAX_MBPS);
}

/*
 * Make limits follow what has been decided.  Called with t->lock held.
 *
 * Returns: whether a vCPU may sleep longer than it need now
 */
static bool throttle_update_limits(DirtyThrottle *t)
{
    int64_t now_ns = throttle_now_ns();
    bool raised = false, limited = false;

    for (unsigned i = 0; i < t->nr_vcpus; i++) {
        DirtyVcpu *v = &t->vcpus[i].v;
        uint64_t mbps = t->unexplained ? 0 :
                        dirty_throttle_limit_mbps(t, &t->vcpus[i]);
        uint64_t pps = DIRTY_RATE_UNLIMITED;

        if (mbps) {
            pps = mbps * throttle_bytes_to_pages(MiB);
        }
        QEMU_LOCK_GUARD(&t->vcpus[i].lock);
        raised |= pps > v->limit.rate_pps;
        dirty_account_set_rate(&v->limit, pps, now_ns);
        if (!t->migration.sharing && dirty_account_limited(&v->share)) {
            raised = true;
            dirty_account_set_rate(&v->share, DIRTY_RATE_UNLIMITED, now_ns);
        }
        limited |= mbps != 0;
    }
    /*
     * A vCPU thread that still reads the old value misses one charge at a
     * full ring at most: the thread's look charges it anyway.
     */
    qatomic_set(&t->in_service, limited || t->migration.sharing);
    return raised;
}

/* As above, for those who do not hold t->lock. */
static void throttle_apply(DirtyThrottle *t)
{
    bool raised;

    WITH_QEMU_LOCK_GUARD(&t->lock) {
        raised = throttle_update_limits(t);
    }
    if (raised) {
        t->ops->wake();
    }
}

/* How often shares are handed out.  Called with t->lock held. */
static int64_t throttle_interval_ns(void)
{
    return qatomic_read__nocheck(
               &throttle_parameters()->dirty_quota_interval) * SCALE_MS;
}

/* Whether vCPUs are slowed alike.  Called with t->lock held. */
static bool throttle_is_alike(DirtyThrottle *t)
{
    return t->migration.active &&
           dirty_means_alike(&t->migration.engine.means);
}

/* For how much of any second vCPUs may sleep.  Called with t->lock held. */
static unsigned throttle_ceiling_percent(void)
{
    return qatomic_read(&throttle_parameters()->max_cpu_throttle);
}

/*
 * Hand out shares and the common pool: one round for all vCPUs that are
 * plugged.  Called with t->lock held.
 *
 * Returns: whether somebody may sleep longer than need be now, because the pool
 * paid, or the ceiling was lowered
 */
static bool throttle_share(DirtyThrottle *t, int64_t now_ns)
{
    DirtyThrottleMigration *m = &t->migration;
    int64_t interval_ns;
    unsigned plugged = 0, ceiling_percent;
    uint64_t paid_pages = 0;
    bool lowered = false;

    for (unsigned i = 0; i < t->nr_vcpus; i++) {
        QEMU_LOCK_GUARD(&t->vcpus[i].lock);
        plugged += t->vcpus[i].v.total_known;
    }
    if (!m->sharing || !plugged) {
        return false;
    }
    interval_ns = throttle_interval_ns();
    ceiling_percent = throttle_ceiling_percent();
    dirty_pool_begin(&m->pool, m->engine.budget_pps, plugged, interval_ns,
                     now_ns);
    for (unsigned i = 0; i < t->nr_vcpus; i++) {
        QEMU_LOCK_GUARD(&t->vcpus[i].lock);
        if (t->vcpus[i].v.total_known) {
            dirty_pool_collect(&m->pool, &t->vcpus[i].v.share);
            lowered |= dirty_vcpu_set_ceiling(&t->vcpus[i].v, ceiling_percent);
        }
    }
    m->rounds++;
    for (unsigned i = 0; i < t->nr_vcpus; i++) {
        DirtyThrottleVcpu *vcpu = &t->vcpus[(m->rounds + i) % t->nr_vcpus];

        QEMU_LOCK_GUARD(&vcpu->lock);
        if (vcpu->v.total_known) {
            paid_pages += dirty_pool_pay(&m->pool, &vcpu->v.share);
        }
    }
    return paid_pages || lowered;
}

/* How long a rate is averaged over.  Called with t->lock held. */
static int64_t throttle_rate_span_ns(DirtyThrottle *t)
{
    return t->migration.limiting ?
           qatomic_read__nocheck(
               &throttle_parameters()->x_vcpu_dirty_limit_period) * SCALE_MS :
           EPOCH_NS;
}

/* What a vCPU that pays is allowed.  Called with t->lock and its lock held. */
static void throttle_note_lowest(DirtyThrottle *t, DirtyThrottleVcpu *vcpu)
{
    const DirtyVcpu *v = &vcpu->v;
    uint64_t pps = v->limit.rate_pps;

    if (!t->migration.active || !dirty_history_recent(&vcpu->history).paid_ns) {
        return;
    }
    if (dirty_account_limited(&v->share)) {
        pps = MIN(pps, v->share.rate_pps + v->share.extra_pps);
    }
    vcpu->lowest_pps = MIN(vcpu->lowest_pps, pps);
}

/* Called with t->lock held, after a look. */
static void throttle_note_rates(DirtyThrottle *t, int64_t now_ns)
{
    if (now_ns - t->noted_ns <
        throttle_rate_span_ns(t) / DIRTY_HISTORY_LENGTH) {
        return;
    }
    t->noted_ns = now_ns;
    for (unsigned i = 0; i < t->nr_vcpus; i++) {
        DirtyVcpu *v = &t->vcpus[i].v;

        QEMU_LOCK_GUARD(&t->vcpus[i].lock);
        dirty_history_note(&t->vcpus[i].history, v->dirtied_pages, v->paid_ns,
                           now_ns);
        throttle_note_lowest(t, &t->vcpus[i]);
    }
}

/*
 * In the main loop, with the BQL.  Auto-converge begins under the BQL, in a
 * dirty sync, and ends under it here: so the two do not meet, whatever timers
 * it has.  Where it is disallowed, with t->lock held, the BQL cannot be taken.
 * Until the main loop gets here it slows the guest as before.  If meanwhile it
 * was allowed again, or another migration has begun that leaves the guest to
 * it, it goes on.
 */
static void throttle_stop_converging(void *opaque)
{
    DirtyThrottle *t = opaque;

    QEMU_LOCK_GUARD(&t->lock);
    if (t->migration.active && !t->migration.fallback) {
        cpu_throttle_stop();
    }
}

/*
 * What has been decided.  Limits and shares follow with the next SET PENALTY;
 * auto-converge, which is only allowed to act here, at the next dirty sync.
 * Called with t->lock held.
 */
static void throttle_set_decision(DirtyThrottle *t, DirtyDecision decision,
                                  int64_t now_ns)
{
    DirtyThrottleMigration *m = &t->migration;

    if (!m->sharing && decision.share) {
        dirty_pool_init(&m->pool, now_ns);
    }
    m->limiting = decision.limit;
    m->sharing = decision.share;
    /*
     * Stopped with every decision, because the migration thread may have begun
     * auto-converge just before it was disallowed.
     */
    if (!decision.fallback && cpu_throttle_active()) {
        aio_bh_schedule_oneshot(qemu_get_aio_context(),
                                throttle_stop_converging, t);
    }
    qatomic_set(&m->fallback, decision.fallback);
    if (!m->throttled_ns && (m->limiting || m->sharing)) {
        m->throttled_ns = now_ns;
    }
    dirty_throttle_note_change(t, now_ns);
}

/* What the operator wants.  Called with t->lock held. */
static DirtyAim throttle_aim(void)
{
    MigrationParameters *p = throttle_parameters();

    return (DirtyAim) {
        .threshold_percent = qatomic_read(&p->throttle_trigger_threshold),
        .deadline_ns = qatomic_read__nocheck(&p->dirty_quota_deadline) *
                       NANOSECONDS_PER_SECOND,
    };
}

/* What the migration needs from now on.  Called with t->lock held. */
static void throttle_decide(DirtyThrottle *t, int64_t now_ns)
{
    DirtyThrottleMigration *m = &t->migration;
    DirtyEngine *e = &m->engine;
    const DirtyIteration *it = &e->iteration;
    DirtyVcpuSample vcpus;
    DirtyDecision decision;
    DirtyAim aim;
    int64_t period_ns = DECIDE_NS;
    bool due;

    if (!m->active) {
        return;
    }
    if (e->means.share) {
        period_ns = MIN(period_ns, throttle_interval_ns());
    }
    due = now_ns - e->decided_ns >= period_ns;
    if (!due && !dirty_engine_watches(e)) {
        return;
    }
    vcpus = throttle_sample_vcpus(t);
    if (!due && !dirty_engine_urgent(e, &vcpus)) {
        return;
    }
    aim = throttle_aim();
    decision = dirty_engine_decide(e, &vcpus, &aim, now_ns);
    throttle_set_decision(t, decision, now_ns);
    trace_dirty_throttle_decide(it->number, it->remaining_pages,
                                it->dirtied_pages, it->dirty_pps, it->link_pps,
                                e->device_pps, e->budget_pps, e->phase,
                                decision.reason);
}

/*
 * A vCPU that looks while this is going on may have reported a few pages more
 * than were added up, so that it gets a few more than its part.
 */
void dirty_throttle_correct(DirtyThrottle *t, uint64_t found_pages)
{
    DirtyEstimate *e = &t->estimate;
    uint64_t reported_pages = 0;
    bool explained;

    t->found_pages = 0;
    for (unsigned i = 0; i < t->nr_vcpus; i++) {
        QEMU_LOCK_GUARD(&t->vcpus[i].lock);
        reported_pages += t->vcpus[i].v.reported_pages;
    }
    explained = dirty_estimate_correct(e, reported_pages, found_pages);
    trace_dirty_throttle_correct(reported_pages, found_pages, e->worth,
                                 !explained);
    for (unsigned i = 0; i < t->nr_vcpus; i++) {
        DirtyVcpu *v = &t->vcpus[i].v;

        QEMU_LOCK_GUARD(&t->vcpus[i].lock);
        dirty_vcpu_correct(v, explained ?
                           dirty_estimate_part(e, v->reported_pages) : 0,
                           e->worth, throttle_now_ns());
    }
    if (!explained) {
        t->unexplained = true;
        warn_report_once("page faults do not explain how much memory vCPUs"
                         " dirty: vCPUs are not throttled one by one; that"
                         " requires accelerator property 'dirty-ring-size'");
    }
}

/* From now on vCPUs report how long they run.  Called with t->lock held. */
static void throttle_begin_alike(DirtyThrottle *t)
{
    dirty_estimate_init_by_time(&t->estimate);
    for (unsigned i = 0; i < t->nr_vcpus; i++) {
        DirtyVcpu *v = &t->vcpus[i].v;

        QEMU_LOCK_GUARD(&t->vcpus[i].lock);
        dirty_vcpu_correct(v, v->charged_pages, t->estimate.worth,
                           throttle_now_ns());
    }
    trace_dirty_throttle_migration("alike");
}

void dirty_throttle_accept(DirtyThrottle *t)
{
    t->found_pages = 0;
    for (unsigned i = 0; i < t->nr_vcpus; i++) {
        QEMU_LOCK_GUARD(&t->vcpus[i].lock);
        dirty_vcpu_accept(&t->vcpus[i].v);
    }
}

/* Of all that is logged; what a migration would leave out counts as well. */
static void throttle_clear_bitmaps(void)
{
    RAMBlock *block;

    RCU_READ_LOCK_GUARD();
    RAMBLOCK_FOREACH_MIGRATABLE(block) {
        memory_region_clear_dirty_bitmap(block->mr, 0, block->used_length);
    }
}

/*
 * Let pages that are dirty count again.  The dirty log client of the throttle
 * is what makes the accelerator track pages outside a migration.
 *
 * Without rings KVM counts the pages that are clean in its own bitmaps.
 * Clearing those takes nothing from a migration that goes on without the
 * throttle, because by then the sync has put it down for the migration to find.
 */
static void throttle_new_epoch(DirtyThrottle *t)
{
    if (dirty_throttle_has_rings()) {
        t->ops->new_epoch();
        return;
    }
    qemu_mutex_lock_iothread();
    memory_global_dirty_log_sync();
    throttle_clear_bitmaps();
    qemu_mutex_unlock_iothread();
    if (t->ops->take_found_pages) {
        uint64_t found_pages = t->ops->take_found_pages();

        t->ops->charge_and_kick();
        QEMU_LOCK_GUARD(&t->lock);
        /* A migration that has begun meanwhile compares by its own syncs. */
        if (!t->migration.active && !t->unexplained) {
            dirty_throttle_correct(t, found_pages);
        }
    }
}

/*
 * What vCPUs that run dirty, as long as the last sync is too old to tell.  A
 * sync that comes meanwhile has corrected what is reported; what was found here
 * then counts for the next time.
 */
static void throttle_look_ahead(DirtyThrottle *t, uint64_t iteration)
{
    int64_t begin_ns = throttle_now_ns();
    bool found = t->ops->look_ahead();
    int64_t took_ns = throttle_now_ns() - begin_ns;
    uint64_t found_pages;

    t->look_ahead_ns = begin_ns + MAX(DECIDE_NS, took_ns * LOOK_AHEAD_PARTS);
    if (!found) {
        return;
    }
    found_pages = t->ops->take_found_pages();
    t->ops->charge_and_kick();

    QEMU_LOCK_GUARD(&t->lock);
    t->found_pages += found_pages;
    if (t->migration.active && t->migration.engine.iteration.number ==
                               iteration) {
        dirty_throttle_correct(t, t->found_pages);
    }
}

/* Whether there is anything to look at.  Called with t->lock held. */
static bool throttle_has_work(DirtyThrottle *t)
{
    return t->nr_operator_limits || t->migration.active || t->watching_demands;
}

/*
 * What is dirtied while nobody looks is never charged: the first look only
 * tells how many pages there have been.  Called when work comes, not when it
 * goes, because a vCPU may still look after the last of it is gone.  With
 * t->lock held.
 */
static void throttle_forget_if_idle(DirtyThrottle *t)
{
    if (throttle_has_work(t)) {
        return;
    }
    t->unexplained = false;
    t->found_pages = 0;
    dirty_estimate_init(&t->estimate);
    for (unsigned i = 0; i < t->nr_vcpus; i++) {
        QEMU_LOCK_GUARD(&t->vcpus[i].lock);
        dirty_vcpu_forget(&t->vcpus[i].v, throttle_now_ns());
        t->vcpus[i].history = (DirtyHistory) { };
    }
}

/*
 * When the next step is due, in milliseconds from now.  Called with t->lock
 * held, which is given up by waiting only: a sync that came before is seen, and
 * one that comes later wakes the thread.
 */
static int throttle_next_ms(DirtyThrottle *t, bool was_in_service)
{
    bool watching = t->watching_demands ||
                    (t->migration.active &&
                     dirty_engine_watches(&t->migration.engine));

    if (!dirty_throttle_in_service()) {
        return (watching ? DIRTY_LOOK_MAX_NS : DECIDE_NS) / SCALE_MS;
    }
    /* Soon at first, so that no writer gets far ahead of its limit. */
    return was_in_service ? DIRTY_LOOK_MAX_NS / SCALE_MS : 1;
}

/* One step, as the head of this file has it */
static void throttle_step(DirtyThrottle *t)
{
    bool new_epoch, ahead, shorter;
    uint64_t iteration;
    int64_t now_ns;

    /* PREPARE */
    t->ops->charge_and_kick();

    /* CALCULATE */
    WITH_QEMU_LOCK_GUARD(&t->lock) {
        now_ns = throttle_now_ns();
        throttle_note_rates(t, now_ns);
        dirty_throttle_note_demands(t, now_ns);
        throttle_decide(t, now_ns);
        new_epoch = t->nr_operator_limits && !t->migration.active &&
                    now_ns - t->epoch_ns >= EPOCH_NS;
        if (new_epoch) {
            t->epoch_ns = now_ns;
        }
        iteration = t->migration.engine.iteration.number;
        ahead = throttle_is_alike(t) && iteration &&
                now_ns >= t->look_ahead_ns;
    }

    /* SET PENALTY */
    WITH_QEMU_LOCK_GUARD(&t->lock) {
        shorter = throttle_update_limits(t);
        shorter |= throttle_share(t, now_ns);
    }
    if (shorter) {
        t->ops->wake();
    }

    if (new_epoch) {
        throttle_new_epoch(t);
    }
    if (ahead) {
        throttle_look_ahead(t, iteration);
    }
}

static void *throttle_thread(void *opaque)
{
    DirtyThrottle *t = opaque;

    rcu_register_thread();
    qemu_mutex_lock(&t->lock);
    while (true) {
        bool was_in_service;

        if (!throttle_has_work(t)) {
            /* Work that comes meanwhile makes the next step look again. */
            qemu_mutex_unlock(&t->lock);
            t->ops->stop_watching();
            qemu_mutex_lock(&t->lock);
            while (!throttle_has_work(t)) {
                qemu_cond_wait(&t->wake, &t->lock);
            }
            /* The first one begins at once. */
            t->epoch_ns = throttle_now_ns() - EPOCH_NS;
        }
        qemu_mutex_unlock(&t->lock);
        was_in_service = dirty_throttle_in_service();
        throttle_step(t);
        qemu_mutex_lock(&t->lock);
        qemu_cond_timedwait(&t->wake, &t->lock,
                            throttle_next_ms(t, was_in_service));
    }
    return NULL;
}

/*
 * The thread is created when it is first needed and then stays, asleep while
 * there is nothing to limit.  Called with t->lock held.
 */
static void throttle_wake_thread(DirtyThrottle *t)
{
    if (!t->thread_created) {
        t->thread_created = true;
        qemu_thread_create(&t->thread, "dirty-throttle", throttle_thread, t,
                           QEMU_THREAD_DETACHED);
    }
    qemu_cond_signal(&t->wake);
}

void dirty_throttle_watch_demands(DirtyThrottle *t)
{
    throttle_forget_if_idle(t);
    t->watching_demands = true;
    throttle_wake_thread(t);
}

/*
 * Have dirty memory logged for limits.  With the BQL held.
 *
 * Returns: false if it cannot be
 */
static bool throttle_start_log(Error **errp)
{
    memory_global_dirty_log_start(GLOBAL_DIRTY_LIMIT);
    return true;
}

bool dirty_throttle_set_limit(int cpu_index, uint64_t limit_mbps, Error **errp)
{
    DirtyThrottle *t = &dirty_throttle;
    DirtyThrottleVcpu *vcpu = &t->vcpus[cpu_index];
    /* They change under the BQL only, which is held here. */
    unsigned before = t->nr_operator_limits;
    unsigned after = before + !!limit_mbps - !!vcpu->limit_mbps;

    if (after && !before && !throttle_start_log(errp)) {
        return false;
    }
    trace_dirty_throttle_set_limit(cpu_index, limit_mbps);
    WITH_QEMU_LOCK_GUARD(&t->lock) {
        throttle_forget_if_idle(t);
        t->nr_operator_limits = after;
        vcpu->limit_mbps = limit_mbps;
        if (after) {
            t->watching_demands = false;
            throttle_wake_thread(t);
        }
    }
    if (before && !after) {
        memory_global_dirty_log_stop(GLOBAL_DIRTY_LIMIT);
    }
    throttle_apply(t);
    return true;
}

/* From here on the migration's figures count.  Called with t->lock held. */
static void throttle_count_from_now(DirtyThrottle *t)
{
    for (unsigned i = 0; i < t->nr_vcpus; i++) {
        DirtyThrottleVcpu *vcpu = &t->vcpus[i];

        QEMU_LOCK_GUARD(&vcpu->lock);
        throttle_count_vcpu_from_now(vcpu);
    }
}

void dirty_throttle_migration_begin(void)
{
    DirtyThrottle *t = &dirty_throttle;
    DirtyThrottleMigration *m = &t->migration;
    DirtyMeans means = {
        .limit = migrate_dirty_limit(),
        .share = migrate_dirty_quota(),
        .converge = migrate_auto_converge(),
    };
    DirtyReaperInfo reaped = { 0 };
    DirtyMemory memory = { };
    DirtyVcpuSample vcpus;
    DirtyDecision decision;
    int64_t now_ns;
    bool alike;

    trace_dirty_throttle_migration("begin");
    if (dirty_throttle_has_rings()) {
        t->ops->query_reaper(&reaped);
    }
    if (means.share) {
        memory = dirty_throttle_memory();
    }
    WITH_QEMU_LOCK_GUARD(&t->lock) {
        throttle_forget_if_idle(t);
        means.mechanism = dirty_throttle_available() && !t->unexplained;
        means.cpu_time = t->ops && t->ops->watch_time;
        means.estimated = t->ops && t->ops->take_found_pages;
        alike = dirty_means_alike(&means);
        *m = (DirtyThrottleMigration) {
            .precopy = true,
            .active = (means.mechanism || alike) &&
                      (means.limit || means.share),
            .memory = memory,
            .reaped_before = reaped,
            .tells = migrate_use_events() && (means.limit || means.share),
        };
        t->watching_demands = false;
        qemu_thread_get_self(&m->thread);
        throttle_count_from_now(t);
        vcpus = throttle_sample_vcpus(t);
        now_ns = throttle_now_ns();
        decision = dirty_engine_begin(&m->engine, &means, &vcpus, now_ns);
        throttle_set_decision(t, decision, now_ns);
        if (alike) {
            throttle_begin_alike(t);
        }
        if (m->active) {
            throttle_wake_thread(t);
        }
    }
    if (alike) {
        t->ops->watch_time(true);
    }
    if (m->active) {
        /* All that the migration finds and vCPUs dirty is charged now. */
        t->ops->charge_and_kick();
    } else if (decision.reason == DIRTY_REASON_MECHANISM &&
               !decision.fallback) {
        warn_report("%s has no effect: it requires KVM with accelerator"
                    " property 'dirty-ring-size' set; auto-converge does not",
                    means.share ? "dirty-quota" : "dirty-limit");
    }
}

void dirty_throttle_migration_end(void)
{
    DirtyThrottle *t = &dirty_throttle;
    DirtyThrottleMigration *m = &t->migration;
    bool alike;

    WITH_QEMU_LOCK_GUARD(&t->lock) {
        if (m->precopy) {
            dirty_throttle_record(t);
        }
        m->precopy = false;
        if (!m->active) {
            return;
        }
        alike = throttle_is_alike(t);
        m->active = false;
        m->limiting = false;
        m->sharing = false;
        qatomic_set(&m->fallback, false);
    }
    trace_dirty_throttle_migration("end");
    if (alike) {
        t->ops->watch_time(false);
    }
    throttle_apply(t);
}

/*
 * Estimates are compared with what the migration's sync has found.  Called
 * with t->lock held.
 *
 * The first sync finds all memory.  Later the accelerator may tell again what
 * it told before, if the migration has not come to sending it; that is in no
 * sync's count of new pages, in which there is also what devices dirtied.  The
 * smaller of the two is what vCPUs dirtied, or very nearly so.
 */
static void throttle_compare(DirtyThrottle *t, uint64_t iteration,
                             uint64_t to_send_pages)
{
    DirtyEngine *e = &t->migration.engine;
    int64_t now_ns = throttle_now_ns();

    if (iteration < 2) {
        dirty_throttle_accept(t);
        return;
    }
    dirty_throttle_correct(t, MIN(t->found_pages,
                                  dirty_engine_found(e, to_send_pages)));
    if (t->unexplained && e->means.mechanism) {
        throttle_set_decision(t, dirty_engine_unexplained(e, now_ns), now_ns);
        if (throttle_is_alike(t)) {
            throttle_begin_alike(t);
        }
    }
}

void dirty_throttle_migration_synced(uint64_t iteration,
                                     uint64_t to_send_bytes)
{
    DirtyThrottle *t = &dirty_throttle;
    bool has_rings = dirty_throttle_has_rings(), was_alike, alike;
    uint64_t to_send_pages = throttle_bytes_to_pages(to_send_bytes);
    uint64_t found_pages = 0;
    DirtyVcpuSample vcpus;

    /* Only the migration thread changes this, and it is what runs here. */
    if (!t->migration.active) {
        return;
    }
    if (!has_rings) {
        t->ops->charge_and_kick();
    }
    if (t->ops->take_found_pages) {
        found_pages = t->ops->take_found_pages();
    }

    WITH_QEMU_LOCK_GUARD(&t->lock) {
        was_alike = throttle_is_alike(t);
        t->found_pages += found_pages;
        if (t->ops->take_found_pages && (!t->unexplained || was_alike)) {
            throttle_compare(t, iteration, to_send_pages);
        }
        if (iteration == 2 && t->ops->take_found_pages &&
            !t->migration.throttled_ns) {
            dirty_throttle_correct_demands(t);
        }
        alike = throttle_is_alike(t);
        vcpus = throttle_sample_vcpus(t);
        if (has_rings) {
            /*
             * The epoch began when the sync read out what rings had told.  What
             * has been charged since will be found by the next sync; if it
             * counted as dirtied before this one, it would pass for a device's
             * work then.
             */
            vcpus.dirtied_pages = throttle_past_pages(t);
        }
        dirty_engine_synced(&t->migration.engine, iteration, to_send_pages,
                            &vcpus, throttle_now_ns());
        /* Fast writers have soon dirtied all of it again. */
        qemu_cond_signal(&t->wake);
    }
    if (alike && !was_alike) {
        t->ops->watch_time(true);
    }
}

bool dirty_throttle_migration_wants_sync(void)
{
    DirtyThrottle *t = &dirty_throttle;

    if (!t->migration.active) {
        return false;
    }
    QEMU_LOCK_GUARD(&t->lock);
    return t->migration.engine.decision.sync;
}

void dirty_throttle_migration_pending(uint64_t pending_bytes,
                                      uint64_t remaining_bytes)
{
    /* Hints of free pages may make memory less at any time, but not more. */
    dirty_throttle.migration.other_bytes = pending_bytes - remaining_bytes;
}

void dirty_throttle_migration_progress(uint64_t sent_ram_bytes,
                                       uint64_t remaining_bytes,
                                       uint64_t switchover_bytes,
                                       int64_t window_ms)
{
    DirtyThrottle *t = &dirty_throttle;
    uint64_t switchover_pages;

    if (!t->migration.active) {
        return;
    }
    QEMU_LOCK_GUARD(&t->lock);
    switchover_pages = dirty_target_switchover_pages(
        throttle_bytes_to_pages(switchover_bytes),
        throttle_bytes_to_pages(t->migration.other_bytes));
    dirty_engine_progress(&t->migration.engine,
                          throttle_bytes_to_pages(sent_ram_bytes),
                          throttle_bytes_to_pages(remaining_bytes),
                          switchover_pages, window_ms, throttle_now_ns());
}
