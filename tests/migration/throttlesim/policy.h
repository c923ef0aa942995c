/*
 * Throttle simulator: who slows vCPUs down
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef THROTTLE_SIM_POLICY_H
#define THROTTLE_SIM_POLICY_H

#include "sim.h"

/* Nobody */
extern const SimPolicy policy_none;

/* auto-converge, as QEMU has had it since 1.6: in steps, all vCPUs */
extern const SimPolicy policy_converge;

/* dirty-limit of QEMU 8.1 to 10.x: feedback, at a full ring */
extern const SimPolicy policy_feedback;

/* The dirty quota as it was proposed in 2022: equal shares, without a pool */
extern const SimPolicy policy_equal;

/* The engine that is in this series: dirty-quota, dirty-limit, and both */
extern const SimPolicy policy_quota;
extern const SimPolicy policy_limit;
extern const SimPolicy policy_limit_and_quota;

/* dirty-quota that always cuts the first pass at once, and that never does */
extern const SimPolicy policy_at_once;
extern const SimPolicy policy_at_half;
extern const SimPolicy policy_after_pass;

/* All of them; NULL ends the list. */
extern const SimPolicy *const policies[];

/* How the engine stands, and what it costs on the host's clock */
typedef struct PolicyEngineState {
    uint64_t steps;
    double step_ns;
    size_t vcpu_bytes;
    /* phases that began, and whether more than one in a second, for two */
    unsigned phases;
    bool flaps;
    /*
     * Since when it is said, up to the end, that the deadline is missed, and
     * when it was said then that it can be over; 0: it is not
     */
    int64_t late_since_ns;
    int64_t late_ns;
    const char *phase;
    const char *reason;
} PolicyEngineState;

/* All zero if the policy is not the engine's.  Before it ends. */
PolicyEngineState policy_engine_state(const Sim *s);

/* auto-converge's way to stop vCPUs; also the engine's fallback */
typedef struct Converge {
    unsigned percent;
    unsigned high_count;
    int64_t synced_ns;
    double sent_pages;
    double found_pages;
} Converge;

void converge_begin(Converge *c, const Sim *s);
void converge_stop(Converge *c);
/* A sync: vCPUs may be slowed more, from now on. */
void converge_synced(Converge *c, Sim *s, uint64_t found_pages, bool allowed);
/* How long to sleep after CONVERGE_SLICE_NS in the guest; 0: not at all */
int64_t converge_sleep_ns(const Converge *c);

#define CONVERGE_SLICE_NS (10 * SIM_MS)

#endif
