/*
 * pvsched: what the monitor tells, and where an accelerator finds the device
 *
 * In all emulators, also in those that cannot have it.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/misc/pvsched.h"
#include "hw/misc/pvsched-query.h"
#include "monitor/hmp.h"
#include "monitor/monitor.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-pvsched.h"

PVSchedHooks **pvsched_hooks;

PvschedInfo *qmp_query_pvsched(Error **errp)
{
    Object *obj = object_resolve_path_type("", TYPE_PVSCHED, NULL);

    if (!obj || !DEVICE(obj)->realized) {
        error_setg(errp, "there is no " TYPE_PVSCHED);
        return NULL;
    }
    return PVSCHED_GET_CLASS(obj)->query(PVSCHED(obj));
}

static void print_vcpu(Monitor *mon, const PvschedVcpuInfo *vcpu)
{
    monitor_printf(mon, "vcpu[%" PRIi64 "] %s, %s\n", vcpu->cpu_index,
                   vcpu->registered ? "registered" : "without a line",
                   PvschedForce_str(vcpu->in_force));
    monitor_printf(mon, "    requests %" PRIu64 ", boosts %" PRIu64
                   ", refused %" PRIu64 "\n",
                   vcpu->requests, vcpu->boosts, vcpu->refused);
    monitor_printf(mon, "    boosted %" PRIu64 " us critical, %" PRIu64
                   " us rt\n",
                   vcpu->critical_time, vcpu->rt_time);
    monitor_printf(mon, "    penalties that waited %" PRIu64 ", for %" PRIu64
                   " us\n", vcpu->waits, vcpu->waited_time);
}

void hmp_info_pvsched(Monitor *mon, const QDict *qdict)
{
    Error *err = NULL;
    g_autoptr(PvschedInfo) info = qmp_query_pvsched(&err);

    if (!info) {
        monitor_printf(mon, "%s\n", error_get_pretty(err));
        error_free(err);
        return;
    }
    monitor_printf(mon, "boost %s by %s, critical budget %" PRIi64
                   " %%, rt budget %" PRIi64 " %%\n",
                   info->boost ? "on" : "off", PvschedMeans_str(info->means),
                   info->critical_budget, info->rt_budget);
    for (PvschedVcpuInfoList *vcpu = info->vcpus; vcpu; vcpu = vcpu->next) {
        print_vcpu(mon, vcpu->value);
    }
}
