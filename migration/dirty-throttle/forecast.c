/*
 * Dirty throttle: what will become of a migration
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * A migration is gone through in thought, iteration by iteration.  One that
 * begins with n pages to send ends when no more is left than can be switched
 * over, S, which the sender sees at the end of one of its windows.  With
 * bandwidth B it takes t = sent / B, and then
 *
 *   n' = a + x(t) - a * x(t) / u,  a = n - sent
 *
 * are to be sent, x(t) being what is dirtied meanwhile, of which some is in a
 * already.  Both are among u pages: all of memory in the first pass, and later
 * what the guest dirties in this iteration and the one before.  That is why a
 * guest can be switched over whose hot set is less than S, however fast it
 * writes.
 *
 * x(t) is what vCPUs would dirty, see demand.h, unless they are slowed:
 *
 *   dirty-quota    no more than budget * t in all; each vCPU has what it wants,
 *                  or as much as any other that has not, but no less than in
 *                  the time that the ceiling leaves it
 *   alike          what they would in a part of t that is the same for all
 *   auto-converge  the same, the part being set by its rules
 */

#include "qemu/osdep.h"
#include "account.h"
#include "forecast.h"
#include "growth.h"
#include "target.h"

/* The sender sees after so long whether it is over: QEMU's window. */
#define WINDOW_S 0.1

/*
 * A migration that does not get shorter by that part in an iteration does not
 * end, and none needs more iterations: at a threshold of 99 % it takes some 400
 * to get from a terabyte to what can be switched over.
 */
#define SHORTER_PART 0.001
#define ITERATIONS_MAX 500

/* Nobody waits for longer than a year, which is far below 2^63 ns. */
#define SECONDS_MAX (365.0 * 24 * 3600)

/* Whether the first pass is cut is looked up after each of so many parts. */
#define CUT_STEPS 64

/* More pages than any machine has */
#define NO_LEVEL 1e18

/* 2^-20 of what the fastest vCPU dirties is a page or so. */
#define BISECTIONS 20

/* More than so many times the budget is not due to bisection. */
#define BEYOND 1.01

/* auto-converge: a sync that ends a period of a second counts, twice */
#define CONVERGE_PERIOD_S 1.0
#define CONVERGE_COUNT 2

/* The migration in thought */
typedef struct Run {
    const DirtyOutlook *o;
    DirtyStrategy strategy;
    double link_pps;
    double switchover_pages;
    /* what is to be sent, whether in the first pass, and since when */
    double pages;
    bool first_pass;
    double seconds;
    /*
     * what was dirtied in this iteration before it is gone through, and how
     * long that would have taken with vCPUs that nobody slowed
     */
    double before_pages;
    double before_seconds;
    /* the iteration before */
    double last_seconds;
    /* what vCPUs and devices may dirty, in pages/s, and from when on */
    double budget_pps;
    bool throttled;
    bool from_now;
    /* more than that was dirtied, because of the ceiling or of devices */
    bool beyond;
    /* a page that is dirtied has to be sent with that probability */
    double counts;
    /* auto-converge: what vCPUs lose, and what its period has seen */
    double lost;
    unsigned high;
    double period_seconds;
    double period_sent;
    double period_dirtied;
    /* vCPUs were slowed for so long, in which each has been awake so long */
    double throttled_seconds;
    double *awake;
    /* what each vCPU wants to dirty in an iteration, and does at least */
    double *wants;
    double *least;
} Run;

/* What a vCPU dirties in @part of the rest of this iteration, @seconds */
static double run_wants(const Run *r, unsigned vcpu, double seconds,
                        double part)
{
    const DirtyDemand *d = &r->o->demands[vcpu];

    return dirty_demand_pages(d, r->before_seconds + seconds * part) -
           dirty_demand_pages(d, r->before_seconds);
}

/* The least that vCPUs keep of their time */
static double run_least(const Run *r)
{
    return 1 - r->o->ceiling_percent / 100.0;
}

/* What vCPUs dirty in @part of @seconds */
static double run_dirties(const Run *r, double seconds, double part)
{
    double pages = 0;

    for (unsigned i = 0; i < r->o->nr_demands; i++) {
        pages += run_wants(r, i, seconds, part);
    }
    return pages;
}

/*
 * What vCPUs dirty if none dirties more than @level, or than it does at its
 * ceiling
 */
