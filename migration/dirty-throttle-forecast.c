/*
 * Dirty throttle: measure a guest, and tell what will become of a migration
 *
 * calc-dirty-rate measures; here it is watched meanwhile how much each vCPU
 * dirties in how much time, and how much memory is in use.  In the modes that
 * write-protect memory anyway, and where something tells vCPUs apart, that
 * costs some looks more.  Otherwise all that is known is what it measures
 * itself.  While a migration runs, its first pass is such a measurement.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/lockable.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-migration.h"
#include "dirty-throttle-hooks.h"
#include "dirty-throttle-int.h"
#include "dirty-throttle/forecast.h"
#include "migration.h"

/* A guest that has run for longer than that since may do something else now. */
#define AGE_MAX_S 600

/* MB/s, and seconds */
#define BANDWIDTH_MAX (1 << 20)
#define DEADLINE_MAX 1000000

/*
 * A guest may dirty so many percent more, or less, than when it was measured.
 * The second is for a guest of which only the sum for all vCPUs is known.
 */
#define MARGIN_PERCENT 10
#define MARGIN_SUM_PERCENT 30

/* What is dirtied at a rate that nobody knows is dirtied in a window. */
#define AT_ONCE_NS (100 * SCALE_MS)

/* A vCPU that keeps so much of its work is not slowed. */
#define KEPT_PERCENT 99.5

void dirty_throttle_measure_soon(void)
{
    QEMU_LOCK_GUARD(&dirty_throttle.lock);
    dirty_throttle.measuring = true;
}

void dirty_throttle_measure_begin(bool watch)
{
    DirtyThrottle *t = &dirty_throttle;

    WITH_QEMU_LOCK_GUARD(&t->lock) {
        t->measuring = true;
        /* Limits would change what is measured, and a migration has its own. */
        if (!watch || !dirty_throttle_available() || t->nr_operator_limits ||
            t->migration.precopy) {
            return;
        }
        dirty_throttle_watch_demands(t);
    }
    t->ops->charge_and_kick();
}

static bool forecast_is_watching(DirtyThrottle *t)
{
    QEMU_LOCK_GUARD(&t->lock);
    return t->watching_demands;
}

void dirty_throttle_measure_from_now(void)
{
    DirtyThrottle *t = &dirty_throttle;

    /* What limits or a migration compare by is theirs. */
    if (!forecast_is_watching(t)) {
        return;
    }
    t->ops->charge_and_kick();
    if (dirty_throttle_has_rings()) {
        t->ops->new_epoch();
    }
    if (t->ops->take_found_pages) {
        t->ops->take_found_pages();
    }
    QEMU_LOCK_GUARD(&t->lock);
    if (t->watching_demands) {
        dirty_throttle_accept(t);
        dirty_throttle_count_demands(t, get_clock());
    }
}

/* What vCPUs that were watched have dirtied.  Called with t->lock held. */
static void forecast_take_demands(DirtyThrottle *t, DirtyMeasurement *m)
{
    m->nr_demands = 0;
    m->demands = g_new0(DirtyDemand, t->nr_vcpus);
    m->cpu_indexes = g_new0(int, t->nr_vcpus);
    for (unsigned i = 0; i < t->nr_vcpus; i++) {
        DirtyThrottleVcpu *vcpu = &t->vcpus[i];

        QEMU_LOCK_GUARD(&vcpu->lock);
        if (vcpu->v.total_known && vcpu->demand.span_ns) {
            m->demands[m->nr_demands] = vcpu->demand;
            m->cpu_indexes[m->nr_demands++] = i;
        }
    }
}

/*
 * All that is known is what was dirtied in the end.  Whoever writes the same
 * pages again and again has dirtied them at once, so that is what is supposed.
 * The forecast is too bad then, which does less harm than one that is too good.
 */
static void forecast_take_sum(DirtyMeasurement *m, uint64_t pages)
{
    m->demands = g_new0(DirtyDemand, 1);
    m->nr_demands = 1;
    dirty_demand_note(m->demands, MIN(m->took_ns, AT_ONCE_NS), pages);
    dirty_demand_note(m->demands, m->took_ns, pages);
}

static void forecast_free(DirtyMeasurement *m)
{
    if (m) {
        g_free(m->demands);
        g_free(m->cpu_indexes);
        g_free(m);
    }
}

