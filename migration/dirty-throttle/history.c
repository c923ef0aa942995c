/*
 * Dirty throttle: what a vCPU has done of late, for who asks
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "history.h"
#include "vcpu.h"

void dirty_history_note(DirtyHistory *h, uint64_t dirtied_pages,
                        uint64_t paid_ns, int64_t now_ns)
{
    h->counters[h->next] = (DirtyCounters) {
        .time_ns = now_ns,
        .dirtied_pages = dirtied_pages,
        .paid_ns = paid_ns,
    };
    h->next = (h->next + 1) % DIRTY_HISTORY_LENGTH;
}

DirtyCounters dirty_history_recent(const DirtyHistory *h)
{
    const DirtyCounters *last, *first;

    last = &h->counters[(h->next + DIRTY_HISTORY_LENGTH - 1) %
                        DIRTY_HISTORY_LENGTH];
    first = last;
    for (unsigned n = 0; n < DIRTY_HISTORY_LENGTH; n++) {
        first = &h->counters[(h->next + n) % DIRTY_HISTORY_LENGTH];
        if (first->time_ns) {
            break;
        }
    }
    return (DirtyCounters) {
        .time_ns = last->time_ns - first->time_ns,
        .dirtied_pages = dirty_pages_since(last->dirtied_pages,
                                           first->dirtied_pages),
        .paid_ns = last->paid_ns - first->paid_ns,
    };
}

uint64_t dirty_history_rate_pps(const DirtyHistory *h)
{
    DirtyCounters recent = dirty_history_recent(h);

    return dirty_pages_rate_pps(recent.dirtied_pages, recent.time_ns);
}
