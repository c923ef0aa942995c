/*
 * Stress guest: vCPUs that need the same lock
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef LOCKER_H
#define LOCKER_H

#include <stdint.h>

/*
 * At CPL 0: take the lock as often as the command line says for vCPU @index.
 * @eoi_flag: see lapic_wait_for_timer().
 */
__attribute__((noreturn)) void locker_run(unsigned index, uint32_t *eoi_flag);

#endif /* LOCKER_H */
