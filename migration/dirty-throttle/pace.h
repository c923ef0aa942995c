/*
 * Dirty throttle: when to look again
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_DIRTY_THROTTLE_PACE_H
#define MIGRATION_DIRTY_THROTTLE_PACE_H

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

/*
 * How often the throttle thread looks at all vCPUs.  A writer of 400 000
 * pages/s gets 4000 pages ahead in that time: 16 MiB, half of what one common
 * switch-over (300 ms at 100 MB/s) carries.  A look costs well below a
 * microsecond for a vCPU that wrote nothing.
 */
#define DIRTY_LOOK_MAX_NS 10000000LL

/*
 * The shortest run between two penalties.  Entering and leaving the guest
 * takes some ten microseconds, so that most of this time is the guest's: a
 * vCPU deep in debt still gets on, if only at a thousandth of its speed.
 */
#define DIRTY_LOOK_MIN_NS 100000LL

/*
 * The penalty that a vCPU in the steady state should get.  A shorter one
 * means more exits for the same limit, a longer one is felt as a stall.
 */
#define DIRTY_PENALTY_AIM_NS 10000000LL

/* How fast a vCPU dirties memory while it is allowed to run */
typedef struct DirtyPace {
    /* 0: it does not */
    uint64_t ns_per_page;
    /*
     * How long it runs when it is in debt: DIRTY_LOOK_MIN_NS.  If it dirtied
     * nothing then, the host may not have let it run at all; it is given
     * twice as long, and again.
     */
    int64_t debt_run_ns;
} DirtyPace;

/**
 * dirty_pace_ran: take in what the latest run shows
 *
 * A vCPU that got faster is believed at once, one that got slower by halves:
 * a run cut short may have caught it at a pause.
 *
 * @p: all zero at first
 * @run_ns: how long the vCPU ran
 * @pages: what it dirtied in that time
 */
void dirty_pace_ran(DirtyPace *p, int64_t run_ns, uint64_t pages);

/**
 * dirty_pace_look_ns: how long a vCPU may run before its next look
 *
 * @p: how fast it dirties memory
 * @allow_pages: what it may dirty until the look; not above 0 when it still
 *               has a debt
 *
 * Returns: DIRTY_LOOK_MIN_NS..DIRTY_LOOK_MAX_NS; 0 when it dirties so little
 * that it can be left to the throttle thread
 */
int64_t dirty_pace_look_ns(const DirtyPace *p, int64_t allow_pages);

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
     * It fills no further than this: what is written again and again has
     * room.  0: nothing of that kind is known.
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

/* Entries with which the ring is full for all that is known, 1..@ring_pages. */
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
 * the guest writes again.  So it is due when waiting for the next look could
 * bring it beyond three quarters, but not below one; and when it was not
 * harvested for DIRTY_REAP_MAX_NS, so that a dirty sync finds little to do.
 *
 * A hot set fills its part of the ring at once, each time that it is harvested,
 * and no more; its rate says that the ring will be full, which is wrong.  So
 * once in a while a harvest is put off to see if the ring rests where it is.
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
