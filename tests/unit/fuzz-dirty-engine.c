/*
 * Dirty throttle: the engine, driven by bytes
 *
 * The bytes say what happens: calls as migration/dirty-throttle.c makes them,
 * in any order, with any figures, on any clock.  Some things must hold
 * whatever they say, and are looked at after each call.  In the end guest,
 * link and clock become benign, and the engine has to find that out.
 *
 * Built with -DLIBFUZZER the bytes come from libFuzzer.  Otherwise the program
 * is a unit test with random bytes from fixed seeds, or takes the bytes from
 * the files that it is given, such as the one that libFuzzer leaves behind.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/dirty-throttle/engine.h"
#include "migration/dirty-throttle/estimate.h"
#include "migration/dirty-throttle/history.h"
#include "migration/dirty-throttle/pool.h"
#include "migration/dirty-throttle/ring-pace.h"
#include "migration/dirty-throttle/vcpu.h"

#define MS 1000000LL
#define S (1000 * MS)

/* What a double may have lost of 2^53 pages is less. */
#define ROUNDING (1 + 1 / 1e9)

#define VCPUS 4
#define SWITCHOVER_PAGES 7500

/* 73 years; no clock gets there, and no sum of two times overflows */
#define CLOCK_MAX_NS (1LL << 61)

/* What the benign tail's link carries, and what there is to send */
#define TAIL_LINK_PPS 25000
#define TAIL_PAGES 1000000
/*
 * Two iterations until the engine knows devices again, two until throttling
 * that is free of charge is given up, and one more.
 */
#define TAIL_NS (10 * S)
#define TAIL_ITERATION_NS (2 * S)
#define TAIL_STEP_NS (100 * MS)

/* The bytes that are left to read; after the last one only zeroes come */
typedef struct Bytes {
    const uint8_t *data;
    size_t size;
} Bytes;

/* What happened to an account since it was limited */
typedef struct Tally {
    int64_t since_ns;
    uint64_t max_pps;
    int64_t charged_pages;
    int64_t pool_paid_pages;
} Tally;

typedef struct Vcpu {
    DirtyVcpu v;
    DirtyHistory history;
    Tally limit;
    Tally share;
    /* as its accelerator counts them */
    uint64_t total_pages;
    /* what it dirties while it runs */
    uint64_t guest_pps;
    /* the penalty that it sleeps for, 0: it runs; and how much of it is over */
    int64_t penalty_ns;
    int64_t slept_ns;
    /* slept in penalties that were cut short, since it was in the guest */
    int64_t stretch_ns;

    DirtyRingPace ring;
    uint64_t entries;
    uint32_t fill;
    int64_t harvested_ns;
} Vcpu;

typedef struct Fuzz {
    Bytes bytes;
    /* figures and clocks that no machine has */
    bool absurd;
    int64_t now_ns;
    /* the latest that it ever was */
    int64_t latest_ns;

    Vcpu vcpus[VCPUS];
    uint32_t ring_pages;
    DirtyEngine engine;
    DirtyPool pool;
    unsigned rounds;
    int64_t noted_ns;

    /* what the operator set; the means are those of the next migration */
    DirtyMeans means;
    DirtyAim aim;
    int64_t interval_ns;
    unsigned ceiling_percent;
    DirtyDecision decision;
    bool says_at_floor;
    /* auto-converge acts when it may */
    bool converges;

    /* the migration */
    uint64_t link_pps;
    uint64_t device_pps;
    uint64_t iteration;
    uint64_t remaining_pages;
    uint64_t dirtied_pages;
    /* by vCPUs until the latest sync, which found all of that */
    uint64_t synced_pages;
    uint64_t sent_pages;
    int64_t window;

    /* all shares together since there are some */
    uint64_t shared_pps;
    double granted_pages;
    int64_t charged_pages;
} Fuzz;

/* What was seen in all runs: a generator that misses it tests little. */
static struct {
    bool phase[DIRTY_PHASE_CANNOT_HELP + 1];
    bool reason[DIRTY_REASON_CEILING + 1];
    bool pool_paid;
    bool stretched;
    bool ring_due;
    bool alike;
} seen;

