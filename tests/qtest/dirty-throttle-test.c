/*
 * Dirty throttle: what QMP, HMP and -global accept, show and refuse
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include "libqtest.h"
#include "qapi/qmp/qdict.h"
#include "qapi/qmp/qlist.h"

#define MAX_CPUS 4
#define MAX_MBPS (1LL << 32)

/* Why the tests that need a dirty ring cannot run; NULL: they can. */
static const char *ring_missing;

static const char *find_ring_missing(void)
{
    int fd = open("/dev/kvm", O_RDWR), ret;

    if (fd < 0) {
        return "no /dev/kvm";
    }
    ret = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_DIRTY_LOG_RING);
    close(fd);
    return ret > 0 ? NULL : "KVM has no dirty ring";
}

static QTestState *start_plain(void)
{
    return qtest_init("-machine pc -display none -nodefaults");
}

static QTestState *start_ring(void)
{
    return qtest_initf("-accel kvm,dirty-ring-size=4096 -machine pc -S"
                       " -display none -nodefaults -smp 2,maxcpus=%d",
                       MAX_CPUS);
}

/* The command fails, and what it says contains @expected. */
static void assert_error(QDict *rsp, const char *expected)
{
    QDict *error = qdict_get_qdict(rsp, "error");
    const char *desc;

    g_assert_nonnull(error);
    desc = qdict_get_str(error, "desc");
    if (!strstr(desc, expected)) {
        g_error("'%s' does not contain '%s'", desc, expected);
    }
    qobject_unref(rsp);
}

static void assert_hmp(QTestState *qts, const char *cmd, const char *expected)
{
    g_autofree char *out = qtest_hmp(qts, "%s", cmd);

    if (!strstr(out, expected)) {
        g_error("'%s' printed '%s', which does not contain '%s'",
                cmd, out, expected);
    }
}

static int64_t get_parameter(QTestState *qts, const char *name)
{
    QDict *rsp = qtest_qmp(qts, "{'execute': 'query-migrate-parameters'}");
    int64_t value = qdict_get_int(qdict_get_qdict(rsp, "return"), name);

    qobject_unref(rsp);
    return value;
}

static bool get_capability(QTestState *qts, const char *name)
{
    QDict *rsp = qtest_qmp(qts, "{'execute': 'query-migrate-capabilities'}");
    QListEntry *entry;
    bool state = false, found = false;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(rsp, "return"), entry) {
        QDict *cap = qobject_to(QDict, qlist_entry_obj(entry));

        if (g_str_equal(qdict_get_str(cap, "capability"), name)) {
            state = qdict_get_bool(cap, "state");
            found = true;
        }
    }
    g_assert_true(found);
    qobject_unref(rsp);
    return state;
}

static QDict *set_capability(QTestState *qts, const char *name, bool state)
{
    return qtest_qmp(qts, "{'execute': 'migrate-set-capabilities',"
                     " 'arguments': {'capabilities':"
                     " [{'capability': %s, 'state': %i}]}}", name, state);
}

static QDict *set_parameter(QTestState *qts, const char *name, int64_t value)
{
    return qtest_qmp(qts, "{'execute': 'migrate-set-parameters',"
                     " 'arguments': {%s: %" PRId64 "}}", name, value);
}

static void assert_ok(QDict *rsp)
{
    g_assert_true(qdict_haskey(rsp, "return"));
    qobject_unref(rsp);
}

/* How many vCPUs are limited, and the limit of the last of them. */
static int query_limits(QTestState *qts, int64_t *limit)
{
    QDict *rsp = qtest_qmp(qts, "{'execute': 'query-vcpu-dirty-limit'}");
    QListEntry *entry;
    int count = 0;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(rsp, "return"), entry) {
        QDict *info = qobject_to(QDict, qlist_entry_obj(entry));

        g_assert_cmpint(qdict_get_int(info, "current-rate"), ==, 0);
        *limit = qdict_get_int(info, "limit-rate");
        count++;
    }
    qobject_unref(rsp);
    return count;
}

static void test_commands_without_ring(void)
{
    QTestState *qts = start_plain();
    int64_t limit;

    assert_error(qtest_qmp(qts, "{'execute': 'set-vcpu-dirty-limit',"
                           " 'arguments': {'dirty-rate': 10}}"),
                 "requires KVM with accelerator property 'dirty-ring-size'");
    assert_ok(qtest_qmp(qts, "{'execute': 'cancel-vcpu-dirty-limit'}"));
    g_assert_cmpint(query_limits(qts, &limit), ==, 0);
    assert_hmp(qts, "set_vcpu_dirty_limit 10", "Error: dirty page limit");
    assert_hmp(qts, "info vcpu_dirty_limit", "not enabled");
    qtest_quit(qts);
}

