/*
 * pvsched: a guest tells which of its vCPUs do what cannot wait
 *
 * For each vCPU a window of registers, to register a line in the guest's RAM
 * that both sides read and write, and a doorbell.  docs/specs/pvsched.rst has
 * the guest's view.
 *
 * All of it happens under the BQL, except that a vCPU rings without it where
 * its accelerator knows how.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "exec/address-spaces.h"
#include "hw/boards.h"
#include "hw/misc/pvsched-abi.h"
#include "hw/misc/pvsched.h"
#include "hw/misc/pvsched-query.h"
#include "hw/pci/pci.h"
#include "migration/vmstate.h"
#include "sysemu/qtest.h"
#include "sysemu/runstate.h"
#include "pvsched/watch.h"
#include "trace.h"

#define CRITICAL_PERCENT 10
#define RT_PERCENT 50

/* The registers of a vCPU, as they migrate.  Under the BQL */
typedef struct PVSchedWindow {
    uint32_t line_lo;
    uint32_t line_hi;
    uint32_t status;
} PVSchedWindow;

/*
 * What vCPUs' threads may still have in their hands when the device goes away:
 * freed after a grace period.
 */
typedef struct PVSchedShared {
    struct rcu_head rcu;
    PVSchedCommon common;
    unsigned nr_vcpus;
    PVSchedVcpu vcpus[];
} PVSchedShared;

struct PVSchedState {
    PCIDevice parent_obj;
    MemoryRegion mmio;
    MemoryListener ram_listener;
    DeviceListener device_listener;
    VMChangeStateEntry *vm_change;
    PVSchedShared *shared;
    PVSchedWatch watch;
    uint32_t nr_vcpus;
    PVSchedWindow *windows;
    uint32_t driver_features;
    PVSchedRights rights;
    /* properties */
    bool boost;
    uint32_t percent[PVSCHED_KINDS];
};

/*
 * Boosts are allowed or forbidden for all vCPUs.  In the latter case no thread
 * is left other than it was: who takes the lock of a vCPU from now on sees
 * that boosts are off.
 */
static void pvsched_update(PVSchedState *s)
{
    PVSchedCommon *c = &s->shared->common;
    bool on = s->boost && runstate_is_running() &&
              s->rights.means != PVSCHED_BY_NOTHING &&
              s->driver_features & PVSCHED_F_BOOST;

    qatomic_set(&c->wait, !!(s->driver_features & PVSCHED_F_WAIT));
    if (on == qatomic_read(&c->on)) {
        return;
    }
    trace_pvsched_on(on);
    qatomic_set(&c->on, on);
    if (on) {
        pvsched_common_wake(c, 0);
        return;
    }
    for (unsigned i = 0; i < s->nr_vcpus; i++) {
        pvsched_vcpu_rest(&s->shared->vcpus[i]);
    }
}

/* What the process may do can change, so that is asked each time. */
static void pvsched_update_rights(PVSchedState *s)
{
    s->rights = (PVSchedRights) { };
    if (s->boost) {
        s->rights = pvsched_rights();
        if (s->rights.means == PVSCHED_BY_NOTHING) {
            warn_report_once("pvsched: no right to boost a vCPU (see "
                             "RLIMIT_RTPRIO, RLIMIT_NICE, CAP_SYS_NICE); "
                             "vCPUs stay as they are");
        }
    }
    pvsched_watch_set_rights(&s->watch, &s->rights);
    for (unsigned i = 0; i < s->nr_vcpus; i++) {
        pvsched_vcpu_set_rights(&s->shared->vcpus[i], &s->rights);
    }
}

static void pvsched_update_budgets(PVSchedState *s)
{
    for (int kind = 0; kind < PVSCHED_KINDS; kind++) {
        pvsched_watch_set_budget(&s->watch, kind, s->percent[kind]);
        for (unsigned i = 0; i < s->nr_vcpus; i++) {
            pvsched_vcpu_set_budget(&s->shared->vcpus[i], kind,
                                    s->percent[kind]);
        }
    }
}

static hwaddr window_addr(const PVSchedWindow *w)
{
    return (hwaddr)w->line_hi << 32 | w->line_lo;
}

/* Take back the line of vCPU @i, which may be gone itself. */
static void pvsched_drop(PVSchedState *s, unsigned i, uint32_t status)
{
    PVSchedVcpu *v = &s->shared->vcpus[i];

    if (pvsched_vcpu_registered(v)) {
        pvsched_vcpu_unregister(v);
    }
    s->windows[i].status = status;
}