static uint8_t take(Bytes *b)
{
    if (!b->size) {
        return 0;
    }
    b->size--;
    return *b->data++;
}

/* 0..2^@bits - 1; small figures are as likely as large ones. */
static uint64_t take_figure(Bytes *b, unsigned bits)
{
    unsigned n = take(b) % (bits + 1);
    uint64_t value = 0;

    for (unsigned i = 0; i < n; i += 8) {
        value = value << 8 | take(b);
    }
    return n ? value & (UINT64_MAX >> (64 - n)) : 0;
}

/* A number of pages: of a machine's, or of what fits into 64 bits as bytes */
static uint64_t take_pages(Fuzz *f)
{
    return take_figure(&f->bytes, f->absurd ? 52 : 24);
}

static uint64_t take_rate(Fuzz *f)
{
    uint64_t pps = take_figure(&f->bytes, f->absurd ? 41 : 20);

    return MIN(pps, DIRTY_RATE_MAX_PPS);
}

/*
 * An account earns its rate and no more: what was charged, less what the pool
 * paid, is what it has earned less what is saved, or plus what is owed.
 */
static void check_account(Fuzz *f, const DirtyAccount *a, Tally *t)
{
    int64_t earned_pages;

    if (!dirty_account_limited(a)) {
        *t = (Tally) { .since_ns = f->now_ns };
        g_assert_cmpint(a->balance_pages, ==, 0);
        return;
    }
    t->max_pps = MAX(t->max_pps, a->rate_pps);
    earned_pages = a->balance_pages + (int64_t)a->left_pages +
                   t->charged_pages - t->pool_paid_pages;
    g_assert_cmpfloat(earned_pages, <=,
                      (double)t->max_pps * (f->latest_ns - t->since_ns) / S *
                      ROUNDING + 1);
    g_assert_cmpuint(a->earned_frac, <, S);
}

static void check_vcpu(Fuzz *f, Vcpu *c)
{
    check_account(f, &c->v.limit, &c->limit);
    check_account(f, &c->v.share, &c->share);
}

/* All that vCPUs and pool have got was earned at the budget's rate. */
static void check_pool(Fuzz *f)
{
    int64_t pages = f->charged_pages;

    if (!f->decision.share) {
        return;
    }
    for (int i = 0; i < VCPUS; i++) {
        if (dirty_account_limited(&f->vcpus[i].v.share)) {
            pages += f->vcpus[i].v.share.balance_pages +
                     (int64_t)f->vcpus[i].v.share.left_pages;
        }
    }
    pages += f->pool.remainder.balance_pages +
             (int64_t)(f->pool.remainder.left_pages + f->pool.pages);
    g_assert_cmpfloat(pages, <=, f->granted_pages * ROUNDING + VCPUS + 1);
}

/* What is in force in which phase, and that a limit stays once it was */
static void check_decision(Fuzz *f, bool limited)
{
    const DirtyMeans *means = &f->engine.means;
    DirtyDecision d = f->decision;
    bool cannot_help = f->engine.phase == DIRTY_PHASE_CANNOT_HELP;
    bool throttles = f->engine.phase == DIRTY_PHASE_THROTTLING ||
                     d.reason == DIRTY_REASON_FLOOR ||
                     d.reason == DIRTY_REASON_CEILING;
    bool alike = dirty_means_alike(means);

    g_assert_true((cannot_help || alike) == (d.reason != DIRTY_REASON_NONE));
    /* A deadline throttles in the first pass, and there by shares alone. */
    g_assert_true(!d.limit || (means->limit && !alike &&
                               (limited || throttles)));
    g_assert_true(d.limit || !means->limit || alike ||
                  !(limited || (throttles && !means->share)));
    g_assert_true(d.share == (means->share && throttles));
    g_assert_true(d.fallback == (means->converge && cannot_help &&
                                 d.reason != DIRTY_REASON_CEILING));
    g_assert_true(!d.sync || (means->share && !cannot_help &&
                              f->engine.phase != DIRTY_PHASE_WATCHING));
    g_assert_true(d.reason != DIRTY_REASON_CEILING || d.share);
    g_assert_true(d.reason != DIRTY_REASON_FLOOR || !d.share);
    if (!means->mechanism && !alike) {
        g_assert_false(d.limit || d.share);
    }
    seen.alike |= alike && d.share;
    seen.phase[f->engine.phase] = true;
    seen.reason[d.reason] = true;
}

