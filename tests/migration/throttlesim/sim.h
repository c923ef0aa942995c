/*
 * Throttle simulator: a guest, a migration, and a policy, on a virtual clock
 *
 * guest.c runs vCPUs and devices, sender.c the migration.  A policy is who
 * slows vCPUs down; policy-engine.c has the very engine that QEMU runs.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef THROTTLE_SIM_SIM_H
#define THROTTLE_SIM_SIM_H

#include "memory.h"
#include "scenario.h"

#define SIM_MS 1000000LL
#define SIM_S (1000 * SIM_MS)

/* vCPUs, the link and the policy take turns; it is when the throttle looks. */
#define SIM_TICK_NS (10 * SIM_MS)

/* When something never is */
#define SIM_NEVER INT64_MAX

/* When it stays as it was */
#define SIM_KEEP -1

typedef struct Sim Sim;

typedef struct SimVcpu {
    unsigned index;
    const SimActor *actor;
    MemoryArea *area;
    /* where its sweep stands */
    uint64_t at;
    /* up to when it was simulated */
    int64_t now_ns;
    /* when its next write or read is due; how much of one it has done */
    int64_t due_ns;
    double part;
    /* it is at work this much later than others of its kind */
    int64_t apart_ns;

    /* it sleeps from and until; SIM_NEVER: it does not */
    int64_t sleep_ns;
    int64_t wake_ns;
    /* when it leaves the guest by itself, or has been made to; SIM_NEVER */
    int64_t leave_ns;

    /* all growing: what it did, what got dirty by it, how long it ran, slept */
    double done;
    double dirtied;
    int64_t ran_ns;
    int64_t slept_ns;
    /* what it would have done if nobody had slowed it down */
    double wanted;
    /* writes since its ring was harvested */
    double ring_writes;

    int64_t longest_sleep_ns;
    /* of wanted, when the present second began, and of done */
    double second_wanted;
    double second_done;
    /* the least part of what it wanted that it did in a second */
    double worst_second;
    /* while there were shares: what it wanted within its own, and did */
    double fair_wanted;
    double fair_done;
    /* as of the last tick */
    double done_before;
} SimVcpu;

/* Who slows vCPUs down.  Each function may be NULL. */
typedef struct SimPolicy {
    const char *name;
    /* A migration begins; the policy may have a state */
    void (*begin)(Sim *s);
    void (*end)(Sim *s);
    /* Every SIM_TICK_NS */
    void (*step)(Sim *s);
    /*
     * A vCPU has left the guest, because its ring is full or because of
     * leave_ns.  Returns: how long it is to sleep
     */
    int64_t (*leave)(Sim *s, SimVcpu *v, bool full);
    /*
     * It has slept for so long, and enters the guest.  Returns: when it shall
     * leave by itself, from now; 0: never; SIM_KEEP: when it was to before
     */
    int64_t (*enter)(Sim *s, SimVcpu *v, int64_t slept_ns);
    /* A sync has found so many pages that were not to be sent before */
    void (*synced)(Sim *s, uint64_t found_pages);
    /* The sender has ended a window, or is in the middle of one */
    void (*progress)(Sim *s);
    /* Is it to sync in the middle of an iteration?  NULL: never */
    bool (*wants_sync)(const Sim *s);
    /* To harvest a ring, its vCPU is waited for, also while it sleeps. */
    bool harvest_waits;
    /* It takes part only in what it is named for. */
    bool on_request;
} SimPolicy;

/* The migration */
typedef struct SimSender {
    uint64_t iteration;
    /* when the window began, and what was sent in it */
    int64_t window_ns;
    double window_pages;
    /* when the turn is over, and it is looked up whether the iteration is */
    int64_t turn_ns;
    /* a sync is going to begin then; SIM_NEVER: none is */
    int64_t sync_from_ns;
    /* a sync is under way, until then, and has found what was not to be sent */
    bool syncing;
    int64_t synced_ns;
    double found_pages;
    double sent_pages;
    /* what the link has carried of a page */
    double part;
    /* what can be sent within the downtime limit, as of the last window */
    double switchover_pages;
    bool completed;
    int64_t total_ns;
    int64_t downtime_ns;
    /* what is left to a link that varies */
    GRand *rand;
} SimSender;

struct Sim {
    const Scenario *scenario;
    const SimPolicy *policy;
    void *state;
    int64_t now_ns;
    Memory memory;
    unsigned nr_vcpus;
    SimVcpu *vcpus;
    /* the part of the time that a vCPU that can run gets a CPU */
    double on_cpu;
    unsigned nr_devices;
    SimVcpu *devices;
    SimSender sender;
    /* what each vCPU may dirty of what the link carries, 0: no matter */
    double share_pps;
    /* vCPUs are being slowed down, and since when at all */
    bool throttling;
    int64_t throttled_ns;
};

/* What a policy's clock says, which may jump */
int64_t sim_clock_ns(const Sim *s, int64_t now_ns);

/* guest.c */
void guest_init(Sim *s);
void guest_free(Sim *s);
/* Up to @s->now_ns */
void guest_advance(Sim *s);
/* Make a vCPU that runs leave the guest as soon as it can. */
void guest_kick(Sim *s, SimVcpu *v);
/* A vCPU that sleeps is to do so until then. */
void guest_wake_at(SimVcpu *v, int64_t wake_ns);
/* The longest that a vCPU has slept at a stretch, which may go on */
int64_t guest_longest_sleep_ns(const Sim *s, const SimVcpu *v);
/* All rings are harvested. */
void guest_harvest(Sim *s);

/* sender.c */
void sender_init(Sim *s);
void sender_advance(Sim *s);

#endif