/* An aligned line overlaps another one only if it is the same. */
static bool pvsched_overlaps(PVSchedState *s, unsigned i, hwaddr addr)
{
    for (unsigned other = 0; other < s->nr_vcpus; other++) {
        if (other != i &&
            pvsched_vcpu_registered(&s->shared->vcpus[other]) &&
            s->shared->vcpus[other].addr == addr) {
            return true;
        }
    }
    return false;
}

/* The thread that is scheduled has to be this vCPU's alone. */
static bool pvsched_own_thread(CPUState *cpu)
{
    CPUState *other;

    CPU_FOREACH(other) {
        if (other != cpu && other->thread_id == cpu->thread_id) {
            return false;
        }
    }
    return cpu->thread && !cpu->unplug;
}

/* Register what the window of vCPU @i says.  Returns: the status */
static uint32_t pvsched_register(PVSchedState *s, unsigned i)
{
    hwaddr addr = window_addr(&s->windows[i]);
    CPUState *cpu = qemu_get_cpu(i);
    PVSchedRam ram;

    if (!addr) {
        return PVSCHED_STATUS_NONE;
    }
    if (!cpu || !pvsched_own_thread(cpu)) {
        return PVSCHED_STATUS_NO_VCPU;
    }
    if (addr % PVSCHED_LINE_SIZE) {
        return PVSCHED_STATUS_UNALIGNED;
    }
    if (pvsched_overlaps(s, i, addr)) {
        return PVSCHED_STATUS_OVERLAP;
    }
    if (!pvsched_ram_get(addr, &ram)) {
        return PVSCHED_STATUS_NOT_RAM;
    }
    pvsched_vcpu_register(&s->shared->vcpus[i], cpu, addr, &ram);
    return PVSCHED_STATUS_REGISTERED;
}

static uint64_t pvsched_read(void *opaque, hwaddr addr, unsigned size)
{
    PVSchedState *s = opaque;
    unsigned i = (addr - PVSCHED_WINDOWS) / PVSCHED_WINDOW_SIZE;

    switch (addr) {
    case PVSCHED_REG_VERSION:
        return PVSCHED_VERSION;
    case PVSCHED_REG_FEATURES:
        return PVSCHED_F_BOOST | PVSCHED_F_WAIT;
    case PVSCHED_REG_DRIVER_FEATURES:
        return s->driver_features;
    case PVSCHED_REG_VCPUS:
        return s->nr_vcpus;
    case PVSCHED_REG_SELF:
        return current_cpu ? current_cpu->cpu_index : 0;
    }
    if (addr < PVSCHED_WINDOWS || i >= s->nr_vcpus) {
        return 0;
    }
    switch (addr % PVSCHED_WINDOW_SIZE) {
    case PVSCHED_WIN_LINE_LO:
        return s->windows[i].line_lo;
    case PVSCHED_WIN_LINE_HI:
        return s->windows[i].line_hi;
    case PVSCHED_WIN_STATUS:
        return s->windows[i].status;
    }
    return 0;
}

static void pvsched_write(void *opaque, hwaddr addr, uint64_t value,
                          unsigned size)
{
    PVSchedState *s = opaque;
    unsigned i = (addr - PVSCHED_WINDOWS) / PVSCHED_WINDOW_SIZE;

    if (addr == PVSCHED_REG_DRIVER_FEATURES) {
        s->driver_features = value & (PVSCHED_F_BOOST | PVSCHED_F_WAIT);
        pvsched_update(s);
        return;
    }
    if (addr < PVSCHED_WINDOWS || i >= s->nr_vcpus) {
        return;
    }
    switch (addr % PVSCHED_WINDOW_SIZE) {
    case PVSCHED_WIN_LINE_LO:
        s->windows[i].line_lo = value;
        break;
    case PVSCHED_WIN_LINE_HI:
        s->windows[i].line_hi = value;
        pvsched_drop(s, i, PVSCHED_STATUS_NONE);
        s->windows[i].status = pvsched_register(s, i);
        break;
    case PVSCHED_WIN_DOORBELL:
        /* With KVM, vcpu_rang() is first.  A test has no vCPU that runs. */
        if (current_cpu ? current_cpu->cpu_index == i : qtest_enabled()) {
            pvsched_vcpu_ring(&s->shared->vcpus[i]);
        }
        break;
    }
}

static const MemoryRegionOps pvsched_ops = {
    .read = pvsched_read,
    .write = pvsched_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid.min_access_size = 4,
    .valid.max_access_size = 4,
    .impl.min_access_size = 4,
    .impl.max_access_size = 4,
};

