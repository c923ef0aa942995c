/*
 * Throttle simulator: vCPUs that run, write and sleep
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <math.h>
#include "sim.h"

/* As the stress guest: after a stall it makes up for so much and no more. */
#define CATCH_UP_NS (10 * SIM_MS)

/* KVM leaves the guest when there is room for only so many entries. */
#define RING_RESERVE 64

/* How long a vCPU takes to leave the guest and to enter it */
#define EXIT_NS 5000

static SimVcpu *guest_add(SimVcpu *v, unsigned index, const SimActor *a,
                          MemoryArea *area, unsigned nr)
{
    *v = (SimVcpu) {
        .index = index,
        .actor = a,
        .now_ns = SIM_TICK_NS,
        .area = area,
        .apart_ns = a->apart_ns * nr,
        .sleep_ns = SIM_NEVER,
        .wake_ns = SIM_NEVER,
        .leave_ns = SIM_NEVER,
        .worst_second = 1,
        /* Those that share a set are not all at the same place. */
        .at = a->shared ? a->set_pages / a->count * nr : 0,
    };
    return v + 1;
}

void guest_init(Sim *s)
{
    const Scenario *sc = s->scenario;
    SimVcpu *vcpu, *device;
    uint64_t rest_pages;

    for (unsigned i = 0; i < sc->actors->len; i++) {
        const SimActor *a = &g_array_index(sc->actors, SimActor, i);

        *(a->device ? &s->nr_devices : &s->nr_vcpus) += a->count;
    }
    vcpu = s->vcpus = g_new0(SimVcpu, s->nr_vcpus);
    device = s->devices = g_new0(SimVcpu, s->nr_devices);
    memory_init(&s->memory, sc->ring_pages);
    for (unsigned i = 0; i < sc->actors->len; i++) {
        const SimActor *a = &g_array_index(sc->actors, SimActor, i);
        MemoryArea *area = NULL;

        for (unsigned nr = 0; nr < a->count; nr++) {
            if (!area || !a->shared) {
                area = memory_add(&s->memory, a->set_pages, a->random);
            }
            if (a->device) {
                device = guest_add(device, 0, a, area, nr);
            } else {
                vcpu = guest_add(vcpu, vcpu - s->vcpus, a, area, nr);
            }
        }
    }
    rest_pages = sc->ram_pages - s->memory.pages;
    if (rest_pages) {
        memory_add(&s->memory, rest_pages, true);
    }
    s->memory.zero_pages = sc->zero_pages;
}

void guest_free(Sim *s)
{
    memory_free(&s->memory);
    g_free(s->vcpus);
    g_free(s->devices);
}

/* From when on, and until when, is it at work?  Both may be in the past. */
static void guest_work_hours(const SimVcpu *v, int64_t now_ns,
                             int64_t *begin_ns, int64_t *end_ns)
{
    const SimActor *a = v->actor;
    int64_t from_ns = a->from_ns + v->apart_ns, day_ns = a->on_ns + a->off_ns;

    *begin_ns = from_ns;
    *end_ns = a->until_ns;
    if (a->off_ns && now_ns > from_ns) {
        *begin_ns += (now_ns - from_ns) / day_ns * day_ns;
        if (now_ns >= *begin_ns + a->on_ns) {
            *begin_ns += day_ns;
        }
    }
    if (a->off_ns) {
        *end_ns = MIN(*end_ns, *begin_ns + a->on_ns);
    }
}

static double guest_rate(const Sim *s, const SimVcpu *v)
{
    return s->throttling && v->actor->watched_pps ? v->actor->watched_pps
                                                  : v->actor->rate_pps;
}

static uint64_t guest_span(const SimVcpu *v)
{
    const SimActor *a = v->actor;
    double grown = (double)a->grows_pps * v->now_ns / SIM_S;

    return MIN(a->first_pages + grown, a->set_pages);
}

/* How many writes there is room for in its ring */
static double guest_ring_room(const Sim *s, const SimVcpu *v)
{
    double room = (double)s->scenario->ring_pages - RING_RESERVE -
                  memory_distinct(v->area, v->ring_writes);

    /* A set that is smaller than the ring never fills it. */
    return !s->scenario->ring_pages || v->actor->reads || v->actor->device ||
           memory_distinct(v->area, HUGE_VAL) <
           s->scenario->ring_pages - RING_RESERVE ? HUGE_VAL : MAX(room, 0);
}

