/*
 * Stress guest: what the command line asks for
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stddef.h>

#include "boot.h"
#include "config.h"
#include "console.h"
#include "cpu.h"
#include "display.h"

#define MIB (1024 * 1024ULL)

/* Below lie the guest itself, its counters and what the boot loader left */
#define REGIONS_START (16 * MIB)

#define FW_CFG_SELECTOR 0x510
#define FW_CFG_DATA 0x511
#define FW_CFG_NB_CPUS 0x05

#define DEFAULT_MB 64
#define DEFAULT_HOT_PAGES 256
#define DEFAULT_ON_MS 100
#define DEFAULT_OFF_MS 900
#define DEFAULT_TIMES 1000
#define DEFAULT_INTERVAL_US 500
#define DEFAULT_HOLD_US 20
#define DEFAULT_LOCKER_MB 1

#define MAX_RATE 1000000000
#define MAX_MS 3600000
/* KVM lets no timer expire more often than that, unless it is told otherwise */
#define MAX_TIMES 5000
/* Within what a timer of 32 bits with nanoseconds counts */
#define MIN_INTERVAL_US 50
#define MAX_US 1000000

#define MULTIBOOT_HAS_MEMORY 0x1
#define MULTIBOOT_HAS_CMDLINE 0x4

typedef struct MultibootInfo {
    uint32_t flags;
    uint32_t mem_lower;
    uint32_t mem_upper;         /* KiB from 1 MiB up to the first hole */
    uint32_t boot_device;
    uint32_t cmdline;
} MultibootInfo;

/* What may follow a role */
typedef enum RoleKeys {
    KEY_RATE = 1,
    KEY_MB = 2,
    KEY_PAGES = 4,
    KEY_WINDOW = 8,
    KEY_TIMES = 16,
    KEY_REMAP = 32,
    KEY_INTERVAL = 64,
    KEY_HOLD = 128,
    KEY_PVSCHED = 256,
} RoleKeys;

static const struct {
    const char *name;
    unsigned keys;
} roles[] = {
    [STRESS_GUEST_IDLE] = { "idle", 0 },
    [STRESS_GUEST_WRITER] = { "writer", KEY_RATE | KEY_MB },
    [STRESS_GUEST_READER] = { "reader", KEY_RATE | KEY_MB },
    [STRESS_GUEST_HOT] = { "hot", KEY_RATE | KEY_PAGES },
    [STRESS_GUEST_BURST] = { "burst", KEY_RATE | KEY_MB | KEY_WINDOW },
    [STRESS_GUEST_WAKEUPS] = { "wakeups", KEY_TIMES },
    [STRESS_GUEST_DISK] = { "disk", KEY_RATE | KEY_MB },
    [STRESS_GUEST_BALLOON] = { "balloon", KEY_RATE | KEY_MB },
    [STRESS_GUEST_SCREEN] = { "screen", KEY_TIMES | KEY_PAGES | KEY_REMAP },
    [STRESS_GUEST_LATENCY] = { "latency", KEY_INTERVAL | KEY_PVSCHED },
    [STRESS_GUEST_LOCKER] = { "locker",
                              KEY_TIMES | KEY_MB | KEY_HOLD | KEY_PVSCHED },
    [STRESS_GUEST_ROGUE] = { "rogue", KEY_PVSCHED },
    [STRESS_GUEST_ASKER] = { "asker", KEY_PVSCHED },
};

#define NR_ROLES (sizeof(roles) / sizeof(roles[0]))

Config config;

bool config_role_changes(StressGuestRole role)
{
    return role == STRESS_GUEST_WRITER || role == STRESS_GUEST_READER ||
           role == STRESS_GUEST_HOT || role == STRESS_GUEST_BURST;
}

const char *config_role_name(StressGuestRole role)
{
    return roles[role].name;
}

