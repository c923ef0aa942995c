/*
 * Stress guest: exceptions, and the timer's interrupt
 *
 * The guest causes no exception. If one comes nevertheless, a line that says so
 * is worth more than the reset that a triple fault would bring.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "boot.h"
#include "console.h"
#include "trap.h"

#define GATE_INTERRUPT 0x8e00

static void set_gate(unsigned vector, uint64_t entry)
{
    idt[vector] = (Gate) {
        .offset_low = entry,
        .selector = SEL_CODE64,
        .flags = GATE_INTERRUPT,
        .offset_middle = entry >> 16,
        .offset_high = entry >> 32,
    };
}

void trap_init(void)
{
    for (int i = 0; i < NR_TRAPS; i++) {
        set_gate(i, trap_entries[i]);
    }
    set_gate(TIMER_VECTOR, (uintptr_t)timer_entry);
}

void trap_report(const TrapFrame *frame)
{
    uint64_t address;

    asm volatile("mov %%cr2, %0" : "=r"(address));
    fatal("exception %lu, error code 0x%lx, at 0x%lx, cr2 0x%lx",
          frame->vector, frame->error, frame->rip, address);
}
