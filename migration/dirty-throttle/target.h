/*
 * Dirty throttle: does the migration need throttling, and can it help
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_DIRTY_THROTTLE_TARGET_H
#define MIGRATION_DIRTY_THROTTLE_TARGET_H

/* The first pass is in vain if it leaves so much of memory dirty. */
#define DIRTY_IN_VAIN_PERCENT 70

/*
 * The least that a deadline leaves vCPUs of what devices leave of the link.
 * With that it takes a twentieth longer than with vCPUs that stand still.
 */
#define DIRTY_DEADLINE_LEAST_PERCENT 5

/* What is later by no more than one of so many parts, or that, is in time. */
#define DIRTY_DEADLINE_PARTS 20
#define DIRTY_DEADLINE_TOLERANCE_NS (10 * DIRTY_NS_PER_S)

/*
 * So much earlier is aimed at, because the sender may have to end a window of
 * 100 ms and a turn of 50 until it sees that the guest can be switched over.
 */
#define DIRTY_DEADLINE_AHEAD_NS 150000000LL

/*
 * In the first pass throttling begins when a deadline leaves vCPUs less than
 * the first, and ends when it leaves more than the second again.
 */
#define DIRTY_DEADLINE_BEGIN_PERCENT 10
#define DIRTY_DEADLINE_STOP_PERCENT 30

/* Where the migration's present iteration stands */
typedef struct DirtyIteration {
    /* passes over memory begun; 1 is the first */
    uint64_t number;
    /* what this iteration had to send when it began */
    uint64_t begin_pages;
    /* what it still has to send */
    uint64_t remaining_pages;
    /* pages dirtied since it began: what the next one has to send so far */
    uint64_t dirtied_pages;
    /* how fast pages are being dirtied, and sent */
    uint64_t dirty_pps;
    uint64_t link_pps;
    /* how much memory can be switched over: dirty_target_switchover_pages() */
    uint64_t switchover_pages;
    /* vCPUs are being slowed */
    bool throttled;
    /* for how long in an iteration nothing is sent, because of its sync */
    int64_t pause_ns;
    /*
     * throttle-trigger-threshold: how much of what is sent may be dirtied
     * meanwhile; 1..100
     */
    unsigned threshold_percent;
} DirtyIteration;

/**
 * dirty_target_needs_throttle: will this iteration leave too much behind?
 *
 * The first pass sends everything, whatever the guest does, so it never needs
 * throttling for what it leaves.  A later iteration is on a good way when
 * what it leaves can be switched over, or is no more than threshold_percent of
 * what it began with: then the iterations shrink to nothing.  In the end less
 * must be dirtied than dirty_target_carried_pps().
 *
 * Returns: true if neither is to be expected at the present rates.  A link
 * whose speed is not known yet (0) gives no reason to throttle.
 */
bool dirty_target_needs_throttle(const DirtyIteration *it);

/**
 * dirty_target_switchover_pages: how much memory can be switched over
 *
 * What devices have to send takes its part of the downtime.  If that is all of
 * it, the migration waits for the devices, and slower vCPUs would be no help.
 *
 * @pages: what can be sent within the downtime limit
 * @other_pages: what is to be sent that is no memory, in pages
 */
uint64_t dirty_target_switchover_pages(uint64_t pages, uint64_t other_pages);

/* What an iteration may leave to the next one */
uint64_t dirty_target_may_leave(const DirtyIteration *it);

/**
 * dirty_target_carried_pps: what the link carries in the end
 *
 * In the end iterations get short.  As soon as so little is left that it could
 * be switched over, the sender syncs after each turn, to know for sure.  In a
 * turn of u it sends B * u.  With a sync that takes t, and x for all that is
 * dirtied per second, x * (u + t) is dirtied meanwhile.  So it gets on only if
 *
 *   x < B * u / (u + t)
 *
 * @it: its rate of the link is B, its pause t
 */
uint64_t dirty_target_carried_pps(const DirtyIteration *it);

