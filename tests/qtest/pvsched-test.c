/*
 * pvsched: registers, lines that are registered and lost, what is in force
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sched.h>
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "libqtest.h"
#include "hw/misc/pvsched-abi.h"
#include "qapi/qmp/qdict.h"
#include "qapi/qmp/qlist.h"

#define VCPUS 2
#define MAX_VCPUS 3
#define SLOT 5
#define BAR 0xe0000000ull
#define VRAM 0xd0000000ull
#define LINE 0x123440ull
#define DIMM 0x100000000ull
#define VIRTIO_MEM 0x120000000ull

#define MACHINE "-machine pc -display none -nodefaults -m 64M"
#define CPUS " -smp 2,maxcpus=3,sockets=1,cores=3"
#define DEVICE " -device pvsched,id=pv,addr=5"

static void config_write(QTestState *qts, unsigned slot, unsigned reg,
                         uint32_t value)
{
    qtest_outl(qts, 0xcf8, 0x80000000u | slot << 11 | reg);
    qtest_outl(qts, 0xcfc, value);
}

static uint32_t config_read(QTestState *qts, unsigned reg)
{
    qtest_outl(qts, 0xcf8, 0x80000000u | SLOT << 11 | reg);
    return qtest_inl(qts, 0xcfc);
}

static void map_registers(QTestState *qts)
{
    config_write(qts, SLOT, 0x10, BAR);
    config_write(qts, SLOT, 0x04, 0x0006);
}

static QTestState *start(const char *more)
{
    QTestState *qts = qtest_initf(MACHINE CPUS "%s", more);

    map_registers(qts);
    return qts;
}

static uint32_t reg(QTestState *qts, unsigned offset)
{
    return qtest_readl(qts, BAR + offset);
}

static void set_reg(QTestState *qts, unsigned offset, uint32_t value)
{
    qtest_writel(qts, BAR + offset, value);
}

static uint32_t window(QTestState *qts, unsigned vcpu, unsigned offset)
{
    return reg(qts, PVSCHED_WINDOW(vcpu) + offset);
}

static uint32_t status(QTestState *qts, unsigned vcpu)
{
    return window(qts, vcpu, PVSCHED_WIN_STATUS);
}

static uint32_t register_line(QTestState *qts, unsigned vcpu, uint64_t addr)
{
    set_reg(qts, PVSCHED_WINDOW(vcpu) + PVSCHED_WIN_LINE_LO, addr);
    set_reg(qts, PVSCHED_WINDOW(vcpu) + PVSCHED_WIN_LINE_HI, addr >> 32);
    return status(qts, vcpu);
}

/* What is asked: for so long that no test has to hurry */
static void ask(QTestState *qts, unsigned activities)
{
    static unsigned number;

    qtest_writeq(qts, LINE, activities |
                 (uint64_t)(++number & PVSCHED_REQ_SEQ_MASK) <<
                 PVSCHED_REQ_SEQ_SHIFT |
                 (uint64_t)UINT32_MAX << PVSCHED_REQ_US_SHIFT);
}

static void ring(QTestState *qts, unsigned vcpu)
{
    set_reg(qts, PVSCHED_WINDOW(vcpu) + PVSCHED_WIN_DOORBELL, 1);
}

static uint32_t state(QTestState *qts)
{
    return qtest_readl(qts, LINE + PVSCHED_LINE_STATE);
}

static QDict *query(QTestState *qts)
{
    QDict *rsp = qtest_qmp(qts, "{ 'execute': 'query-pvsched' }"), *info;

    g_assert(qdict_haskey(rsp, "return"));
    info = qdict_get_qdict(rsp, "return");
    qobject_ref(info);
    qobject_unref(rsp);
    return info;
}

static bool registered(QTestState *qts, unsigned vcpu)
{
    QDict *info = query(qts);
    const QListEntry *entry = qlist_first(qdict_get_qlist(info, "vcpus"));
    bool ret = false;

    for (; entry; entry = qlist_next(entry)) {
        QDict *v = qobject_to(QDict, qlist_entry_obj(entry));

        if (qdict_get_int(v, "cpu-index") == vcpu) {
            ret = qdict_get_bool(v, "registered");
        }
    }
    qobject_unref(info);
    return ret;
}

static void assert_done(QDict *rsp)
{
    g_assert(qdict_haskey(rsp, "return"));
    qobject_unref(rsp);
}

