/*
 * pvsched: vCPUs, the thread that watches and the main thread, all at once
 *
 * Lines are plain memory, and to be scheduled is to have a variable changed.
 * Who changes it other than under the lock of the vCPU is found by the thread
 * sanitizer, and at once by what is checked here.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/rcu.h"
#include "qemu/timer.h"
#include "hw/misc/pvsched-abi.h"
#include "hw/misc/pvsched/watch.h"

#define VCPUS 3
#define ROUNDS 400
#define REGISTERS 0xe0000000ull

/* Stand for the guest's RAM and the host's threads. */
typedef struct Fake {
    struct FakeLine *line;
    QemuThread vcpu, guest;
    unsigned index;
    CPUState cpu;
} Fake;

typedef struct FakeLine {
    uint64_t words[PVSCHED_LINE_SIZE / 8];
} FakeLine;

/* What a line that was given back has for a state */
#define GIVEN_BACK 0xdeadbeef

/* All that there have been; none is used twice. */
static FakeLine lines[VCPUS + ROUNDS];
static unsigned nr_lines;

static Fake fakes[VCPUS];
static PVSchedCommon common;
static PVSchedVcpu vcpus[VCPUS];
static bool done;
static unsigned boosts_seen;

uint64_t pvsched_ram_request(const uint8_t *host)
{
    return qatomic_read((const uint64_t *)host);
}

void pvsched_ram_tell(PVSchedRam *ram, const PVSchedLine *line)
{
    qatomic_set((uint32_t *)(ram->host + PVSCHED_LINE_STATE), line->state);
}

void pvsched_ram_put(PVSchedRam *ram)
{
    *ram = (PVSchedRam) { };
}

void pvsched_thread_init(PVSchedThread *t, QemuThread *thread, int tid)
{
    *t = (PVSchedThread) { .tid = tid };
}

void pvsched_thread_destroy(PVSchedThread *t)
{
    t->mode = PVSCHED_NORMAL;
    t->tid = -1;
}

int64_t pvsched_thread_cpu_ns(PVSchedThread *t)
{
    t->cpu_ns += 200;
    return t->cpu_ns;
}

bool pvsched_thread_set(PVSchedThread *t, PVSchedMode mode,
                        const PVSchedRights *rights)
{
    /* A thread that is not registered is nobody's to change. */
    g_assert_cmpint(t->tid, >=, 0);
    if (mode == PVSCHED_BOOSTED) {
        g_assert_cmpint(rights->means, ==, PVSCHED_BY_REAL_TIME);
        qatomic_inc(&boosts_seen);
    }
    t->mode = mode;
    return true;
}

void pvsched_thread_be_first(const PVSchedRights *rights)
{
}

void pvsched_mutex_init(QemuMutex *mutex)
{
    qemu_mutex_init(mutex);
}

/* Writes whatever comes to its mind, wherever its line is */
static void *guest_thread(void *opaque)
{
    Fake *f = opaque;
    g_autoptr(GRand) rnd = g_rand_new_with_seed(f->index);

    while (!qatomic_read(&done)) {
        FakeLine *line = qatomic_read(&f->line);
        uint64_t request = g_rand_int(rnd);

        if (line) {
            request |= (uint64_t)g_rand_int(rnd) << 32;
            qatomic_set(&line->words[0], g_rand_boolean(rnd) ? request : 0);
        }
        g_usleep(g_rand_int_range(rnd, 0, 50));
    }
    return NULL;
}

/* What an accelerator does */
static void *vcpu_thread(void *opaque)
{
    Fake *f = opaque;
    hwaddr bell = REGISTERS + PVSCHED_WINDOW(f->index) + PVSCHED_WIN_DOORBELL;
    unsigned round = 0;

    rcu_register_thread();
    while (!qatomic_read(&done)) {
        WITH_RCU_READ_LOCK_GUARD() {
            PVSchedHooks *h = qatomic_rcu_read(&common.hooks[f->index]);

            if (h) {
                h->left(h);
                g_assert_false(h->rang(h, bell + 4));
                if (round % 3 == 0) {
                    g_assert_true(h->rang(h, bell));
                }
                if (round % 7 == 0) {
                    g_assert_cmpint(h->penalty_waits(h, true), <=,
                                    PVSCHED_WAIT_MAX_US * 1000);
                }
            }
        }
        round++;
    }
    rcu_unregister_thread();
    return NULL;
}

static void plug(unsigned i)
{
    FakeLine *line = &lines[nr_lines++];
    PVSchedRam ram = { .host = (uint8_t *)line->words };

    pvsched_vcpu_register(&vcpus[i], &fakes[i].cpu, 0x1000, &ram);
    qatomic_set(&fakes[i].line, line);
}

