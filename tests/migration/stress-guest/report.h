/*
 * Stress guest: a line a second for each vCPU
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef REPORT_H
#define REPORT_H

#include <stdint.h>

/* The first report is due a second after @now */
void report_start(uint64_t now);

/*
 * Get on with the report, if one is due at @now. One vCPU calls this, between
 * any two of its operations.
 */
void report_step(uint64_t now);

#endif /* REPORT_H */
