/*
 * What a dirty quota costs a guest, for each page that it dirties
 *
 * Built like a KVM selftest of Linux 6.1, whose library it uses. Rounds with
 * the quota off, on and exhausted take turns, so that whatever else changes
 * while it runs hits all of them alike.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdlib.h>
#include <time.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"

#define NR_PAGES    2048
#define NR_ROUNDS   51
#define MEM_SLOT    1
#define MEM_GPA     0x40000000ul
#define MEM_GVA     0xc0000000ul

/* Pages between two exits, where the quota is exhausted */
#define PAGES_PER_EXIT  64

enum { OFF, ON, EXITS, NR_KINDS };

static const char *const names[] = { "off", "on", "exits" };
static double ns_per_page[NR_KINDS][NR_ROUNDS];

static void guest_walk(void)
{
    int i;

    for (;;) {
        for (i = 0; i < NR_PAGES; i++) {
            WRITE_ONCE(*(uint64_t *)(MEM_GVA + i * 4096ul), i);
        }
        GUEST_SYNC(0);
    }
}

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

/* One pass over memory that is clean; how long it takes for a page */
static double run_round(struct kvm_vcpu *vcpu, int kind)
{
    static uint64_t charged;
    struct kvm_run *run = vcpu->run;
    uint64_t quota = kind == EXITS ? charged + PAGES_PER_EXIT : UINT64_MAX;
    double begin = now_ns();

    run->dirty_quota = quota;
    vcpu_run(vcpu);
    while (run->exit_reason == KVM_EXIT_DIRTY_QUOTA_EXHAUSTED) {
        run->dirty_quota += PAGES_PER_EXIT;
        vcpu_run(vcpu);
    }
    charged += NR_PAGES;
    begin = (now_ns() - begin) / NR_PAGES;
    TEST_ASSERT(get_ucall(vcpu, NULL) == UCALL_SYNC, "exit reason %u",
                run->exit_reason);
    return begin;
}

static int compare(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

int main(void)
{
    static uint64_t bitmap[NR_PAGES / 64];
    bool has_quota = kvm_check_cap(KVM_CAP_DIRTY_QUOTA) == 1;
    struct kvm_vcpu *vcpu;
    struct kvm_vm *vm;
    int round, kind;

    vm = vm_create_with_one_vcpu(&vcpu, guest_walk);
    vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, MEM_GPA, MEM_SLOT,
                                NR_PAGES, KVM_MEM_LOG_DIRTY_PAGES);
    virt_map(vm, MEM_GVA, MEM_GPA, NR_PAGES);

    /* The first round only populates the memory. */
    run_round(vcpu, OFF);
    for (round = 0; round < NR_ROUNDS; round++) {
        for (kind = OFF; kind < (has_quota ? NR_KINDS : ON); kind++) {
            if (has_quota) {
                vm_enable_cap(vm, KVM_CAP_DIRTY_QUOTA, kind != OFF);
            }
            kvm_vm_get_dirty_log(vm, MEM_SLOT, bitmap);
            ns_per_page[kind][round] = run_round(vcpu, kind);
        }
    }

    printf("ns per page: quota, quartiles of %d rounds\n", NR_ROUNDS);
    for (kind = OFF; kind < (has_quota ? NR_KINDS : ON); kind++) {
        qsort(ns_per_page[kind], NR_ROUNDS, sizeof(double), compare);
        printf("%-6s %6.0f %6.0f %6.0f\n", names[kind],
               ns_per_page[kind][NR_ROUNDS / 4],
               ns_per_page[kind][NR_ROUNDS / 2],
               ns_per_page[kind][NR_ROUNDS * 3 / 4]);
    }
    kvm_vm_free(vm);
    return 0;
}
