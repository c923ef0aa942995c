/*
 * Dirty throttle: what the link really carries
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "account.h"
#include "link.h"

/*
 * pps' = pps - (pps - to_pps) * took / fall approximates an exponential decay.
 * took_ns is cut to half of DIRTY_LINK_FALL_NS, and divided by 2^9 to keep the
 * product with a rate of up to 2^40 below 2^59.
 */
static void link_fall(DirtyLink *l, uint64_t to_pps, int64_t took_ns)
{
    uint64_t part = MIN(took_ns, DIRTY_LINK_FALL_NS / 2) >> 9;

    l->pps -= (l->pps - to_pps) * part / (DIRTY_LINK_FALL_NS >> 9);
}

/* A window that was too short is taken together with the next one. */
static void link_end_window(DirtyLink *l, int64_t now_ns)
{
    int64_t span_ns = now_ns - l->from_ns;
    bool spent_on_sending = !l->slack && l->free_pages <= l->sent_pages;
    uint64_t window_pps;

    if (l->from_ns) {
        if (span_ns < DIRTY_LINK_SPAN_NS) {
            return;
        }
        window_pps = dirty_pages_rate_pps(l->sent_pages, span_ns);
        if (window_pps >= l->pps) {
            l->pps = window_pps;
        } else if (spent_on_sending) {
            link_fall(l, window_pps, span_ns);
        }
        l->told |= spent_on_sending;
    }
    l->from_ns = now_ns;
    l->sent_pages = 0;
    l->free_pages = 0;
    l->slack = false;
}

void dirty_link_progress(DirtyLink *l, uint64_t sent_pages,
                         uint64_t free_pages, int64_t window, int64_t now_ns)
{
    l->sent_pages += sent_pages;
    l->free_pages += free_pages;
    if (window == l->window) {
        return;
    }
    /* Of the first window it is not known when it began. */
    if (l->window) {
        link_end_window(l, now_ns);
    }
    l->window = window;
}

void dirty_link_slack(DirtyLink *l)
{
    l->slack = true;
}
