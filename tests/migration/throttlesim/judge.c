/*
 * Throttle simulator: is it as the engine promises?
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <math.h>
#include "figures.h"

/* What the engine may need of memory to decide on a vCPU */
#define VCPU_MAX_BYTES 256

/* What does not count, be the migration ever so short */
#define SHORT_S 0.2

/*
 * A deadline is missed by no more than the first part of it.  With much time
 * what is left shrinks slowly, so that the end may come earlier by the second.
 * When it cannot be met, the time that can is right but for the third.
 */
#define DEADLINE_PART 0.05
#define EARLY_PART 0.1
#define LATE_PART 0.1

#define SWITCHOVER_PART 0.1

/* What an iteration takes longer because time goes on in ticks; of so many */
#define ITERATION_S ((double)(2 * SIM_TICK_NS) / SIM_S)
#define ITERATIONS 20

/*
 * Where it is better to throttle from the beginning, what is possible takes a
 * guest that is known to dirty all of its memory before it has done so, and a
 * sync for each page.  By estimates the engine does not sync in the middle.
 */
#define AT_ONCE_PERCENT 70
#define AT_ONCE_ESTIMATED_PERCENT 40

static void judge(GPtrArray *wrong, bool good, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

static void judge(GPtrArray *wrong, bool good, const char *format, ...)
{
    va_list args;

    if (good) {
        return;
    }
    va_start(args, format);
    g_ptr_array_add(wrong, g_strdup_vprintf(format, args));
    va_end(args);
}

/*
 * It is met, and not by much; or what was said first of when it can be over is
 * true.
 */
static void judge_deadline(GPtrArray *wrong, const Scenario *scenario,
                           const SimFigures *f)
{
    double deadline_s = (double)scenario->deadline_ns / SIM_S;
    double late_s = (double)f->engine.late_ns / SIM_S;

    if (!scenario->deadline_ns) {
        return;
    }
    if (!scenario->expected.late) {
        judge(wrong, !f->engine.late_since_ns, "the deadline is missed");
        judge(wrong, f->total_s <= deadline_s * (1 + DEADLINE_PART),
              "%.2f s are too long for a deadline of %.0f", f->total_s,
              deadline_s);
        judge(wrong, !f->throttled_s || f->total_s >= deadline_s *
                                                      (1 - EARLY_PART),
              "%.2f s are too short for a deadline of %.0f", f->total_s,
              deadline_s);
        return;
    }
    judge(wrong, f->engine.late_since_ns, "the deadline is not missed");
    judge(wrong, fabs(f->total_s / late_s - 1) <= LATE_PART,
          "it was to be over after %.2f s, not %.2f", late_s, f->total_s);
}

/*
 * A migration syncs when no more is left than can be switched over.  What is
 * left then is sent in the next iteration, and dirtied again meanwhile.  That
 * counts where it is much of all that is sent.
 */
static double judge_left_s(const Scenario *scenario, const SimFigures *f)
{
    double switchover_s = (double)scenario->downtime_ns / SIM_S;

    return switchover_s < f->total_s * SWITCHOVER_PART ? 0 : switchover_s;
}

/* The part of what is possible that there has to be */
static double judge_least_percent(const Scenario *scenario,
                                  const SimFigures *f)
{
    if (!f->at_once) {
        return scenario->expected.percent;
    }
    return MIN(scenario->expected.percent,
               scenario_estimates(scenario) ? AT_ONCE_ESTIMATED_PERCENT
                                            : AT_ONCE_PERCENT);
}

char *figures_judge(const Scenario *scenario, const SimFigures *f)
{
    const SimExpected *e = &scenario->expected;
    g_autoptr(GPtrArray) wrong = g_ptr_array_new_with_free_func(g_free);
    double ticks_s = ITERATION_S * MIN(f->iterations, ITERATIONS);
    double left_s = judge_left_s(scenario, f);
    double percent = (f->possible_s + SHORT_S + ticks_s + left_s) /
                     f->total_s * 100;
    double least_percent = judge_least_percent(scenario, f);

    if (e->converges) {
        judge(wrong, f->completed, "it has not converged after %.1f s",
              f->total_s);
        judge(wrong, !f->possible_s || percent >= least_percent,
              "%.2f s are %.0f %% of what is possible, not %.0f", f->total_s,
              percent, least_percent);
    } else {
        judge(wrong, !f->completed, "it has converged after all");
    }
    judge_deadline(wrong, scenario, f);
    judge(wrong, f->worst_second * 100 >= e->second_percent,
          "somebody keeps %.1f %% in a second, not %.0f",
          f->worst_second * 100, e->second_percent);
    judge(wrong, f->reader_kept * 100 >= e->reader_percent,
          "a reader keeps %.1f %%, not %.0f", f->reader_kept * 100,
          e->reader_percent);
    judge(wrong, f->least_share * 100 >= e->share_percent,
          "somebody gets %.1f %% of the fair share, not %.0f",
          f->least_share * 100, e->share_percent);
    judge(wrong, f->stall_ms <= e->stall_ms, "a stall lasts %.1f ms, not %.0f",
          f->stall_ms, e->stall_ms);
    judge(wrong, !strcmp(f->engine.reason, e->reason ?: ""),
          "the reason is '%s', not '%s'", f->engine.reason, e->reason ?: "");
    judge(wrong, !f->engine.flaps, "the phase flaps");
    judge(wrong, f->engine.vcpu_bytes <= VCPU_MAX_BYTES,
          "a vCPU needs %zu bytes, not %d", f->engine.vcpu_bytes,
          VCPU_MAX_BYTES);
    if (!wrong->len) {
        return NULL;
    }
    g_ptr_array_add(wrong, NULL);
    return g_strjoinv("; ", (char **)wrong->pdata);
}
