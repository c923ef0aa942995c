/*
 * Throttle simulator: what came of a run
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef THROTTLE_SIM_FIGURES_H
#define THROTTLE_SIM_FIGURES_H

#include "policy.h"

typedef struct SimFigures {
    bool completed;
    double total_s;
    double downtime_ms;
    unsigned iterations;
    /*
     * What is possible, by docs/devel/dirty-throttle.rst; 0: the link
     * or the guest changes, so that there is no formula
     */
    double possible_s;
    /* that is for who throttles from the beginning */
    bool at_once;
    /* when vCPUs were first slowed down, 0: never */
    double throttled_s;
    /*
     * When the first pass was over, 0: it was not; and what was dirtied each
     * second from then on
     */
    double first_pass_s;
    double dirtied_pps;
    /* work that vCPUs did not do, in seconds of one of them */
    double lost_s;
    /*
     * From when vCPUs are slowed down: which part of what they wanted writers
     * and readers did, the least of any; how evenly (Jain's index) writers
     * did; the least of any vCPU in a second, and of its fair share of the
     * budget, as far as it wanted that
     */
    double writer_kept;
    double reader_kept;
    double jain;
    double worst_second;
    double least_share;
    double stall_ms;
    /* how much what is dirtied in 100 ms varies, as a part of the mean */
    double oscillation;
    PolicyEngineState engine;
} SimFigures;

/*
 * Run a scenario to its end.
 *
 * @timeline: where to tell how it went, for charts; NULL: nowhere
 */
SimFigures sim_run(const Scenario *scenario, const SimPolicy *policy,
                   FILE *timeline);

/*
 * Is it as the engine promises?
 *
 * Returns: what is not, in words; NULL if all is
 */
char *figures_judge(const Scenario *scenario, const SimFigures *f);

void timeline_print_head(FILE *file);

void figures_print_head(FILE *file, bool csv);
void figures_print(FILE *file, bool csv, const Scenario *scenario,
                   const SimPolicy *policy, const SimFigures *f);

#endif
