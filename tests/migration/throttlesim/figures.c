/*
 * Throttle simulator: a run, and what came of it
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <math.h>
#include "figures.h"

/* What is dirtied varies from one of these spans to the next */
#define SPAN_TICKS 10

/*
 * A vCPU may get ahead of its share for as long as nobody looks, a tick, and
 * pays for that later.  Shares of less than so many times that are left out.
 */
#define OVERRUN_TIMES 20

/* With so much of memory dirty it is better to throttle at once. */
#define IN_VAIN 0.7

/* As things were when vCPUs were first slowed down */
typedef struct Before {
    double *done;
    double *wanted;
    /* of each span since then, what was dirtied in it */
    GArray *spans;
    double dirtied;
    unsigned ticks;
    /* when the first pass was over, 0: it is not; what was dirtied in it */
    int64_t first_pass_ns;
    double first_pass_dirtied;
} Before;

int64_t sim_clock_ns(const Sim *s, int64_t now_ns)
{
    double seconds = 0;

    for (unsigned i = 0; i < s->scenario->clock_jumps->len; i++) {
        SimChange *jump = &g_array_index(s->scenario->clock_jumps, SimChange,
                                         i);

        if (jump->at_ns <= now_ns) {
            seconds += jump->value;
        }
    }
    return now_ns + llround(seconds * SIM_S);
}

/* Since the migration began */
static double sim_seconds(int64_t now_ns)
{
    return (double)(now_ns - SIM_TICK_NS) / SIM_S;
}

static double figures_dirtied(const Sim *s)
{
    double pages = 0;

    for (unsigned i = 0; i < s->nr_vcpus; i++) {
        pages += s->vcpus[i].dirtied;
    }
    return pages;
}

static void figures_watch(Sim *s, Before *b)
{
    if (s->sender.iteration > 1 && !b->first_pass_ns) {
        b->first_pass_ns = s->now_ns;
        b->first_pass_dirtied = figures_dirtied(s);
    }
    if (s->throttling && !s->throttled_ns) {
        s->throttled_ns = s->now_ns;
        b->dirtied = figures_dirtied(s);
        for (unsigned i = 0; i < s->nr_vcpus; i++) {
            b->done[i] = s->vcpus[i].done;
            b->wanted[i] = s->vcpus[i].wanted;
        }
    } else if (s->throttled_ns && ++b->ticks % SPAN_TICKS == 0) {
        double dirtied = figures_dirtied(s), pages = dirtied - b->dirtied;

        b->dirtied = dirtied;
        g_array_append_val(b->spans, pages);
    }
}

/*
 * One line for each kind of vCPUs: what they have done, dirtied, slept so far;
 * and the migration's part, which is the same in each of these lines
 */
static void timeline_print(FILE *file, const Sim *s)
{
    const Scenario *sc = s->scenario;
    PolicyEngineState engine = policy_engine_state(s);
    const SimVcpu *v = s->vcpus;

    for (unsigned i = 0; i < sc->actors->len; i++) {
        const SimActor *a = &g_array_index(sc->actors, SimActor, i);
        double done = 0, wanted = 0, dirtied = 0, slept_ns = 0;

        if (a->device) {
            continue;
        }
        for (unsigned n = 0; n < a->count; n++, v++) {
            done += v->done;
            wanted += v->wanted;
            dirtied += v->dirtied;
            slept_ns += v->slept_ns;
        }
        fprintf(file, "%s,%s,%.2f,%s,%u,%.0f,%.0f,%.0f,%.4f,%.0f,%.0f,%.0f,"
                "%s\n", sc->name, s->policy->name,
                sim_seconds(s->now_ns), a->name, a->count,
                done, wanted, dirtied, slept_ns / SIM_S,
                scenario_link_pps(sc, s->now_ns), s->memory.nr_to_send,
                s->share_pps * s->nr_vcpus,
                engine.phase[0] ? engine.phase :
                s->sender.iteration < 2 ? "first pass" :
                s->throttling ? "throttling" : "iterating");
    }
}

void timeline_print_head(FILE *file)
{
    fprintf(file, "scenario,policy,time_s,vcpus,count,done,wanted,dirtied,"
            "slept_s,link_pps,to_send,budget_pps,phase\n");
}

/*
 * "What is possible" of docs/devel/dirty-throttle.rst; @at_once: for
 * a strategy that throttles from the beginning
 */
