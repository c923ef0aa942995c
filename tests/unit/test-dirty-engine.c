/*
 * Dirty throttle: whole migrations, played through with a made-up clock
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/dirty-throttle/account.h"
#include "migration/dirty-throttle/engine.h"

#define MS 1000000LL
#define S (1000 * MS)
#define LINK_PPS 25000
#define RAM_PAGES 100000
#define SWITCHOVER_PAGES 7500

/* Auto-converge in QEMU 7.2, with its default parameters */
#define CONVERGE_INITIAL 20
#define CONVERGE_STEP 10
#define CONVERGE_MAX 99
#define CONVERGE_PERIOD_NS S

typedef struct Converge {
    bool enabled;
    /* of the time, for which each vCPU sleeps */
    unsigned percent;
    /* syncs, CONVERGE_PERIOD_NS or more apart, that found too much dirty */
    unsigned high;
    /* the latest of such syncs, and what was sent and dirtied since */
    int64_t since_ns;
    uint64_t sent_pages;
    uint64_t dirtied_pages;
} Converge;

/*
 * A guest whose vCPUs would dirty so much, in a migration over a link that
 * carries so much
 */
typedef struct Model {
    DirtyEngine engine;
    uint64_t vcpu_pps;
    uint64_t device_pps;
    uint64_t link_pps;
    /* pages that vCPUs write, 0: more than an iteration sees */
    uint64_t set_pages;
    /* they write to those at random, and dirty fewer the more are dirty */
    bool at_random;
    /* throttling holds vCPUs at this at least, in pages/s */
    uint64_t floor_pps;
    /* all limits together, with dirty-limit instead of dirty-quota */
    uint64_t limit_pps;
    /* and dirty-quota beside that */
    bool both;
    /* nothing tells which vCPU dirties memory */
    bool no_mechanism;
    /* but how long each of them runs is known */
    bool cpu_time;
    /* vCPUs have got so far in debt that all their penalties are the longest */
    bool in_debt;
    Converge converge;
    /* a sync takes 100 ms */
    bool pauses;
    /* it syncs in the middle of iterations, which finds each page once */
    bool cuts;
    /* what vCPUs are charged is an estimate */
    bool estimated;
    int64_t deadline_ns;

    DirtyDecision decision;
    int64_t now_ns;
    /* of the sender */
    int64_t window;
    DirtyVcpuSample vcpus;
    uint64_t iteration;
    uint64_t remaining_pages;
    /* in this iteration, by vCPUs and in all */
    uint64_t vcpu_pages;
    uint64_t dirtied_pages;
    uint64_t sent_pages;
    bool done;
    /* phases that were seen */
    bool seen[DIRTY_PHASE_CANNOT_HELP + 1];
    /* how often a reason came or went, and auto-converge was begun */
    unsigned turns;
    unsigned converge_begun;
} Model;

/* As if no parameter had been set */
static const DirtyAim half = { .threshold_percent = 50 };

static void model_begin(Model *m)
{
    DirtyMeans means = {
        .mechanism = !m->no_mechanism,
        .cpu_time = m->cpu_time,
        .estimated = m->estimated,
        .limit = m->limit_pps,
        .share = !m->limit_pps || m->both,
        .converge = m->converge.enabled,
    };

    m->now_ns = S;
    m->decision = dirty_engine_begin(&m->engine, &means, &m->vcpus, m->now_ns);
    m->iteration = 1;
    m->remaining_pages = RAM_PAGES;
    dirty_engine_synced(&m->engine, 1, m->remaining_pages, &m->vcpus,
                        m->now_ns);
}

/* What migration_trigger_throttle() does at a sync */
static void converge_sync(Model *m)
{
    Converge *c = &m->converge;

    if (m->now_ns - c->since_ns <= CONVERGE_PERIOD_NS) {
        return;
    }
    if (m->decision.fallback && c->dirtied_pages > c->sent_pages / 2 &&
        ++c->high >= 2) {
        c->high = 0;
        m->converge_begun += !c->percent;
        c->percent = c->percent ? MIN(c->percent + CONVERGE_STEP, CONVERGE_MAX)
                                : CONVERGE_INITIAL;
    }
    c->since_ns = m->now_ns;
    c->sent_pages = 0;
    c->dirtied_pages = 0;
}

static void model_sync(Model *m)
{
    if (m->cuts) {
        /* The guest dirties pages all over its memory. */
        m->dirtied_pages = m->dirtied_pages *
                           (RAM_PAGES - m->remaining_pages) / RAM_PAGES;
    }
    m->remaining_pages += m->dirtied_pages;
    m->dirtied_pages = 0;
    m->vcpu_pages = 0;
    m->iteration++;
    dirty_engine_synced(&m->engine, m->iteration, m->remaining_pages,
                        &m->vcpus, m->now_ns);
    converge_sync(m);
    m->done = m->remaining_pages < SWITCHOVER_PAGES;
}

/* In the window of the sender that there is */
static void model_progress(Model *m)
{
    dirty_engine_progress(&m->engine, m->sent_pages, m->remaining_pages,
                          SWITCHOVER_PAGES, m->window, m->now_ns);
}

/* And with this a new one begins. */
static void model_window(Model *m)
{
    m->window = m->now_ns;
    model_progress(m);
}

/*
 * What vCPUs dirty in a second, now: what they would, unless that is more than
 * what has been decided, or than what throttling can hold them at
 */
static uint64_t model_vcpu_pps(Model *m)
{
    uint64_t awake_percent = 100 - m->converge.percent;
    uint64_t wanted_pps = m->vcpu_pps * awake_percent / 100;
    uint64_t least_pps = m->floor_pps * awake_percent / 100;
    uint64_t pps;

    if (m->set_pages && m->vcpu_pages >= m->set_pages) {
        wanted_pps = 0;
    } else if (m->at_random) {
        wanted_pps = wanted_pps * (m->set_pages - m->vcpu_pages) /
                     m->set_pages;
    }
    pps = wanted_pps;
    if (m->decision.limit) {
        pps = MIN(pps, m->limit_pps);
    }
    m->vcpus.at_floor = pps < wanted_pps && !m->decision.share;
    if (m->decision.share) {
        pps = MIN(pps, MAX(m->engine.budget_pps, least_pps));
        m->vcpus.at_floor = pps < wanted_pps && pps == least_pps;
    }
    m->vcpus.at_floor |= m->in_debt;
    if (pps < wanted_pps) {
        m->vcpus.paid_ns += 100 * MS * (wanted_pps - pps) / wanted_pps;
    }
    return pps;
}

static void model_decide(Model *m)
{
    DirtyEngine *e = &m->engine;
    bool cannot_help = e->phase == DIRTY_PHASE_CANNOT_HELP;
    DirtyAim aim = half;

    aim.deadline_ns = m->deadline_ns;
    m->vcpus.converging = m->converge.percent;
    m->decision = dirty_engine_decide(e, &m->vcpus, &aim, m->now_ns);
    m->seen[e->phase] = true;
    m->turns += cannot_help != (e->phase == DIRTY_PHASE_CANNOT_HELP);
    if (!m->decision.fallback) {
        /* as cpu_throttle_stop() does */
        m->converge.percent = 0;
    }
}

/* What the guest dirties in 100 ms */
static void model_dirty(Model *m)
{
    uint64_t pages = model_vcpu_pps(m) / 10, device_pages = m->device_pps / 10;

    if (m->set_pages) {
        pages = MIN(pages, m->set_pages - m->vcpu_pages);
    }
    m->vcpu_pages += pages;
    m->vcpus.dirtied_pages += pages;
    m->dirtied_pages += pages + device_pages;
    m->converge.dirtied_pages += pages + device_pages;
}

/* 100 ms of guest, link and throttle thread */
static void model_step(Model *m)
{
    uint64_t sent;

    model_dirty(m);
    sent = MIN(m->remaining_pages, m->link_pps / 10);
    m->remaining_pages -= sent;
    m->sent_pages += sent;
    m->converge.sent_pages += sent;
    m->now_ns += 100 * MS;
    model_window(m);
    if (m->remaining_pages < SWITCHOVER_PAGES ||
        (m->cuts && m->decision.sync)) {
        if (m->pauses) {
            model_dirty(m);
            m->now_ns += 100 * MS;
        }
        model_sync(m);
    }
    model_decide(m);
}

/* The link takes nothing, and the thread that sends is stuck in there. */
static void model_stall(Model *m, int64_t ns)
{
    for (int64_t end = m->now_ns + ns; m->now_ns < end;) {
        model_dirty(m);
        m->now_ns += 100 * MS;
        model_decide(m);
    }
}

static void model_run(Model *m, int64_t ns)
{
    for (int64_t end = m->now_ns + ns; m->now_ns < end && !m->done;) {
        model_step(m);
    }
}

static void test_writer_beyond_the_link(void)
{
    Model m = { .vcpu_pps = 2 * LINK_PPS, .link_pps = LINK_PPS };
    int64_t first_pass_ns = (RAM_PAGES - SWITCHOVER_PAGES) / LINK_PPS * S;

    model_begin(&m);
    model_run(&m, first_pass_ns);
    /* not throttled in the first pass */
    g_assert_cmpuint(m.vcpus.paid_ns, ==, 0);
    g_assert_cmpint(m.engine.phase, ==, DIRTY_PHASE_FIRST_PASS);
    model_run(&m, 60 * S);
    g_assert_true(m.done);
    /*
     * Iterations halve from 8 s of dirtying at twice the link's speed: 8, 4,
     * 2, 1, 0.5 seconds of sending; some tenths to notice.
     */
    g_assert_cmpint(m.now_ns - S - first_pass_ns, <=, 17 * S);
    g_assert_true(m.seen[DIRTY_PHASE_THROTTLING]);
    g_assert_false(m.seen[DIRTY_PHASE_CANNOT_HELP]);
}