static void check_engine(Fuzz *f)
{
    DirtyEngine *e = &f->engine;

    g_assert_cmpuint(e->budget_pps, <=, e->iteration.link_pps);
    g_assert_cmpuint(e->iteration.dirtied_pages, <=, INT64_MAX);
    g_assert_cmpuint(e->link.pps, <=, DIRTY_RATE_MAX_PPS);
    g_assert_cmpint(dirty_target_expected_ns(&e->iteration), >=, -1);
    g_assert_cmpint(dirty_target_earliest_ns(&e->iteration, e->device_pps), >=,
                    -1);
    g_assert_cmpuint(e->iteration.threshold_percent, <=, 100);
    g_assert_cmpint(e->late_ns, >=, -1);
    g_assert_true(e->deadline || !e->late_ns);
}

static void pass_time(Fuzz *f, int64_t ns)
{
    int64_t now_ns = CLAMP(f->now_ns + ns, 1, CLOCK_MAX_NS);

    /* After a step back, what has not been looked at before it may earn. */
    if (now_ns > f->now_ns) {
        f->granted_pages += (double)f->shared_pps * (now_ns - f->now_ns) / S;
    }
    f->now_ns = now_ns;
    f->latest_ns = MAX(f->latest_ns, now_ns);
    for (int i = 0; i < VCPUS; i++) {
        check_vcpu(f, &f->vcpus[i]);
    }
}

static void tally_charge(Fuzz *f, Vcpu *c, uint64_t pages)
{
    if (dirty_account_limited(&c->v.limit)) {
        c->limit.charged_pages += pages;
    }
    if (dirty_account_limited(&c->v.share)) {
        c->share.charged_pages += pages;
        f->charged_pages += pages;
    }
}

/* What is taken back is paid off a debt, as the pool would. */
static void tally_back(Fuzz *f, Vcpu *c, uint64_t pages)
{
    uint64_t limit_pages = MIN(pages, dirty_account_debt_pages(&c->v.limit));
    uint64_t share_pages = MIN(pages, dirty_account_debt_pages(&c->v.share));

    c->limit.pool_paid_pages += limit_pages;
    c->share.pool_paid_pages += share_pages;
    f->charged_pages -= share_pages;
}

/* A look at a vCPU, by its own thread or by another */
static int64_t fuzz_charge(Fuzz *f, Vcpu *c, uint64_t pages)
{
    uint64_t before_pages = c->v.dirtied_pages;
    int64_t penalty_ns;

    c->total_pages += pages;
    penalty_ns = dirty_vcpu_charge(&c->v, c->total_pages, f->now_ns);
    tally_charge(f, c, c->v.dirtied_pages - before_pages);
    g_assert_cmpint(penalty_ns, >=, 0);
    g_assert_cmpint(penalty_ns, <=, DIRTY_PENALTY_MAX_NS - c->stretch_ns);
    g_assert_cmpint(penalty_ns, ==, dirty_vcpu_penalty_ns(&c->v, f->now_ns));
    check_vcpu(f, c);
    return penalty_ns;
}

