/*
 * Stress guest: what a page holds
 *
 * Eight words, spread evenly from the first to the last, each made of its own
 * address (low half) and the number of the pass that wrote it (high half). So
 * a page that is lost, old, torn, or another page's shows, and the wrong value
 * tells which of these it is.
 *
 * A KVM that emulates the guest in batches loses pages from its dirty ring if a
 * batch dirties too many of them. With the loops as they are, there are more
 * than 50 instructions from one page to the next.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "layout.h"
#include "page.h"

#define NR_WORDS 8
#define WORD_STEP ((PAGE_SIZE - sizeof(uint64_t)) / (NR_WORDS - 1))

_Static_assert(WORD_STEP * (NR_WORDS - 1) == PAGE_SIZE - sizeof(uint64_t),
               "the last word ends the page");
_Static_assert(WORD_STEP % sizeof(uint64_t) == 0, "words are aligned");

static inline uint64_t word_value(uint64_t gpa, uint32_t pass)
{
    return (uint64_t)pass << 32 | gpa;
}

void page_make(uint64_t where, uint64_t page, uint32_t pass)
{
    for (unsigned i = 0; i < NR_WORDS; i++) {
        uint64_t offset = i * WORD_STEP;

        __atomic_store_n((uint64_t *)(uintptr_t)(where + offset),
                         word_value(page + offset, pass), __ATOMIC_RELAXED);
    }
}

void page_write(uint64_t page, uint32_t pass)
{
    page_make(page, page, pass);
}

bool page_check(uint64_t page, uint32_t pass, PageError *error)
{
    for (unsigned i = 0; i < NR_WORDS; i++) {
        uint64_t gpa = page + i * WORD_STEP;
        uint64_t found = __atomic_load_n((uint64_t *)(uintptr_t)gpa,
                                         __ATOMIC_RELAXED);

        if (found != word_value(gpa, pass)) {
            *error = (PageError) {
                .gpa = gpa,
                .expected = word_value(gpa, pass),
                .found = found,
            };
            return false;
        }
    }
    return true;
}