/*
 * A guest that has dirtied all of its memory before the first pass has got
 * anywhere: that is cut, and vCPUs are throttled from then on.
 */
static void test_all_of_memory(void)
{
    int64_t took_ns[2];

    for (int cuts = 0; cuts <= 1; cuts++) {
        Model m = { .vcpu_pps = 40 * LINK_PPS, .set_pages = RAM_PAGES,
                    .link_pps = LINK_PPS, .cuts = cuts };

        model_begin(&m);
        if (cuts) {
            model_run(&m, RAM_PAGES / LINK_PPS * S / 4);
            g_assert_cmpint(m.engine.phase, ==, DIRTY_PHASE_THROTTLING);
        }
        model_run(&m, 600 * S);
        g_assert_true(m.done);
        took_ns[cuts] = m.now_ns - S;
        /* no more than to halve what is left takes, and some in the middle */
        g_assert_cmpuint(m.iteration, <=, 30);
    }
    /* 1.33 times as long as to send memory once, and the noticing, not 3 */
    g_assert_cmpint(took_ns[0], >=, RAM_PAGES / LINK_PPS * S * 5 / 2);
    g_assert_cmpint(took_ns[1], <=, RAM_PAGES / LINK_PPS * S * 5 / 3);
}

/*
 * Only for shares, which is what makes it worth it, and not by estimates, which
 * a sync in the middle would correct by too little.
 */
static void check_no_sync(const Model *model)
{
    Model m = *model;

    model_begin(&m);
    while (!m.done) {
        model_step(&m);
        g_assert_false(m.decision.sync);
        g_assert_cmpint(m.now_ns, <, 600 * S);
    }
}

static void test_no_sync(void)
{
    Model m = { .vcpu_pps = 40 * LINK_PPS, .set_pages = RAM_PAGES,
                .link_pps = LINK_PPS, .estimated = true };

    check_no_sync(&m);
    m.estimated = false;
    m.limit_pps = LINK_PPS / 2;
    check_no_sync(&m);
    /* The first pass was whole, as only a part of memory is dirtied. */
    m.limit_pps = 0;
    m.set_pages = RAM_PAGES / 2;
    check_no_sync(&m);
}

/*
 * A guest that writes all over its memory, only a bit faster than the link
 * sends: it is known in time that the first pass is going to be in vain, and of
 * one with a smaller set that it is not.
 */
static void test_going_to_be_in_vain(void)
{
    Model m = { .vcpu_pps = 2 * LINK_PPS, .set_pages = RAM_PAGES * 9 / 10,
                .link_pps = LINK_PPS, .at_random = true, .cuts = true };

    model_begin(&m);
    while (!m.engine.first_pass_cut) {
        model_step(&m);
        g_assert_cmpuint(m.vcpus.dirtied_pages, <, RAM_PAGES * 2 / 5);
    }
    m = (Model) { .vcpu_pps = 2 * LINK_PPS, .set_pages = RAM_PAGES * 6 / 10,
                  .link_pps = LINK_PPS, .at_random = true, .cuts = true };
    check_no_sync(&m);
}

/* What was missed stays missed, although it gets easy in the end. */
static void test_deadline_stays_missed(void)
{
    Model m = { .vcpu_pps = 4 * LINK_PPS, .set_pages = RAM_PAGES / 2,
                .link_pps = LINK_PPS,
                .deadline_ns = RAM_PAGES / LINK_PPS * S / 2 };

    model_begin(&m);
    model_run(&m, 600 * S);
    g_assert_true(m.done);
    g_assert_cmpint(m.engine.late_ns, >, m.deadline_ns);
}

/* A quarter of memory was never used, and the sender begins there. */
static void test_deadline_and_unused_memory(void)
{
    Model m = { .vcpu_pps = 2 * LINK_PPS, .set_pages = RAM_PAGES / 2,
                .link_pps = LINK_PPS, .deadline_ns = 10 * S };

    model_begin(&m);
    for (int i = 0; i < 10; i++) {
        model_dirty(&m);
        m.remaining_pages -= RAM_PAGES / 40;
        m.sent_pages++;
        m.now_ns += 100 * MS;
        model_window(&m);
        model_decide(&m);
        g_assert_cmpint(m.engine.late_ns, ==, 0);
        g_assert_false(m.decision.share);
    }
    model_run(&m, 60 * S);
    g_assert_true(m.done);
    g_assert_cmpint(m.engine.late_ns, ==, 0);
    g_assert_cmpint(m.now_ns - S, <=, 10 * S * 105 / 100);
}

/* In the end, the least that the link carries is better than nothing. */
static void test_link_that_is_never_told(void)
{
    Model m = { .vcpu_pps = 2 * LINK_PPS, .set_pages = RAM_PAGES / 2,
                .link_pps = LINK_PPS };

    model_begin(&m);
    while (!m.done && m.now_ns < 60 * S) {
        /* As many zero pages as others, and one more */
        m.remaining_pages -= MIN(m.remaining_pages, LINK_PPS / 10 + 1);
        model_step(&m);
    }
    g_assert_false(m.engine.link.told);
    g_assert_true(m.seen[DIRTY_PHASE_THROTTLING]);
    g_assert_true(m.done);
}

/*
 * With a deadline as well: what is sent in a first pass that is in vain is time
 * that is missing later.
 */
static void test_first_pass_is_cut_with_deadline(void)
{
    Model m = { .vcpu_pps = 40 * LINK_PPS, .set_pages = RAM_PAGES,
                .link_pps = LINK_PPS, .cuts = true,
                .deadline_ns = RAM_PAGES / LINK_PPS * S * 2 };

    model_begin(&m);
    model_run(&m, 600 * S);
    g_assert_true(m.done);
    g_assert_true(m.engine.first_pass_cut);
    g_assert_cmpint(m.now_ns - m.engine.begin_ns, <=, m.deadline_ns + S / 2);
}

/* If a deadline has it throttled already, less of memory is enough. */
static void test_throttled_first_pass_is_cut(void)
{
    Model m = { .vcpu_pps = 40 * LINK_PPS, .set_pages = RAM_PAGES * 6 / 10,
                .link_pps = LINK_PPS, .cuts = true,
                .deadline_ns = RAM_PAGES / LINK_PPS * S / 2 };

    model_begin(&m);
    model_run(&m, RAM_PAGES / LINK_PPS * S / 4);
    g_assert_cmpint(m.engine.phase, ==, DIRTY_PHASE_THROTTLING);
    g_assert_true(m.engine.first_pass_cut);
}

/*
 * vCPUs were charged for pages that a sync in the middle has not found, so
 * that it would find devices idle.  Nor does it take a reason back.
 */
static void test_sync_tells_nothing_of_devices(void)
{
    Model m = { .vcpu_pps = 40 * LINK_PPS, .set_pages = RAM_PAGES,
                .device_pps = LINK_PPS * 3 / 10, .link_pps = LINK_PPS,
                .cuts = true };
    DirtyEngine *e = &m.engine;

    model_begin(&m);
    while (m.iteration < 3) {
        model_step(&m);
        /* It is not wanted again until that is decided anew. */
        g_assert_true(e->decision.sync == m.decision.sync);
        g_assert_cmpint(m.now_ns, <, 60 * S);
    }
    while (!m.decision.sync) {
        model_step(&m);
        g_assert_cmpint(m.now_ns, <, 60 * S);
    }
    e->device_pps = e->device_latest_pps = 1234;
    model_sync(&m);
    g_assert_false(e->decision.sync);
    g_assert_cmpuint(e->device_pps, ==, 1234);
    g_assert_cmpuint(e->device_latest_pps, ==, 1234);
}

static void test_converges_by_itself(void)
{
    Model m = { .vcpu_pps = LINK_PPS * 4 / 10, .link_pps = LINK_PPS };

    model_begin(&m);
    model_run(&m, 60 * S);
    g_assert_true(m.done);
    g_assert_false(m.seen[DIRTY_PHASE_THROTTLING]);
}

static void test_budget_follows_the_link(void)
{
    Model m = { .vcpu_pps = 4 * LINK_PPS, .link_pps = LINK_PPS };

    model_begin(&m);
    model_run(&m, 6 * S);
    /* Until throttling began, a little too much was dirtied. */
    g_assert_cmpuint(m.engine.budget_pps, <=, LINK_PPS / 2);
    g_assert_cmpuint(m.engine.budget_pps, >=, LINK_PPS * 49 / 100);
    m.link_pps = LINK_PPS * 3 / 10;
    model_run(&m, 1100 * MS);
    g_assert_cmpuint(m.engine.budget_pps, <, LINK_PPS * 18 / 100);
    m.link_pps = LINK_PPS;
    model_run(&m, 200 * MS);
    g_assert_cmpuint(m.engine.budget_pps, >=, LINK_PPS * 45 / 100);
    model_run(&m, 120 * S);
    g_assert_true(m.done);
}

/*
 * A link that takes nothing for some seconds is stuck, not slow: the guest
 * keeps what it may dirty, for as long as it takes.
 */
