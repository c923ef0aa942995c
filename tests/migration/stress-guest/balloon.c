/*
 * Stress guest: a balloon, with which the host takes memory away
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "balloon.h"
#include "cpu.h"
#include "layout.h"
#include "page.h"
#include "virtio.h"

/* 64 ports, within those that CPL 3 may use */
#define BALLOON_PORT 0x280

#define REG_WANTED (BALLOON_PORT + VIRTIO_CONFIG)
#define REG_GIVEN (BALLOON_PORT + VIRTIO_CONFIG + 4)

/* As many as Linux gives or takes in one go */
#define MAX_PAGES 256

/* To ask the host is an exit, so not with each page */
#define ASK_EVERY (64 * PAGE_SIZE)

static Queue give_queue;
static Queue take_queue;
static uint32_t numbers[MAX_PAGES];
static uint64_t given;

void balloon_init(void)
{
    virtio_init(VIRTIO_BALLOON, BALLOON_PORT);
    virtio_init_queue(&give_queue, BALLOON_PORT, 0);
    virtio_init_queue(&take_queue, BALLOON_PORT, 1);
    virtio_start(BALLOON_PORT);
}

static uint64_t min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Tell the host about @number pages, and how many it has then */
static void tell(Queue *queue, uint64_t first, uint64_t number,
                 uint64_t given_then)
{
    const Part part = { numbers, number * sizeof(numbers[0]), false };

    for (uint64_t i = 0; i < number; i++) {
        numbers[i] = (first >> PAGE_SHIFT) + i;
    }
    virtio_request(queue, &part, 1);
    given = given_then;
    outl(REG_GIVEN, given);
}

bool balloon_has(uint64_t at)
{
    return at < given * PAGE_SIZE;
}

void balloon_adjust(const VcpuConfig *vcpu, uint64_t at, uint32_t pass)
{
    uint64_t wanted;

    if (at % ASK_EVERY) {
        return;
    }
    wanted = min(inl(REG_WANTED), vcpu->size / PAGE_SIZE - 1);
    while (given < wanted) {
        uint64_t number = min(wanted - given, MAX_PAGES);

        tell(&give_queue, vcpu->start + given * PAGE_SIZE, number,
             given + number);
    }
    while (given > wanted) {
        uint64_t number = min(given - wanted, MAX_PAGES);
        uint64_t first = (given - number) * PAGE_SIZE;

        tell(&take_queue, vcpu->start + first, number, given - number);
        for (uint64_t i = first; i < first + number * PAGE_SIZE;
             i += PAGE_SIZE) {
            page_write(vcpu->start + i, i < at ? pass + 1 : pass);
        }
    }
}
