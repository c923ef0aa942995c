/*
 * Stress guest: the serial port
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "console.h"
#include "counters.h"
#include "cpu.h"
#include "text.h"

#define SERIAL_PORT 0x3f8

/*
 * An emulated serial port takes a byte at once; asking first whether it is
 * ready would only double the number of exits.
 */
void console_putc(char c)
{
    outb(SERIAL_PORT, c);
}

static void put_string(const char *s)
{
    while (*s) {
        console_putc(*s++);
    }
}

static void put_line(const char *prefix, const char *fmt, va_list args)
{
    char text[TEXT_SIZE];

    text_vformat(text, fmt, args);
    put_string(prefix);
    put_string(text);
    console_putc('\n');
}

void console_line(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    put_line("stress-guest: ", fmt, args);
    va_end(args);
}

void fatal(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    put_line("stress-guest: error: ", fmt, args);
    va_end(args);
    counters_set_state(STRESS_GUEST_ERROR);
    park();
}
