/*
 * Stress guest: what a vCPU does
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef ROLES_H
#define ROLES_H

#include <stdbool.h>

/* Do what the command line says for vCPU @index; report for all if @reports */
__attribute__((noreturn)) void role_run(unsigned index, bool reports);

#endif /* ROLES_H */
