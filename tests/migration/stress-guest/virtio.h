/*
 * Stress guest: virtio devices, as virtio 0.9 and Linux 2.6 had them
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef VIRTIO_H
#define VIRTIO_H

#include <stdbool.h>
#include <stdint.h>

#include "layout.h"

#define VIRTIO_DISK 0x1001
#define VIRTIO_BALLOON 0x1002

/* The device's own registers come after those that all have */
#define VIRTIO_CONFIG 0x14

#define MAX_DESCRIPTORS 256

typedef struct Descriptor {
    uint64_t address;
    uint32_t size;
    uint16_t flags;
    uint16_t next;
} Descriptor;

/* What driver and device share; the device may want less of it */
typedef struct Ring {
    uint8_t pages[3][PAGE_SIZE];
} __attribute__((aligned(PAGE_SIZE))) Ring;

/* A queue with at most one request in it */
typedef struct Queue {
    uint16_t port;              /* of the device */
    uint16_t index;
    uint16_t size;
    uint16_t requests;          /* sent so far, as the ring counts them */
    Ring ring;
} Queue;

/* A piece of memory that takes part in a request */
typedef struct Part {
    const void *start;
    uint32_t size;
    bool device_writes;
} Part;

/*
 * At CPL 0: find the device with PCI id @id, put its registers to @port and
 * reset it. Stops the guest if there is none.
 */
void virtio_init(uint16_t id, uint16_t port);

/* At CPL 0: set up queue @index of the device at @port */
void virtio_init_queue(Queue *queue, uint16_t port, uint16_t index);

/* At CPL 0: let it work */
void virtio_start(uint16_t port);

/* Send a request of @number parts, and wait until the device has done it */
void virtio_request(Queue *queue, const Part *parts, unsigned number);

#endif /* VIRTIO_H */
