/*
 * Throttle simulator: the model itself
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <math.h>
#include <glib/gstdio.h>
#include "memory.h"
#include "scenario.h"

#define PAGES 64
#define ROUNDS 20000

/* The same set, page by page */
static unsigned count(const bool *set)
{
    unsigned pages = 0;

    for (unsigned i = 0; i < PAGES; i++) {
        pages += set[i];
    }
    return pages;
}

static void check_same(const Extents *s, const bool *set)
{
    uint64_t end = 0;
    unsigned pages = 0;

    for (unsigned i = 0; i < s->list->len; i++) {
        Extent *e = &g_array_index(s->list, Extent, i);

        g_assert_cmpuint(e->begin, <, e->end);
        g_assert_true(!i || e->begin > end);
        end = e->end;
        for (uint64_t page = e->begin; page < end; page++) {
            g_assert_true(set[page]);
            pages++;
        }
    }
    g_assert_cmpuint(pages, ==, count(set));
    g_assert_cmpuint(s->pages, ==, pages);
}

/* Whatever happens to it, a set of extents is the set of the same pages. */
static void test_extents(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);
    bool set[PAGES] = { }, except[PAGES] = { };
    Extents s, x;

    extents_init(&s);
    extents_init(&x);
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t begin = g_rand_int_range(rand, 0, PAGES);
        uint64_t end = g_rand_int_range(rand, begin, PAGES + 1), taken, next;
        unsigned want = g_rand_int_range(rand, 0, PAGES), before = count(set);
        bool spare = g_rand_boolean(rand);

        switch (g_rand_int_range(rand, 0, 4)) {
        case 0:
            for (uint64_t i = begin; i < end; i++) {
                set[i] |= !spare || !except[i];
            }
            g_assert_cmpuint(extents_add(&s, begin, end, spare ? &x : NULL),
                             ==, count(set) - before);
            break;
        case 1:
            next = extents_take(&s, begin, want, &taken);
            for (uint64_t i = begin; i < PAGES && want; i++) {
                want -= set[i];
                set[i] = false;
                g_assert_true(want || next <= i + 1);
            }
            g_assert_cmpuint(taken, ==, before - count(set));
            g_assert_true((next == UINT64_MAX) == (want != 0));
            break;
        case 2:
            extents_clear(&x);
            memset(except, 0, sizeof(except));
            extents_add(&x, begin, end, NULL);
            memset(except + begin, true, end - begin);
            break;
        default:
            for (unsigned i = 0; i < PAGES; i++) {
                set[i] |= except[i];
            }
            g_assert_cmpuint(extents_add_all(&s, &x), ==, count(set) - before);
            break;
        }
        check_same(&s, set);
        check_same(&x, except);
    }
    extents_free(&s);
    extents_free(&x);
}

/* The first pass; what is dirtied meanwhile is to be sent after it. */
static void test_sweep(void)
{
    Memory m;
    MemoryArea *area;
    uint64_t at = 0;

    memory_init(&m, true);
    area = memory_add(&m, 1000, false);
    memory_add(&m, 500, true);
    memory_begin(&m);
    g_assert_cmpfloat(m.nr_to_send, ==, 1500);
    g_assert_cmpfloat(memory_write(&m, area, &at, 1000, 300), ==, 300);
    g_assert_cmpfloat(memory_send(&m, 1200), ==, 1200);
    g_assert_cmpfloat(memory_send(&m, 1200), ==, 300);
    g_assert_cmpfloat(memory_sync(&m), ==, 300);
    /* It goes around, and finds its own pages dirty. */
    g_assert_cmpfloat(memory_write(&m, area, &at, 1000, 1100), ==, 1000);
    g_assert_cmpuint(at, ==, 400);
    /* Of these, 300 are to be sent already. */
    g_assert_cmpfloat(memory_sync(&m), ==, 700);
    g_assert_cmpfloat(m.nr_to_send, ==, 1000);
    /* A set that is not all of its area */
    g_assert_cmpfloat(memory_write(&m, area, &at, 500, 200), ==, 200);
    g_assert_cmpuint(at, ==, 100);
    memory_free(&m);
}

/*
 * Zero pages are behind all others, and the sender comes to them once, wherever
 * it was when a sync came.
 */
static void test_zeros(void)
{
    Memory m;
    MemoryArea *area;
    uint64_t at = 0;

    memory_init(&m, true);
    area = memory_add(&m, 100, false);
    m.zero_pages = 50;
    memory_begin(&m);
    g_assert_cmpfloat(m.nr_to_send, ==, 150);
    g_assert_cmpfloat(memory_skip_zeros(&m, 10), ==, 0);
    /* It may come to the last page and no further. */
    g_assert_cmpfloat(memory_send(&m, 100), ==, 100);
    g_assert_cmpfloat(memory_send(&m, 20), ==, 0);
    g_assert_cmpfloat(memory_skip_zeros(&m, 10), ==, 10);
    memory_write(&m, area, &at, 100, 100);
    g_assert_cmpfloat(memory_sync(&m), ==, 100);
    g_assert_cmpfloat(m.nr_to_send, ==, 140);
    g_assert_cmpfloat(memory_send(&m, 50), ==, 0);
    g_assert_cmpfloat(memory_skip_zeros(&m, 100), ==, 40);
    g_assert_cmpfloat(memory_send(&m, 200), ==, 100);
    g_assert_cmpfloat(m.nr_to_send, ==, 0);
    memory_free(&m);
}