static void test_link_is_stuck(void)
{
    Model m = { .vcpu_pps = 4 * LINK_PPS, .link_pps = LINK_PPS,
                .device_pps = LINK_PPS / 50 };
    uint64_t budget_pps;

    model_begin(&m);
    model_run(&m, 6 * S);
    budget_pps = m.engine.budget_pps;
    g_assert_cmpuint(budget_pps, >=, LINK_PPS * 48 / 100);
    model_stall(&m, 900 * S);
    /* It takes a moment to notice. */
    g_assert_cmpuint(m.engine.budget_pps, >=, budget_pps * 99 / 100);
    g_assert_cmpint(m.engine.phase, ==, DIRTY_PHASE_THROTTLING);
    /* nor is it believed to be slow, once it gets on */
    for (int i = 0; i < 30; i++) {
        model_step(&m);
        /* half of that, to make up for what was dirtied meanwhile */
        g_assert_cmpuint(m.engine.budget_pps, >=, budget_pps * 45 / 200);
    }
    g_assert_cmpuint(m.engine.link.pps, ==, LINK_PPS);
    g_assert_cmpuint(m.engine.budget_pps, >=, budget_pps / 2);
    /* half of what the link carries is what was dirtied meanwhile */
    model_run(&m, 1200 * S);
    g_assert_true(m.done);
    g_assert_cmpuint(m.turns, ==, 0);
}

/* 100 ms in which devices send what belongs to them, and there is no sync */
static void model_wait(Model *m)
{
    model_dirty(m);
    m->now_ns += 100 * MS;
    model_window(m);
    model_decide(m);
}

/*
 * All memory is sent, and then devices send for a while: the link is not slow,
 * and the guest keeps what it may dirty.
 */
static void test_no_memory_left(void)
{
    Model m = { .vcpu_pps = 4 * LINK_PPS, .link_pps = LINK_PPS };
    uint64_t budget_pps;

    model_begin(&m);
    model_run(&m, 6 * S);
    budget_pps = m.engine.budget_pps;
    g_assert_cmpint(m.engine.phase, ==, DIRTY_PHASE_THROTTLING);
    m.remaining_pages = 0;
    for (int i = 0; i < 100; i++) {
        model_wait(&m);
        g_assert_cmpuint(m.engine.link.pps, ==, LINK_PPS);
        /* half of that, because this iteration has dirtied too much already */
        g_assert_cmpuint(m.engine.budget_pps, >=, budget_pps / 2);
        g_assert_cmpint(m.engine.phase, ==, DIRTY_PHASE_THROTTLING);
    }
    model_run(&m, 60 * S);
    g_assert_true(m.done);
}

static void test_throttling_ends_when_not_needed(void)
{
    Model m = { .vcpu_pps = 4 * LINK_PPS, .link_pps = LINK_PPS };

    model_begin(&m);
    model_run(&m, 6 * S);
    g_assert_cmpint(m.engine.phase, ==, DIRTY_PHASE_THROTTLING);
    m.vcpu_pps = 100;
    /* It may be so only because it is throttled: for a whole iteration. */
    model_run(&m, 1500 * MS);
    g_assert_cmpint(m.engine.phase, ==, DIRTY_PHASE_THROTTLING);
    model_sync(&m);
    model_run(&m, 1500 * MS);
    g_assert_cmpint(m.engine.phase, ==, DIRTY_PHASE_THROTTLING);
    model_sync(&m);
    model_run(&m, 100 * MS);
    g_assert_cmpint(m.engine.phase, ==, DIRTY_PHASE_WATCHING);
    /* and begins again */
    m.vcpu_pps = 4 * LINK_PPS;
    model_run(&m, 500 * MS);
    g_assert_cmpint(m.engine.phase, ==, DIRTY_PHASE_THROTTLING);
}

/* Short iterations are whole ones, but throttling goes on for two seconds. */
static void test_throttling_ends_late(void)
{
    Model m = { .vcpu_pps = 4 * LINK_PPS, .link_pps = LINK_PPS };
    int64_t quiet_ns;

    model_begin(&m);
    model_run(&m, 6 * S);
    g_assert_cmpint(m.engine.phase, ==, DIRTY_PHASE_THROTTLING);
    m.vcpu_pps = 100;
    quiet_ns = m.now_ns;
    while (m.engine.phase == DIRTY_PHASE_THROTTLING) {
        model_run(&m, 300 * MS);
        model_sync(&m);
    }
    g_assert_cmpint(m.now_ns - quiet_ns, >=, 2 * S);
    g_assert_cmpint(m.now_ns - quiet_ns, <=, 3 * S);
}

/*
 * A guest that is quiet while it is throttled, and else is not, does not make
 * the phase change again and again.
 */
static void test_quiet_while_throttled(void)
{
    Model m = { .vcpu_pps = 4 * LINK_PPS, .link_pps = LINK_PPS };
    unsigned changes = 0;
    int64_t begin_ns;

    model_begin(&m);
    model_run(&m, 6 * S);
    begin_ns = m.now_ns;
    while (m.now_ns < begin_ns + 30 * S && !m.done) {
        DirtyPhase before = m.engine.phase;

        m.vcpu_pps = before == DIRTY_PHASE_THROTTLING ? 100 : 4 * LINK_PPS;
        model_run(&m, 100 * MS);
        changes += m.engine.phase != before;
    }
    g_assert_true(m.done);
    g_assert_cmpuint(changes, <=, (m.now_ns - begin_ns) / S);
}

/*
 * What an iteration takes longer than sending is a pause: as in a guest whose
 * dirty bitmap is so large that a sync takes a second.
 */
static void test_pauses(void)
{
    Model m = { .vcpu_pps = 4 * LINK_PPS, .link_pps = LINK_PPS };

    model_begin(&m);
    model_run(&m, 6 * S);
    g_assert_cmpint(m.engine.iteration.pause_ns, ==, 0);
    g_assert_cmpuint(m.engine.budget_pps, ==, LINK_PPS / 2);
    for (int i = 0; i < 4; i++) {
        model_run(&m, 200 * MS);
        /* Nothing is sent meanwhile. */
        m.now_ns += S;
        m.remaining_pages = MIN(m.remaining_pages, 2 * SWITCHOVER_PAGES);
        model_sync(&m);
        model_decide(&m);
        /* One such iteration may be chance, and the first one is over. */
        g_assert_true(i < 2 || m.engine.iteration.pause_ns > 900 * MS);
        g_assert_cmpint(m.engine.iteration.pause_ns, <=, S + 200 * MS);
        g_assert_true(i < 2 || m.engine.budget_pps < LINK_PPS / 5);
    }
    /* They get short again, which is seen as soon. */
    for (int i = 0; i < 3; i++) {
        model_run(&m, 500 * MS);
        model_sync(&m);
    }
    model_run(&m, 100 * MS);
    g_assert_cmpuint(m.engine.budget_pps, ==, LINK_PPS / 2);
}

/*
 * A burst that is half of what may be left is looked at, but not taken for the
 * rate: this writer dirties less than the budget.
 */
static void test_urgent_burst(void)
{
    Model m = { .vcpu_pps = LINK_PPS * 4 / 10, .link_pps = LINK_PPS };
    DirtyEngine *e = &m.engine;
    uint64_t pages;

    model_begin(&m);
    while (e->phase != DIRTY_PHASE_WATCHING) {
        model_step(&m);
    }
    /* Three fifths of the iteration are over. */
    pages = e->iteration.begin_pages;
    m.now_ns = e->iteration_ns + pages * 3 * S / LINK_PPS / 5;
    m.remaining_pages = pages * 2 / 5;
    model_window(&m);
    m.vcpus.dirtied_pages = e->iteration_dirtied_pages + pages * 15 / 100;
    model_decide(&m);
    g_assert_cmpint(e->phase, ==, DIRTY_PHASE_WATCHING);
    m.now_ns += DIRTY_LOOK_MAX_NS;
    m.vcpus.dirtied_pages = e->iteration_dirtied_pages + pages * 26 / 100;
    g_assert_true(dirty_engine_urgent(e, &m.vcpus));
    model_decide(&m);
    g_assert_cmpint(e->decided_ns, ==, m.now_ns);
    g_assert_cmpint(e->phase, ==, DIRTY_PHASE_WATCHING);
}

static void test_devices_take_their_part(void)
{
    Model m = { .vcpu_pps = 2 * LINK_PPS, .link_pps = LINK_PPS,
                .device_pps = LINK_PPS / 10 };

    model_begin(&m);
    while (m.iteration < 3) {
        model_step(&m);
    }
    model_run(&m, 500 * MS);
    g_assert_cmpuint(m.engine.device_pps, >, LINK_PPS * 8 / 100);
    g_assert_cmpuint(m.engine.device_pps, <, LINK_PPS * 12 / 100);
    /* half of what they leave */
    g_assert_cmpuint(m.engine.budget_pps, ==,
                     (LINK_PPS - m.engine.device_pps) / 2);
    /* and are part of what is dirtied */
    g_assert_cmpuint(m.engine.iteration.dirty_pps, >=, LINK_PPS * 54 / 100);
    model_run(&m, 60 * S);
    g_assert_true(m.done);
}

/*
 * Devices dirty more than the threshold, and less than the link carries:
 * throttling is what makes this migration end.
 */
