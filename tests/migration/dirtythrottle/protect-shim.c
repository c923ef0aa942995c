/*
 * Dirty throttle tests: a KVM that leaves pages writable, or loses entries
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * This library, preloaded, does as the environment says:
 *
 * PROTECT_SHIM_LOSE   some entries of each KVM_RESET_DIRTY_RINGS are counted,
 *                     but their pages stay writable, as it happens since Linux
 *                     6.16 when a signal is pending; and that shows
 *                     1: in that the call resets fewer entries than it could
 *                     2: in that the thread sleeps
 * PROTECT_SHIM_WORK   vCPU threads do I/O with io_uring, which completes while
 *                     they handle a full ring
 * PROTECT_SHIM_NOTE   where QEMU has qemu_thread_note_task_work(), to be called
 *                     before that; from the beginning of the program
 * PROTECT_SHIM_MAY    where it has qemu_thread_may_have_task_work(), to be
 *                     asked when QEMU does such I/O
 * PROTECT_SHIM_STOP   at each so many-th call another process stops this one
 *                     for a moment; at random before, in or after the call
 * PROTECT_SHIM_EMPTY  when a ring is full and there is a file named as the log
 *                     with ".empty" added, that is removed, and KVM loses all
 *                     that is in the ring, but takes it for full nevertheless
 * PROTECT_SHIM_SLOT   so many microseconds pass before a slot is deleted whose
 *                     memory is logged
 *
 * PROTECT_SHIM_LOG    a character is added to this file
 *                     L  when pages were left writable
 *                     W  when I/O was submitted in a vCPU thread
 *                     N  when QEMU did so in any thread and has not noted it
 *                     P  when a stop was asked for
 *                     E  when entries were lost
 *                     S  when such a slot was deleted
 *                     D  and vCPUs had dirtied memory before
 *                     R  when rings are reset in a vCPU thread
 *                     V  and I/O was submitted in it before
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <sys/mman.h>
#include <sys/syscall.h>

/* More than a test's QEMU has of them */
#define FDS 1024
#define SLOTS 64

/* KVM gathers as many pages before it protects them. */
#define GATHERED 64

/* So many requests are under way, and complete one after the other. */
#define REQUESTS 16
#define REQUEST_NS 20000

#define NO_SLOT UINT32_MAX

/* Long enough for all threads to see it */
#define STOP_US 2000
#define STOP_WITHIN_NS 100000

/* Not over before the thread is asleep */
#define SLEEP_US 100

typedef int Ioctl(int fd, unsigned long request, void *argument);

typedef void *Mmap(void *address, size_t size, int protection, int flags,
                   int fd, off64_t offset);

typedef int Submit(void *ring);
typedef int SubmitAndWait(void *ring, unsigned nr);

typedef void NoteTaskWork(void);
typedef bool MayHaveTaskWork(void);

typedef struct Ring {
    struct kvm_dirty_gfn *gfns;
    size_t size;
} Ring;

static Ioctl *real_ioctl;
static Mmap *real_mmap;
static int lose, work, stop, empty, slot_us, log_fd = -1, stop_fd = -1;

/* By file descriptor of a vCPU */
static bool vcpus[FDS];
static struct kvm_run *runs[FDS];
static Ring rings[FDS];

/* By slot, of address space 0: whether its memory is logged */
static bool logged[SLOTS];

static __thread bool is_vcpu, submits;

static NoteTaskWork *note_task_work;
static MayHaveTaskWork *may_have_task_work;

static char empty_path[PATH_MAX];

static int number(const char *name)
{
    const char *value = getenv(name);

    return value ? atoi(value) : 0;
}

/* The program comes first. */
static int find_program(struct dl_phdr_info *info, size_t size, void *base)
{
    *(uintptr_t *)base = info->dlpi_addr;
    return 1;
}

/* What the program has so far from its beginning, NULL: nothing is named. */
static void *in_program(const char *name)
{
    uintptr_t base = 0;
    int offset = number(name);

    dl_iterate_phdr(find_program, &base);
    return offset ? (void *)(base + offset) : NULL;
}

static void find_real(void)
{
    real_ioctl = (Ioctl *)dlsym(RTLD_NEXT, "ioctl");
    real_mmap = (Mmap *)dlsym(RTLD_NEXT, "mmap64");
}

/*
 * For each byte that comes from the parent, stop it.  It has to be the child of
 * the process that the library is for, and ends with it.
 */
