/*
 * Dirty throttle: when a dirty ring has to be harvested
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/dirty-throttle/ring-pace.h"

#define MS 1000000LL

/* A ring, its writer, and a reaper that comes at most @late_ns late */
typedef struct Ring {
    DirtyRingPace pace;
    uint32_t ring_pages;
    /* KVM calls it full then; 0: when there are ring_pages entries */
    uint32_t full_pages;
    uint64_t entries;
    uint32_t fill;
    int64_t now_ns, reaped_ns;
    int64_t late_ns;
    /* what happened */
    unsigned full, looks, reaps;
    int64_t longest_ns;
} Ring;

/* As many full rings as putting off harvests may cost in @ns */
static unsigned ring_price(int64_t ns)
{
    return ns / (8000 * MS) + 1;
}

/* Write at this rate for so long, while the reaper does what it has to do. */
static void ring_run(Ring *r, uint64_t pps, int64_t run_ns)
{
    uint32_t full_pages = r->full_pages ?: r->ring_pages;
    int64_t end_ns = r->now_ns + run_ns;

    while (r->now_ns < end_ns) {
        int64_t age_ns = r->now_ns - r->reaped_ns;
        int64_t next_ns;
        uint64_t more;

        dirty_ring_pace_look(&r->pace, r->entries, r->fill, r->now_ns);
        r->looks++;
        if (dirty_ring_pace_due(&r->pace, r->fill, r->ring_pages, age_ns)) {
            g_assert_cmpuint(r->fill, >, 0);
            r->reaps++;
            r->fill = 0;
            r->reaped_ns = r->now_ns;
            age_ns = 0;
        }
        next_ns = dirty_ring_pace_next_ns(&r->pace, r->fill, r->ring_pages,
                                          age_ns);
        g_assert_cmpint(next_ns, >=, DIRTY_REAP_MIN_NS);
        g_assert_cmpint(next_ns, <=, DIRTY_REAP_MAX_NS);
        r->longest_ns = MAX(r->longest_ns, next_ns);
        if (r->late_ns) {
            next_ns += g_test_rand_int_range(0, r->late_ns);
        }
        more = pps * (next_ns / 1000) / 1000000;
        r->now_ns += next_ns;
        r->entries += more;
        if (r->fill + more >= full_pages) {
            /* the vCPU has harvested it and went on */
            r->full++;
            dirty_ring_pace_full(&r->pace, full_pages, r->ring_pages,
                                 r->now_ns);
            more = (r->fill + more) % full_pages;
            r->fill = 0;
            r->reaped_ns = r->now_ns;
        }
        r->fill += more;
    }
}

static void ring_forget_what_happened(Ring *r)
{
    r->full = r->looks = r->reaps = 0;
    r->longest_ns = 0;
}

static void test_ring_of_a_steady_writer_is_never_full(void)
{
    for (int i = 0; i < 1000; i++) {
        Ring r = { .ring_pages = 1024 << g_test_rand_int_range(0, 7),
                   .now_ns = 1 };
        /* it lasts 20 ms to 100 s */
        int64_t lasts_ns = 20 * MS + g_test_rand_int_range(0, 1 << 20) *
                           (1LL << g_test_rand_int_range(0, 17));
        uint64_t pps = r.ring_pages * 1000000000LL / lasts_ns;

        /* a tenth of what it lasts is well within the quarter left for that */
        r.late_ns = MIN(lasts_ns / 10, 100 * MS);
        ring_run(&r, pps, 3000 * MS);
        ring_forget_what_happened(&r);
        ring_run(&r, pps, 3000 * MS);
        g_assert_cmpuint(r.full, ==, 0);
        /*
         * It is harvested at a quarter full at least, if not for its age, and
         * looked at a few times in between.
         */
        g_assert_cmpuint(r.reaps, <=, 3000 * MS * 4 / lasts_ns + 4);
        g_assert_cmpuint(r.looks, <=, 3000 / 10 + 1);
    }
}

/* The fastest that a ring can follow: half of it between two looks */
static void test_ring_of_a_fast_writer(void)
{
    for (int lasts_ms = 20; lasts_ms < 40; lasts_ms++) {
        Ring r = { .ring_pages = 4096, .now_ns = 1 };
        uint64_t pps = 4096 * 1000 / (lasts_ms + 1);

        ring_run(&r, pps, 3000 * MS);
        ring_forget_what_happened(&r);
        ring_run(&r, pps, 4000 * MS);
        g_assert_cmpuint(r.full, ==, 0);
    }
}