/* Without a ring, what is to be sent is dirty anyway, until it is sent. */
static void test_cleared_when_sent(void)
{
    for (unsigned random = 0; random <= 1; random++) {
        Memory m;
        MemoryArea *area;
        uint64_t at = 0;

        memory_init(&m, false);
        area = memory_add(&m, 1000, random);
        memory_begin(&m);
        g_assert_cmpfloat(memory_write(&m, area, &at, 1000, 500), ==, 0);
        memory_send(&m, 1);
        g_assert_cmpfloat(memory_write(&m, area, &at, 1000, 500), >, 390);
        memory_free(&m);
    }
}

/* Random writes to pages that are known one by one are what is expected. */
static void test_random(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);
    const unsigned pages = 20000;
    g_autofree bool *to_send = g_new0(bool, pages);
    g_autofree bool *dirty = g_new0(bool, pages);
    uint64_t at = 0, found = 0, next = 0;
    double expected;
    Memory m;
    MemoryArea *area;

    memory_init(&m, true);
    area = memory_add(&m, pages, true);
    memory_begin(&m);
    memset(to_send, true, pages);
    for (unsigned turn = 0; turn < 10; turn++) {
        double new_pages = memory_write(&m, area, &at, pages, pages / 10);
        unsigned exact = 0;

        for (unsigned i = 0; i < pages / 10; i++) {
            unsigned page = g_rand_int_range(rand, 0, pages);

            exact += !dirty[page];
            dirty[page] = true;
        }
        g_assert_cmpfloat(fabs(new_pages - exact), <, pages / 100);
        memory_send(&m, pages / 20);
        for (unsigned i = 0; i < pages / 20; i++) {
            to_send[next++] = false;
        }
    }
    for (unsigned i = 0; i < pages; i++) {
        found += dirty[i] && !to_send[i];
    }
    expected = memory_sync(&m);
    g_assert_cmpfloat(fabs(expected - found), <, pages / 100);
    memory_free(&m);
}

/* What is wrong is said, and what would be right. */
static void test_errors(void)
{
    static const struct {
        const char *text;
        const char *said;
    } wrong[] = {
        { "", "0 vCPUs; there are 1 to" },
        { "[vcpus w]\nset-mib = 1\n", "[link] mib: is missing" },
        { "[link]\nmib = 1\nchanges = 1e300:5\n", "is not SECONDS:VALUE" },
        { "[link]\nmib = 1\n[vcpus w]\nset-mib = 1\n",
          "[vm] title: is missing" },
        { "[vm]\ntitle = t\nram = 1\n", "[vm] ram: no such key; there are" },
        { "[vm]\ntitle = t\nmechanism = magic\n",
          "'magic' is none of none, ring" },
        { "[vm]\ntitle = t\nring = 1\n",
          "[vm] ring: '1' is not a number from 128 to 65536" },
        { "[link]\nmib = 1\nchanges = 1\n", "'1' is not SECONDS:VALUE" },
        { "[link]\nmib = 1\nchanges = 2:1;1:1\n", "comes too late" },
        { "[link]\ncapped = maybe\n", "neither 'yes' nor 'no'" },
        { "[links]\nmib = 1\n", "[links]: no such group; there are vm" },
        { "[vcpus w]\nrate = 1\n", "[vcpus w] set-mib: is missing" },
        { "[vcpus w]\nset-mib = 1\noff-ms = 5\n", "off-ms: needs on-ms" },
        { "[vcpus w]\nset-mib = 1\npattern = random\ngrows-mib = 1\n",
          "only a sweep can grow" },
        { "[vcpus w]\nset-mib = 1\npattern = reads\nwatched-rate = 1\n",
          "only writers have one" },
        { "[device d]\nset-mib = 1\n", "a device needs one, above 0" },
        { "[vcpus w]\nset-mib = 1\ncount = 5000\n",
          "'5000' is not a number from 1 to 4096" },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
        g_autofree char *path = NULL;
        g_autoptr(GError) error = NULL;
        int fd = g_file_open_tmp("throttle-sim-XXXXXX", &path, NULL);

        g_assert_cmpint(fd, >=, 0);
        g_close(fd, NULL);
        g_assert_true(g_file_set_contents(path, wrong[i].text, -1, NULL));
        g_assert_null(scenario_load(path, &error));
        g_assert_nonnull(strstr(error->message, wrong[i].said));
        g_assert_true(g_str_has_prefix(error->message, path));
        g_unlink(path);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/throttle-sim/extents", test_extents);
    g_test_add_func("/throttle-sim/sweep", test_sweep);
    g_test_add_func("/throttle-sim/zeros", test_zeros);
    g_test_add_func("/throttle-sim/cleared", test_cleared_when_sent);
    g_test_add_func("/throttle-sim/random", test_random);
    g_test_add_func("/throttle-sim/errors", test_errors);
    return g_test_run();
}