static void set_boost(QTestState *qts, bool boost)
{
    assert_done(qtest_qmp(qts, "{ 'execute': 'qom-set', 'arguments': {"
                          " 'path': '/machine/peripheral/pv',"
                          " 'property': 'boost', 'value': %i } }", boost));
}

static QDict *set_budget(QTestState *qts, const char *name, int percent)
{
    return qtest_qmp(qts, "{ 'execute': 'qom-set', 'arguments': {"
                     " 'path': '/machine/peripheral/pv',"
                     " 'property': %s, 'value': %d } }", name, percent);
}

/* The host's number for the thread of vCPU 0 */
static int vcpu_tid(QTestState *qts)
{
    QDict *rsp = qtest_qmp(qts, "{ 'execute': 'query-cpus-fast' }");
    const QListEntry *entry = qlist_first(qdict_get_qlist(rsp, "return"));
    int tid = qdict_get_int(qobject_to(QDict, qlist_entry_obj(entry)),
                            "thread-id");

    qobject_unref(rsp);
    return tid;
}

static void test_registers(void)
{
    QTestState *qts = start(DEVICE);
    uint32_t size;

    g_assert_cmphex(config_read(qts, 0), ==,
                    PVSCHED_PCI_DEVICE << 16 | PVSCHED_PCI_VENDOR);
    g_assert_cmphex(config_read(qts, 8), ==, 0x08800000 | PVSCHED_PCI_REVISION);
    config_write(qts, SLOT, 0x10, UINT32_MAX);
    size = ~(config_read(qts, 0x10) & ~0xfu) + 1;
    g_assert_cmphex(size, ==, 0x2000);
    map_registers(qts);

    g_assert_cmphex(reg(qts, PVSCHED_REG_VERSION), ==, PVSCHED_VERSION);
    g_assert_cmphex(reg(qts, PVSCHED_REG_FEATURES), ==,
                    PVSCHED_F_BOOST | PVSCHED_F_WAIT);
    g_assert_cmphex(reg(qts, PVSCHED_REG_VCPUS), ==, MAX_VCPUS);
    g_assert_cmphex(reg(qts, PVSCHED_REG_SELF), ==, 0);
    g_assert_cmphex(reg(qts, PVSCHED_REG_DRIVER_FEATURES), ==, 0);
    set_reg(qts, PVSCHED_REG_DRIVER_FEATURES, UINT32_MAX);
    g_assert_cmphex(reg(qts, PVSCHED_REG_DRIVER_FEATURES), ==,
                    PVSCHED_F_BOOST | PVSCHED_F_WAIT);

    /* What cannot be written stays, and where nothing is reads as 0. */
    for (unsigned offset = 0; offset < size; offset += 4) {
        if (offset < PVSCHED_WINDOWS ||
            offset >= PVSCHED_WINDOW(MAX_VCPUS)) {
            uint32_t before = reg(qts, offset);

            if (offset != PVSCHED_REG_DRIVER_FEATURES) {
                set_reg(qts, offset, ~before);
            }
            g_assert_cmphex(reg(qts, offset), ==, before);
            if (offset > PVSCHED_REG_SELF) {
                g_assert_cmphex(before, ==, 0);
            }
        }
    }
    set_reg(qts, PVSCHED_WINDOW(0) + PVSCHED_WIN_STATUS, 1);
    g_assert_cmphex(status(qts, 0), ==, PVSCHED_STATUS_NONE);
    ring(qts, 0);
    g_assert_cmphex(window(qts, 0, PVSCHED_WIN_DOORBELL), ==, 0);
    qtest_quit(qts);
}

static void test_register_line(void)
{
    QTestState *qts = start(DEVICE);

    g_assert_cmphex(register_line(qts, 0, LINE), ==, PVSCHED_STATUS_REGISTERED);
    g_assert_true(registered(qts, 0));
    g_assert_false(registered(qts, 1));
    g_assert_cmphex(window(qts, 0, PVSCHED_WIN_LINE_LO), ==, LINE);
    g_assert_cmphex(window(qts, 0, PVSCHED_WIN_LINE_HI), ==, 0);

    /* Elsewhere, the same again, and the last line of RAM */
    g_assert_cmphex(register_line(qts, 0, LINE + 64), ==,
                    PVSCHED_STATUS_REGISTERED);
    g_assert_cmphex(register_line(qts, 0, LINE + 64), ==,
                    PVSCHED_STATUS_REGISTERED);
    g_assert_cmphex(register_line(qts, 0, 64 * MiB - 64), ==,
                    PVSCHED_STATUS_REGISTERED);

    /* The low half alone changes nothing. */
    set_reg(qts, PVSCHED_WINDOW(0) + PVSCHED_WIN_LINE_LO, 0);
    g_assert_true(registered(qts, 0));
    g_assert_cmphex(register_line(qts, 0, 0), ==, PVSCHED_STATUS_NONE);
    g_assert_false(registered(qts, 0));
    qtest_quit(qts);
}

