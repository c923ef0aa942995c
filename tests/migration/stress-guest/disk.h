/*
 * Stress guest: a disk
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef DISK_H
#define DISK_H

#include <stdint.h>

/* vCPU 0: switch it on. Stops the guest if there is none. */
void disk_init(void);

/*
 * Make the device write pass @pass of the page at @offset of the region at
 * @start. The page is made elsewhere; each time that 16 are there, they are
 * written to the disk and read from it. To be called for one page after another
 * by one vCPU.
 */
void disk_write(uint64_t start, uint64_t offset, uint32_t pass);

#endif /* DISK_H */
