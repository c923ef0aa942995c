/*
 * Throttle simulator: what is simulated
 *
 * A scenario is a key file; README.rst says what it may have.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef THROTTLE_SIM_SCENARIO_H
#define THROTTLE_SIM_SCENARIO_H

#define SIM_PAGE_BYTES 4096

/* What a page needs in the stream besides its content: its address and flags */
#define SIM_PAGE_HEADER_BYTES 8

/* What tells who dirties memory */
typedef enum SimMechanism {
    SIM_MECHANISM_NONE,
    SIM_MECHANISM_RING,
    SIM_MECHANISM_STATISTICS,
    SIM_MECHANISM_QUOTA,
    SIM_MECHANISM_TIME,
} SimMechanism;

/* A number of vCPUs that do the same, or a device */
typedef struct SimActor {
    char *name;
    bool device;
    unsigned count;
    /* all of them have one set */
    bool shared;
    bool random;
    /* they only read */
    bool reads;
    uint64_t set_pages;
    /* a sweep's set has so many at first, and this many more each second */
    uint64_t first_pages;
    uint64_t grows_pps;
    /* writes or reads each second, 0: as fast as it can */
    uint64_t rate_pps;
    /* the same while it is slowed down, 0: no different */
    uint64_t watched_pps;
    /* at work for on_ns, then not for off_ns; off_ns 0: always */
    int64_t on_ns;
    int64_t off_ns;
    /* how much later each of them begins than the one before */
    int64_t apart_ns;
    /* at work from and until */
    int64_t from_ns;
    int64_t until_ns;
} SimActor;

/* From this time on, the link carries so much, or the clock stands so */
typedef struct SimChange {
    int64_t at_ns;
    double value;
} SimChange;

/* What the engine has to keep to; if it is not said, what it promises */
typedef struct SimExpected {
    bool converges;
    /* the least part of what is possible, where there is a formula for it */
    double percent;
    /* the least that readers keep, and that anybody gets of the fair share */
    double reader_percent;
    double share_percent;
    /* and that anybody keeps in any second */
    double second_percent;
    double stall_ms;
    /* the deadline cannot be met */
    bool late;
    /* why slowing vCPUs does not help, as of the end; NULL: it does */
    char *reason;
} SimExpected;

typedef struct Scenario {
    char *name;
    char *title;

    SimMechanism mechanism;
    /* entries of a dirty ring, 0: there is none */
    uint64_t ring_pages;
    /* memory in use */
    uint64_t ram_pages;
    uint64_t zero_pages;

    /* bytes/s; changes are of this; part of it by which it varies; outages */
    double link_bps;
    GArray *link_changes;
    double link_jitter;
    /* a limit, which the sender keeps to, of a link that is faster */
    bool link_capped;

    int64_t downtime_ns;
    unsigned threshold_percent;
    /* of capability dirty-limit, pages/s */
    uint64_t limit_pps;
    unsigned max_throttle_percent;
    /* 0: there is none */
    int64_t deadline_ns;
    /* it is given up then */
    int64_t give_up_ns;

    /* a write, what it takes longer when it is logged, and a kick */
    int64_t write_ns;
    int64_t fault_ns;
    int64_t zero_ns;
    int64_t kick_ns;
    /* a sync, for a GiB of memory */
    int64_t sync_ns;
    /* CPUs of the host, 0: as many as there are vCPUs that run */
    unsigned cpus;
    /* jumps of the clock, in seconds */
    GArray *clock_jumps;
    /* pages that are read and count as written, for each vCPU, each second */
    uint64_t false_pps;

    GArray *actors;

    SimExpected expected;
} Scenario;

/* Returns: a scenario; NULL with @error set, which says what would be right */
Scenario *scenario_load(const char *path, GError **error);
void scenario_free(Scenario *s);

/* What vCPUs dirty is estimated, and syncs tell what it really was. */
bool scenario_estimates(const Scenario *s);

/* What the link carries at a time, in pages/s */
double scenario_link_pps(const Scenario *s, int64_t now_ns);

#endif
