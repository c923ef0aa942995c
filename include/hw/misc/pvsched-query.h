/*
 * pvsched: what the monitor asks the device
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_MISC_PVSCHED_QUERY_H
#define HW_MISC_PVSCHED_QUERY_H

#include "hw/pci/pci.h"
#include "qapi/qapi-types-pvsched.h"
#include "qom/object.h"

#define TYPE_PVSCHED "pvsched"

OBJECT_DECLARE_TYPE(PVSchedState, PVSchedClass, PVSCHED)

struct PVSchedClass {
    PCIDeviceClass parent_class;

    PvschedInfo *(*query)(PVSchedState *s);
};

#endif
