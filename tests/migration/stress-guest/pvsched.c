/*
 * Stress guest: tell the host what a vCPU does, through the device pvsched
 *
 * A vCPU's line lies in the page of its counters: so it makes no other page
 * dirty, and the host's tests can look at it.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stddef.h>

#include "config.h"
#include "console.h"
#include "counters.h"
#include "layout.h"
#include "pci.h"
#include "pvsched.h"

#define BAR_REGISTERS 0

_Static_assert(sizeof(PvschedLine) == PVSCHED_LINE_SIZE, "as the host has it");
_Static_assert(offsetof(PvschedLine, state) == PVSCHED_LINE_STATE,
               "as the host has it");
_Static_assert(offsetof(PvschedLine, wait_us) == PVSCHED_LINE_WAIT_US,
               "as the host has it");

static uint32_t read32(unsigned reg)
{
    /* A device register */
    return *(volatile uint32_t *)(uintptr_t)(USER_REGISTERS + reg);
}

void pvsched_write(unsigned reg, uint32_t value)
{
    /* A device register */
    *(volatile uint32_t *)(uintptr_t)(USER_REGISTERS + reg) = value;
}

void pvsched_init(void)
{
    unsigned device = pci_find(PVSCHED_PCI_VENDOR, PVSCHED_PCI_DEVICE);

    pci_write(device, PCI_BAR(BAR_REGISTERS), USER_REGISTERS);
    pci_write(device, PCI_COMMAND, PCI_COMMAND_MEMORY);
    if (read32(PVSCHED_REG_VERSION) != PVSCHED_VERSION) {
        fatal("pvsched: version %lu, not %lu",
              (unsigned long)read32(PVSCHED_REG_VERSION),
              (unsigned long)PVSCHED_VERSION);
    }
    pvsched_write(PVSCHED_REG_DRIVER_FEATURES, read32(PVSCHED_REG_FEATURES));
}

void pvsched_start(Pvsched *p, unsigned index)
{
    const uint64_t line = (uintptr_t)counters_line(index);
    unsigned window;

    *p = (Pvsched) { 0 };
    if (!config.vcpu[index].pvsched) {
        return;
    }
    p->line = counters_line(index);
    *p->line = (PvschedLine) { 0 };
    window = PVSCHED_WINDOW(read32(PVSCHED_REG_SELF));
    pvsched_write(window + PVSCHED_WIN_LINE_LO, line);
    pvsched_write(window + PVSCHED_WIN_LINE_HI, line >> 32);
    if (read32(window + PVSCHED_WIN_STATUS) != PVSCHED_STATUS_REGISTERED) {
        fatal("pvsched: vcpu %lu: status %lu", (unsigned long)index,
              (unsigned long)read32(window + PVSCHED_WIN_STATUS));
    }
    p->doorbell = window + PVSCHED_WIN_DOORBELL;
}