/* Where the guest finds the registers now, 0: nowhere */
static hwaddr pvsched_where(PVSchedState *s)
{
    pcibus_t addr = pci_get_bar_addr(PCI_DEVICE(s), 0);
    MemoryRegionSection section;

    if (addr == PCI_BAR_UNMAPPED) {
        return 0;
    }
    section = memory_region_find(get_system_memory(), addr + PVSCHED_WINDOWS,
                                 s->nr_vcpus * PVSCHED_WINDOW_SIZE);
    if (!section.mr) {
        return 0;
    }
    memory_region_unref(section.mr);
    return section.mr == &s->mmio ? addr : 0;
}

/* Lines stay where their RAM is; those whose RAM went or moved are no more. */
static void pvsched_ram_changed(MemoryListener *listener)
{
    PVSchedState *s = container_of(listener, PVSchedState, ram_listener);

    qatomic_set_u64(&s->shared->common.registers, pvsched_where(s));
    for (unsigned i = 0; i < s->nr_vcpus; i++) {
        PVSchedVcpu *v = &s->shared->vcpus[i];
        PVSchedRam ram;

        if (!pvsched_vcpu_registered(v)) {
            continue;
        }
        if (!pvsched_ram_get(v->addr, &ram) || ram.host != v->ram.host) {
            pvsched_drop(s, i, PVSCHED_STATUS_NOT_RAM);
        }
        pvsched_ram_put(&ram);
    }
}

/*
 * A vCPU may have been unplugged.  Then it has no number any more, and its
 * thread is gone, which system calls on it have told since.  It could not
 * register again.
 */
static void pvsched_device_gone(DeviceListener *listener, DeviceState *dev)
{
    PVSchedState *s = container_of(listener, PVSchedState, device_listener);

    if (!object_dynamic_cast(OBJECT(dev), TYPE_CPU)) {
        return;
    }
    for (unsigned i = 0; i < s->nr_vcpus; i++) {
        if (pvsched_vcpu_registered(&s->shared->vcpus[i]) && !qemu_get_cpu(i)) {
            pvsched_drop(s, i, PVSCHED_STATUS_NO_VCPU);
        }
    }
}

static void pvsched_vm_changed(void *opaque, bool running, RunState state)
{
    pvsched_update(opaque);
}

static void pvsched_reset(DeviceState *dev)
{
    PVSchedState *s = PVSCHED(dev);

    s->driver_features = 0;
    pvsched_update(s);
    for (unsigned i = 0; i < s->nr_vcpus; i++) {
        pvsched_drop(s, i, PVSCHED_STATUS_NONE);
        s->windows[i].line_lo = 0;
        s->windows[i].line_hi = 0;
    }
}

static void pvsched_realize(PCIDevice *pci, Error **errp)
{
    PVSchedState *s = PVSCHED(pci);
    uint64_t size;
    bool ambiguous;

    object_resolve_path_type("", TYPE_PVSCHED, &ambiguous);
    if (ambiguous) {
        error_setg(errp, "there is a " TYPE_PVSCHED " already");
        return;
    }
    s->nr_vcpus = MACHINE(qdev_get_machine())->smp.max_cpus;
    s->windows = g_new0(PVSchedWindow, s->nr_vcpus);
    s->shared = g_malloc0(sizeof(*s->shared) +
                          s->nr_vcpus * sizeof(s->shared->vcpus[0]));
    s->shared->nr_vcpus = s->nr_vcpus;
    s->shared->common.hooks = g_new0(PVSchedHooks *, s->nr_vcpus);
    qemu_sem_init(&s->shared->common.wake, 0);
    for (unsigned i = 0; i < s->nr_vcpus; i++) {
        pvsched_vcpu_init(&s->shared->vcpus[i], &s->shared->common, i);
    }
    pvsched_watch_start(&s->watch, &s->shared->common, s->shared->vcpus,
                        s->nr_vcpus);
    pvsched_update_rights(s);
    pvsched_update_budgets(s);

    s->ram_listener = (MemoryListener) {
        .name = TYPE_PVSCHED,
        .commit = pvsched_ram_changed,
    };
    memory_listener_register(&s->ram_listener, &address_space_memory);
    s->device_listener.unrealize = pvsched_device_gone;
    device_listener_register(&s->device_listener);
    s->vm_change = qdev_add_vm_change_state_handler(DEVICE(pci),
                                                    pvsched_vm_changed, s);

    size = pow2ceil(PVSCHED_WINDOW(s->nr_vcpus));
    memory_region_init_io(&s->mmio, OBJECT(s), &pvsched_ops, s, TYPE_PVSCHED,
                          size);
    pci_register_bar(pci, 0, PCI_BASE_ADDRESS_SPACE_MEMORY, &s->mmio);
    qatomic_rcu_set(&pvsched_hooks, s->shared->common.hooks);
}

