/*
 * Stress guest: what is in a region at first
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "fill.h"
#include "layout.h"
#include "page.h"

/* No page may stay a zero page: migration would not have to send it */
void fill_region(const VcpuConfig *vcpu)
{
    for (uint64_t at = 0; at < vcpu->size; at += PAGE_SIZE) {
        page_write(vcpu->start + at, FIRST_PASS);
    }
}
