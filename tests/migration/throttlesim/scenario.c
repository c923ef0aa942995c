/*
 * Throttle simulator: what is simulated
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <math.h>
#include "scenario.h"

#define MIB (1024.0 * 1024)
#define MS 1000000LL
#define S (1000 * MS)

/* All that is not said, as on the machines that the model was compared with */
#define DEFAULT_DOWNTIME_MS 300
#define DEFAULT_THRESHOLD 50
#define DEFAULT_MAX_THROTTLE 99
#define DEFAULT_GIVE_UP_S 120
#define DEFAULT_WRITE_NS 260
#define DEFAULT_FAULT_NS 6800
#define DEFAULT_ZERO_NS 5000
#define DEFAULT_KICK_NS 30000
#define DEFAULT_SYNC_NS 50000

/* What the engine promises in any scenario that says nothing else */
#define EXPECTED_PERCENT 90
#define EXPECTED_READER_PERCENT 99
#define EXPECTED_SHARE_PERCENT 90
#define EXPECTED_STALL_MS 101

/* More would not be simulated in a reasonable time. */
#define MAX_VCPUS 4096

#define SCENARIO_ERROR g_quark_from_static_string("throttle-sim-scenario")

/* A key of a group, and where its value goes */
typedef struct Key {
    const char *name;
    double min;
    double max;
    /* the value is stored as value * unit */
    double unit;
    /* one of these */
    uint64_t *count;
    int64_t *ns;
    unsigned *number;
    double *real;
    bool *flag;
} Key;

static bool scenario_fail(GError **error, const char *group, const char *key,
                          const char *format, ...) G_GNUC_PRINTF(4, 5);

static bool scenario_fail(GError **error, const char *group, const char *key,
                          const char *format, ...)
{
    va_list args;
    g_autofree char *what = NULL;

    va_start(args, format);
    what = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, SCENARIO_ERROR, 0, "[%s] %s: %s", group, key, what);
    return false;
}

static bool scenario_number(const char *text, double *value)
{
    char *end;

    *value = g_ascii_strtod(text, &end);
    return end != text && !*g_strchug(end) && isfinite(*value);
}

static bool scenario_take(GKeyFile *file, const char *group, const Key *key,
                          GError **error)
{
    g_autofree char *text = g_key_file_get_string(file, group, key->name, NULL);
    double value;

    if (key->flag) {
        *key->flag = !strcmp(text, "yes");
        return *key->flag || !strcmp(text, "no") ||
               scenario_fail(error, group, key->name,
                             "'%s' is neither 'yes' nor 'no'", text);
    }
    if (!scenario_number(text, &value) || value < key->min ||
        value > key->max) {
        return scenario_fail(error, group, key->name,
                             "'%s' is not a number from %g to %g", text,
                             key->min, key->max);
    }
    value *= key->unit;
    if (key->count) {
        *key->count = llround(value);
    } else if (key->ns) {
        *key->ns = llround(value);
    } else if (key->number) {
        *key->number = lround(value);
    } else {
        *key->real = value;
    }
    return true;
}

/*
 * All keys of a group are in @keys or @words; the latter are left to the
 * caller.
 */
static bool scenario_group(GKeyFile *file, const char *group, const Key *keys,
                           const char *const *words, GError **error)
{
    g_auto(GStrv) names = g_key_file_get_keys(file, group, NULL, NULL);

    for (char **name = names; name && *name; name++) {
        const Key *key = keys;

        if (words && g_strv_contains(words, *name)) {
            continue;
        }
        while (key->name && strcmp(key->name, *name)) {
            key++;
        }
        if (!key->name) {
            g_autoptr(GString) all = g_string_new(NULL);

            for (key = keys; key->name; key++) {
                g_string_append_printf(all, " %s", key->name);
            }
            for (; words && *words; words++) {
                g_string_append_printf(all, " %s", *words);
            }
            return scenario_fail(error, group, *name,
                                 "no such key; there are%s", all->str);
        }
        if (!scenario_take(file, group, key, error)) {
            return false;
        }
    }
    return true;
}

/* As a number in a list of words; -1 with @error set if it is none of them */
static int scenario_word(GKeyFile *file, const char *group, const char *key,
                         const char *const *words, int missing, GError **error)
{
    g_autofree char *text = g_key_file_get_string(file, group, key, NULL);
    g_autofree char *all = NULL;

    if (!text) {
        return missing;
    }
    for (int i = 0; words[i]; i++) {
        if (!strcmp(text, words[i])) {
            return i;
        }
    }
    all = g_strjoinv(", ", (char **)words);
    scenario_fail(error, group, key, "'%s' is none of %s", text, all);
    return -1;
}

