/*
 * Stress guest: numbers that assembler and C must agree on
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef LAYOUT_H
#define LAYOUT_H

#define MAX_VCPUS 16

#define PAGE_SIZE 4096
#define PAGE_SHIFT 12

/* A startup IPI carries a page number below 1 MiB: where APs begin */
#define TRAMPOLINE 0x8000

#define LAPIC_BASE 0xfee00000
#define LAPIC_EOI 0xb0

/* The page tables give CPL 3 everything below; the LAPIC lies above */
#define USER_END 0xc0000000

/* And this page of 2 MiB above, for registers that CPL 3 may use as well */
#define USER_REGISTERS 0xf0200000

/* Segment selectors */
#define SEL_CODE32 0x08
#define SEL_DATA 0x10
#define SEL_CODE64 0x18
#define SEL_USER_DATA 0x23
#define SEL_USER_CODE64 0x2b
#define SEL_TSS 0x30            /* one descriptor of 16 bytes for each vCPU */

/* CPU exceptions, all of which the guest reports and none of which it takes */
#define NR_TRAPS 32

/* The only interrupt that the guest takes, and only while a vCPU is halted */
#define TIMER_VECTOR 32
#define NR_GATES 33

#endif /* LAYOUT_H */