static double figures_possible_s(const Sim *s, bool *at_once)
{
    const Scenario *sc = s->scenario;
    double link_pps = scenario_link_pps(sc, 0), first_s, backlog = 0, kept = 0;
    double switchover, after_s, at_once_s;

    if (sc->link_changes->len || sc->deadline_ns) {
        return 0;
    }
    link_pps *= 1 - sc->link_jitter / 2;
    first_s = s->memory.pages / link_pps +
              (double)sc->zero_pages * sc->zero_ns / SIM_S;
    for (unsigned i = 0; i < sc->actors->len; i++) {
        const SimActor *a = &g_array_index(sc->actors, SimActor, i);
        double pps = (double)SIM_S / (sc->write_ns + sc->fault_ns);
        double set_pages = a->set_pages;

        if (a->reads) {
            continue;
        }
        if (a->device || a->off_ns || a->from_ns || a->until_ns != SIM_NEVER ||
            a->grows_pps || a->watched_pps) {
            return 0;
        }
        pps = a->rate_pps ? MIN(pps, a->rate_pps) : pps;
        pps *= a->count;
        set_pages *= a->shared ? 1 : a->count;
        backlog += a->random ? set_pages * (1 - exp(-pps * first_s /
                                                    set_pages))
                             : MIN(set_pages, pps * first_s);
        kept += pps;
    }
    switchover = link_pps * sc->downtime_ns / SIM_S;
    kept = MIN(kept, link_pps * sc->threshold_percent / 100);
    if (kept >= link_pps) {
        return 0;
    }
    after_s = first_s + MAX(backlog - switchover, 0) / (link_pps - kept);
    if (backlog < s->memory.pages * IN_VAIN) {
        return after_s;
    }
    /* From the beginning, half of what is dirtied is to be sent anyway. */
    at_once_s = (s->memory.pages - switchover) / (link_pps - kept / 2);
    *at_once = at_once_s < after_s;
    return MIN(after_s, MAX(at_once_s, first_s));
}

static void figures_of_vcpus(const Sim *s, const Before *b, SimFigures *f)
{
    const Scenario *sc = s->scenario;
    double sum = 0, squares = 0;
    unsigned writers = 0;

    f->writer_kept = f->reader_kept = f->worst_second = f->least_share = 1;
    for (unsigned i = 0; i < s->nr_vcpus; i++) {
        const SimVcpu *v = &s->vcpus[i];
        double wanted = v->wanted - b->wanted[i], kept = 1;

        f->stall_ms = MAX(f->stall_ms, (double)guest_longest_sleep_ns(s, v) /
                                       SIM_MS);
        f->worst_second = MIN(f->worst_second, v->worst_second);
        if (v->fair_wanted > OVERRUN_TIMES * SIM_TICK_NS / sc->fault_ns) {
            f->least_share = MIN(f->least_share, v->fair_done / v->fair_wanted);
        }
        if (v->wanted > 0) {
            f->lost_s += MAX(1 - v->done / v->wanted, 0) * s->now_ns / SIM_S;
        }
        if (wanted > 0 && s->throttled_ns) {
            kept = (v->done - b->done[i]) / wanted;
        }
        if (v->actor->reads) {
            f->reader_kept = MIN(f->reader_kept, kept);
            continue;
        }
        f->writer_kept = MIN(f->writer_kept, kept);
        writers++;
        sum += kept;
        squares += kept * kept;
    }
    f->jain = squares > 0 ? sum * sum / (writers * squares) : 1;
}

static void figures_after_first_pass(const Sim *s, const Before *b,
                                     SimFigures *f)
{
    int64_t took_ns = s->now_ns - b->first_pass_ns;

    if (!b->first_pass_ns) {
        return;
    }
    f->first_pass_s = sim_seconds(b->first_pass_ns);
    if (took_ns) {
        f->dirtied_pps = (figures_dirtied(s) - b->first_pass_dirtied) * SIM_S /
                         took_ns;
    }
}

static double figures_variation(const GArray *spans)
{
    double sum = 0, squares = 0, mean;

    for (unsigned i = 0; i < spans->len; i++) {
        double pages = g_array_index(spans, double, i);

        sum += pages;
        squares += pages * pages;
    }
    if (sum <= 0) {
        return 0;
    }
    mean = sum / spans->len;
    return sqrt(MAX(squares / spans->len - mean * mean, 0)) / mean;
}