static void test_malformed(void)
{
    static const struct {
        uint64_t addr;
        uint32_t status;
    } bad[] = {
        { LINE + 1, PVSCHED_STATUS_UNALIGNED },
        { LINE + 4, PVSCHED_STATUS_UNALIGNED },
        { LINE + 32, PVSCHED_STATUS_UNALIGNED },
        { UINT64_MAX, PVSCHED_STATUS_UNALIGNED },
        { 64 * MiB, PVSCHED_STATUS_NOT_RAM },
        { BAR, PVSCHED_STATUS_NOT_RAM },
        { BAR + PVSCHED_WINDOWS, PVSCHED_STATUS_NOT_RAM },
        { 0xfee00000, PVSCHED_STATUS_NOT_RAM },
        { 0xffffffc0, PVSCHED_STATUS_NOT_RAM },
        { 0xfffc0, PVSCHED_STATUS_NOT_RAM },
        { VRAM, PVSCHED_STATUS_NOT_RAM },
        { 1ull << 52, PVSCHED_STATUS_NOT_RAM },
        { UINT64_MAX - 63, PVSCHED_STATUS_NOT_RAM },
        { LINE, PVSCHED_STATUS_OVERLAP },
    };
    QTestState *qts = start(DEVICE " -device VGA,addr=6");

    config_write(qts, 6, 0x10, VRAM);
    config_write(qts, 6, 0x04, 0x0006);
    qtest_writel(qts, VRAM, 0xabcd);
    g_assert_cmphex(qtest_readl(qts, VRAM), ==, 0xabcd);
    g_assert_cmphex(register_line(qts, 1, LINE), ==, PVSCHED_STATUS_REGISTERED);
    for (int i = 0; i < ARRAY_SIZE(bad); i++) {
        g_assert_cmphex(register_line(qts, 0, bad[i].addr), ==, bad[i].status);
        g_assert_false(registered(qts, 0));
    }
    /* It costs the line that was there before. */
    g_assert_cmphex(register_line(qts, 1, LINE + 1), ==,
                    PVSCHED_STATUS_UNALIGNED);
    g_assert_false(registered(qts, 1));
    g_assert_cmphex(register_line(qts, 0, LINE), ==, PVSCHED_STATUS_REGISTERED);

    g_assert_cmphex(register_line(qts, VCPUS, LINE + 64), ==,
                    PVSCHED_STATUS_NO_VCPU);
    g_assert_cmphex(register_line(qts, MAX_VCPUS, LINE + 64), ==, 0);
    qtest_quit(qts);
}

static void test_reset(void)
{
    QTestState *qts = start(DEVICE);

    set_reg(qts, PVSCHED_REG_DRIVER_FEATURES, PVSCHED_F_WAIT);
    register_line(qts, 0, LINE);
    register_line(qts, 1, LINE + 1);
    qtest_qmp_assert_success(qts, "{ 'execute': 'system_reset' }");
    qtest_qmp_eventwait(qts, "RESET");
    map_registers(qts);
    g_assert_cmphex(reg(qts, PVSCHED_REG_DRIVER_FEATURES), ==, 0);
    for (int i = 0; i < VCPUS; i++) {
        g_assert_cmphex(status(qts, i), ==, PVSCHED_STATUS_NONE);
        g_assert_cmphex(window(qts, i, PVSCHED_WIN_LINE_LO), ==, 0);
        g_assert_false(registered(qts, i));
    }
    qtest_quit(qts);
}

static void assert_error(QDict *rsp, const char *part)
{
    const char *desc = qdict_get_str(qdict_get_qdict(rsp, "error"), "desc");

    g_assert(strstr(desc, part));
    qobject_unref(rsp);
}

