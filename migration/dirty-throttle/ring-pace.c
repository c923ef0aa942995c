/*
 * Dirty throttle: when a dirty ring has to be harvested
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "account.h"
#include "ring-pace.h"

/*
 * A shorter span says little about the rate: a vCPU fills its ring in bursts
 * of what it writes between two exits.
 */
#define RING_SPAN_MIN_NS 1000000LL

/*
 * How slowly a rate is forgotten: by a factor of e in this time.  After a
 * pause of two seconds more than three quarters of it are remembered (e^-1/4
 * is 0.78), so the look at which the ring was to be three quarters full comes
 * before it is full, whenever the writer goes on.
 */
#define RING_MEMORY_NS 8000000000LL

/*
 * How often a harvest is put off.  Each time may cost a full ring, which is
 * little in such a time.
 */
#define RING_PUT_OFF_NS 8000000000LL

/*
 * KVM calls a ring full when so many entries are free, for a vCPU may dirty
 * some more pages before it leaves the guest: 64, and 512 if the processor
 * logs pages by itself.
 */
#define RING_RESERVED_PAGES (64 + 512)

/*
 * A ring that is more than a sixteenth above where it rested does not rest any
 * more: its vCPU writes to something new.
 */
static bool ring_pace_rests(const DirtyRingPace *p, uint32_t fill)
{
    return p->rest_pages && fill <= p->rest_pages + p->rest_pages / 16;
}

void dirty_ring_pace_look(DirtyRingPace *p, uint64_t entries, uint32_t fill,
                          int64_t now_ns)
{
    int64_t took_ns = now_ns - p->looked_ns;
    uint64_t pps = 0;

    if (p->looked_ns && took_ns < RING_SPAN_MIN_NS) {
        return;
    }
    if (p->looked_ns) {
        if (entries > p->entries) {
            pps = dirty_pages_rate_pps(entries - p->entries, took_ns);
        } else if (p->put_off_ns == p->looked_ns) {
            p->rest_pages = fill;
        }
        /* Microseconds: below 2^23, times a rate of up to 2^40 */
        p->peak_pps -= p->peak_pps * (MIN(took_ns, RING_MEMORY_NS) / 1000) /
                       (RING_MEMORY_NS / 1000);
        p->peak_pps = MAX(p->peak_pps, pps);
    }
    if (!ring_pace_rests(p, fill)) {
        p->rest_pages = 0;
    }
    p->looked_ns = now_ns;
    p->entries = MAX(entries, p->entries);
}

void dirty_ring_pace_full(DirtyRingPace *p, uint32_t fill, uint32_t ring_pages,
                          int64_t now_ns)
{
    /* Not all of a ring can be reserved: a quarter of it is left at least. */
    uint32_t reserved = MIN(RING_RESERVED_PAGES, ring_pages / 4 * 3);

    p->rest_pages = 0;
    p->put_off_ns = now_ns;
    /*
     * The lowest fill counts, as pages that the processor has logged may be in
     * the ring already, or not yet.  With fewer entries than KVM ever calls
     * full, somebody has harvested meanwhile.
     */
    if (fill >= ring_pages - reserved) {
        p->full_pages = p->full_pages ? MIN(p->full_pages, fill) : fill;
    }
}

uint32_t dirty_ring_pace_room(const DirtyRingPace *p, uint32_t ring_pages)
{
    return p->full_pages ? MIN(p->full_pages, ring_pages) : ring_pages;
}

/*
 * How long until a ring is three quarters full.  The quarter that is left is
 * for looks that come late on a busy host.
 *
 * fill < 2^32, so the product is below 2^62.
 */
static int64_t ring_pace_lasts_ns(const DirtyRingPace *p, uint32_t fill,
                                  uint32_t ring_pages)
{
    uint32_t room = dirty_ring_pace_room(p, ring_pages);
    uint32_t threshold = room - room / 4;

    if (fill >= threshold) {
        return 0;
    }
    return p->peak_pps ? (threshold - fill) * 1000000000LL / p->peak_pps
                       : DIRTY_REAP_MAX_NS;
}

bool dirty_ring_pace_due(DirtyRingPace *p, uint32_t fill, uint32_t ring_pages,
                         int64_t age_ns)
{
    int64_t lasts_ns = ring_pace_lasts_ns(p, fill, ring_pages);

    if (!fill) {
        return false;
    }
    if (age_ns >= DIRTY_REAP_MAX_NS || !lasts_ns) {
        return true;
    }
    /*
     * Below a quarter it is not worth it.  A ring that lasts for twice
     * DIRTY_REAP_MIN_NS gets no more than three quarters full until the next
     * look.  One that fills faster will be full at times anyway.
     */
    if (fill < dirty_ring_pace_room(p, ring_pages) / 4 ||
        lasts_ns >= DIRTY_REAP_MIN_NS || ring_pace_rests(p, fill)) {
        return false;
    }
    if (!p->put_off_ns || p->looked_ns - p->put_off_ns >= RING_PUT_OFF_NS) {
        p->put_off_ns = p->looked_ns;
        return false;
    }
    return true;
}

int64_t dirty_ring_pace_next_ns(const DirtyRingPace *p, uint32_t fill,
                                uint32_t ring_pages, int64_t age_ns)
{
    int64_t lasts_ns = ring_pace_lasts_ns(p, fill, ring_pages);
    /* An empty ring does not get old. */
    int64_t rest_ns = DIRTY_REAP_MAX_NS - (fill ? MAX(age_ns, 0) : 0);

    return MAX(DIRTY_REAP_MIN_NS, MIN(lasts_ns, rest_ns));
}