/* It has slept, and goes into the guest unless it was kicked. */
static void fuzz_resume(Fuzz *f, Vcpu *c, int64_t paid_ns, bool kicked)
{
    int64_t look_ns = dirty_vcpu_resume(&c->v, paid_ns, kicked, f->now_ns);
    int64_t pages;

    c->stretch_ns = kicked ? c->stretch_ns + paid_ns : 0;
    seen.stretched |= c->stretch_ns > paid_ns;
    if (look_ns) {
        g_assert_false(kicked);
        g_assert_cmpint(look_ns, >=, DIRTY_LOOK_MIN_NS);
        g_assert_cmpint(look_ns, <=, DIRTY_LOOK_MAX_NS);
    }
    pages = dirty_vcpu_allow_pages(&c->v, f->now_ns);
    g_assert_cmpint(pages, >=, DIRTY_RUN_MIN_PAGES);
    g_assert_true(dirty_vcpu_limited(&c->v) == (pages < INT64_MAX));
    check_vcpu(f, c);
}

/* It counts from 0 again, or is not there any more. */
static void fuzz_forget(Fuzz *f, Vcpu *c)
{
    if (dirty_account_limited(&c->v.share)) {
        f->charged_pages -= dirty_account_debt_pages(&c->v.share);
    }
    dirty_vcpu_forget(&c->v, f->now_ns);
    g_assert_cmpint(c->v.share.balance_pages, ==, 0);
    c->ring = (DirtyRingPace) { 0 };
    c->total_pages = 0;
    c->entries = 0;
    c->fill = 0;
    c->penalty_ns = 0;
    c->stretch_ns = 0;
    check_vcpu(f, c);
}

static void fuzz_set_limit(Fuzz *f, Vcpu *c, uint64_t pps)
{
    dirty_account_set_rate(&c->v.limit, pps, f->now_ns);
    check_vcpu(f, c);
}

static DirtyVcpuSample fuzz_sample(Fuzz *f)
{
    DirtyVcpuSample sample = { .at_floor = f->says_at_floor };

    for (int i = 0; i < VCPUS; i++) {
        dirty_engine_add_vcpu(&sample, &f->vcpus[i].v, f->now_ns);
    }
    sample.converging = f->converges && f->decision.fallback;
    return sample;
}

static void fuzz_set_decision(Fuzz *f, DirtyDecision decision)
{
    if (!f->decision.share && decision.share) {
        dirty_pool_init(&f->pool, f->now_ns);
        f->granted_pages = 0;
        f->charged_pages = 0;
        f->shared_pps = 0;
    }
    f->decision = decision;
    for (int i = 0; i < VCPUS && !decision.share; i++) {
        dirty_account_set_rate(&f->vcpus[i].v.share, DIRTY_RATE_UNLIMITED,
                               f->now_ns);
        check_vcpu(f, &f->vcpus[i]);
    }
}

static void fuzz_decide(Fuzz *f)
{
    DirtyVcpuSample vcpus = fuzz_sample(f);
    bool limited = f->decision.limit;

    fuzz_set_decision(f, dirty_engine_decide(&f->engine, &vcpus, &f->aim,
                                             f->now_ns));
    check_decision(f, limited);
    check_engine(f);
}

/* A round of the pool */
static void fuzz_share(Fuzz *f)
{
    DirtyPool *p = &f->pool;
    unsigned plugged = 0;

    for (int i = 0; i < VCPUS; i++) {
        plugged += f->vcpus[i].v.total_known;
    }
    if (!f->decision.share || !plugged) {
        return;
    }
    f->shared_pps = f->engine.budget_pps;
    dirty_pool_begin(p, f->shared_pps, plugged, f->interval_ns, f->now_ns);
    for (int i = 0; i < VCPUS; i++) {
        if (f->vcpus[i].v.total_known) {
            uint64_t forgiven_pages = dirty_pool_collect(p,
                                                         &f->vcpus[i].v.share);

            f->vcpus[i].share.pool_paid_pages += forgiven_pages;
            f->charged_pages -= forgiven_pages;
            dirty_vcpu_set_ceiling(&f->vcpus[i].v, f->ceiling_percent);
            g_assert_cmpuint(p->pages, <=, p->cap_pages);
        }
    }
    check_pool(f);
    f->rounds++;
    for (int i = 0; i < VCPUS; i++) {
        Vcpu *c = &f->vcpus[(f->rounds + i) % VCPUS];
        uint64_t debt_pages = dirty_account_debt_pages(&c->v.share);
        uint64_t pool_pages = p->pages, paid_pages;

        if (!c->v.total_known) {
            continue;
        }
        paid_pages = dirty_pool_pay(p, &c->v.share);
        g_assert_cmpuint(paid_pages, ==, pool_pages - p->pages);
        g_assert_cmpuint(paid_pages, ==,
                         debt_pages - dirty_account_debt_pages(&c->v.share));
        c->share.pool_paid_pages += paid_pages;
        check_vcpu(f, c);
        seen.pool_paid |= paid_pages;
    }
    check_pool(f);
}