static void test_ring_of_a_writer_that_pauses_is_never_full(void)
{
    for (int i = 0; i < 1000; i++) {
        Ring r = { .ring_pages = 4096, .now_ns = 1 };
        uint64_t pps = g_test_rand_int_range(4096, 4096 * 45);
        int64_t begin_ns;
        int bursts = 0;

        ring_run(&r, pps, 3000 * MS);
        ring_forget_what_happened(&r);
        begin_ns = r.now_ns;
        while (bursts++ < 10) {
            /* with the look that is under way, two seconds */
            ring_run(&r, 0, g_test_rand_int_range(0, 1000) * MS);
            /* long enough for a look at nothing but the burst */
            ring_run(&r, pps, 2000 * MS);
        }
        g_assert_cmpuint(r.full, <=, ring_price(r.now_ns - begin_ns));
    }
}

static void test_ring_of_an_idle_guest(void)
{
    Ring r = { .ring_pages = 4096, .now_ns = 1 };

    ring_run(&r, 100000, 1000 * MS);
    /* forgotten after a while: from 30 ms to 1 s is a factor of e^3.5 */
    ring_run(&r, 0, 40000 * MS);
    ring_forget_what_happened(&r);
    ring_run(&r, 0, 10000 * MS);
    g_assert_cmpuint(r.looks, ==, 10);
    g_assert_cmpuint(r.reaps, ==, 0);
    g_assert_cmpint(r.longest_ns, ==, DIRTY_REAP_MAX_NS);
}

/* What dirties little costs little: one harvest a second, as ever. */
static void test_ring_of_a_slow_writer(void)
{
    Ring r = { .ring_pages = 65536, .now_ns = 1 };

    ring_run(&r, 1000, 10000 * MS);
    g_assert_cmpuint(r.full, ==, 0);
    g_assert_cmpuint(r.reaps, >=, 8);
    g_assert_cmpuint(r.reaps, <=, 10);
}

/* A hot set that fits into a quarter is not protected again and again. */
static void test_ring_of_a_small_hot_set(void)
{
    DirtyRingPace p = { 0 };

    dirty_ring_pace_look(&p, 0, 0, 1);
    dirty_ring_pace_look(&p, 10000, 1023, 10 * MS);
    dirty_ring_pace_full(&p, 0, 4096, 10 * MS);
    g_assert_false(dirty_ring_pace_due(&p, 1023, 4096, 100 * MS));
    g_assert_true(dirty_ring_pace_due(&p, 1024, 4096, 100 * MS));
}

/*
 * One of half the ring is in there again by the next look, whenever it has
 * been harvested; another ring makes the reaper look at every 10 ms.
 */
static void test_ring_of_a_large_hot_set(void)
{
    Ring r = { .ring_pages = 4096, .now_ns = 10 * MS };
    const uint32_t set_pages = 2048;
    unsigned reaps = 0;

    for (int look = 0; look < 3000; look++) {
        r.now_ns += 10 * MS;
        r.entries += set_pages - r.fill;
        r.fill = set_pages;
        dirty_ring_pace_look(&r.pace, r.entries, r.fill, r.now_ns);
        if (dirty_ring_pace_due(&r.pace, r.fill, r.ring_pages,
                                r.now_ns - r.reaped_ns)) {
            r.fill = 0;
            r.reaped_ns = r.now_ns;
            reaps++;
        }
    }
    /* for its age once a second, and a few times before it was known */
    g_assert_cmpuint(reaps, <=, 30 + 3);
    g_assert_cmpuint(reaps, >=, 25);

    /* When the set gets larger, the ring is known not to rest any more. */
    dirty_ring_pace_look(&r.pace, r.entries + 512, r.fill + 512,
                         r.now_ns + 10 * MS);
    g_assert_cmpuint(r.pace.rest_pages, ==, 0);
}

/* Half full is early enough for a ring that lasts long. */
static void test_ring_that_lasts(void)
{
    DirtyRingPace p = { .put_off_ns = 1 };

    dirty_ring_pace_look(&p, 0, 0, 1000 * MS);
    dirty_ring_pace_look(&p, 2000, 2000, 1100 * MS);
    g_assert_false(dirty_ring_pace_due(&p, 2000, 4096, 100 * MS));
    /* 1072 pages to three quarters, at 20000 pages/s */
    g_assert_cmpint(dirty_ring_pace_next_ns(&p, 2000, 4096, 100 * MS), ==,
                    1072 * MS / 20);
}

/* Only a look that follows a harvest put off tells that a ring rests. */
static void test_ring_of_a_pause_is_no_rest(void)
{
    DirtyRingPace p = { 0 };

    dirty_ring_pace_look(&p, 0, 0, 1000 * MS);
    dirty_ring_pace_look(&p, 2000, 2000, 1010 * MS);
    dirty_ring_pace_full(&p, 0, 4096, 1005 * MS);
    dirty_ring_pace_look(&p, 2000, 2000, 1020 * MS);
    g_assert_cmpuint(p.rest_pages, ==, 0);
}

