/*
 * Stress guest: what KVM writes into the guest's memory by itself
 *
 * KVM writes the time that it could not run a vCPU, and whether it may run it
 * now, whenever it puts the vCPU on a CPU or takes it off; and a flag with
 * each interrupt that it delivers. Both lie in a page of their own for each
 * vCPU, which nobody else writes to.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "console.h"
#include "cpu.h"
#include "layout.h"
#include "paravirt.h"

#define CPUID_SIGNATURE 0x40000000
#define CPUID_FEATURES 0x40000001
#define SIGNATURE_EBX 0x4b4d564b        /* "KVMK", then "VMKVM" follows */
#define FEATURE_STEAL_TIME 0x20
#define FEATURE_PV_EOI 0x40

#define MSR_STEAL_TIME 0x4b564d03
#define MSR_PV_EOI 0x4b564d04
#define MSR_ENABLE 1

typedef struct Paravirt {
    uint8_t steal_time[64];
    uint32_t eoi_flag;
} __attribute__((aligned(PAGE_SIZE))) Paravirt;

static Paravirt paravirt[MAX_VCPUS];

void paravirt_enable(unsigned slot)
{
    const uint32_t wanted = FEATURE_STEAL_TIME | FEATURE_PV_EOI;
    Paravirt *page = &paravirt[slot];

    if (cpuid(CPUID_SIGNATURE).ebx != SIGNATURE_EBX ||
        (cpuid(CPUID_FEATURES).eax & wanted) != wanted) {
        fatal("pv: KVM has no steal time or no paravirtual end of interrupt");
    }
    wrmsr(MSR_STEAL_TIME, (uintptr_t)page->steal_time | MSR_ENABLE);
    wrmsr(MSR_PV_EOI, (uintptr_t)&page->eoi_flag | MSR_ENABLE);
}

uint32_t *paravirt_eoi_flag(unsigned slot)
{
    return &paravirt[slot].eoi_flag;
}
