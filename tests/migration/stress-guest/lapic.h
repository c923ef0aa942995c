/*
 * Stress guest: the local interrupt controller of a vCPU
 *
 * Copyright (c) 2026 Dirty throttle maintainers
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

/*
 * At CPL 0: halt until that happens. @eoi_flag is where the host may say that
 * it need not be told when the interrupt has ended.
 *
 * The interrupt that sti lets in is not taken before hlt. The registers are
 * what timer_entry wants.
 */
static inline void lapic_wait_for_timer(uint32_t *eoi_flag)
{
    asm volatile("sti; hlt; cli" : : "D"(eoi_flag) : "rax", "memory", "cc");
}

#endif /* LAPIC_H */
