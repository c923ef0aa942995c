/*
 * Throttle simulator: memory, and which of it is dirty
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <math.h>
#include "memory.h"

static void memory_area_free(gpointer data)
{
    MemoryArea *area = data;

    for (unsigned i = 0; i < area->nr_parts; i++) {
        extents_free(&area->parts[i].to_send);
        extents_free(&area->parts[i].dirty);
    }
    g_free(area->parts);
    g_free(area);
}

void memory_init(Memory *m, bool ring)
{
    *m = (Memory) {
        .areas = g_ptr_array_new_with_free_func(memory_area_free),
        .ring = ring,
    };
}

void memory_free(Memory *m)
{
    g_ptr_array_free(m->areas, true);
    g_free(m->cleared);
}

MemoryArea *memory_add(Memory *m, uint64_t pages, bool random)
{
    MemoryArea *area = g_new0(MemoryArea, 1);
    uint64_t left = pages;

    area->pages = pages;
    area->random = random;
    area->nr_parts = CLAMP(pages / MEMORY_CHUNK_PAGES, 1, MEMORY_MAX_PARTS);
    area->parts = g_new0(MemoryPart, area->nr_parts);
    for (unsigned i = 0; i < area->nr_parts; i++) {
        MemoryPart *part = &area->parts[i];

        extents_init(&part->to_send);
        extents_init(&part->dirty);
        part->pages = left / (area->nr_parts - i);
        part->chunk = (m->pages + pages - left) / MEMORY_CHUNK_PAGES;
        left -= part->pages;
    }
    g_ptr_array_add(m->areas, area);
    m->pages += pages;
    return area;
}

static MemoryArea *memory_area(const Memory *m, unsigned i)
{
    return g_ptr_array_index(m->areas, i);
}

static uint64_t memory_chunks(const Memory *m)
{
    return m->pages / MEMORY_CHUNK_PAGES + 1;
}

void memory_begin(Memory *m)
{
    for (unsigned i = 0; i < m->areas->len; i++) {
        MemoryArea *area = memory_area(m, i);

        for (unsigned n = 0; n < area->nr_parts; n++) {
            MemoryPart *part = &area->parts[n];

            extents_clear(&part->dirty);
            part->nr_dirty = part->nr_both = 0;
            part->nr_to_send = part->pages;
            if (!area->random) {
                extents_add(&part->to_send, 0, part->pages, NULL);
            }
        }
    }
    m->cleared = g_new0(bool, memory_chunks(m));
    m->nr_zero = m->zero_pages;
    m->nr_to_send = m->pages + m->nr_zero;
    m->area = m->part = 0;
    m->page = 0;
    m->at_zeros = false;
}

/* Until its log is cleared, what is to be sent is dirty in there anyway. */
static bool memory_part_is_logged(const Memory *m, const MemoryPart *part)
{
    return m->ring || m->cleared[part->chunk];
}

/*
 * Where all that are to be sent are dirty anyway, the others are the clean
 * ones; else those that are to be sent get dirty like any others.
 */
static double memory_clean_pages(const Memory *m, const MemoryPart *part)
{
    double dirty = part->nr_dirty;

    if (!memory_part_is_logged(m, part)) {
        dirty += part->nr_to_send - part->nr_both;
    }
    return MAX(part->pages - dirty, 0);
}

/*
 * Each write goes to any of n pages, so that c clean ones become
 * c * exp(-writes / n).
 */
static double memory_write_random(const Memory *m, MemoryPart *part,
                                  double writes)
{
    double stays = exp(-writes / part->pages);
    double clean = memory_clean_pages(m, part), added = clean * (1 - stays);

    if (memory_part_is_logged(m, part) && clean > 0) {
        part->nr_both += added * (part->nr_to_send - part->nr_both) / clean;
    }
    part->nr_dirty += added;
    return added;
}

static double memory_write_sweep(const Memory *m, MemoryPart *part,
                                 uint64_t begin, uint64_t end)
{
    return extents_add(&part->dirty, begin, end,
                       memory_part_is_logged(m, part) ? NULL : &part->to_send);
}

