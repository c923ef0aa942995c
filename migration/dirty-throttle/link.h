/*
 * Dirty throttle: what the link really carries
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_DIRTY_THROTTLE_LINK_H
#define MIGRATION_DIRTY_THROTTLE_LINK_H

/* Less than this is too short to tell a rate from a burst. */
#define DIRTY_LINK_SPAN_NS 50000000LL

/*
 * How fast a lower bandwidth is believed: an estimate covers most of the way
 * in this time, and all but a twentieth of it in a second.  One slow window is
 * noise; a link that got slow stays slow.
 */
#define DIRTY_LINK_FALL_NS 400000000LL

/*
 * The sender keeps to max-bandwidth from window to window: in each it sends
 * as fast as it can until it has sent what a window may hold.  So what was
 * sent between any two moments tells nothing, while what was sent in a whole
 * window never exceeds what the link carries.
 */
typedef struct DirtyLink {
    /* pages/s, 0: not known yet */
    uint64_t pps;
    /* when the present window began, 0: that is not known */
    int64_t from_ns;
    /* sent in windows that were too short, and belong to the present one */
    uint64_t pages;
    /* the sender did something else than send in the present window */
    bool slack;
} DirtyLink;

/**
 * dirty_link_window: a window is over, and the next one begins
 *
 * The estimate rises at once and falls slowly: a link that is thought too
 * fast costs the migration a moment, one that is thought too slow costs the
 * guest its speed.  A window with slack tells what the link carries at least,
 * so it makes the estimate rise only.
 *
 * @l: all zero at first; what was sent before the first call does not count
 * @sent_pages: sent in the window
 * @now_ns: the time, above 0
 */
void dirty_link_window(DirtyLink *l, uint64_t sent_pages, int64_t now_ns);

/**
 * dirty_link_late: the window should be over by now
 *
 * @l: it is known when the present window began
 * @sent_pages: sent in it so far
 * @since_ns: how long ago this was called last, or would have been
 */
void dirty_link_late(DirtyLink *l, uint64_t sent_pages, int64_t since_ns,
                     int64_t now_ns);

/* There is, or was, something else to do in this window than to send. */
void dirty_link_slack(DirtyLink *l);

/* The present window tells nothing. */
void dirty_link_break(DirtyLink *l);

#endif
