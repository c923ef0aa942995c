/*
 * Nested tests: memory that tells when a page of it is lost
 *
 *   pattern ROUNDS-FILE
 *
 * The first word of each cache line of a large anonymous area holds its address
 * and the round in which its page was written last. A round checks all pages,
 * and writes a quarter of them. What a migration has lost is a page of an
 * earlier round, and writing it again would hide that; so a page stays as it is
 * for three rounds, and is checked before it is written.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <pthread.h>
#include <sys/mman.h>

#include "work.h"

#define PAGE_WORDS 512
#define LINE_WORDS 8
/* 12 MiB each */
#define THREAD_PAGES 3072
#define THREADS 2
#define QUARTERS 4

/*
 * The rest of the guest shall get on, too: a pause after so many pages. The
 * threads dirty several thousand pages a second nevertheless.
 */
#define BURST_PAGES 64
#define PAUSE_US 2000

struct thread {
    pthread_t id;
    unsigned index;
    uint64_t (*area)[PAGE_WORDS];
    atomic_uint rounds;
};

static struct thread threads[THREADS];

/* What the word at @word holds since @round */
static uint64_t content(const uint64_t *word, unsigned round)
{
    return (uintptr_t)word << 16 | (round & 0xffff);
}

static bool written_in(unsigned page, unsigned round)
{
    return page % QUARTERS == round % QUARTERS;
}

/* The round before @round in which @page was written last; 0 is the filling */
static unsigned last_written(unsigned page, unsigned round)
{
    do {
        round--;
    } while (round > 0 && !written_in(page, round));
    return round;
}

static void fill(uint64_t *words, unsigned round)
{
    for (unsigned i = 0; i < PAGE_WORDS; i += LINE_WORDS) {
        words[i] = content(&words[i], round);
    }
}

static void check(const uint64_t *words, unsigned round)
{
    /* volatile: what was written is to be read again, not to be remembered */
    const volatile uint64_t *memory = words;

    for (unsigned i = 0; i < PAGE_WORDS; i += LINE_WORDS) {
        uint64_t seen = memory[i];

        if (seen != content(&words[i], round)) {
            complain("%p holds 0x%" PRIx64 " of round %u and not round %u",
                     (const void *)&words[i], seen >> 16,
                     (unsigned)(seen & 0xffff), round & 0xffff);
            return;
        }
    }
}

static void *run(void *opaque)
{
    struct thread *thread = opaque;
    unsigned round = 0;
    bool last;

    for (unsigned page = 0; page < THREAD_PAGES; page++) {
        fill(thread->area[page], round);
    }
    do {
        last = stopped();
        round++;
        for (unsigned page = 0; page < THREAD_PAGES; page++) {
            check(thread->area[page], last_written(page, round));
            if (written_in(page, round)) {
                fill(thread->area[page], round);
            }
            if (page % BURST_PAGES == 0) {
                pause_us(PAUSE_US);
            }
        }
        atomic_store(&thread->rounds, round);
    } while (!last);
    return NULL;
}

/* What the slowest thread has done */
static unsigned rounds_done(void)
{
    unsigned least = UINT32_MAX;

    for (unsigned i = 0; i < THREADS; i++) {
        unsigned rounds = atomic_load(&threads[i].rounds);

        least = rounds < least ? rounds : least;
    }
    return least;
}

int main(int argc, char **argv)
{
    const size_t size = THREAD_PAGES * sizeof(*threads[0].area);
    int fd;

    if (argc != 2) {
        errx(2, "which file takes the number of rounds?");
    }
    fd = open_rounds(argv[1]);
    for (unsigned i = 0; i < THREADS; i++) {
        threads[i].area = mmap(NULL, size, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (threads[i].area == MAP_FAILED) {
            err(1, "mmap");
        }
        /* Small pages: a huge one is dirty as a whole and hides the others. */
        madvise(threads[i].area, size, MADV_NOHUGEPAGE);
        if (pthread_create(&threads[i].id, NULL, run, &threads[i])) {
            errx(1, "pthread_create");
        }
    }
    while (!stopped()) {
        say_rounds(fd, rounds_done());
        pause_us(100000);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i].id, NULL);
    }
    say_rounds(fd, rounds_done());
    if (errors) {
        warnx("%u pages were wrong", errors);
    }
    return errors != 0;
}
