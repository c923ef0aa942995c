/*
 * Stress guest: which page is next, and what it must hold
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "config.h"
#include "layout.h"
#include "walk.h"

/* The hot set of a vCPU that was not made for one, as large as its default */
#define HOT_PAGES 256

/* Go to where the role has to begin in the present part */
static void enter_part(Walk *walk)
{
    WalkPart *part = &walk->parts[walk->part];

    walk->at = walk->writes ? part->at : part->begin;
}

void walk_init(Walk *walk, const VcpuConfig *vcpu, uint32_t pass)
{
    uint64_t hot = HOT_PAGES * PAGE_SIZE;

    if (vcpu->role == STRESS_GUEST_HOT || hot > vcpu->size ||
        !config_role_changes(vcpu->role)) {
        hot = vcpu->size;
    }
    *walk = (Walk) {
        .parts = {
            { .end = hot, .pass = pass },
            { .begin = hot, .end = vcpu->size, .at = hot, .pass = pass },
        },
    };
    walk_set_role(walk, vcpu->role);
}

void walk_set_role(Walk *walk, StressGuestRole role)
{
    walk->writes = role != STRESS_GUEST_READER;
    walk->hot = role == STRESS_GUEST_HOT;
    if (walk->hot) {
        walk->part = 0;
    }
    enter_part(walk);
}

uint32_t walk_pass(const Walk *walk)
{
    const WalkPart *part = &walk->parts[walk->part];

    return part->pass + (walk->at < part->at);
}

bool walk_next(Walk *walk)
{
    WalkPart *part = &walk->parts[walk->part];
    bool last;

    walk->at += PAGE_SIZE;
    if (walk->writes) {
        part->at = walk->at;
    }
    if (walk->at < part->end) {
        return false;
    }
    if (walk->writes) {
        part->at = part->begin;
        part->pass++;
    }

    last = walk->part == 1 || walk->hot ||
           walk->parts[1].begin == walk->parts[1].end;
    walk->part = last ? 0 : 1;
    enter_part(walk);
    return last;
}
