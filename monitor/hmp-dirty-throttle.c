/*
 * HMP: what "info migrate" and "info dirty_forecast" tell
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-migration.h"
#include "qapi/qmp/qdict.h"
#include "monitor/hmp.h"
#include "monitor/monitor.h"

static void hmp_print_forecast(Monitor *mon, const DirtyForecastInfo *f)
{
    monitor_printf(mon, "forecast with %s: ",
                   DirtyForecastStrategy_str(f->strategy));
    if (f->ends) {
        monitor_printf(mon, "ends after %" PRIu64 " ms", f->total_time);
    } else {
        monitor_printf(mon, "never ends");
    }
    if (f->has_least_time && f->has_most_time) {
        monitor_printf(mon, " (%" PRIu64 "..%" PRIu64 ")", f->least_time,
                       f->most_time);
    } else if (f->has_least_time) {
        monitor_printf(mon, " (%" PRIu64 "..never)", f->least_time);
    }
    if (f->ends) {
        monitor_printf(mon, ", downtime %" PRIu64 " ms, throttled %" PRIu64
                       " ms", f->downtime, f->throttled_time);
    }
    monitor_printf(mon, "%s\n", f->has_deadline_missed && f->deadline_missed ?
                                ", the deadline cannot be met" : "");
    for (DirtyForecastVcpuList *e = f->slowed; e; e = e->next) {
        if (e->value->has_cpu_index) {
            monitor_printf(mon, "  vcpu[%" PRId64 "]", e->value->cpu_index);
        } else {
            monitor_printf(mon, "  vcpus");
        }
        monitor_printf(mon, ": keeps %.1f %% of its work meanwhile\n",
                       e->value->share);
    }
}

void hmp_info_dirty_forecast(Monitor *mon, const QDict *qdict)
{
    int64_t bandwidth = qdict_get_try_int(qdict, "bandwidth", -1);
    g_autoptr(DirtyForecastReport) r = NULL;
    Error *err = NULL;

    r = qmp_query_dirty_forecast(bandwidth != -1, bandwidth, false, 0, &err);
    if (hmp_handle_error(mon, err)) {
        return;
    }
    monitor_printf(mon, "measured %" PRId64 " s ago, for %" PRIu64
                   " ms; memory in use %" PRIu64 " mbytes, link %" PRIu64
                   " MB/s\n", r->age, r->measured_time, r->memory >> 20,
                   r->bandwidth);
    for (DirtyDemandInfoList *e = r->demands; e; e = e->next) {
        if (e->value->has_cpu_index) {
            monitor_printf(mon, "vcpu[%" PRId64 "]", e->value->cpu_index);
        } else {
            monitor_printf(mon, "vcpus");
        }
        monitor_printf(mon, ": %.2f MB/s, write set %" PRIu64 " mbytes\n",
                       e->value->rate, e->value->write_set >> 20);
    }
    for (DirtyForecastInfoList *e = r->forecasts; e; e = e->next) {
        hmp_print_forecast(mon, e->value);
    }
}

static void hmp_print_phase(Monitor *mon, const DirtyThrottleInfo *info)
{
    monitor_printf(mon, "dirty throttle: %s, %s",
                   DirtyThrottleMode_str(info->mode),
                   DirtyThrottlePhase_str(info->phase));
    if (info->has_reason) {
        monitor_printf(mon, " (%s)", DirtyThrottleReason_str(info->reason));
    }
    monitor_printf(mon, " for %" PRIu64 " ms%s\n", info->phase_time,
                   info->fallback ? ", left to auto-converge" : "");
    if (!info->has_mechanism) {
        return;
    }
    monitor_printf(mon, "dirty throttle bandwidth: %.2f MB/s, budget %.2f,"
                   " devices %.2f\n", info->bandwidth, info->budget,
                   info->device_rate);
    if (info->has_pool) {
        monitor_printf(mon, "dirty throttle pool: %" PRIu64 " kbytes\n",
                       info->pool >> 10);
    }
    if (info->has_expected_time) {
        monitor_printf(mon, "dirty throttle expected time: %" PRIu64 " ms\n",
                       info->expected_time);
    }
    if (info->has_deadline_missed && info->deadline_missed) {
        monitor_printf(mon, "dirty throttle deadline: cannot be met");
        if (info->has_earliest_time) {
            monitor_printf(mon, ", earliest %" PRIu64 " ms",
                           info->earliest_time);
        }
        monitor_printf(mon, "\n");
    }
    if (info->forecast) {
        hmp_print_forecast(mon, info->forecast);
    }
}

static void hmp_print_change(Monitor *mon, const DirtyThrottleChange *c)
{
    monitor_printf(mon, "after %" PRIu64 " ms: %s", c->time,
                   DirtyThrottlePhase_str(c->phase));
    if (c->has_reason) {
        monitor_printf(mon, " (%s)", DirtyThrottleReason_str(c->reason));
    }
    monitor_printf(mon, "%s%s\n", c->fallback ? ", left to auto-converge" : "",
                   c->deadline_missed ? ", the deadline cannot be met" : "");
}

void hmp_print_dirty_throttle_record(Monitor *mon, const DirtyThrottleRecord *r)
{
    monitor_printf(mon, "dirty throttle: %s, over",
                   DirtyThrottleMode_str(r->mode));
    if (r->has_throttled_after) {
        monitor_printf(mon, ", throttled after %" PRIu64 " ms\n",
                       r->throttled_after);
    } else {
        monitor_printf(mon, ", never throttled\n");
    }
    for (DirtyThrottleChangeList *e = r->changes; e; e = e->next) {
        hmp_print_change(mon, e->value);
    }
    for (DirtyThrottleVcpuRecordList *e = r->vcpus; e; e = e->next) {
        DirtyThrottleVcpuRecord *v = e->value;

        monitor_printf(mon, "vcpu[%" PRId64 "]: penalties %" PRIu64 " (%" PRIu64
                       " ms, longest %" PRIu64 " ms)", v->cpu_index,
                       v->penalties, v->penalty_time, v->longest_penalty);
        if (v->has_lowest_rate) {
            monitor_printf(mon, ", lowest %.2f MB/s", v->lowest_rate);
        }
        monitor_printf(mon, "\n");
    }
}

void hmp_print_dirty_throttle(Monitor *mon, const DirtyThrottleInfo *info)
{
    if (info->phase != DIRTY_THROTTLE_PHASE_OFF) {
        hmp_print_phase(mon, info);
    }
    if (info->mode == DIRTY_THROTTLE_MODE_NONE && !info->reaper) {
        monitor_printf(mon, "dirty rings: none, adaptive-reaper has no"
                       " effect\n");
    }
    if (info->reaper) {
        DirtyReaperStats *r = info->reaper;

        monitor_printf(mon, "dirty rings: full %" PRIu64 " times, harvested %"
                       PRIu64 " times (%" PRIu64 " pages, %" PRIu64 " of them"
                       " new, %" PRIu64 " us), next look within %" PRIu64
                       " ms\n", info->ring_full_exits, r->reaps, r->pages,
                       r->new_pages, r->time, r->interval);
    }
    for (DirtyThrottleVcpuStatsList *e = info->vcpus; e; e = e->next) {
        DirtyThrottleVcpuStats *v = e->value;

        monitor_printf(mon, "vcpu[%" PRId64 "]: %.2f MB/s", v->cpu_index,
                       v->rate);
        if (v->has_limit) {
            monitor_printf(mon, ", limit %" PRIu64 " MB/s", v->limit);
        }
        if (v->has_quota) {
            monitor_printf(mon, ", quota %.2f MB/s", v->quota);
        }
        monitor_printf(mon, ", throttled %.0f %%, penalties %" PRIu64
                       " (%" PRIu64 " ms), debt %" PRIu64 " kbytes\n",
                       v->throttled, v->penalties, v->penalty_time,
                       v->debt >> 10);
    }
}
