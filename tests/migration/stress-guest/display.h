/*
 * Stress guest: a display in a graphics mode
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef DISPLAY_H
#define DISPLAY_H

#include <stdint.h>

/* Where its memory is, and how much of that is on the screen */
#define DISPLAY_START 0xe0000000
#define DISPLAY_WIDTH 640
#define DISPLAY_HEIGHT 480
#define DISPLAY_SIZE (DISPLAY_WIDTH * DISPLAY_HEIGHT * 4)

/* vCPU 0: switch it on. Stops the guest if there is none. */
void display_init(void);

/* At CPL 0: take its memory off the bus, and put it back */
void display_remap(void);

#endif /* DISPLAY_H */