/*
 * How likely the next write takes a fault.  A ring has each page once, until it
 * is harvested.
 */
static double guest_next_faults(const Sim *s, const SimVcpu *v)
{
    double had;

    if (v->actor->reads) {
        return 0;
    }
    if (!s->scenario->ring_pages) {
        return memory_next_is_logged(&s->memory, v->area, v->at);
    }
    had = memory_distinct(v->area, v->ring_writes) / v->area->pages;
    return v->actor->random ? 1 - had : had < 1;
}

/*
 * At work until @until_ns, or until the ring is full.  A write that is not
 * done in that time is begun: what was done of it is not lost.
 *
 * Returns: the ring is full
 */
static bool guest_work(Sim *s, SimVcpu *v, int64_t until_ns)
{
    const Scenario *sc = s->scenario;
    int64_t took_ns = until_ns - v->now_ns;
    double rate = guest_rate(s, v), period_ns = rate ? SIM_S / rate : 0;
    double each_ns = sc->write_ns + guest_next_faults(s, v) * sc->fault_ns;
    double room = guest_ring_room(s, v), can, dirtied = 0;
    bool full;
    uint64_t whole;

    if (v->actor->device) {
        can = took_ns / period_ns;
    } else {
        can = took_ns * s->on_cpu / each_ns;
        if (period_ns) {
            v->due_ns = MAX(v->due_ns, v->now_ns - CATCH_UP_NS);
            can = MIN(can, MAX(until_ns - v->due_ns, 0) / period_ns);
        }
    }
    full = can > room;
    if (full) {
        /* As long as that takes, but it does get on. */
        took_ns = MIN(took_ns, room / can * took_ns + 1);
        can = room;
    }
    v->part += can;
    whole = v->part;
    v->part -= whole;
    v->due_ns += can * period_ns;
    v->done += can;
    if (whole && !v->actor->reads) {
        dirtied = memory_write(&s->memory, v->area, &v->at, guest_span(v),
                               whole);
        v->dirtied += dirtied;
        v->ring_writes += whole;
    }
    v->ran_ns += took_ns * s->on_cpu;
    v->now_ns += took_ns;
    return full;
}

/* @kept_ns: when it was to leave by itself before */
static void guest_enter(Sim *s, SimVcpu *v, int64_t slept_ns, int64_t kept_ns)
{
    int64_t leave_ns = s->policy->enter ? s->policy->enter(s, v, slept_ns) : 0;

    v->sleep_ns = v->wake_ns = SIM_NEVER;
    v->leave_ns = leave_ns == SIM_KEEP ? kept_ns :
                  leave_ns ? v->now_ns + leave_ns : SIM_NEVER;
    v->slept_ns += slept_ns;
    v->longest_sleep_ns = MAX(v->longest_sleep_ns, slept_ns);
}

static void guest_leave(Sim *s, SimVcpu *v, bool full)
{
    int64_t penalty_ns, kept_ns = full ? v->leave_ns : SIM_NEVER;

    v->leave_ns = SIM_NEVER;
    v->now_ns += EXIT_NS;
    if (full) {
        v->ring_writes = 0;
    }
    penalty_ns = s->policy->leave ? s->policy->leave(s, v, full) : 0;
    if (penalty_ns) {
        v->sleep_ns = v->now_ns;
        v->wake_ns = v->now_ns + penalty_ns;
    } else {
        guest_enter(s, v, 0, kept_ns);
    }
}

static void guest_advance_one(Sim *s, SimVcpu *v)
{
    while (v->now_ns < s->now_ns) {
        int64_t until_ns = s->now_ns, begin_ns, end_ns;

        if (v->wake_ns != SIM_NEVER) {
            if (v->wake_ns > s->now_ns) {
                v->now_ns = s->now_ns;
                return;
            }
            v->now_ns = MAX(v->now_ns, v->wake_ns);
            guest_enter(s, v, v->now_ns - v->sleep_ns, SIM_NEVER);
            continue;
        }
        if (v->leave_ns <= v->now_ns) {
            guest_leave(s, v, false);
            continue;
        }
        until_ns = MIN(until_ns, v->leave_ns);
        guest_work_hours(v, v->now_ns, &begin_ns, &end_ns);
        if (v->now_ns < begin_ns || v->now_ns >= end_ns) {
            /* It waits, halted. */
            int64_t next_ns = v->now_ns < begin_ns ? begin_ns : SIM_NEVER;

            v->now_ns = MIN(until_ns, next_ns);
            v->due_ns = v->now_ns;
            continue;
        }
        if (guest_work(s, v, MIN(until_ns, end_ns))) {
            guest_leave(s, v, true);
        }
    }
}

