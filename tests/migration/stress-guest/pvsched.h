/*
 * Stress guest: tell the host what a vCPU does, through the device pvsched
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef PVSCHED_H
#define PVSCHED_H

#include <stdint.h>

#include "hw/misc/pvsched-abi.h"

typedef struct PvschedLine {
    uint64_t request;
    uint32_t state;
    uint32_t critical_us;
    uint32_t rt_us;
    uint32_t wait_us;
    uint8_t reserved[40];
} PvschedLine;

/* One vCPU that tells the host, or, if @line is NULL, does not */
typedef struct Pvsched {
    PvschedLine *line;
    unsigned doorbell;          /* its register */
    uint16_t number;
} Pvsched;

/* vCPU 0: switch the device on. Stops the guest if there is none. */
void pvsched_init(void);

/*
 * On vCPU @index: tell the host from now on, if the command line says so. Stops
 * the guest if the host does not want to know.
 */
void pvsched_start(Pvsched *p, unsigned index);

/* Write to a register of the device */
void pvsched_write(unsigned reg, uint32_t value);

/* Make the host look at once */
static inline void pvsched_ring(const Pvsched *p)
{
    if (p->line) {
        pvsched_write(p->doorbell, 1);
    }
}

static inline uint32_t pvsched_state(const Pvsched *p)
{
    return __atomic_load_n(&p->line->state, __ATOMIC_RELAXED);
}

/* The vCPU begins with @activities, and has ended those that it had before */
static inline void pvsched_ask(Pvsched *p, uint32_t activities)
{
    if (p->line) {
        /* As long as the host allows */
        uint64_t us = UINT32_MAX;
        uint64_t number = ++p->number;

        __atomic_store_n(&p->line->request, us << PVSCHED_REQ_US_SHIFT |
                         number << PVSCHED_REQ_SEQ_SHIFT | activities,
                         __ATOMIC_RELEASE);
    }
}

/*
 * The same where it matters that the host has seen it before what comes next.
 * A host that has refused looks again by itself.
 */
static inline void pvsched_ask_boost(Pvsched *p, uint32_t activities)
{
    pvsched_ask(p, activities);
    if (p->line && !(pvsched_state(p) &
                     (PVSCHED_STATE_BOOSTED | PVSCHED_STATE_REFUSED))) {
        pvsched_ring(p);
    }
}

/* The vCPU has ended all that it has asked for */
static inline void pvsched_leave(Pvsched *p)
{
    if (p->line) {
        __atomic_store_n(&p->line->request, 0, __ATOMIC_RELEASE);
        if (pvsched_state(p) &
            (PVSCHED_STATE_BOOSTED | PVSCHED_STATE_PENALTY)) {
            pvsched_ring(p);
        }
    }
}

#endif /* PVSCHED_H */
