/*
 * Stress guest: what is in a region at first
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef FILL_H
#define FILL_H

#include "config.h"

/* The pass that fills a region */
#define FIRST_PASS 1

/* Write all pages of a vCPU's region */
void fill_region(const VcpuConfig *vcpu);

#endif /* FILL_H */
