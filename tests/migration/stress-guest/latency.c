/*
 * Stress guest: a vCPU that measures how late it wakes up
 *
 * It does what cyclictest does in Linux: sleep until a moment that is known
 * beforehand, look at the clock, and go on with the next such moment. Moments
 * that it has slept through are left out.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "clock.h"
#include "config.h"
#include "counters.h"
#include "cpu.h"
#include "lapic.h"
#include "latency.h"
#include "layout.h"
#include "pvsched.h"

void latency_run(unsigned index, uint32_t *eoi_flag)
{
    const VcpuConfig *vcpu = &config.vcpu[index];
    const uint64_t interval = vcpu->interval_us * tsc_khz / 1000;
    uint64_t now = rdtsc();
    uint64_t due = now;
    Counters counters;
    Pvsched pvsched;

    pvsched_start(&pvsched, index);
    counters_start(&counters, index, now);
    lapic_prepare_sleep(TIMER_VECTOR);
    for (;;) {
        uint64_t woken;

        if ((int64_t)(now - due) >= 0) {
            due += ((now - due) / interval + 1) * interval;
        } else {
            /* It woke up early by a little, or the TSC is another host's */
            due = due - now < interval ? due + interval : now + interval;
        }
        pvsched_ask_boost(&pvsched, PVSCHED_REQ_RT_WAITING);
        woken = lapic_sleep_until(due, eoi_flag);
        pvsched_ask(&pvsched, PVSCHED_REQ_RT_RUNNING);
        counters_wait(&counters, woken,
                      (int64_t)(woken - due) > 0 ? woken - due : 0);
        counters_update(&counters, woken);
        do {
            now = rdtsc();
        } while (clock_ticks_to_ns(now - woken) < vcpu->work_us * 1000);
    }
}
