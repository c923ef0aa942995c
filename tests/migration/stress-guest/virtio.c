/*
 * Stress guest: virtio devices, as virtio 0.9 and Linux 2.6 had them
 *
 * That interface needs nothing but I/O ports and memory, so it works at CPL 3.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "console.h"
#include "cpu.h"
#include "pci.h"
#include "virtio.h"

#define VIRTIO_VENDOR 0x1af4
#define BAR_REGISTERS 0

#define REG_GUEST_FEATURES 0x04
#define REG_QUEUE_PAGE 0x08
#define REG_QUEUE_SIZE 0x0c
#define REG_QUEUE_SELECT 0x0e
#define REG_QUEUE_NOTIFY 0x10
#define REG_STATUS 0x12

#define STATUS_FOUND 1
#define STATUS_DRIVER 2
#define STATUS_READY 4

#define DESCRIPTOR_NEXT 1
#define DESCRIPTOR_DEVICE_WRITES 2
#define AVAILABLE_NO_INTERRUPT 1

/* Where the three parts of a ring are; the last begins a page of its own */
typedef struct Available {
    uint16_t flags;
    uint16_t index;
    uint16_t heads[];
} Available;

typedef struct Used {
    uint16_t flags;
    uint16_t index;
} Used;

static Descriptor *descriptors(Queue *queue)
{
    return (Descriptor *)&queue->ring;
}

static Available *available(Queue *queue)
{
    return (Available *)(descriptors(queue) + queue->size);
}

static Used *used(Queue *queue)
{
    uintptr_t end = (uintptr_t)&available(queue)->heads[queue->size + 1];

    return (Used *)((end + PAGE_SIZE - 1) & -PAGE_SIZE);
}

void virtio_init(uint16_t id, uint16_t port)
{
    unsigned device = pci_find(VIRTIO_VENDOR, id);

    pci_write(device, PCI_BAR(BAR_REGISTERS), port);
    pci_write(device, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
    outb(port + REG_STATUS, 0);
    outb(port + REG_STATUS, STATUS_FOUND | STATUS_DRIVER);
    outl(port + REG_GUEST_FEATURES, 0);
}

void virtio_init_queue(Queue *queue, uint16_t port, uint16_t index)
{
    queue->port = port;
    queue->index = index;
    outw(port + REG_QUEUE_SELECT, index);
    queue->size = inw(port + REG_QUEUE_SIZE);
    if (!queue->size || queue->size > MAX_DESCRIPTORS) {
        fatal("virtio: queue %lu has %lu entries, only 1 to %lu work",
              (unsigned long)index, (unsigned long)queue->size,
              (unsigned long)MAX_DESCRIPTORS);
    }
    available(queue)->flags = AVAILABLE_NO_INTERRUPT;
    outl(port + REG_QUEUE_PAGE, (uintptr_t)&queue->ring >> PAGE_SHIFT);
}

void virtio_start(uint16_t port)
{
    outb(port + REG_STATUS, STATUS_FOUND | STATUS_DRIVER | STATUS_READY);
}

void virtio_request(Queue *queue, const Part *parts, unsigned number)
{
    Descriptor *table = descriptors(queue);
    Available *a = available(queue);

    for (unsigned i = 0; i < number; i++) {
        table[i] = (Descriptor) {
            .address = (uintptr_t)parts[i].start,
            .size = parts[i].size,
            .flags = (i + 1 < number ? DESCRIPTOR_NEXT : 0) |
                     (parts[i].device_writes ? DESCRIPTOR_DEVICE_WRITES : 0),
            .next = i + 1,
        };
    }
    a->heads[queue->requests % queue->size] = 0;
    queue->requests++;
    /* The device must not see the new index before what it stands for, ... */
    __atomic_store_n(&a->index, queue->requests, __ATOMIC_RELEASE);
    outw(queue->port + REG_QUEUE_NOTIFY, queue->index);
    /* ... nor we the result before it has been told to be there */
    while (__atomic_load_n(&used(queue)->index, __ATOMIC_ACQUIRE) !=
           queue->requests) {
        pause();
    }
}
