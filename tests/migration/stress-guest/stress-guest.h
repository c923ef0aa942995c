/*
 * Stress guest: the counters that guest and host share
 *
 * The guest keeps its counters at a fixed guest physical address. A host that
 * maps the guest's RAM (memory-backend-file, share=on) finds them at the same
 * offset in the file. The layout below is an interface: host programs read it.
 *
 * Every field is 8 bytes, or two times 4, little endian and naturally aligned;
 * it has one writer, which stores it in one piece.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef STRESS_GUEST_H
#define STRESS_GUEST_H

#include <stdint.h>

/* Page 0 is the header, page 1 + i belongs to vCPU i */
#define STRESS_GUEST_COUNTERS 0x80000
#define STRESS_GUEST_PAGE_SIZE 4096
#define STRESS_GUEST_MAX_VCPUS 16

#define STRESS_GUEST_MAGIC 0x5453455547535453ULL /* "STSGUEST" in memory */
#define STRESS_GUEST_VERSION 3

typedef enum StressGuestState {
    STRESS_GUEST_BOOTING,
    STRESS_GUEST_RUNNING,
    STRESS_GUEST_ERROR,
} StressGuestState;

typedef enum StressGuestRole {
    STRESS_GUEST_IDLE,
    STRESS_GUEST_WRITER,
    STRESS_GUEST_READER,
    STRESS_GUEST_HOT,
    STRESS_GUEST_BURST,
    STRESS_GUEST_WAKEUPS,
    STRESS_GUEST_SCREEN,
    STRESS_GUEST_DISK,
    STRESS_GUEST_BALLOON,
    STRESS_GUEST_LATENCY,
    STRESS_GUEST_LOCKER,
    STRESS_GUEST_ROGUE,
    STRESS_GUEST_ASKER,
} StressGuestRole;

/*
 * A role that the host wants of a vCPU: a number that differs from that of the
 * request before, operations per second, and a StressGuestRole
 */
#define STRESS_GUEST_WANTED_RATE_SHIFT 8
#define STRESS_GUEST_WANTED_RATE_BITS 40
#define STRESS_GUEST_WANTED_ROLE_MASK 0xff

/* Written by vCPU 0 while it boots, and never again, except for @epoch */
typedef struct StressGuestHeader {
    uint64_t magic;
    uint32_t version;
    uint32_t nr_vcpus;
    uint64_t tsc_khz;
    uint64_t state;             /* StressGuestState */
    uint64_t epoch;             /* written by the host only */
} StressGuestHeader;

typedef struct StressGuestVcpu {
    /*
     * Written by vCPU 0, before the state is STRESS_GUEST_RUNNING; after that
     * role and rate by the vCPU itself
     */
    uint64_t role;              /* StressGuestRole */
    uint64_t rate;              /* wanted operations per second, 0: no limit */
    uint64_t region_start;
    uint64_t region_size;
    /* Written by the vCPU itself */
    uint64_t ops;               /* pages visited; 0 until the region is full */
    uint64_t passes;            /* complete walks over the region */
    uint64_t errors;            /* visits that found a page damaged */
    uint64_t error_gpa;         /* the first damaged word ever found, ... */
    uint64_t error_expected;    /* ... what it should have held ... */
    uint64_t error_found;       /* ... and what it did hold */
    uint64_t max_gap_ns;        /* longest gap since @seen_epoch changed */
    uint64_t max_gap_total_ns;  /* longest gap since the start */
    uint64_t seen_epoch;        /* the header's epoch that @max_gap_ns is for */
    uint64_t start_tsc;         /* when the first operation could begin */
    uint64_t tsc;               /* when the last operation ended */
    uint64_t sequence;          /* odd while the vCPU changes its block */
    uint64_t seen_wanted;       /* the @wanted that it does, 0: as at boot */
    /* Written by the host; cleared by vCPU 0 while it boots */
    uint64_t wanted;            /* STRESS_GUEST_WANTED_..., 0: as at boot */
} StressGuestVcpu;

/* Where else something is in a vCPU's page: its line of the device pvsched */
#define STRESS_GUEST_LINE 1024
/* and what it counts of the times that it has waited */
#define STRESS_GUEST_WAITS 2048

/*
 * A bucket for each unit of time, up to 16 of them, and then 16 for each
 * doubling; the last one is also for all that is longer.
 */
#define STRESS_GUEST_BUCKET_NS 64
#define STRESS_GUEST_BUCKETS_SHIFT 4
#define STRESS_GUEST_BUCKETS 352

/* Written by the vCPU itself, each word on its own, as it happens */
typedef struct StressGuestWaits {
    uint64_t total_ns;
    uint32_t buckets[STRESS_GUEST_BUCKETS];
} StressGuestWaits;

_Static_assert(sizeof(StressGuestHeader) == 40, "the layout is an interface");
_Static_assert(sizeof(StressGuestVcpu) == 144, "the layout is an interface");
_Static_assert(sizeof(StressGuestWaits) == 1416, "the layout is an interface");

#endif /* STRESS_GUEST_H */
