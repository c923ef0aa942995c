/*
 * Throttle simulator: auto-converge
 *
 * If more than a part of what was sent got dirty meanwhile, at two syncs, all
 * vCPUs are slowed by a percentage, and by more of it each time again.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "policy.h"

/* Defaults of cpu-throttle-initial, cpu-throttle-increment */
#define INITIAL_PERCENT 20
#define INCREMENT_PERCENT 10

/* Syncs that follow each other more closely are taken together. */
#define PERIOD_NS SIM_S

#define HIGH_COUNT 2

void converge_begin(Converge *c, const Sim *s)
{
    *c = (Converge) { .synced_ns = s->now_ns };
}

void converge_stop(Converge *c)
{
    c->percent = 0;
}

static void converge_more(Converge *c, Sim *s)
{
    unsigned percent = c->percent ? c->percent + INCREMENT_PERCENT
                                  : INITIAL_PERCENT;

    if (!c->percent) {
        for (unsigned i = 0; i < s->nr_vcpus; i++) {
            guest_kick(s, &s->vcpus[i]);
        }
    }
    c->percent = MIN(percent, s->scenario->max_throttle_percent);
}

void converge_synced(Converge *c, Sim *s, uint64_t found_pages, bool allowed)
{
    double sent_pages = s->sender.sent_pages - c->sent_pages;

    c->found_pages += found_pages;
    if (s->now_ns <= c->synced_ns + PERIOD_NS) {
        return;
    }
    if (allowed && c->found_pages > sent_pages *
                                    s->scenario->threshold_percent / 100 &&
        ++c->high_count >= HIGH_COUNT) {
        c->high_count = 0;
        converge_more(c, s);
    }
    c->synced_ns = s->now_ns;
    c->sent_pages = s->sender.sent_pages;
    c->found_pages = 0;
}

int64_t converge_sleep_ns(const Converge *c)
{
    return CONVERGE_SLICE_NS * c->percent / (100 - c->percent);
}

static void policy_converge_begin(Sim *s)
{
    s->state = g_new0(Converge, 1);
    converge_begin(s->state, s);
}

static void policy_converge_end(Sim *s)
{
    g_free(s->state);
}

static void policy_converge_synced(Sim *s, uint64_t found_pages)
{
    Converge *c = s->state;

    converge_synced(c, s, found_pages, true);
    s->throttling = c->percent;
}

static int64_t policy_converge_leave(Sim *s, SimVcpu *v, bool full)
{
    return full ? 0 : converge_sleep_ns(s->state);
}

static int64_t policy_converge_enter(Sim *s, SimVcpu *v, int64_t slept_ns)
{
    /* A full ring does not make its time in the guest longer. */
    return slept_ns ? CONVERGE_SLICE_NS : SIM_KEEP;
}

const SimPolicy policy_none = {
    .name = "none",
};

const SimPolicy policy_converge = {
    .name = "auto-converge",
    .begin = policy_converge_begin,
    .end = policy_converge_end,
    .synced = policy_converge_synced,
    .leave = policy_converge_leave,
    .enter = policy_converge_enter,
    .harvest_waits = true,
};
