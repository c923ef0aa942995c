/*
 * Dirty throttle: does the migration need throttling, and can it help
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "account.h"
#include "target.h"

/*
 * More iterations than that will not happen: at a threshold of 99 % it takes
 * some 400 to get from a terabyte to what can be switched over.
 */
#define ITERATIONS_MAX 500

/* Nobody waits for a year, and in nanoseconds it is far below 2^63. */
#define SECONDS_MAX (365 * 24 * 3600)

/*
 * Will there be more than @pages to send again when the iteration ends?
 *
 * It ends in remaining / link_pps seconds, and until then
 * dirty_pps * remaining / link_pps more pages are dirtied.  A double takes any
 * figure, and a page more or less does not matter.
 */
static bool target_leaves_more(const DirtyTargetSample *s, uint64_t pages)
{
    if (s->dirtied_pages > pages) {
        return true;
    }
    return s->remaining_pages &&
           (double)s->dirty_pps * s->remaining_pages / s->link_pps >
           pages - s->dirtied_pages;
}

bool dirty_target_needs_throttle(const DirtyTargetSample *s)
{
    if (s->iteration < 2 || !s->link_pps) {
        return false;
    }
    return target_leaves_more(s, MAX(s->switchover_pages,
                                     s->iteration_pages / 100 *
                                     s->threshold_percent));
}

uint64_t dirty_target_budget_pps(uint64_t link_pps, unsigned threshold_percent,
                                 uint64_t device_pps)
{
    return link_pps > device_pps ?
           (link_pps - device_pps) * threshold_percent / 100 : 0;
}

int64_t dirty_target_expected_ns(const DirtyTargetSample *s)
{
    double link_pps = s->link_pps, pages = s->remaining_pages;
    double left = s->dirtied_pages, seconds = 0;
    int n;

    if (!s->link_pps) {
        return -1;
    }
    for (n = 0; pages > 0 && n < ITERATIONS_MAX; n++) {
        double next = left + s->dirty_pps * pages / link_pps;

        seconds += pages / link_pps;
        if (next <= s->switchover_pages) {
            seconds += next / link_pps;
            break;
        }
        pages = MIN(next, MAX(s->iteration_pages, left));
        left = 0;
    }
    return n < ITERATIONS_MAX && seconds < SECONDS_MAX ?
           seconds * DIRTY_NS_PER_S : -1;
}
