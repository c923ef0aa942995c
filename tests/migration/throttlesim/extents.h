/*
 * Throttle simulator: a set of pages, as extents
 *
 * A writer that sweeps over its memory makes long runs of pages dirty, so a
 * set of them costs a few bytes for each run, not a bit for each page.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef THROTTLE_SIM_EXTENTS_H
#define THROTTLE_SIM_EXTENTS_H

/* Pages begin..end - 1 */
typedef struct Extent {
    uint64_t begin;
    uint64_t end;
} Extent;

typedef struct Extents {
    /* of Extent, in order; no two of them touch */
    GArray *list;
    uint64_t pages;
} Extents;

void extents_init(Extents *s);
void extents_free(Extents *s);
void extents_clear(Extents *s);

/**
 * extents_add: pages get into the set
 *
 * @begin, @end: pages @begin..@end - 1
 * @except: pages that are left out; NULL: none
 *
 * Returns: how many were not in the set before
 */
uint64_t extents_add(Extents *s, uint64_t begin, uint64_t end,
                     const Extents *except);

/* Add all pages of another set.  Returns: how many were not in the set */
uint64_t extents_add_all(Extents *s, const Extents *other);

bool extents_has(const Extents *s, uint64_t page);

/**
 * extents_take: take the next pages out of the set, in order
 *
 * @from: the first page that may be taken
 * @pages: how many, at most
 * @taken: how many there were
 *
 * Returns: the page after the last one taken, from which to go on; UINT64_MAX
 * if the set has no more from @from on
 */
uint64_t extents_take(Extents *s, uint64_t from, uint64_t pages,
                      uint64_t *taken);

#endif