/* A harvest is put off once, not again and again. */
static void test_ring_put_off_once(void)
{
    DirtyRingPace p = { 0 };

    dirty_ring_pace_look(&p, 0, 0, 1000 * MS);
    dirty_ring_pace_look(&p, 2000, 2000, 1010 * MS);
    g_assert_false(dirty_ring_pace_due(&p, 2000, 4096, 10 * MS));
    dirty_ring_pace_look(&p, 2500, 2500, 1020 * MS);
    g_assert_true(dirty_ring_pace_due(&p, 2500, 4096, 20 * MS));
}

static void test_ring_counts_from_0_again(void)
{
    DirtyRingPace p = { 0 };

    dirty_ring_pace_look(&p, 5000, 0, 1000 * MS);
    dirty_ring_pace_look(&p, 0, 0, 1010 * MS);
    dirty_ring_pace_look(&p, 5000, 0, 1020 * MS);
    g_assert_cmpuint(p.peak_pps, ==, 0);
}

/* A writer that was caught at a pause does not rest when it goes on. */
static void test_ring_full_at_rest(void)
{
    DirtyRingPace p = { .rest_pages = 2048 };

    dirty_ring_pace_full(&p, 0, 4096, 1000 * MS);
    g_assert_cmpuint(p.rest_pages, ==, 0);
    dirty_ring_pace_look(&p, 0, 0, 1000 * MS);
    dirty_ring_pace_look(&p, 2000, 2000, 1010 * MS);
    g_assert_true(dirty_ring_pace_due(&p, 2000, 4096, 10 * MS));
}

static void test_ring_look_twice_at_once(void)
{
    DirtyRingPace p = { 0 }, before;

    dirty_ring_pace_look(&p, 0, 0, 1);
    dirty_ring_pace_look(&p, 1000, 1000, 10 * MS);
    before = p;
    dirty_ring_pace_look(&p, 2000, 2000, 10 * MS + 1);
    dirty_ring_pace_look(&p, 2000, 2000, 10 * MS);
    g_assert_cmpuint(p.peak_pps, ==, before.peak_pps);
    /* and what came meanwhile is not lost to the next look */
    dirty_ring_pace_look(&p, 3000, 3000, 20 * MS);
    g_assert_cmpuint(p.peak_pps, >, 190000);
}

/* Of 1024 entries KVM may keep 64, and the processor's buffer 512. */
static void test_ring_that_is_full_early(void)
{
    for (int lasts_ms = 20; lasts_ms < 500; lasts_ms += 7) {
        Ring r = { .ring_pages = 1024, .full_pages = 448, .now_ns = 1 };
        uint64_t pps = r.full_pages * 1000 / (lasts_ms + 1);

        /* until it is full, which tells how many entries that are */
        while (!r.full) {
            g_assert_cmpint(r.now_ns, <, 10000 * MS);
            ring_run(&r, pps, 10 * MS);
        }
        /* from then on it is harvested in time, once the rate is known */
        ring_run(&r, pps, 100 * MS);
        ring_forget_what_happened(&r);
        ring_run(&r, pps, 4000 * MS);
        g_assert_cmpuint(r.full, ==, 0);
    }
}

/* Whoever harvests it between its exit and the count spoils the latter. */
static void test_ring_full_of_too_few(void)
{
    DirtyRingPace p = { 0 };

    dirty_ring_pace_full(&p, 447, 1024, 1 * MS);
    g_assert_cmpuint(dirty_ring_pace_room(&p, 1024), ==, 1024);
    dirty_ring_pace_full(&p, 960, 1024, 2 * MS);
    g_assert_cmpuint(dirty_ring_pace_room(&p, 1024), ==, 960);
    dirty_ring_pace_full(&p, 448, 1024, 3 * MS);
    g_assert_cmpuint(dirty_ring_pace_room(&p, 1024), ==, 448);
    /* the processor's buffer is emptied into it, whatever is in there */
    dirty_ring_pace_full(&p, 700, 1024, 4 * MS);
    g_assert_cmpuint(dirty_ring_pace_room(&p, 1024), ==, 448);
    dirty_ring_pace_full(&p, 0, 1024, 5 * MS);
    g_assert_cmpuint(dirty_ring_pace_room(&p, 1024), ==, 448);

    /* in the smallest ring there is no room for such a buffer */
    p = (DirtyRingPace) { 0 };
    dirty_ring_pace_full(&p, 63, 256, 1 * MS);
    g_assert_cmpuint(dirty_ring_pace_room(&p, 256), ==, 256);
    dirty_ring_pace_full(&p, 192, 256, 2 * MS);
    g_assert_cmpuint(dirty_ring_pace_room(&p, 256), ==, 192);
}