/**
 * dirty_target_budget_pps: what vCPUs may dirty
 *
 * What devices dirty has to be sent, whatever vCPUs do.  So vCPUs get a part of
 * what that leaves of the link, as if the link were slower by so much.  With
 * bandwidth B, threshold f and devices that dirty d, an iteration that
 * begins with n pages takes n / B and leaves
 *
 *   n / B * (d + f * (B - d)) = n * (1 - (1 - f) * (1 - d / B))
 *
 * of them: less than n as long as d < B, so that throttling helps up to there
 * and vCPUs never have to stop for devices.
 *
 * An iteration ends with a sync as soon as no more is left than can be switched
 * over.  Of one with n pages beyond that, n are sent, which takes n / B and a
 * pause of t for the sync, and x * (n / B + t) are dirtied.  For that to be
 * (1 + f) / 2 of n, half way from f to all,
 *
 *   x = B * (1 + f) / 2 * n / (n + B * t)
 *
 * n being what a turn sends at least.  If there are terabytes to be synced, it
 * gets less than f * B when iterations get short.  Then vCPUs get x less what
 * devices dirty; but no less than a sixteenth of what they would get without
 * pauses.
 *
 * Until throttling begins, and until the first penalties bite, vCPUs get ahead:
 * a hundred of them by some hundred thousand pages in 10 ms.  So with budget w,
 * an iteration of n pages may leave n * (w + d) / B, or what can be switched
 * over if that is more, and what it may leave yet is spread over the time that
 * it takes yet, as soon as it is going to leave a quarter more.  That is never
 * more than w, and no less than half of it.
 *
 * @it: where it stands
 * @device_pps: what devices dirty
 *
 * Returns: 0 if devices alone dirty as much as the link carries
 */
uint64_t dirty_target_budget_pps(const DirtyIteration *it, uint64_t device_pps);

/**
 * dirty_target_wants_sync: is it worth it to sync in the middle?
 *
 * A page that is dirtied while it waits to be sent is sent twice, unless a
 * sync comes before its turn.  Of an iteration of n pages let m remain, and
 * let x have been dirtied, all over the n.  Then a sync now saves x * m / n
 * pages.  It is worth it if that is more than
 *
 *   a thirty-second of n, so that there are not too many, and half of what can
 *   be switched over, so that only long iterations are cut;
 *   and on top of that what is not sent while the sync takes its time
 *
 * To cut the first pass means to throttle from now on.  Let B be the bandwidth,
 * f the threshold, and n all of memory, of which little is sent yet.  Writers
 * much faster than the link are throttled
 *
 *   for D / ((1 - f) * B)               after the first pass, D being dirty by
 *                                       then
 *   for n / (f * B) * ln(1 / (1 - f))   from now on: while a part p of n is to
 *                                       be sent, that falls by B, and rises
 *                                       by the part 1 - p of f * B, because the
 *                                       part p is dirtied before its turn
 *
 * The latter is less from D = n * (1 - f) / f * ln(1 / (1 - f)) on, 69 % of n
 * at f = 0.5, and the migration is shorter by all of the first pass.  So that
 * is when to cut it, and the earlier the better: most of what is sent before
 * has to be sent again.  Of some guests D is known beforehand, see growth.h; of
 * others only that it is no less than x.  More cannot be known: of two guests
 * that sweep over their memory, one ends at half of it, and one does not.  The
 * latter should be throttled before that and the former should not, but until
 * then both do the same.  throttlesim.firstpass counts those that are missed
 * for that.
 *
 * If a deadline has it throttled already, to cut it costs only the sync, and
 * that a hot set is dirtied again.  So it is enough if the sync saves half of
 * memory, which is no hot set.
 *
 * @it: where the iteration stands; it is throttled, or is the first, in which
 * case its dirtied_pages are D
 */
bool dirty_target_wants_sync(const DirtyIteration *it);

/**
 * dirty_target_deadline_percent: what vCPUs may dirty to be done in time
 *
 * With b pages to be sent until the guest can be switched over, and a time t to
 * do that in, B * t pages are sent.  They are b, and what devices and vCPUs
 * dirty meanwhile:
 *
 *   B * t = b + (d + w) * t      w = B - d - b / t
 *
 * b is what remains now and what has been dirtied, less what can be switched
 * over.
 *
 * @it: where the iteration stands
 * @device_pps: what devices dirty, d
 * @left_ns: the time until the deadline; below 0 after it
 *
 * Returns: w in percent of B - d, rounded, at most 99; 0 if it is too late; 50
 * if the guest can be switched over
 */
unsigned dirty_target_deadline_percent(const DirtyIteration *it,
                                       uint64_t device_pps, int64_t left_ns);

/**
 * dirty_target_earliest_ns: how long it takes at least
 *
 * That is, if from now on vCPUs dirty threshold_percent of what devices leave
 * of the link.
 *
 * Returns: the time until the guest can be switched over, or -1 if it does not
 * get there
 */
int64_t dirty_target_earliest_ns(const DirtyIteration *it, uint64_t device_pps);

/**
 * dirty_target_expected_ns: how long until the migration can switch over
 *
 * Supposes that rates stay as they are, and that no iteration leaves more than
 * it began with.
 *
 * Returns: the time, or -1 if it does not get there
 */
int64_t dirty_target_expected_ns(const DirtyIteration *it);

#endif
