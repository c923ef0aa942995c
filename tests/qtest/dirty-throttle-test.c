/*
 * Dirty throttle: what QMP, HMP and -global accept, show and refuse
 *
 * Copyright (c) 2026 Dirty throttle maintainers
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
#define SECOND_NS 1000000000LL

/* Why the tests that need a dirty ring cannot run; NULL: they can. */
static const char *ring_missing;

static const char *find_ring_missing(void)
{
    int fd, ret;

    if (!qtest_has_accel("kvm")) {
        return "no /dev/kvm, or none for this target";
    }
    fd = open("/dev/kvm", O_RDWR);
    if (fd < 0) {
        return "/dev/kvm cannot be opened";
    }
    ret = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_DIRTY_LOG_RING);
    close(fd);
    return ret > 0 ? NULL : "KVM has no dirty ring";
}

/* A machine that the target has; nothing in these tests depends on which. */
static const char *machine(void)
{
    return g_str_equal(qtest_get_arch(), "aarch64") ? "virt" : "pc";
}

/* QEMU with @args and nothing else but a machine */
static QTestState *start(const char *args)
{
    return qtest_initf("-machine %s -display none -nodefaults %s", machine(),
                       args);
}

static QTestState *start_ring(void)
{
    g_autofree char *args =
        g_strdup_printf("-accel kvm,dirty-ring-size=4096 -S"
                        " -smp 2,maxcpus=%d", MAX_CPUS);

    return start(args);
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
    QTestState *qts = start("");
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

/* What a migration can do is judged on its source, when it starts. */
static void test_capability_without_ring(const void *name)
{
    g_autofree char *shown = g_strdup_printf("%s: on", (const char *)name);
    QTestState *qts = start("");
    QDict *rsp;

    g_assert_false(get_capability(qts, name));
    assert_ok(set_capability(qts, name, true));
    g_assert_true(get_capability(qts, name));
    assert_hmp(qts, "info migrate_capabilities", shown);
    assert_ok(set_capability(qts, "auto-converge", true));
    assert_ok(set_capability(qts, "auto-converge", false));
    g_assert_true(get_capability(qts, name));

    /* The kernel may lack something for it, but it is not this capability. */
    rsp = set_capability(qts, "background-snapshot", true);
    if (qdict_haskey(rsp, "error")) {
        g_assert_null(strstr(qdict_get_str(qdict_get_qdict(rsp, "error"),
                                           "desc"), name));
    }
    qobject_unref(rsp);

    assert_ok(set_capability(qts, name, false));
    g_assert_false(get_capability(qts, name));
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

/* A migration of which nobody reads what it sends; it ends by itself */
static void migrate_to_nowhere(QTestState *qts)
{
    assert_ok(qtest_qmp(qts, "{'execute': 'migrate', 'arguments':"
                        " {'uri': 'exec:cat > /dev/null'}}"));
}

/*
 * Wait for a migration's end.  Its status is "completed" then, and until then
 * @check, if there is one, was called with what dirty-throttle told.
 */
static void wait_completed(QTestState *qts, void (*check)(QDict *throttle))
{
    bool completed = false, told = false;

    while (!completed) {
        QDict *rsp = qtest_qmp(qts, "{'execute': 'query-migrate'}");
        QDict *info = qdict_get_qdict(rsp, "return");
        const char *status = qdict_get_try_str(info, "status");
        QDict *throttle = qdict_get_qdict(info, "dirty-throttle");

        g_assert_cmpstr(status, !=, "failed");
        if (check && throttle) {
            check(throttle);
            if (!told) {
                /* Once it was seen to be told, it need not take its time. */
                assert_ok(set_parameter(qts, "max-bandwidth", 1 << 30));
            }
            told = true;
        }
        completed = g_strcmp0(status, "completed") == 0;
        qobject_unref(rsp);
        g_usleep(1000);
    }
    g_assert_true(told == !!check);
}

static void check_cannot_help(QDict *throttle)
{
    g_assert_cmpstr(qdict_get_str(throttle, "mode"), ==, "limit-and-quota");
    g_assert_cmpstr(qdict_get_str(throttle, "phase"), ==, "cannot-help");
    g_assert_cmpstr(qdict_get_str(throttle, "reason"), ==, "no-mechanism");
    g_assert_false(qdict_haskey(throttle, "mechanism"));
    g_assert_false(qdict_haskey(throttle, "reaper"));
}

static void check_left_to_auto_converge(QDict *throttle)
{
    check_cannot_help(throttle);
    g_assert_true(qdict_get_bool(throttle, "fallback"));
}

static void check_not_left_to_anybody(QDict *throttle)
{
    check_cannot_help(throttle);
    g_assert_false(qdict_get_bool(throttle, "fallback"));
}

static void check_no_rings_to_reap(QDict *throttle)
{
    g_assert_cmpstr(qdict_get_str(throttle, "mode"), ==, "none");
    g_assert_cmpstr(qdict_get_str(throttle, "phase"), ==, "off");
    g_assert_false(qdict_haskey(throttle, "reason"));
    g_assert_false(qdict_haskey(throttle, "mechanism"));
    g_assert_false(qdict_haskey(throttle, "reaper"));
    g_assert_false(qdict_get_bool(throttle, "fallback"));
}

/* What is told when such a migration is over */
static void check_record(QTestState *qts, bool fallback)
{
    QDict *rsp = qtest_qmp(qts, "{'execute': 'query-migrate'}");
    QDict *info = qdict_get_qdict(rsp, "return");
    QDict *record = qdict_get_qdict(info, "dirty-throttle-record");
    QList *changes = qdict_get_qlist(record, "changes");
    QDict *change = qobject_to(QDict, qlist_peek(changes));

    g_assert_false(qdict_haskey(info, "dirty-throttle"));
    g_assert_cmpstr(qdict_get_str(record, "mode"), ==, "limit-and-quota");
    g_assert_false(qdict_haskey(record, "mechanism"));
    g_assert_false(qdict_haskey(record, "throttled-after"));
    g_assert_true(qlist_empty(qdict_get_qlist(record, "vcpus")));
    g_assert_cmpuint(qlist_size(changes), ==, 1);
    g_assert_cmpstr(qdict_get_str(change, "phase"), ==, "cannot-help");
    g_assert_cmpstr(qdict_get_str(change, "reason"), ==, "no-mechanism");
    g_assert_true(qdict_get_bool(change, "fallback") == fallback);
    qobject_unref(rsp);
    assert_hmp(qts, "info migrate",
               "dirty throttle: limit-and-quota, over, never throttled");
}

/* It is told that there is no ring, and who takes over, and goes on. */
static void test_migration_without_ring(const void *data)
{
    bool auto_converge = data != NULL;
    QTestState *qts = start("");

    assert_ok(set_capability(qts, "auto-converge", auto_converge));
    assert_ok(set_capability(qts, "dirty-quota", true));
    assert_ok(set_capability(qts, "dirty-limit", true));
    assert_ok(set_parameter(qts, "max-bandwidth", 1));
    migrate_to_nowhere(qts);
    while (true) {
        g_autofree char *shown = qtest_hmp(qts, "info migrate");
        const char *at = strstr(shown, "dirty throttle: limit-and-quota,"
                                " cannot-help (no-mechanism)");

        if (at) {
            g_assert_true(auto_converge ==
                          !!strstr(at, "left to auto-converge"));
            break;
        }
    }
    wait_completed(qts, auto_converge ? check_left_to_auto_converge
                                      : check_not_left_to_anybody);
    check_record(qts, auto_converge);
    qtest_quit(qts);
}

static void test_reaper_without_ring(void)
{
    QTestState *qts = start("");
    bool told = false;

    assert_ok(set_capability(qts, "adaptive-reaper", true));
    assert_ok(set_parameter(qts, "max-bandwidth", 1));
    migrate_to_nowhere(qts);
    while (!told) {
        g_autofree char *shown = qtest_hmp(qts, "info migrate");

        g_assert_null(strstr(shown, "dirty throttle:"));
        told = strstr(shown, "dirty rings: none");
    }
    wait_completed(qts, check_no_rings_to_reap);
    qtest_quit(qts);
}

/*
 * Capabilities that management software knows: it sets all of them on both
 * sides, and knows nothing of those that are on by default here.
 */
static void set_known_capabilities(QTestState *qts, bool auto_converge)
{
    assert_ok(qtest_qmp(qts, "{'execute': 'migrate-set-capabilities',"
        " 'arguments': {'capabilities': ["
        " {'capability': 'xbzrle', 'state': false},"
        " {'capability': 'auto-converge', 'state': %i},"
        " {'capability': 'postcopy-ram', 'state': false},"
        " {'capability': 'pause-before-switchover', 'state': false},"
        " {'capability': 'late-block-activate', 'state': false},"
        " {'capability': 'multifd', 'state': false},"
        " {'capability': 'return-path', 'state': true}]}}", auto_converge));
}

static void test_managed(void)
{
    static const char common[] = "-global migration.x-auto-converge=on"
                                 " -global migration.x-dirty-limit=on"
                                 " -global migration.x-dirty-quota=on"
                                 " -global migration.x-adaptive-reaper=on";
    g_autofree char *incoming = g_strdup_printf("%s -incoming defer", common);
    g_autofree char *dir = g_dir_make_tmp("dirty-throttle-XXXXXX", NULL);
    g_autofree char *uri = g_strdup_printf("unix:%s/migration", dir);
    QTestState *src = start(common);
    QTestState *dst = start(incoming);

    set_known_capabilities(dst, false);
    set_known_capabilities(src, false);
    assert_ok(qtest_qmp(dst, "{'execute': 'migrate-incoming', 'arguments':"
                        " {'uri': %s}}", uri));
    assert_ok(qtest_qmp(src, "{'execute': 'migrate', 'arguments':"
                        " {'uri': %s}}", uri));
    wait_completed(src, NULL);

    /* What was on before is on again. */
    set_known_capabilities(dst, true);
    set_known_capabilities(src, true);
    g_assert_true(get_capability(dst, "dirty-quota"));
    qtest_quit(dst);
    qtest_quit(src);
    unlink(uri + strlen("unix:"));
    rmdir(dir);
}

static void test_parameters(void)
{
    static const struct {
        const char *name;
        int64_t def, min, max;
        /* what the error for a smaller one says; NULL: the name */
        const char *too_small;
    } params[] = {
        { "vcpu-dirty-limit", 1, 1, MAX_MBPS, "MB/s" },
        { "x-vcpu-dirty-limit-period", 1000, 1, 1000 },
        { "dirty-quota-interval", 100, 1, 1000 },
        { "dirty-quota-deadline", 0, 0, 1000000 },
    };
    QTestState *qts = start("");

    for (int i = 0; i < ARRAY_SIZE(params); i++) {
        const char *name = params[i].name;

        g_assert_cmpint(get_parameter(qts, name), ==, params[i].def);
        assert_ok(set_parameter(qts, name, params[i].max));
        g_assert_cmpint(get_parameter(qts, name), ==, params[i].max);
        assert_error(set_parameter(qts, name, params[i].max + 1), name);
        assert_error(set_parameter(qts, name, params[i].min - 1),
                     params[i].too_small ?: name);
        assert_error(set_parameter(qts, name, -1), name);
        g_assert_cmpint(get_parameter(qts, name), ==, params[i].max);
        assert_ok(set_parameter(qts, name, params[i].min));
        g_assert_cmpint(get_parameter(qts, name), ==, params[i].min);
    }

    assert_hmp(qts, "migrate_set_parameter vcpu-dirty-limit 0", "Error");
    assert_hmp(qts, "migrate_set_parameter vcpu-dirty-limit 33", "");
    assert_hmp(qts, "migrate_set_parameter x-vcpu-dirty-limit-period 44", "");
    assert_hmp(qts, "migrate_set_parameter dirty-quota-interval 55", "");
    assert_hmp(qts, "migrate_set_parameter dirty-quota-deadline 1000001",
               "Error");
    assert_hmp(qts, "migrate_set_parameter dirty-quota-deadline 66", "");
    assert_hmp(qts, "info migrate_parameters", "dirty-quota-deadline: 66 s");
    assert_hmp(qts, "info migrate_parameters", "vcpu-dirty-limit: 33 MB/s");
    assert_hmp(qts, "info migrate_parameters", "dirty-quota-interval: 55 ms");
    assert_hmp(qts, "info migrate_parameters",
               "x-vcpu-dirty-limit-period: 44 ms");
    qtest_quit(qts);
}

static void test_properties(void)
{
    QTestState *qts;

    qts = start("-global migration.x-dirty-limit=on"
                " -global migration.x-dirty-quota=on"
                " -global migration.x-adaptive-reaper=on"
                " -global migration.dirty-quota-interval=9"
                " -global migration.dirty-quota-deadline=6"
                " -global migration.vcpu-dirty-limit=7"
                " -global migration.x-vcpu-dirty-limit-period=8");
    g_assert_true(get_capability(qts, "dirty-limit"));
    g_assert_cmpint(get_parameter(qts, "vcpu-dirty-limit"), ==, 7);
    g_assert_cmpint(get_parameter(qts, "x-vcpu-dirty-limit-period"), ==, 8);
    g_assert_true(get_capability(qts, "dirty-quota"));
    g_assert_cmpint(get_parameter(qts, "dirty-quota-interval"), ==, 9);
    g_assert_cmpint(get_parameter(qts, "dirty-quota-deadline"), ==, 6);
    g_assert_true(get_capability(qts, "adaptive-reaper"));
    g_assert_false(get_capability(qts, "auto-converge"));
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

    /* of all, a person may also say -1 */
    assert_hmp(qts, "set_vcpu_dirty_limit 30 -1", "Please use");
    g_assert_cmpint(query_limits(qts, &limit), ==, MAX_CPUS);
    assert_hmp(qts, "cancel_vcpu_dirty_limit -1", "Please use");
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

/*
 * Quitting frees the migration object first.  Then a read from a disk that
 * takes its time keeps QEMU from being done, so that the throttle thread steps
 * several times without it.  Whether it asks for it is for assertions, and for
 * tools that check memory, to see.
 */
static void test_quit_with_limit(void)
{
    QTestState *qts;

    if (ring_missing) {
        g_test_skip(ring_missing);
        return;
    }
    qts = start("-accel kvm,dirty-ring-size=4096 -S -drive if=none,id=slow,"
                "driver=null-co,latency-ns=300000000");
    assert_ok(qtest_qmp(qts, "{'execute': 'set-vcpu-dirty-limit',"
                        " 'arguments': {'dirty-rate': 10}}"));
    assert_hmp(qts, "qemu-io slow \"aio_read 0 512\"", "");
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

static QDict *query_forecast(QTestState *qts, int64_t bandwidth)
{
    return qtest_qmp(qts, "{'execute': 'query-dirty-forecast',"
                     " 'arguments': {'bandwidth': %" PRId64 "}}", bandwidth);
}

/* Measure the guest for a second, and wait until that is done. */
static void measure(QTestState *qts, const char *mode)
{
    bool measured = false;

    assert_ok(qtest_qmp(qts, "{'execute': 'calc-dirty-rate', 'arguments':"
                        " {'calc-time': 1, 'mode': %s}}", mode));
    assert_error(query_forecast(qts, 100), "is being measured");
    for (int i = 0; i < 600 && !measured; i++) {
        QDict *rsp = qtest_qmp(qts, "{'execute': 'query-dirty-rate'}");
        QDict *info = qdict_get_qdict(rsp, "return");

        measured = g_str_equal(qdict_get_str(info, "status"), "measured");
        qobject_unref(rsp);
        g_usleep(G_USEC_PER_SEC / 20);
    }
    g_assert_true(measured);
}

/* The forecast for one strategy in an answer, NULL: there is none */
static QDict *forecast_of(QDict *rsp, const char *strategy)
{
    QDict *report = qdict_get_qdict(rsp, "return");
    QListEntry *entry;

    g_assert_nonnull(report);
    QLIST_FOREACH_ENTRY(qdict_get_qlist(report, "forecasts"), entry) {
        QDict *f = qobject_to(QDict, qlist_entry_obj(entry));

        if (g_str_equal(qdict_get_str(f, "strategy"), strategy)) {
            return f;
        }
    }
    return NULL;
}

static void test_forecast_errors(void)
{
    QTestState *qts = start("");

    assert_error(query_forecast(qts, 100), "was never measured");
    assert_hmp(qts, "info dirty_forecast", "was never measured");
    measure(qts, "page-sampling");
    assert_error(query_forecast(qts, 0), "between 1 and 1048576");
    assert_error(query_forecast(qts, 1048577), "between 1 and 1048576");
    assert_error(qtest_qmp(qts, "{'execute': 'query-dirty-forecast',"
                           " 'arguments': {'deadline': 0}}"),
                 "'deadline' expects a value between 1 and 1000000");
    assert_error(qtest_qmp(qts, "{'execute': 'query-dirty-forecast',"
                           " 'arguments': {'deadline': 1000001}}"),
                 "'deadline' expects a value between 1 and 1000000");
    assert_ok(set_parameter(qts, "max-bandwidth", 1000));
    assert_error(qtest_qmp(qts, "{'execute': 'query-dirty-forecast'}"),
                 "No bandwidth is known");
    assert_ok(query_forecast(qts, 100));
    /* The guest's time counts, which stands still in a test. */
    qtest_clock_step(qts, 600 * SECOND_NS);
    assert_ok(query_forecast(qts, 100));
    qtest_clock_step(qts, SECOND_NS);
    assert_error(query_forecast(qts, 100), "measured 601 seconds ago");
    measure(qts, "page-sampling");
    assert_ok(query_forecast(qts, 100));
    qtest_quit(qts);
}

/* A guest that stands still is sent as it is, whatever is done about it. */
static void assert_quiet(QDict *rsp, const char *strategy)
{
    QDict *f = forecast_of(rsp, strategy);

    g_assert_nonnull(f);
    g_assert_true(qdict_get_bool(f, "ends"));
    g_assert_cmpint(qdict_get_int(f, "throttled-time"), ==, 0);
    g_assert_true(qlist_empty(qdict_get_qlist(f, "slowed")));
    g_assert_cmpint(qdict_get_int(f, "total-time"), ==,
                    qdict_get_int(f, "most-time"));
}

static void test_forecast_without_ring(void)
{
    QTestState *qts = start("");
    QDict *rsp;

    measure(qts, "page-sampling");
    rsp = query_forecast(qts, 100);
    assert_quiet(rsp, "none");
    assert_quiet(rsp, "auto-converge");
    /* Without KVM nothing can slow vCPUs down so. */
    g_assert_null(forecast_of(rsp, "dirty-quota"));
    qobject_unref(rsp);
    assert_hmp(qts, "info dirty_forecast", "forecast with none: ends after");
    qtest_quit(qts);
}

static void test_forecast_with_ring(void)
{
    QTestState *qts;
    QDict *rsp;

    if (ring_missing) {
        g_test_skip(ring_missing);
        return;
    }
    qts = start_ring();
    measure(qts, "dirty-ring");
    rsp = query_forecast(qts, 100);
    assert_quiet(rsp, "dirty-quota");
    g_assert_null(forecast_of(rsp, "dirty-quota-deadline"));
    /* vCPUs that are plugged are told apart. */
    g_assert_cmpint(qlist_size(qdict_get_qlist(
        qdict_get_qdict(rsp, "return"), "demands")), ==, 2);
    qobject_unref(rsp);

    assert_ok(set_parameter(qts, "dirty-quota-deadline", 7));
    rsp = query_forecast(qts, 100);
    assert_quiet(rsp, "dirty-quota-deadline");
    qobject_unref(rsp);
    assert_hmp(qts, "info dirty_forecast 50", "link 50 MB/s");
    qtest_quit(qts);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ring_missing = find_ring_missing();
    if (!qtest_has_machine(machine())) {
        return 0;
    }
    qtest_add_func("/dirty-throttle/no-ring/commands",
                   test_commands_without_ring);
    qtest_add_data_func("/dirty-throttle/no-ring/dirty-limit", "dirty-limit",
                        test_capability_without_ring);
    qtest_add_data_func("/dirty-throttle/no-ring/dirty-quota", "dirty-quota",
                        test_capability_without_ring);
    qtest_add_data_func("/dirty-throttle/no-ring/adaptive-reaper",
                        "adaptive-reaper", test_capability_without_ring);
    qtest_add_data_func("/dirty-throttle/no-ring/migration", NULL,
                        test_migration_without_ring);
    qtest_add_data_func("/dirty-throttle/no-ring/fallback", "auto-converge",
                        test_migration_without_ring);
    qtest_add_func("/dirty-throttle/no-ring/reaper",
                   test_reaper_without_ring);
    qtest_add_func("/dirty-throttle/no-ring/managed", test_managed);
    qtest_add_func("/dirty-throttle/ring/adaptive-reaper",
                   test_reaper_with_ring);
    qtest_add_func("/dirty-throttle/forecast/errors", test_forecast_errors);
    qtest_add_func("/dirty-throttle/forecast/no-ring",
                   test_forecast_without_ring);
    qtest_add_func("/dirty-throttle/forecast/ring", test_forecast_with_ring);
    qtest_add_func("/dirty-throttle/parameters", test_parameters);
    qtest_add_func("/dirty-throttle/properties", test_properties);
    qtest_add_func("/dirty-throttle/ring/commands", test_commands_with_ring);
    qtest_add_func("/dirty-throttle/ring/quit", test_quit_with_limit);
    qtest_add_func("/dirty-throttle/ring/toggle", test_toggle_with_ring);
    qtest_add_func("/dirty-throttle/ring/flip", test_flip_during_migration);
    return g_test_run();
}
