/*
 * Stress guest: a balloon, with which the host takes memory away
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BALLOON_H
#define BALLOON_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"

/* vCPU 0: switch it on. Stops the guest if there is none. */
void balloon_init(void);

/* Whether the host has the page at @at, in bytes from the region's start */
bool balloon_has(uint64_t at);

/*
 * Now and then, give pages of the region to the host, or take pages back, if
 * the host wants that: the first ones of the region, all but one of them at
 * most. Those that are taken back are written as if they had never been away
 * from a vCPU that has just come to @at, behind pass @pass + 1 and before pass
 * @pass. To be called by one vCPU only, for one page after another.
 */
void balloon_adjust(const VcpuConfig *vcpu, uint64_t at, uint32_t pass);

#endif /* BALLOON_H */
