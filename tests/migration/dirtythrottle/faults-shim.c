/*
 * Dirty throttle tests: a KVM whose fault statistics are missing, or lie
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * QEMU reads the page faults of vCPUs from KVM's statistics.  This library,
 * preloaded, changes what it gets, as the environment says:
 *
 * FAULTS_SHIM_WITHHOLD  KVM says that it has no statistics
 * FAULTS_SHIM_ERROR     asking for the statistics of a vCPU, or of the VM,
 *                       fails with this errno
 * FAULTS_SHIM_PERCENT   counters grow by so many percent of what they do
 * FAULTS_SHIM_READS     and by so many faults a second that there are not, in
 *                       each counter that QEMU reads
 * FAULTS_SHIM_STOPS     counters stand still once there is a file with the
 *                       name of the log and ".stop"
 *
 * FAULTS_SHIM_LOG       this file grows by a byte for every answer that was
 *                       changed
 *
 * The header of the statistics lies at their beginning, and what describes them
 * is long; a short read from elsewhere is one of counters.  No lock is needed:
 * QEMU asks for statistics with the BQL held, and reads counters under one lock
 * of its own.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <linux/kvm.h>

#define FDS 1024
#define COUNTERS 8

/* One counter as it was when it was first read, and last told */
typedef struct Counter {
    off64_t offset;
    uint64_t first;
    uint64_t told;
} Counter;

/* Whether it is one of statistics; those of its counters that were read */
typedef struct Stats {
    bool used;
    Counter counters[COUNTERS];
} Stats;

typedef int Ioctl(int fd, unsigned long request, void *argument);

typedef ssize_t Pread(int fd, void *buffer, size_t size, off64_t offset);

static Ioctl *real_ioctl;
static Pread *real_pread;
static int withhold, error, percent, reads, log_fd = -1;
static char *stop_file;
static struct timespec begin;
static Stats stats[FDS];

static int number(const char *name, int otherwise)
{
    const char *value = getenv(name);

    return value ? atoi(value) : otherwise;
}

static void __attribute__((constructor)) init(void)
{
    const char *log = getenv("FAULTS_SHIM_LOG");

    real_ioctl = (Ioctl *)dlsym(RTLD_NEXT, "ioctl");
    real_pread = (Pread *)dlsym(RTLD_NEXT, "pread64");
    withhold = number("FAULTS_SHIM_WITHHOLD", 0);
    error = number("FAULTS_SHIM_ERROR", 0);
    percent = number("FAULTS_SHIM_PERCENT", 100);
    reads = number("FAULTS_SHIM_READS", 0);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    if (log) {
        log_fd = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (number("FAULTS_SHIM_STOPS", 0) &&
            asprintf(&stop_file, "%s.stop", log) < 0) {
            abort();
        }
    }
}

static void changed(void)
{
    if (log_fd >= 0 && write(log_fd, ".", 1) != 1) {
        abort();
    }
}

/* Faults that never were, by now */
static uint64_t added(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - begin.tv_sec + 1) * (uint64_t)reads +
           (now.tv_nsec - begin.tv_nsec) * (int64_t)reads / 1000000000;
}

static Counter *find_counter(int fd, off64_t offset, uint64_t count)
{
    Stats *s = &stats[fd];

    for (int i = 0; i < COUNTERS; i++) {
        Counter *c = &s->counters[i];

        if (!c->offset) {
            *c = (Counter) { .offset = offset, .first = count };
        }
        if (c->offset == offset) {
            return c;
        }
    }
    abort();
}

static uint64_t lie(int fd, off64_t offset, uint64_t count)
{
    Counter *c = find_counter(fd, offset, count);

    if (!stop_file || access(stop_file, F_OK)) {
        c->told = c->first + (count - c->first) * percent / 100 + added();
    }
    if (c->told != count) {
        changed();
    }
    return c->told;
}

ssize_t pread64(int fd, void *buffer, size_t size, off64_t offset)
{
    ssize_t result = real_pread(fd, buffer, size, offset);

    if (fd >= 0 && fd < FDS && stats[fd].used && offset &&
        size <= COUNTERS * sizeof(uint64_t) && result == size) {
        uint64_t *counters = buffer;

        for (size_t i = 0; i < size / sizeof(*counters); i++) {
            counters[i] = lie(fd, offset + i * sizeof(*counters), counters[i]);
        }
    }
    return result;
}

ssize_t pread(int fd, void *buffer, size_t size, off_t offset)
{
    return pread64(fd, buffer, size, offset);
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list ap;
    void *argument;
    int result;

    va_start(ap, request);
    argument = va_arg(ap, void *);
    va_end(ap);

    if (withhold && request == KVM_CHECK_EXTENSION &&
        (long)argument == KVM_CAP_BINARY_STATS_FD) {
        changed();
        return 0;
    }
    if (request != KVM_GET_STATS_FD) {
        return real_ioctl(fd, request, argument);
    }
    if (error) {
        changed();
        errno = error;
        return -1;
    }
    result = real_ioctl(fd, request, argument);
    if (result >= 0 && result < FDS) {
        stats[result] = (Stats) { .used = true };
    }
    return result;
}
