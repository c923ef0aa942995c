/*
 * Dirty throttle: when a dirty ring has to be harvested
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_DIRTY_THROTTLE_RING_PACE_H
#define MIGRATION_DIRTY_THROTTLE_RING_PACE_H

/*
 * Between two looks at a ring to see if it has to be harvested.  Half as long
 * would catch rings that last 10 ms, and cost twice as many wakeups; rings
 * that do not last 20 ms should be larger.
 */
#define DIRTY_REAP_MIN_NS 10000000LL

/*
 * When nothing happens.  QEMU has always harvested once a second, which bounds
 * what a dirty sync finds in the rings.
 */
#define DIRTY_REAP_MAX_NS 1000000000LL

/* How fast a vCPU's dirty ring fills */
typedef struct DirtyRingPace {
    /* the latest look: when, and how many entries there had ever been */
    int64_t looked_ns;
    uint64_t entries;
    /* the fastest it has filled of late, in entries/s */
    uint64_t peak_pps;
    /* the fewest entries with which it was full, 0: it has not been */
    uint32_t full_pages;
    /*
     * It rests here: it has filled with all that its vCPU keeps writing to,
     * and fills no further.  0: it is not known to.
     */
    uint32_t rest_pages;
    /* when a harvest was last put off to find out */
    int64_t put_off_ns;
} DirtyRingPace;

/**
 * dirty_ring_pace_look: take in how far a ring has filled
 *
 * @p: all zero at first
 * @entries: entries there have ever been; less than before counts as the
 *           same, and at most 2^40 more can have come
 * @fill: of those, the ones not harvested yet
 * @now_ns: the time, above 0
 */
void dirty_ring_pace_look(DirtyRingPace *p, uint64_t entries, uint32_t fill,
                          int64_t now_ns);

/**
 * dirty_ring_pace_full: the ring was full before it was found to be due
 *
 * @p: learns how many entries there is room for
 * @fill: entries not harvested yet; 0 if it may have been harvested since
 * @ring_pages: entries it has, 4..2^32
 * @now_ns: the time
 */
void dirty_ring_pace_full(DirtyRingPace *p, uint32_t fill, uint32_t ring_pages,
                          int64_t now_ns);

/* With how many entries the ring is full, as far as is known: 1..@ring_pages */
uint32_t dirty_ring_pace_room(const DirtyRingPace *p, uint32_t ring_pages);

/**
 * dirty_ring_pace_due: does a ring have to be harvested now?
 *
 * @p: how fast it fills
 * @fill: entries not harvested yet, 0..@ring_pages
 * @ring_pages: entries it has, 4..2^32
 * @age_ns: how long ago it was harvested
 *
 * A full ring stops its vCPU, and a harvest costs a fault for every page that
 * the guest writes again.  So a ring is due when it could get more than three
 * quarters full until the next look, unless it is less than a quarter full now.
 * It is also due when it was not harvested for DIRTY_REAP_MAX_NS, so that a
 * dirty sync finds little to do.  An empty ring is never due.
 *
 * A hot set, which is pages that are written again and again, fills its part of
 * the ring at once after each harvest, and no more.  The rate of that suggests,
 * wrongly, that the ring will soon be full.  So once in a while a harvest is
 * put off to see whether the ring rests at its fill.
 */
bool dirty_ring_pace_due(DirtyRingPace *p, uint32_t fill, uint32_t ring_pages,
                         int64_t age_ns);

/**
 * dirty_ring_pace_next_ns: when to look at a ring again
 *
 * As above, for a ring that was not due, or was harvested (@fill and @age_ns
 * are 0 then).
 *
 * Returns: DIRTY_REAP_MIN_NS..DIRTY_REAP_MAX_NS
 */
int64_t dirty_ring_pace_next_ns(const DirtyRingPace *p, uint32_t fill,
                                uint32_t ring_pages, int64_t age_ns);

#endif
