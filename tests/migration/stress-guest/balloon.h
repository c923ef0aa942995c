/*
 * Stress guest: a balloon, with which the host takes memory away
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BALLOON_H
#define BALLOON_H

#include <stdint.h>

#include "config.h"

/* vCPU 0: switch it on. Stops the guest if there is none. */
void balloon_init(void);

/*
 * Now and then, give pages of the region to the host, or take pages back, if
 * the host wants that: the first ones of the region, all but one of them at
 * most. Return where a vCPU may go on that would go on at @at, in bytes from
 * the region's start: there, or at the first page that is not given away.
 *
 * Pages that are taken back are written like those before and behind @at, where
 * pass @pass + 1 and @pass are. One vCPU only may call this, for one page after
 * another.
 */
uint64_t balloon_adjust(const VcpuConfig *vcpu, uint64_t at, uint32_t pass);

#endif /* BALLOON_H */
