/*
 * Stress guest: devices on the PCI bus
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef PCI_H
#define PCI_H

#include <stdint.h>

/* Where a device's registers are, other than at the numbers below */
#define PCI_COMMAND 0x04
#define PCI_COMMAND_IO 0x1
#define PCI_COMMAND_MEMORY 0x2
#define PCI_COMMAND_MASTER 0x4
#define PCI_BAR(n) (0x10 + 4 * (n))

/* The first such device on bus 0. Stops the guest if there is none. */
unsigned pci_find(uint16_t vendor, uint16_t device);

void pci_write(unsigned device, unsigned reg, uint32_t value);

#endif /* PCI_H */