static void test_capability_without_ring(const void *name)
{
    g_autofree char *expected =
        g_strdup_printf("%s requires KVM with accelerator property "
                        "'dirty-ring-size' set, or auto-converge",
                        (const char *)name);
    g_autofree char *shown = g_strdup_printf("%s: on", (const char *)name);
    QTestState *qts = start_plain();

    assert_error(set_capability(qts, name, true), expected);
    g_assert_false(get_capability(qts, name));

    /* auto-converge takes its place */
    assert_ok(set_capability(qts, "auto-converge", true));
    assert_ok(set_capability(qts, name, true));
    g_assert_true(get_capability(qts, name));
    assert_error(set_capability(qts, "auto-converge", false), name);
    g_assert_true(get_capability(qts, "auto-converge"));
    assert_hmp(qts, "info migrate_capabilities", shown);
    assert_error(set_capability(qts, "background-snapshot", true),
                 "ackground-snapshot");
    qtest_quit(qts);
}

static void test_reaper_without_ring(void)
{
    const char *name = "adaptive-reaper";
    QTestState *qts = start_plain();

    assert_error(set_capability(qts, name, true),
                 "adaptive-reaper requires KVM with accelerator property "
                 "'dirty-ring-size' set");
    g_assert_false(get_capability(qts, name));
    /* nothing can take its place */
    assert_ok(set_capability(qts, "auto-converge", true));
    assert_error(set_capability(qts, name, true), "adaptive-reaper requires");
    g_assert_false(get_capability(qts, name));
    assert_ok(set_capability(qts, name, false));
    assert_hmp(qts, "info migrate_capabilities", "adaptive-reaper: off");
    qtest_quit(qts);
}

static void test_reaper_with_ring(void)
{
    const char *name = "adaptive-reaper";
    QTestState *qts;

    if (ring_missing) {
        g_test_skip(ring_missing);
        return;
    }
    qts = start_ring();
    g_assert_false(get_capability(qts, name));
    assert_ok(set_capability(qts, name, true));
    g_assert_true(get_capability(qts, name));
    assert_hmp(qts, "info migrate_capabilities", "adaptive-reaper: on");
    assert_ok(set_capability(qts, name, false));
    g_assert_false(get_capability(qts, name));
    qtest_quit(qts);
}

/* Without a ring it is told that there is none, and who takes over. */
static void test_fallback_without_ring(void)
{
    QTestState *qts = start_plain();
    QDict *rsp, *throttle;

    assert_ok(set_capability(qts, "auto-converge", true));
    assert_ok(set_capability(qts, "dirty-quota", true));
    assert_ok(set_parameter(qts, "max-bandwidth", 1));
    assert_ok(qtest_qmp(qts, "{'execute': 'migrate', 'arguments':"
                        " {'uri': 'exec:cat > /dev/null'}}"));
    do {
        rsp = qtest_qmp(qts, "{'execute': 'query-migrate'}");
        throttle = qdict_get_qdict(qdict_get_qdict(rsp, "return"),
                                   "dirty-throttle");
        if (throttle) {
            g_assert_cmpstr(qdict_get_str(throttle, "mode"), ==, "quota");
            g_assert_cmpstr(qdict_get_str(throttle, "phase"), ==,
                            "cannot-help");
            g_assert_cmpstr(qdict_get_str(throttle, "reason"), ==,
                            "no-mechanism");
            g_assert_true(qdict_get_bool(throttle, "fallback"));
            g_assert_false(qdict_haskey(throttle, "mechanism"));
            assert_hmp(qts, "info migrate", "dirty throttle: quota,"
                       " cannot-help (no-mechanism)");
        }
        qobject_unref(rsp);
    } while (!throttle);
    assert_ok(qtest_qmp(qts, "{'execute': 'migrate_cancel'}"));
    qtest_quit(qts);
}

