/*
 * Stress guest: keeping the counters that the host reads
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef COUNTERS_H
#define COUNTERS_H

#include <stdbool.h>
#include <stdint.h>

#include "page.h"
#include "stress-guest.h"

/* What one vCPU counts, privately until it is published */
typedef struct Counters {
    StressGuestVcpu values;     /* without where its region is */
    StressGuestVcpu *block;     /* where the host sees them */
    StressGuestWaits *waits;
    uint64_t max_gap;           /* like those in @values, but in ticks */
    uint64_t max_gap_total;
    uint64_t publish_at;
    bool changed;               /* there is something to publish */
} Counters;

/* vCPU 0: clear all, but the host's epoch */
void counters_reset(void);

/* vCPU 0: fill in the configuration and the clock */
void counters_describe(void);

void counters_set_state(StressGuestState state);

/* Where vCPU @index has its line of the device pvsched */
void *counters_line(unsigned index);

/* What vCPU @index has published */
const StressGuestVcpu *counters_block(unsigned index);

/* Count for vCPU @index, whose operations may begin at @now */
void counters_start(Counters *c, unsigned index, uint64_t now);

/*
 * An operation has ended at @now after a gap of @gap ticks; @bad is what it
 * found wrong, or NULL; @wrapped tells that it was the last one of a pass.
 */
void counters_op(Counters *c, uint64_t now, uint64_t gap, const PageError *bad,
                 bool wrapped);

/*
 * @number operations without a page have ended, the last at @now; the longest
 * gap was @gap ticks.
 */
void counters_ops(Counters *c, uint64_t number, uint64_t now, uint64_t gap);

/*
 * Part of an operation: a page has been visited. @bad and @wrapped as in
 * counters_op().
 */
void counters_visit(Counters *c, const PageError *bad, bool wrapped);

/* An operation has ended at @now that had to wait for @wait ticks before */
void counters_wait(Counters *c, uint64_t now, uint64_t wait);

/* To be called often: take up a new epoch, publish what has changed */
void counters_update(Counters *c, uint64_t now);

/*
 * Take up what the host wants the vCPU to do from now on. Returns: whether it
 * is something else than before; @c->values has it then
 */
bool counters_take_wanted(Counters *c);

#endif /* COUNTERS_H */
