/*
 * Stress guest: a line a second for each vCPU
 *
 * A character sent costs an exit to the host, which takes long on some. The
 * vCPU that reports has its own work to do and its gaps are measured, so a step
 * sends no more than one character.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "clock.h"
#include "config.h"
#include "console.h"
#include "counters.h"
#include "report.h"
#include "text.h"

static char line[TEXT_SIZE];
static const char *unsent = line;
static unsigned next_vcpu = MAX_VCPUS;
static uint64_t round_start;
static uint64_t last_ops[MAX_VCPUS];
static uint64_t last_time[MAX_VCPUS];

/* Another vCPU may be changing its block just now */
static uint64_t get(const uint64_t *field)
{
    return __atomic_load_n(field, __ATOMIC_RELAXED);
}

static void format_line(unsigned i, uint64_t now)
{
    const StressGuestVcpu *b = counters_block(i);
    uint64_t ops = get(&b->ops);
    uint64_t ms = (now - last_time[i]) / tsc_khz;

    text_format(line, "stress-guest: vcpu %lu %s ops/s=%lu passes=%lu "
                "errors=%lu max_gap_us=%lu\n", (unsigned long)i,
                config_role_name(config.vcpu[i].role),
                ms ? (ops - last_ops[i]) * 1000 / ms : 0, get(&b->passes),
                get(&b->errors), get(&b->max_gap_ns) / 1000);
    unsent = line;
    last_ops[i] = ops;
    last_time[i] = now;
}

void report_start(uint64_t now)
{
    round_start = now;
    for (unsigned i = 0; i < MAX_VCPUS; i++) {
        last_ops[i] = get(&counters_block(i)->ops);
        last_time[i] = now;
    }
}

void report_step(uint64_t now)
{
    if (*unsent) {
        console_putc(*unsent++);
    } else if (next_vcpu < config.nr_vcpus) {
        if (config.vcpu[next_vcpu].role != STRESS_GUEST_IDLE) {
            format_line(next_vcpu, now);
        }
        next_vcpu++;
    } else if (now - round_start >= 1000 * tsc_khz) {
        round_start = now;
        next_vcpu = 0;
    }
}
