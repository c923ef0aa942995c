/*
 * Throttle simulator: dirty-limit as QEMU 8.1 to 10.x has it
 *
 * Once a second each vCPU's rate is compared with the limit, in whole MB/s, and
 * the time that it sleeps whenever its ring is full grows or shrinks.  It is in
 * force from the second sync on that finds too much, as auto-converge is.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "policy.h"

/* x-vcpu-dirty-limit-period */
#define PERIOD_NS SIM_S

/* vcpu-dirty-limit, MB/s */
#define DEFAULT_LIMIT 1

/* Closer than this, in MB/s, is close enough. */
#define TOLERANCE 25

/* Farther than this percentage the step is in proportion. */
#define LINEAR_PERCENT 50

/* At most so many times as long as the ring takes to fill */
#define MAX_TIMES 99

#define MIB_PAGES 256
#define US 1000

typedef struct Feedback {
    /* of that only when it would begin is used */
    Converge converge;
    bool begun;
    int64_t looked_ns;
    /* MB/s, the highest of any vCPU ever */
    uint64_t max_rate;
    /* of each vCPU: what was dirtied by then, and how long it sleeps */
    double *dirtied;
    int64_t *sleep_us;
} Feedback;

static void feedback_begin(Sim *s)
{
    Feedback *f = g_new0(Feedback, 1);

    f->dirtied = g_new0(double, s->nr_vcpus);
    f->sleep_us = g_new0(int64_t, s->nr_vcpus);
    converge_begin(&f->converge, s);
    s->state = f;
}

static void feedback_end(Sim *s)
{
    Feedback *f = s->state;

    g_free(f->dirtied);
    g_free(f->sleep_us);
    g_free(f);
}

static void feedback_synced(Sim *s, uint64_t found_pages)
{
    Feedback *f = s->state;

    converge_synced(&f->converge, s, found_pages, true);
    if (f->converge.percent && !f->begun) {
        f->begun = true;
        f->looked_ns = s->now_ns;
        for (unsigned i = 0; i < s->nr_vcpus; i++) {
            f->dirtied[i] = s->vcpus[i].dirtied;
        }
    }
}

static void feedback_adjust(Feedback *f, const Sim *s, unsigned i,
                            uint64_t limit, uint64_t rate)
{
    uint64_t more = MAX(limit, rate) - MIN(limit, rate), full_us, percent;
    int64_t step_us;

    if (more <= TOLERANCE) {
        return;
    }
    if (!rate) {
        f->sleep_us[i] = 0;
        return;
    }
    f->max_rate = MAX(f->max_rate, rate);
    full_us = s->scenario->ring_pages / MIB_PAGES * 1000000 / f->max_rate;
    percent = more * 100 / MAX(limit, rate);
    step_us = percent > LINEAR_PERCENT ?
              full_us * MIN(percent, 99) / (100 - MIN(percent, 99)) :
              full_us / 10;
    f->sleep_us[i] += rate > limit ? step_us : -step_us;
    f->sleep_us[i] = CLAMP(f->sleep_us[i], 0, (int64_t)full_us * MAX_TIMES);
}

static void feedback_step(Sim *s)
{
    Feedback *f = s->state;
    uint64_t limit = s->scenario->limit_pps / MIB_PAGES ?: DEFAULT_LIMIT;

    if (!f->begun || s->now_ns - f->looked_ns < PERIOD_NS) {
        return;
    }
    f->looked_ns = s->now_ns;
    for (unsigned i = 0; i < s->nr_vcpus; i++) {
        double dirtied = s->vcpus[i].dirtied;

        feedback_adjust(f, s, i, limit,
                        (dirtied - f->dirtied[i]) / MIB_PAGES);
        f->dirtied[i] = dirtied;
        s->throttling |= f->sleep_us[i];
    }
}

static int64_t feedback_leave(Sim *s, SimVcpu *v, bool full)
{
    Feedback *f = s->state;

    return full ? f->sleep_us[v->index] * US : 0;
}

const SimPolicy policy_feedback = {
    .name = "feedback",
    .begin = feedback_begin,
    .end = feedback_end,
    .synced = feedback_synced,
    .step = feedback_step,
    .leave = feedback_leave,
    .harvest_waits = true,
};
