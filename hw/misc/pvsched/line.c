/*
 * pvsched: the line of a vCPU, in the guest's RAM
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bswap.h"
#include "exec/address-spaces.h"
#include "hw/pci/pci.h"
#include "hw/misc/pvsched-abi.h"
#include "line.h"

/*
 * RAM of PCI devices is not there yet when lines are registered at a
 * migration's destination; and virtio-mem lends and takes back RAM without a
 * word.
 */
static bool comes_and_goes(MemoryRegion *mr)
{
    Object *owner = memory_region_owner(mr);

    return memory_region_has_ram_discard_manager(mr) ||
           (owner && object_dynamic_cast(owner, TYPE_PCI_DEVICE));
}

bool pvsched_ram_get(hwaddr addr, PVSchedRam *ram)
{
    MemoryRegionSection section = memory_region_find(get_system_memory(), addr,
                                                     PVSCHED_LINE_SIZE);

    *ram = (PVSchedRam) { .mr = section.mr };
    if (!section.mr) {
        return false;
    }
    if (!memory_region_is_ram(section.mr) ||
        memory_region_is_ram_device(section.mr) ||
        memory_region_is_romd(section.mr) || section.mr->readonly ||
        section.readonly || comes_and_goes(section.mr) ||
        int128_get64(section.size) != PVSCHED_LINE_SIZE) {
        pvsched_ram_put(ram);
        return false;
    }
    ram->offset = section.offset_within_region;
    ram->host = memory_region_get_ram_ptr(section.mr) + ram->offset;
    return true;
}

void pvsched_ram_put(PVSchedRam *ram)
{
    if (ram->mr) {
        memory_region_unref(ram->mr);
    }
    *ram = (PVSchedRam) { };
}

/*
 * One load where the host has it.  Else halves of two requests may meet, which
 * is one more request that makes no sense, and judged like any.
 */
uint64_t pvsched_ram_request(const uint8_t *host)
{
    return le64_to_cpu(qatomic_read_u64(
        (const uint64_t *)(host + PVSCHED_LINE_REQUEST)));
}

static bool tell_32(uint8_t *host, unsigned field, uint32_t value)
{
    uint32_t *at = (uint32_t *)(host + field);

    value = cpu_to_le32(value);
    if (qatomic_read(at) == value) {
        return false;
    }
    qatomic_set(at, value);
    return true;
}

/*
 * Nothing else in the line depends on the order.  Memory is marked dirty after
 * it was written: a migration that clears the mark before sends what is new.
 */
void pvsched_ram_tell(PVSchedRam *ram, const PVSchedLine *line)
{
    bool changed = false;

    changed |= tell_32(ram->host, PVSCHED_LINE_CRITICAL_US, line->critical_us);
    changed |= tell_32(ram->host, PVSCHED_LINE_RT_US, line->rt_us);
    changed |= tell_32(ram->host, PVSCHED_LINE_WAIT_US, line->wait_us);
    changed |= tell_32(ram->host, PVSCHED_LINE_STATE, line->state);
    if (changed) {
        memory_region_set_dirty(ram->mr, ram->offset, PVSCHED_LINE_SIZE);
    }
}
