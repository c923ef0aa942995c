/*
 * Dirty throttle tests: a reaper with a gear table, to compare with
 *
 * What was once proposed for QEMU, as a policy for tests only: six intervals,
 * chosen by how much of a ring the reaper found in all of them together.  A
 * faster one is taken at once, a slower one after some quiet rounds, and each
 * exit for a full ring is a step towards faster.
 *
 * This needs a reaper that waits for the rest of a second on a condition
 * variable; one part of kvm-shim.so, as it needs the other's counters.
 *
 * KVM_SHIM_GEARS  if set, the gears are used; else nothing is changed
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>
#include "kvm-shim.h"

/* The interval that the waits are made for */
#define SECOND_MS 1000

#define QUIET_ROUNDS 5

/* By how many tenths of a ring there were, the last for all above, too */
static const unsigned gear_ms[] = { 1000, 500, 250, 125, 100, 80 };

#define GEARS (sizeof(gear_ms) / sizeof(gear_ms[0]))

typedef int TimedWait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                      const struct timespec *until);

static TimedWait *real_timedwait;
static bool use_gears;

static void __attribute__((constructor)) init(void)
{
    real_timedwait = (TimedWait *)dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    use_gears = getenv("KVM_SHIM_GEARS");
}

static unsigned min(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* The gear for the next round; called once a round, by one thread */
static unsigned next_gear(void)
{
    static uint64_t entries_before, full_before;
    static unsigned gear, quiet;
    KvmShimCounters *c = kvm_shim_counters;
    uint64_t entries = __atomic_load_n(&c->reaper_entries, __ATOMIC_RELAXED);
    uint64_t full = __atomic_load_n(&c->full, __ATOMIC_RELAXED);
    uint64_t tenths = (entries - entries_before) * 10 /
                      (c->ring_size ? c->ring_size : 1);
    unsigned wanted = tenths < GEARS ? tenths : GEARS - 1;

    if (full > full_before) {
        uint64_t steps = full - full_before;

        gear = steps < GEARS ? min(gear + steps, GEARS - 1) : GEARS - 1;
        quiet = 0;
    }
    if (wanted >= gear) {
        gear = wanted;
        quiet = 0;
    } else if (full == full_before && ++quiet == QUIET_ROUNDS) {
        gear--;
        quiet = 0;
    }
    entries_before = entries;
    full_before = full;
    return gear;
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                           const struct timespec *until)
{
    struct timespec sooner = *until;
    unsigned less_ms;

    if (!use_gears || !kvm_shim_in_reaper()) {
        return real_timedwait(cond, mutex, until);
    }
    less_ms = SECOND_MS - gear_ms[next_gear()];
    sooner.tv_sec -= less_ms / 1000;
    sooner.tv_nsec -= less_ms % 1000 * 1000000L;
    if (sooner.tv_nsec < 0) {
        sooner.tv_nsec += 1000000000L;
        sooner.tv_sec--;
    }
    if (less_ms) {
        __atomic_fetch_add(&kvm_shim_counters->shortened, 1, __ATOMIC_RELAXED);
    }
    return real_timedwait(cond, mutex, &sooner);
}
