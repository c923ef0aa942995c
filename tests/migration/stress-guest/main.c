/*
 * Stress guest: a guest that dirties its memory, and checks it
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "asker.h"
#include "balloon.h"
#include "boot.h"
#include "clock.h"
#include "config.h"
#include "console.h"
#include "counters.h"
#include "cpu.h"
#include "disk.h"
#include "display.h"
#include "latency.h"
#include "locker.h"
#include "paravirt.h"
#include "pvsched.h"
#include "roles.h"
#include "smp.h"
#include "trap.h"
#include "wakeups.h"

static void boot_first(void)
{
    trap_init();
    counters_reset();
    config_init();
    clock_init(config.tsc_khz);
    if (config.display) {
        display_init();
    }
    if (config.balloon) {
        balloon_init();
    }
    if (config.disk) {
        disk_init();
    }
    if (config.pvsched) {
        pvsched_init();
    }
    counters_describe();
    smp_init_vcpu(0);
    smp_start_others();
    console_line("up, %lu vcpus", (unsigned long)config.nr_vcpus);
    counters_set_state(STRESS_GUEST_RUNNING);
    smp_release_others();
}

/* Every vCPU, at CPL 0. Those that are halted at times stay here. */
unsigned boot_main(unsigned slot)
{
    unsigned index;

    if (slot == 0) {
        boot_first();
    } else {
        smp_init_vcpu(slot);
        smp_wait_release();
    }
    index = smp_index();
    switch (config.vcpu[index].role) {
    case STRESS_GUEST_IDLE:
        park();
    case STRESS_GUEST_WAKEUPS:
        wakeups_run(index, paravirt_eoi_flag(slot));
    case STRESS_GUEST_SCREEN:
        role_run_halted(index, paravirt_eoi_flag(slot));
    case STRESS_GUEST_LATENCY:
        latency_run(index, paravirt_eoi_flag(slot));
    case STRESS_GUEST_LOCKER:
        locker_run(index, paravirt_eoi_flag(slot));
    default:
        return index;
    }
}

static bool at_cpl3(unsigned index)
{
    StressGuestRole role = config.vcpu[index].role;

    return role != STRESS_GUEST_IDLE && role != STRESS_GUEST_WAKEUPS &&
           role != STRESS_GUEST_SCREEN && role != STRESS_GUEST_LATENCY &&
           role != STRESS_GUEST_LOCKER;
}

/* Every other vCPU, at CPL 3. The first of them reports. */
void user_main(unsigned index)
{
    unsigned reporter = 0;

    while (!at_cpl3(reporter)) {
        reporter++;
    }
    switch (config.vcpu[index].role) {
    case STRESS_GUEST_ROGUE:
    case STRESS_GUEST_ASKER:
        asker_run(index);
    default:
        role_run(index, config.console && index == reporter);
    }
}
