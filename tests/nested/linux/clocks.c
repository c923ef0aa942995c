/*
 * Nested tests: clocks that never go back
 *
 *   clocks ROUNDS-FILE
 *
 * A thread on each processor reads the clocks and compares them with the latest
 * that any of them has read.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>

#include "work.h"

#define THREADS 2
#define BURST 200
#define PAUSE_US 20000

static struct {
    const char *name;
    clockid_t id;
    _Atomic int64_t latest_ns;
} clocks[] = {
    { "CLOCK_MONOTONIC", CLOCK_MONOTONIC },
    { "CLOCK_MONOTONIC_RAW", CLOCK_MONOTONIC_RAW },
    { "CLOCK_BOOTTIME", CLOCK_BOOTTIME },
    { "CLOCK_REALTIME", CLOCK_REALTIME },
};
#define CLOCKS (sizeof(clocks) / sizeof(clocks[0]))

static atomic_uint rounds;

static int64_t now_ns(clockid_t id)
{
    struct timespec time;

    if (clock_gettime(id, &time)) {
        err(1, "clock_gettime");
    }
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static void check(unsigned i)
{
    /* Read before the clock, so the clock cannot be behind it */
    int64_t latest = atomic_load(&clocks[i].latest_ns);
    int64_t now = now_ns(clocks[i].id);

    if (now < latest) {
        complain("%s went back by %" PRId64 " ns", clocks[i].name,
                 latest - now);
    }
    while (now > latest &&
           !atomic_compare_exchange_weak(&clocks[i].latest_ns, &latest, now)) {
        /* Another thread has read a time; it may be later */
    }
}

static void *run(void *opaque)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((uintptr_t)opaque, &set);
    if (pthread_setaffinity_np(pthread_self(), sizeof(set), &set)) {
        errx(1, "there are not %d processors", THREADS);
    }
    while (!stopped()) {
        for (unsigned i = 0; i < BURST; i++) {
            check(i % CLOCKS);
        }
        atomic_fetch_add(&rounds, 1);
        pause_us(PAUSE_US);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t ids[THREADS];
    int fd;

    if (argc != 2) {
        errx(2, "which file takes the number of rounds?");
    }
    fd = open_rounds(argv[1]);
    for (uintptr_t i = 0; i < THREADS; i++) {
        if (pthread_create(&ids[i], NULL, run, (void *)i)) {
            errx(1, "pthread_create");
        }
    }
    while (!stopped()) {
        say_rounds(fd, atomic_load(&rounds));
        pause_us(100000);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(ids[i], NULL);
    }
    if (errors) {
        warnx("%u readings were wrong", errors);
    }
    return errors != 0;
}
