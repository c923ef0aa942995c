/*
 * Dirty throttle tests: a KVM_RESET_DIRTY_RINGS that stops early
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Since Linux 6.16 the ioctl gives up when a signal is pending: it has then
 * reset fewer entries than were harvested, or none, and may have forgotten
 * some pages.  This library, preloaded, makes any kernel give up, every time,
 * as the environment says:
 *
 * RESET_SHIM_EINTR  so many calls in a row fail with EINTR
 * RESET_SHIM_ZERO   so many calls in a row do nothing and return 0
 * RESET_SHIM_PARTS  the result of one real call is reported in so many parts
 *
 * RESET_SHIM_BLOCKED  abort if SIGUSR1, with which vCPUs are kicked, could stop
 *                     a real call early
 *
 * And for what the tests of hotplug need:
 *
 * RESET_SHIM_REPLUG  a vCPU that has run may come back: some versions of KVM
 *                    refuse the CPUID that it then gets once more
 * RESET_SHIM_UNMAP   so many microseconds pass after a vCPU's kvm_run has been
 *                    unmapped, in which nothing may touch it any more
 *
 * And what the tests of the dirty quota need:
 *
 * RESET_SHIM_QUOTA   KVM says that it has this version of the interface
 *
 * RESET_SHIM_LOG     this file grows by a byte for every call that was changed
 *                    or checked
 *
 * No lock is needed, since QEMU makes one such call at a time.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/mman.h>
#include <linux/kvm.h>

/* Not in the headers of the distribution */
#define CAP_DIRTY_QUOTA 1000

typedef int Ioctl(int fd, unsigned long request, void *argument);

typedef int Munmap(void *address, size_t size);

static Ioctl *real_ioctl;
static Munmap *real_munmap;
static int eintr, zero, parts, blocked, replug, unmap_us, quota, log_fd = -1;
static size_t kvm_run_size;

static int number(const char *name)
{
    const char *value = getenv(name);

    return value ? atoi(value) : 0;
}

static void __attribute__((constructor)) init(void)
{
    const char *log = getenv("RESET_SHIM_LOG");

    real_ioctl = (Ioctl *)dlsym(RTLD_NEXT, "ioctl");
    real_munmap = (Munmap *)dlsym(RTLD_NEXT, "munmap");
    eintr = number("RESET_SHIM_EINTR");
    zero = number("RESET_SHIM_ZERO");
    parts = number("RESET_SHIM_PARTS");
    blocked = number("RESET_SHIM_BLOCKED");
    replug = number("RESET_SHIM_REPLUG");
    unmap_us = number("RESET_SHIM_UNMAP");
    quota = number("RESET_SHIM_QUOTA");
    if (log) {
        log_fd = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    }
}

static void changed(void)
{
    if (log_fd >= 0 && write(log_fd, ".", 1) != 1) {
        abort();
    }
}

static void check_blocked(void)
{
    sigset_t mask;

    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    if (!sigismember(&mask, SIGUSR1)) {
        abort();
    }
    changed();
}

static int reset_rings(int fd, unsigned long request, void *argument)
{
    /* calls since the last real one; entries that are not yet reported */
    static int calls;
    static int rest, part;
    int result;
    if (rest) {
        changed();
        result = rest < part ? rest : part;
        rest -= result;
        return result;
    }
    if (calls < eintr) {
        changed();
        calls++;
        errno = EINTR;
        return -1;
    }
    if (calls < eintr + zero) {
        changed();
        calls++;
        return 0;
    }
    calls = 0;

    if (blocked) {
        check_blocked();
    }
    result = real_ioctl(fd, request, argument);
    if (parts < 2 || result < 2) {
        return result;
    }
    changed();
    part = (result + parts - 1) / parts;
    rest = result - part;
    return part;
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list ap;
    void *argument;
    int result;

    va_start(ap, request);
    argument = va_arg(ap, void *);
    va_end(ap);

    if (request == KVM_RESET_DIRTY_RINGS) {
        return reset_rings(fd, request, argument);
    }
    result = real_ioctl(fd, request, argument);
    if (replug && request == KVM_SET_CPUID2 && result < 0 && errno == EINVAL) {
        changed();
        result = 0;
    }
    if (quota && request == KVM_CHECK_EXTENSION &&
        (long)argument == CAP_DIRTY_QUOTA) {
        changed();
        result = quota;
    }
    if (request == KVM_GET_VCPU_MMAP_SIZE && result > 0) {
        kvm_run_size = result;
    }
    return result;
}

int munmap(void *address, size_t size)
{
    int result = real_munmap(address, size);

    if (unmap_us && size == kvm_run_size) {
        changed();
        usleep(unmap_us);
    }
    return result;
}
