/*
 * Stress guest: when the next operation is due
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "clock.h"
#include "pace.h"

/*
 * Operations that a stall has prevented come later, so that the rate is kept
 * on a noisy host, but no more of them than belong to this time. A vCPU that
 * was held up longer must not look faster than it wants to be afterwards.
 */
#define CATCH_UP_MS 10

void pace_init(Pace *pace, const VcpuConfig *vcpu, uint64_t now)
{
    uint64_t ticks_per_second = tsc_khz * 1000;

    *pace = (Pace) {
        .due = now,
        .rate = vcpu->rate,
        .catch_up = CATCH_UP_MS * tsc_khz,
        .window = now,
        .on = vcpu->on_ms * tsc_khz,
        .off = vcpu->off_ms * tsc_khz,
    };
    if (pace->rate) {
        pace->period = ticks_per_second / pace->rate;
        pace->remainder = ticks_per_second % pace->rate;
    }
}

void pace_next(Pace *pace, uint64_t now)
{
    if (pace->rate) {
        pace->due += pace->period;
        pace->fraction += pace->remainder;
        if (pace->fraction >= pace->rate) {
            pace->fraction -= pace->rate;
            pace->due++;
        }
        if ((int64_t)(now - pace->due) > (int64_t)pace->catch_up) {
            pace->due = now - pace->catch_up;
        }
    } else {
        pace->due = now;
    }

    if (pace->off && (int64_t)(pace->due - pace->window) >= (int64_t)pace->on) {
        pace->window += pace->on + pace->off;
        /* After a stall a whole window, not what is left of one */
        if ((int64_t)(now - pace->window) > 0) {
            pace->window = now;
        }
        pace->due = pace->window;
    }
}
