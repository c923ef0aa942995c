/*
 * Stress guest: vCPUs that ask the host for more than they need
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef ASKER_H
#define ASKER_H

/* At CPL 3, do what the command line says for vCPU @index */
__attribute__((noreturn)) void asker_run(unsigned index);

#endif /* ASKER_H */
