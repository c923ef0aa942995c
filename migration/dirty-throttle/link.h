/*
 * Dirty throttle: what the link really carries
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_DIRTY_THROTTLE_LINK_H
#define MIGRATION_DIRTY_THROTTLE_LINK_H

/* Less than this is too short to tell a rate from a burst. */
#define DIRTY_LINK_SPAN_NS 50000000LL

/*
 * How fast a lower bandwidth is believed: the estimate covers most of the way
 * in this time, and all but a twentieth of it in a second.  One slow window may
 * be noise, so it covers half of the way at most, however long it lasts.
 */
#define DIRTY_LINK_FALL_NS 400000000LL

/*
 * The sender keeps to max-bandwidth from window to window: in each it sends
 * as fast as it can until it has sent what a window may hold.  So what was
 * sent between any two moments tells nothing, while what was sent in a whole
 * window never exceeds what the link carries.
 *
 * A window that does not end tells nothing either.  The sender ends one within
 * 150 ms, or with the next 64 pages if those take longer.  A link that takes
 * none is stuck, not slow, and no throttling helps it.  So the estimate stays
 * what it was, and with it what the guest may dirty: TCP may take a quarter of
 * an hour to give a link up, and the guest has to live until then.
 */
typedef struct DirtyLink {
    /* pages/s, 0: not known yet */
    uint64_t pps;
    /*
     * a window was spent on sending; until then pps is the least that the link
     * carries, and may be next to nothing
     */
    bool told;
    /* which window this is; 0: none has been seen */
    int64_t window;
    /* since when pages are counted, 0: they are not yet */
    int64_t from_ns;
    /* sent since then, and got rid of without being sent */
    uint64_t sent_pages;
    uint64_t free_pages;
    /* the sender did something else than send */
    bool slack;
} DirtyLink;

/**
 * dirty_link_progress: the sender has got so much further
 *
 * The estimate rises at once and falls slowly: a link that is thought too
 * fast costs the migration a moment, one that is thought too slow costs the
 * guest its speed.
 *
 * What counts is how many dirty pages the link gets rid of: compression and
 * xbzrle get more of them through the same link.  Pages that need no sending,
 * because they are zero or the guest does not need them any more, do not count:
 * there may be any number of them in one window and none in the next.  A window
 * with more of these than of others was not spent on sending.
 *
 * @l: all zero at first
 * @sent_pages: sent since the last call; not counted before the first window
 *              that is seen to begin
 * @free_pages: got rid of since then without sending their content
 * @window: tells windows apart; not 0
 * @now_ns: the time, above 0
 */
void dirty_link_progress(DirtyLink *l, uint64_t sent_pages,
                         uint64_t free_pages, int64_t window, int64_t now_ns);

/**
 * dirty_link_slack: in this window the sender also does something else
 *
 * Such a window tells what the link carries at least, so it makes the
 * estimate rise only.
 */
void dirty_link_slack(DirtyLink *l);

#endif
