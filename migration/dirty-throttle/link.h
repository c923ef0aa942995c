/*
 * Dirty throttle: what the link really carries
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_DIRTY_THROTTLE_LINK_H
#define MIGRATION_DIRTY_THROTTLE_LINK_H

/*
 * The bandwidth is learnt from spans of at least this.  QEMU sends in bursts
 * to keep max-bandwidth on the average over 100 ms; the ends of two bursts
 * are that far apart, so half of it never catches a part of one.
 */
#define DIRTY_LINK_SPAN_NS 50000000LL

/*
 * How fast a lower bandwidth is believed: an estimate covers most of the way
 * in this time, and all but a twentieth of it in a second.  One slow span is
 * noise; a link that got slow stays slow.
 */
#define DIRTY_LINK_FALL_NS 400000000LL

typedef struct DirtyLink {
    /* pages/s, 0: not known yet */
    uint64_t pps;
    /* where the present span began, 0: it has to begin anew */
    int64_t from_ns;
    uint64_t from_pages;
} DirtyLink;

/**
 * dirty_link_sent: take in how far sending has got
 *
 * The estimate rises at once and falls slowly: a link that is thought too
 * fast costs the migration a moment, one that is thought too slow costs the
 * guest its speed.
 *
 * @l: all zero at first
 * @sent_pages: pages that need not be sent any more, growing
 * @more: there is more to send; what was sent before there was not tells
 *        nothing of the link
 * @now_ns: the time, above 0
 */
void dirty_link_sent(DirtyLink *l, uint64_t sent_pages, bool more,
                     int64_t now_ns);

/* Time spent on something else than sending tells nothing of the link. */
void dirty_link_break(DirtyLink *l);

#endif