static void stop_parent(int fd)
{
    pid_t parent = getppid();
    char c;

    while (read(fd, &c, 1) == 1) {
        kill(parent, SIGSTOP);
        usleep(STOP_US);
        kill(parent, SIGCONT);
    }
    _exit(0);
}

static void start_stopping(void)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC)) {
        abort();
    }
    if (fork() == 0) {
        close(fds[1]);
        stop_parent(fds[0]);
    }
    close(fds[0]);
    stop_fd = fds[1];
}

static void __attribute__((constructor)) init(void)
{
    const char *path = getenv("PROTECT_SHIM_LOG");

    find_real();
    lose = number("PROTECT_SHIM_LOSE");
    work = number("PROTECT_SHIM_WORK");
    stop = number("PROTECT_SHIM_STOP");
    empty = number("PROTECT_SHIM_EMPTY");
    slot_us = number("PROTECT_SHIM_SLOT");
    note_task_work = (NoteTaskWork *)in_program("PROTECT_SHIM_NOTE");
    may_have_task_work = (MayHaveTaskWork *)in_program("PROTECT_SHIM_MAY");
    if (path) {
        log_fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        snprintf(empty_path, sizeof(empty_path), "%s.empty", path);
    }
    if (stop) {
        start_stopping();
    }
}

static void tell(char what)
{
    if (log_fd >= 0 && write(log_fd, &what, 1) != 1) {
        abort();
    }
}

/* Timeouts of io_uring, whose completion is work for the calling thread */
static void submit(void)
{
    static __thread struct io_uring_sqe *sqes;
    static __thread char *queue;
    static __thread struct io_uring_params p;
    static __thread int fd;
    struct __kernel_timespec ts[REQUESTS];
    unsigned *tail, *array, mask;

    if (!queue) {
        fd = syscall(SYS_io_uring_setup, 2 * REQUESTS, &p);
        if (fd < 0 || !(p.features & IORING_FEAT_SINGLE_MMAP)) {
            abort();
        }
        queue = real_mmap(NULL, p.cq_off.cqes +
                          p.cq_entries * sizeof(struct io_uring_cqe),
                          PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                          fd, IORING_OFF_SQ_RING);
        sqes = real_mmap(NULL, p.sq_entries * sizeof(*sqes),
                         PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                         fd, IORING_OFF_SQES);
        if (queue == MAP_FAILED || sqes == MAP_FAILED) {
            abort();
        }
    }
    /* Whatever has completed is of no interest. */
    __atomic_store_n((unsigned *)(queue + p.cq_off.head),
                     __atomic_load_n((unsigned *)(queue + p.cq_off.tail),
                                     __ATOMIC_ACQUIRE), __ATOMIC_RELEASE);
    tail = (unsigned *)(queue + p.sq_off.tail);
    array = (unsigned *)(queue + p.sq_off.array);
    mask = *(unsigned *)(queue + p.sq_off.ring_mask);
    for (int i = 0; i < REQUESTS; i++) {
        unsigned at = (*tail + i) & mask;

        ts[i].tv_sec = 0;
        ts[i].tv_nsec = (i + 1) * REQUEST_NS;
        memset(&sqes[at], 0, sizeof(sqes[at]));
        sqes[at].opcode = IORING_OP_TIMEOUT;
        sqes[at].addr = (unsigned long)&ts[i];
        sqes[at].len = 1;
        array[at] = at;
    }
    __atomic_store_n(tail, *tail + REQUESTS, __ATOMIC_RELEASE);
    if (note_task_work) {
        note_task_work();
    }
    if (syscall(SYS_io_uring_enter, fd, REQUESTS, 0, 0, NULL, 0) < 0) {
        abort();
    }
    submits = true;
    tell('W');
}

/* QEMU submits I/O. */
static void check_noted(void)
{
    if (is_vcpu) {
        submits = true;
        tell('W');
    }
    if (may_have_task_work && !may_have_task_work()) {
        tell('N');
    }
}

int io_uring_submit(void *ring)
{
    check_noted();
    return ((Submit *)dlsym(RTLD_NEXT, "io_uring_submit"))(ring);
}

int io_uring_submit_and_wait(void *ring, unsigned nr)
{
    check_noted();
    return ((SubmitAndWait *)dlsym(RTLD_NEXT,
                                   "io_uring_submit_and_wait"))(ring, nr);
}

