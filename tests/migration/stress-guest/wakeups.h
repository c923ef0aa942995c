/*
 * Stress guest: a vCPU that only wakes up
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef WAKEUPS_H
#define WAKEUPS_H

/* At CPL 0: wake up as often as the command line says for vCPU @index */
__attribute__((noreturn)) void wakeups_run(unsigned index, unsigned slot);

#endif /* WAKEUPS_H */