static uint32_t *line_state(FakeLine *line)
{
    return (uint32_t *)((uint8_t *)line->words + PVSCHED_LINE_STATE);
}

/* The guest uses its memory for something else at once. */
static void unplug(unsigned i)
{
    FakeLine *line = fakes[i].line;

    pvsched_vcpu_unregister(&vcpus[i]);
    g_assert_false(pvsched_vcpu_registered(&vcpus[i]));
    qatomic_set(line_state(line), GIVEN_BACK);
}

static void check_off(void)
{
    for (unsigned i = 0; i < VCPUS; i++) {
        g_assert_cmpint(pvsched_vcpu_state(&vcpus[i]).mode, ==, PVSCHED_NORMAL);
    }
}

static void turn(bool on)
{
    qatomic_set(&common.on, on);
    if (on) {
        pvsched_common_wake(&common, 0);
        return;
    }
    for (unsigned i = 0; i < VCPUS; i++) {
        pvsched_vcpu_rest(&vcpus[i]);
    }
    /* And so it stays. */
    for (int i = 0; i < 3; i++) {
        check_off();
        g_usleep(500);
    }
}

static void test_threads(void)
{
    const PVSchedRights rights = { .means = PVSCHED_BY_REAL_TIME };
    g_autoptr(GRand) rnd = g_rand_new_with_seed(1);
    PVSchedWatch watch = { };

    qemu_sem_init(&common.wake, 0);
    common.hooks = g_new0(PVSchedHooks *, VCPUS);
    common.registers = REGISTERS;
    common.wait = true;
    for (unsigned i = 0; i < VCPUS; i++) {
        pvsched_vcpu_init(&vcpus[i], &common, i);
        pvsched_vcpu_set_rights(&vcpus[i], &rights);
        fakes[i].index = i;
    }
    pvsched_watch_start(&watch, &common, vcpus, VCPUS);
    pvsched_watch_set_rights(&watch, &rights);
    for (int kind = 0; kind < PVSCHED_KINDS; kind++) {
        pvsched_watch_set_budget(&watch, kind, 100);
    }
    for (unsigned i = 0; i < VCPUS; i++) {
        for (int kind = 0; kind < PVSCHED_KINDS; kind++) {
            pvsched_vcpu_set_budget(&vcpus[i], kind, 100);
        }
        plug(i);
        qemu_thread_create(&fakes[i].guest, "guest", guest_thread, &fakes[i],
                           QEMU_THREAD_JOINABLE);
        qemu_thread_create(&fakes[i].vcpu, "vcpu", vcpu_thread, &fakes[i],
                           QEMU_THREAD_JOINABLE);
    }

    turn(true);
    for (int round = 0; round < ROUNDS; round++) {
        unsigned i = g_rand_int_range(rnd, 0, VCPUS);

        switch (g_rand_int_range(rnd, 0, 4)) {
        case 0:
            unplug(i);
            plug(i);
            break;
        case 1:
            turn(false);
            turn(true);
            break;
        case 2:
            pvsched_vcpu_set_budget(&vcpus[i], PVSCHED_RT,
                                    g_rand_int_range(rnd, 0, 101));
            pvsched_watch_set_budget(&watch, PVSCHED_RT,
                                     g_rand_int_range(rnd, 50, 101));
            break;
        case 3:
            pvsched_vcpu_state(&vcpus[i]);
            break;
        }
        g_usleep(g_rand_int_range(rnd, 0, 2000));
    }

    turn(false);
    for (unsigned i = 0; i < VCPUS; i++) {
        unplug(i);
    }
    qatomic_set(&done, true);
    for (unsigned i = 0; i < VCPUS; i++) {
        qemu_thread_join(&fakes[i].vcpu);
        qemu_thread_join(&fakes[i].guest);
    }
    pvsched_watch_stop(&watch);
    check_off();
    for (unsigned i = 0; i < VCPUS; i++) {
        pvsched_vcpu_destroy(&vcpus[i]);
    }
    for (unsigned i = 0; i < nr_lines; i++) {
        g_assert_cmphex(*line_state(&lines[i]), ==, GIVEN_BACK);
    }
    qemu_sem_destroy(&common.wake);
    g_free(common.hooks);
    g_assert_cmpuint(qatomic_read(&boosts_seen), >, 10);
}

