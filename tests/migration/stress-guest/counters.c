/*
 * Stress guest: keeping the counters that the host reads
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "clock.h"
#include "config.h"
#include "counters.h"
#include "layout.h"

_Static_assert(STRESS_GUEST_PAGE_SIZE == PAGE_SIZE, "a page for each vCPU");
_Static_assert(STRESS_GUEST_MAX_VCPUS == MAX_VCPUS, "and for every vCPU");

/*
 * A fast vCPU does an operation in less time than a host program needs to read
 * the block. So publish now and then only, to give the reader quiet moments.
 */
#define PUBLISH_US 100

static StressGuestHeader *header(void)
{
    return (StressGuestHeader *)(uintptr_t)STRESS_GUEST_COUNTERS;
}

static StressGuestVcpu *block(unsigned index)
{
    return (StressGuestVcpu *)(uintptr_t)
        (STRESS_GUEST_COUNTERS + PAGE_SIZE * (1 + index));
}

static StressGuestWaits *waits(unsigned index)
{
    return (void *)((uintptr_t)block(index) + STRESS_GUEST_WAITS);
}

/* In one piece, and after the stores before it: the host looks at any time */
static inline void set(uint64_t *field, uint64_t value)
{
    __atomic_store_n(field, value, __ATOMIC_RELEASE);
}

static inline uint64_t epoch(void)
{
    return __atomic_load_n(&header()->epoch, __ATOMIC_RELAXED);
}

void counters_reset(void)
{
    counters_set_state(STRESS_GUEST_BOOTING);
    for (unsigned i = 0; i < MAX_VCPUS; i++) {
        *block(i) = (StressGuestVcpu) { 0 };
        *waits(i) = (StressGuestWaits) { 0 };
    }
    header()->version = STRESS_GUEST_VERSION;
    set(&header()->magic, STRESS_GUEST_MAGIC);
}

void counters_describe(void)
{
    header()->nr_vcpus = config.nr_vcpus;
    set(&header()->tsc_khz, tsc_khz);
    for (unsigned i = 0; i < config.nr_vcpus; i++) {
        const VcpuConfig *vcpu = &config.vcpu[i];

        set(&block(i)->role, vcpu->role);
        set(&block(i)->rate, vcpu->rate);
        set(&block(i)->region_start, vcpu->start);
        set(&block(i)->region_size, vcpu->size);
    }
}

void counters_set_state(StressGuestState state)
{
    set(&header()->state, state);
}

void *counters_line(unsigned index)
{
    return (void *)((uintptr_t)block(index) + STRESS_GUEST_LINE);
}

const StressGuestVcpu *counters_block(unsigned index)
{
    return block(index);
}

static void publish(Counters *c)
{
    StressGuestVcpu *b = c->block;
    const StressGuestVcpu *v = &c->values;

    set(&b->sequence, b->sequence + 1);
    set(&b->role, v->role);
    set(&b->rate, v->rate);
    set(&b->ops, v->ops);
    set(&b->passes, v->passes);
    set(&b->errors, v->errors);
    set(&b->error_gpa, v->error_gpa);
    set(&b->error_expected, v->error_expected);
    set(&b->error_found, v->error_found);
    set(&b->max_gap_ns, v->max_gap_ns);
    set(&b->max_gap_total_ns, v->max_gap_total_ns);
    set(&b->seen_epoch, v->seen_epoch);
    set(&b->start_tsc, v->start_tsc);
    set(&b->tsc, v->tsc);
    set(&b->seen_wanted, v->seen_wanted);
    set(&b->sequence, b->sequence + 1);
    c->changed = false;
}

void counters_start(Counters *c, unsigned index, uint64_t now)
{
    *c = (Counters) {
        .values = {
            .role = config.vcpu[index].role,
            .rate = config.vcpu[index].rate,
            .seen_epoch = epoch(),
            .start_tsc = now,
            .tsc = now,
        },
        .block = block(index),
        .waits = waits(index),
        .publish_at = now,
        .changed = true,
    };
}

void counters_ops(Counters *c, uint64_t number, uint64_t now, uint64_t gap)
{
    StressGuestVcpu *v = &c->values;

    if (gap > c->max_gap) {
        c->max_gap = gap;
        v->max_gap_ns = clock_ticks_to_ns(gap);
    }
    if (gap > c->max_gap_total) {
        c->max_gap_total = gap;
        v->max_gap_total_ns = clock_ticks_to_ns(gap);
    }
    v->ops += number;
    v->tsc = now;
    c->changed = true;
}

/* Buckets get wider with what they are for: a 16th of it, or less */
static unsigned bucket(uint64_t ns)
{
    const unsigned shift = STRESS_GUEST_BUCKETS_SHIFT;
    uint64_t units = ns / STRESS_GUEST_BUCKET_NS;
    unsigned doubled = 0;
    uint64_t n;

    while (units >> doubled >= 2ULL << shift) {
        doubled++;
    }
    n = ((uint64_t)doubled << shift) + (units >> doubled);
    return n < STRESS_GUEST_BUCKETS ? n : STRESS_GUEST_BUCKETS - 1;
}

void counters_wait(Counters *c, uint64_t now, uint64_t wait)
{
    uint64_t ns = clock_ticks_to_ns(wait);
    uint32_t *number = &c->waits->buckets[bucket(ns)];

    set(&c->waits->total_ns, c->waits->total_ns + ns);
    __atomic_store_n(number, *number + 1, __ATOMIC_RELEASE);
    counters_ops(c, 1, now, wait);
}

void counters_visit(Counters *c, const PageError *bad, bool wrapped)
{
    StressGuestVcpu *v = &c->values;

    if (bad) {
        if (!v->errors) {
            v->error_gpa = bad->gpa;
            v->error_expected = bad->expected;
            v->error_found = bad->found;
        }
        v->errors++;
    }
    v->passes += wrapped;
    c->changed = true;
}

void counters_op(Counters *c, uint64_t now, uint64_t gap, const PageError *bad,
                 bool wrapped)
{
    counters_visit(c, bad, wrapped);
    counters_ops(c, 1, now, gap);
}

void counters_update(Counters *c, uint64_t now)
{
    uint64_t wanted = epoch();

    if (wanted != c->values.seen_epoch) {
        c->values.seen_epoch = wanted;
        c->values.max_gap_ns = 0;
        c->max_gap = 0;
        c->changed = true;
    }
    if (c->changed && (int64_t)(now - c->publish_at) >= 0) {
        publish(c);
        c->publish_at = now + PUBLISH_US * tsc_khz / 1000;
    }
}

bool counters_take_wanted(Counters *c)
{
    StressGuestVcpu *v = &c->values;
    uint64_t wanted = __atomic_load_n(&c->block->wanted, __ATOMIC_RELAXED);
    StressGuestRole role = wanted & STRESS_GUEST_WANTED_ROLE_MASK;

    if (wanted == v->seen_wanted || !config_role_changes(v->role) ||
        (role != STRESS_GUEST_WRITER && role != STRESS_GUEST_READER &&
         role != STRESS_GUEST_HOT)) {
        return false;
    }
    v->seen_wanted = wanted;
    v->role = role;
    v->rate = wanted >> STRESS_GUEST_WANTED_RATE_SHIFT &
              ((1ULL << STRESS_GUEST_WANTED_RATE_BITS) - 1);
    c->changed = true;
    return true;
}