/* For how much of a time is it at work? */
static int64_t guest_works_ns(const SimVcpu *v, int64_t from_ns, int64_t to_ns)
{
    int64_t works_ns = 0;

    while (from_ns < to_ns) {
        int64_t begin_ns, end_ns;

        guest_work_hours(v, from_ns, &begin_ns, &end_ns);
        if (from_ns >= end_ns) {
            break;
        }
        begin_ns = MAX(begin_ns, from_ns);
        end_ns = MIN(end_ns, to_ns);
        works_ns += MAX(end_ns - begin_ns, 0);
        from_ns = end_ns;
    }
    return works_ns;
}

/* What a vCPU would do in the time that it is at work, if left alone */
static double guest_wants(const Sim *s, const SimVcpu *v)
{
    double pps = (double)SIM_S / s->scenario->write_ns;

    if (v->actor->rate_pps) {
        pps = MIN(pps, v->actor->rate_pps);
    }
    return pps * guest_works_ns(v, s->now_ns - SIM_TICK_NS, s->now_ns) / SIM_S;
}

/* And what of that is its good right: a fair share, at the cost of faults */
static double guest_may_have(const Sim *s, const SimVcpu *v, double wanted)
{
    double pps = MIN(s->share_pps, (double)SIM_S / (s->scenario->write_ns +
                                                    s->scenario->fault_ns));

    if (v->actor->watched_pps) {
        pps = MIN(pps, v->actor->watched_pps);
    }
    return v->actor->reads ? wanted : MIN(wanted, pps * SIM_TICK_NS / SIM_S);
}

static void guest_count(const Sim *s, SimVcpu *v)
{
    double wanted = guest_wants(s, v);

    v->wanted += wanted;
    if (s->share_pps) {
        v->fair_wanted += guest_may_have(s, v, wanted);
        v->fair_done += v->done - v->done_before;
    }
    v->done_before = v->done;
    if (s->now_ns % SIM_S) {
        return;
    }
    wanted = v->wanted - v->second_wanted;
    if (wanted > 0) {
        v->worst_second = MIN(v->worst_second,
                              (v->done - v->second_done) / wanted);
    }
    v->second_wanted = v->wanted;
    v->second_done = v->done;
}

/* vCPUs that are at work spin until their next write is due. */
static double guest_on_cpu(const Sim *s)
{
    int64_t begin_ns, end_ns;
    unsigned busy = 0;

    if (!s->scenario->cpus) {
        return 1;
    }
    for (unsigned i = 0; i < s->nr_vcpus; i++) {
        const SimVcpu *v = &s->vcpus[i];

        guest_work_hours(v, s->now_ns, &begin_ns, &end_ns);
        busy += v->wake_ns == SIM_NEVER && s->now_ns >= begin_ns &&
                s->now_ns < end_ns;
    }
    return MIN(1, (double)s->scenario->cpus / MAX(busy, 1));
}

void guest_advance(Sim *s)
{
    s->on_cpu = guest_on_cpu(s);
    for (unsigned i = 0; i < s->nr_devices; i++) {
        guest_advance_one(s, &s->devices[i]);
    }
    for (unsigned i = 0; i < s->nr_vcpus; i++) {
        guest_advance_one(s, &s->vcpus[i]);
        guest_count(s, &s->vcpus[i]);
    }
}

void guest_kick(Sim *s, SimVcpu *v)
{
    int64_t leave_ns = MAX(v->now_ns, s->now_ns) + s->scenario->kick_ns;

    v->leave_ns = MIN(v->leave_ns, leave_ns);
}

void guest_wake_at(SimVcpu *v, int64_t wake_ns)
{
    if (v->wake_ns != SIM_NEVER) {
        v->wake_ns = MAX(wake_ns, v->sleep_ns);
    }
}

int64_t guest_longest_sleep_ns(const Sim *s, const SimVcpu *v)
{
    return v->sleep_ns == SIM_NEVER ? v->longest_sleep_ns :
           MAX(v->longest_sleep_ns, s->now_ns - v->sleep_ns);
}

void guest_harvest(Sim *s)
{
    for (unsigned i = 0; i < s->nr_vcpus; i++) {
        s->vcpus[i].ring_writes = 0;
    }
}
