/*
 * Throttle simulator: the dirty quota as it was proposed in 2022
 *
 * From the first second on, each vCPU may dirty an equal part of what the
 * migration has sent of late.  Who has used up its part of an interval sleeps
 * to the next one.  What one does not use is lost.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "policy.h"

#define INTERVAL_NS (10 * SIM_MS)

/* The part of the link that writers may take, so that it converges at all */
#define BUDGET_PERCENT 50

typedef struct Equal {
    double link_pps;
    double sent_pages;
    int64_t window_ns;
    /* what each vCPU may have dirtied by now; a part of that is in debt */
    double *allowed;
} Equal;

static void equal_begin(Sim *s)
{
    Equal *e = g_new0(Equal, 1);

    e->allowed = g_new0(double, s->nr_vcpus);
    e->window_ns = s->now_ns;
    for (unsigned i = 0; i < s->nr_vcpus; i++) {
        e->allowed[i] = s->vcpus[i].dirtied;
    }
    s->state = e;
}

static void equal_end(Sim *s)
{
    Equal *e = s->state;

    g_free(e->allowed);
    g_free(e);
}

static void equal_progress(Sim *s)
{
    Equal *e = s->state;
    int64_t took_ns = s->now_ns - e->window_ns;

    if (took_ns >= SIM_S / 10) {
        e->link_pps = (s->sender.sent_pages - e->sent_pages) * SIM_S / took_ns;
        e->sent_pages = s->sender.sent_pages;
        e->window_ns = s->now_ns;
    }
}

static void equal_step(Sim *s)
{
    Equal *e = s->state;
    double share = e->link_pps * BUDGET_PERCENT / 100 / s->nr_vcpus *
                   INTERVAL_NS / SIM_S;

    if (!e->link_pps) {
        return;
    }
    s->throttling = true;
    for (unsigned i = 0; i < s->nr_vcpus; i++) {
        SimVcpu *v = &s->vcpus[i];

        /* Who has dirtied less starts anew; who has dirtied more, in debt. */
        e->allowed[i] = MIN(e->allowed[i], v->dirtied) + share;
        if (v->dirtied > e->allowed[i]) {
            guest_kick(s, v);
        }
    }
}

static int64_t equal_leave(Sim *s, SimVcpu *v, bool full)
{
    Equal *e = s->state;

    if (!e->link_pps || v->dirtied <= e->allowed[v->index]) {
        return 0;
    }
    return INTERVAL_NS - v->now_ns % INTERVAL_NS;
}

/* It leaves the guest when it has used up its part; KVM counts for it. */
static int64_t equal_enter(Sim *s, SimVcpu *v, int64_t slept_ns)
{
    Equal *e = s->state;
    double pages = e->allowed[v->index] - v->dirtied;
    double each_ns = s->scenario->write_ns + s->scenario->fault_ns;

    if (!e->link_pps || v->actor->reads) {
        return 0;
    }
    return MAX(pages, 1) * each_ns + 1;
}

const SimPolicy policy_equal = {
    .name = "equal-quota",
    .begin = equal_begin,
    .end = equal_end,
    .progress = equal_progress,
    .step = equal_step,
    .leave = equal_leave,
    .enter = equal_enter,
};
