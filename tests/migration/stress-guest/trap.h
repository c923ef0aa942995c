/*
 * Stress guest: exceptions
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TRAP_H
#define TRAP_H

/* Fill the interrupt descriptor table that all vCPUs share */
void trap_init(void);

#endif /* TRAP_H */