static void test_devices_above_the_threshold(void)
{
    Model m = { .vcpu_pps = 2 * LINK_PPS, .link_pps = LINK_PPS,
                .device_pps = LINK_PPS * 7 / 10 };

    model_begin(&m);
    while (m.iteration < 3) {
        model_step(&m);
    }
    model_run(&m, 500 * MS);
    g_assert_cmpint(m.engine.phase, ==, DIRTY_PHASE_THROTTLING);
    /* vCPUs have something left */
    g_assert_cmpuint(m.engine.budget_pps, >, LINK_PPS / 10);
    /* An iteration leaves 0.7 + 0.5 * 0.3 = 0.85 of what it sends. */
    while (m.engine.iteration.begin_pages > 4 * SWITCHOVER_PAGES) {
        uint64_t before_pages = m.engine.iteration.begin_pages;
        uint64_t before = m.iteration;

        while (m.iteration == before) {
            model_step(&m);
        }
        g_assert_cmpuint(m.engine.iteration.begin_pages, <=,
                         before_pages * 9 / 10);
    }
    g_assert_cmpuint(m.turns, ==, 0);
}

static void test_devices_alone_are_too_much(void)
{
    Model m = { .vcpu_pps = 100, .link_pps = LINK_PPS,
                .device_pps = 2 * LINK_PPS };

    model_begin(&m);
    /* one iteration is not believed */
    while (m.iteration < 3) {
        g_assert_false(m.seen[DIRTY_PHASE_CANNOT_HELP]);
        model_step(&m);
    }
    model_run(&m, 20 * S);
    g_assert_cmpint(m.engine.phase, ==, DIRTY_PHASE_CANNOT_HELP);
    g_assert_cmpint(m.decision.reason, ==, DIRTY_REASON_DEVICES);
    /* vCPUs did not pay for it */
    g_assert_cmpuint(m.vcpus.paid_ns, ==, 0);

    /* the reason goes, and with it the phase, with the next sync */
    m.device_pps = 0;
    model_run(&m, 120 * S);
    g_assert_true(m.done);
    g_assert_cmpint(m.decision.reason, ==, DIRTY_REASON_NONE);
    g_assert_cmpuint(m.turns, ==, 2);
}

/*
 * They dirty less than the link carries, but in the end each turn of 100 ms is
 * followed by a sync that takes as long.
 */
static void test_devices_with_pauses(void)
{
    Model m = { .vcpu_pps = 100, .link_pps = LINK_PPS,
                .device_pps = LINK_PPS * 6 / 10, .pauses = true };

    model_begin(&m);
    model_run(&m, 60 * S);
    g_assert_false(m.done);
    g_assert_cmpint(m.decision.reason, ==, DIRTY_REASON_DEVICES);
    g_assert_cmpuint(m.turns, ==, 1);
    m.pauses = false;
    model_run(&m, 60 * S);
    g_assert_true(m.done);
    g_assert_cmpuint(m.turns, ==, 2);
}

/* With such pauses a link that carries twice what they dirty is no relief. */
static void test_devices_in_the_end(void)
{
    Model m = { .vcpu_pps = 100, .link_pps = LINK_PPS,
                .device_pps = LINK_PPS * 4 / 10, .pauses = true };

    model_begin(&m);
    for (int i = 0; i < 200; i++) {
        model_step(&m);
    }
    g_assert_cmpint(m.decision.reason, ==, DIRTY_REASON_DEVICES);
    g_assert_cmpuint(m.turns, ==, 1);
}

/* One burst of DMA, larger than all that an iteration sends */
static void test_devices_burst(void)
{
    Model m = { .vcpu_pps = 2 * LINK_PPS, .link_pps = LINK_PPS };

    model_begin(&m);
    while (m.iteration < 3) {
        model_step(&m);
    }
    m.device_pps = 50 * LINK_PPS;
    model_run(&m, 200 * MS);
    m.device_pps = 0;
    model_run(&m, 120 * S);
    g_assert_true(m.done);
    g_assert_cmpuint(m.turns, ==, 0);
    g_assert_cmpuint(m.engine.device_latest_pps, ==, 0);
}

/* A link that is stuck carries less than the slowest device dirties. */
static void test_devices_and_a_stuck_link(void)
{
    Model m = { .vcpu_pps = 2 * LINK_PPS, .link_pps = LINK_PPS,
                .device_pps = LINK_PPS / 10 };

    model_begin(&m);
    while (m.iteration < 3) {
        model_step(&m);
    }
    for (int i = 0; i < 5; i++) {
        model_run(&m, S);
        model_stall(&m, 2 * S);
    }
    model_run(&m, 120 * S);
    g_assert_true(m.done);
    g_assert_cmpuint(m.turns, ==, 0);
}

static void test_floor(void)
{
    Model m = { .vcpu_pps = 2 * LINK_PPS, .link_pps = LINK_PPS,
                .floor_pps = 1000 };

    model_begin(&m);
    model_run(&m, 6 * S);
    g_assert_false(m.seen[DIRTY_PHASE_CANNOT_HELP]);
    /* a link that carries less than vCPUs dirty at their slowest */
    m.link_pps = 500;
    for (int i = 0; !m.vcpus.at_floor; i++) {
        g_assert_cmpint(i, <, 100);
        model_step(&m);
    }
    /* that has to last */
    model_run(&m, 500 * MS);
    g_assert_cmpint(m.decision.reason, ==, DIRTY_REASON_NONE);
    model_run(&m, 10 * S);
    g_assert_cmpint(m.engine.phase, ==, DIRTY_PHASE_CANNOT_HELP);
    g_assert_cmpint(m.decision.reason, ==, DIRTY_REASON_CEILING);
    m.link_pps = LINK_PPS;
    model_run(&m, 1500 * MS);
    g_assert_cmpint(m.decision.reason, ==, DIRTY_REASON_NONE);
    model_run(&m, 60 * S);
    g_assert_true(m.done);
    g_assert_cmpuint(m.turns, ==, 2);
}

/*
 * vCPUs that are far in debt get the longest penalties, and this iteration
 * has been spoiled already.  But they are slow enough for the next one.
 */
static void test_floor_that_is_enough(void)
{
    Model m = { .vcpu_pps = LINK_PPS, .link_pps = LINK_PPS };

    model_begin(&m);
    while (m.iteration < 2) {
        model_step(&m);
    }
    m.vcpu_pps = LINK_PPS / 10;
    /* all that this iteration can leave, before it is noticed */
    m.dirtied_pages += m.remaining_pages;
    m.vcpus.dirtied_pages += m.remaining_pages;
    model_step(&m);
    m.in_debt = true;
    while (m.iteration < 3) {
        g_assert_cmpint(m.engine.phase, ==, DIRTY_PHASE_THROTTLING);
        m.vcpus.paid_ns += 100 * MS;
        model_step(&m);
    }
    g_assert_cmpuint(m.turns, ==, 0);
}

/* What was dirtied before throttling began says nothing about it. */
static void test_floor_counts_from_throttling_on(void)
{
    Model m = { .vcpu_pps = 4 * LINK_PPS, .link_pps = LINK_PPS,
                .in_debt = true };

    model_begin(&m);
    model_run(&m, 6 * S);
    g_assert_cmpint(m.engine.phase, ==, DIRTY_PHASE_THROTTLING);
    m.vcpu_pps = 100;
    while (m.engine.phase != DIRTY_PHASE_WATCHING) {
        model_step(&m);
    }
    m.dirtied_pages += 100 * LINK_PPS;
    m.vcpus.dirtied_pages += 100 * LINK_PPS;
    model_run(&m, 5 * S);
    g_assert_true(m.seen[DIRTY_PHASE_THROTTLING]);
    g_assert_cmpuint(m.turns, ==, 0);
}

/*
 * Throttling does not do it and auto-converge takes over: once, because what
 * the engine sees from then on is what auto-converge leaves of the load.
 */
static void check_left_to_auto_converge(Model *m)
{
    DirtyEngine *e = &m->engine;
    int64_t end;

    m->link_pps = LINK_PPS;
    m->converge.enabled = true;
    model_begin(m);
    m->converge.since_ns = m->now_ns;
    for (end = m->now_ns + 3600 * S; m->now_ns < end && !m->done;) {
        uint64_t helpless_pps = e->helpless_pps;

        model_step(m);
        g_assert_true(!m->turns || m->decision.reason == DIRTY_REASON_FLOOR);
        /* What it leaves is not what there would be without it. */
        g_assert_true(!m->vcpus.converging || e->helpless_pps == helpless_pps);
    }
    g_assert_cmpuint(m->turns, ==, 1);
    g_assert_cmpuint(m->converge_begun, ==, 1);
    g_assert_true(m->done);
}

/*
 * vCPUs sleep for as long as they may, and exceed the link by more and more:
 * auto-converge could do no more, and does nothing.
 */
static void test_ceiling_and_auto_converge(void)
{
    for (unsigned percent = 105; percent <= 200; percent += 5) {
        Model m = { .vcpu_pps = 4 * LINK_PPS, .link_pps = LINK_PPS,
                    .floor_pps = LINK_PPS * percent / 100,
                    .converge.enabled = true };

        model_begin(&m);
        m.converge.since_ns = m.now_ns;
        while (m.now_ns < 600 * S) {
            model_step(&m);
            g_assert_true(!m.turns ||
                          m.decision.reason == DIRTY_REASON_CEILING);
            g_assert_false(m.decision.fallback);
        }
        g_assert_cmpuint(m.turns, ==, 1);
        g_assert_true(m.decision.share);
        g_assert_cmpuint(m.converge_begun, ==, 0);
        g_assert_false(m.done);
    }
}

