/*
 * pvsched: what a look at a vCPU costs, a boost of its thread, and telling
 *
 * In CPU time of the thread that looks or tells, so that a busy host matters
 * little.  A thread stands for the vCPU, and sleeps or runs.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "hw/misc/pvsched-abi.h"
#include "hw/misc/pvsched/thread.h"

#define ROUNDS 100000

typedef struct Vcpu {
    QemuThread thread;
    QemuSemaphore started;
    int tid;
    bool spins;
    bool done;
    PVSchedThread t;
} Vcpu;

static void *vcpu_thread(void *opaque)
{
    Vcpu *v = opaque;

    v->tid = qemu_get_thread_id();
    qemu_sem_post(&v->started);
    while (!qatomic_read(&v->done)) {
        if (!v->spins) {
            g_usleep(1000);
        }
    }
    return NULL;
}

static void vcpu_start(Vcpu *v, bool spins)
{
    *v = (Vcpu) { .spins = spins };
    qemu_sem_init(&v->started, 0);
    qemu_thread_create(&v->thread, "vcpu", vcpu_thread, v,
                       QEMU_THREAD_JOINABLE);
    qemu_sem_wait(&v->started);
    pvsched_thread_init(&v->t, &v->thread, v->tid);
}

static void vcpu_end(Vcpu *v)
{
    pvsched_thread_destroy(&v->t);
    qatomic_set(&v->done, true);
    qemu_thread_join(&v->thread);
    qemu_sem_destroy(&v->started);
}

static int64_t used_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return ts.tv_sec * DIRTY_NS_PER_S + ts.tv_nsec;
}

static void tell(const char *what, int64_t start_ns, int rounds)
{
    printf("%-44s %8.1f ns\n", what, (double)(used_ns() - start_ns) / rounds);
}

/* Nothing but arithmetic: with a request that begins, or ends, each time */
static void bench_arithmetic(void)
{
    PVSchedLook l = { .may = 3 };
    PVSchedBoost b;
    int64_t start_ns;

    pvsched_boost_init(&b, &l);
    pvsched_boost_set_budget(&b, PVSCHED_CRITICAL, 100, 0);
    start_ns = used_ns();
    for (int i = 0; i < ROUNDS * 10; i++) {
        l.now_ns += 10000;
        l.cpu_ns += 1000;
        l.due_ns += 5000;
        l.request = i & 1 ? 0 : PVSCHED_REQ_INTERRUPT |
                    (uint64_t)1000 << PVSCHED_REQ_US_SHIFT;
        pvsched_boost_look(&b, &l);
    }
    tell("arithmetic of a look", start_ns, ROUNDS * 10);
    g_assert_cmpuint(b.counters.boosts, >, ROUNDS);
}

/*
 * What each interrupt costs a guest to whom nothing happens: to tell, and to
 * tell that it is over and see that nobody waits for the doorbell
 */
static void bench_interrupt(void)
{
    uint8_t line[PVSCHED_LINE_SIZE] QEMU_ALIGNED(PVSCHED_LINE_SIZE) = {};
    uint64_t *request = (uint64_t *)line;
    uint32_t *state = (uint32_t *)(line + PVSCHED_LINE_STATE);
    int64_t start_ns = used_ns();
    uint64_t rings = 0;

    for (uint64_t i = 1; i <= ROUNDS * 1000; i++) {
        qatomic_store_release(request, PVSCHED_REQ_INTERRUPT |
                              (uint64_t)UINT32_MAX << PVSCHED_REQ_US_SHIFT |
                              (i & UINT16_MAX) << PVSCHED_REQ_SEQ_SHIFT);
        qatomic_store_release(request, 0);
        if (qatomic_read(state) &
            (PVSCHED_STATE_BOOSTED | PVSCHED_STATE_PENALTY)) {
            rings++;
        }
    }
    tell("an interrupt, told by the guest", start_ns, ROUNDS * 1000);
    g_assert_cmpuint(rings, ==, 0);
}

static void bench_thread(const char *who, bool spins,
                         const PVSchedRights *rights)
{
    int64_t start_ns, sum_ns = 0;
    Vcpu v;

    vcpu_start(&v, spins);
    printf("A vCPU that %s:\n", who);
    start_ns = used_ns();
    for (int i = 0; i < ROUNDS; i++) {
        sum_ns += pvsched_thread_cpu_ns(&v.t);
    }
    tell("  for how long it ran", start_ns, ROUNDS);
    g_assert_cmpint(sum_ns, !=, 1);
    if (rights->means == PVSCHED_BY_NOTHING) {
        printf("  no right to boost it\n");
    } else {
        start_ns = used_ns();
        for (int i = 0; i < ROUNDS; i++) {
            g_assert(pvsched_thread_set(&v.t, PVSCHED_BOOSTED, rights));
            g_assert(pvsched_thread_set(&v.t, PVSCHED_NORMAL, rights));
        }
        tell("  boost and unboost", start_ns, ROUNDS);
    }
    vcpu_end(&v);
}

int main(void)
{
    PVSchedRights rights;

    rights = pvsched_rights();
    printf("Boosts by %s\n", rights.means == PVSCHED_BY_REAL_TIME ?
           "real-time priority" : rights.means == PVSCHED_BY_NICE ?
           "nice value" : "nothing");
    bench_interrupt();
    bench_arithmetic();
    bench_thread("sleeps", false, &rights);
    bench_thread("runs", true, &rights);
    return 0;
}
