/*
 * Dirty throttle: all that is known of one vCPU
 *
 * No function takes a lock; whoever shares a DirtyVcpu between threads holds
 * one around each call.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_DIRTY_THROTTLE_VCPU_H
#define MIGRATION_DIRTY_THROTTLE_VCPU_H

#include "account.h"
#include "pace.h"

/*
 * What a vCPU gets to dirty between two penalties, however deep in debt it is.
 * One instruction may dirty several pages before it is done: the ones that it
 * writes to, where it crosses from one to the next, and page tables.
 */
#define DIRTY_RUN_MIN_PAGES 4

/* What counts as "of late", and how long something has to last to count */
#define DIRTY_SETTLE_NS DIRTY_NS_PER_S

typedef struct DirtyVcpu {
    /* Both are charged; the one that asks for the longer penalty counts. */
    DirtyAccount limit;
    DirtyAccount share;
    DirtyPace pace;

    /* the last total reported; while there is none, the next is not charged */
    uint64_t total_pages;
    bool total_known;
    /* the latest penalty was one of the longest */
    bool penalty_longest;
    /* the ceiling of its share, 0: none */
    uint8_t ceiling_percent;
    /*
     * Reported since the last correction, and charged for that; what a page
     * reported is worth, as in estimate.h, and the part of a page that was not
     * charged yet
     */
    uint64_t reported_pages;
    uint64_t charged_pages;
    unsigned worth;
    unsigned worth_frac;
    /* charged since dirty_vcpu_init(), and the penalties for that */
    uint64_t dirtied_pages;
    uint64_t paid_ns;
    uint64_t penalties;
    /* the longest of them */
    int64_t longest_ns;
    /* when the latest penalty ended, 0: none has */
    int64_t penalised_ns;
    /* until then it has to be awake before it may sleep for longest again */
    int64_t awake_until_ns;
    /* dirtied since the last penalty ended */
    uint64_t fresh_pages;
    uint64_t ring_full_exits;

    /* slept since it last entered the guest */
    int64_t stretch_ns;
    /*
     * the present run in the guest: when it began, the pages dirtied in it, and
     * how long it had lasted when the latest of them were seen
     */
    int64_t run_from_ns;
    int64_t run_ns;
    uint64_t run_pages;
} DirtyVcpu;

void dirty_vcpu_init(DirtyVcpu *v, int64_t now_ns);

/* The vCPU is not watched from now on, or counts from 0 again. */
void dirty_vcpu_forget(DirtyVcpu *v, int64_t now_ns);

/**
 * dirty_vcpu_charge: take in what a vCPU has dirtied
 *
 * @v: the vCPU
 * @total_pages: pages dirtied since it counts; less than before counts as
 *               nothing new
 * @now_ns: the time
 *
 * Returns: the penalty to sleep for now; 0 as long as less than
 * DIRTY_RUN_MIN_PAGES were dirtied since the last one.  All penalties between
 * two times in the guest amount to DIRTY_PENALTY_MAX_NS at most.
 */
int64_t dirty_vcpu_charge(DirtyVcpu *v, uint64_t total_pages, int64_t now_ns);

/**
 * dirty_vcpu_correct: it has turned out what a vCPU has really dirtied
 *
 * @v: the vCPU
 * @pages: since the last correction, for which it was charged v->charged_pages
 * @worth: what a page reported is worth from now on
 * @now_ns: the time
 *
 * What was charged too much is taken back, so that v->dirtied_pages gets less,
 * and off the debts; a vCPU that has slept for it has slept.  What was charged
 * too little is charged now.
 */
void dirty_vcpu_correct(DirtyVcpu *v, uint64_t pages, unsigned worth,
                        int64_t now_ns);

/* What was charged is right, for all that is known. */
static inline void dirty_vcpu_accept(DirtyVcpu *v)
{
    v->reported_pages = 0;
    v->charged_pages = 0;
}

/**
 * dirty_vcpu_set_ceiling: for how much of the time it may sleep
 *
 * From now on the vCPU does not sleep for its share for more than that part of
 * any second, however deep in debt it is.  A limit has no ceiling; what is
 * slept for it at a stretch counts as one of the longest penalties at most.
 *
 * @v: the vCPU
 * @percent: the part, 1..99
 *
 * Returns: whether a vCPU may sleep longer than it need now
 */
bool dirty_vcpu_set_ceiling(DirtyVcpu *v, unsigned percent);

/* The penalty without a charge. */
int64_t dirty_vcpu_penalty_ns(DirtyVcpu *v, int64_t now_ns);

/*
 * How long a vCPU that sleeps for a penalty would have to go on for what it
 * owes now.
 */
int64_t dirty_vcpu_owed_ns(DirtyVcpu *v, int64_t now_ns);

/**
 * dirty_vcpu_resume: a vCPU has slept for its penalty, if it had any
 *
 * @v: the vCPU
 * @paid_ns: how long it has slept
 * @kicked: the sleep was cut short, the vCPU does not enter the guest
 * @now_ns: the time
 *
 * Returns: how long it may be in the guest before it should look by itself;
 * 0: it need not
 */
int64_t dirty_vcpu_resume(DirtyVcpu *v, int64_t paid_ns, bool kicked,
                          int64_t now_ns);

/**
 * dirty_vcpu_allow_pages: how much may be dirtied before the next look
 *
 * Where a vCPU can be made to leave the guest after so many pages, it needs
 * no look after some time.
 *
 * Returns: DIRTY_RUN_MIN_PAGES..INT64_MAX, which stands for no limit
 */
int64_t dirty_vcpu_allow_pages(DirtyVcpu *v, int64_t now_ns);

/* Whether anything limits the vCPU. */
static inline bool dirty_vcpu_limited(const DirtyVcpu *v)
{
    return dirty_account_limited(&v->limit) || dirty_account_limited(&v->share);
}

/* What is owed, as of the last call with a time. */
uint64_t dirty_vcpu_debt_pages(const DirtyVcpu *v);

/* By how much a count has grown, which a correction may have lowered. */
static inline uint64_t dirty_pages_since(uint64_t pages, uint64_t before)
{
    return pages > before ? pages - before : 0;
}

/**
 * dirty_vcpu_at_floor: is the vCPU as slow as it can get?
 *
 * That is so if its latest penalty, in the last DIRTY_SETTLE_NS, was one of
 * the longest; or if it was due to a limit alone, which gets no tighter.
 */
bool dirty_vcpu_at_floor(const DirtyVcpu *v, int64_t now_ns);

#endif
