/*
 * Dirty throttle: all that is known of one vCPU
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "estimate.h"
#include "vcpu.h"

/* Nobody reports more at once, and times DIRTY_WORTH_MAX it fits. */
#define REPORT_MAX_PAGES (1ULL << 46)

void dirty_vcpu_init(DirtyVcpu *v, int64_t now_ns)
{
    *v = (DirtyVcpu) { .run_from_ns = now_ns, .worth = DIRTY_WORTH_ONE };
    dirty_account_init(&v->limit, now_ns);
    dirty_account_init(&v->share, now_ns);
}

void dirty_vcpu_forget(DirtyVcpu *v, int64_t now_ns)
{
    v->total_known = false;
    v->worth = DIRTY_WORTH_ONE;
    dirty_vcpu_accept(v);
    v->stretch_ns = 0;
    v->run_pages = 0;
    v->fresh_pages = 0;
    v->penalised_ns = 0;
    /* A share belongs to a vCPU that is there. */
    dirty_account_set_rate(&v->share, DIRTY_RATE_UNLIMITED, now_ns);
}

/* What is thought to have been dirtied when so much was reported */
static uint64_t vcpu_estimate_pages(DirtyVcpu *v, uint64_t reported_pages)
{
    uint64_t part;

    if (v->worth == DIRTY_WORTH_ONE) {
        return reported_pages;
    }
    part = MIN(reported_pages, REPORT_MAX_PAGES) * v->worth + v->worth_frac;
    v->worth_frac = part % DIRTY_WORTH_ONE;
    return part / DIRTY_WORTH_ONE;
}

int64_t dirty_vcpu_charge(DirtyVcpu *v, uint64_t total_pages, int64_t now_ns)
{
    uint64_t new_pages = 0;

    if (!v->total_known) {
        v->total_known = true;
        v->total_pages = total_pages;
    } else if (total_pages > v->total_pages) {
        v->reported_pages += total_pages - v->total_pages;
        new_pages = vcpu_estimate_pages(v, total_pages - v->total_pages);
        v->charged_pages += new_pages;
        v->total_pages = total_pages;
    }

    if (new_pages) {
        v->dirtied_pages += new_pages;
        v->run_pages += new_pages;
        v->fresh_pages += new_pages;
        v->run_ns = now_ns - v->run_from_ns;
    } else if (!v->run_pages) {
        /* The run that counts starts with its first page. */
        v->run_from_ns = now_ns;
    }
    /* A debt also gets less where nothing is dirtied any more. */
    dirty_account_charge(&v->limit, new_pages, now_ns);
    dirty_account_charge(&v->share, new_pages, now_ns);
    return dirty_vcpu_penalty_ns(v, now_ns);
}

void dirty_vcpu_correct(DirtyVcpu *v, uint64_t pages, unsigned worth,
                        int64_t now_ns)
{
    uint64_t back_pages = dirty_pages_since(v->charged_pages, pages);
    uint64_t more_pages = dirty_pages_since(pages, v->charged_pages);

    v->dirtied_pages += more_pages - back_pages;
    dirty_account_charge(&v->limit, more_pages, now_ns);
    dirty_account_charge(&v->share, more_pages, now_ns);
    dirty_account_pay(&v->limit, MIN(back_pages,
                                     dirty_account_debt_pages(&v->limit)));
    dirty_account_pay(&v->share, MIN(back_pages,
                                     dirty_account_debt_pages(&v->share)));
    v->worth = worth;
    dirty_vcpu_accept(v);
}

bool dirty_vcpu_set_ceiling(DirtyVcpu *v, unsigned percent)
{
    bool lowered = percent < v->ceiling_percent;

    v->ceiling_percent = percent;
    return lowered;
}

