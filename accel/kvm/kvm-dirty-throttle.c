/*
 * KVM: make a vCPU pay for the pages that it dirties
 *
 * A vCPU looks at what it has dirtied when it is kicked because it owes a
 * penalty, when its ring is full, and when its allowance is used up: a quota
 * makes it leave the guest then, or its own timer when that may be so.  It
 * sleeps in its own thread, outside the BQL and outside any lock, and only
 * ever between two KVM_RUN.  A guest may have told that a vCPU does what others
 * wait for; then its penalty waits a little.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <poll.h>
#include <signal.h>
#include <time.h>
#include "qemu/atomic.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "hw/misc/pvsched.h"
#include "sysemu/cpus.h"
#include "kvm-dirty-charge.h"
#include "kvm-dirty-faults.h"
#include "kvm-dirty-found.h"
#include "kvm-dirty-quota.h"
#include "kvm-dirty-ring.h"
#include "kvm-dirty-throttle.h"
#include "kvm-dirty-time.h"
#include "trace.h"

/* Not every libc names this member of struct sigevent. */
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

/* A penalty that would end so soon anyway is not worth a kick. */
#define WAKE_MIN_NS SCALE_MS

void kvm_dirty_throttle_vcpu_init(KVMDirtyVcpu *d)
{
    struct sigevent sev = {
        .sigev_notify = SIGEV_THREAD_ID,
        .sigev_signo = SIG_IPI,
    };

    sev.sigev_notify_thread_id = qemu_get_thread_id();
    d->throttle.has_timer = timer_create(CLOCK_MONOTONIC, &sev,
                                         &d->throttle.timer) == 0;
    if (!d->throttle.has_timer) {
        /* Throttling gets coarser: only the throttle thread looks. */
        warn_report_once("no timer for the dirty throttle of vCPU %d: %s",
                         d->cpu->cpu_index, strerror(errno));
    }
}

void kvm_dirty_throttle_vcpu_destroy(KVMDirtyVcpu *d)
{
    if (d->throttle.has_timer) {
        timer_delete(d->throttle.timer);
    }
    d->throttle.has_timer = false;
    d->throttle.timer_armed = false;
    d->throttle.look_due = false;
    d->throttle.waiting = false;
}

/* Interrupt KVM_RUN after @ns, 0: do not.  In the vCPU thread. */
static void kvm_dirty_throttle_arm(KVMDirtyVcpu *d, int64_t ns)
{
    struct itimerspec its = {
        .it_value.tv_sec = ns / NANOSECONDS_PER_SECOND,
        .it_value.tv_nsec = ns % NANOSECONDS_PER_SECOND,
    };

    if (d->throttle.has_timer && (ns || d->throttle.timer_armed)) {
        d->throttle.look_at_ns = get_clock() + ns;
        qatomic_set(&d->throttle.timer_armed, ns != 0);
        timer_settime(d->throttle.timer, 0, &its, NULL);
    }
}

/*
 * Sleep, but not through a kick.
 *
 * Whoever wants the vCPU sends SIG_IPI, whose handler sets immediate_exit.
 * The signal is blocked while that is checked and let in by ppoll(), so that
 * a kick is seen by the check or ends the sleep, but cannot fall between.
 *
 * Returns: the time slept
 */
static int64_t kvm_dirty_throttle_sleep(KVMDirtyVcpu *d, int64_t ns)
{
    CPUState *cpu = d->cpu;
    int64_t start_ns = get_clock(), slept_ns = 0;
    sigset_t blocked, old;

    sigemptyset(&blocked);
    sigaddset(&blocked, SIG_IPI);
    pthread_sigmask(SIG_BLOCK, &blocked, &old);
    while (slept_ns < ns && !qatomic_read(&cpu->kvm_run->immediate_exit) &&
           !qatomic_read(&cpu->exit_request)) {
        struct timespec ts = {
            .tv_sec = (ns - slept_ns) / NANOSECONDS_PER_SECOND,
            .tv_nsec = (ns - slept_ns) % NANOSECONDS_PER_SECOND,
        };

        ppoll(NULL, 0, &ts, &old);
        slept_ns = get_clock() - start_ns;
    }
    qatomic_set(&d->throttle.paying, false);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return slept_ns;
}

void kvm_dirty_throttle_want_look(KVMDirtyVcpu *d)
{
    qatomic_set(&d->throttle.look_due, true);
}

/*
 * How much a vCPU has dirtied, asked here and nowhere else.  A ring is looked
 * at; an exit for a quota has told by itself.  Under kvm_slots_lock().
 *
 * Returns: pages since the vCPU was created, or what stands for them
 */
static uint64_t kvm_dirty_throttle_look(KVMDirtyVcpu *d)
{
    KVMDirtyTracking *t = d->cpu->kvm_state->dirty;

    if (d->ring.gfns) {
        kvm_dirty_ring_look(d);
    } else if (t->time.watched) {
        kvm_dirty_time_look(d);
    } else if (t->faults.supported) {
        kvm_dirty_faults_look(d);
    }
    return d->dirtied_pages;
}

/*
 * Put a penalty off, for a vCPU that says it must not be stopped now.  It is
 * asked again when its time is up, and whenever it is out of the guest until
 * then: when it has left its critical section, it rings.  Nothing is forgiven,
 * the debt stays and grows.
 *
 * Returns: whether the penalty waits
 */