/* A step of the throttle thread, after its looks */
static void fuzz_step(Fuzz *f)
{
    if (f->now_ns - f->noted_ns >= S / DIRTY_HISTORY_LENGTH) {
        f->noted_ns = f->now_ns;
        for (int i = 0; i < VCPUS; i++) {
            Vcpu *c = &f->vcpus[i];

            dirty_history_note(&c->history, c->v.dirtied_pages, c->v.paid_ns,
                               f->now_ns);
            g_assert_cmpuint(dirty_history_rate_pps(&c->history), <=,
                             DIRTY_RATE_MAX_PPS);
        }
    }
    fuzz_decide(f);
    fuzz_share(f);
}

static void fuzz_begin(Fuzz *f)
{
    DirtyVcpuSample vcpus = fuzz_sample(f);

    fuzz_set_decision(f, dirty_engine_begin(&f->engine, &f->means, &vcpus,
                                            f->now_ns));
    check_decision(f, false);
    f->synced_pages = vcpus.dirtied_pages;
    f->iteration = 0;
}

/* @pending_pages: dirtied, but not found by this sync */
static void fuzz_sync(Fuzz *f, uint64_t to_send_pages, uint64_t pending_pages)
{
    DirtyVcpuSample vcpus = fuzz_sample(f);

    vcpus.dirtied_pages -= MIN(pending_pages,
                               vcpus.dirtied_pages - f->synced_pages);
    f->synced_pages = vcpus.dirtied_pages;
    f->remaining_pages = to_send_pages;
    f->dirtied_pages = 0;
    f->iteration++;
    dirty_engine_synced(&f->engine, f->iteration, to_send_pages, &vcpus,
                        f->now_ns);
}

static void fuzz_progress(Fuzz *f)
{
    dirty_engine_progress(&f->engine, f->sent_pages, f->remaining_pages,
                          SWITCHOVER_PAGES, f->window, f->now_ns);
}

/* Some time with everybody at work: guest, link and throttle thread */
static void fuzz_run(Fuzz *f, int64_t ns)
{
    uint64_t sent_pages;

    pass_time(f, ns);
    for (int i = 0; i < VCPUS; i++) {
        Vcpu *c = &f->vcpus[i];
        uint64_t pages = 0;

        if (!c->v.total_known) {
            continue;
        }
        if (c->penalty_ns) {
            c->slept_ns += ns;
            if (c->slept_ns < c->penalty_ns) {
                fuzz_charge(f, c, 0);
                continue;
            }
            fuzz_resume(f, c, c->slept_ns, false);
        } else {
            pages = dirty_rate_pages(c->guest_pps, ns);
        }
        f->dirtied_pages += pages;
        c->penalty_ns = fuzz_charge(f, c, pages);
        c->slept_ns = 0;
        if (!c->penalty_ns) {
            fuzz_resume(f, c, 0, false);
        }
    }
    f->dirtied_pages += dirty_rate_pages(f->device_pps, ns);

    sent_pages = MIN(f->remaining_pages, dirty_rate_pages(f->link_pps, ns));
    f->remaining_pages -= sent_pages;
    f->sent_pages += sent_pages;
    f->window = f->now_ns / (100 * MS) + 1;
    fuzz_progress(f);
    if (f->remaining_pages < SWITCHOVER_PAGES) {
        fuzz_sync(f, f->remaining_pages + f->dirtied_pages, 0);
    }
    fuzz_step(f);
}

