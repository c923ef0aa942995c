/*
 * Dirty throttle: shares and the common pool
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/dirty-throttle/pool.h"

#define MS 1000000LL
#define ROUND_NS (10 * MS)
#define INTERVAL_NS (100 * MS)

/* VMs with a budget of their own, and vCPUs that dirty as told */
typedef struct TestVM {
    /* debts that were forgiven */
    uint64_t forgiven_pages;
    DirtyPool pool;
    unsigned nr;
    DirtyAccount *vcpus;
    int64_t now_ns;
    unsigned rounds;
} TestVM;

static void vm_init(TestVM *vm, unsigned nr)
{
    *vm = (TestVM) { .nr = nr, .vcpus = g_new0(DirtyAccount, nr) };
    dirty_pool_init(&vm->pool, 0);
    for (unsigned i = 0; i < nr; i++) {
        dirty_account_init(&vm->vcpus[i], 0);
    }
}

static void vm_round(TestVM *vm, uint64_t budget_pps)
{
    vm->now_ns += ROUND_NS;
    dirty_pool_begin(&vm->pool, budget_pps, vm->nr, INTERVAL_NS, vm->now_ns);
    for (unsigned i = 0; i < vm->nr; i++) {
        vm->forgiven_pages += dirty_pool_collect(&vm->pool, &vm->vcpus[i]);
    }
    vm->rounds++;
    for (unsigned i = 0; i < vm->nr; i++) {
        dirty_pool_pay(&vm->pool, &vm->vcpus[(vm->rounds + i) % vm->nr]);
    }
}

/* A vCPU out of debt dirties what it would in a round, one in debt nothing. */
static uint64_t vcpu_runs(TestVM *vm, unsigned i, uint64_t demand_pps)
{
    uint64_t pages = dirty_rate_pages(demand_pps, ROUND_NS);

    if (dirty_account_penalty_ns(&vm->vcpus[i], vm->now_ns)) {
        return 0;
    }
    dirty_account_charge(&vm->vcpus[i], pages, vm->now_ns);
    return pages;
}

/* Pages each vCPU gets to dirty in @rounds */
static void vm_run(TestVM *vm, uint64_t budget_pps, const uint64_t *demand_pps,
                   unsigned rounds, uint64_t *got)
{
    memset(got, 0, vm->nr * sizeof(*got));
    for (unsigned r = 0; r < rounds; r++) {
        vm_round(vm, budget_pps);
        for (unsigned i = 0; i < vm->nr; i++) {
            got[i] += vcpu_runs(vm, i, demand_pps[i]);
        }
    }
}

static void test_unused_shares_are_used(void)
{
    static const uint64_t demand[] = { 0, 0, 0, 1000000 };
    uint64_t got[4];
    TestVM vm;

    vm_init(&vm, 4);
    vm_run(&vm, 10000, demand, 1000, got);
    /* ten seconds of the whole budget, not of a quarter */
    g_assert_cmpuint(got[3], >=, 97000);
    /* it knows what it gets from the pool: three shares beside its own */
    g_assert_cmpuint(vm.vcpus[3].extra_pps, >=, 6000);
    g_assert_cmpuint(vm.vcpus[3].extra_pps, <=, 9000);
    /* and sleeps accordingly */
    vm.vcpus[3].balance_pages = -100;
    g_assert_cmpint(dirty_account_penalty_ns(&vm.vcpus[3], vm.now_ns), <=,
                    100 * 1000 * MS / 8500);
    /* and what it is ahead by at the end is one round of its demand */
    g_assert_cmpuint(got[3], <=, 100000 + 10000 + 1000);
    g_free(vm.vcpus);
}

static void test_everybody_gets_a_share(void)
{
    /* the light one gets all it wants, the greedy ones share the rest */
    static const uint64_t demand[] = { 1000, 100000, 50000, 0 };
    uint64_t got[4];
    TestVM vm;

    vm_init(&vm, 4);
    vm_run(&vm, 10000, demand, 2000, got);
    g_assert_cmpuint(got[0], >=, 19500);
    g_assert_cmpuint(got[1], >=, 20 * 2500);
    g_assert_cmpuint(got[2], >=, 20 * 2500);
    /* twice as greedy does not mean more: (10000 - 1000) / 2 each */
    g_assert_cmpuint(got[1], <=, 20 * 4500 * 11 / 10);
    g_assert_cmpuint(got[1], >=, 20 * 4500 * 9 / 10);
    g_assert_cmpuint(got[2], <=, 20 * 4500 * 11 / 10);
    g_assert_cmpuint(got[2], >=, 20 * 4500 * 9 / 10);
    g_free(vm.vcpus);
}

static void test_pool_is_bounded(void)
{
    static const uint64_t demand[] = { 0, 0 };
    uint64_t got[2];
    TestVM vm;

    vm_init(&vm, 2);
    vm_run(&vm, 10000, demand, 10000, got);
    g_assert_cmpuint(vm.pool.pages, ==, 1000);
    /* a lower budget cuts it with the next round */
    vm_run(&vm, 1000, demand, 1, got);
    g_assert_cmpuint(vm.pool.pages, <=, 100);
    g_free(vm.vcpus);
}

static void test_more_vcpus_than_pages(void)
{
    uint64_t demand[64], got[64], sum = 0;
    TestVM vm;

    for (unsigned i = 0; i < ARRAY_SIZE(demand); i++) {
        demand[i] = 100;
    }
    vm_init(&vm, ARRAY_SIZE(demand));
    vm_run(&vm, 12, demand, 60000, got);
    for (unsigned i = 0; i < ARRAY_SIZE(demand); i++) {
        sum += got[i];
        /* ten minutes at 12 pages/s: 112 each; nobody is left out */
        g_assert_cmpuint(got[i], >=, 56);
    }
    /* each is in debt for a page at first */
    g_assert_cmpuint(sum, <=, 600 * 12 + 64);
    g_free(vm.vcpus);
}