/*
 * With a ceiling of p percent a vCPU may sleep for x = p / 100 of a second in
 * any second.  A tenth of that is the longest penalty, C, and each penalty of c
 * requires to be awake for a(c) = c * (100 - p) / (0.9 * p).  With b of that
 * still to come, a penalty of c may begin if b is no more than a(C - c).  So in
 * a second no more than a(C) of what its sleep requires is still to come at its
 * end, and with a sleep of x the rest of it was in this second:
 *
 *   x + a(x - C) = p / 100 + a(0.9 * p / 100) = p / 100 + (100 - p) / 100 = 1
 */
static int64_t vcpu_longest_ns(const DirtyVcpu *v)
{
    return v->ceiling_percent ? v->ceiling_percent * DIRTY_NS_PER_S / 1000
                              : DIRTY_PENALTY_MAX_NS;
}

static int64_t vcpu_awake_ns(const DirtyVcpu *v, int64_t penalty_ns)
{
    if (!v->ceiling_percent) {
        return 0;
    }
    return penalty_ns * (100 - v->ceiling_percent) * 10 /
           (9 * v->ceiling_percent);
}

/* What the share asks for, up to the longest penalty in all pieces */
static int64_t vcpu_share_penalty_ns(DirtyVcpu *v, int64_t now_ns)
{
    return MIN(dirty_account_penalty_ns(&v->share, now_ns),
               MAX(vcpu_longest_ns(v) - v->stretch_ns, 0));
}

/*
 * How long it has to be awake yet before it may be penalised for so long.  It
 * is never more than what the longest requires: the ceiling may have changed,
 * or the clock gone back.
 */
static int64_t vcpu_put_off_ns(DirtyVcpu *v, int64_t penalty_ns,
                               int64_t now_ns)
{
    int64_t longest_ns = vcpu_longest_ns(v);
    int64_t rest_ns = MAX(longest_ns - penalty_ns, 0);

    v->awake_until_ns = MIN(v->awake_until_ns,
                            now_ns + vcpu_awake_ns(v, longest_ns));
    return MAX(v->awake_until_ns - now_ns - vcpu_awake_ns(v, rest_ns), 0);
}

int64_t dirty_vcpu_owed_ns(DirtyVcpu *v, int64_t now_ns)
{
    return MIN(MAX(dirty_account_penalty_ns(&v->limit, now_ns),
                   vcpu_share_penalty_ns(v, now_ns)),
               DIRTY_PENALTY_MAX_NS - v->stretch_ns);
}

int64_t dirty_vcpu_penalty_ns(DirtyVcpu *v, int64_t now_ns)
{
    int64_t limit_ns, share_ns;

    /*
     * A vCPU gets to dirty some pages between two penalties, whatever it owes.
     * If it has not done so since the last one, the host may not have let it
     * run yet, or it does not write any more.
     */
    if (v->fresh_pages < DIRTY_RUN_MIN_PAGES && !v->stretch_ns) {
        return 0;
    }
    limit_ns = dirty_account_penalty_ns(&v->limit, now_ns);
    share_ns = vcpu_share_penalty_ns(v, now_ns);
    if (vcpu_put_off_ns(v, share_ns, now_ns)) {
        share_ns = 0;
    }
    return MIN(MAX(limit_ns, share_ns), DIRTY_PENALTY_MAX_NS - v->stretch_ns);
}

/* What the limit allows, up to a debt that is worth a penalty */
static int64_t vcpu_limit_allowance(DirtyVcpu *v, int64_t now_ns)
{
    return dirty_account_limited(&v->limit) ?
           dirty_account_allowance(&v->limit, DIRTY_PENALTY_AIM_NS, now_ns) :
           INT64_MAX;
}

/* What both accounts allow */
static int64_t vcpu_allowance(DirtyVcpu *v, int64_t now_ns)
{
    int64_t allow_pages = vcpu_limit_allowance(v, now_ns);

    if (dirty_account_limited(&v->share)) {
        allow_pages = MIN(allow_pages,
                          dirty_account_allowance(&v->share,
                                                  DIRTY_PENALTY_AIM_NS,
                                                  now_ns));
    }
    return allow_pages;
}