static void fuzz_clock(Fuzz *f)
{
    Bytes *b = &f->bytes;

    switch (take(b) % 4) {
    case 0:
    case 1:
        pass_time(f, take_figure(b, 30));
        break;
    case 2:
        pass_time(f, take_figure(b, f->absurd ? 58 : 36));
        break;
    case 3:
        pass_time(f, -(int64_t)take_figure(b, f->absurd ? 58 : 36));
        break;
    }
}

/* As kvm_dirty_throttle_pay(): a look, a sleep that a kick may cut short */
static void fuzz_pay(Fuzz *f, Vcpu *c)
{
    Bytes *b = &f->bytes;
    int64_t penalty_ns = fuzz_charge(f, c, take_pages(f)), paid_ns = 0;

    if (penalty_ns) {
        paid_ns = take(b) % 2 ? penalty_ns + take_figure(b, 34)
                              : take_figure(b, 27);
        pass_time(f, paid_ns);
    }
    fuzz_resume(f, c, paid_ns, paid_ns < penalty_ns);
    c->penalty_ns = 0;
}

/* As the reaper */
static void fuzz_ring(Fuzz *f, Vcpu *c)
{
    Bytes *b = &f->bytes;
    uint64_t more = take_figure(b, 40);
    int64_t age_ns = f->now_ns - c->harvested_ns, next_ns;
    bool due;

    c->entries += more;
    c->fill = MIN(c->fill + more, f->ring_pages);
    if (take(b) % 4 == 0) {
        dirty_ring_pace_full(&c->ring, take(b) % 2 ? c->fill : 0,
                             f->ring_pages, f->now_ns);
    }
    g_assert_cmpuint(dirty_ring_pace_room(&c->ring, f->ring_pages), >, 0);
    g_assert_cmpuint(dirty_ring_pace_room(&c->ring, f->ring_pages), <=,
                     f->ring_pages);
    dirty_ring_pace_look(&c->ring, c->entries, c->fill, f->now_ns);
    due = dirty_ring_pace_due(&c->ring, c->fill, f->ring_pages, age_ns);
    g_assert_true(!due || c->fill);
    g_assert_true(due || !c->fill || age_ns < DIRTY_REAP_MAX_NS);
    if (due) {
        c->fill = 0;
        c->harvested_ns = f->now_ns;
        age_ns = 0;
    }
    next_ns = dirty_ring_pace_next_ns(&c->ring, c->fill, f->ring_pages, age_ns);
    g_assert_cmpint(next_ns, >=, DIRTY_REAP_MIN_NS);
    g_assert_cmpint(next_ns, <=, DIRTY_REAP_MAX_NS);
    seen.ring_due |= due;
}

/* A sync tells what a vCPU has really dirtied. */
static void fuzz_correct(Fuzz *f, Vcpu *c)
{
    uint64_t pages = MIN(take_pages(f), c->v.charged_pages * 4);
    unsigned worth = DIRTY_WORTH_MIN +
                     take_figure(&f->bytes, 16) % (DIRTY_WORTH_MAX + 1 -
                                                   DIRTY_WORTH_MIN);
    uint64_t right = c->v.dirtied_pages - c->v.charged_pages + pages;

    fuzz_charge(f, c, 0);
    if (pages > c->v.charged_pages) {
        tally_charge(f, c, pages - c->v.charged_pages);
    } else {
        tally_back(f, c, c->v.charged_pages - pages);
    }
    dirty_vcpu_correct(&c->v, pages, worth, f->now_ns);
    g_assert_cmpuint(c->v.dirtied_pages, ==, right);
    g_assert_cmpuint(c->v.charged_pages, ==, 0);
    check_vcpu(f, c);
}