/* A list of SECONDS:VALUE, in order */
static bool scenario_changes(GKeyFile *file, const char *group,
                             const char *key, double min, double max,
                             GArray *changes, GError **error)
{
    g_auto(GStrv) parts = g_key_file_get_string_list(file, group, key, NULL,
                                                     NULL);

    for (char **part = parts; part && *part; part++) {
        g_auto(GStrv) two = g_strsplit(*part, ":", 2);
        double seconds, value;
        SimChange change;

        if (!two[0] || !two[1] || !scenario_number(two[0], &seconds) ||
            !scenario_number(two[1], &value) || seconds < 0 ||
            seconds > 1e6 || value < min || value > max) {
            return scenario_fail(error, group, key, "'%s' is not SECONDS:VALUE"
                                 " with a value from %g to %g", *part, min,
                                 max);
        }
        change = (SimChange) { llround(seconds * S), value };
        if (changes->len && g_array_index(changes, SimChange,
                                          changes->len - 1).at_ns >
                            change.at_ns) {
            return scenario_fail(error, group, key, "'%s' comes too late; a"
                                 " list is in the order of time", *part);
        }
        g_array_append_val(changes, change);
    }
    return true;
}

static bool scenario_load_vm(Scenario *s, GKeyFile *file, GError **error)
{
    static const char *const mechanisms[] = {
        "none", "ring", "statistics", "quota", "time", NULL
    };
    static const char *const words[] = { "title", "mechanism", NULL };
    uint64_t ring_pages = 4096;
    int mechanism;
    const Key keys[] = {
        { "ram-mib", 1, 1e9, MIB / SIM_PAGE_BYTES, .count = &s->ram_pages },
        { "zero-mib", 0, 1e9, MIB / SIM_PAGE_BYTES, .count = &s->zero_pages },
        { "ring", 128, 65536, 1, .count = &ring_pages },
        { }
    };

    mechanism = scenario_word(file, "vm", "mechanism", mechanisms,
                              SIM_MECHANISM_RING, error);
    if (mechanism < 0 || !scenario_group(file, "vm", keys, words, error)) {
        return false;
    }
    s->mechanism = mechanism;
    s->ring_pages = mechanism == SIM_MECHANISM_RING ? ring_pages : 0;
    s->title = g_key_file_get_string(file, "vm", "title", NULL);
    return true;
}

static bool scenario_load_link(Scenario *s, GKeyFile *file, GError **error)
{
    static const char *const words[] = { "changes", NULL };
    const Key keys[] = {
        { "mib", 0.01, 1e6, MIB, .real = &s->link_bps },
        { "jitter-percent", 0, 90, 0.01, .real = &s->link_jitter },
        { "capped", .flag = &s->link_capped },
        { }
    };

    return scenario_group(file, "link", keys, words, error) &&
           scenario_changes(file, "link", "changes", 0, 1e6, s->link_changes,
                            error);
}

static bool scenario_load_migration(Scenario *s, GKeyFile *file,
                                    GError **error)
{
    const Key keys[] = {
        { "downtime-ms", 1, 100000, MS, .ns = &s->downtime_ns },
        { "threshold", 1, 100, 1, .number = &s->threshold_percent },
        { "limit-mib", 1, 1e6, MIB / SIM_PAGE_BYTES, .count = &s->limit_pps },
        { "max-throttle", 1, 99, 1, .number = &s->max_throttle_percent },
        { "deadline-s", 1, 100000, S, .ns = &s->deadline_ns },
        { "give-up-s", 1, 100000, S, .ns = &s->give_up_ns },
        { }
    };

    return scenario_group(file, "migration", keys, NULL, error);
}

static bool scenario_load_machine(Scenario *s, GKeyFile *file, GError **error)
{
    static const char *const words[] = { "clock-jumps", NULL };
    const Key keys[] = {
        { "write-ns", 1, 1e9, 1, .ns = &s->write_ns },
        { "fault-ns", 1, 1e9, 1, .ns = &s->fault_ns },
        { "zero-ns", 1, 1e9, 1, .ns = &s->zero_ns },
        { "kick-ns", 0, 1e9, 1, .ns = &s->kick_ns },
        { "sync-us-per-gib", 0, 1e7, 1000, .ns = &s->sync_ns },
        { "cpus", 1, MAX_VCPUS, 1, .number = &s->cpus },
        { "false-faults", 0, 1e7, 1, .count = &s->false_pps },
        { }
    };

    return scenario_group(file, "machine", keys, words, error) &&
           scenario_changes(file, "machine", "clock-jumps", -1e6, 1e6,
                            s->clock_jumps, error);
}

