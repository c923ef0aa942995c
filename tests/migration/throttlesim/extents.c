/*
 * Throttle simulator: a set of pages, as extents
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "extents.h"

void extents_init(Extents *s)
{
    s->list = g_array_new(false, false, sizeof(Extent));
    s->pages = 0;
}

void extents_free(Extents *s)
{
    g_array_free(s->list, true);
    s->list = NULL;
}

void extents_clear(Extents *s)
{
    g_array_set_size(s->list, 0);
    s->pages = 0;
}

static Extent *extents_at(const Extents *s, unsigned i)
{
    return &g_array_index(s->list, Extent, i);
}

/* The first extent that ends at @page or later; it may be the one past all */
static unsigned extents_find(const Extents *s, uint64_t page)
{
    unsigned low = 0, high = s->list->len;

    while (low < high) {
        unsigned middle = (low + high) / 2;

        if (extents_at(s, middle)->end < page) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* All that overlap or touch become one. */
static uint64_t extents_add_one(Extents *s, uint64_t begin, uint64_t end)
{
    unsigned first = extents_find(s, begin), last = first;
    Extent all = { begin, end };
    uint64_t had_pages = 0;

    if (begin >= end) {
        return 0;
    }
    for (; last < s->list->len && extents_at(s, last)->begin <= end; last++) {
        Extent *e = extents_at(s, last);

        all.begin = MIN(all.begin, e->begin);
        all.end = MAX(all.end, e->end);
        had_pages += e->end - e->begin;
    }
    if (first == last) {
        g_array_insert_val(s->list, first, all);
    } else {
        *extents_at(s, first) = all;
        if (last - first > 1) {
            g_array_remove_range(s->list, first + 1, last - first - 1);
        }
    }
    s->pages += all.end - all.begin - had_pages;
    return all.end - all.begin - had_pages;
}

uint64_t extents_add(Extents *s, uint64_t begin, uint64_t end,
                     const Extents *except)
{
    uint64_t added = 0;

    if (except) {
        for (unsigned i = extents_find(except, begin);
             i < except->list->len && extents_at(except, i)->begin < end; i++) {
            added += extents_add_one(s, begin, extents_at(except, i)->begin);
            begin = MAX(begin, extents_at(except, i)->end);
        }
    }
    return added + extents_add_one(s, begin, end);
}

uint64_t extents_add_all(Extents *s, const Extents *other)
{
    uint64_t added = 0;

    for (unsigned i = 0; i < other->list->len; i++) {
        added += extents_add_one(s, extents_at(other, i)->begin,
                                 extents_at(other, i)->end);
    }
    return added;
}

bool extents_has(const Extents *s, uint64_t page)
{
    unsigned i = extents_find(s, page + 1);

    return i < s->list->len && extents_at(s, i)->begin <= page;
}

uint64_t extents_take(Extents *s, uint64_t from, uint64_t pages,
                      uint64_t *taken)
{
    /* One that ends at @from has nothing any more. */
    unsigned first = extents_find(s, from + 1), last;

    *taken = 0;
    for (last = first; last < s->list->len && *taken < pages; last++) {
        Extent *e = extents_at(s, last);
        uint64_t begin = MAX(e->begin, from);
        uint64_t part = MIN(pages - *taken, e->end - begin);

        *taken += part;
        from = begin + part;
        if (begin > e->begin) {
            Extent before = { e->begin, begin };

            /* What lies before @from stays. */
            e->begin = from;
            g_array_insert_val(s->list, last, before);
            first++;
            last++;
            e = extents_at(s, last);
        } else {
            e->begin = from;
        }
        if (e->begin < e->end) {
            break;
        }
    }
    if (last > first) {
        g_array_remove_range(s->list, first, last - first);
    }
    s->pages -= *taken;
    return *taken < pages ? UINT64_MAX : from;
}