static void test_properties(void)
{
    QTestState *qts = start(DEVICE);
    QDict *info;

    info = query(qts);
    g_assert_false(qdict_get_bool(info, "boost"));
    g_assert_cmpstr(qdict_get_str(info, "means"), ==, "none");
    g_assert_cmpint(qdict_get_int(info, "critical-budget"), ==, 10);
    g_assert_cmpint(qdict_get_int(info, "rt-budget"), ==, 50);
    qobject_unref(info);

    assert_done(set_budget(qts, "rt-budget", 100));
    assert_done(set_budget(qts, "critical-budget", 0));
    info = query(qts);
    g_assert_cmpint(qdict_get_int(info, "critical-budget"), ==, 0);
    g_assert_cmpint(qdict_get_int(info, "rt-budget"), ==, 100);
    qobject_unref(info);
    assert_error(set_budget(qts, "rt-budget", 101), "percentage");
    assert_error(qtest_qmp(qts, "{ 'execute': 'device_add', 'arguments': "
                           "{ 'driver': 'pvsched', 'id': 'two' } }"),
                 "already");
    /* That has not hidden the first one. */
    qobject_unref(query(qts));
    qtest_quit(qts);

    qts = start("");
    assert_error(qtest_qmp(qts, "{ 'execute': 'query-pvsched' }"),
                 "no pvsched");
    qtest_quit(qts);
}

/* A DIMM whose memory holds a line is ejected. */
static void test_ram_goes(void)
{
    QTestState *qts = qtest_initf(
        MACHINE ",slots=1,maxmem=512M" CPUS DEVICE
        " -object memory-backend-ram,id=m,size=128M"
        " -device pc-dimm,id=dimm,memdev=m"
        " -object memory-backend-ram,id=v,size=128M"
        " -device virtio-mem-pci,memdev=v,memaddr=0x%llx", VIRTIO_MEM);

    map_registers(qts);
    g_assert_cmphex(register_line(qts, 0, LINE), ==, PVSCHED_STATUS_REGISTERED);
    g_assert_cmphex(register_line(qts, 1, DIMM), ==, PVSCHED_STATUS_REGISTERED);
    qtest_outl(qts, 0xa00, 0);
    qtest_outb(qts, 0xa14, 1 << 3);
    g_assert_cmphex(status(qts, 1), ==, PVSCHED_STATUS_NOT_RAM);
    g_assert_false(registered(qts, 1));
    g_assert_cmphex(status(qts, 0), ==, PVSCHED_STATUS_REGISTERED);
    g_assert_true(registered(qts, 0));
    g_assert_cmphex(register_line(qts, 1, DIMM), ==, PVSCHED_STATUS_NOT_RAM);
    ring(qts, 1);
    /* It may go without anybody being told, so it is none. */
    g_assert_cmphex(register_line(qts, 1, VIRTIO_MEM), ==,
                    PVSCHED_STATUS_NOT_RAM);
    qtest_quit(qts);
}

static void test_vcpu_comes_and_goes(void)
{
    QTestState *qts = start(DEVICE);

    g_assert_cmphex(register_line(qts, VCPUS, LINE), ==,
                    PVSCHED_STATUS_NO_VCPU);
    qtest_qmp_assert_success(
        qts, "{ 'execute': 'device_add', 'arguments': { 'id': 'cpu',"
        " 'driver': 'qemu64-x86_64-cpu', 'socket-id': 0, 'core-id': 2,"
        " 'thread-id': 0 } }");
    g_assert_cmphex(register_line(qts, VCPUS, LINE), ==,
                    PVSCHED_STATUS_REGISTERED);
    /* To the newer interface, and eject */
    qtest_outb(qts, 0xaf00, 0);
    qtest_outl(qts, 0xaf00, VCPUS);
    qtest_outb(qts, 0xaf04, 1 << 3);
    g_assert_cmphex(status(qts, VCPUS), ==, PVSCHED_STATUS_NO_VCPU);
    g_assert_cmphex(register_line(qts, 0, LINE), ==, PVSCHED_STATUS_REGISTERED);
    qtest_quit(qts);
}

static void unplug_device(QTestState *qts)
{
    qtest_qmp_device_del_send(qts, "pv");
    qtest_outl(qts, 0xae08, 1u << SLOT);
    qtest_qmp_eventwait(qts, "DEVICE_DELETED");
}

