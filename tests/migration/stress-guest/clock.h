/*
 * Stress guest: time from the TSC
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>

/* TSC ticks per millisecond */
extern uint64_t tsc_khz;

/* Take @khz, or measure it against the PIT if 0. Stops the guest on failure. */
void clock_init(uint64_t khz);

/* Do nothing for @us microseconds */
void clock_delay(uint64_t us);

static inline uint64_t clock_ticks_to_ns(uint64_t ticks)
{
    return ticks / tsc_khz * 1000000 + ticks % tsc_khz * 1000000 / tsc_khz;
}

#endif /* CLOCK_H */