static void pvsched_free(PVSchedShared *shared)
{
    for (unsigned i = 0; i < shared->nr_vcpus; i++) {
        pvsched_vcpu_destroy(&shared->vcpus[i]);
    }
    qemu_sem_destroy(&shared->common.wake);
    g_free(shared->common.hooks);
    g_free(shared);
}

/*
 * First nobody can register a line any more, then nobody boosts, then nobody
 * finds the vCPUs; who has found one before finds it without a line.
 */
static void pvsched_exit(PCIDevice *pci)
{
    PVSchedState *s = PVSCHED(pci);

    qemu_del_vm_change_state_handler(s->vm_change);
    device_listener_unregister(&s->device_listener);
    memory_listener_unregister(&s->ram_listener);
    pvsched_reset(DEVICE(pci));
    pvsched_watch_stop(&s->watch);
    qatomic_set(&pvsched_hooks, NULL);
}

static void pvsched_finalize(Object *obj)
{
    PVSchedState *s = PVSCHED(obj);

    /* Registers could be read and written until now. */
    if (s->shared) {
        call_rcu(s->shared, pvsched_free, rcu);
    }
    g_free(s->windows);
}

/* COLO loads into a VM that runs, others into one that was reset. */
static int pvsched_pre_load(void *opaque)
{
    pvsched_reset(opaque);
    return 0;
}

static int pvsched_post_load(void *opaque, int version_id)
{
    PVSchedState *s = opaque;

    if (s->driver_features & ~(PVSCHED_F_BOOST | PVSCHED_F_WAIT)) {
        error_report("pvsched: features 0x%x are not there",
                     s->driver_features);
        return -EINVAL;
    }
    for (unsigned i = 0; i < s->nr_vcpus; i++) {
        uint32_t status = s->windows[i].status;

        if (status > PVSCHED_STATUS_NO_VCPU) {
            error_report("pvsched: vCPU %u has status %u", i, status);
            return -EINVAL;
        }
        if (status != PVSCHED_STATUS_REGISTERED) {
            continue;
        }
        s->windows[i].status = pvsched_register(s, i);
        if (s->windows[i].status != PVSCHED_STATUS_REGISTERED) {
            error_report("pvsched: vCPU %u cannot have its line at 0x%"
                         HWADDR_PRIx " (status %u)", i,
                         window_addr(&s->windows[i]), s->windows[i].status);
            return -EINVAL;
        }
    }
    pvsched_update(s);
    return 0;
}

static const VMStateDescription vmstate_pvsched_window = {
    .name = TYPE_PVSCHED "/window",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (VMStateField[]) {
        VMSTATE_UINT32(line_lo, PVSchedWindow),
        VMSTATE_UINT32(line_hi, PVSchedWindow),
        VMSTATE_UINT32(status, PVSchedWindow),
        VMSTATE_END_OF_LIST()
    }
};

static const VMStateDescription vmstate_pvsched = {
    .name = TYPE_PVSCHED,
    .version_id = 1,
    .minimum_version_id = 1,
    .pre_load = pvsched_pre_load,
    .post_load = pvsched_post_load,
    .fields = (VMStateField[]) {
        VMSTATE_PCI_DEVICE(parent_obj, PVSchedState),
        VMSTATE_UINT32(driver_features, PVSchedState),
        VMSTATE_UINT32_EQUAL(nr_vcpus, PVSchedState, "pvsched: maxcpus"),
        VMSTATE_STRUCT_VARRAY_POINTER_UINT32(windows, PVSchedState, nr_vcpus,
                                             vmstate_pvsched_window,
                                             PVSchedWindow),
        VMSTATE_END_OF_LIST()
    }
};

static PvschedVcpuInfo *pvsched_query_vcpu(PVSchedState *s, unsigned i)
{
    PVSchedVcpu *v = &s->shared->vcpus[i];
    PVSchedVcpuState state = pvsched_vcpu_state(v);
    PvschedVcpuInfo *info = g_new0(PvschedVcpuInfo, 1);

    info->cpu_index = i;
    info->registered = pvsched_vcpu_registered(v);
    /* Both enumerations are in the same order. */
    info->in_force = (PvschedForce)state.mode;
    info->requests = state.counters.requests;
    info->boosts = state.counters.boosts;
    info->refused = state.counters.refused;
    info->critical_time = state.counters.boosted_ns[PVSCHED_CRITICAL] / 1000;
    info->rt_time = state.counters.boosted_ns[PVSCHED_RT] / 1000;
    info->waits = state.counters.waits;
    info->waited_time = state.counters.waited_ns / 1000;
    return info;
}

