/*
 * pvsched: a vCPU that shares a line with the host
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/lockable.h"
#include "qemu/timer.h"
#include "hw/misc/pvsched-abi.h"
#include "vcpu.h"
#include "hw/misc/trace.h"

static void vcpu_tell(PVSchedVcpu *v, int64_t now_ns)
{
    PVSchedLine line;

    pvsched_boost_line(&v->boost, now_ns, &line);
    pvsched_ram_tell(&v->ram, &line);
}

static PVSchedLook vcpu_times(PVSchedVcpu *v)
{
    PVSchedLook l = { .now_ns = get_clock() };

    l.cpu_ns = pvsched_thread_cpu_ns(&v->thread);
    l.due_ns = pvsched_share_update(&v->share,
                                    qatomic_read(&v->common->runnable),
                                    qatomic_read(&v->common->processors),
                                    l.now_ns, l.cpu_ns);
    return l;
}

/*
 * Whether anything may be in force at all is read here, under the lock: who
 * forbids it and then takes the lock finds it forbidden for all that follow.
 *
 * Returns: in how many ns somebody has to look again
 */
static int64_t vcpu_look(PVSchedVcpu *v, bool watching)
{
    bool on = qatomic_read(&v->common->on);
    PVSchedMode before = v->boost.mode, mode;
    PVSchedLook l = vcpu_times(v);

    l.request = pvsched_ram_request(v->ram.host);
    l.may = on ? qatomic_read(&v->common->may) : 0;
    l.watching = watching;
    qatomic_set_u64(&v->looked_at, l.request);

    mode = pvsched_boost_look(&v->boost, &l);
    if (!pvsched_thread_set(&v->thread, mode, &v->rights)) {
        pvsched_boost_failed(&v->boost);
    }
    if (v->boost.mode != before) {
        trace_pvsched_look(v->index, watching, l.request, v->boost.mode);
    }
    vcpu_tell(v, l.now_ns);
    /* Who was just boosted from outside may be done, and did not know. */
    return watching && v->boost.mode != before ? PVSCHED_LOOK_SOON_NS :
           pvsched_boost_look_within(&v->boost, &l);
}

/* At an exit: nothing, as long as the guest asks for what it did before. */
static void vcpu_left(PVSchedHooks *h)
{
    PVSchedVcpu *v = container_of(h, PVSchedVcpu, hooks);
    const uint8_t *line = qatomic_rcu_read(&v->line);
    int64_t within_ns = PVSCHED_LOOK_LATE_NS;

    if (!line || pvsched_ram_request(line) ==
                 qatomic_read_u64(&v->looked_at) ||
        qemu_mutex_trylock(&v->lock)) {
        return;
    }
    if (v->ram.host) {
        within_ns = vcpu_look(v, false);
    }
    qemu_mutex_unlock(&v->lock);
    pvsched_common_wake(v->common, within_ns / SCALE_MS);
}

static bool vcpu_rang(PVSchedHooks *h, hwaddr addr)
{
    PVSchedVcpu *v = container_of(h, PVSchedVcpu, hooks);
    hwaddr registers = qatomic_read_u64(&v->common->registers);

    if (!registers || addr != registers + PVSCHED_WINDOW(v->index) +
                              PVSCHED_WIN_DOORBELL) {
        return false;
    }
    pvsched_vcpu_ring(v);
    return true;
}

static int64_t vcpu_penalty_waits(PVSchedHooks *h, bool due)
{
    PVSchedVcpu *v = container_of(h, PVSchedVcpu, hooks);
    int64_t now_ns, wait_ns;

    QEMU_LOCK_GUARD(&v->lock);
    if (!v->ram.host) {
        return 0;
    }
    now_ns = get_clock();
    due &= qatomic_read(&v->common->wait);
    wait_ns = pvsched_boost_penalty_waits(&v->boost, due,
                                          pvsched_ram_request(v->ram.host),
                                          now_ns);
    trace_pvsched_penalty_waits(v->index, wait_ns);
    vcpu_tell(v, now_ns);
    return wait_ns;
}

void pvsched_common_wake(PVSchedCommon *c, int within_ms)
{
    /* After what there is to see; pairs with the xchg in watch_thread(). */
    smp_mb();
    if (qatomic_read(&c->on) && qatomic_read(&c->waits_ms) > within_ms &&
        qatomic_xchg(&c->waits_ms, 0)) {
        qemu_sem_post(&c->wake);
    }
}

void pvsched_vcpu_init(PVSchedVcpu *v, PVSchedCommon *common, unsigned index)
{
    const PVSchedLook l = { .now_ns = get_clock() };

    v->hooks.left = vcpu_left;
    v->hooks.rang = vcpu_rang;
    v->hooks.penalty_waits = vcpu_penalty_waits;
    v->common = common;
    v->index = index;
    v->share.at_ns = l.now_ns;
    pvsched_mutex_init(&v->lock);
    pvsched_boost_init(&v->boost, &l);
}

