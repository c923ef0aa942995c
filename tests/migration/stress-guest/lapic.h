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

/* Let the timer do so once, each time that lapic_sleep_until() starts it */
void lapic_prepare_sleep(unsigned vector);

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

/*
 * At CPL 0, after lapic_prepare_sleep(): halt until the TSC is @due, at most
 * 4 s away. Returns: what it is then. That is less than @due where the TSC's
 * frequency is not known exactly.
 */
uint64_t lapic_sleep_until(uint64_t due, uint32_t *eoi_flag);

#endif /* LAPIC_H */
