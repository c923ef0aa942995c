/*
 * Dirty throttle: when to look again
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "account.h"
#include "pace.h"

void dirty_pace_ran(DirtyPace *p, int64_t run_ns, uint64_t pages)
{
    /* At half the speed a page takes twice as long.  Beyond 10 s it is none. */
    uint64_t slower = p->ns_per_page * 2;

    p->debt_run_ns = pages || !p->debt_run_ns ?
                     DIRTY_LOOK_MIN_NS :
                     MIN(p->debt_run_ns * 2, DIRTY_DEBT_RUN_MAX_NS);
    if (slower > 1000 * DIRTY_LOOK_MAX_NS) {
        slower = 0;
    }
    if (!pages) {
        p->ns_per_page = slower;
        return;
    }
    p->ns_per_page = MAX(run_ns, 0) / pages + 1;
    if (slower) {
        p->ns_per_page = MIN(p->ns_per_page, slower);
    }
}

int64_t dirty_pace_look_ns(const DirtyPace *p, int64_t allow_pages)
{
    /* In debt it is looked at even when it has long been quiet. */
    if (!p->ns_per_page && (allow_pages >= 0 || !p->debt_run_ns)) {
        return 0;
    }
    if (allow_pages <= 0) {
        return p->debt_run_ns;
    }
    /*
     * The allowance lasts for ns_per_page * allow_pages.  The product does not
     * overflow, because it is compared with the longest look before.
     */
    if (p->ns_per_page > DIRTY_LOOK_MAX_NS / allow_pages) {
        return 0;
    }
    return MAX(p->ns_per_page * allow_pages, DIRTY_LOOK_MIN_NS);
}
