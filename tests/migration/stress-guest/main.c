/*
 * Stress guest: a guest that dirties its memory, and checks it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "boot.h"
#include "clock.h"
#include "config.h"
#include "console.h"
#include "counters.h"
#include "cpu.h"
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
    counters_describe();
    smp_init_vcpu(0);
    smp_start_others();
    console_line("up, %lu vcpus", (unsigned long)config.nr_vcpus);
    counters_set_state(STRESS_GUEST_RUNNING);
    smp_release_others();
}

/* Every vCPU, at CPL 0. Those without a region stay here, halted. */
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
    if (config.vcpu[index].role == STRESS_GUEST_IDLE) {
        park();
    }
    if (config.vcpu[index].role == STRESS_GUEST_WAKEUPS) {
        wakeups_run(index, slot);
    }
    return index;
}

/* Every vCPU that has a region to work on, at CPL 3 */
void user_main(unsigned index)
{
    unsigned reporter = 0;

    while (!config.vcpu[reporter].size) {
        reporter++;
    }
    role_run(index, config.console && index == reporter);
}