static bool kvm_dirty_throttle_wait(KVMDirtyVcpu *d, int64_t penalty_ns)
{
    int64_t wait_ns = 0;

    if (penalty_ns || d->throttle.waiting) {
        wait_ns = pvsched_vcpu_penalty_waits(d->cpu, penalty_ns != 0);
    }
    d->throttle.waiting = wait_ns != 0;
    if (!wait_ns) {
        return false;
    }
    qatomic_set(&d->throttle.paying, false);
    kvm_dirty_quota_set(d, INT64_MAX);
    kvm_dirty_throttle_arm(d, wait_ns);
    return true;
}

/* What kvm_dirty_throttle_pay() is for, when it is due. */
static void kvm_dirty_throttle_look_and_pay(KVMDirtyVcpu *d)
{
    int cpu_index = d->cpu->cpu_index;
    DirtyThrottleAllowance allowance;
    int64_t penalty_ns, paid_ns = 0;
    uint64_t dirtied_pages;
    bool kicked;

    /* Cleared before the look: who sets it from now on wants another one. */
    qatomic_set(&d->throttle.look_due, false);
    /* Pairs with the lock that a kick is sent under. */
    smp_mb();
    kvm_dirty_throttle_arm(d, 0);

    /* Whoever lowers the penalty later takes the lock and sees the sleeper. */
    kvm_slots_lock();
    dirtied_pages = kvm_dirty_throttle_look(d);
    penalty_ns = dirty_throttle_charge(cpu_index, dirtied_pages);
    d->throttle.paying_until_ns = get_clock() + penalty_ns;
    qatomic_set(&d->throttle.paying, penalty_ns != 0);
    kvm_slots_unlock();

    if (kvm_dirty_throttle_wait(d, penalty_ns)) {
        return;
    }
    if (penalty_ns) {
        trace_kvm_dirty_throttle_pay(cpu_index, penalty_ns);
        paid_ns = kvm_dirty_throttle_sleep(d, penalty_ns);
    }
    kicked = paid_ns < penalty_ns;
    allowance = dirty_throttle_resume(cpu_index, paid_ns, kicked);
    if (kicked) {
        /* The rest is due when the vCPU comes back. */
        kvm_dirty_throttle_want_look(d);
    } else if (!kvm_dirty_quota_set(d, allowance.pages) && allowance.time_ns) {
        kvm_dirty_throttle_arm(d, allowance.time_ns);
    }
}

void kvm_dirty_throttle_pay(KVMDirtyVcpu *d)
{
    if (unlikely(qatomic_read(&d->throttle.look_due) ||
                 d->throttle.waiting)) {
        kvm_dirty_throttle_look_and_pay(d);
    }
}

bool kvm_dirty_throttle_interrupted(KVMDirtyVcpu *d)
{
    if (d->throttle.timer_armed && get_clock() >= d->throttle.look_at_ns) {
        kvm_dirty_throttle_want_look(d);
    }
    return qatomic_read(&d->throttle.look_due);
}

/* Whether a vCPU may have something new to tell.  Under kvm_slots_lock(). */
static bool kvm_dirty_throttle_look_pays(KVMDirtyVcpu *d)
{
    KVMDirtyTracking *t = d->cpu->kvm_state->dirty;

    return !t->faults.supported || t->time.watched || kvm_dirty_faults_due(d);
}

/* Called under kvm_slots_lock(), which keeps the thread from going away. */
static void kvm_dirty_throttle_kick(KVMDirtyVcpu *d)
{
    kvm_dirty_throttle_want_look(d);
    pthread_kill(d->cpu->thread->thread, SIG_IPI);
}

void kvm_dirty_throttle_charge_and_kick(void)
{
    KVMState *s = kvm_state;
    KVMDirtyVcpu *d;

    kvm_slots_lock();
    kvm_dirty_charge_start(s);
    kvm_dirty_quota_start(s);
    if (!s->dirty->time.watched) {
        kvm_dirty_faults_start(s);
    }
    kvm_dirty_found_start(s);
    QLIST_FOREACH(d, &s->dirty->vcpus, next) {
        uint64_t pages = d->dirtied_pages;

        if (kvm_dirty_throttle_look_pays(d)) {
            pages = kvm_dirty_throttle_look(d);
        }
        if (dirty_throttle_charge(d->cpu->cpu_index, pages) &&
            !qatomic_read(&d->throttle.look_due) &&
            !qatomic_read(&d->throttle.timer_armed) &&
            !qatomic_read(&d->throttle.paying)) {
            kvm_dirty_throttle_kick(d);
        }
    }
    kvm_slots_unlock();
}

/*
 * Faults that nobody has looked at meanwhile will not count, and what a
 * migration has looked ahead to is no concern of the next one.
 */
void kvm_dirty_throttle_watch_time(bool watch)
{
    kvm_slots_lock();
    kvm_dirty_faults_stop(kvm_state);
    kvm_dirty_time_watch(kvm_state, watch);
    kvm_dirty_found_reset(kvm_state);
    kvm_slots_unlock();
}

void kvm_dirty_throttle_wake(void)
{
    KVMDirtyVcpu *d;

    kvm_slots_lock();
    QLIST_FOREACH(d, &kvm_state->dirty->vcpus, next) {
        if (qatomic_read(&d->throttle.paying) &&
            get_clock() + dirty_throttle_penalty(d->cpu->cpu_index) <
            d->throttle.paying_until_ns - WAKE_MIN_NS) {
            kvm_dirty_throttle_kick(d);
        }
    }
    kvm_slots_unlock();
}

void kvm_dirty_throttle_stop_watching(void)
{
    g_autoptr(GPtrArray) old = NULL;

    kvm_slots_lock();
    kvm_dirty_quota_stop(kvm_state);
    kvm_dirty_faults_stop(kvm_state);
    kvm_dirty_found_stop(kvm_state);
    old = kvm_dirty_charge_stop(kvm_state);
    kvm_slots_unlock();
}
