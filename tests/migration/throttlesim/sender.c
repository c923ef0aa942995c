/*
 * Throttle simulator: the migration, as QEMU's migration thread does it
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "sim.h"

/* The sender keeps to its limit in windows of this length. */
#define WINDOW_NS (100 * SIM_MS)

/* It sends for so long at a time, if no limit makes it pause before. */
#define TURN_NS (50 * SIM_MS)

/* What a link with a limit could do without: memory to memory, 1 GiB/s */
#define UNCAPPED_PPS 262144.0

/* The rest of the machine's state, and to stop and to start vCPUs */
#define SWITCHOVER_NS (10 * SIM_MS)

/* Pages in a GiB */
#define GIB_PAGES 262144.0

static int64_t sender_sync_ns(const Sim *s)
{
    return s->memory.pages / GIB_PAGES * s->scenario->sync_ns;
}

/* Until it is over, nothing is sent, and the guest goes on. */
static void sender_begin_sync(Sim *s)
{
    SimSender *m = &s->sender;

    m->found_pages = memory_sync(&s->memory);
    guest_harvest(s);
    m->sync_from_ns = SIM_NEVER;
    m->syncing = true;
    /* As many ticks as come closest to that: none for some GiB */
    m->synced_ns = s->now_ns + sender_sync_ns(s) - SIM_TICK_NS / 2;
}

void sender_init(Sim *s)
{
    SimSender *m = &s->sender;

    memory_begin(&s->memory);
    m->rand = g_rand_new_with_seed(1);
    m->window_ns = s->now_ns;
    m->sync_from_ns = SIM_NEVER;
    m->iteration = 1;
    /* All memory is to be sent, so there is no page that was not. */
    if (s->policy->synced) {
        s->policy->synced(s, 0);
    }
}

/* What the link carries in a tick, in pages; a stuck one nothing */
static double sender_link_pages(Sim *s)
{
    double jitter = s->scenario->link_jitter;

    return scenario_link_pps(s->scenario, s->now_ns) * SIM_TICK_NS / SIM_S *
           (1 - (jitter ? g_rand_double_range(s->sender.rand, 0, jitter) : 0));
}

/*
 * The guest stands still.  One more sync finds what was dirtied in the one
 * before, and then all that is left is sent.
 */
static void sender_complete(Sim *s)
{
    SimSender *m = &s->sender;
    double pps = scenario_link_pps(s->scenario, s->now_ns);

    if (s->scenario->link_capped) {
        pps = MAX(pps, UNCAPPED_PPS);
    }
    memory_sync(&s->memory);
    m->downtime_ns = SWITCHOVER_NS + sender_sync_ns(s) +
                     s->memory.nr_to_send / pps * SIM_S;
    m->completed = true;
    m->total_ns = s->now_ns + m->downtime_ns;
}

/* When a sync that is due can begin */
static int64_t sender_sync_from_ns(const Sim *s)
{
    int64_t from_ns = s->now_ns;

    if (!s->policy->harvest_waits || !s->scenario->ring_pages) {
        return from_ns;
    }
    for (unsigned i = 0; i < s->nr_vcpus; i++) {
        if (s->vcpus[i].wake_ns != SIM_NEVER) {
            from_ns = MAX(from_ns, s->vcpus[i].wake_ns);
        }
    }
    return from_ns;
}

/*
 * As the migration thread does between two turns: is so little left that the
 * guest can be switched over?  Only a sync tells for sure.  A policy may want
 * one as well.
 */
static void sender_check(Sim *s)
{
    SimSender *m = &s->sender;

    if (s->memory.nr_to_send > m->switchover_pages &&
        !(s->policy->wants_sync && s->policy->wants_sync(s))) {
        return;
    }
    m->sync_from_ns = sender_sync_from_ns(s);
    if (m->sync_from_ns <= s->now_ns) {
        sender_begin_sync(s);
    }
}

/* Nothing is sent. */
static bool sender_syncs(const Sim *s)
{
    return s->sender.syncing || s->sender.sync_from_ns != SIM_NEVER;
}

static void sender_end_sync(Sim *s)
{
    SimSender *m = &s->sender;

    m->syncing = false;
    m->iteration++;
    if (s->policy->synced) {
        s->policy->synced(s, m->found_pages);
    }
    if (s->memory.nr_to_send <= m->switchover_pages) {
        sender_complete(s);
    }
}

/*
 * A window of a stuck link does not end.  One that is slow ends with the next
 * 64 pages.
 */
static bool sender_window_is_over(const Sim *s)
{
    const SimSender *m = &s->sender;

    return s->now_ns - m->window_ns >= WINDOW_NS && m->window_pages >= 1;
}

static void sender_end_window(Sim *s)
{
    SimSender *m = &s->sender;

    m->switchover_pages = m->window_pages * s->scenario->downtime_ns /
                          (s->now_ns - m->window_ns);
    m->window_ns = s->now_ns;
    m->window_pages = 0;
}

/* What may be sent in this tick */
static double sender_may_send(Sim *s)
{
    double pages = sender_link_pages(s), window;

    if (!s->scenario->link_capped) {
        return pages;
    }
    window = pages * WINDOW_NS / SIM_TICK_NS - s->sender.window_pages;
    return CLAMP(window, 0, MAX(UNCAPPED_PPS * SIM_TICK_NS / SIM_S, pages));
}

/*
 * A turn is over when its time is, when a limit makes the sender pause, or when
 * nothing is left.
 */
void sender_advance(Sim *s)
{
    SimSender *m = &s->sender;
    double pages, sent, zero_part;

    if (s->now_ns >= m->sync_from_ns) {
        sender_begin_sync(s);
    }
    if (m->syncing && s->now_ns >= m->synced_ns) {
        sender_end_sync(s);
    }
    /* A stuck link holds up the thread in the middle of a turn. */
    if (m->completed || sender_syncs(s) ||
        !scenario_link_pps(s->scenario, s->now_ns)) {
        return;
    }
    if (sender_window_is_over(s)) {
        sender_end_window(s);
        m->turn_ns = s->now_ns;
    }
    pages = sender_may_send(s);
    if (s->now_ns >= m->turn_ns) {
        if (s->policy->progress) {
            s->policy->progress(s);
        }
        sender_check(s);
        if (m->syncing && s->now_ns >= m->synced_ns) {
            sender_end_sync(s);
        }
        m->turn_ns = s->now_ns + TURN_NS;
    }
    if (m->completed || sender_syncs(s)) {
        return;
    }
    m->part += pages;
    sent = memory_send(&s->memory, m->part);
    m->sent_pages += sent;
    m->window_pages += sent;
    zero_part = scenario_link_pps(s->scenario, s->now_ns) *
                s->scenario->zero_ns / SIM_S;
    sent += memory_skip_zeros(&s->memory, (m->part - sent) / zero_part) *
            zero_part;
    m->part = MIN(m->part - sent, 1);
    if (sent + 1 < pages) {
        m->turn_ns = s->now_ns;
    } else if (s->scenario->link_capped && sender_may_send(s) < 1) {
        m->turn_ns = m->window_ns + WINDOW_NS;
    }
}