static void test_device_comes_and_goes(void)
{
    QTestState *qts = start("");

    for (int i = 0; i < 3; i++) {
        qtest_qmp_device_add(qts, "pvsched", "pv",
                             "{ 'addr': '5', 'boost': true }");
        map_registers(qts);
        set_reg(qts, PVSCHED_REG_DRIVER_FEATURES, PVSCHED_F_BOOST);
        g_assert_cmphex(register_line(qts, 0, LINE), ==,
                        PVSCHED_STATUS_REGISTERED);
        ask(qts, PVSCHED_REQ_RT_WAITING);
        ring(qts, 0);
        unplug_device(qts);
        g_assert_cmpint(sched_getscheduler(vcpu_tid(qts)), ==, SCHED_OTHER);
        g_assert_cmphex(state(qts) & PVSCHED_STATE_BOOSTED, ==, 0);
    }
    qtest_quit(qts);
}

static void wait_for(bool (*is)(QTestState *qts), QTestState *qts)
{
    for (int i = 0; !is(qts); i++) {
        g_assert_cmpint(i, <, 2000);
        g_usleep(5000);
    }
}

static bool is_boosted(QTestState *qts)
{
    return state(qts) & PVSCHED_STATE_BOOSTED;
}

static bool is_not_boosted(QTestState *qts)
{
    return !is_boosted(qts);
}

static bool can_boost(QTestState *qts)
{
    QDict *info = query(qts);
    bool can = g_str_equal(qdict_get_str(info, "means"), "real-time");

    qobject_unref(info);
    return can;
}

/* With a line, and asked by ring or not */
static QTestState *start_boosted(void)
{
    QTestState *qts = start(DEVICE ",boost=on");

    if (!can_boost(qts)) {
        qtest_quit(qts);
        g_test_skip("no right to real-time priorities");
        return NULL;
    }
    set_reg(qts, PVSCHED_REG_DRIVER_FEATURES, PVSCHED_F_BOOST);
    register_line(qts, 0, LINE);
    ask(qts, PVSCHED_REQ_RT_WAITING);
    wait_for(is_boosted, qts);
    g_assert_cmpint(sched_getscheduler(vcpu_tid(qts)), ==, SCHED_FIFO);
    return qts;
}

static void assert_unboosted(QTestState *qts)
{
    g_assert_cmphex(state(qts) & PVSCHED_STATE_BOOSTED, ==, 0);
    g_assert_cmpint(sched_getscheduler(vcpu_tid(qts)), ==, SCHED_OTHER);
}

static void test_boost(void)
{
    QTestState *qts = start_boosted();

    if (!qts) {
        return;
    }
    qtest_writeq(qts, LINE, 0);
    ring(qts, 0);
    assert_unboosted(qts);

    /* The bell of another vCPU is not heard, nor needed. */
    ask(qts, PVSCHED_REQ_RT_WAITING);
    ring(qts, 1);
    wait_for(is_boosted, qts);
    qtest_writeq(qts, LINE, 0);
    wait_for(is_not_boosted, qts);
    assert_unboosted(qts);

    /* The time is over. */
    qtest_writeq(qts, LINE, PVSCHED_REQ_RT_WAITING | 0xfff0000 |
                 200000ull << PVSCHED_REQ_US_SHIFT);
    wait_for(is_boosted, qts);
    wait_for(is_not_boosted, qts);
    assert_unboosted(qts);

    /* The driver does not want it. */
    set_reg(qts, PVSCHED_REG_DRIVER_FEATURES, PVSCHED_F_WAIT);
    ask(qts, PVSCHED_REQ_RT_WAITING);
    ring(qts, 0);
    assert_unboosted(qts);
    g_assert_cmphex(state(qts), ==, PVSCHED_STATE_REFUSED);
    qtest_quit(qts);
}

/* Whatever ends a boost leaves the thread as it was. */
static void test_unboost(void)
{
    QTestState *qts = start_boosted();

    if (!qts) {
        return;
    }
    qtest_qmp_assert_success(qts, "{ 'execute': 'stop' }");
    assert_unboosted(qts);
    ring(qts, 0);
    assert_unboosted(qts);
    qtest_qmp_assert_success(qts, "{ 'execute': 'cont' }");
    wait_for(is_boosted, qts);

    set_boost(qts, false);
    assert_unboosted(qts);
    set_boost(qts, true);
    wait_for(is_boosted, qts);

    register_line(qts, 0, 0);
    assert_unboosted(qts);
    register_line(qts, 0, LINE);
    ask(qts, PVSCHED_REQ_RT_WAITING);
    wait_for(is_boosted, qts);

    qtest_qmp_assert_success(qts, "{ 'execute': 'system_reset' }");
    qtest_qmp_eventwait(qts, "RESET");
    g_assert_cmpint(sched_getscheduler(vcpu_tid(qts)), ==, SCHED_OTHER);
    qtest_quit(qts);
}

