/*
 * Dirty page rate limits of vCPUs, set by command
 *
 * The commands only check and translate; the dirty throttle does the work.
 *
 * Copyright (c) 2022 CHINA TELECOM CO.,LTD.
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * Authors:
 *  Hyman Huang(黄勇) <huangy81@chinatelecom.cn>
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-migration.h"
#include "qapi/qmp/qdict.h"
#include "qapi/qmp/qerror.h"
#include "hw/boards.h"
#include "migration/dirty-throttle.h"
#include "migration/misc.h"
#include "monitor/hmp.h"
#include "monitor/monitor.h"

/* Called with the BQL held, like everything in this file. */
static int dirtylimit_max_cpus(void)
{
    return MACHINE(qdev_get_machine())->smp.max_cpus;
}

/* Whether a command may touch the limit of a vCPU, or of all of them. */
static bool dirtylimit_check(bool has_cpu_index, int64_t cpu_index,
                             const char *verb, Error **errp)
{
    if (has_cpu_index && (cpu_index < 0 ||
                          cpu_index >= dirtylimit_max_cpus())) {
        error_setg(errp, "incorrect cpu index specified: %" PRId64
                   " is not in the range 0 to %d", cpu_index,
                   dirtylimit_max_cpus() - 1);
        return false;
    }
    if (dirty_throttle_migration_limits()) {
        error_setg(errp, "can't %s dirty page rate limit while"
                   " migration is running", verb);
        return false;
    }
    return true;
}

static void dirtylimit_set(bool has_cpu_index, int64_t cpu_index,
                           uint64_t limit_mbps, Error **errp)
{
    int first = has_cpu_index ? cpu_index : 0;
    int last = has_cpu_index ? cpu_index : dirtylimit_max_cpus() - 1;

    /* Only the first limit of all can fail, so all are set, or none. */
    for (int i = first; i <= last; i++) {
        if (!dirty_throttle_set_limit(i, limit_mbps, errp)) {
            return;
        }
    }
}

void qmp_set_vcpu_dirty_limit(bool has_cpu_index, int64_t cpu_index,
                              uint64_t dirty_rate, Error **errp)
{
    if (!dirty_throttle_available()) {
        error_setg(errp, "dirty page limit feature requires KVM with"
                   " accelerator property 'dirty-ring-size' set");
        return;
    }
    if (dirty_rate > DIRTY_LIMIT_MAX_MBPS) {
        error_setg(errp, QERR_INVALID_PARAMETER_VALUE, "dirty-rate",
                   "a value between 0 and 4294967296 (MB/s)");
        return;
    }
    /* 0 cancels the limit. */
    if (dirtylimit_check(has_cpu_index, cpu_index, "set", errp)) {
        dirtylimit_set(has_cpu_index, cpu_index, dirty_rate, errp);
    }
}

void qmp_cancel_vcpu_dirty_limit(bool has_cpu_index, int64_t cpu_index,
                                 Error **errp)
{
    /* Where no limit can be set, none is to be cancelled. */
    if (!dirty_throttle_available()) {
        return;
    }
    if (dirtylimit_check(has_cpu_index, cpu_index, "cancel", errp)) {
        dirtylimit_set(has_cpu_index, cpu_index, 0, errp);
    }
}

/* MB/s for machines: an integer, but nothing that is there is shown as 0. */
static uint64_t dirtylimit_pps_to_mbps(uint64_t pps)
{
    uint64_t bytes = pps * qemu_real_host_page_size();

    return bytes < MiB ? bytes != 0 : (bytes + MiB / 2) / MiB;
}

DirtyLimitInfoList *qmp_query_vcpu_dirty_limit(Error **errp)
{
    DirtyLimitInfoList *head = NULL, **tail = &head;

    if (!dirty_throttle_available()) {
        return NULL;
    }
    for (int i = 0; i < dirtylimit_max_cpus(); i++) {
        DirtyThrottleVcpuInfo vcpu;
        DirtyLimitInfo *info;

        dirty_throttle_query_vcpu(i, &vcpu);
        if (!vcpu.limit_mbps) {
            continue;
        }
        info = g_new0(DirtyLimitInfo, 1);
        info->cpu_index = i;
        info->limit_rate = vcpu.limit_mbps;
        info->current_rate = dirtylimit_pps_to_mbps(vcpu.rate_pps);
        QAPI_LIST_APPEND(tail, info);
    }
    return head;
}

/* Of a person all vCPUs are number -1 as well. */
static int64_t dirtylimit_hmp_cpu_index(const QDict *qdict)
{
    return qdict_get_try_int(qdict, "cpu_index", -1);
}

/* Tell a person what is next. */
static void dirtylimit_hint(Monitor *mon, Error *err)
{
    if (!hmp_handle_error(mon, err)) {
        monitor_printf(mon, "[Please use 'info vcpu_dirty_limit' to query "
                       "dirty limit for virtual CPU]\n");
    }
}

void hmp_set_vcpu_dirty_limit(Monitor *mon, const QDict *qdict)
{
    Error *err = NULL;
    int64_t dirty_rate = qdict_get_int(qdict, "dirty_rate");
    int64_t cpu_index = dirtylimit_hmp_cpu_index(qdict);

    if (dirty_rate < 0) {
        error_setg(&err, QERR_INVALID_PARAMETER_VALUE, "dirty_rate",
                   "a value between 0 and 4294967296 (MB/s)");
    } else {
        qmp_set_vcpu_dirty_limit(cpu_index != -1, cpu_index, dirty_rate, &err);
    }
    dirtylimit_hint(mon, err);
}

void hmp_cancel_vcpu_dirty_limit(Monitor *mon, const QDict *qdict)
{
    int64_t cpu_index = dirtylimit_hmp_cpu_index(qdict);
    Error *err = NULL;

    qmp_cancel_vcpu_dirty_limit(cpu_index != -1, cpu_index, &err);
    dirtylimit_hint(mon, err);
}

void hmp_info_vcpu_dirty_limit(Monitor *mon, const QDict *qdict)
{
    bool any = false;

    for (int i = 0; dirty_throttle_available() && i < dirtylimit_max_cpus();
         i++) {
        DirtyThrottleVcpuInfo vcpu;

        dirty_throttle_query_vcpu(i, &vcpu);
        if (!vcpu.limit_mbps) {
            continue;
        }
        any = true;
        monitor_printf(mon, "vcpu[%d], limit rate %" PRIu64 " (MB/s),"
                       " current rate %.2f (MB/s)\n", i, vcpu.limit_mbps,
                       (double)vcpu.rate_pps * qemu_real_host_page_size() /
                       MiB);
    }
    if (!any) {
        monitor_printf(mon, "Dirty page limit not enabled!\n");
    }
}
