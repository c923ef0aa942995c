/*
 * What it costs to look at vCPUs that have neither a ring nor a quota
 *
 * A look at faults is what kvm_dirty_faults_look() does: counters that lie
 * close to each other are read from the statistics of each vCPU.  A look at
 * time is what kvm_dirty_time_look() does.  Here KVM's vCPUs exist and do not
 * run.
 *
 * A look ahead is what kvm_dirty_found_look_ahead() does, with a log that has a
 * bit for each page of the guest's memory.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define ROUNDS 2000

/* From pf_fixed to pf_fast; the time does not depend on where that is. */
#define SIZE 32

static void look(int fd)
{
    char data[SIZE];

    if (pread(fd, data, SIZE, 0) != SIZE) {
        g_error("statistics cannot be read: %s", strerror(errno));
    }
}

static void bench_vcpus(int kvm, int vcpus)
{
    int vm = ioctl(kvm, KVM_CREATE_VM, 0);
    g_autofree int *fds = g_new0(int, vcpus);
    g_autofree int *stats = g_new0(int, vcpus);
    int64_t begin_us, took_us;

    for (int i = 0; i < vcpus; i++) {
        fds[i] = ioctl(vm, KVM_CREATE_VCPU, i);
        stats[i] = fds[i] < 0 ? -1 : ioctl(fds[i], KVM_GET_STATS_FD, NULL);
        if (stats[i] < 0) {
            g_error("vCPU %d: %s", i, strerror(errno));
        }
    }
    begin_us = g_get_monotonic_time();
    for (int n = 0; n < ROUNDS; n++) {
        for (int i = 0; i < vcpus; i++) {
            look(stats[i]);
        }
    }
    took_us = g_get_monotonic_time() - begin_us;
    printf("look at the faults of %3d vCPUs: %7.2f us, %4.0f ns for each\n",
           vcpus, (double)took_us / ROUNDS,
           took_us * 1000.0 / ROUNDS / vcpus);
    for (int i = 0; i < vcpus; i++) {
        close(stats[i]);
        close(fds[i]);
    }
    close(vm);
}

static void bench_time(void)
{
    struct timespec ts;
    clockid_t clock;
    int64_t begin_us;

    begin_us = g_get_monotonic_time();
    for (int n = 0; n < ROUNDS; n++) {
        if (pthread_getcpuclockid(pthread_self(), &clock) ||
            clock_gettime(clock, &ts)) {
            g_error("no CPU time: %s", strerror(errno));
        }
    }
    printf("look at the time of a vCPU: %4.0f ns\n",
           (g_get_monotonic_time() - begin_us) * 1000.0 / ROUNDS);
}

/* So much memory that bitmaps do not fit into the nearest caches */
#define MEMORY_GB 16
#define MEMORY_BYTES ((uint64_t)MEMORY_GB << 30)
#define LOG_LONGS (MEMORY_BYTES / 4096 / 64)
#define LOG_ROUNDS 20

static void bench_look_ahead(int kvm)
{
    int vm = ioctl(kvm, KVM_CREATE_VM, 0);
    void *memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct kvm_enable_cap cap = {
        .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
        .args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE,
    };
    struct kvm_userspace_memory_region slot = {
        .flags = KVM_MEM_LOG_DIRTY_PAGES,
        .memory_size = MEMORY_BYTES,
        .userspace_addr = (uintptr_t)memory,
    };
    g_autofree uint64_t *bits = g_new0(uint64_t, LOG_LONGS);
    g_autofree uint64_t *known = g_new0(uint64_t, LOG_LONGS);
    struct kvm_dirty_log log = { .dirty_bitmap = bits };
    uint64_t pages = 0;
    int64_t begin_us;

    if (vm < 0 || memory == MAP_FAILED || ioctl(vm, KVM_ENABLE_CAP, &cap) ||
        ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot)) {
        printf("look ahead: not measured, %s\n", strerror(errno));
        return;
    }
    begin_us = g_get_monotonic_time();
    for (int n = 0; n < LOG_ROUNDS; n++) {
        if (ioctl(vm, KVM_GET_DIRTY_LOG, &log)) {
            g_error("no log: %s", strerror(errno));
        }
        for (size_t i = 0; i < LOG_LONGS; i++) {
            uint64_t found = bits[i] & ~known[i];

            pages += found ? __builtin_popcountll(found) : 0;
        }
    }
    printf("look ahead: %4.1f us for each GiB of memory, %" PRIu64 " dirty\n",
           (double)(g_get_monotonic_time() - begin_us) / LOG_ROUNDS /
           MEMORY_GB, pages / LOG_ROUNDS);
    close(vm);
    munmap(memory, MEMORY_BYTES);
}

int main(void)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

    if (kvm < 0 || !ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_BINARY_STATS_FD)) {
        printf("look at the faults of vCPUs: not measured, no KVM with"
               " statistics\n");
        return 0;
    }
    bench_vcpus(kvm, 1);
    bench_vcpus(kvm, 16);
    bench_vcpus(kvm, 256);
    bench_time();
    bench_look_ahead(kvm);
    return 0;
}
