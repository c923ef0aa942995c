/*
 * Dirty throttle: what the link really carries
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "link.h"

#define US_PER_S 1000000

/* Microseconds: 2^44 pages, 64 PiB, in one window do not overflow. */
static uint64_t link_rate_pps(uint64_t pages, int64_t span_ns)
{
    return pages * US_PER_S / (span_ns / 1000);
}

/*
 * pps' = pps - (pps - to_pps) * took / fall, the first step of an exponential
 * decay.  took_ns is cut to FALL, and divided by 2^9 to keep the product with
 * a rate of up to 2^40 below 2^60.
 */
static void link_fall(DirtyLink *l, uint64_t to_pps, int64_t took_ns)
{
    uint64_t part = MIN(took_ns, DIRTY_LINK_FALL_NS) >> 9;

    l->pps -= (l->pps - to_pps) * part / (DIRTY_LINK_FALL_NS >> 9);
}

void dirty_link_window(DirtyLink *l, uint64_t sent_pages, int64_t now_ns)
{
    int64_t span_ns = now_ns - l->from_ns;
    uint64_t window_pps;

    if (l->from_ns) {
        l->pages += sent_pages;
        if (span_ns < DIRTY_LINK_SPAN_NS) {
            return;
        }
        window_pps = link_rate_pps(l->pages, span_ns);
        if (window_pps >= l->pps) {
            l->pps = window_pps;
        } else if (!l->slack) {
            link_fall(l, window_pps, span_ns);
        }
    }
    l->from_ns = now_ns;
    l->pages = 0;
    l->slack = false;
}

void dirty_link_late(DirtyLink *l, uint64_t sent_pages, int64_t since_ns,
                     int64_t now_ns)
{
    uint64_t window_pps = link_rate_pps(l->pages + sent_pages,
                                        now_ns - l->from_ns);

    if (window_pps < l->pps && !l->slack) {
        link_fall(l, window_pps, since_ns);
    }
}

void dirty_link_slack(DirtyLink *l)
{
    l->slack = true;
}

void dirty_link_break(DirtyLink *l)
{
    l->from_ns = 0;
}