/* Who changes a thread that is boosted finds it as he left it. */
static void test_baseline(void)
{
    const struct sched_param param = { .sched_priority = 0 };
    const struct sched_param fifo = { .sched_priority = 3 };
    QTestState *qts = start_boosted();
    int tid;

    if (!qts) {
        return;
    }
    tid = vcpu_tid(qts);
    g_assert_cmpint(sched_setscheduler(tid, SCHED_BATCH, &param), ==, 0);
    qtest_writeq(qts, LINE, 0);
    ring(qts, 0);
    g_assert_cmpint(sched_getscheduler(tid), ==, SCHED_BATCH);
    ask(qts, PVSCHED_REQ_RT_WAITING);
    ring(qts, 0);
    g_assert_cmpint(sched_getscheduler(tid), ==, SCHED_FIFO);
    qtest_writeq(qts, LINE, 0);
    ring(qts, 0);
    g_assert_cmpint(sched_getscheduler(tid), ==, SCHED_BATCH);

    /* A thread that is real-time anyway is left alone. */
    g_assert_cmpint(sched_setscheduler(tid, SCHED_FIFO, &fifo), ==, 0);
    ask(qts, PVSCHED_REQ_RT_WAITING);
    ring(qts, 0);
    g_assert_false(is_boosted(qts));
    qtest_qmp_assert_success(qts, "{ 'execute': 'stop' }");
    g_assert_cmpint(sched_getscheduler(tid), ==, SCHED_FIFO);
    qtest_quit(qts);
}

/* Boosts are switched on when QEMU has no right to them any more. */
static void test_no_right(void)
{
    QTestState *qts;
    QDict *info;

    if (getuid()) {
        g_test_skip("only root has rights to give away");
        return;
    }
    qts = start(DEVICE " -runas nobody");
    set_reg(qts, PVSCHED_REG_DRIVER_FEATURES, PVSCHED_F_BOOST);
    register_line(qts, 0, LINE);
    set_boost(qts, true);
    info = query(qts);
    g_assert_true(qdict_get_bool(info, "boost"));
    g_assert_cmpstr(qdict_get_str(info, "means"), ==, "none");
    qobject_unref(info);
    ask(qts, PVSCHED_REQ_RT_WAITING);
    ring(qts, 0);
    assert_unboosted(qts);
    g_assert_cmphex(state(qts), ==, PVSCHED_STATE_REFUSED);
    qtest_quit(qts);
}

static void wait_migrated(QTestState *qts)
{
    for (int i = 0; i < 4000; i++) {
        QDict *rsp = qtest_qmp(qts, "{ 'execute': 'query-migrate' }");
        QDict *info = qdict_get_qdict(rsp, "return");
        const char *now = qdict_get_try_str(info, "status");
        bool done = now && g_str_equal(now, "completed");

        g_assert(!now || !g_str_equal(now, "failed"));
        qobject_unref(rsp);
        if (done) {
            return;
        }
        g_usleep(5000);
    }
    g_assert_not_reached();
}

/* What a VM with a line for vCPU 0 sends, and how that ends */
static char *migrate_to_file(void)
{
    g_autofree char *uri = NULL;
    QTestState *qts = start(DEVICE);
    char *path = NULL;
    int fd = g_file_open_tmp("pvsched-XXXXXX", &path, NULL);

    close(fd);
    set_reg(qts, PVSCHED_REG_DRIVER_FEATURES, PVSCHED_F_BOOST);
    g_assert_cmphex(register_line(qts, 0, LINE), ==, PVSCHED_STATUS_REGISTERED);
    register_line(qts, 1, LINE + 1);
    uri = g_strdup_printf("exec:cat > %s", path);
    qtest_qmp_assert_success(qts, "{ 'execute': 'migrate', 'arguments': "
                             "{ 'uri': %s } }", uri);
    wait_migrated(qts);
    /* It is still there when the VM goes on. */
    qtest_qmp_assert_success(qts, "{ 'execute': 'cont' }");
    g_assert_true(registered(qts, 0));
    qtest_quit(qts);
    return path;
}

