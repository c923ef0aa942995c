/*
 * What it costs to look at the page faults of vCPUs
 *
 * A look is what kvm_dirty_faults_look() does: counters that lie close to each
 * other are read from the statistics of each vCPU.  Here KVM's vCPUs exist and
 * do not run.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

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
    return 0;
}
