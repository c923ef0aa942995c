/*
 * Throttle simulator: the program
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <stdlib.h>
#include "figures.h"

const SimPolicy *const policies[] = {
    &policy_none,
    &policy_converge,
    &policy_feedback,
    &policy_equal,
    &policy_quota,
    &policy_limit,
    &policy_limit_and_quota,
    &policy_at_once,
    &policy_at_half,
    &policy_after_pass,
    NULL
};

/* The arguments */
typedef struct Options {
    char **names;
    char **paths;
    char *timeline;
    gboolean csv;
    gboolean tap;
} Options;

static const SimPolicy *find_policy(const char *name)
{
    for (unsigned i = 0; policies[i]; i++) {
        if (!strcmp(policies[i]->name, name)) {
            return policies[i];
        }
    }
    return NULL;
}

static bool parse(Options *o, int argc, char **argv)
{
    const GOptionEntry options[] = {
        { "policy", 'p', 0, G_OPTION_ARG_STRING_ARRAY, &o->names,
          "Who slows vCPUs down; may be given several times; all if it is not,"
          " but for at-once and after-first-pass", "NAME" },
        { "tap", 0, 0, G_OPTION_ARG_NONE, &o->tap,
          "Whether dirty-quota is as it promises, in TAP", NULL },
        { "csv", 0, 0, G_OPTION_ARG_NONE, &o->csv,
          "All figures, as comma-separated values", NULL },
        { "timeline", 0, 0, G_OPTION_ARG_FILENAME, &o->timeline,
          "How it went, as comma-separated values for charts", "FILE" },
        { G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &o->paths,
          NULL, "SCENARIO..." },
        { }
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;

    g_option_context_set_summary(context, "Migrations in a model of a guest,"
                                 " with the engine that QEMU runs");
    g_option_context_add_main_entries(context, options, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error) || !o->paths) {
        fprintf(stderr, "throttle-sim: %s\n",
                error ? error->message : "no scenario is given");
        return false;
    }
    for (char **name = o->names; name && *name; name++) {
        if (!find_policy(*name)) {
            fprintf(stderr, "throttle-sim: no policy '%s'; there are", *name);
            for (unsigned i = 0; policies[i]; i++) {
                fprintf(stderr, " %s", policies[i]->name);
            }
            fprintf(stderr, "\n");
            return false;
        }
    }
    return true;
}

static void run_all(const Options *o, const Scenario *scenario, FILE *timeline)
{
    for (unsigned i = 0; o->names ? !!o->names[i] : !!policies[i]; i++) {
        const SimPolicy *policy = o->names ? find_policy(o->names[i])
                                           : policies[i];
        SimFigures f;

        if (!o->names && policy->on_request) {
            continue;
        }
        f = sim_run(scenario, policy, timeline);
        figures_print(stdout, o->csv, scenario, policy, &f);
        fflush(stdout);
    }
}

/* Returns: whether all is well */
static bool check(const Scenario *scenario, unsigned number)
{
    SimFigures f = sim_run(scenario, &policy_quota, NULL);
    g_autofree char *wrong = figures_judge(scenario, &f);

    printf("%sok %u %s\n", wrong ? "not " : "", number, scenario->name);
    if (wrong) {
        printf("# %s\n", wrong);
    }
    fflush(stdout);
    return !wrong;
}

int main(int argc, char **argv)
{
    Options o = { };
    FILE *timeline = NULL;
    bool good = parse(&o, argc, argv);

    if (!good) {
        return 1;
    }
    if (o.timeline) {
        timeline = fopen(o.timeline, "w");
        if (!timeline) {
            perror(o.timeline);
            return 1;
        }
        timeline_print_head(timeline);
    }
    if (o.tap) {
        printf("1..%u\n", g_strv_length(o.paths));
    } else {
        figures_print_head(stdout, o.csv);
    }
    for (unsigned i = 0; o.paths[i]; i++) {
        g_autoptr(GError) error = NULL;
        Scenario *scenario = scenario_load(o.paths[i], &error);

        if (!scenario) {
            fprintf(stderr, "throttle-sim: %s\n", error->message);
            return 1;
        }
        if (o.tap) {
            good &= check(scenario, i + 1);
        } else {
            run_all(&o, scenario, timeline);
        }
        scenario_free(scenario);
    }
    if (timeline && fclose(timeline)) {
        perror(o.timeline);
        good = false;
    }
    g_free(o.timeline);
    g_strfreev(o.names);
    g_strfreev(o.paths);
    return !good;
}
