/*
 * Dirty throttle: what will become of a migration
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_DIRTY_THROTTLE_FORECAST_H
#define MIGRATION_DIRTY_THROTTLE_FORECAST_H

#include "demand.h"

/* What is to be done about a guest that dirties too much */
typedef enum DirtyStrategy {
    /* nothing */
    DIRTY_STRATEGY_NONE,
    /* capability auto-converge */
    DIRTY_STRATEGY_CONVERGE,
    /* capability dirty-quota */
    DIRTY_STRATEGY_QUOTA,
    /* the same with parameter dirty-quota-deadline */
    DIRTY_STRATEGY_DEADLINE,
} DirtyStrategy;

/* What is known of the guest, the link, and what the operator wants */
typedef struct DirtyOutlook {
    /* what each vCPU would dirty if nobody slowed it */
    const DirtyDemand *demands;
    unsigned nr_demands;
    /* what devices dirty */
    uint64_t device_pps;
    /* what the link carries, 1.. */
    uint64_t link_pps;
    /* downtime-limit */
    int64_t downtime_ns;

    /*
     * all pages, those that are not zero, and what of the latter remains of
     * this iteration
     */
    uint64_t all_pages;
    uint64_t memory_pages;
    uint64_t remaining_pages;
    /* it is the first pass */
    bool first_pass;
    /* what was dirtied since this iteration began, and how long ago that is */
    uint64_t dirtied_pages;
    int64_t iteration_ns;
    /* how long ago the migration began */
    int64_t passed_ns;

    /* throttle-trigger-threshold; max-cpu-throttle, 100: none; 1..100 */
    unsigned threshold_percent;
    unsigned ceiling_percent;
    /* cpu-throttle-initial and -increment, 1..99 */
    unsigned initial_percent;
    unsigned increment_percent;
    /* dirty-quota-deadline, only for DIRTY_STRATEGY_DEADLINE */
    int64_t deadline_ns;
    /* vCPUs are slowed alike */
    bool alike;
    /* a first pass that is in vain is cut */
    bool cuts;
} DirtyOutlook;

typedef struct DirtyForecast {
    /* the guest gets switched over */
    bool ends;
    /*
     * If so: the whole time since the migration began, the last part of it, in
     * which the guest stands still, and for how long vCPUs are slowed
     */
    int64_t time_ns;
    int64_t downtime_ns;
    int64_t throttled_ns;
    /* the deadline is not met */
    bool late;
} DirtyForecast;

/**
 * dirty_forecast: what will become of a migration
 *
 * @o: what is known
 * @strategy: what is to be done
 * @kept: for each demand, how much of its work a vCPU keeps while vCPUs are
 *        slowed, 0..1; NULL: nobody asks
 *
 * Supposes that a vCPU which is stopped for a part of the time does so much
 * less work.  One that has time to spare makes up for some of that when it
 * runs: then auto-converge takes longer, by half in the reference work;
 * dirty-quota stops it for as much longer.
 *
 * Returns: the forecast, for a guest that goes on as it was measured
 */
DirtyForecast dirty_forecast(const DirtyOutlook *o, DirtyStrategy strategy,
                             double *kept);

#endif
