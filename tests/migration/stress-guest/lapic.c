/*
 * Stress guest: the local interrupt controller of a vCPU
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "clock.h"
#include "cpu.h"
#include "lapic.h"
#include "layout.h"

#define LAPIC_ID 0x20
#define LAPIC_SPURIOUS 0xf0
#define LAPIC_ICR 0x300
#define LAPIC_LVT_TIMER 0x320
#define LAPIC_TIMER_COUNT 0x380
#define LAPIC_TIMER_DIVIDE 0x3e0

#define SPURIOUS_ENABLE 0x1ff
#define ICR_INIT_OTHERS 0xc4500
#define ICR_STARTUP_OTHERS (0xc4600 | TRAMPOLINE >> PAGE_SHIFT)
#define TIMER_PERIODIC 0x20000
#define TIMER_DIVIDE_BY_1 0xb

/* Of the timer, in KVM and in QEMU alike */
#define TIMER_HZ 1000000000

static uint32_t lapic_read(unsigned reg)
{
    /* A device register */
    return *(volatile uint32_t *)(uintptr_t)(LAPIC_BASE + reg);
}

static void lapic_write(unsigned reg, uint32_t value)
{
    /* A device register */
    *(volatile uint32_t *)(uintptr_t)(LAPIC_BASE + reg) = value;
}

unsigned lapic_id(void)
{
    return lapic_read(LAPIC_ID) >> 24;
}

void lapic_enable(void)
{
    lapic_write(LAPIC_SPURIOUS, SPURIOUS_ENABLE);
}

void lapic_start_others(void)
{
    lapic_write(LAPIC_ICR, ICR_INIT_OTHERS);
    clock_delay(10000);
    lapic_write(LAPIC_ICR, ICR_STARTUP_OTHERS);
}

void lapic_start_timer(unsigned vector, uint64_t rate)
{
    lapic_enable();
    lapic_write(LAPIC_TIMER_DIVIDE, TIMER_DIVIDE_BY_1);
    lapic_write(LAPIC_LVT_TIMER, TIMER_PERIODIC | vector);
    lapic_write(LAPIC_TIMER_COUNT, TIMER_HZ / rate);
}

void lapic_prepare_sleep(unsigned vector)
{
    lapic_enable();
    lapic_write(LAPIC_TIMER_DIVIDE, TIMER_DIVIDE_BY_1);
    lapic_write(LAPIC_LVT_TIMER, vector);
}

uint64_t lapic_sleep_until(uint64_t due, uint32_t *eoi_flag)
{
    uint64_t now = rdtsc();

    if ((int64_t)(due - now) > 0) {
        /* 0 would stop the timer */
        lapic_write(LAPIC_TIMER_COUNT, clock_ticks_to_ns(due - now) + 1);
        lapic_wait_for_timer(eoi_flag);
        now = rdtsc();
    }
    return now;
}