static void test_migration(void)
{
    g_autofree char *path = migrate_to_file();
    g_autofree char *uri = g_strdup_printf("exec:cat %s", path);
    QTestState *qts = qtest_init(MACHINE CPUS DEVICE " -incoming defer");

    qtest_qmp_assert_success(qts, "{ 'execute': 'migrate-incoming', "
                             "'arguments': { 'uri': %s } }", uri);
    qtest_qmp_eventwait(qts, "RESUME");
    g_assert_cmphex(reg(qts, PVSCHED_REG_DRIVER_FEATURES), ==, PVSCHED_F_BOOST);
    g_assert_cmphex(status(qts, 0), ==, PVSCHED_STATUS_REGISTERED);
    g_assert_true(registered(qts, 0));
    g_assert_cmphex(window(qts, 0, PVSCHED_WIN_LINE_LO), ==, LINE);
    g_assert_cmphex(status(qts, 1), ==, PVSCHED_STATUS_UNALIGNED);
    g_assert_false(registered(qts, 1));
    /* What one sees of it is what it was. */
    g_assert_cmphex(register_line(qts, 1, LINE), ==, PVSCHED_STATUS_OVERLAP);
    qtest_quit(qts);
    unlink(path);
}

/* Do what @command starts as job "j", and wait until it has been done. */
static void G_GNUC_PRINTF(2, 3) do_job(QTestState *qts, const char *command,
                                       ...)
{
    va_list ap;

    va_start(ap, command);
    assert_done(qtest_vqmp(qts, command, ap));
    va_end(ap);
    for (int i = 0; i < 4000; i++) {
        QDict *rsp = qtest_qmp(qts, "{ 'execute': 'query-jobs' }");
        const QListEntry *entry = qlist_first(qdict_get_qlist(rsp, "return"));
        QDict *job = qobject_to(QDict, qlist_entry_obj(entry));
        bool done = g_str_equal(qdict_get_str(job, "status"), "concluded");

        g_assert(!qdict_haskey(job, "error"));
        if (done) {
            qobject_unref(rsp);
            qtest_qmp_assert_success(qts, "{ 'execute': 'job-dismiss', "
                                     "'arguments': { 'id': 'j' } }");
            return;
        }
        qobject_unref(rsp);
        g_usleep(5000);
    }
    g_assert_not_reached();
}

/* A snapshot has the lines that there were, and no others. */
static void test_snapshot(void)
{
    g_autofree char *path = NULL;
    QTestState *qts = start(DEVICE);
    int fd = g_file_open_tmp("pvsched-XXXXXX", &path, NULL);

    close(fd);
    qtest_qmp_assert_success(qts, "{ 'execute': 'blockdev-add', 'arguments': {"
                             " 'driver': 'file', 'node-name': 'file',"
                             " 'filename': %s } }", path);
    do_job(qts, "{ 'execute': 'blockdev-create', 'arguments': {"
           " 'job-id': 'j', 'options': { 'driver': 'qcow2', 'file': 'file',"
           " 'size': 1048576 } } }");
    qtest_qmp_assert_success(qts, "{ 'execute': 'blockdev-add', 'arguments': {"
                             " 'driver': 'qcow2', 'node-name': 'disk',"
                             " 'file': 'file' } }");

    set_reg(qts, PVSCHED_REG_DRIVER_FEATURES, PVSCHED_F_WAIT);
    g_assert_cmphex(register_line(qts, 0, LINE), ==, PVSCHED_STATUS_REGISTERED);
    do_job(qts, "{ 'execute': 'snapshot-save', 'arguments': {"
           " 'job-id': 'j', 'tag': 's', 'vmstate': 'disk',"
           " 'devices': [ 'disk' ] } }");
    g_assert_true(registered(qts, 0));

    /* Until the snapshot is loaded, the lines are others. */
    set_reg(qts, PVSCHED_REG_DRIVER_FEATURES, PVSCHED_F_BOOST);
    g_assert_cmphex(register_line(qts, 0, 2 * LINE), ==,
                    PVSCHED_STATUS_REGISTERED);
    g_assert_cmphex(register_line(qts, 1, LINE), ==, PVSCHED_STATUS_REGISTERED);
    do_job(qts, "{ 'execute': 'snapshot-load', 'arguments': {"
           " 'job-id': 'j', 'tag': 's', 'vmstate': 'disk',"
           " 'devices': [ 'disk' ] } }");
    g_assert_cmphex(reg(qts, PVSCHED_REG_DRIVER_FEATURES), ==, PVSCHED_F_WAIT);
    g_assert_cmphex(window(qts, 0, PVSCHED_WIN_LINE_LO), ==, LINE);
    g_assert_true(registered(qts, 0));
    g_assert_cmphex(status(qts, 1), ==, PVSCHED_STATUS_NONE);
    g_assert_false(registered(qts, 1));
    g_assert_cmphex(register_line(qts, 1, LINE), ==, PVSCHED_STATUS_OVERLAP);
    qtest_quit(qts);
    unlink(path);
}

