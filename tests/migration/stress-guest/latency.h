/*
 * Stress guest: a vCPU that measures how late it wakes up
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef LATENCY_H
#define LATENCY_H

#include <stdint.h>

/*
 * At CPL 0: wake up as often as the command line says for vCPU @index.
 * @eoi_flag: see lapic_wait_for_timer().
 */
__attribute__((noreturn)) void latency_run(unsigned index, uint32_t *eoi_flag);

#endif /* LATENCY_H */
