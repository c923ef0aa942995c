/*
 * Stress guest: a disk
 *
 * It serves to make a device write to the guest's memory, so a request that
 * fails is not looked at: the page is then found not to hold what it should.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "disk.h"
#include "layout.h"
#include "page.h"
#include "virtio.h"

/* 128 ports, within those that CPL 3 may use */
#define DISK_PORT 0x300

#define SECTOR_SIZE 512
/* So that not every page has to wait for the host; divides all regions */
#define REQUEST_SIZE (16 * PAGE_SIZE)
#define REQUEST_READ 0
#define REQUEST_WRITE 1

typedef struct Request {
    uint32_t type;
    uint32_t reserved;
    uint64_t sector;
} Request;

static Queue queue;
static uint8_t made[REQUEST_SIZE] __attribute__((aligned(PAGE_SIZE)));
static Request request;
static uint8_t status;

void disk_init(void)
{
    virtio_init(VIRTIO_DISK, DISK_PORT);
    virtio_init_queue(&queue, DISK_PORT, 0);
    virtio_start(DISK_PORT);
}

static void transfer(uint32_t type, uint64_t offset, const void *pages)
{
    const Part parts[] = {
        { &request, sizeof(request), false },
        { pages, REQUEST_SIZE, type == REQUEST_READ },
        { &status, sizeof(status), true },
    };

    request = (Request) { .type = type, .sector = offset / SECTOR_SIZE };
    virtio_request(&queue, parts, sizeof(parts) / sizeof(parts[0]));
}

void disk_write(uint64_t start, uint64_t offset, uint32_t pass)
{
    uint64_t first = offset & -(uint64_t)REQUEST_SIZE;

    page_make((uintptr_t)made + (offset - first), start + offset, pass);
    if (offset + PAGE_SIZE - first == REQUEST_SIZE) {
        transfer(REQUEST_WRITE, first, made);
        transfer(REQUEST_READ, first, (void *)(uintptr_t)(start + first));
    }
}