/*
 * Limits that together exceed the link, and writers that exceed the limits.
 * They are through with their set before an iteration is over: 4 s of
 * sending, 2 to 3.8 of writing.
 */
static void test_limits_and_auto_converge(void)
{
    for (unsigned percent = 105; percent <= 200; percent += 5) {
        Model m = { .vcpu_pps = 4 * LINK_PPS, .set_pages = 4 * LINK_PPS,
                    .limit_pps = LINK_PPS * percent / 100 };

        check_left_to_auto_converge(&m);
    }
}

/*
 * Without auto-converge, what is seen is what is there.  Writers that are
 * through with their set for now do not take the reason back, those that
 * have got slower do.
 */
static void test_floor_is_reviewed(void)
{
    Model m = { .vcpu_pps = 4 * LINK_PPS, .set_pages = 4 * LINK_PPS,
                .limit_pps = LINK_PPS * 3 / 2, .link_pps = LINK_PPS };

    model_begin(&m);
    while (m.iteration < 20) {
        model_step(&m);
    }
    g_assert_cmpint(m.decision.reason, ==, DIRTY_REASON_FLOOR);
    g_assert_cmpuint(m.turns, ==, 1);
    m.vcpu_pps = LINK_PPS * 6 / 10;
    while (m.iteration < 23) {
        model_step(&m);
    }
    g_assert_cmpint(m.engine.phase, ==, DIRTY_PHASE_THROTTLING);
    model_run(&m, 60 * S);
    g_assert_true(m.done);
    g_assert_cmpuint(m.turns, ==, 2);
}

/* Devices that work for vCPUs dirty less when those are slowed. */
static void test_devices_and_auto_converge(void)
{
    for (unsigned percent = 105; percent <= 150; percent += 5) {
        Model m = { .vcpu_pps = 100, .link_pps = LINK_PPS,
                    .converge.enabled = true };

        model_begin(&m);
        m.converge.since_ns = m.now_ns;
        while (m.now_ns < 3600 * S && !m.done) {
            m.device_pps = (uint64_t)LINK_PPS * percent / 100 *
                           (100 - m.converge.percent) / 100;
            model_step(&m);
            g_assert_true(!m.turns ||
                          m.decision.reason == DIRTY_REASON_DEVICES);
        }
        g_assert_cmpuint(m.turns, ==, 1);
        g_assert_cmpuint(m.converge_begun, ==, 1);
        g_assert_true(m.done);
    }
}

/* A link that gets fast enough for the load as it was takes it over again. */
static void test_auto_converge_is_given_back(void)
{
    Model m = { .vcpu_pps = 10 * LINK_PPS, .link_pps = LINK_PPS,
                .limit_pps = 2000, .converge.enabled = true };

    model_begin(&m);
    model_run(&m, 6 * S);
    m.link_pps = 1500;
    /* most of that is still to be sent: the syncs to come are far off */
    m.remaining_pages = SWITCHOVER_PAGES + 2000;
    for (int i = 0; !m.converge.percent; i++) {
        g_assert_cmpint(i, <, 6000);
        model_step(&m);
    }
    /* what is dirtied has got below that, and is hidden */
    m.link_pps = 3000;
    model_run(&m, 3 * S);
    g_assert_cmpint(m.decision.reason, ==, DIRTY_REASON_FLOOR);
    m.link_pps = LINK_PPS;
    model_run(&m, S);
    g_assert_cmpint(m.engine.phase, ==, DIRTY_PHASE_THROTTLING);
    model_run(&m, 600 * S);
    g_assert_true(m.done);
    g_assert_cmpuint(m.turns, ==, 2);
}

/* What comes of the phase, in a migration with both capabilities */
static void check_decision(Model *m, bool limit, bool share, bool fallback)
{
    g_assert_cmpint(m->decision.limit, ==, limit);
    g_assert_cmpint(m->decision.share, ==, share);
    g_assert_cmpint(m->decision.fallback, ==, fallback);
}

/*
 * Nothing before it is needed; then limit and share.  The share is lifted when
 * the migration does without, the limit stays to the end.
 */
static void test_limit_stays_share_does_not(void)
{
    Model m = { .vcpu_pps = 4 * LINK_PPS, .link_pps = LINK_PPS, .both = true,
                .limit_pps = 3 * LINK_PPS, .converge.enabled = true };

    model_begin(&m);
    while (m.engine.phase == DIRTY_PHASE_FIRST_PASS) {
        check_decision(&m, false, false, false);
        model_step(&m);
    }
    while (m.engine.phase != DIRTY_PHASE_THROTTLING) {
        check_decision(&m, false, false, false);
        model_step(&m);
        g_assert_cmpint(m.now_ns, <, 60 * S);
    }
    check_decision(&m, true, true, false);
    m.vcpu_pps = 100;
    while (m.engine.phase == DIRTY_PHASE_THROTTLING) {
        check_decision(&m, true, true, false);
        model_step(&m);
    }
    g_assert_cmpint(m.engine.phase, ==, DIRTY_PHASE_WATCHING);
    check_decision(&m, true, false, false);
    /* It is not switched over yet, by somebody who has paused it before. */
    m.done = false;
    m.vcpu_pps = 4 * LINK_PPS;
    model_run(&m, 500 * MS);
    check_decision(&m, true, true, false);
}

/* A migration that converges by itself limits nobody. */
static void test_nothing_while_watching(void)
{
    Model m = { .vcpu_pps = LINK_PPS * 4 / 10, .link_pps = LINK_PPS,
                .limit_pps = 1, .both = true, .converge.enabled = true };

    model_begin(&m);
    while (!m.done) {
        model_step(&m);
        check_decision(&m, false, false, false);
        g_assert_cmpint(m.now_ns, <, 60 * S);
    }
    g_assert_true(m.seen[DIRTY_PHASE_WATCHING]);
}

/*
 * What vCPUs are held at is not enough: it stays in force.  Auto-converge comes
 * on top of limits, if it may.
 */
static void check_at_the_floor(bool limit, bool share, bool converge)
{
    Model m = { .vcpu_pps = 4 * LINK_PPS, .link_pps = LINK_PPS,
                .floor_pps = 3 * LINK_PPS / 2,
                .limit_pps = limit ? 3 * LINK_PPS / 2 : 0, .both = share,
                .converge.enabled = converge };
    DirtyReason reason = share ? DIRTY_REASON_CEILING : DIRTY_REASON_FLOOR;

    model_begin(&m);
    while (m.decision.reason != reason) {
        g_assert_false(m.decision.fallback);
        model_step(&m);
        g_assert_cmpint(m.now_ns, <, 60 * S);
    }
    g_assert_cmpint(m.engine.phase, ==, DIRTY_PHASE_CANNOT_HELP);
    for (int i = 0; i < 50; i++) {
        check_decision(&m, limit, share, converge && !share);
        model_step(&m);
    }
    g_assert_cmpint(m.decision.reason, ==, reason);
}

static void test_floor_keeps_both(void)
{
    for (int converge = 0; converge <= 1; converge++) {
        check_at_the_floor(true, false, converge);
        check_at_the_floor(false, true, converge);
        check_at_the_floor(true, true, converge);
    }
}

/* Devices alone are too much: the share goes, a limit that was needed stays. */
static void check_devices(bool converge)
{
    Model m = { .vcpu_pps = 4 * LINK_PPS, .link_pps = LINK_PPS, .both = true,
                .limit_pps = 3 * LINK_PPS, .converge.enabled = converge };

    model_begin(&m);
    while (m.engine.phase != DIRTY_PHASE_THROTTLING) {
        model_step(&m);
    }
    m.device_pps = 2 * LINK_PPS;
    while (m.engine.phase == DIRTY_PHASE_THROTTLING) {
        check_decision(&m, true, true, false);
        model_step(&m);
        g_assert_cmpint(m.now_ns, <, 600 * S);
    }
    g_assert_cmpint(m.decision.reason, ==, DIRTY_REASON_DEVICES);
    check_decision(&m, true, false, converge);
}

static void test_devices_lift_shares(void)
{
    check_devices(false);
    check_devices(true);
}

/*
 * Without a mechanism only auto-converge helps, from the first sync on, and
 * whatever is seen.
 */
static void test_no_mechanism(void)
{
    for (int converge = 0; converge <= 1; converge++) {
        Model m = { .vcpu_pps = 2 * LINK_PPS, .link_pps = LINK_PPS,
                    .limit_pps = LINK_PPS / 2, .both = true,
                    .no_mechanism = true, .converge.enabled = converge };

        model_begin(&m);
        for (int i = 0; i < 100; i++) {
            g_assert_cmpint(m.engine.phase, ==, DIRTY_PHASE_CANNOT_HELP);
            g_assert_cmpint(m.decision.reason, ==, DIRTY_REASON_MECHANISM);
            check_decision(&m, false, false, converge);
            model_step(&m);
        }
    }
}

