/*
 * Dirty throttle tests: a KVM with system management mode, for all QEMU sees
 *
 * With that mode QEMU tells KVM of a second address space.  This library,
 * preloaded, keeps that to itself, so it works with a KVM that has none; the
 * guest must not enter the mode.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <linux/kvm.h>

typedef int Ioctl(int fd, unsigned long request, void *argument);

int ioctl(int fd, unsigned long request, ...)
{
    static Ioctl *real_ioctl;
    va_list ap;
    void *argument;

    va_start(ap, request);
    argument = va_arg(ap, void *);
    va_end(ap);

    if (!real_ioctl) {
        real_ioctl = (Ioctl *)dlsym(RTLD_NEXT, "ioctl");
    }
    if (request == KVM_CHECK_EXTENSION) {
        switch ((long)argument) {
        case KVM_CAP_X86_SMM:
            return 1;
        case KVM_CAP_MULTI_ADDRESS_SPACE:
            return 2;
        }
    }
    if (request == KVM_SET_USER_MEMORY_REGION) {
        struct kvm_userspace_memory_region *region = argument;

        if (region->slot >> 16) {
            return 0;
        }
    }
    if (request == KVM_SET_VCPU_EVENTS) {
        struct kvm_vcpu_events *events = argument;

        events->flags &= ~KVM_VCPUEVENT_VALID_SMM;
    }
    return real_ioctl(fd, request, argument);
}
