/*
 * Dirty throttle: does the migration need throttling, and can it help
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "account.h"
#include "target.h"

/*
 * There will be no more iterations than that: at a threshold of 99 % it takes
 * some 400 to get from a terabyte to what can be switched over.
 */
#define ITERATIONS_MAX 500

/* The sender looks after so long whether it is over: QEMU's MAX_WAIT. */
#define TURN_MS 50

/* A shorter pause takes less than a sixth of the time. */
#define PAUSE_MIN_NS (TURN_MS * 1000000LL / 5)

/*
 * Pauses do not make the budget smaller than by so many times: when devices
 * dirty too much in them, vCPUs that stand still would be no help.
 */
#define PAUSE_MOST 16

/*
 * An iteration that is going to leave more than so many times what it may makes
 * the budget smaller.  A few percent more is common, and costs the migration
 * less than vCPUs.
 */
#define LEFT_MOST 1.25

/* And so many times smaller at most, because vCPUs are to get on. */
#define LEFT_LEAST 2

/* A sync in the middle has to save one of so many pages of the iteration. */
#define SAVED_PART 32

/* With all of what devices leave a migration would never end. */
#define DEADLINE_MOST_PERCENT 99

/*
 * When the guest can be switched over, it has to stay so until the sender comes
 * to that, a window or two later: less is dirtied than sent.
 */
#define DEADLINE_END_PERCENT 50

/* Nobody waits for longer than a year, which is far below 2^63 ns. */
#define SECONDS_MAX (365 * 24 * 3600)

/*
 * Will there be more than @pages to send again when the iteration ends?
 *
 * It ends in remaining / link_pps seconds, and until then
 * dirty_pps * remaining / link_pps more pages are dirtied.  A double holds any
 * such figure, and a page more or less does not matter.
 */
static bool target_leaves_more(const DirtyIteration *it, uint64_t pages)
{
    if (it->dirtied_pages > pages) {
        return true;
    }
    return it->remaining_pages &&
           (double)it->dirty_pps * it->remaining_pages / it->link_pps >
           pages - it->dirtied_pages;
}

uint64_t dirty_target_switchover_pages(uint64_t pages, uint64_t other_pages)
{
    return other_pages < pages ? pages - other_pages : pages;
}

uint64_t dirty_target_may_leave(const DirtyIteration *it)
{
    return MAX(it->switchover_pages,
               it->begin_pages / 100 * it->threshold_percent);
}

/* A rate times milliseconds fits into 64 bits. */
uint64_t dirty_target_carried_pps(const DirtyIteration *it)
{
    uint64_t pause_ms = it->pause_ns / 1000000;

    if (it->pause_ns < PAUSE_MIN_NS) {
        return it->link_pps;
    }
    return it->link_pps * TURN_MS / (TURN_MS + pause_ms);
}

/* The sender syncs after each turn.  Is more dirtied until then than sent? */
static bool target_syncs_in_vain(const DirtyIteration *it)
{
    return it->begin_pages / 2 < it->switchover_pages &&
           it->pause_ns >= PAUSE_MIN_NS &&
           it->dirty_pps > dirty_target_carried_pps(it);
}

bool dirty_target_needs_throttle(const DirtyIteration *it)
{
    if (it->number < 2 || !it->link_pps) {
        return false;
    }
    return target_leaves_more(it, dirty_target_may_leave(it)) ||
           target_syncs_in_vain(it);
}

/* See target.h for x.  A double holds any such figure. */
static uint64_t target_with_pauses_pps(const DirtyIteration *it)
{
    double link_pps = it->link_pps;
    double pages = (double)it->begin_pages - it->switchover_pages;
    double pause_pages = link_pps * it->pause_ns / DIRTY_NS_PER_S;

    if (it->pause_ns < PAUSE_MIN_NS) {
        return it->link_pps;
    }
    pages = MAX(pages, link_pps * TURN_MS / 1000);
    return link_pps * pages / (pages + pause_pages) *
           (100 + it->threshold_percent) / 200;
}