static void fuzz_parameters(Fuzz *f)
{
    Bytes *b = &f->bytes;
    uint8_t bits = take(b), percent = take(b);

    f->means.share = bits & 3;
    f->means.mechanism = bits & 0x1c;
    f->says_at_floor = bits & 32;
    f->means.converge = f->converges = bits & 64;
    f->means.limit = bits & 128;
    f->means.estimated = percent > 200;
    f->aim.threshold_percent = 1 + percent % 100;
    f->aim.deadline_ns = percent & 2 ? (percent >> 2) * S : 0;
    f->means.cpu_time = percent & 1;
    f->interval_ns = (1 + take_figure(b, 16) % 1000) * MS;
    f->ceiling_percent = 99 - bits % 99;
}

/* One thing that happens */
static void fuzz_event(Fuzz *f)
{
    Bytes *b = &f->bytes;
    uint8_t what = take(b);
    Vcpu *c = &f->vcpus[what / 16 % VCPUS];

    switch (what % 16) {
    case 0:
        fuzz_clock(f);
        break;
    case 1:
    case 2:
        fuzz_pay(f, c);
        break;
    case 3:
        fuzz_charge(f, c, take_pages(f));
        break;
    case 4:
        /* counters that lag behind */
        dirty_vcpu_charge(&c->v, c->total_pages / 2, f->now_ns);
        check_vcpu(f, c);
        break;
    case 5:
        fuzz_ring(f, c);
        break;
    case 6:
        fuzz_forget(f, c);
        break;
    case 7:
        fuzz_set_limit(f, c, take(b) % 4 ? take_rate(f) : DIRTY_RATE_UNLIMITED);
        break;
    case 8:
        fuzz_parameters(f);
        break;
    case 9:
        c->guest_pps = take_rate(f);
        f->device_pps = take(b) % 4 ? 0 : take_rate(f);
        break;
    case 10:
        f->link_pps = take_rate(f);
        break;
    case 11:
        fuzz_sync(f, take_pages(f), take_pages(f));
        break;
    case 12:
        f->remaining_pages = take_pages(f);
        f->sent_pages += take_pages(f);
        f->window = take(b) + 1;
        fuzz_progress(f);
        break;
    case 13:
        if (take(b) % 4) {
            fuzz_step(f);
        } else {
            fuzz_begin(f);
        }
        break;
    case 14:
        if (take(b) % 16) {
            fuzz_correct(f, c);
        } else if (f->engine.means.mechanism) {
            f->decision = dirty_engine_unexplained(&f->engine, f->now_ns);
            seen.reason[f->decision.reason] = true;
        }
        break;
    default:
        /* mostly as long as it usually takes */
        for (int n = take(b) % 64; n >= 0; n--) {
            fuzz_run(f, what & 128 ? take_figure(b, 30)
                                   : what & 64 ? 100 * MS : 10 * MS);
        }
    }
}

/* All is well from now on, and the engine has to see it. */
static void fuzz_benign_tail(Fuzz *f)
{
    uint64_t link_pps = 0;
    int64_t end_ns;

    pass_time(f, f->latest_ns - f->now_ns);
    f->device_pps = 0;
    f->link_pps = TAIL_LINK_PPS;
    f->says_at_floor = false;
    f->converges = false;
    f->aim.deadline_ns = 0;
    if (!f->engine.means.mechanism) {
        f->means.mechanism = true;
        fuzz_begin(f);
    }
    f->iteration = 1;
    for (int i = 0; i < VCPUS; i++) {
        f->vcpus[i].guest_pps = 0;
        fuzz_charge(f, &f->vcpus[i], 0);
    }
    fuzz_sync(f, TAIL_PAGES, 0);
    end_ns = f->now_ns + TAIL_NS;
    for (int64_t sync_ns = f->now_ns; f->now_ns < end_ns;) {
        fuzz_run(f, TAIL_STEP_NS);
        if (f->now_ns - sync_ns >= TAIL_ITERATION_NS) {
            sync_ns = f->now_ns;
            link_pps = link_pps ?: f->engine.link.pps;
            fuzz_sync(f, f->remaining_pages, 0);
        }
    }
    g_assert_cmpint(f->engine.phase, ==, DIRTY_PHASE_WATCHING);
    g_assert_cmpuint(f->engine.link.pps, >=, TAIL_LINK_PPS / 2);
    g_assert_cmpuint(f->engine.link.pps, <=,
                     MAX(TAIL_LINK_PPS * 2, link_pps / 100));

    /* Who writes no more has soon paid for what he wrote. */
    for (int i = 0; i < VCPUS; i++) {
        DirtyVcpu *v = &f->vcpus[i].v;
        DirtyAccount *a = &v->limit;
        double ns = (double)dirty_account_debt_pages(a) * S / a->rate_pps;

        if (dirty_account_limited(a) && a->rate_pps && ns < CLOCK_MAX_NS / 16) {
            pass_time(f, f->latest_ns - f->now_ns);
            pass_time(f, ns * ROUNDING + 1);
            dirty_vcpu_charge(v, v->total_pages, f->now_ns);
            g_assert_cmpuint(dirty_vcpu_debt_pages(v), ==, 0);
        }
    }
}