/* What all vCPUs were granted so far, saved, spent or paid for. */
static int64_t vm_granted(TestVM *vm, uint64_t charged)
{
    int64_t sum = charged + vm->pool.pages - vm->forgiven_pages;

    for (unsigned i = 0; i < vm->nr; i++) {
        sum += vm->vcpus[i].balance_pages + vm->vcpus[i].left_pages;
    }
    return sum;
}

/* Nobody owes more than a share earns in 10 s. */
static void test_debt_is_bounded(void)
{
    TestVM vm;

    vm_init(&vm, 2);
    vm_round(&vm, 2000);
    dirty_account_charge(&vm.vcpus[0], 9000, vm.now_ns);
    dirty_account_charge(&vm.vcpus[1], 1000000, vm.now_ns);
    vm_round(&vm, 2000);
    /* the pool has paid nothing, as nobody has left anything */
    g_assert_cmpuint(dirty_account_debt_pages(&vm.vcpus[0]), <=, 9000);
    g_assert_cmpuint(dirty_account_debt_pages(&vm.vcpus[0]), >=, 8900);
    g_assert_cmpuint(dirty_account_debt_pages(&vm.vcpus[1]), ==, 10000);
    g_assert_cmpuint(vm.forgiven_pages, >=, 980000);
    /* Devices leave nothing of the link for a moment. */
    vm_round(&vm, 0);
    g_assert_cmpuint(dirty_account_debt_pages(&vm.vcpus[1]), >, 9900);
    g_free(vm.vcpus);
}

/*
 * Random VMs, budgets that change, vCPUs that come, go and dirty at random:
 * never is more handed out than the budget has earned.
 */
static void test_nothing_is_minted(void)
{
    for (int run = 0; run < 200; run++) {
        unsigned max = 1 + g_test_rand_int_range(0, run % 8 ? 16 : 1024);
        uint64_t earned_1e9 = 0, budget_pps = 0, charged = 0;
        TestVM vm;

        vm_init(&vm, max);
        for (int step = 0; step < 200; step++) {
            int64_t last_ns = vm.pool.round_ns;
            uint64_t old_pps = budget_pps;
            unsigned i = g_test_rand_int_range(0, max);

            if (g_test_rand_int_range(0, 20) == 0) {
                budget_pps = g_test_rand_int_range(0, 100000);
            }
            if (g_test_rand_int_range(0, 20) == 0) {
                /* one goes, with its debt and what it left; another comes */
                charged -= dirty_account_debt_pages(&vm.vcpus[i]);
                dirty_account_init(&vm.vcpus[i], vm.now_ns);
            }
            if (g_test_rand_int_range(0, 20) == 0) {
                unsigned nr = 1 + g_test_rand_int_range(0, max);

                for (unsigned gone = nr; gone < vm.nr; gone++) {
                    charged -= dirty_account_debt_pages(&vm.vcpus[gone]);
                    dirty_account_init(&vm.vcpus[gone], vm.now_ns);
                }
                vm.nr = nr;
            }
            vm.now_ns += g_test_rand_int_range(0, 20 * MS);
            vm_round(&vm, budget_pps);
            /* a budget counts from the round that brings it */
            earned_1e9 += old_pps * (vm.now_ns - last_ns);
            g_assert_cmpint(vm_granted(&vm, charged), <=,
                            earned_1e9 / DIRTY_NS_PER_S);

            i %= vm.nr;
            if (g_test_rand_bit() &&
                !dirty_account_penalty_ns(&vm.vcpus[i], vm.now_ns)) {
                uint64_t pages = g_test_rand_int_range(0, 2000);

                dirty_account_charge(&vm.vcpus[i], pages, vm.now_ns);
                charged += pages;
            }
        }
        g_free(vm.vcpus);
    }
}

/* A machine that can dirty all of 128 TiB in a second */
static void test_large_slices(void)
{
    const uint64_t pages = 1ULL << 35;
    DirtyAccount idle, debtor;
    DirtyPool p;

    dirty_pool_init(&p, 0);
    dirty_account_init(&idle, 0);
    dirty_account_init(&debtor, 0);
    for (int round = 1; round <= 2; round++) {
        dirty_pool_begin(&p, 2 * pages, 2, DIRTY_NS_PER_S,
                         round * DIRTY_NS_PER_S);
        dirty_pool_collect(&p, &idle);
        dirty_pool_collect(&p, &debtor);
        dirty_pool_pay(&p, &idle);
        dirty_pool_pay(&p, &debtor);
        dirty_account_charge(&debtor, 4 * pages, round * DIRTY_NS_PER_S);
    }
    g_assert_cmpuint(debtor.extra_pps, >, pages / 2 / 8);
    g_assert_cmpuint(debtor.extra_pps, <=, pages);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/dirty-pool/debt-is-bounded", test_debt_is_bounded);
    g_test_add_func("/dirty-pool/unused", test_unused_shares_are_used);
    g_test_add_func("/dirty-pool/shares", test_everybody_gets_a_share);
    g_test_add_func("/dirty-pool/bounded", test_pool_is_bounded);
    g_test_add_func("/dirty-pool/few-pages", test_more_vcpus_than_pages);
    g_test_add_func("/dirty-pool/large", test_large_slices);
    g_test_add_func("/dirty-pool/random/minted", test_nothing_is_minted);
    return g_test_run();
}