/* However fast it was, after eight quiet seconds it is forgotten. */
static void test_ring_of_a_fast_writer_is_forgotten(void)
{
    DirtyRingPace p = { 0 };

    dirty_ring_pace_look(&p, 0, 0, 1);
    dirty_ring_pace_look(&p, 1ULL << 40, 0, 1000001);
    g_assert_cmpint(dirty_ring_pace_next_ns(&p, 0, 4096, 0), ==,
                    DIRTY_REAP_MIN_NS);
    dirty_ring_pace_look(&p, 1ULL << 40, 0, 8000 * MS + 1000001);
    g_assert_cmpint(dirty_ring_pace_next_ns(&p, 0, 4096, 0), ==,
                    DIRTY_REAP_MAX_NS);
}

/* There is nothing to harvest in a ring that has no quarter. */
static void test_ring_of_one_page(void)
{
    DirtyRingPace p = { 0 };

    dirty_ring_pace_full(&p, 1, 4, 1);
    g_assert_cmpuint(dirty_ring_pace_room(&p, 4), ==, 1);
    for (int i = 0; i < 20; i++) {
        dirty_ring_pace_look(&p, i * 1000, 0, i * 1000 * MS + 1);
        g_assert_false(dirty_ring_pace_due(&p, 0, 4, 0));
    }
}

static void test_ring_any_input_stays_in_range(void)
{
    DirtyRingPace p = { 0 };
    int64_t now_ns = 1;
    uint64_t entries = 0;

    for (int i = 0; i < 100000; i++) {
        uint32_t ring_pages = 1u << g_test_rand_int_range(2, 32);
        uint32_t fill = (uint32_t)g_test_rand_int() % ring_pages;
        int64_t age_ns = g_test_rand_int() *
                         (1LL << g_test_rand_int_range(0, 31));
        int64_t next_ns;

        /* clocks that stand still or jump, counters that begin again */
        now_ns = MAX(1, now_ns + g_test_rand_int() *
                        (1LL << g_test_rand_int_range(0, 14)));
        entries = g_test_rand_bit() ?
                  entries + ((uint64_t)(uint32_t)g_test_rand_int() << 8) : 0;
        if (!g_test_rand_int_range(0, 10)) {
            dirty_ring_pace_full(&p, fill, ring_pages, now_ns);
        }
        g_assert_cmpuint(dirty_ring_pace_room(&p, ring_pages), >, 0);
        g_assert_cmpuint(dirty_ring_pace_room(&p, ring_pages), <=, ring_pages);
        dirty_ring_pace_look(&p, entries, fill, now_ns);
        next_ns = dirty_ring_pace_next_ns(&p, fill, ring_pages, age_ns);
        g_assert_cmpint(next_ns, >=, DIRTY_REAP_MIN_NS);
        g_assert_cmpint(next_ns, <=, DIRTY_REAP_MAX_NS);
        if (dirty_ring_pace_due(&p, fill, ring_pages, age_ns)) {
            g_assert_cmpuint(fill, >, 0);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/dirty-ring-pace/steady",
                    test_ring_of_a_steady_writer_is_never_full);
    g_test_add_func("/dirty-ring-pace/fast", test_ring_of_a_fast_writer);
    g_test_add_func("/dirty-ring-pace/lasts", test_ring_that_lasts);
    g_test_add_func("/dirty-ring-pace/no-rest",
                    test_ring_of_a_pause_is_no_rest);
    g_test_add_func("/dirty-ring-pace/put-off", test_ring_put_off_once);
    g_test_add_func("/dirty-ring-pace/restart", test_ring_counts_from_0_again);
    g_test_add_func("/dirty-ring-pace/pauses",
                    test_ring_of_a_writer_that_pauses_is_never_full);
    g_test_add_func("/dirty-ring-pace/idle", test_ring_of_an_idle_guest);
    g_test_add_func("/dirty-ring-pace/slow", test_ring_of_a_slow_writer);
    g_test_add_func("/dirty-ring-pace/small-hot-set",
                    test_ring_of_a_small_hot_set);
    g_test_add_func("/dirty-ring-pace/large-hot-set",
                    test_ring_of_a_large_hot_set);
    g_test_add_func("/dirty-ring-pace/full-at-rest", test_ring_full_at_rest);
    g_test_add_func("/dirty-ring-pace/full-early",
                    test_ring_that_is_full_early);
    g_test_add_func("/dirty-ring-pace/full-of-too-few",
                    test_ring_full_of_too_few);
    g_test_add_func("/dirty-ring-pace/twice", test_ring_look_twice_at_once);
    g_test_add_func("/dirty-ring-pace/forgotten",
                    test_ring_of_a_fast_writer_is_forgotten);
    g_test_add_func("/dirty-ring-pace/one-page", test_ring_of_one_page);
    g_test_add_func("/dirty-ring-pace/random",
                    test_ring_any_input_stays_in_range);
    return g_test_run();
}