/* What tells who dirties memory does so no more, whatever the phase is. */
static void test_unexplained(void)
{
    for (int limit = 0; limit <= 1; limit++) {
        Model m = { .vcpu_pps = 2 * LINK_PPS, .link_pps = LINK_PPS,
                    .limit_pps = limit * LINK_PPS / 2, .both = true,
                    .converge.enabled = true };

        model_begin(&m);
        while (m.engine.phase != DIRTY_PHASE_THROTTLING) {
            model_step(&m);
        }
        check_decision(&m, limit, true, false);
        m.decision = dirty_engine_unexplained(&m.engine, m.now_ns);
        for (int i = 0; i < 100; i++) {
            g_assert_cmpint(m.engine.phase, ==, DIRTY_PHASE_CANNOT_HELP);
            g_assert_cmpint(m.decision.reason, ==, DIRTY_REASON_UNEXPLAINED);
            check_decision(&m, false, false, true);
            model_step(&m);
        }
        /* not for the next migration */
        model_begin(&m);
        g_assert_cmpint(m.decision.reason, ==, DIRTY_REASON_NONE);
    }
}

/*
 * If nothing tells vCPUs apart, they are slowed alike, by shares, as long as
 * dirty-quota and auto-converge both allow it.  The latter never acts then.
 */
static void test_alike(void)
{
    for (int share = 0; share <= 1; share++) {
        for (int converge = 0; converge <= 1; converge++) {
            Model m = { .vcpu_pps = 2 * LINK_PPS, .link_pps = LINK_PPS,
                        .limit_pps = LINK_PPS, .both = share,
                        .no_mechanism = true, .cpu_time = true,
                        .converge.enabled = converge };
            bool throttled = false;

            model_begin(&m);
            g_assert_cmpint(m.decision.reason, ==, DIRTY_REASON_MECHANISM);
            while (!m.done && m.now_ns < 60 * S) {
                throttled |= m.decision.share;
                check_decision(&m, false, m.decision.share,
                               converge && !share);
                g_assert_cmpint(m.decision.reason, ==, DIRTY_REASON_MECHANISM);
                model_step(&m);
            }
            g_assert_true(throttled == (share && converge));
            if (share && converge) {
                g_assert_true(m.done);
                g_assert_false(m.seen[DIRTY_PHASE_CANNOT_HELP]);
            }
        }
    }
}

/* Shares stay in force, without a limit, when vCPUs are not told apart. */
static void test_unexplained_alike(void)
{
    Model m = { .vcpu_pps = 2 * LINK_PPS, .link_pps = LINK_PPS,
                .limit_pps = LINK_PPS, .both = true, .cpu_time = true,
                .converge.enabled = true };

    model_begin(&m);
    while (m.engine.phase != DIRTY_PHASE_THROTTLING) {
        model_step(&m);
    }
    check_decision(&m, true, true, false);
    m.decision = dirty_engine_unexplained(&m.engine, m.now_ns);
    while (!m.done && m.now_ns < 60 * S) {
        check_decision(&m, false, true, false);
        g_assert_cmpint(m.decision.reason, ==, DIRTY_REASON_UNEXPLAINED);
        model_step(&m);
    }
    g_assert_true(m.done);
}

/*
 * A floor that is too high for the link: nothing more is done, and what is
 * told is that floor.
 */
static void test_alike_at_floor(void)
{
    Model m = { .vcpu_pps = 2 * LINK_PPS, .link_pps = LINK_PPS,
                .floor_pps = 2 * LINK_PPS - 1000, .no_mechanism = true,
                .cpu_time = true, .converge.enabled = true };

    model_begin(&m);
    while (m.now_ns < 60 * S) {
        g_assert_false(m.decision.fallback);
        model_step(&m);
    }
    g_assert_cmpint(m.engine.phase, ==, DIRTY_PHASE_CANNOT_HELP);
    g_assert_cmpint(m.decision.reason, ==, DIRTY_REASON_CEILING);
    check_decision(&m, false, true, false);
}

/* Nor is anything done beyond the floor once vCPUs are not told apart. */
static void test_unexplained_at_floor(void)
{
    Model m = { .vcpu_pps = 2 * LINK_PPS, .link_pps = LINK_PPS,
                .floor_pps = 2 * LINK_PPS - 1000, .cpu_time = true,
                .converge.enabled = true };

    model_begin(&m);
    while (m.decision.reason != DIRTY_REASON_CEILING && m.now_ns < 60 * S) {
        model_step(&m);
    }
    check_decision(&m, false, true, false);
    m.decision = dirty_engine_unexplained(&m.engine, m.now_ns);
    g_assert_cmpint(m.decision.reason, ==, DIRTY_REASON_CEILING);
    check_decision(&m, false, true, false);
}

/* What vCPUs are held at by their ceiling is no way to meet a deadline. */
static void test_ceiling_and_deadline(void)
{
    Model m = { .vcpu_pps = 4 * LINK_PPS, .link_pps = LINK_PPS,
                .floor_pps = 3 * LINK_PPS / 2, .deadline_ns = 30 * S };

    model_begin(&m);
    while (m.decision.reason != DIRTY_REASON_CEILING) {
        g_assert_cmpint(m.now_ns, <, 60 * S);
        model_step(&m);
    }
    g_assert_true(m.decision.share);
    g_assert_cmpint(m.engine.late_ns, ==, -1);
}

/* Devices that dirty too much are left to auto-converge all the same. */
static void test_alike_devices(void)
{
    Model m = { .vcpu_pps = LINK_PPS / 2, .device_pps = LINK_PPS,
                .link_pps = LINK_PPS, .no_mechanism = true, .cpu_time = true,
                .converge.enabled = true };

    model_begin(&m);
    while (m.decision.reason != DIRTY_REASON_DEVICES && m.now_ns < 60 * S) {
        model_step(&m);
    }
    g_assert_cmpint(m.decision.reason, ==, DIRTY_REASON_DEVICES);
    check_decision(&m, false, false, true);
    m.decision = dirty_engine_unexplained(&m.engine, m.now_ns);
    g_assert_cmpint(m.decision.reason, ==, DIRTY_REASON_DEVICES);
    check_decision(&m, false, false, true);
}

/* A correction takes back what was decided by; no rate gets absurd for it. */
static void test_count_goes_back(void)
{
    Model m = { .vcpu_pps = 2 * LINK_PPS, .link_pps = LINK_PPS };

    model_begin(&m);
    while (m.engine.phase != DIRTY_PHASE_THROTTLING) {
        model_step(&m);
    }
    m.vcpus.dirtied_pages = 0;
    m.now_ns += S;
    dirty_engine_decide(&m.engine, &m.vcpus, &half, m.now_ns);
    g_assert_cmpuint(m.engine.iteration.dirty_pps, ==, 0);
    g_assert_cmpuint(m.engine.iteration.dirtied_pages, ==, 0);
    dirty_engine_synced(&m.engine, m.iteration + 1, m.remaining_pages,
                        &m.vcpus, m.now_ns);
    g_assert_cmpuint(m.engine.device_pps, ==, 0);
}

/* Who enabled neither dirty-limit nor dirty-quota is told nothing. */
static void test_no_capability(void)
{
    DirtyMeans means = { .converge = true };
    DirtyVcpuSample vcpus = { 0 };
    DirtyDecision decision;
    DirtyEngine e;

    decision = dirty_engine_begin(&e, &means, &vcpus, S);
    g_assert_false(decision.fallback);
    g_assert_cmpint(decision.reason, ==, DIRTY_REASON_NONE);
    g_assert_cmpint(e.phase, !=, DIRTY_PHASE_CANNOT_HELP);
}

/* The decision stands for so long, and then it is another one. */
static void check_decision_stands(Model *m, int64_t span_ns)
{
    m->now_ns += span_ns - 1;
    model_decide(m);
    check_decision(m, false, false, false);
    m->now_ns++;
    model_decide(m);
    check_decision(m, false, true, false);
}

/*
 * A span too short to tell a rate from a burst decides nothing; but half of
 * what may be left is no burst.
 */
static void test_decision_stands(void)
{
    for (int urgent = 0; urgent <= 1; urgent++) {
        Model m = { .vcpu_pps = LINK_PPS * 4 / 10, .link_pps = LINK_PPS };

        model_begin(&m);
        while (m.engine.phase != DIRTY_PHASE_WATCHING) {
            model_step(&m);
        }
        m.vcpus.dirtied_pages = m.engine.iteration_dirtied_pages +
                                m.engine.iteration.begin_pages / 4 + urgent;
        check_decision_stands(&m, urgent ? DIRTY_LOOK_MAX_NS
                                         : DIRTY_LINK_SPAN_NS);
    }
}

/* Memory that was never touched goes over the link for next to nothing. */
static void test_zero_pages_are_no_bandwidth(void)
{
    Model m = { .link_pps = LINK_PPS };
    DirtyEngine *e = &m.engine;

    model_begin(&m);
    model_run(&m, S);
    g_assert_cmpuint(e->link.pps, ==, LINK_PPS);
    /* from some of it to nothing else */
    for (int real = 2400; real >= 0; real -= 200) {
        m.now_ns += 100 * MS;
        m.remaining_pages -= 3500;
        m.sent_pages += real;
        model_window(&m);
        g_assert_cmpuint(e->link.pps, <=, LINK_PPS);
    }
    g_assert_cmpuint(e->link.pps, >, LINK_PPS / 2);
}

/*
 * The first pass ends when what remains can be switched over.  If that was
 * never touched, it is gone at once in the second pass.
 */