static void test_parameters(void)
{
    static const struct {
        const char *name;
        int64_t def, min, max;
    } params[] = {
        { "vcpu-dirty-limit", 1, 1, MAX_MBPS },
        { "x-vcpu-dirty-limit-period", 1000, 1, 1000 },
        { "dirty-quota-interval", 100, 1, 1000 },
    };
    QTestState *qts = start_plain();

    for (int i = 0; i < ARRAY_SIZE(params); i++) {
        const char *name = params[i].name;

        g_assert_cmpint(get_parameter(qts, name), ==, params[i].def);
        assert_ok(set_parameter(qts, name, params[i].max));
        g_assert_cmpint(get_parameter(qts, name), ==, params[i].max);
        assert_error(set_parameter(qts, name, params[i].max + 1), name);
        assert_error(set_parameter(qts, name, params[i].min - 1), name);
        assert_error(set_parameter(qts, name, -1), name);
        g_assert_cmpint(get_parameter(qts, name), ==, params[i].max);
        assert_ok(set_parameter(qts, name, params[i].min));
        g_assert_cmpint(get_parameter(qts, name), ==, params[i].min);
    }

    assert_hmp(qts, "migrate_set_parameter vcpu-dirty-limit 0", "Error");
    assert_hmp(qts, "migrate_set_parameter vcpu-dirty-limit 33", "");
    assert_hmp(qts, "migrate_set_parameter x-vcpu-dirty-limit-period 44", "");
    assert_hmp(qts, "migrate_set_parameter dirty-quota-interval 55", "");
    assert_hmp(qts, "info migrate_parameters", "vcpu-dirty-limit: 33 MB/s");
    assert_hmp(qts, "info migrate_parameters", "dirty-quota-interval: 55 ms");
    assert_hmp(qts, "info migrate_parameters",
               "x-vcpu-dirty-limit-period: 44 ms");
    qtest_quit(qts);
}

static void test_properties(void)
{
    QTestState *qts;

    qts = qtest_init("-machine pc -display none -nodefaults"
                     " -global migration.x-auto-converge=on"
                     " -global migration.x-dirty-limit=on"
                     " -global migration.x-dirty-quota=on"
                     " -global migration.dirty-quota-interval=9"
                     " -global migration.vcpu-dirty-limit=7"
                     " -global migration.x-vcpu-dirty-limit-period=8");
    g_assert_true(get_capability(qts, "dirty-limit"));
    g_assert_cmpint(get_parameter(qts, "vcpu-dirty-limit"), ==, 7);
    g_assert_cmpint(get_parameter(qts, "x-vcpu-dirty-limit-period"), ==, 8);
    g_assert_true(get_capability(qts, "dirty-quota"));
    g_assert_cmpint(get_parameter(qts, "dirty-quota-interval"), ==, 9);
    qtest_quit(qts);
}

static void test_commands_with_ring(void)
{
    QTestState *qts;
    int64_t limit;

    if (ring_missing) {
        g_test_skip(ring_missing);
        return;
    }
    qts = start_ring();

    assert_error(qtest_qmp(qts, "{'execute': 'set-vcpu-dirty-limit',"
                           " 'arguments': {'dirty-rate': %" PRId64 "}}",
                           (int64_t)MAX_MBPS + 1),
                 "'dirty-rate' expects a value between 0 and 4294967296");
    assert_hmp(qts, "set_vcpu_dirty_limit 4294967297",
               "Error: Parameter 'dirty-rate'");
    assert_error(qtest_qmp(qts, "{'execute': 'set-vcpu-dirty-limit',"
                           " 'arguments': {'dirty-rate': -1}}"), "dirty-rate");
    assert_hmp(qts, "set_vcpu_dirty_limit -1", "Error: Parameter");
    for (int i = -1; i <= MAX_CPUS; i += MAX_CPUS + 1) {
        assert_error(qtest_qmp(qts, "{'execute': 'set-vcpu-dirty-limit',"
                               " 'arguments': {'dirty-rate': 10,"
                               " 'cpu-index': %d}}", i),
                     "incorrect cpu index");
        assert_error(qtest_qmp(qts, "{'execute': 'set-vcpu-dirty-limit',"
                               " 'arguments': {'dirty-rate': 0,"
                               " 'cpu-index': %d}}", i),
                     "incorrect cpu index");
        assert_error(qtest_qmp(qts, "{'execute': 'cancel-vcpu-dirty-limit',"
                               " 'arguments': {'cpu-index': %d}}", i),
                     "incorrect cpu index");
    }
    g_assert_cmpint(query_limits(qts, &limit), ==, 0);

    assert_ok(qtest_qmp(qts, "{'execute': 'set-vcpu-dirty-limit',"
                        " 'arguments': {'dirty-rate': 10, 'cpu-index': 1}}"));
    g_assert_cmpint(query_limits(qts, &limit), ==, 1);
    g_assert_cmpint(limit, ==, 10);
    assert_hmp(qts, "info vcpu_dirty_limit",
               "vcpu[1], limit rate 10 (MB/s), current rate 0.00 (MB/s)");

    /* all, the vCPUs that may still be plugged included */
    assert_hmp(qts, "set_vcpu_dirty_limit 20", "Please use");
    g_assert_cmpint(query_limits(qts, &limit), ==, MAX_CPUS);
    g_assert_cmpint(limit, ==, 20);

    assert_hmp(qts, "cancel_vcpu_dirty_limit 3", "Please use");
    g_assert_cmpint(query_limits(qts, &limit), ==, MAX_CPUS - 1);
    assert_ok(qtest_qmp(qts, "{'execute': 'cancel-vcpu-dirty-limit'}"));
    g_assert_cmpint(query_limits(qts, &limit), ==, 0);

    /* 0 cancels, too */
    assert_hmp(qts, "set_vcpu_dirty_limit 20", "Please use");
    assert_ok(qtest_qmp(qts, "{'execute': 'set-vcpu-dirty-limit',"
                        " 'arguments': {'dirty-rate': 0, 'cpu-index': 3}}"));
    g_assert_cmpint(query_limits(qts, &limit), ==, MAX_CPUS - 1);
    assert_hmp(qts, "set_vcpu_dirty_limit 0", "Please use");
    g_assert_cmpint(query_limits(qts, &limit), ==, 0);
    qtest_quit(qts);
}

