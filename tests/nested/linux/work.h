/*
 * Nested tests: what the Linux guest's own programs share
 *
 * A program works in rounds until the guest's init tells it to stop, and says
 * how many it has done.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef NESTED_WORK_H
#define NESTED_WORK_H

#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* More would only repeat it, and the serial port is slow. */
#define ERRORS_SHOWN 10

/* Found by any thread so far */
static atomic_uint errors;

#define complain(...)                                   \
    do {                                                \
        if (atomic_fetch_add(&errors, 1) < ERRORS_SHOWN) { \
            warnx(__VA_ARGS__);                         \
        }                                               \
    } while (0)

static inline bool stopped(void)
{
    return access("/run/stop", F_OK) == 0;
}

/* A longer number takes the place of a shorter one, so readers see no gap. */
static inline void say_rounds(int fd, unsigned rounds)
{
    char text[16];
    int length = snprintf(text, sizeof(text), "%u\n", rounds);

    if (pwrite(fd, text, length, 0) != length) {
        err(1, "cannot write the number of rounds");
    }
}

static inline int open_rounds(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT, 0644);

    if (fd < 0) {
        err(1, "%s", path);
    }
    return fd;
}

static inline void pause_us(long us)
{
    struct timespec time = { .tv_nsec = us * 1000 };

    nanosleep(&time, NULL);
}

#endif