static void test_zero_pages_left_by_the_first_pass(void)
{
    Model m = { .vcpu_pps = LINK_PPS, .link_pps = LINK_PPS };
    DirtyEngine *e = &m.engine;

    model_begin(&m);
    model_run(&m, (RAM_PAGES - SWITCHOVER_PAGES) * S / LINK_PPS - 100 * MS);
    g_assert_cmpuint(m.iteration, ==, 1);
    m.remaining_pages = SWITCHOVER_PAGES - 1;
    model_progress(&m);
    m.dirtied_pages = RAM_PAGES / 2;
    model_sync(&m);
    for (int i = 0; i < 20; i++) {
        if (i < 3) {
            m.remaining_pages -= SWITCHOVER_PAGES / 3;
        }
        model_step(&m);
        g_assert_cmpuint(e->link.pps, ==, LINK_PPS);
    }
}

/* Pages that the guest does not need any more are not sent at all. */
static void test_free_page_hints(void)
{
    Model m = { .vcpu_pps = LINK_PPS, .link_pps = LINK_PPS };
    DirtyEngine *e = &m.engine;

    model_begin(&m);
    model_run(&m, S);
    m.remaining_pages -= 20000;
    model_step(&m);
    g_assert_cmpuint(e->link.pps, ==, LINK_PPS);
    while (m.iteration < 2) {
        model_step(&m);
    }
    m.remaining_pages -= 20000;
    model_step(&m);
    g_assert_cmpuint(e->link.pps, ==, LINK_PPS);
    /* nor do they hide that it got slow */
    m.link_pps = LINK_PPS / 4;
    for (int i = 0; i < 10; i++) {
        m.remaining_pages -= 100;
        model_step(&m);
    }
    g_assert_cmpuint(e->link.pps, <, LINK_PPS * 3 / 10);
}

/*
 * QEMU keeps to max-bandwidth by sending each window's share in one burst at
 * the speed of the wire, and then waiting; syncs come at any time, and take
 * any time.  However that falls, nobody has seen more than max-bandwidth.
 */
static void test_bursts(void)
{
    DirtyEngine e;
    DirtyMeans means = { .mechanism = true, .share = true };
    DirtyVcpuSample vcpus = { 0 };
    uint64_t remaining_pages = 20000, sent_pages = 0, iteration = 1;
    int64_t window = S, now_ns = window + 80 * MS;
    unsigned windows = 0;

    dirty_engine_begin(&e, &means, &vcpus, now_ns);
    dirty_engine_synced(&e, 1, remaining_pages, &vcpus, now_ns);
    while (windows < 1000) {
        uint64_t share_pages = LINK_PPS / 10;

        while (share_pages && now_ns - window < 100 * MS) {
            uint64_t sent = MIN(MIN(share_pages, remaining_pages), 1000);

            share_pages -= sent;
            remaining_pages -= sent;
            sent_pages += sent;
            /* ten times as fast as the link is meant to be */
            now_ns += sent * S / LINK_PPS / 10;
            dirty_engine_progress(&e, sent_pages, remaining_pages, 0, window,
                                  now_ns);
            if (!remaining_pages) {
                now_ns += g_test_rand_int_range(0, 150) * MS;
                remaining_pages = g_test_rand_int_range(1, 10000);
                dirty_engine_synced(&e, ++iteration, remaining_pages, &vcpus,
                                    now_ns);
            }
        }
        now_ns = MAX(now_ns, window + 100 * MS);
        window = now_ns;
        windows++;
        dirty_engine_progress(&e, sent_pages, remaining_pages, 0, window,
                              now_ns);
        dirty_engine_decide(&e, &vcpus, &half, now_ns);
        g_assert_cmpuint(e.link.pps, <=, LINK_PPS);
    }
    g_assert_cmpuint(e.link.pps, >, LINK_PPS * 9 / 10);
}

/* Not to be taken for a link that is stuck */
static void test_a_long_sync(void)
{
    Model m = { .link_pps = LINK_PPS };

    model_begin(&m);
    model_run(&m, (RAM_PAGES - SWITCHOVER_PAGES) * S / LINK_PPS);
    g_assert_cmpuint(m.remaining_pages, ==, SWITCHOVER_PAGES);
    for (int i = 0; i < 20; i++) {
        m.now_ns += 100 * MS;
        dirty_engine_decide(&m.engine, &m.vcpus, &half, m.now_ns);
    }
    model_sync(&m);
    model_step(&m);
    g_assert_cmpuint(m.engine.link.pps, ==, LINK_PPS);
}

/* Memory so small that each window sees a sync */
static void test_short_iterations(void)
{
    Model m = { .link_pps = LINK_PPS };

    model_begin(&m);
    model_sync(&m);
    for (int i = 0; i < 5; i++) {
        m.remaining_pages = LINK_PPS / 10;
        model_sync(&m);
        model_step(&m);
    }
    g_assert_cmpuint(m.engine.link.pps, ==, LINK_PPS);
}

/* Compression gets more pages through the same link, in any pass. */
static void test_compression(void)
{
    Model m = { .vcpu_pps = 2 * LINK_PPS, .link_pps = LINK_PPS };

    model_begin(&m);
    model_run(&m, 5 * S);
    g_assert_cmpuint(m.iteration, ==, 2);
    for (int i = 0; i < 3; i++) {
        m.now_ns += 100 * MS;
        m.remaining_pages -= LINK_PPS * 3 / 10;
        m.sent_pages += LINK_PPS * 3 / 10;
        model_window(&m);
    }
    g_assert_cmpuint(m.engine.link.pps, ==, 3 * LINK_PPS);
}

/* What makes up a sample: sums, and whether any vCPU is at its floor */
static void test_sample(void)
{
    DirtyVcpuSample s = { 0 };
    DirtyVcpu v;

    dirty_vcpu_init(&v, 0);
    v.dirtied_pages = 5;
    v.paid_ns = 7;
    dirty_engine_add_vcpu(&s, &v, S);
    g_assert_false(s.at_floor);
    dirty_account_set_rate(&v.share, 1, 0);
    dirty_vcpu_resume(&v, DIRTY_PENALTY_MAX_NS, false, S);
    dirty_engine_add_vcpu(&s, &v, S);
    dirty_vcpu_init(&v, 0);
    dirty_engine_add_vcpu(&s, &v, S);
    g_assert_true(s.at_floor);
    g_assert_cmpuint(s.dirtied_pages, ==, 10);
    g_assert_cmpint(s.paid_ns, ==, 14 + DIRTY_PENALTY_MAX_NS);
}

static void test_expected_time(void)
{
    DirtyIteration it = {
        .number = 2, .begin_pages = 100000, .remaining_pages = 100000,
        .link_pps = 25000, .dirty_pps = 12500, .switchover_pages = 7500,
        .threshold_percent = 50,
    };
    int64_t ns = dirty_target_expected_ns(&it);

    /* 4 + 2 + 1 + 0.5 s, then 6250 pages: 0.25 s */
    g_assert_cmpint(ns / MS, ==, 7750);
    it.dirty_pps = 25000;
    g_assert_cmpint(dirty_target_expected_ns(&it), ==, -1);
    it.link_pps = 0;
    g_assert_cmpint(dirty_target_expected_ns(&it), ==, -1);
}

/* An iteration that has not begun yet has dirtied nothing. */
static void test_clock_goes_back(void)
{
    Model m = {
        .vcpu_pps = LINK_PPS, .device_pps = LINK_PPS / 10, .link_pps = LINK_PPS,
    };

    model_begin(&m);
    while (!m.engine.device_pps) {
        model_step(&m);
        g_assert_cmpint(m.now_ns, <, 60 * S);
    }
    m.now_ns += 200 * MS;
    m.dirtied_pages += m.device_pps / 5;
    model_sync(&m);
    g_assert_cmpuint(m.engine.device_pps, >, 0);
    m.now_ns -= 100 * MS;
    dirty_engine_decide(&m.engine, &m.vcpus, &half, m.now_ns);
    g_assert_cmpuint(m.engine.iteration.dirtied_pages, ==, 0);
}

/* One writer of twice the link's speed, over half of memory: 4 s and 2 s */
static Model deadline_model(int64_t deadline_ns)
{
    return (Model) {
        .vcpu_pps = 2 * LINK_PPS,
        .link_pps = LINK_PPS,
        .set_pages = RAM_PAGES / 2,
        .deadline_ns = deadline_ns,
    };
}

/* It takes the time that it has got, and vCPUs get what is left of the link. */
static void test_deadline_is_met(void)
{
    for (int64_t s = 5; s <= 20; s++) {
        Model m = deadline_model(s * S);

        model_begin(&m);
        while (!m.done && m.now_ns < 60 * S) {
            model_step(&m);
            g_assert_cmpint(m.engine.late_ns, ==, 0);
            g_assert_true(!m.decision.share || m.engine.budget_pps >=
                                               LINK_PPS * 5 / 100);
        }
        g_assert_true(m.done);
        g_assert_cmpint(m.now_ns - S, <=, s * S * 105 / 100);
        g_assert_cmpint(m.now_ns - S, >=, s * S * 90 / 100);
    }
}

/* What is said in the beginning comes true. */
static void test_deadline_cannot_be_met(void)
{
    Model m = deadline_model(3 * S);
    int64_t late_ns;

    model_begin(&m);
    model_run(&m, S);
    late_ns = m.engine.late_ns;
    g_assert_cmpint(late_ns, >, 4 * S);
    g_assert_true(m.decision.share);
    model_run(&m, 60 * S);
    g_assert_true(m.done);
    g_assert_cmpint(m.now_ns - S, >=, late_ns * 9 / 10);
    g_assert_cmpint(m.now_ns - S, <=, late_ns * 11 / 10);
}