static bool same(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* End *@at at the first @separator; return what was before, or NULL at end */
static char *next_part(char **at, char separator)
{
    char *part = *at;
    char *end = part;

    if (!*part) {
        return NULL;
    }
    while (*end && *end != separator) {
        end++;
    }
    if (*end) {
        *end++ = '\0';
    }
    *at = end;
    return part;
}

static uint64_t number(const char *key, const char *value,
                       uint64_t min, uint64_t max)
{
    const char *at = value;
    uint64_t n = 0;

    while (is_digit(*at) && n <= max) {
        n = n * 10 + (*at++ - '0');
    }
    if (at == value || *at || n < min || n > max) {
        fatal("%s: '%s' is not a number from %lu to %lu", key, value, min, max);
    }
    return n;
}

static void parse_option(VcpuConfig *vcpu, unsigned keys, char *option)
{
    char *value = option;
    const char *key = next_part(&value, '=');

    if ((keys & KEY_RATE) && same(key, "rate")) {
        vcpu->rate = number(key, value, 0, MAX_RATE);
    } else if ((keys & KEY_TIMES) && same(key, "rate")) {
        vcpu->rate = number(key, value, 1, MAX_TIMES);
    } else if ((keys & KEY_MB) && same(key, "mb")) {
        vcpu->size = number(key, value, 1, USER_END / MIB) * MIB;
    } else if ((keys & KEY_PAGES) && same(key, "pages")) {
        vcpu->size = number(key, value, 1, USER_END / PAGE_SIZE) * PAGE_SIZE;
    } else if ((keys & KEY_WINDOW) && same(key, "on")) {
        vcpu->on_ms = number(key, value, 1, MAX_MS);
    } else if ((keys & KEY_WINDOW) && same(key, "off")) {
        vcpu->off_ms = number(key, value, 0, MAX_MS);
    } else if ((keys & KEY_REMAP) && same(key, "remap")) {
        vcpu->remap = number(key, value, 0, 1);
    } else if ((keys & KEY_INTERVAL) && same(key, "interval")) {
        vcpu->interval_us = number(key, value, MIN_INTERVAL_US, MAX_US);
    } else if ((keys & KEY_INTERVAL) && same(key, "work")) {
        vcpu->work_us = number(key, value, 0, MAX_US);
    } else if ((keys & KEY_HOLD) && same(key, "hold")) {
        vcpu->hold_us = number(key, value, 0, MAX_US);
    } else if ((keys & KEY_HOLD) && same(key, "writes")) {
        vcpu->writes = number(key, value, 0, USER_END / PAGE_SIZE);
    } else if ((keys & KEY_PVSCHED) && same(key, "pvsched")) {
        vcpu->pvsched = number(key, value, 0, 1);
    } else {
        fatal("%s does not take '%s'", config_role_name(vcpu->role), key);
    }
}

static VcpuConfig parse_role(char *text)
{
    VcpuConfig vcpu = { 0 };
    const char *name = next_part(&text, ',');
    char *option;
    unsigned role, keys;

    for (role = 0; role < NR_ROLES; role++) {
        if (name && same(name, roles[role].name)) {
            break;
        }
    }
    if (role == NR_ROLES) {
        fatal("unknown role '%s'", name ? name : "");
    }

    vcpu.role = role;
    keys = roles[role].keys;
    if (keys & KEY_MB) {
        vcpu.size = DEFAULT_MB * MIB;
    }
    if (keys & KEY_PAGES) {
        vcpu.size = DEFAULT_HOT_PAGES * PAGE_SIZE;
    }
    if (keys & KEY_WINDOW) {
        vcpu.on_ms = DEFAULT_ON_MS;
        vcpu.off_ms = DEFAULT_OFF_MS;
    }
    if (keys & KEY_TIMES) {
        vcpu.rate = DEFAULT_TIMES;
    }
    if (keys & KEY_INTERVAL) {
        vcpu.interval_us = DEFAULT_INTERVAL_US;
    }
    if (keys & KEY_HOLD) {
        vcpu.hold_us = DEFAULT_HOLD_US;
        vcpu.size = DEFAULT_LOCKER_MB * MIB;
    }
    while ((option = next_part(&text, ','))) {
        parse_option(&vcpu, keys, option);
    }
    if ((keys & KEY_HOLD) && !vcpu.writes) {
        /* What is never walked would be waited for. */
        vcpu.size = 0;
    }
    return vcpu;
}

/* The device that @taken switches on has one driver, vCPU @i */
static void take_device(bool *taken, unsigned i)
{
    if (*taken) {
        fatal("vcpu %lu cannot have another's device", (unsigned long)i);
    }
    *taken = true;
}

static void parse_vcpu(const char *key, char *value)
{
    static bool given[MAX_VCPUS];
    unsigned i = number("vcpu", key, 0, config.nr_vcpus - 1);

    if (given[i]) {
        fatal("vcpu %lu has two roles", (unsigned long)i);
    }
    given[i] = true;
    config.vcpu[i] = parse_role(value);
    config.pvsched |= config.vcpu[i].pvsched;
    switch (config.vcpu[i].role) {
    case STRESS_GUEST_BALLOON:
        take_device(&config.balloon, i);
        break;
    case STRESS_GUEST_DISK:
        take_device(&config.disk, i);
        break;
    case STRESS_GUEST_SCREEN:
        config.display = true;
        break;
    default:
        break;
    }
}

static void parse_word(char *word)
{
    char *value = word;
    const char *key = next_part(&value, '=');

    if (is_digit(*key)) {
        parse_vcpu(key, value);
    } else if (same(key, "khz")) {
        config.tsc_khz = number(key, value, 1000, 100000000);
    } else if (same(key, "display")) {
        config.display |= number(key, value, 0, 1);
    } else if (same(key, "pv")) {
        config.paravirt = number(key, value, 0, 1);
    } else if (same(key, "console")) {
        config.console = number(key, value, 0, 1);
    } else {
        fatal("unknown word '%s'", key);
    }
}

/* The first word is the name of the kernel file */
static void parse_cmdline(char *cmdline)
{
    char *word;

    next_part(&cmdline, ' ');
    while ((word = next_part(&cmdline, ' '))) {
        if (*word) {
            parse_word(word);
        }
    }
}

static unsigned count_vcpus(void)
{
    unsigned low, nr;

    outw(FW_CFG_SELECTOR, FW_CFG_NB_CPUS);
    low = inb(FW_CFG_DATA);
    nr = inb(FW_CFG_DATA) << 8 | low;
    if (nr < 1 || nr > MAX_VCPUS) {
        fatal("%lu vcpus, but only 1 to %lu work", (unsigned long)nr,
              (unsigned long)MAX_VCPUS);
    }
    return nr;
}

/* Give every vCPU its own region, one after another, or the screen */
static void place_regions(uint64_t ram_end)
{
    uint64_t start = REGIONS_START;

    for (unsigned i = 0; i < config.nr_vcpus; i++) {
        VcpuConfig *vcpu = &config.vcpu[i];

        if (vcpu->role == STRESS_GUEST_SCREEN) {
            vcpu->start = DISPLAY_START;
            if (vcpu->size > DISPLAY_SIZE) {
                fatal("vcpu %lu: the screen has only %lu pages",
                      (unsigned long)i,
                      (unsigned long)DISPLAY_SIZE / PAGE_SIZE);
            }
            continue;
        }
        vcpu->start = start;
        start += vcpu->size;
        if (start > ram_end) {
            fatal("vcpu %lu needs memory up to %lu KiB, usable are %lu KiB",
                  (unsigned long)i, start / 1024, ram_end / 1024);
        }
    }
}

void config_init(void)
{
    const MultibootInfo *info = (void *)(uintptr_t)multiboot_info;
    uint64_t ram_end = MIB;

    config.nr_vcpus = count_vcpus();
    if (info->flags & MULTIBOOT_HAS_CMDLINE) {
        parse_cmdline((char *)(uintptr_t)info->cmdline);
    }
    if (info->flags & MULTIBOOT_HAS_MEMORY) {
        ram_end += info->mem_upper * 1024ULL;
    }
    place_regions(ram_end < USER_END ? ram_end : USER_END);
}