void dirty_throttle_measure_end(int64_t rate_mbps, int64_t took_ms)
{
    DirtyThrottle *t = &dirty_throttle;
    g_autofree DirtyMeasurement *m = g_new0(DirtyMeasurement, 1);
    uint64_t found_pages = 0;
    bool told_apart = false;

    m->memory = dirty_throttle_memory();
    m->guest_ns = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    m->took_ns = took_ms * SCALE_MS;

    if (forecast_is_watching(t)) {
        t->ops->charge_and_kick();
        if (t->ops->take_found_pages) {
            found_pages = t->ops->take_found_pages();
        }
    }

    QEMU_LOCK_GUARD(&t->lock);
    t->measuring = false;
    if (rate_mbps < 0) {
        t->watching_demands = false;
        return;
    }
    if (t->watching_demands) {
        dirty_throttle_note_demands(t, get_clock());
        t->watching_demands = false;
        if (t->ops->take_found_pages) {
            dirty_throttle_correct(t, found_pages);
            dirty_throttle_correct_demands(t);
        }
        told_apart = !t->unexplained;
    }
    if (told_apart) {
        forecast_take_demands(t, m);
    } else {
        forecast_take_sum(m, rate_mbps * took_ms / 1000 *
                             (MiB / qemu_real_host_page_size()));
    }
    forecast_free(t->measurement);
    t->measurement = g_steal_pointer(&m);
}

/* vCPUs that are slowed, and what they keep.  No index: it is all of them. */
static DirtyForecastVcpuList *forecast_slowed(const int *cpu_indexes,
                                              const double *kept, unsigned nr)
{
    DirtyForecastVcpuList *list = NULL, **tail = &list;

    for (unsigned i = 0; i < nr; i++) {
        DirtyForecastVcpu *vcpu;

        if (kept[i] * 100 >= KEPT_PERCENT) {
            continue;
        }
        vcpu = g_new0(DirtyForecastVcpu, 1);
        vcpu->has_cpu_index = cpu_indexes != NULL;
        vcpu->cpu_index = cpu_indexes ? cpu_indexes[i] : 0;
        vcpu->share = kept[i] * 100;
        QAPI_LIST_APPEND(tail, vcpu);
    }
    return list;
}

/*
 * The forecast for a guest that dirties so much more than it was measured to.
 * If only the sum is known, whoever dirties less does so evenly all the time.
 */
static DirtyForecast forecast_with_margin(const DirtyOutlook *outlook,
                                          DirtyStrategy strategy, int percent,
                                          bool evenly)
{
    g_autofree DirtyDemand *demands = g_memdup2(
        outlook->demands, sizeof(DirtyDemand) * outlook->nr_demands);
    DirtyOutlook o = *outlook;

    for (unsigned i = 0; i < o.nr_demands; i++) {
        if (evenly) {
            demands[i].known = 0;
        }
        dirty_demand_correct(&demands[i], demands[i].span_pages *
                                          (100 + percent) / 100);
    }
    o.demands = demands;
    return dirty_forecast(&o, strategy, NULL);
}

/* As QAPI has it */
static DirtyForecastStrategy forecast_strategy(DirtyStrategy strategy)
{
    switch (strategy) {
    case DIRTY_STRATEGY_NONE:
        return DIRTY_FORECAST_STRATEGY_NONE;
    case DIRTY_STRATEGY_CONVERGE:
        return DIRTY_FORECAST_STRATEGY_AUTO_CONVERGE;
    case DIRTY_STRATEGY_QUOTA:
        return DIRTY_FORECAST_STRATEGY_DIRTY_QUOTA;
    case DIRTY_STRATEGY_DEADLINE:
        return DIRTY_FORECAST_STRATEGY_DIRTY_QUOTA_DEADLINE;
    }
    g_assert_not_reached();
}

static uint64_t forecast_least_ms(const DirtyForecast *a,
                                  const DirtyForecast *b)
{
    int64_t a_ns = a->ends ? a->time_ns : INT64_MAX;
    int64_t b_ns = b->ends ? b->time_ns : INT64_MAX;

    return MIN(a_ns, b_ns) / SCALE_MS;
}

