/*
 * Stress guest: what a page holds
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef PAGE_H
#define PAGE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct PageError {
    uint64_t gpa;
    uint64_t expected;
    uint64_t found;
} PageError;

/* Write the words that tell @page and @pass to @where, another page */
void page_make(uint64_t where, uint64_t page, uint32_t pass);

/* The same, to where they belong */
void page_write(uint64_t page, uint32_t pass);

/* Are they there? If not, @error gets the first wrong one. */
bool page_check(uint64_t page, uint32_t pass, PageError *error);

#endif /* PAGE_H */