static double run_levelled(const Run *r, double level)
{
    double pages = 0;

    for (unsigned i = 0; i < r->o->nr_demands; i++) {
        pages += MIN(r->wants[i], MAX(level, r->least[i]));
    }
    return pages;
}

/* What vCPUs dirty that are held to @budget: each to the same @level */
static double run_hold(const Run *r, double seconds, double budget,
                       double *level)
{
    double low = 0, high = 0;

    for (unsigned i = 0; i < r->o->nr_demands; i++) {
        r->wants[i] = run_wants(r, i, seconds, 1);
        r->least[i] = run_wants(r, i, seconds, run_least(r));
        high = MAX(high, r->wants[i]);
    }
    *level = high;
    if (run_levelled(r, high) <= budget) {
        return run_levelled(r, high);
    }
    for (int i = 0; i < BISECTIONS; i++) {
        *level = (low + high) / 2;
        if (run_levelled(r, *level) > budget) {
            high = *level;
        } else {
            low = *level;
        }
    }
    return run_levelled(r, *level);
}

/* The same with vCPUs that are slowed alike, to a @part of their time */
static double run_hold_alike(const Run *r, double seconds, double budget,
                             double *part)
{
    double low = run_least(r), high = 1;

    *part = 1;
    if (run_dirties(r, seconds, 1) <= budget) {
        return run_dirties(r, seconds, 1);
    }
    for (int i = 0; i < BISECTIONS; i++) {
        *part = (low + high) / 2;
        if (run_dirties(r, seconds, *part) > budget) {
            high = *part;
        } else {
            low = *part;
        }
    }
    return run_dirties(r, seconds, *part);
}

/* How long each vCPU is awake of a time in which vCPUs are slowed */
static void run_note_awake(Run *r, double seconds, double level, double part)
{
    r->throttled_seconds += seconds;
    for (unsigned i = 0; r->awake && i < r->o->nr_demands; i++) {
        const DirtyDemand *d = &r->o->demands[i];
        double awake = seconds * part;

        if (run_wants(r, i, seconds, part) > level) {
            double before = dirty_demand_pages(d, r->before_seconds);
            double until = dirty_demand_seconds(d, 1, before + level,
                                                r->before_seconds + seconds);

            awake = MAX(until - r->before_seconds, seconds * run_least(r));
        }
        r->awake[i] += awake;
    }
}

/*
 * Does the engine throttle?  It begins when the iteration would leave more than
 * can be switched over, and more than the threshold says.  Here it goes on to
 * the end.
 */
static bool run_must_throttle(const Run *r)
{
    double seconds = r->pages / r->link_pps;
    double leaves = r->before_pages + r->o->device_pps * seconds +
                    run_dirties(r, seconds, 1);

    return r->strategy >= DIRTY_STRATEGY_QUOTA &&
           (r->throttled || r->from_now ||
            (!r->first_pass &&
             leaves > MAX(r->switchover_pages,
                          r->pages * r->budget_pps / r->link_pps)));
}

/* What is dirtied in @seconds */
static double run_dirty(Run *r, double seconds)
{
    double level = NO_LEVEL, part = 1 - r->lost, vcpus;
    double devices = r->o->device_pps * seconds;

    r->throttled = run_must_throttle(r);
    if (r->throttled) {
        double budget = r->budget_pps * seconds;

        vcpus = MAX(budget - devices, 0);
        vcpus = r->o->alike ? run_hold_alike(r, seconds, vcpus, &part)
                            : run_hold(r, seconds, vcpus, &level);
        r->beyond |= vcpus + devices > budget * BEYOND + 1;
    } else {
        vcpus = run_dirties(r, seconds, part);
    }
    if (r->throttled || r->lost) {
        run_note_awake(r, seconds, level, part);
    }
    return r->before_pages + (devices + vcpus) * r->counts;
}

/* auto-converge looks at what was dirtied and sent, at a sync. */
static void run_converge(Run *r, double seconds, double sent, double dirtied)
{
    const DirtyOutlook *o = r->o;

    r->period_seconds += seconds;
    r->period_sent += sent;
    r->period_dirtied += dirtied;
    if (r->period_seconds <= CONVERGE_PERIOD_S) {
        return;
    }
    if (r->period_dirtied > r->period_sent * o->threshold_percent / 100 &&
        ++r->high >= CONVERGE_COUNT) {
        r->high = 0;
        r->lost += (r->lost ? o->increment_percent : o->initial_percent) /
                   100.0;
        r->lost = MIN(r->lost, o->ceiling_percent / 100.0);
    }
    r->period_seconds = 0;
    r->period_sent = 0;
    r->period_dirtied = 0;
}

