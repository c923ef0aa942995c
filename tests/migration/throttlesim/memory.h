/*
 * Throttle simulator: memory, and which of it is dirty
 *
 * Memory consists of areas, one after the other.  Pages of an area that is
 * swept over are known one by one, as extents.  Of one that is written to at
 * random it is enough to know how many pages are dirty: which ones they are is
 * as random as the next write.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef THROTTLE_SIM_MEMORY_H
#define THROTTLE_SIM_MEMORY_H

#include "extents.h"

/*
 * QEMU clears a page's log just before it sends the page, for a chunk of a GiB
 * at a time, unless there is a dirty ring: that logs a page again as soon as it
 * was harvested.
 */
#define MEMORY_CHUNK_PAGES (1ULL << 18)

/* Of larger areas so many parts are cleared, which are larger than chunks. */
#define MEMORY_MAX_PARTS 16

typedef struct MemoryPart {
    uint64_t pages;
    /* it lies in, or begins in, this chunk of memory */
    uint64_t chunk;
    /* swept over: what is to be sent, and what is dirty in the log */
    Extents to_send;
    Extents dirty;
    /* at random: how many pages that are, and how many of them are both */
    double nr_to_send;
    double nr_dirty;
    double nr_both;
} MemoryPart;

typedef struct MemoryArea {
    uint64_t pages;
    bool random;
    unsigned nr_parts;
    MemoryPart *parts;
} MemoryArea;

typedef struct Memory {
    /* of MemoryArea * */
    GPtrArray *areas;
    /* there is a dirty ring */
    bool ring;
    uint64_t pages;
    double nr_to_send;
    /* never written, and behind all others; how many are to be sent */
    uint64_t zero_pages;
    double nr_zero;
    /* of each chunk: its log was cleared since the last sync */
    bool *cleared;
    /* where the sender goes on */
    unsigned area;
    unsigned part;
    uint64_t page;
    /* it has come to zero pages */
    bool at_zeros;
} Memory;

void memory_init(Memory *m, bool ring);
void memory_free(Memory *m);

/* Returns: a new area behind all others, clean, which @m owns */
MemoryArea *memory_add(Memory *m, uint64_t pages, bool random);

/* All is to be sent, nothing is dirty: a migration begins. */
void memory_begin(Memory *m);

/**
 * memory_write: pages are written to
 *
 * @at: where a sweep stands, which goes on from there
 * @span: and begins anew after so many pages, at most @area->pages
 * @writes: how many; each to the next page, or to any
 *
 * Returns: how many pages got dirty in the log that were not
 */
double memory_write(Memory *m, MemoryArea *area, uint64_t *at, uint64_t span,
                    uint64_t writes);

/* How likely the next write, of a sweep to page @at, makes a page dirty */
double memory_next_is_logged(const Memory *m, const MemoryArea *area,
                             uint64_t at);

/* Of so many writes, to how many different pages do they go? */
double memory_distinct(const MemoryArea *area, double writes);

/**
 * memory_send: pages are sent, in the order of memory
 *
 * Returns: how many; fewer than @pages if no more are to be sent
 */
double memory_send(Memory *m, double pages);

/*
 * Zero pages are looked at, if the sender has come to them.  Returns: how many;
 * @pages at most
 */
double memory_skip_zeros(Memory *m, double pages);

/*
 * What is dirty is to be sent now.  Returns: how many pages were not to be sent
 * before
 */
double memory_sync(Memory *m);

#endif