double memory_write(Memory *m, MemoryArea *area, uint64_t *at, uint64_t span,
                    uint64_t writes)
{
    double added = 0;
    uint64_t begin = 0;

    if (area->random) {
        for (unsigned i = 0; i < area->nr_parts; i++) {
            MemoryPart *part = &area->parts[i];

            added += memory_write_random(m, part, (double)writes *
                                                  part->pages / area->pages);
        }
        return added;
    }
    /* A sweep longer than all pages has been to each of them. */
    if (writes > span) {
        *at = (*at + writes) % span;
        writes = span;
    }
    while (writes) {
        for (unsigned i = 0; i < area->nr_parts && writes; i++) {
            MemoryPart *part = &area->parts[i];
            uint64_t end = MIN(begin + part->pages, span);

            if (*at >= begin && *at < end) {
                uint64_t nr = MIN(writes, end - *at);

                added += memory_write_sweep(m, part, *at - begin,
                                            *at - begin + nr);
                *at += nr;
                writes -= nr;
            }
            begin = end;
        }
        begin = 0;
        *at %= span;
    }
    return added;
}

double memory_next_is_logged(const Memory *m, const MemoryArea *area,
                             uint64_t at)
{
    double clean = 0;
    unsigned i;

    if (area->random) {
        for (i = 0; i < area->nr_parts; i++) {
            clean += memory_clean_pages(m, &area->parts[i]);
        }
        return clean / area->pages;
    }
    for (i = 0; at >= area->parts[i].pages; i++) {
        at -= area->parts[i].pages;
    }
    return !extents_has(&area->parts[i].dirty, at) &&
           (memory_part_is_logged(m, &area->parts[i]) ||
            !extents_has(&area->parts[i].to_send, at));
}

double memory_distinct(const MemoryArea *area, double writes)
{
    if (area->random) {
        return area->pages * (1 - exp(-writes / area->pages));
    }
    return MIN(writes, area->pages);
}

/* From where the sender stands.  Returns: pages sent */
static double memory_send_part(Memory *m, const MemoryArea *area,
                               MemoryPart *part, double pages)
{
    uint64_t taken;
    double sent;

    if (area->random) {
        sent = MIN(pages, part->nr_to_send);
        if (part->nr_to_send > 0) {
            m->cleared[part->chunk] = true;
            part->nr_both -= part->nr_both * sent / part->nr_to_send;
        }
        part->nr_to_send -= sent;
        return sent;
    }
    m->cleared[part->chunk] |= part->to_send.pages != 0;
    m->page = extents_take(&part->to_send, m->page, pages, &taken);
    part->nr_to_send = part->to_send.pages;
    return taken;
}

double memory_send(Memory *m, double pages)
{
    /* Once around, and the rest of the part where it began */
    unsigned visits = 1;
    double sent = 0, left = m->nr_to_send - m->nr_zero;

    /* Zero pages may be all that is left. */
    m->at_zeros |= left < 0.5 && m->nr_zero > 0;
    for (unsigned i = 0; i < m->areas->len; i++) {
        visits += memory_area(m, i)->nr_parts;
    }
    /* Less than a page is what doubles have lost, or is sent next time. */
    while (visits && !m->at_zeros && pages - sent >= 1 && left - sent >= 0.5) {
        MemoryArea *area = memory_area(m, m->area);
        MemoryPart *part = &area->parts[m->part];

        sent += memory_send_part(m, area, part, pages - sent);
        if (pages - sent < 1 && m->page != UINT64_MAX) {
            break;
        }
        visits--;
        m->page = 0;
        if (++m->part == area->nr_parts) {
            m->part = 0;
            m->area = (m->area + 1) % m->areas->len;
            m->at_zeros = !m->area && m->nr_zero;
        }
    }
    m->nr_to_send -= sent;
    return sent;
}

double memory_skip_zeros(Memory *m, double pages)
{
    double skipped = m->at_zeros ? MIN(pages, m->nr_zero) : 0;

    m->nr_zero -= skipped;
    m->nr_to_send -= skipped;
    m->at_zeros &= m->nr_zero > 0;
    return skipped;
}

double memory_sync(Memory *m)
{
    double found = 0;

    m->nr_to_send = m->nr_zero;
    memset(m->cleared, 0, memory_chunks(m) * sizeof(bool));
    for (unsigned i = 0; i < m->areas->len; i++) {
        MemoryArea *area = memory_area(m, i);

        for (unsigned n = 0; n < area->nr_parts; n++) {
            MemoryPart *part = &area->parts[n];

            if (area->random) {
                found += part->nr_dirty - part->nr_both;
                part->nr_to_send += part->nr_dirty - part->nr_both;
            } else {
                found += extents_add_all(&part->to_send, &part->dirty);
                part->nr_to_send = part->to_send.pages;
                extents_clear(&part->dirty);
            }
            part->nr_dirty = part->nr_both = 0;
            m->nr_to_send += part->nr_to_send;
        }
    }
    return found;
}
