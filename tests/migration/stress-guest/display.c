/*
 * Stress guest: a display in a graphics mode
 *
 * QEMU's VGA and bochs-display have the same PCI id, the same registers for a
 * mode without palettes and planes, and the same place for these registers.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "display.h"
#include "pci.h"

#define DISPLAY_VENDOR 0x1234
#define DISPLAY_DEVICE 0x1111

#define BAR_MEMORY 0
#define BAR_REGISTERS 2

/* Behind the largest memory that the device may have: 256 MiB */
#define REGISTERS 0xf0000000

/* VGA's attribute controller; bochs-display has none, and ignores it */
#define VGA_ATTRIBUTE 0x400
#define VGA_SCREEN_ON 0x20

#define MODE_WIDTH 0x502
#define MODE_HEIGHT 0x504
#define MODE_DEPTH 0x506
#define MODE_ENABLE 0x508
#define MODE_ON_AND_LINEAR 0x41

static unsigned display;

static void write8(unsigned reg, uint8_t value)
{
    /* A device register */
    *(volatile uint8_t *)(uintptr_t)(REGISTERS + reg) = value;
}

static void write16(unsigned reg, uint16_t value)
{
    /* A device register */
    *(volatile uint16_t *)(uintptr_t)(REGISTERS + reg) = value;
}

void display_init(void)
{
    display = pci_find(DISPLAY_VENDOR, DISPLAY_DEVICE);
    pci_write(display, PCI_BAR(BAR_MEMORY), DISPLAY_START);
    pci_write(display, PCI_BAR(BAR_REGISTERS), REGISTERS);
    pci_write(display, PCI_COMMAND, PCI_COMMAND_MEMORY);

    write16(MODE_WIDTH, DISPLAY_WIDTH);
    write16(MODE_HEIGHT, DISPLAY_HEIGHT);
    write16(MODE_DEPTH, 32);
    write16(MODE_ENABLE, MODE_ON_AND_LINEAR);
    write8(VGA_ATTRIBUTE, VGA_SCREEN_ON);
}

void display_remap(void)
{
    pci_write(display, PCI_COMMAND, 0);
    pci_write(display, PCI_COMMAND, PCI_COMMAND_MEMORY);
}