/* Who has had no line for a while was due nothing: nobody saw what it ran. */
static void test_register_again(void)
{
    PVSchedCommon idle = { .processors = 1 };
    PVSchedVcpu *v = &vcpus[0];
    FakeLine line = { };
    PVSchedRam ram = { .host = (uint8_t *)line.words };
    PVSchedHooks *hooks;
    int64_t due_ns, begin_ns;

    idle.hooks = &hooks;
    pvsched_vcpu_init(v, &idle, 0);
    pvsched_vcpu_register(v, &fakes[0].cpu, 0x1000, &ram);
    pvsched_vcpu_unregister(v);
    due_ns = v->share.due_ns;
    g_usleep(10000);
    begin_ns = get_clock();
    pvsched_vcpu_register(v, &fakes[0].cpu, 0x1000, &ram);
    pvsched_vcpu_unregister(v);
    g_assert_cmpint(v->share.due_ns - due_ns, <=, get_clock() - begin_ns);
    pvsched_vcpu_destroy(v);
}

static void test_share_of(void)
{
    const int64_t thread = PVSCHED_ONE;

    g_assert_cmpuint(pvsched_share_of(-thread, 1), ==, PVSCHED_ONE);
    g_assert_cmpuint(pvsched_share_of(0, 1), ==, PVSCHED_ONE);
    g_assert_cmpuint(pvsched_share_of(thread, 2), ==, PVSCHED_ONE);
    g_assert_cmpuint(pvsched_share_of(thread, 1), ==, PVSCHED_ONE / 2);
    g_assert_cmpuint(pvsched_share_of(7 * thread, 2), ==, PVSCHED_ONE / 4);
    g_assert_cmpuint(pvsched_share_of(thread / 2, 1), ==, 666000);
    g_assert_cmpuint(pvsched_share_of(1000000 * thread, 1), >=, 1);
    g_assert_cmpuint(pvsched_share_of(INT64_MAX / 2, 4096), <, 1000);
}

/*
 * Beside two hogs on one processor, a vCPU is due a third of it, whether it
 * always wants to run, or for some of the time and gets it at once; and in no
 * case more.
 */
static void test_share_with_hogs(void)
{
    const int64_t second = NANOSECONDS_PER_SECOND;

    for (int runs = 0; runs <= 10; runs++) {
        /* It waits for as long as it runs, for twice as long, or not at all */
        for (int wants = runs; wants <= 10; wants += MAX(runs, 1)) {
            unsigned runnable = 2 * PVSCHED_ONE + wants * PVSCHED_ONE / 10;
            PVSchedShare s = { };
            int64_t due_ns = 0;

            for (int64_t ms = 1; ms <= 20000; ms++) {
                int64_t cpu_ns = (ms / 10 * runs + MIN(ms % 10, runs)) *
                                 SCALE_MS;

                due_ns = pvsched_share_update(&s, runnable, 1, ms * SCALE_MS,
                                              cpu_ns);
            }
            g_assert_cmpint(due_ns, <=, 20 * second / 3 + second / 10);
            if (wants == runs) {
                g_assert_cmpint(due_ns, >=, 19 * second / 3);
            }
        }
    }
}

/* Whatever this host does, and however late somebody looks */
static void test_share_late(void)
{
    PVSchedShare s = { };
    int64_t due_ns, before_ns = 0;
    PVSchedRunnable r;

    pvsched_runnable_open(&r);
    g_assert_cmpint(r.fd, >=, 0);
    for (int64_t now_ns = 1; now_ns < INT64_MAX / 4; now_ns *= 3) {
        unsigned runnable = pvsched_runnable_update(&r, now_ns);

        g_assert_cmpuint(runnable, <, 100000u * 1000);
        due_ns = pvsched_share_update(&s, runnable, 2, now_ns, now_ns / 2);
        g_assert_cmpint(due_ns, >=, before_ns);
        g_assert_cmpint(due_ns, <=, now_ns);
        g_assert_cmpint(s.used, >=, 0);
        g_assert_cmpint(s.used, <=, PVSCHED_ONE);
        before_ns = due_ns;
    }
    g_assert_cmpint(s.used, >=, PVSCHED_ONE / 2 - 1000);
    /* This thread is one, which does not count, and others there are few. */
    g_assert_cmpuint(pvsched_runnable_update(&r, INT64_MAX / 2), <,
                     1000u * PVSCHED_ONE);
    pvsched_runnable_close(&r);

    /* Nobody tells. */
    r = (PVSchedRunnable) { .fd = -1 };
    g_assert_cmpuint(pvsched_runnable_update(&r, SCALE_MS), >=,
                     16 * PVSCHED_ONE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pvsched/register-again", test_register_again);
    g_test_add_func("/pvsched/share/of", test_share_of);
    g_test_add_func("/pvsched/share/with-hogs", test_share_with_hogs);
    g_test_add_func("/pvsched/share/late", test_share_late);
    g_test_add_func("/pvsched/threads", test_threads);
    return g_test_run();
}