static bool scenario_load_expected(Scenario *s, GKeyFile *file,
                                   GError **error)
{
    static const char *const words[] = { "reason", NULL };
    SimExpected *e = &s->expected;
    const Key keys[] = {
        { "converges", .flag = &e->converges },
        { "late", .flag = &e->late },
        { "percent", 0, 100, 1, .real = &e->percent },
        { "second-percent", 0, 100, 1, .real = &e->second_percent },
        { "reader-percent", 0, 100, 1, .real = &e->reader_percent },
        { "share-percent", 0, 100, 1, .real = &e->share_percent },
        { "stall-ms", 0, 1e6, 1, .real = &e->stall_ms },
        { }
    };

    e->reason = g_key_file_get_string(file, "expected", "reason", NULL);
    return scenario_group(file, "expected", keys, words, error);
}

static bool scenario_load_actor(Scenario *s, GKeyFile *file, const char *group,
                                bool device, GError **error)
{
    static const char *const patterns[] = { "sweep", "random", "reads", NULL };
    static const char *const words[] = { "pattern", NULL };
    SimActor a = {
        .device = device,
        .count = 1,
        .until_ns = INT64_MAX,
    };
    int pattern = scenario_word(file, group, "pattern", patterns, 0, error);
    const Key keys[] = {
        { "set-mib", 0.015625, 1e9, MIB / SIM_PAGE_BYTES,
          .count = &a.set_pages },
        { "rate", 0, 1e10, 1, .count = &a.rate_pps },
        { "watched-rate", 1, 1e10, 1, .count = &a.watched_pps },
        { "first-mib", 0.015625, 1e9, MIB / SIM_PAGE_BYTES,
          .count = &a.first_pages },
        { "grows-mib", 0, 1e9, MIB / SIM_PAGE_BYTES, .count = &a.grows_pps },
        { "on-ms", 1, 1e8, MS, .ns = &a.on_ns },
        { "off-ms", 0, 1e8, MS, .ns = &a.off_ns },
        { "from-s", 0, 1e6, S, .ns = &a.from_ns },
        { "until-s", 0, 1e6, S, .ns = &a.until_ns },
        { "apart-ms", 0, 1e6, MS, .ns = &a.apart_ns },
        { "count", 1, MAX_VCPUS, 1, .number = &a.count },
        { "shared", .flag = &a.shared },
        { }
    };

    if (pattern < 0 || !scenario_group(file, group, keys, words, error)) {
        return false;
    }
    if (pattern == 2 && a.watched_pps) {
        return scenario_fail(error, group, "watched-rate",
                             "only writers have one");
    }
    a.random = pattern == 1;
    a.reads = pattern == 2;
    if (!a.set_pages) {
        return scenario_fail(error, group, "set-mib", "is missing");
    }
    if (a.off_ns && !a.on_ns) {
        return scenario_fail(error, group, "off-ms", "needs on-ms");
    }
    if (device && !a.rate_pps) {
        return scenario_fail(error, group, "rate",
                             "a device needs one, above 0");
    }
    if ((a.first_pages || a.grows_pps) && (a.random || a.reads)) {
        return scenario_fail(error, group, "grows-mib",
                             "only a sweep can grow");
    }
    a.first_pages = a.first_pages ? MIN(a.first_pages, a.set_pages)
                                  : a.set_pages;
    a.name = g_strdup(strchr(group, ' ') + 1);
    g_array_append_val(s->actors, a);
    return true;
}

static bool scenario_load_group(Scenario *s, GKeyFile *file, const char *group,
                                GError **error)
{
    if (!strcmp(group, "vm")) {
        return scenario_load_vm(s, file, error);
    }
    if (!strcmp(group, "link")) {
        return scenario_load_link(s, file, error);
    }
    if (!strcmp(group, "migration")) {
        return scenario_load_migration(s, file, error);
    }
    if (!strcmp(group, "machine")) {
        return scenario_load_machine(s, file, error);
    }
    if (!strcmp(group, "expected")) {
        return scenario_load_expected(s, file, error);
    }
    if (g_str_has_prefix(group, "vcpus ")) {
        return scenario_load_actor(s, file, group, false, error);
    }
    if (g_str_has_prefix(group, "device ")) {
        return scenario_load_actor(s, file, group, true, error);
    }
    g_set_error(error, SCENARIO_ERROR, 0, "[%s]: no such group; there are vm,"
                " link, migration, machine, expected, 'vcpus NAME' and"
                " 'device NAME'", group);
    return false;
}

