/*
 * Dirty throttle: when to look again
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_DIRTY_THROTTLE_PACE_H
#define MIGRATION_DIRTY_THROTTLE_PACE_H

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
 * The longest run of a vCPU that is in debt and quiet: a thousand interrupts a
 * second until time has paid its debt cost it less than a hundredth.  In this
 * time a vCPU that goes on to write gets ahead by a few hundred pages.
 */
#define DIRTY_DEBT_RUN_MAX_NS 1000000LL

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
     * How long it may run when it is in debt: DIRTY_LOOK_MIN_NS at first, and
     * twice as long after each run that dirtied nothing, because the host may
     * not have let it run at all; up to DIRTY_DEBT_RUN_MAX_NS.
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
 * that a look of the throttle thread comes early enough
 */
int64_t dirty_pace_look_ns(const DirtyPace *p, int64_t allow_pages);

#endif