static void fuzz_one(const uint8_t *data, size_t size)
{
    g_autofree Fuzz *f = g_new0(Fuzz, 1);

    f->bytes = (Bytes) { data, size };
    f->absurd = take(&f->bytes) % 2;
    f->ring_pages = 4U << take(&f->bytes) % 29;
    f->now_ns = f->latest_ns = S;
    f->means = (DirtyMeans) { .mechanism = true, .share = true };
    f->aim.threshold_percent = 50;
    f->interval_ns = 100 * MS;
    f->ceiling_percent = 99;
    f->link_pps = TAIL_LINK_PPS;
    for (int i = 0; i < VCPUS; i++) {
        dirty_vcpu_init(&f->vcpus[i].v, f->now_ns);
        f->vcpus[i].guest_pps = TAIL_LINK_PPS;
        fuzz_charge(f, &f->vcpus[i], 0);
    }
    fuzz_begin(f);
    fuzz_sync(f, take_pages(f), 0);
    while (f->bytes.size) {
        fuzz_event(f);
    }
    fuzz_benign_tail(f);
}

#ifdef LIBFUZZER

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_one(data, size);
    return 0;
}

#else

/* Each test runs so many inputs of so many bytes. */
#define INPUTS 1000
#define INPUT_BYTES 512
#define TESTS 20

static void test_seeds(const void *opaque)
{
    uint32_t first = GPOINTER_TO_UINT(opaque);
    uint8_t data[INPUT_BYTES];

    for (uint32_t seed = first; seed < first + INPUTS; seed++) {
        GRand *rand = g_rand_new_with_seed(seed);
        size_t size = g_rand_int_range(rand, 1, INPUT_BYTES + 1);

        for (size_t i = 0; i < size; i++) {
            data[i] = g_rand_int(rand);
        }
        g_rand_free(rand);
        fuzz_one(data, size);
    }
}

static void test_seen(void)
{
    for (int i = 0; i < ARRAY_SIZE(seen.phase); i++) {
        g_assert_true(seen.phase[i]);
    }
    for (int i = 0; i < ARRAY_SIZE(seen.reason); i++) {
        g_assert_true(seen.reason[i]);
    }
    g_assert_true(seen.pool_paid);
    g_assert_true(seen.stretched);
    g_assert_true(seen.ring_due);
    g_assert_true(seen.alike);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (argc > 1) {
        for (int i = 1; i < argc; i++) {
            g_autofree char *data = NULL;
            size_t size;

            if (!g_file_get_contents(argv[i], &data, &size, NULL)) {
                fprintf(stderr, "%s cannot be read\n", argv[i]);
                return 1;
            }
            fuzz_one((uint8_t *)data, size);
        }
        return 0;
    }
    for (int i = 0; i < TESTS; i++) {
        g_autofree char *name = g_strdup_printf("/dirty-fuzz/seeds/%d", i);

        g_test_add_data_func(name, GUINT_TO_POINTER(i * INPUTS), test_seeds);
    }
    g_test_add_func("/dirty-fuzz/seeds/seen", test_seen);
    return g_test_run();
}

#endif