static DirtyForecastInfo *forecast_tell(const DirtyOutlook *o,
                                        DirtyStrategy strategy,
                                        const int *cpu_indexes)
{
    int margin = cpu_indexes ? MARGIN_PERCENT : MARGIN_SUM_PERCENT;
    DirtyForecastInfo *info = g_new0(DirtyForecastInfo, 1);
    g_autofree double *kept = g_new(double, o->nr_demands);
    DirtyForecast f = dirty_forecast(o, strategy, kept), less, more;

    less = forecast_with_margin(o, strategy, -margin, !cpu_indexes);
    more = forecast_with_margin(o, strategy, margin, false);
    info->strategy = forecast_strategy(strategy);
    info->ends = f.ends;
    info->has_total_time = f.ends;
    info->total_time = f.time_ns / SCALE_MS;
    /* One that dirties more may be cut in the first pass, and end sooner. */
    info->has_least_time = less.ends || f.ends;
    info->least_time = forecast_least_ms(&less, &f);
    info->has_most_time = more.ends && f.ends;
    info->most_time = MAX(more.time_ns, f.time_ns) / SCALE_MS;
    info->has_downtime = f.ends;
    info->downtime = f.downtime_ns / SCALE_MS;
    info->has_throttled_time = f.ends;
    info->throttled_time = f.throttled_ns / SCALE_MS;
    info->has_deadline_missed = strategy == DIRTY_STRATEGY_DEADLINE;
    info->deadline_missed = f.late;
    /* If it is not known who dirties what, nobody knows what each keeps. */
    if (cpu_indexes || strategy < DIRTY_STRATEGY_QUOTA) {
        info->slowed = forecast_slowed(cpu_indexes, kept, o->nr_demands);
    }
    return info;
}

/* What the operator wants.  Called with the BQL held. */
static void forecast_set_parameters(DirtyOutlook *o)
{
    MigrationParameters *p = &migrate_get_current()->parameters;

    o->downtime_ns = p->downtime_limit * SCALE_MS;
    o->threshold_percent = p->throttle_trigger_threshold;
    o->ceiling_percent = p->max_cpu_throttle;
    o->initial_percent = p->cpu_throttle_initial;
    o->increment_percent = p->cpu_throttle_increment;
    o->deadline_ns = p->dirty_quota_deadline * NANOSECONDS_PER_SECOND;
}

/* Called with the BQL held, and t->lock. */
DirtyForecastInfo *dirty_throttle_forecast_migration(DirtyThrottle *t)
{
    const DirtyEngine *e = &t->migration.engine;
    const DirtyIteration *it = &e->iteration;
    const DirtyMemory *memory = &t->migration.memory;
    g_autofree DirtyDemand *demands = g_new0(DirtyDemand, t->nr_vcpus);
    g_autofree int *cpu_indexes = g_new0(int, t->nr_vcpus);
    int64_t now_ns = get_clock();
    DirtyOutlook o = {
        .demands = demands,
        .device_pps = e->device_pps,
        .link_pps = it->link_pps,
        .all_pages = memory->all_pages,
        .memory_pages = memory->used_pages,
        .remaining_pages = it->remaining_pages,
        .first_pass = it->number < 2,
        .dirtied_pages = it->dirtied_pages,
        .iteration_ns = now_ns - e->iteration_ns,
        .passed_ns = now_ns - e->begin_ns,
        .alike = dirty_means_alike(&e->means),
        .cuts = !e->means.estimated,
    };

    if (!it->number || !it->link_pps || !e->means.share ||
        e->phase == DIRTY_PHASE_CANNOT_HELP) {
        return NULL;
    }
    if (o.first_pass && memory->all_pages) {
        /* Pages that are zero are sent in no time, wherever they are. */
        o.remaining_pages *= (double)memory->used_pages / memory->all_pages;
    }
    forecast_set_parameters(&o);
    for (unsigned i = 0; i < t->nr_vcpus; i++) {
        DirtyThrottleVcpu *vcpu = &t->vcpus[i];

        QEMU_LOCK_GUARD(&vcpu->lock);
        if (vcpu->v.total_known && vcpu->demand.span_ns) {
            demands[o.nr_demands] = vcpu->demand;
            cpu_indexes[o.nr_demands++] = i;
        }
    }
    return forecast_tell(&o, o.deadline_ns ? DIRTY_STRATEGY_DEADLINE :
                                             DIRTY_STRATEGY_QUOTA,
                         cpu_indexes);
}