void pvsched_vcpu_destroy(PVSchedVcpu *v)
{
    qemu_mutex_destroy(&v->lock);
}

/* Debts and budgets stay, or a guest would register again to be rid of them. */
void pvsched_vcpu_register(PVSchedVcpu *v, CPUState *cpu, hwaddr addr,
                           PVSchedRam *ram)
{
    WITH_QEMU_LOCK_GUARD(&v->lock) {
        PVSchedLook l;

        pvsched_thread_init(&v->thread, cpu->thread, cpu->thread_id);
        /* What it ran without a line nobody has counted: nothing was due. */
        v->share.at_ns = get_clock();
        v->share.cpu_ns = pvsched_thread_cpu_ns(&v->thread);
        l = vcpu_times(v);
        pvsched_boost_resume(&v->boost, &l);
        v->addr = addr;
        v->ram = *ram;
        qatomic_set_u64(&v->looked_at, 0);
        qatomic_rcu_set(&v->line, ram->host);
    }
    qatomic_rcu_set(&v->common->hooks[v->index], &v->hooks);
    trace_pvsched_register(v->index, addr);
}

/* What was in force until now counts; from now on nobody asks for anything. */
static void vcpu_rest(PVSchedVcpu *v)
{
    PVSchedLook l = vcpu_times(v);

    pvsched_boost_look(&v->boost, &l);
    pvsched_thread_set(&v->thread, PVSCHED_NORMAL, &v->rights);
    qatomic_set_u64(&v->looked_at, 0);
    vcpu_tell(v, l.now_ns);
}

/* RAM that nobody else uses may go now, which must not be under the lock. */
void pvsched_vcpu_unregister(PVSchedVcpu *v)
{
    PVSchedRam ram;

    qatomic_set(&v->common->hooks[v->index], NULL);
    WITH_QEMU_LOCK_GUARD(&v->lock) {
        vcpu_rest(v);
        qatomic_set(&v->line, NULL);
        pvsched_thread_destroy(&v->thread);
        ram = v->ram;
        v->ram = (PVSchedRam) { };
    }
    pvsched_ram_put(&ram);
    trace_pvsched_unregister(v->index, v->addr);
}

/* A boost by the old means ends, and by the new ones it begins again. */
void pvsched_vcpu_set_rights(PVSchedVcpu *v, const PVSchedRights *rights)
{
    QEMU_LOCK_GUARD(&v->lock);
    if (v->ram.host) {
        vcpu_rest(v);
    }
    v->rights = *rights;
}

void pvsched_vcpu_set_budget(PVSchedVcpu *v, PVSchedKind kind,
                             unsigned percent)
{
    QEMU_LOCK_GUARD(&v->lock);
    pvsched_boost_set_budget(&v->boost, kind, percent, get_clock());
}

void pvsched_vcpu_ring(PVSchedVcpu *v)
{
    int64_t within_ns = PVSCHED_LOOK_LATE_NS;

    WITH_QEMU_LOCK_GUARD(&v->lock) {
        if (v->ram.host) {
            within_ns = vcpu_look(v, false);
        }
    }
    pvsched_common_wake(v->common, within_ns / SCALE_MS);
}

int64_t pvsched_vcpu_watch(PVSchedVcpu *v, unsigned boosted[PVSCHED_KINDS])
{
    int64_t within_ns = PVSCHED_LOOK_LATE_NS;

    QEMU_LOCK_GUARD(&v->lock);
    /* What is not to be in force is seen to by who forbids it. */
    if (v->ram.host && qatomic_read(&v->common->on) &&
        (pvsched_boost_active(&v->boost) ||
         pvsched_ram_request(v->ram.host) != qatomic_read_u64(&v->looked_at))) {
        within_ns = vcpu_look(v, true);
        boosted[v->boost.kind] += v->boost.mode == PVSCHED_BOOSTED;
    }
    return within_ns;
}

void pvsched_vcpu_bill(PVSchedVcpu *v, PVSchedVm *vm, int64_t now_ns)
{
    QEMU_LOCK_GUARD(&v->lock);
    pvsched_vm_bill(vm, &v->boost, now_ns);
}

void pvsched_vcpu_rest(PVSchedVcpu *v)
{
    QEMU_LOCK_GUARD(&v->lock);
    if (v->ram.host) {
        vcpu_rest(v);
    }
}

PVSchedVcpuState pvsched_vcpu_state(PVSchedVcpu *v)
{
    QEMU_LOCK_GUARD(&v->lock);
    return (PVSchedVcpuState) {
        .mode = v->boost.mode,
        .counters = v->boost.counters,
    };
}