static PvschedInfo *pvsched_query(PVSchedState *s)
{
    PvschedInfo *info = g_new0(PvschedInfo, 1);
    PvschedVcpuInfoList **tail = &info->vcpus;

    info->boost = s->boost;
    info->means = (PvschedMeans)s->rights.means;
    info->critical_budget = s->percent[PVSCHED_CRITICAL];
    info->rt_budget = s->percent[PVSCHED_RT];
    for (unsigned i = 0; i < s->nr_vcpus; i++) {
        if (qemu_get_cpu(i)) {
            QAPI_LIST_APPEND(tail, pvsched_query_vcpu(s, i));
        }
    }
    return info;
}

static bool pvsched_get_boost(Object *obj, Error **errp)
{
    return PVSCHED(obj)->boost;
}

static void pvsched_set_boost(Object *obj, bool value, Error **errp)
{
    PVSchedState *s = PVSCHED(obj);

    s->boost = value;
    if (DEVICE(obj)->realized) {
        pvsched_update_rights(s);
        pvsched_update(s);
    }
}

static void pvsched_get_percent(Object *obj, Visitor *v, const char *name,
                                void *opaque, Error **errp)
{
    visit_type_uint32(v, name,
                      &PVSCHED(obj)->percent[(uintptr_t)opaque], errp);
}

static void pvsched_set_percent(Object *obj, Visitor *v, const char *name,
                                void *opaque, Error **errp)
{
    PVSchedState *s = PVSCHED(obj);
    uint32_t percent;

    if (!visit_type_uint32(v, name, &percent, errp)) {
        return;
    }
    if (percent > 100) {
        error_setg(errp, "'%s' is a percentage, from 0 to 100", name);
        return;
    }
    s->percent[(uintptr_t)opaque] = percent;
    if (DEVICE(obj)->realized) {
        pvsched_update_budgets(s);
    }
}

static void pvsched_instance_init(Object *obj)
{
    PVSchedState *s = PVSCHED(obj);

    s->percent[PVSCHED_CRITICAL] = CRITICAL_PERCENT;
    s->percent[PVSCHED_RT] = RT_PERCENT;
}

static void pvsched_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    PCIDeviceClass *pc = PCI_DEVICE_CLASS(klass);

    pc->realize = pvsched_realize;
    pc->exit = pvsched_exit;
    pc->vendor_id = PVSCHED_PCI_VENDOR;
    pc->device_id = PVSCHED_PCI_DEVICE;
    pc->revision = PVSCHED_PCI_REVISION;
    pc->class_id = PCI_CLASS_SYSTEM_OTHER;
    dc->desc = "vCPU priority that follows what the guest does";
    dc->vmsd = &vmstate_pvsched;
    dc->reset = pvsched_reset;
    PVSCHED_CLASS(klass)->query = pvsched_query;
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);

    object_class_property_add_bool(klass, "boost", pvsched_get_boost,
                                   pvsched_set_boost);
    object_class_property_set_description(
        klass, "boost", "Whether vCPUs are boosted at all");
    object_class_property_add(klass, "critical-budget", "uint32",
                              pvsched_get_percent, pvsched_set_percent,
                              NULL, (void *)(uintptr_t)PVSCHED_CRITICAL);
    object_class_property_set_description(
        klass, "critical-budget",
        "For how much of its time a vCPU may be boosted for critical work, %");
    object_class_property_add(klass, "rt-budget", "uint32",
                              pvsched_get_percent, pvsched_set_percent,
                              NULL, (void *)(uintptr_t)PVSCHED_RT);
    object_class_property_set_description(
        klass, "rt-budget",
        "For how much of its time a vCPU may be boosted for RT tasks, %");
}

static const TypeInfo pvsched_info = {
    .name = TYPE_PVSCHED,
    .parent = TYPE_PCI_DEVICE,
    .instance_size = sizeof(PVSchedState),
    .instance_init = pvsched_instance_init,
    .instance_finalize = pvsched_finalize,
    .class_size = sizeof(PVSchedClass),
    .class_init = pvsched_class_init,
    .interfaces = (InterfaceInfo[]) {
        { INTERFACE_CONVENTIONAL_PCI_DEVICE },
        { }
    },
};

static void pvsched_register_types(void)
{
    type_register_static(&pvsched_info);
}

type_init(pvsched_register_types);