static DirtyDemandInfoList *forecast_tell_demands(const DirtyMeasurement *m)
{
    DirtyDemandInfoList *list = NULL, **tail = &list;

    for (unsigned i = 0; i < m->nr_demands; i++) {
        const DirtyDemand *d = &m->demands[i];
        DirtyDemandInfo *info = g_new0(DirtyDemandInfo, 1);
        double second = MIN(1, (double)d->span_ns / NANOSECONDS_PER_SECOND);

        info->has_cpu_index = m->cpu_indexes != NULL;
        info->cpu_index = m->cpu_indexes ? m->cpu_indexes[i] : 0;
        info->rate = dirty_throttle_pps_to_mbps(
            dirty_demand_pages(d, second) / second);
        info->write_set = dirty_throttle_pages_to_bytes(d->span_pages);
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}

/* Is there a measurement, and one that still tells something? */
static bool forecast_check(DirtyThrottle *t, int64_t *age_s, Error **errp)
{
    if (t->measuring) {
        error_setg(errp, "The dirty page rate is being measured;"
                   " query-dirty-rate tells when that is done");
        return false;
    }
    if (!t->measurement) {
        error_setg(errp, "The dirty page rate was never measured;"
                   " calc-dirty-rate does that");
        return false;
    }
    *age_s = (qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) -
              t->measurement->guest_ns) / NANOSECONDS_PER_SECOND;
    if (*age_s > AGE_MAX_S) {
        error_setg(errp, "The dirty page rate was measured %" PRId64 " seconds"
                   " ago, and must be no more than %d; calc-dirty-rate measures"
                   " it again", *age_s, AGE_MAX_S);
        return false;
    }
    return true;
}

DirtyForecastReport *qmp_query_dirty_forecast(bool has_bandwidth,
                                              uint64_t bandwidth,
                                              bool has_deadline,
                                              uint64_t deadline, Error **errp)
{
    DirtyThrottle *t = &dirty_throttle;
    DirtyForecastReport *report;
    DirtyForecastInfoList **tail;
    DirtyOutlook o = { .first_pass = true };
    const DirtyMeasurement *m;
    int64_t age_s;
    bool can_quota;

    if (!has_bandwidth) {
        bandwidth = migrate_get_current()->parameters.max_bandwidth / MiB;
    }
    if (!has_bandwidth && !bandwidth) {
        error_setg(errp, "No bandwidth is known: 'bandwidth' is required where"
                   " parameter 'max-bandwidth' is less than 1 MiB/s");
        return NULL;
    }
    if (has_bandwidth && (!bandwidth || bandwidth > BANDWIDTH_MAX)) {
        error_setg(errp, "Parameter 'bandwidth' expects a value between 1 and"
                   " %d", BANDWIDTH_MAX);
        return NULL;
    }
    if (has_deadline && (!deadline || deadline > DEADLINE_MAX)) {
        error_setg(errp, "Parameter 'deadline' expects a value between 1 and"
                   " %d", DEADLINE_MAX);
        return NULL;
    }

    QEMU_LOCK_GUARD(&t->lock);
    if (!forecast_check(t, &age_s, errp)) {
        return NULL;
    }
    m = t->measurement;
    forecast_set_parameters(&o);
    if (has_deadline) {
        o.deadline_ns = deadline * NANOSECONDS_PER_SECOND;
    }
    o.demands = m->demands;
    o.nr_demands = m->nr_demands;
    o.link_pps = MIN(bandwidth, BANDWIDTH_MAX) *
                 (MiB / qemu_real_host_page_size());
    o.all_pages = m->memory.all_pages;
    o.memory_pages = m->memory.used_pages;
    o.remaining_pages = m->memory.used_pages;
    o.alike = !dirty_throttle_available() || t->unexplained;
    o.cuts = t->ops && !t->ops->take_found_pages;

    /* Where nothing tells vCPUs apart, auto-converge must be allowed. */
    can_quota = t->ops && (!o.alike || (t->ops->watch_time &&
                                        migrate_auto_converge()));

    report = g_new0(DirtyForecastReport, 1);
    report->bandwidth = bandwidth;
    report->age = age_s;
    report->measured_time = m->took_ns / SCALE_MS;
    report->memory = dirty_throttle_pages_to_bytes(m->memory.used_pages);
    report->demands = forecast_tell_demands(m);
    tail = &report->forecasts;
    for (int s = DIRTY_STRATEGY_NONE; s <= DIRTY_STRATEGY_DEADLINE; s++) {
        if ((s >= DIRTY_STRATEGY_QUOTA && !can_quota) ||
            (s == DIRTY_STRATEGY_DEADLINE && !o.deadline_ns)) {
            continue;
        }
        if (s >= DIRTY_STRATEGY_QUOTA && !m->cpu_indexes) {
            /* What a vCPU dirties at its ceiling is not known. */
            o.ceiling_percent = 100;
        }
        QAPI_LIST_APPEND(tail, forecast_tell(&o, s, m->cpu_indexes));
    }
    return report;
}
