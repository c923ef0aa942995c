/*
 * pvsched: what the device and a guest's driver have in common
 *
 * Registers of BAR 0 and the line of each vCPU, little endian all of it.  A
 * guest includes this file as it is; docs/specs/pvsched.rst explains it.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_MISC_PVSCHED_ABI_H
#define HW_MISC_PVSCHED_ABI_H

/* 0x10f0..0x10ff of this vendor are for experiments: one must be allotted. */
#define PVSCHED_PCI_VENDOR              0x1af4
#define PVSCHED_PCI_DEVICE              0x10f0
#define PVSCHED_PCI_REVISION            1

/* Registers of 32 bits */
#define PVSCHED_REG_VERSION             0x00    /* ro: PVSCHED_VERSION */
#define PVSCHED_REG_FEATURES            0x04    /* ro: PVSCHED_F_* */
#define PVSCHED_REG_DRIVER_FEATURES     0x08    /* rw: those in use */
#define PVSCHED_REG_VCPUS               0x0c    /* ro: number of windows */
#define PVSCHED_REG_SELF                0x10    /* ro: window of the reader */

#define PVSCHED_VERSION                 1

#define PVSCHED_F_BOOST                 (1u << 0)
#define PVSCHED_F_WAIT                  (1u << 1)   /* penalties wait */

/* The window of vCPU n begins at PVSCHED_WINDOW(n). */
#define PVSCHED_WINDOWS                 0x1000
#define PVSCHED_WINDOW_SIZE             0x20
#define PVSCHED_WINDOW(n)               (PVSCHED_WINDOWS + \
                                         (n) * PVSCHED_WINDOW_SIZE)

/* Registers of a window.  Writing the high half registers the line. */
#define PVSCHED_WIN_LINE_LO             0x00    /* rw */
#define PVSCHED_WIN_LINE_HI             0x04    /* rw; address 0: no line */
#define PVSCHED_WIN_STATUS              0x08    /* ro: PVSCHED_STATUS_* */
#define PVSCHED_WIN_DOORBELL            0x0c    /* wo: look at my line now */

#define PVSCHED_STATUS_NONE             0
#define PVSCHED_STATUS_REGISTERED       1
#define PVSCHED_STATUS_UNALIGNED        2
#define PVSCHED_STATUS_NOT_RAM          3
#define PVSCHED_STATUS_OVERLAP          4
#define PVSCHED_STATUS_NO_VCPU          5

/* The line: aligned to its size, in RAM.  Offsets of its fields: */
#define PVSCHED_LINE_SIZE               64
#define PVSCHED_LINE_REQUEST            0   /* 64 bits, written by the guest */
#define PVSCHED_LINE_STATE              8   /* 32 bits, as all that follow */
#define PVSCHED_LINE_CRITICAL_US        12  /* boost left for critical work */
#define PVSCHED_LINE_RT_US              16  /* boost left for RT tasks */
#define PVSCHED_LINE_WAIT_US            20  /* so long penalties may wait */

/*
 * The request, one store of 64 bits: activities in bits 0-7, a number in bits
 * 16-31 that is one more with each new request, and in bits 32-63 for how many
 * microseconds at most.
 */
#define PVSCHED_REQ_INTERRUPT           (1u << 0)
#define PVSCHED_REQ_SOFTIRQ             (1u << 1)
#define PVSCHED_REQ_NO_PREEMPT          (1u << 2)   /* or holds a spinlock */
#define PVSCHED_REQ_RT_RUNNING          (1u << 3)
#define PVSCHED_REQ_RT_WAITING          (1u << 4)   /* for the next wakeup */

#define PVSCHED_REQ_CRITICAL            0x07u
#define PVSCHED_REQ_RT                  0x18u
#define PVSCHED_REQ_ACTIVITIES          0x1fu

#define PVSCHED_REQ_SEQ_SHIFT           16
#define PVSCHED_REQ_SEQ_MASK            0xffffu
#define PVSCHED_REQ_US_SHIFT            32

/* The state, written by the host */
#define PVSCHED_STATE_BOOSTED           (1u << 0)
#define PVSCHED_STATE_PENALTY           (1u << 1)   /* one waits */
#define PVSCHED_STATE_REFUSED           (1u << 2)   /* asks in vain */

/* The longest boost for one request, and the longest that a penalty waits */
#define PVSCHED_CRITICAL_MAX_US         2000u
#define PVSCHED_RT_MAX_US               500000u
#define PVSCHED_WAIT_MAX_US             2000u

#endif