/* Without a link nobody knows when, and shares are what a deadline needs. */
static void test_deadline_without_means(void)
{
    Model m = deadline_model(1 * S);

    m.device_pps = 2 * LINK_PPS;
    model_begin(&m);
    model_run(&m, 20 * S);
    g_assert_cmpint(m.engine.late_ns, ==, -1);

    m = deadline_model(1 * S);
    m.limit_pps = LINK_PPS / 2;
    model_begin(&m);
    model_run(&m, 3 * S);
    g_assert_cmpint(m.engine.late_ns, ==, 0);
    g_assert_cmpint(m.engine.phase, ==, DIRTY_PHASE_FIRST_PASS);
}

/* One that is changed is followed at once, also in the first pass. */
static void test_deadline_changes(void)
{
    Model m = deadline_model(5 * S);

    model_begin(&m);
    model_run(&m, 2 * S);
    g_assert_cmpint(m.engine.phase, ==, DIRTY_PHASE_THROTTLING);
    m.deadline_ns = 60 * S;
    model_step(&m);
    g_assert_cmpint(m.engine.phase, ==, DIRTY_PHASE_FIRST_PASS);
    g_assert_false(m.decision.share);
    m.deadline_ns = 0;
    model_run(&m, 4 * S);
    g_assert_cmpint(m.engine.phase, ==, DIRTY_PHASE_THROTTLING);
    g_assert_cmpuint(m.engine.budget_pps, <=, LINK_PPS / 2);
    m.deadline_ns = 60 * S;
    model_step(&m);
    g_assert_cmpuint(m.engine.budget_pps, >, LINK_PPS * 9 / 10);
    m.deadline_ns = 7 * S;
    model_step(&m);
    g_assert_cmpuint(m.engine.budget_pps, <, LINK_PPS / 3);
}

/* Shares are what a deadline requires in the first pass, not a limit. */
static void test_deadline_and_limit(void)
{
    Model m = deadline_model(5 * S);

    m.limit_pps = LINK_PPS * 4 / 10;
    m.both = true;
    model_begin(&m);
    model_run(&m, 2 * S);
    g_assert_true(m.decision.share);
    g_assert_false(m.decision.limit);
    m.deadline_ns = 60 * S;
    model_run(&m, 1 * S);
    g_assert_false(m.decision.share || m.decision.limit);

    /* Nor is it in force after that, as long as nothing else requires it. */
    m = deadline_model(5 * S);
    m.limit_pps = LINK_PPS * 4 / 10;
    m.both = true;
    model_begin(&m);
    while (m.iteration < 2) {
        model_step(&m);
    }
    m.vcpu_pps = 0;
    model_run(&m, 300 * MS);
    g_assert_true(m.decision.share);
    g_assert_false(m.decision.limit);
}

/* Where shares are lifted, nobody knows when it can be over. */
static void test_deadline_without_shares(void)
{
    Model m = deadline_model(30 * S);

    m.device_pps = LINK_PPS * 95 / 100;
    model_begin(&m);
    while (m.engine.phase != DIRTY_PHASE_CANNOT_HELP && m.now_ns < 60 * S) {
        model_step(&m);
    }
    g_assert_cmpint(m.decision.reason, ==, DIRTY_REASON_DEVICES);
    g_assert_cmpint(m.engine.late_ns, ==, -1);

    m.decision = dirty_engine_unexplained(&m.engine, m.now_ns);
    model_step(&m);
    g_assert_false(m.engine.deadline);
    g_assert_cmpint(m.engine.late_ns, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/dirty-engine/all-of-memory", test_all_of_memory);
    g_test_add_func("/dirty-engine/going-to-be", test_going_to_be_in_vain);
    g_test_add_func("/dirty-engine/sync/none", test_no_sync);
    g_test_add_func("/dirty-engine/deadline-stays-missed",
                    test_deadline_stays_missed);
    g_test_add_func("/dirty-engine/deadline-unused",
                    test_deadline_and_unused_memory);
    g_test_add_func("/dirty-engine/link-never-told",
                    test_link_that_is_never_told);
    g_test_add_func("/dirty-engine/deadline-cuts",
                    test_first_pass_is_cut_with_deadline);
    g_test_add_func("/dirty-engine/deadline-cuts/throttled",
                    test_throttled_first_pass_is_cut);
    g_test_add_func("/dirty-engine/sync/devices",
                    test_sync_tells_nothing_of_devices);
    g_test_add_func("/dirty-engine/beyond-link", test_writer_beyond_the_link);
    g_test_add_func("/dirty-engine/converges", test_converges_by_itself);
    g_test_add_func("/dirty-engine/link/follows", test_budget_follows_the_link);
    g_test_add_func("/dirty-engine/pauses", test_pauses);
    g_test_add_func("/dirty-engine/urgent-burst", test_urgent_burst);
    g_test_add_func("/dirty-engine/throttling/ends-late",
                    test_throttling_ends_late);
    g_test_add_func("/dirty-engine/quiet-while-throttled",
                    test_quiet_while_throttled);
    g_test_add_func("/dirty-engine/link/stuck", test_link_is_stuck);
    g_test_add_func("/dirty-engine/link/no-memory-left", test_no_memory_left);
    g_test_add_func("/dirty-engine/link/zero-pages",
                    test_zero_pages_are_no_bandwidth);
    g_test_add_func("/dirty-engine/link/bursts", test_bursts);
    g_test_add_func("/dirty-engine/link/long-sync", test_a_long_sync);
    g_test_add_func("/dirty-engine/link/short-iterations",
                    test_short_iterations);
    g_test_add_func("/dirty-engine/link/compression", test_compression);
    g_test_add_func("/dirty-engine/link/zero-pages-left",
                    test_zero_pages_left_by_the_first_pass);
    g_test_add_func("/dirty-engine/link/free-page-hints", test_free_page_hints);
    g_test_add_func("/dirty-engine/ends",
                    test_throttling_ends_when_not_needed);
    g_test_add_func("/dirty-engine/devices/part", test_devices_take_their_part);
    g_test_add_func("/dirty-engine/devices/alone",
                    test_devices_alone_are_too_much);
    g_test_add_func("/dirty-engine/devices/above-threshold",
                    test_devices_above_the_threshold);
    g_test_add_func("/dirty-engine/devices/pauses", test_devices_with_pauses);
    g_test_add_func("/dirty-engine/devices/end", test_devices_in_the_end);
    g_test_add_func("/dirty-engine/devices/burst", test_devices_burst);
    g_test_add_func("/dirty-engine/devices/stuck-link",
                    test_devices_and_a_stuck_link);
    g_test_add_func("/dirty-engine/devices/auto-converge",
                    test_devices_and_auto_converge);
    g_test_add_func("/dirty-engine/floor", test_floor);
    g_test_add_func("/dirty-engine/floor/enough", test_floor_that_is_enough);
    g_test_add_func("/dirty-engine/floor/from-throttling-on",
                    test_floor_counts_from_throttling_on);
    g_test_add_func("/dirty-engine/floor/auto-converge",
                    test_ceiling_and_auto_converge);
    g_test_add_func("/dirty-engine/floor/limits",
                    test_limits_and_auto_converge);
    g_test_add_func("/dirty-engine/floor/reviewed", test_floor_is_reviewed);
    g_test_add_func("/dirty-engine/floor/given-back",
                    test_auto_converge_is_given_back);
    g_test_add_func("/dirty-engine/sample", test_sample);
    g_test_add_func("/dirty-engine/decision/limit-stays",
                    test_limit_stays_share_does_not);
    g_test_add_func("/dirty-engine/decision/watching",
                    test_nothing_while_watching);
    g_test_add_func("/dirty-engine/decision/floor", test_floor_keeps_both);
    g_test_add_func("/dirty-engine/decision/devices",
                    test_devices_lift_shares);
    g_test_add_func("/dirty-engine/decision/no-mechanism", test_no_mechanism);
    g_test_add_func("/dirty-engine/decision/no-capability",
                    test_no_capability);
    g_test_add_func("/dirty-engine/unexplained", test_unexplained);
    g_test_add_func("/dirty-engine/alike", test_alike);
    g_test_add_func("/dirty-engine/alike/unexplained", test_unexplained_alike);
    g_test_add_func("/dirty-engine/floor/deadline", test_ceiling_and_deadline);
    g_test_add_func("/dirty-engine/alike/floor", test_alike_at_floor);
    g_test_add_func("/dirty-engine/alike/unexplained-floor",
                    test_unexplained_at_floor);
    g_test_add_func("/dirty-engine/alike/devices", test_alike_devices);
    g_test_add_func("/dirty-engine/count-goes-back", test_count_goes_back);
    g_test_add_func("/dirty-engine/decision/stands", test_decision_stands);
    g_test_add_func("/dirty-engine/expected-time", test_expected_time);
    g_test_add_func("/dirty-engine/clock-back", test_clock_goes_back);
    g_test_add_func("/dirty-engine/deadline/met", test_deadline_is_met);
    g_test_add_func("/dirty-engine/deadline/missed",
                    test_deadline_cannot_be_met);
    g_test_add_func("/dirty-engine/deadline/means",
                    test_deadline_without_means);
    g_test_add_func("/dirty-engine/deadline/limit", test_deadline_and_limit);
    g_test_add_func("/dirty-engine/deadline/shares",
                    test_deadline_without_shares);
    g_test_add_func("/dirty-engine/deadline/changes", test_deadline_changes);
    return g_test_run();
}
