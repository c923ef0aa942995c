/*
 * Stress guest: what KVM writes into the guest's memory by itself
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef PARAVIRT_H
#define PARAVIRT_H

#include <stdint.h>

/*
 * At CPL 0, on the vCPU in @slot: let KVM keep its steal time and the flag
 * that spares it the end of an interrupt. Stops the guest if KVM does neither.
 */
void paravirt_enable(unsigned slot);

/*
 * The flag of the vCPU in @slot: if bit 0 is set in an interrupt handler, who
 * clears it need not tell the LAPIC that the interrupt has ended. It is never
 * set without paravirt_enable().
 */
uint32_t *paravirt_eoi_flag(unsigned slot);

#endif /* PARAVIRT_H */
