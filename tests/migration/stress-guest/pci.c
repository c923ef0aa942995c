/*
 * Stress guest: devices on the PCI bus
 *
 * No firmware has set them up: qboot leaves that to Linux.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "console.h"
#include "cpu.h"
#include "pci.h"

#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA 0xcfc
#define CONFIG_ENABLE 0x80000000

#define NR_DEVICES 32
#define PCI_ID 0x00

static void select(unsigned device, unsigned reg)
{
    outl(CONFIG_ADDRESS, CONFIG_ENABLE | device << 11 | reg);
}

static uint32_t pci_read(unsigned device, unsigned reg)
{
    select(device, reg);
    return inl(CONFIG_DATA);
}

void pci_write(unsigned device, unsigned reg, uint32_t value)
{
    select(device, reg);
    outl(CONFIG_DATA, value);
}

unsigned pci_find(uint16_t vendor, uint16_t device)
{
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        if (pci_read(i, PCI_ID) == ((uint32_t)device << 16 | vendor)) {
            return i;
        }
    }
    fatal("no PCI device %lx:%lx", (unsigned long)vendor,
          (unsigned long)device);
}
