/*
 * Stress guest: bringing up the vCPUs
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdbool.h>
#include <stdint.h>

#include "boot.h"
#include "clock.h"
#include "config.h"
#include "console.h"
#include "cpu.h"
#include "lapic.h"
#include "paravirt.h"
#include "smp.h"

#define MAX_APIC_ID 255

/* Emulated vCPUs on a busy host need their time */
#define START_TIMEOUT_MS 30000

/* CPL 3 may use the ports below: the serial port */
#define USER_PORTS 0x400

#define TSS_DESCRIPTOR 0x0000890000000000ULL

typedef struct Tss {
    uint32_t reserved0;
    uint32_t rsp0[2];
    uint32_t reserved1[22];
    uint16_t reserved2;
    uint16_t iomap_offset;
    /* 0: allowed. The CPU wants a byte of ones behind the last bit. */
    uint8_t iomap[USER_PORTS / 8];
    uint8_t iomap_end;
} __attribute__((packed)) Tss;

_Static_assert(__builtin_offsetof(Tss, iomap) == 104, "as the CPU wants it");

static Tss tss[MAX_VCPUS];
static bool apic_present[MAX_APIC_ID + 1];
static unsigned vcpus_up;
static bool released;

void smp_init_vcpu(unsigned slot)
{
    uint64_t base = (uintptr_t)&tss[slot];
    uint64_t stack = (uintptr_t)kernel_stacks[slot + 1];
    uint64_t *descriptor = &gdt[SEL_TSS / 8 + 2 * slot];

    tss[slot].rsp0[0] = stack;
    tss[slot].rsp0[1] = stack >> 32;
    tss[slot].iomap_offset = __builtin_offsetof(Tss, iomap);
    tss[slot].iomap_end = 0xff;
    descriptor[0] = TSS_DESCRIPTOR | (sizeof(Tss) - 1) |
                    (base & 0xffffff) << 16 | (base >> 24 & 0xff) << 56;
    descriptor[1] = base >> 32;

    if (config.paravirt) {
        paravirt_enable(slot);
    }

    apic_present[lapic_id()] = true;
    __atomic_add_fetch(&vcpus_up, 1, __ATOMIC_RELEASE);
}

void smp_start_others(void)
{
    uint64_t start;
    unsigned up;

    if (config.nr_vcpus == 1) {
        return;
    }

    lapic_enable();
    lapic_start_others();

    start = rdtsc();
    while ((up = __atomic_load_n(&vcpus_up, __ATOMIC_ACQUIRE)) <
           config.nr_vcpus) {
        if (rdtsc() - start > START_TIMEOUT_MS * tsc_khz) {
            fatal("only %lu of %lu vcpus came up", (unsigned long)up,
                  (unsigned long)config.nr_vcpus);
        }
        pause();
    }
}

void smp_release_others(void)
{
    __atomic_store_n(&released, true, __ATOMIC_RELEASE);
}

void smp_wait_release(void)
{
    while (!__atomic_load_n(&released, __ATOMIC_ACQUIRE)) {
        pause();
    }
}

/* APIC ids may have holes, but rise with QEMU's index */
unsigned smp_index(void)
{
    unsigned index = 0;

    for (unsigned id = 0; id < lapic_id(); id++) {
        index += apic_present[id];
    }
    return index;
}
