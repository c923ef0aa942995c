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
    dirty_vcpu_keep(v);
    v->stretch_ns = 0;
    v->run_pages = 0;
    v->fresh_pages = 0;
    v->awake_pages = 0;
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
    dirty_vcpu_keep(v);
}

/*
 * The longest penalty is followed by a run of r, so that it takes the part p of
 * the time: r = penalty * (1 - p) / p.
 */
void dirty_vcpu_keep_awake(DirtyVcpu *v, uint64_t full_pps,
                           unsigned max_percent)
{
    int64_t run_ns = DIRTY_PENALTY_MAX_NS * (100 - max_percent) / max_percent;

    v->awake_pages = dirty_rate_pages(full_pps, run_ns);
}

int64_t dirty_vcpu_penalty_ns(DirtyVcpu *v, int64_t now_ns)
{
    /*
     * A vCPU gets to dirty some pages between two penalties, whatever it owes.
     * If it has not done so since the last one, the host may not have let it
     * run yet, or it does not write any more.
     */
    if (v->fresh_pages < MAX(v->awake_pages, DIRTY_RUN_MIN_PAGES) &&
        !v->stretch_ns) {
        return 0;
    }
    return MIN(MAX(dirty_account_penalty_ns(&v->limit, now_ns),
                   dirty_account_penalty_ns(&v->share, now_ns)),
               DIRTY_PENALTY_MAX_NS - v->stretch_ns);
}

/* What both accounts allow, up to a debt that is worth a penalty. */
static int64_t vcpu_allowance(DirtyVcpu *v, int64_t now_ns)
{
    int64_t allow_pages = INT64_MAX;

    if (dirty_account_limited(&v->limit)) {
        allow_pages = dirty_account_allowance(&v->limit, DIRTY_PENALTY_AIM_NS,
                                              now_ns);
    }
    if (dirty_account_limited(&v->share)) {
        allow_pages = MIN(allow_pages,
                          dirty_account_allowance(&v->share,
                                                  DIRTY_PENALTY_AIM_NS,
                                                  now_ns));
    }
    return allow_pages;
}

int64_t dirty_vcpu_allow_pages(DirtyVcpu *v, int64_t now_ns)
{
    return MAX(vcpu_allowance(v, now_ns), DIRTY_RUN_MIN_PAGES);
}

int64_t dirty_vcpu_resume(DirtyVcpu *v, int64_t paid_ns, bool kicked,
                          int64_t now_ns)
{
    int64_t allow_pages;

    v->paid_ns += paid_ns;
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
                             DIRTY_PENALTY_MAX_NS / 4 * 3;
        v->fresh_pages = 0;
    }
    v->stretch_ns = 0;
    if (!dirty_vcpu_limited(v)) {
        return 0;
    }

    dirty_pace_ran(&v->pace, v->run_ns, v->run_pages);
    v->run_from_ns = now_ns;
    v->run_pages = 0;
    allow_pages = vcpu_allowance(v, now_ns);
    if (v->fresh_pages < v->awake_pages) {
        int64_t awake_pages = v->awake_pages - v->fresh_pages;

        allow_pages = MAX(allow_pages, awake_pages);
    }
    return dirty_pace_look_ns(&v->pace, allow_pages);
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
