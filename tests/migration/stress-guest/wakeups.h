/*
 * Stress guest: a vCPU that only wakes up
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef WAKEUPS_H
#define WAKEUPS_H

#include <stdint.h>

/*
 * At CPL 0: wake up as often as the command line says for vCPU @index.
 * @eoi_flag: see lapic_wait_for_timer().
 */
__attribute__((noreturn)) void wakeups_run(unsigned index, uint32_t *eoi_flag);

#endif /* WAKEUPS_H */