/*
 * When the first pass is cut: as soon as it is known to be in vain, if that is
 * before its end.
 */
static double run_cut_seconds(const Run *r, double seconds)
{
    double enough = (double)r->o->all_pages * DIRTY_IN_VAIN_PERCENT / 100;
    double until = r->before_seconds + seconds;
    DirtyGrowth growth = { };

    for (int n = 1; n <= CUT_STEPS; n++) {
        double now = until * n / CUT_STEPS;
        double dirty = dirty_demand_sum(r->o->demands, r->o->nr_demands, now);

        dirty = dirty_growth_note(&growth, now, dirty, until - now,
                                  r->o->all_pages);
        if (dirty >= enough && now >= r->before_seconds) {
            return now - r->before_seconds;
        }
    }
    return seconds;
}

/*
 * The first pass is cut.  Of what was sent, the dirty part has to be sent
 * again; and from now on a page is dirtied as often before its turn as after.
 */
static void run_cut(Run *r, double seconds)
{
    double sent = seconds * r->link_pps;
    double dirty = run_dirty(r, seconds) / r->o->memory_pages;

    r->pages -= sent * (1 - MIN(dirty, 1));
    r->counts = 0.5;
}

/* How much is sent until the sender sees that the guest can be switched over */
static double run_sends(const Run *r)
{
    double window_pages = r->link_pps * WINDOW_S;
    double pages = r->pages - r->switchover_pages + window_pages / 2;

    return MIN(MAX(pages, window_pages), r->pages);
}

/* How many pages are among those that were left, or dirtied in @seconds */
static double run_union(const Run *r, double left, double dirtied,
                        double seconds)
{
    double both = r->before_seconds + seconds + r->last_seconds;
    double all = r->o->memory_pages;

    if (!r->first_pass) {
        all = MIN(all, r->o->device_pps * both +
                       dirty_demand_sum(r->o->demands, r->o->nr_demands, both));
    }
    all = MAX(all, MAX(left, dirtied));
    return all ? left + dirtied - left / all * dirtied : 0;
}

/*
 * One iteration.
 *
 * Returns: whether there was any progress, or may be any
 */
static bool run_iterate(Run *r)
{
    double sent = run_sends(r), seconds = sent / r->link_pps, begin = r->pages;
    bool was_first = r->first_pass, was_throttled = r->throttled;
    double lost = r->lost, cut = seconds, dirtied;

    if (r->strategy == DIRTY_STRATEGY_QUOTA && r->first_pass && r->o->cuts) {
        cut = run_cut_seconds(r, seconds);
    }
    if (cut < seconds) {
        seconds = cut;
        run_cut(r, seconds);
    } else {
        dirtied = run_dirty(r, seconds);
        if (r->strategy == DIRTY_STRATEGY_CONVERGE) {
            run_converge(r, seconds, sent, dirtied);
        }
        r->pages = run_union(r, begin - sent, dirtied, seconds);
    }
    r->seconds += seconds;
    r->last_seconds = seconds;
    r->before_pages = 0;
    r->before_seconds = 0;
    r->first_pass = false;
    return was_first || r->throttled != was_throttled || r->lost != lost ||
           r->high || r->period_seconds ||
           r->pages < begin * (1 - SHORTER_PART);
}

static DirtyForecast run_to_end(Run *r)
{
    DirtyForecast f = { };
    bool progress = true;

    for (int i = 0; i < ITERATIONS_MAX && progress; i++) {
        if (!r->first_pass && r->pages <= r->switchover_pages &&
            !r->before_pages) {
            f.ends = r->seconds < SECONDS_MAX;
            break;
        }
        progress = run_iterate(r);
    }
    if (f.ends) {
        double downtime = r->pages / r->link_pps;

        f.time_ns = (r->seconds + downtime) * DIRTY_NS_PER_S;
        f.downtime_ns = downtime * DIRTY_NS_PER_S;
        f.throttled_ns = r->throttled_seconds * DIRTY_NS_PER_S;
    }
    for (unsigned i = 0; r->awake && i < r->o->nr_demands; i++) {
        r->awake[i] = r->throttled_seconds ?
                      r->awake[i] / r->throttled_seconds : 1;
    }
    return f;
}