/* What only all groups together tell */
static bool scenario_complete(Scenario *s, GError **error)
{
    uint64_t set_pages = 0;
    unsigned vcpus = 0;

    for (unsigned i = 0; i < s->actors->len; i++) {
        SimActor *a = &g_array_index(s->actors, SimActor, i);

        set_pages += a->set_pages * (a->shared ? 1 : a->count);
        vcpus += a->device ? 0 : a->count;
    }
    if (!vcpus || vcpus > MAX_VCPUS) {
        g_set_error(error, SCENARIO_ERROR, 0, "%u vCPUs; there are 1 to %d, by"
                    " groups 'vcpus NAME'", vcpus, MAX_VCPUS);
        return false;
    }
    if (!s->link_bps) {
        return scenario_fail(error, "link", "mib", "is missing");
    }
    if (!s->title) {
        return scenario_fail(error, "vm", "title", "is missing");
    }
    s->ram_pages = MAX(s->ram_pages, set_pages);
    return true;
}

Scenario *scenario_load(const char *path, GError **error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_auto(GStrv) groups = NULL;
    g_autofree char *base = g_path_get_basename(path);
    Scenario *s;

    if (!g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, error)) {
        g_prefix_error(error, "%s: ", path);
        return NULL;
    }
    s = g_new0(Scenario, 1);
    *s = (Scenario) {
        .name = g_strndup(base, strcspn(base, ".")),
        .mechanism = SIM_MECHANISM_RING,
        .ring_pages = 4096,
        .link_changes = g_array_new(false, false, sizeof(SimChange)),
        .clock_jumps = g_array_new(false, false, sizeof(SimChange)),
        .actors = g_array_new(false, false, sizeof(SimActor)),
        .link_capped = true,
        .downtime_ns = DEFAULT_DOWNTIME_MS * MS,
        .threshold_percent = DEFAULT_THRESHOLD,
        .max_throttle_percent = DEFAULT_MAX_THROTTLE,
        .give_up_ns = DEFAULT_GIVE_UP_S * S,
        .write_ns = DEFAULT_WRITE_NS,
        .fault_ns = DEFAULT_FAULT_NS,
        .zero_ns = DEFAULT_ZERO_NS,
        .kick_ns = DEFAULT_KICK_NS,
        .sync_ns = DEFAULT_SYNC_NS,
        .expected = {
            .converges = true,
            .percent = EXPECTED_PERCENT,
            .reader_percent = EXPECTED_READER_PERCENT,
            .share_percent = EXPECTED_SHARE_PERCENT,
            .stall_ms = EXPECTED_STALL_MS,
        },
    };
    groups = g_key_file_get_groups(file, NULL);
    for (char **group = groups; *group; group++) {
        if (!scenario_load_group(s, file, *group, error)) {
            goto bad;
        }
    }
    if (scenario_complete(s, error)) {
        return s;
    }
bad:
    g_prefix_error(error, "%s: ", path);
    scenario_free(s);
    return NULL;
}

void scenario_free(Scenario *s)
{
    for (unsigned i = 0; i < s->actors->len; i++) {
        g_free(g_array_index(s->actors, SimActor, i).name);
    }
    g_array_free(s->actors, true);
    g_array_free(s->link_changes, true);
    g_array_free(s->clock_jumps, true);
    g_free(s->expected.reason);
    g_free(s->title);
    g_free(s->name);
    g_free(s);
}

bool scenario_estimates(const Scenario *s)
{
    return s->mechanism == SIM_MECHANISM_STATISTICS ||
           s->mechanism == SIM_MECHANISM_TIME;
}

double scenario_link_pps(const Scenario *s, int64_t now_ns)
{
    double bps = s->link_bps;

    for (unsigned i = 0; i < s->link_changes->len; i++) {
        SimChange *change = &g_array_index(s->link_changes, SimChange, i);

        if (change->at_ns <= now_ns) {
            bps = change->value * MIB;
        }
    }
    return bps / (SIM_PAGE_BYTES + SIM_PAGE_HEADER_BYTES);
}