/* A line as the stream has it: two halves and a status */
static void find_line(const char *stream, gsize len, uint32_t **line)
{
    const uint32_t want[] = { cpu_to_be32(LINE), 0, cpu_to_be32(1) };

    *line = NULL;
    for (gsize i = 0; i + sizeof(want) <= len; i++) {
        if (!memcmp(stream + i, want, sizeof(want))) {
            g_assert(!*line);
            *line = (uint32_t *)(stream + i);
        }
    }
    g_assert(*line);
}

static void refuse(const char *path, const char *cpus)
{
    g_autofree char *uri = g_strdup_printf("exec:cat %s", path);
    QTestState *qts = qtest_initf(MACHINE "%s" DEVICE
                                  " -incoming defer 2>/dev/null", cpus);

    qtest_set_expected_status(qts, EXIT_FAILURE);
    qtest_qmp_send(qts, "{ 'execute': 'migrate-incoming', 'arguments': "
                   "{ 'uri': %s } }", uri);
    while (qtest_probe_child(qts)) {
        g_usleep(5000);
    }
    qtest_quit(qts);
}

static void test_bad_stream(void)
{
    static const struct {
        uint32_t lo, hi, status;
    } bad[] = {
        { LINE + 1, 0, PVSCHED_STATUS_REGISTERED },
        { 64 * MiB, 0, PVSCHED_STATUS_REGISTERED },
        { LINE, 1 << 20, PVSCHED_STATUS_REGISTERED },
        { 0, 0, PVSCHED_STATUS_REGISTERED },
        { LINE, 0, PVSCHED_STATUS_NO_VCPU + 1 },
    };
    g_autofree char *path = migrate_to_file();
    g_autofree char *stream = NULL;
    uint32_t *line;
    gsize len;

    refuse(path, " -smp 2,maxcpus=4");
    g_assert(g_file_get_contents(path, &stream, &len, NULL));
    find_line(stream, len, &line);
    for (int i = 0; i < ARRAY_SIZE(bad); i++) {
        stl_be_p(&line[0], bad[i].lo);
        stl_be_p(&line[1], bad[i].hi);
        stl_be_p(&line[2], bad[i].status);
        g_assert(g_file_set_contents(path, stream, len, NULL));
        refuse(path, CPUS);
    }
    /* The second window, which follows, claims the line of the first. */
    stl_be_p(&line[0], LINE);
    stl_be_p(&line[1], 0);
    stl_be_p(&line[2], PVSCHED_STATUS_REGISTERED);
    memcpy(&line[3], &line[0], 12);
    g_assert(g_file_set_contents(path, stream, len, NULL));
    refuse(path, CPUS);
    unlink(path);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/pvsched/registers", test_registers);
    qtest_add_func("/pvsched/line", test_register_line);
    qtest_add_func("/pvsched/malformed", test_malformed);
    qtest_add_func("/pvsched/reset", test_reset);
    qtest_add_func("/pvsched/properties", test_properties);
    qtest_add_func("/pvsched/ram-goes", test_ram_goes);
    qtest_add_func("/pvsched/vcpu-comes-and-goes", test_vcpu_comes_and_goes);
    qtest_add_func("/pvsched/device-comes-and-goes",
                   test_device_comes_and_goes);
    qtest_add_func("/pvsched/boost", test_boost);
    qtest_add_func("/pvsched/unboost", test_unboost);
    qtest_add_func("/pvsched/baseline", test_baseline);
    qtest_add_func("/pvsched/no-right", test_no_right);
    qtest_add_func("/pvsched/migration", test_migration);
    qtest_add_func("/pvsched/snapshot", test_snapshot);
    qtest_add_func("/pvsched/bad-stream", test_bad_stream);
    return g_test_run();
}
