/*
 * KVM: make a vCPU pay for the pages that it dirties
 *
 * A vCPU looks at what it has dirtied when it is kicked because it owes a
 * penalty, when its ring is full, and when its budget is used up: its quota
 * makes it leave the guest then, or its own timer when that may be so.  It
 * sleeps in its own thread, outside the BQL and outside any lock, and only
 * ever between two KVM_RUN.
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
#include "sysemu/cpus.h"
#include "kvm-dirty.h"
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
    d->has_timer = timer_create(CLOCK_MONOTONIC, &sev, &d->timer) == 0;
    if (!d->has_timer) {
        /* Throttling gets coarser: only the throttle thread looks. */
        warn_report_once("no timer for the dirty throttle of vCPU %d: %s",
                         d->cpu->cpu_index, strerror(errno));
    }
}

void kvm_dirty_throttle_vcpu_destroy(KVMDirtyVcpu *d)
{
    if (d->has_timer) {
        timer_delete(d->timer);
    }
    d->has_timer = false;
    d->timer_armed = false;
    d->look_due = false;
}

/* Interrupt KVM_RUN after @ns, 0: do not.  In the vCPU thread. */
static void kvm_dirty_throttle_arm(KVMDirtyVcpu *d, int64_t ns)
{
    struct itimerspec its = {
        .it_value.tv_sec = ns / NANOSECONDS_PER_SECOND,
        .it_value.tv_nsec = ns % NANOSECONDS_PER_SECOND,
    };

    if (d->has_timer && (ns || d->timer_armed)) {
        d->look_at_ns = get_clock() + ns;
        qatomic_set(&d->timer_armed, ns != 0);
        timer_settime(d->timer, 0, &its, NULL);
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
    qatomic_set(&d->paying, false);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return slept_ns;
}

void kvm_dirty_throttle_pay(KVMDirtyVcpu *d)
{
    int cpu_index = d->cpu->cpu_index;
    int64_t penalty_ns, paid_ns = 0, look_ns;
    uint64_t dirtied_pages;
    bool kicked;

    /* Cleared before the look: who sets it from now on wants another one. */
    qatomic_set(&d->look_due, false);
    /* Pairs with the lock that a kick is sent under. */
    smp_mb();
    kvm_dirty_throttle_arm(d, 0);

    /* Whoever lowers the penalty later takes the lock and sees the sleeper. */
    kvm_slots_lock();
    dirtied_pages = kvm_dirty_look(d);
    penalty_ns = dirty_throttle_charge(cpu_index, dirtied_pages);
    d->paying_until_ns = get_clock() + penalty_ns;
    qatomic_set(&d->paying, penalty_ns != 0);
    kvm_slots_unlock();

    if (penalty_ns) {
        trace_kvm_dirty_throttle_pay(cpu_index, penalty_ns);
        paid_ns = kvm_dirty_throttle_sleep(d, penalty_ns);
    }
    kicked = paid_ns < penalty_ns;
    look_ns = dirty_throttle_resume(cpu_index, paid_ns, kicked);
    if (kicked) {
        /* The rest is due when the vCPU comes back. */
        qatomic_set(&d->look_due, true);
    } else if (!kvm_dirty_quota_set(d, dirty_throttle_allowance(cpu_index)) &&
               look_ns) {
        kvm_dirty_throttle_arm(d, look_ns);
    }
}

/*
 * A generic kick sets thread_kicked before it sends the signal, and a request
 * to leave sets exit_request; both are seen here or raise immediate_exit
 * again after it was eaten, so that the next KVM_RUN returns at once.
 */
bool kvm_dirty_throttle_interrupted(CPUState *cpu)
{
    KVMDirtyVcpu *d = cpu->kvm_dirty;
    bool left = qatomic_xchg(&d->leave_due, false);

    if (d->timer_armed && get_clock() >= d->look_at_ns) {
        qatomic_set(&d->look_due, true);
    }
    return (left || qatomic_read(&d->look_due)) &&
           !qatomic_read(&cpu->thread_kicked) &&
           !qatomic_read(&cpu->exit_request);
}

/* Called under kvm_slots_lock(), which keeps the thread from going away. */
static void kvm_dirty_throttle_kick(KVMDirtyVcpu *d)
{
    qatomic_set(&d->look_due, true);
    pthread_kill(d->cpu->thread->thread, SIG_IPI);
}

static void kvm_dirty_throttle_look_all(void)
{
    KVMDirtyVcpu *d;

    kvm_slots_lock();
    kvm_dirty_tracking.charging = true;
    kvm_dirty_quota_start(kvm_state);
    QLIST_FOREACH(d, &kvm_dirty_tracking.vcpus, next) {
        if (dirty_throttle_charge(d->cpu->cpu_index, kvm_dirty_look(d)) &&
            !qatomic_read(&d->look_due) && !qatomic_read(&d->timer_armed) &&
            !qatomic_read(&d->paying)) {
            kvm_dirty_throttle_kick(d);
        }
    }
    kvm_slots_unlock();
}

static void kvm_dirty_throttle_wake_all(void)
{
    KVMDirtyVcpu *d;

    kvm_slots_lock();
    QLIST_FOREACH(d, &kvm_dirty_tracking.vcpus, next) {
        if (qatomic_read(&d->paying) &&
            get_clock() + dirty_throttle_penalty(d->cpu->cpu_index) <
            d->paying_until_ns - WAKE_MIN_NS) {
            kvm_dirty_throttle_kick(d);
        }
    }
    kvm_slots_unlock();
}

static void kvm_dirty_throttle_rest(void)
{
    kvm_slots_lock();
    kvm_dirty_quota_stop(kvm_state);
    kvm_slots_unlock();
    kvm_dirty_charge_stop(kvm_state);
}

static void kvm_dirty_throttle_query_reaper(DirtyReaperInfo *info)
{
    kvm_slots_lock();
    *info = kvm_dirty_tracking.reaped;
    kvm_slots_unlock();
}

void kvm_dirty_throttle_init(KVMState *s)
{
    static DirtyThrottleOps ops = {
        .look = kvm_dirty_throttle_look_all,
        .wake = kvm_dirty_throttle_wake_all,
        .rest = kvm_dirty_throttle_rest,
        .new_epoch = kvm_dirty_epoch,
        .query_reaper = kvm_dirty_throttle_query_reaper,
    };

    if (!s->kvm_dirty_ring_size && !kvm_dirty_tracking.can_quota) {
        return;
    }
    ops.ring_pages = s->kvm_dirty_ring_size;
    ops.has_quota = kvm_dirty_tracking.can_quota;
    dirty_throttle_register(&ops);
}
