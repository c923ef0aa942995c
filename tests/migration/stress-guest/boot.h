/*
 * Stress guest: where boot.S and C meet
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BOOT_H
#define BOOT_H

#include <stdint.h>

#include "layout.h"

/* An entry of the interrupt descriptor table */
typedef struct Gate {
    uint16_t offset_low;
    uint16_t selector;
    uint16_t flags;
    uint16_t offset_middle;
    uint32_t offset_high;
    uint32_t reserved;
} Gate;

/* What trap_entries[] leave on the stack */
typedef struct TrapFrame {
    uint64_t vector;
    uint64_t error;
    uint64_t rip;
} TrapFrame;

/* In boot.S */
extern uint32_t multiboot_info;
extern uint64_t gdt[];
extern Gate idt[NR_GATES];
extern const uint64_t trap_entries[NR_TRAPS];

/*
 * In boot.S: the timer's interrupt. %rdi points to a flag: if its bit 0 is set,
 * that is cleared, and the LAPIC is not told that the interrupt has ended.
 * Changes %rax.
 */
extern const char timer_entry[];
extern uint8_t kernel_stacks[MAX_VCPUS][PAGE_SIZE];

/* In C; a slot is a vCPU's place in the order of arrival, 0 for vCPU 0 */
unsigned boot_main(unsigned slot);
__attribute__((noreturn)) void user_main(unsigned index);
__attribute__((noreturn)) void trap_report(const TrapFrame *frame);

#endif /* BOOT_H */
