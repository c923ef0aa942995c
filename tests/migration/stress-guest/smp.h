/*
 * Stress guest: bringing up the vCPUs
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SMP_H
#define SMP_H

/* Let the vCPU in @slot go to CPL 3, and use the serial port there */
void smp_init_vcpu(unsigned slot);

/* vCPU 0: start the others, and wait for them */
void smp_start_others(void);

/* vCPU 0: let the others go on */
void smp_release_others(void);

/* Other vCPUs: wait to be let go */
void smp_wait_release(void);

/* This vCPU's number, as QEMU counts them; valid once all are up */
unsigned smp_index(void);

#endif /* SMP_H */
