/*
 * Stress guest: vCPUs that need the same lock
 *
 * A vCPU takes the lock, holds it for some time, in which it may write pages,
 * and then is halted until it is due again. So those that wait for the lock
 * are the only ones that take CPU time from others without need.
 *
 * The lock goes to whoever comes first once it is free. So does Linux's where a
 * hypervisor may take the processor from the vCPU that would be next.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdbool.h>
#include <stddef.h>

#include "clock.h"
#include "config.h"
#include "console.h"
#include "counters.h"
#include "cpu.h"
#include "fill.h"
#include "lapic.h"
#include "layout.h"
#include "locker.h"
#include "pace.h"
#include "page.h"
#include "pvsched.h"
#include "walk.h"

/* On a line of its own */
static struct {
    bool taken;
    unsigned owner;             /* to see that nobody else has it */
} __attribute__((aligned(64))) lock;

static void take_lock(unsigned index)
{
    while (__atomic_exchange_n(&lock.taken, true, __ATOMIC_ACQUIRE)) {
        while (__atomic_load_n(&lock.taken, __ATOMIC_RELAXED)) {
            pause();
        }
    }
    lock.owner = index;
}

static void release_lock(unsigned index)
{
    if (lock.owner != index) {
        fatal("vcpu %lu has the lock of vcpu %lu", (unsigned long)lock.owner,
              (unsigned long)index);
    }
    __atomic_store_n(&lock.taken, false, __ATOMIC_RELEASE);
}

static void write_pages(const VcpuConfig *vcpu, Walk *walk, Counters *counters)
{
    for (uint64_t i = 0; i < vcpu->writes; i++) {
        uint64_t page = vcpu->start + walk->at;
        uint32_t pass = walk_pass(walk);
        PageError error;
        bool good = page_check(page, pass, &error);

        page_write(page, pass + 1);
        counters_visit(counters, good ? NULL : &error, walk_next(walk));
    }
}

void locker_run(unsigned index, uint32_t *eoi_flag)
{
    const VcpuConfig *vcpu = &config.vcpu[index];
    Counters counters;
    Pvsched pvsched;
    Pace pace;
    Walk walk;

    fill_region(vcpu);
    walk_init(&walk, vcpu, FIRST_PASS);
    pace_init(&pace, vcpu, rdtsc());
    pvsched_start(&pvsched, index);
    counters_start(&counters, index, rdtsc());
    lapic_prepare_sleep(TIMER_VECTOR);
    for (;;) {
        uint64_t begin, held, now;

        begin = lapic_sleep_until(pace.due, eoi_flag);
        take_lock(index);
        pvsched_ask(&pvsched, PVSCHED_REQ_NO_PREEMPT);
        held = rdtsc();
        write_pages(vcpu, &walk, &counters);
        do {
            now = rdtsc();
        } while (clock_ticks_to_ns(now - held) < vcpu->hold_us * 1000);
        release_lock(index);
        pvsched_leave(&pvsched);

        counters_wait(&counters, now, held - begin);
        counters_update(&counters, now);
        pace_next(&pace, now);
    }
}