/* 100 times over, with a sync of the dirty log going on beside it */
static void test_toggle_with_ring(void)
{
    QTestState *qts;
    int64_t limit;

    if (ring_missing) {
        g_test_skip(ring_missing);
        return;
    }
    qts = start_ring();
    assert_ok(qtest_qmp(qts, "{'execute': 'calc-dirty-rate', 'arguments':"
                        " {'calc-time': 1, 'mode': 'dirty-ring'}}"));
    for (int i = 1; i <= 100; i++) {
        assert_ok(qtest_qmp(qts, "{'execute': 'set-vcpu-dirty-limit',"
                            " 'arguments': {'dirty-rate': %d}}", i));
        g_assert_cmpint(query_limits(qts, &limit), ==, MAX_CPUS);
        g_assert_cmpint(limit, ==, i);
        assert_ok(qtest_qmp(qts, "{'execute': 'cancel-vcpu-dirty-limit'}"));
        g_assert_cmpint(query_limits(qts, &limit), ==, 0);
    }
    qtest_quit(qts);
}

static void test_flip_during_migration(void)
{
    QTestState *qts;
    QDict *rsp;

    if (ring_missing) {
        g_test_skip(ring_missing);
        return;
    }
    qts = start_ring();
    assert_ok(set_capability(qts, "dirty-limit", true));
    assert_ok(set_parameter(qts, "max-bandwidth", 1));
    assert_ok(qtest_qmp(qts, "{'execute': 'migrate', 'arguments':"
                        " {'uri': 'exec:cat > /dev/null'}}"));
    assert_error(set_capability(qts, "dirty-limit", false),
                 "There's a migration process in progress");
    g_assert_true(get_capability(qts, "dirty-limit"));

    /* nothing is limited yet, so there is nothing to tell */
    rsp = qtest_qmp(qts, "{'execute': 'query-migrate'}");
    g_assert_false(qdict_haskey(qdict_get_qdict(rsp, "return"),
                                "dirty-limit-throttle-time-per-round"));
    qobject_unref(rsp);
    assert_ok(qtest_qmp(qts, "{'execute': 'migrate_cancel'}"));
    qtest_quit(qts);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ring_missing = find_ring_missing();
    if (!qtest_has_machine("pc")) {
        return 0;
    }
    qtest_add_func("/dirty-throttle/no-ring/commands",
                   test_commands_without_ring);
    qtest_add_data_func("/dirty-throttle/no-ring/dirty-limit", "dirty-limit",
                        test_capability_without_ring);
    qtest_add_data_func("/dirty-throttle/no-ring/dirty-quota", "dirty-quota",
                        test_capability_without_ring);
    qtest_add_func("/dirty-throttle/no-ring/fallback",
                   test_fallback_without_ring);
    qtest_add_func("/dirty-throttle/no-ring/adaptive-reaper",
                   test_reaper_without_ring);
    qtest_add_func("/dirty-throttle/ring/adaptive-reaper",
                   test_reaper_with_ring);
    qtest_add_func("/dirty-throttle/parameters", test_parameters);
    qtest_add_func("/dirty-throttle/properties", test_properties);
    qtest_add_func("/dirty-throttle/ring/commands", test_commands_with_ring);
    qtest_add_func("/dirty-throttle/ring/toggle", test_toggle_with_ring);
    qtest_add_func("/dirty-throttle/ring/flip", test_flip_during_migration);
    return g_test_run();
}
