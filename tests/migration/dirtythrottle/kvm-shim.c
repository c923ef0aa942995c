/*
 * Dirty throttle tests: count what a QEMU asks of KVM's dirty rings
 *
 * This library, preloaded, changes nothing.  It works with any QEMU, so that
 * all are measured alike; but the reaper is known by its name, which threads
 * have with '-name debug-threads=on' only.
 *
 * KVM_SHIM_COUNTERS  the file, large enough, where the counters are
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <linux/kvm.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include "kvm-shim.h"

/* More files than a test's QEMU has open */
#define FDS 1024

#define REAPER "kvm-reaper"

typedef int Ioctl(int fd, unsigned long request, void *argument);

typedef void *Mmap(void *address, size_t size, int protection, int flags,
                   int fd, off64_t offset);

KvmShimCounters *kvm_shim_counters;

static Ioctl *real_ioctl;
static Mmap *real_mmap;

/* By file descriptor: whether it is a vCPU, and what it told of its exits */
static bool vcpus[FDS];
static struct kvm_run *runs[FDS];

/* When this thread's vCPU left the guest for a full ring; 0: it did not */
static __thread uint64_t full_ns, full_cpu_ns;

/* Atomic: how many vCPUs have, and are not back yet */
static unsigned waiting;

static void find_real(void)
{
    real_ioctl = (Ioctl *)dlsym(RTLD_NEXT, "ioctl");
    real_mmap = (Mmap *)dlsym(RTLD_NEXT, "mmap64");
}

static void __attribute__((constructor)) init(void)
{
    const char *path = getenv("KVM_SHIM_COUNTERS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;

    find_real();
    if (fd < 0) {
        abort();
    }
    kvm_shim_counters = real_mmap(NULL, sizeof(*kvm_shim_counters),
                                  PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (kvm_shim_counters == MAP_FAILED) {
        abort();
    }
    close(fd);
    /* QEMU's children are not to be looked at. */
    unsetenv("LD_PRELOAD");
}

static uint64_t now_ns(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static void add(uint64_t *counter, uint64_t value)
{
    __atomic_fetch_add(counter, value, __ATOMIC_RELAXED);
}

static void raise_to(uint64_t *counter, uint64_t value)
{
    uint64_t old = __atomic_load_n(counter, __ATOMIC_RELAXED);

    while (old < value &&
           !__atomic_compare_exchange_n(counter, &old, value, true,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        /* old is what is there now */
    }
}

bool kvm_shim_in_reaper(void)
{
    /* A thread gets its name before it does anything of its own. */
    static __thread enum { UNKNOWN, YES, NO } reaper;

    if (reaper == UNKNOWN) {
        char name[16] = "";

        prctl(PR_GET_NAME, name);
        reaper = strcmp(name, REAPER) ? NO : YES;
    }
    return reaper == YES;
}

static int run(int fd, void *argument)
{
    KvmShimCounters *c = kvm_shim_counters;
    int result;

    if (full_ns) {
        uint64_t took_ns = now_ns(CLOCK_MONOTONIC) - full_ns;

        add(&c->handled, 1);
        add(&c->handled_ns, took_ns);
        add(&c->handled_cpu_ns,
            now_ns(CLOCK_THREAD_CPUTIME_ID) - full_cpu_ns);
        raise_to(&c->handled_max_ns, took_ns);
        full_ns = 0;
        __atomic_fetch_sub(&waiting, 1, __ATOMIC_RELAXED);
    }
    result = real_ioctl(fd, KVM_RUN, argument);
    if (result == 0 && fd < FDS && runs[fd] &&
        runs[fd]->exit_reason == KVM_EXIT_DIRTY_RING_FULL) {
        add(&c->full, 1);
        __atomic_fetch_add(&waiting, 1, __ATOMIC_RELAXED);
        full_cpu_ns = now_ns(CLOCK_THREAD_CPUTIME_ID);
        full_ns = now_ns(CLOCK_MONOTONIC);
    }
    return result;
}

static int reset_rings(int fd, void *argument)
{
    KvmShimCounters *c = kvm_shim_counters;
    int result = real_ioctl(fd, KVM_RESET_DIRTY_RINGS, argument);

    if (result > 0) {
        add(&c->resets, 1);
        add(&c->reset_entries, result);
        if (!__atomic_load_n(&waiting, __ATOMIC_RELAXED)) {
            add(&c->reaper_entries, result);
        }
    }
    return result;
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list ap;
    void *argument;
    int result;

    va_start(ap, request);
    argument = va_arg(ap, void *);
    va_end(ap);

    if (request == KVM_RUN) {
        return run(fd, argument);
    }
    if (request == KVM_RESET_DIRTY_RINGS) {
        return reset_rings(fd, argument);
    }
    result = real_ioctl(fd, request, argument);
    if (request == KVM_CREATE_VCPU && result >= 0 && result < FDS) {
        vcpus[result] = true;
    }
    if (request == KVM_ENABLE_CAP && result == 0) {
        struct kvm_enable_cap *cap = argument;

        if (cap->cap == KVM_CAP_DIRTY_LOG_RING ||
            cap->cap == KVM_CAP_DIRTY_LOG_RING_ACQ_REL) {
            kvm_shim_counters->ring_size =
                cap->args[0] / sizeof(struct kvm_dirty_gfn);
        }
    }
    return result;
}

void *mmap64(void *address, size_t size, int protection, int flags, int fd,
             off64_t offset)
{
    void *result;

    /* Constructors of other libraries may come first. */
    if (!real_mmap) {
        find_real();
    }
    result = real_mmap(address, size, protection, flags, fd, offset);
    if (result != MAP_FAILED && fd >= 0 && fd < FDS && vcpus[fd] && !offset) {
        runs[fd] = result;
    }
    return result;
}

void *mmap(void *address, size_t size, int protection, int flags, int fd,
           off_t offset)
{
    return mmap64(address, size, protection, flags, fd, offset);
}
