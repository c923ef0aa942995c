/*
 * Dirty throttle: what the link really carries
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "link.h"

#define US_PER_S 1000000

void dirty_link_break(DirtyLink *l)
{
    l->from_ns = 0;
}

void dirty_link_sent(DirtyLink *l, uint64_t sent_pages, bool more,
                     int64_t now_ns)
{
    int64_t span_ns = now_ns - l->from_ns;
    uint64_t span_pps;

    if (!more) {
        dirty_link_break(l);
        return;
    }
    if (!l->from_ns || sent_pages < l->from_pages) {
        l->from_ns = now_ns;
        l->from_pages = sent_pages;
        return;
    }
    if (span_ns < DIRTY_LINK_SPAN_NS) {
        return;
    }

    /* Microseconds: 2^44 pages, 64 PiB, in one span do not overflow. */
    span_pps = (sent_pages - l->from_pages) * US_PER_S / (span_ns / 1000);
    if (span_pps >= l->pps) {
        l->pps = span_pps;
    } else {
        /*
         * pps' = pps - (pps - span_pps) * span / fall, the first step of an
         * exponential decay.  span_ns is cut to FALL, and divided by 2^9 to
         * keep the product with a rate of up to 2^40 below 2^60.
         */
        uint64_t part = MIN(span_ns, DIRTY_LINK_FALL_NS) >> 9;

        l->pps -= (l->pps - span_pps) * part / (DIRTY_LINK_FALL_NS >> 9);
    }
    l->from_ns = now_ns;
    l->from_pages = sent_pages;
}