SimFigures sim_run(const Scenario *scenario, const SimPolicy *policy,
                   FILE *timeline)
{
    Sim s = { .scenario = scenario, .policy = policy };
    SimFigures f = { };
    Before b = { .spans = g_array_new(false, false, sizeof(double)) };

    guest_init(&s);
    b.done = g_new0(double, s.nr_vcpus);
    b.wanted = g_new0(double, s.nr_vcpus);
    /* The engine wants a clock that is above 0. */
    s.now_ns = SIM_TICK_NS;
    if (policy->begin) {
        policy->begin(&s);
    }
    sender_init(&s);
    while (!s.sender.completed && s.now_ns < scenario->give_up_ns) {
        s.now_ns += SIM_TICK_NS;
        guest_advance(&s);
        sender_advance(&s);
        if (policy->step) {
            policy->step(&s);
        }
        figures_watch(&s, &b);
        if (timeline && s.now_ns % (SPAN_TICKS * SIM_TICK_NS) == 0) {
            timeline_print(timeline, &s);
        }
    }
    f.completed = s.sender.completed;
    f.total_s = sim_seconds(s.sender.completed ? s.sender.total_ns : s.now_ns);
    f.downtime_ms = (double)s.sender.downtime_ns / SIM_MS;
    f.iterations = s.sender.iteration;
    f.possible_s = figures_possible_s(&s, &f.at_once);
    f.throttled_s = s.throttled_ns ? sim_seconds(s.throttled_ns) : 0;
    f.oscillation = figures_variation(b.spans);
    f.engine = policy_engine_state(&s);
    figures_of_vcpus(&s, &b, &f);
    figures_after_first_pass(&s, &b, &f);
    if (policy->end) {
        policy->end(&s);
    }
    g_array_free(b.spans, true);
    g_free(b.done);
    g_free(b.wanted);
    g_rand_free(s.sender.rand);
    guest_free(&s);
    return f;
}

void figures_print_head(FILE *file, bool csv)
{
    if (csv) {
        fprintf(file, "scenario,policy,completed,total_s,possible_s,"
                "downtime_ms,iterations,throttled_s,lost_s,writer_kept,"
                "reader_kept,jain,worst_second,least_share,stall_ms,"
                "oscillation,phases,flaps,reason,step_us,"
                "vcpu_bytes,first_pass_s,dirtied_pps,late_since_s,late_s\n");
        return;
    }
    fprintf(file, "%-20s %-15s %7s %4s %6s %7s %7s %6s %6s %7s %6s %6s\n",
            "scenario", "policy", "total s", "%", "lost s", "writer%",
            "reader%", "Jain", "worst%", "stall", "osc. %", "step us");
}

/*
 * The rest of a line, to compare a run with its deadline.  Nobody may know when
 * it can be over: that is 0 then.
 */
static void figures_print_aim(FILE *file, const SimFigures *f)
{
    int64_t since_ns = f->engine.late_since_ns, late_ns = f->engine.late_ns;

    fprintf(file, "%.3f,%.0f,%.3f,%.3f\n", f->first_pass_s, f->dirtied_pps,
            since_ns ? sim_seconds(since_ns) : 0,
            since_ns && late_ns > 0 ? (double)late_ns / SIM_S : 0);
}

void figures_print(FILE *file, bool csv, const Scenario *scenario,
                   const SimPolicy *policy, const SimFigures *f)
{
    char total[16], percent[16] = "-", step[16] = "-";

    if (csv) {
        fprintf(file, "%s,%s,%d,%.3f,%.3f,%.1f,%u,%.2f,%.3f,%.4f,%.4f,%.4f,"
                "%.4f,%.4f,%.1f,%.4f,%u,%u,%s,%.2f,%zu,", scenario->name,
                policy->name, f->completed, f->total_s, f->possible_s,
                f->downtime_ms, f->iterations, f->throttled_s, f->lost_s,
                f->writer_kept, f->reader_kept, f->jain, f->worst_second,
                f->least_share, f->stall_ms, f->oscillation, f->engine.phases,
                f->engine.flaps, f->engine.reason,
                f->engine.step_ns / 1000, f->engine.vcpu_bytes);
        figures_print_aim(file, f);
        return;
    }
    snprintf(total, sizeof(total), f->completed ? "%.2f" : "never",
             f->total_s);
    if (f->completed && f->possible_s > 0) {
        snprintf(percent, sizeof(percent), "%.0f",
                 f->possible_s / f->total_s * 100);
    }
    if (f->engine.steps) {
        snprintf(step, sizeof(step), "%.1f", f->engine.step_ns / 1000);
    }
    fprintf(file, "%-20s %-15s %7s %4s %6.1f %7.1f %7.1f %6.3f %6.1f %7.1f"
            " %6.1f %6s\n", scenario->name, policy->name, total, percent,
            f->lost_s, f->writer_kept * 100, f->reader_kept * 100, f->jain,
            f->worst_second * 100, f->stall_ms, f->oscillation * 100, step);
}
