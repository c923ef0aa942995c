/*
 * Stress guest: time from the TSC
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "clock.h"
#include "console.h"
#include "cpu.h"

#define PIT_HZ 1193182
#define PIT_COUNT (PIT_HZ / 20)
#define PIT_CHANNEL2 0x42
#define PIT_COMMAND 0x43
#define PIT_CHANNEL2_ONE_SHOT 0xb0
#define PIT_GATE_PORT 0x61
#define PIT_GATE_MASK 0x03
#define PIT_GATE_ON 0x01
#define PIT_OUTPUT 0x20

/* Enough of them that one escapes the noise of a busy host */
#define MAX_RUNS 8

/* More than a second on any CPU: then there is no PIT */
#define MAX_TICKS (1ULL << 33)

uint64_t tsc_khz;

typedef struct Measurement {
    uint64_t min_ticks;
    uint64_t max_ticks;
} Measurement;

/*
 * Let the PIT count down once. Any step here may take long, if the host does
 * something else meanwhile, so find the least and the most that the count may
 * have taken instead of one number that looks exact.
 */
static Measurement measure(void)
{
    uint64_t before_start, after_start, last_low, poll;

    outb(PIT_GATE_PORT, (inb(PIT_GATE_PORT) & ~PIT_GATE_MASK) | PIT_GATE_ON);
    outb(PIT_COMMAND, PIT_CHANNEL2_ONE_SHOT);
    outb(PIT_CHANNEL2, PIT_COUNT & 0xff);
    before_start = rdtsc();
    outb(PIT_CHANNEL2, PIT_COUNT >> 8);
    after_start = rdtsc();

    last_low = after_start;
    for (;;) {
        poll = rdtsc();
        if (inb(PIT_GATE_PORT) & PIT_OUTPUT) {
            break;
        }
        if (poll - after_start > MAX_TICKS) {
            fatal("the PIT does not count; give the TSC frequency as khz=");
        }
        last_low = poll;
    }

    return (Measurement) {
        .min_ticks = last_low - after_start,
        .max_ticks = rdtsc() - before_start,
    };
}

void clock_init(uint64_t khz)
{
    Measurement best = { 0, UINT64_MAX };

    tsc_khz = khz;
    if (khz) {
        return;
    }
    for (int i = 0; i < MAX_RUNS; i++) {
        Measurement m = measure();

        if (m.max_ticks - m.min_ticks < best.max_ticks - best.min_ticks) {
            best = m;
        }
        if ((best.max_ticks - best.min_ticks) * 1000 < best.min_ticks) {
            break;
        }
    }
    tsc_khz = (best.min_ticks + best.max_ticks) / 2 * PIT_HZ
              / PIT_COUNT / 1000;
}

void clock_delay(uint64_t us)
{
    uint64_t start = rdtsc();

    while (rdtsc() - start < us * tsc_khz / 1000) {
        pause();
    }
}