/* @scratch has room for two figures of each vCPU. */
static Run run_begin(const DirtyOutlook *o, DirtyStrategy strategy,
                     double *kept, double *scratch)
{
    double free_pps = o->link_pps > o->device_pps ?
                      o->link_pps - o->device_pps : 0;
    Run r = {
        .o = o,
        .strategy = strategy,
        .link_pps = o->link_pps,
        .switchover_pages = (double)o->link_pps * o->downtime_ns /
                            DIRTY_NS_PER_S,
        .pages = o->remaining_pages,
        .first_pass = o->first_pass,
        .seconds = (double)o->passed_ns / DIRTY_NS_PER_S,
        .before_pages = o->dirtied_pages,
        .before_seconds = dirty_demand_seconds(o->demands, o->nr_demands,
                                               o->dirtied_pages,
                                               (double)o->iteration_ns /
                                               DIRTY_NS_PER_S),
        .budget_pps = free_pps * o->threshold_percent / 100 + o->device_pps,
        .counts = 1,
        .awake = kept,
        .wants = scratch,
        .least = scratch + o->nr_demands,
    };

    for (unsigned i = 0; kept && i < o->nr_demands; i++) {
        kept[i] = 0;
    }
    return r;
}

/*
 * With a deadline the budget is what lets it be met: b pages more than can be
 * switched over, in t seconds, leave w = B - b / t.  That is from the end of
 * the first pass on, or from now on if it would be too little.
 *
 * Returns: how long vCPUs are slowed then; 0 if that is not enough
 */
static double run_set_deadline(Run *r)
{
    double left = (double)(r->o->deadline_ns - DIRTY_DEADLINE_AHEAD_NS) /
                  DIRTY_NS_PER_S - r->seconds;
    double first = r->first_pass ? r->pages / r->link_pps : 0;
    double backlog = r->pages + r->before_pages - r->switchover_pages;
    double devices = r->o->device_pps, free_pps = r->link_pps - devices;
    double least = devices + free_pps * DIRTY_DEADLINE_LEAST_PERCENT / 100;
    double begin = devices + free_pps * DIRTY_DEADLINE_BEGIN_PERCENT / 100;

    if (r->first_pass && left > first) {
        double pages = backlog + devices * first + run_dirties(r, first, 1) -
                       r->link_pps * first;

        r->budget_pps = r->link_pps - MAX(pages, 0) / (left - first);
        if (r->budget_pps >= begin) {
            return left - first;
        }
    }
    r->from_now = true;
    r->budget_pps = left > 0 ? r->link_pps - MAX(backlog, 0) / left : 0;
    if (r->budget_pps >= least) {
        return left;
    }
    r->budget_pps = least;
    return 0;
}

/*
 * A guest that gets there in time by itself is left alone.  Else it is switched
 * over at the deadline, because vCPUs get whatever lets that be, or as soon as
 * that can be.
 */
static DirtyForecast forecast_deadline(const DirtyOutlook *o, double *kept,
                                       double *scratch)
{
    int64_t tolerance_ns = MIN(o->deadline_ns / DIRTY_DEADLINE_PARTS,
                               DIRTY_DEADLINE_TOLERANCE_NS);
    Run r = run_begin(o, DIRTY_STRATEGY_NONE, kept, scratch);
    DirtyForecast f = run_to_end(&r);
    double throttled;

    if (f.ends && f.time_ns - f.downtime_ns <= o->deadline_ns) {
        return f;
    }
    r = run_begin(o, DIRTY_STRATEGY_DEADLINE, kept, scratch);
    throttled = run_set_deadline(&r);
    f = run_to_end(&r);
    if (throttled && !r.beyond) {
        f.ends = true;
        f.time_ns = o->deadline_ns + o->downtime_ns;
        f.throttled_ns = throttled * DIRTY_NS_PER_S;
        f.downtime_ns = o->downtime_ns;
    }
    f.late = !f.ends || f.time_ns - f.downtime_ns > o->deadline_ns +
                                                    tolerance_ns;
    return f;
}

DirtyForecast dirty_forecast(const DirtyOutlook *o, DirtyStrategy strategy,
                             double *kept)
{
    g_autofree double *scratch = g_new(double, 2 * o->nr_demands);
    Run r = run_begin(o, strategy, kept, scratch);

    return strategy == DIRTY_STRATEGY_DEADLINE ?
           forecast_deadline(o, kept, scratch) : run_to_end(&r);
}
