/*
 * Stress guest: when the next operation is due
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef PACE_H
#define PACE_H

#include <stdint.h>

#include "config.h"

/* All in ticks */
typedef struct Pace {
    uint64_t due;               /* the next operation may begin */
    uint64_t rate;              /* operations per second, 0: no limit */
    uint64_t period;            /* 1 / rate, and ... */
    uint64_t remainder;         /* ... what is missing, in 1 / rate ticks */
    uint64_t fraction;          /* how much of @remainder @due lacks so far */
    uint64_t catch_up;
    uint64_t window;            /* when the current time to work began */
    uint64_t on;
    uint64_t off;
} Pace;

void pace_init(Pace *pace, const VcpuConfig *vcpu, uint64_t now);

/* An operation has ended at @now: when may the next one begin? */
void pace_next(Pace *pace, uint64_t now);

#endif /* PACE_H */
