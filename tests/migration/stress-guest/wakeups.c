/*
 * Stress guest: a vCPU that only wakes up
 *
 * It is halted, a timer wakes it, it counts that and is halted again. So that
 * it writes next to nothing itself, it keeps its count in registers and brings
 * its counters up to date now and then.
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
#include "layout.h"
#include "wakeups.h"

#define PUBLISH_MS 50

void wakeups_run(unsigned index, uint32_t *eoi_flag)
{
    uint64_t last = rdtsc();
    uint64_t publish_at = last;
    uint64_t wakeups = 0;
    uint64_t gap = 0;
    Counters counters;

    counters_start(&counters, index, last);
    lapic_start_timer(TIMER_VECTOR, config.vcpu[index].rate);
    for (;;) {
        uint64_t now;

        lapic_wait_for_timer(eoi_flag);
        now = rdtsc();
        wakeups++;
        if (now - last > gap) {
            gap = now - last;
        }
        last = now;
        if ((int64_t)(now - publish_at) >= 0) {
            counters_ops(&counters, wakeups, now, gap);
            counters_update(&counters, now);
            publish_at = now + PUBLISH_MS * tsc_khz;
            wakeups = 0;
            gap = 0;
        }
    }
}