/* Make KVM believe that a few entries that it is to reset are for no slot. */
static void leave_writable(void)
{
    for (int fd = 0; fd < FDS; fd++) {
        Ring *r = &rings[fd];
        size_t left = 0;

        for (size_t i = 0; i < r->size && left < GATHERED; i++) {
            if (__atomic_load_n(&r->gfns[i].flags, __ATOMIC_ACQUIRE) ==
                KVM_DIRTY_GFN_F_RESET) {
                r->gfns[i].slot = NO_SLOT;
                left++;
            }
        }
    }
    tell('L');
}

static void check_thread(void)
{
    if (is_vcpu) {
        tell(submits ? 'V' : 'R');
    }
}

/* Another process takes some time to do it; a call takes 40 us. */
static void ask_for_stop(void)
{
    struct timespec begin, now;
    long ns = random() % STOP_WITHIN_NS;

    if (write(stop_fd, "", 1) != 1) {
        abort();
    }
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do {
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - begin.tv_sec) * 1000000000L +
             now.tv_nsec - begin.tv_nsec < ns);
    tell('P');
}

/* No lock is needed, since QEMU makes one such call at a time. */
static int reset_rings(int fd, void *argument)
{
    static int rest, calls;
    int result;

    check_thread();
    if (rest) {
        result = rest;
        rest = 0;
        return result;
    }
    if (lose) {
        leave_writable();
    }
    if (stop && ++calls % stop == 0) {
        ask_for_stop();
    }
    result = real_ioctl(fd, KVM_RESET_DIRTY_RINGS, argument);
    if (lose == 1 && result > 1) {
        rest = 1;
        result--;
    }
    if (lose == 2) {
        usleep(SLEEP_US);
    }
    return result;
}

static void full(int fd)
{
    if (work) {
        submit();
    }
    /* Only one thread gets to remove it. */
    if (empty && unlink(empty_path) == 0) {
        for (size_t i = 0; i < rings[fd].size; i++) {
            __atomic_store_n(&rings[fd].gfns[i].flags, 0, __ATOMIC_RELEASE);
        }
        tell('E');
    }
}

static int run(int fd, void *argument)
{
    int result;

    is_vcpu = true;
    result = real_ioctl(fd, KVM_RUN, argument);
    if (result == 0 && fd < FDS && runs[fd] &&
        runs[fd]->exit_reason == KVM_EXIT_DIRTY_RING_FULL) {
        full(fd);
    }
    return result;
}

static bool rings_have_entries(void)
{
    for (int fd = 0; fd < FDS; fd++) {
        for (size_t i = 0; i < rings[fd].size; i++) {
            if (__atomic_load_n(&rings[fd].gfns[i].flags, __ATOMIC_ACQUIRE) ==
                KVM_DIRTY_GFN_F_DIRTY) {
                return true;
            }
        }
    }
    return false;
}

static int set_slot(int fd, struct kvm_userspace_memory_region *region)
{
    if (region->slot < SLOTS) {
        if (slot_us && !region->memory_size && logged[region->slot]) {
            usleep(slot_us);
            tell('S');
            if (rings_have_entries()) {
                tell('D');
            }
        }
        logged[region->slot] = region->flags & KVM_MEM_LOG_DIRTY_PAGES;
    }
    return real_ioctl(fd, KVM_SET_USER_MEMORY_REGION, region);
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list ap;
    void *argument;
    int result;

    va_start(ap, request);
    argument = va_arg(ap, void *);
    va_end(ap);

    switch (request) {
    case KVM_RUN:
        return run(fd, argument);
    case KVM_RESET_DIRTY_RINGS:
        return reset_rings(fd, argument);
    case KVM_SET_USER_MEMORY_REGION:
        return set_slot(fd, argument);
    }
    result = real_ioctl(fd, request, argument);
    if (request == KVM_CREATE_VCPU && result >= 0 && result < FDS) {
        vcpus[result] = true;
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
    if (result != MAP_FAILED && fd >= 0 && fd < FDS && vcpus[fd]) {
        if (offset) {
            rings[fd].gfns = result;
            rings[fd].size = size / sizeof(struct kvm_dirty_gfn);
        } else {
            runs[fd] = result;
        }
    }
    return result;
}

void *mmap(void *address, size_t size, int protection, int flags, int fd,
           off_t offset)
{
    return mmap64(address, size, protection, flags, fd, offset);
}
