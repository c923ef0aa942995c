/*
 * Stress guest: what a vCPU does
 *
 * All roles walk their region page by page and check each page they come to.
 * The reader leaves it at that; the others then write the page anew. They
 * differ by the pages that they walk over and by when the next one is due. The
 * host may change role and rate at any time.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stddef.h>

#include "balloon.h"
#include "config.h"
#include "counters.h"
#include "cpu.h"
#include "disk.h"
#include "display.h"
#include "fill.h"
#include "lapic.h"
#include "layout.h"
#include "pace.h"
#include "page.h"
#include "report.h"
#include "roles.h"
#include "walk.h"

/*
 * Check the page that is next, and write it, whoever does that in this role.
 * Returns: whether it was good; if not, @error tells why.
 */
static bool visit(const VcpuConfig *vcpu, const Walk *walk, PageError *error)
{
    uint64_t page = vcpu->start + walk->at;
    uint32_t pass = walk_pass(walk);
    bool good;

    if (vcpu->role == STRESS_GUEST_BALLOON) {
        balloon_adjust(vcpu, walk->at, pass);
        if (balloon_has(walk->at)) {
            return true;
        }
    }
    good = page_check(page, pass, error);
    if (vcpu->role == STRESS_GUEST_DISK) {
        disk_write(vcpu->start, walk->at, pass + 1);
    } else if (walk->writes) {
        page_write(page, pass + 1);
    }
    return good;
}

/*
 * The time from when the operation could begin, because it was due and the
 * one before had ended, until its end. A TSC that steps back makes no gap.
 */
static uint64_t gap(uint64_t due, uint64_t last, uint64_t now)
{
    uint64_t begin = (int64_t)(due - last) > 0 ? due : last;

    return (int64_t)(now - begin) > 0 ? now - begin : 0;
}

/* @eoi_flag is NULL at CPL 3, where no vCPU can be halted */
static inline __attribute__((noreturn, always_inline))
void run(unsigned index, bool reports, uint32_t *eoi_flag)
{
    VcpuConfig vcpu = config.vcpu[index];
    uint64_t last, now;
    Counters counters;
    Pace pace;
    Walk walk;

    fill_region(&vcpu);
    now = rdtsc();
    last = now;
    walk_init(&walk, &vcpu, FIRST_PASS);
    pace_init(&pace, &vcpu, now);
    counters_start(&counters, index, now);
    if (reports) {
        report_start(now);
    }

    for (;;) {
        PageError error;
        bool good, wrapped;

        if (counters_take_wanted(&counters)) {
            vcpu.role = counters.values.role;
            vcpu.rate = counters.values.rate;
            vcpu.on_ms = 0;
            vcpu.off_ms = 0;
            walk_set_role(&walk, vcpu.role);
            pace_init(&pace, &vcpu, now);
        }
        counters_update(&counters, now);
        if (reports) {
            report_step(now);
        }
        if (eoi_flag) {
            lapic_wait_for_timer(eoi_flag);
            now = rdtsc();
        } else if ((int64_t)(now - pace.due) < 0) {
            pause();
            now = rdtsc();
            continue;
        }

        good = visit(&vcpu, &walk, &error);
        wrapped = walk_next(&walk);
        if (wrapped && vcpu.remap) {
            display_remap();
        }

        now = rdtsc();
        counters_op(&counters, now, gap(pace.due, last, now),
                    good ? NULL : &error, wrapped);
        last = now;
        pace_next(&pace, now);
    }
}

void role_run(unsigned index, bool reports)
{
    run(index, reports, NULL);
}

void role_run_halted(unsigned index, uint32_t *eoi_flag)
{
    lapic_start_timer(TIMER_VECTOR, config.vcpu[index].rate);
    run(index, false, eoi_flag);
}