/* See target.h.  Returns: @budget_pps, or less, down to half of it */
static uint64_t target_left_pps(const DirtyIteration *it, uint64_t budget_pps,
                                uint64_t device_pps)
{
    double part = (double)(budget_pps + device_pps) / it->link_pps;
    double may_leave = MAX(it->switchover_pages,
                           part * it->begin_pages) * LEFT_MOST;
    double seconds = (double)it->remaining_pages / it->link_pps;
    double pages = may_leave - it->dirtied_pages - device_pps * seconds;

    if (pages >= budget_pps * seconds) {
        return budget_pps;
    }
    return MAX(pages / seconds, budget_pps / LEFT_LEAST);
}

uint64_t dirty_target_budget_pps(const DirtyIteration *it, uint64_t device_pps)
{
    uint64_t budget_pps, with_pauses_pps;

    if (it->link_pps <= device_pps) {
        return 0;
    }
    budget_pps = (it->link_pps - device_pps) * it->threshold_percent / 100;
    with_pauses_pps = target_with_pauses_pps(it);
    with_pauses_pps -= MIN(with_pauses_pps, device_pps);
    budget_pps = MIN(budget_pps,
                     MAX(with_pauses_pps, budget_pps / PAUSE_MOST));
    return target_left_pps(it, budget_pps, device_pps);
}

bool dirty_target_wants_sync(const DirtyIteration *it)
{
    double begin = it->begin_pages, saved, lost;

    if (!it->link_pps || it->remaining_pages <= it->switchover_pages) {
        return false;
    }
    saved = it->dirtied_pages / begin * it->remaining_pages;
    if (it->number < 2) {
        return it->throttled ? saved >= begin / 2 :
               it->dirtied_pages >= begin / 100 * DIRTY_IN_VAIN_PERCENT;
    }
    lost = (double)it->link_pps * it->pause_ns / DIRTY_NS_PER_S;
    return saved > MAX(begin / SAVED_PART, it->switchover_pages / 2) + lost;
}

/* What is to be sent until the guest can be switched over */
static double target_backlog_pages(const DirtyIteration *it)
{
    return (double)it->remaining_pages + it->dirtied_pages -
           it->switchover_pages;
}

unsigned dirty_target_deadline_percent(const DirtyIteration *it,
                                       uint64_t device_pps, int64_t left_ns)
{
    double pages = target_backlog_pages(it), seconds, pps;

    if (it->link_pps <= device_pps) {
        return 0;
    }
    if (pages <= 0) {
        return DEADLINE_END_PERCENT;
    }
    seconds = (double)left_ns / DIRTY_NS_PER_S;
    pps = it->link_pps - device_pps;
    if (pages >= pps * seconds) {
        return 0;
    }
    return MIN(100 - pages / seconds / pps * 100 + 0.5, DEADLINE_MOST_PERCENT);
}

int64_t dirty_target_earliest_ns(const DirtyIteration *it, uint64_t device_pps)
{
    double pages = MAX(target_backlog_pages(it), 0), seconds, pps;

    if (it->link_pps <= device_pps) {
        return -1;
    }
    pps = (double)(it->link_pps - device_pps) *
          (100 - it->threshold_percent) / 100;
    seconds = pages / pps;
    return seconds < SECONDS_MAX ? seconds * DIRTY_NS_PER_S : -1;
}

int64_t dirty_target_expected_ns(const DirtyIteration *it)
{
    double link_pps = it->link_pps, pages = it->remaining_pages;
    double left = it->dirtied_pages, seconds = 0;
    int n;

    if (!it->link_pps) {
        return -1;
    }
    for (n = 0; pages > 0 && n < ITERATIONS_MAX; n++) {
        double next = left + it->dirty_pps * pages / link_pps;

        seconds += pages / link_pps;
        if (next <= it->switchover_pages) {
            seconds += next / link_pps;
            break;
        }
        pages = MIN(next, MAX(it->begin_pages, left));
        left = 0;
    }
    return n < ITERATIONS_MAX && seconds < SECONDS_MAX ?
           seconds * DIRTY_NS_PER_S : -1;
}
