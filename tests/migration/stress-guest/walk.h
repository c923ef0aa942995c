/*
 * Stress guest: which page is next, and what it must hold
 *
 * A vCPU may write its whole region, only the hot set at its beginning, or
 * none of it, and change between these at any page.  So the region has two
 * parts, and of each it is known how far the present pass has got.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef WALK_H
#define WALK_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"

/* Offsets into the region. Pages before @at are a pass ahead of the others. */
typedef struct WalkPart {
    uint64_t begin;
    uint64_t end;
    uint64_t at;
    uint32_t pass;              /* that wrote the pages from @at on */
} WalkPart;

typedef struct Walk {
    WalkPart parts[2];          /* the hot set, and what is behind it */
    unsigned part;              /* the one where it is now */
    uint64_t at;                /* the next page's offset */
    bool writes;
    bool hot;                   /* stays in the hot set */
} Walk;

/* Begin at the first page of a region whose pages are all of pass @pass */
void walk_init(Walk *walk, const VcpuConfig *vcpu, uint32_t pass);

/* From now on do what @role does */
void walk_set_role(Walk *walk, StressGuestRole role);

/* The pass that wrote the next page */
uint32_t walk_pass(const Walk *walk);

/* The next page has been visited. Returns: whether it was the last one. */
bool walk_next(Walk *walk);

#endif /* WALK_H */
