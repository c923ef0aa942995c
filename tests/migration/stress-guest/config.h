/*
 * Stress guest: what the command line asks for
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CONFIG_H
#define CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "layout.h"
#include "stress-guest.h"

typedef struct VcpuConfig {
    StressGuestRole role;
    uint64_t rate;              /* operations per second, 0: no limit */
    uint64_t on_ms;             /* works that long, then is silent that long; */
    uint64_t off_ms;            /* always works if 0 */
    bool remap;                 /* take the display's memory away and back */
    uint64_t interval_us;       /* from one wakeup to the next, */
    uint64_t work_us;           /* and how long there is work then */
    uint64_t hold_us;           /* so long it holds the lock, */
    uint64_t writes;            /* and writes so many pages meanwhile */
    bool pvsched;               /* tell the host what it does */
    uint64_t start;
    uint64_t size;
} VcpuConfig;

typedef struct Config {
    unsigned nr_vcpus;
    uint64_t tsc_khz;           /* 0: measure it */
    bool balloon;               /* switch these on */
    bool disk;
    bool display;
    bool paravirt;              /* let KVM write into the guest's memory */
    bool pvsched;               /* switch that device on */
    bool console;               /* a line a second for each vCPU */
    VcpuConfig vcpu[MAX_VCPUS];
} Config;

/* Does not change any more once the vCPUs run */
extern Config config;

/* Read the machine and its command line. Stops the guest if it cannot obey. */
void config_init(void);

const char *config_role_name(StressGuestRole role);

/* Whether a vCPU with this role may get another one while it runs */
bool config_role_changes(StressGuestRole role);

#endif /* CONFIG_H */
