/*
 * pvsched: the line of a vCPU, in the guest's RAM
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_MISC_PVSCHED_LINE_H
#define HW_MISC_PVSCHED_LINE_H

#include "exec/memory.h"
#include "boost.h"

/* Where it is; @host is NULL when there is none */
typedef struct PVSchedRam {
    MemoryRegion *mr;
    hwaddr offset;
    uint8_t *host;
} PVSchedRam;

/**
 * pvsched_ram_get: find RAM for a line
 *
 * With the BQL held.
 *
 * @addr: the guest's physical address
 * @ram: is filled in, with a reference to its region
 *
 * Returns: false if there is no RAM, or some that the guest cannot write to
 */
bool pvsched_ram_get(hwaddr addr, PVSchedRam *ram);

/* The reverse.  Who reads the line without a lock has to be in RCU's care. */
void pvsched_ram_put(PVSchedRam *ram);

/* What the guest asks for */
uint64_t pvsched_ram_request(const uint8_t *host);

/* Tell the guest what is new; migration is told as well. */
void pvsched_ram_tell(PVSchedRam *ram, const PVSchedLine *line);

#endif