/* For how long a penalty for the share is put off */
static int64_t vcpu_kept_awake_ns(DirtyVcpu *v, int64_t now_ns)
{
    return vcpu_put_off_ns(v, vcpu_share_penalty_ns(v, now_ns), now_ns);
}

int64_t dirty_vcpu_allow_pages(DirtyVcpu *v, int64_t now_ns)
{
    int64_t allow_pages = vcpu_allowance(v, now_ns), kept_pages;

    if (allow_pages < DIRTY_RUN_MIN_PAGES && v->pace.ns_per_page) {
        kept_pages = vcpu_kept_awake_ns(v, now_ns) / v->pace.ns_per_page;
        allow_pages = MIN(vcpu_limit_allowance(v, now_ns), kept_pages);
    }
    return MAX(allow_pages, DIRTY_RUN_MIN_PAGES);
}

/* When to look, unless the share asks for it: it is put off. */
static int64_t vcpu_kept_awake_look_ns(DirtyVcpu *v, int64_t now_ns)
{
    int64_t kept_ns = MIN(vcpu_kept_awake_ns(v, now_ns), DIRTY_LOOK_MAX_NS);
    int64_t limit_ns = 0;

    if (dirty_account_limited(&v->limit)) {
        limit_ns = dirty_pace_look_ns(&v->pace,
                                      vcpu_limit_allowance(v, now_ns));
    }
    return limit_ns ? MIN(kept_ns, limit_ns) : kept_ns;
}

/*
 * It has slept for so long until now, which requires it to be awake.  More than
 * what the longest penalty requires is not asked for; see vcpu_put_off_ns().
 */
static void vcpu_slept(DirtyVcpu *v, int64_t paid_ns, int64_t now_ns)
{
    v->paid_ns += paid_ns;
    v->awake_until_ns = MAX(v->awake_until_ns, now_ns - paid_ns) + paid_ns +
                        vcpu_awake_ns(v, MIN(paid_ns, DIRTY_PENALTY_MAX_NS));
}

int64_t dirty_vcpu_resume(DirtyVcpu *v, int64_t paid_ns, bool kicked,
                          int64_t now_ns)
{
    int64_t look_ns;

    vcpu_slept(v, paid_ns, now_ns);
    if (kicked) {
        v->stretch_ns = MIN(v->stretch_ns + paid_ns, DIRTY_PENALTY_MAX_NS);
        return 0;
    }
    if (paid_ns || v->stretch_ns) {
        v->penalties++;
        v->longest_ns = MAX(v->longest_ns, v->stretch_ns + paid_ns);
        v->penalised_ns = now_ns;
        /*
         * Kicks cut a penalty in pieces; all of them together are one.  The
         * longest one may end early, because the pool pays meanwhile.
         */
        v->penalty_longest = v->stretch_ns + paid_ns >=
                             vcpu_longest_ns(v) / 4 * 3;
        v->fresh_pages = 0;
    }
    v->stretch_ns = 0;
    if (!dirty_vcpu_limited(v)) {
        return 0;
    }

    dirty_pace_ran(&v->pace, v->run_ns, v->run_pages);
    v->run_from_ns = now_ns;
    v->run_pages = 0;
    look_ns = dirty_pace_look_ns(&v->pace, vcpu_allowance(v, now_ns));
    if (!look_ns) {
        return 0;
    }
    return MAX(look_ns, vcpu_kept_awake_look_ns(v, now_ns));
}

uint64_t dirty_vcpu_debt_pages(const DirtyVcpu *v)
{
    return MAX(dirty_account_debt_pages(&v->limit),
               dirty_account_debt_pages(&v->share));
}

/*
 * Only the length of penalties tells.  The time between them does not, because
 * on a busy host the vCPU does not run for all of it.
 */
bool dirty_vcpu_at_floor(const DirtyVcpu *v, int64_t now_ns)
{
    return v->penalised_ns && now_ns - v->penalised_ns < DIRTY_SETTLE_NS &&
           (v->penalty_longest || !dirty_account_limited(&v->share));
}
