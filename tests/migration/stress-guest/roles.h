/*
 * Stress guest: what a vCPU does
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef ROLES_H
#define ROLES_H

#include <stdbool.h>
#include <stdint.h>

/* At CPL 3, do what the command line says for vCPU @index; report, or not */
__attribute__((noreturn)) void role_run(unsigned index, bool reports);

/*
 * The same at CPL 0, one operation each time that the timer interrupts, and
 * halted until then. @eoi_flag: see lapic_wait_for_timer().
 */
__attribute__((noreturn)) void role_run_halted(unsigned index,
                                               uint32_t *eoi_flag);

#endif /* ROLES_H */
