/*
 * Stress guest: the local interrupt controller of a vCPU
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef LAPIC_H
#define LAPIC_H

#include <stdint.h>

unsigned lapic_id(void);

/* Let it deliver interrupts */
void lapic_enable(void);

/* Start all other vCPUs at TRAMPOLINE */
void lapic_start_others(void);

/* Interrupt this vCPU with @vector @rate times a second, from now on */
void lapic_start_timer(unsigned vector, uint64_t rate);

#endif /* LAPIC_H */
