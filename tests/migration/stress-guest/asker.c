/*
 * Stress guest: vCPUs that ask the host for more than they need
 *
 * An asker tells the host of one interrupt after the other, and does nothing
 * else: what that costs is the time of an operation. A rogue asks for all that
 * there is, for ever, and calls the host as often as an operation, which is
 * each millisecond. Without the device both do the same for themselves.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdbool.h>

#include "asker.h"
#include "clock.h"
#include "config.h"
#include "counters.h"
#include "cpu.h"
#include "pvsched.h"

/* So many that looking at the clock and counting does not matter */
#define INTERRUPTS 1000

void asker_run(unsigned index)
{
    const bool rogue = config.vcpu[index].role == STRESS_GUEST_ROGUE;
    uint64_t last = rdtsc();
    Counters counters;
    Pvsched pvsched;

    pvsched_start(&pvsched, index);
    counters_start(&counters, index, last);
    for (;;) {
        uint64_t now;

        if (rogue) {
            pvsched_ask(&pvsched, PVSCHED_REQ_ACTIVITIES);
            pvsched_ring(&pvsched);
            clock_delay(1000);
        } else {
            for (int i = 0; i < INTERRUPTS; i++) {
                pvsched_ask(&pvsched, PVSCHED_REQ_INTERRUPT);
                pvsched_leave(&pvsched);
            }
        }
        now = rdtsc();
        counters_ops(&counters, rogue ? 1 : INTERRUPTS, now, now - last);
        counters_update(&counters, now);
        last = now;
    }
}
