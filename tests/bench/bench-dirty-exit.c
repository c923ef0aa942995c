/*
 * What the arithmetic of an exit costs: charge, penalty, and the next look
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/dirty-throttle/pool.h"
#include "migration/dirty-throttle/vcpu.h"

#define ROUNDS 5000000

static double bench_exit_ns(uint64_t limit_pps, uint64_t share_pps)
{
    DirtyVcpu v;
    int64_t start_us, now_ns = 0, sum_ns = 0;
    uint64_t total_pages = 0;

    dirty_vcpu_init(&v, 0);
    dirty_account_set_rate(&v.limit, limit_pps, 0);
    dirty_account_set_rate(&v.share, share_pps, 0);
    start_us = g_get_monotonic_time();
    for (int i = 0; i < ROUNDS; i++) {
        now_ns += 1000 + (i & 1023);
        total_pages += i & 63;
        sum_ns += dirty_vcpu_charge(&v, total_pages, now_ns);
        sum_ns += dirty_vcpu_resume(&v, i & 1, false, now_ns);
    }
    /* The sum keeps the compiler from leaving out the work. */
    g_assert_cmpint(sum_ns, >=, 0);
    return (g_get_monotonic_time() - start_us) * 1000.0 / ROUNDS;
}

/* A round of the common pool, for each vCPU */
static double bench_pool_ns(unsigned vcpus)
{
    g_autofree DirtyAccount *b = g_new0(DirtyAccount, vcpus);
    int rounds = ROUNDS / vcpus;
    int64_t start_us;
    DirtyPool p;

    dirty_pool_init(&p, 0);
    for (unsigned i = 0; i < vcpus; i++) {
        dirty_account_init(&b[i], 0);
    }
    start_us = g_get_monotonic_time();
    for (int r = 1; r <= rounds; r++) {
        dirty_pool_begin(&p, 25000, vcpus, 100000000, r * 10000000LL);
        for (unsigned i = 0; i < vcpus; i++) {
            dirty_pool_collect(&p, &b[i]);
            dirty_account_charge(&b[i], i & 7, r * 10000000LL);
        }
        for (unsigned i = 0; i < vcpus; i++) {
            dirty_pool_pay(&p, &b[i]);
        }
    }
    return (g_get_monotonic_time() - start_us) * 1000.0 / rounds / vcpus;
}

int main(void)
{
    printf("exit, unlimited:          %6.1f ns\n",
           bench_exit_ns(DIRTY_RATE_UNLIMITED, DIRTY_RATE_UNLIMITED));
    printf("exit, limit:              %6.1f ns\n",
           bench_exit_ns(25600, DIRTY_RATE_UNLIMITED));
    printf("exit, limit and share:    %6.1f ns\n",
           bench_exit_ns(25600, 12500));
    printf("pool, each of 4 vCPUs:    %6.1f ns a round\n", bench_pool_ns(4));
    printf("pool, each of 1024 vCPUs: %6.1f ns a round\n",
           bench_pool_ns(1024));
    return 0;
}
