/*
 * Stress guest: formatted text
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "text.h"

static char *put_string(char *at, const char *end, const char *s)
{
    while (*s && at < end) {
        *at++ = *s++;
    }
    return at;
}

static char *put_number(char *at, const char *end, unsigned long value,
                        unsigned base)
{
    char digits[24];
    char *first = digits + sizeof(digits) - 1;

    *first = '\0';
    do {
        *--first = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    return put_string(at, end, first);
}

void text_vformat(char text[TEXT_SIZE], const char *fmt, va_list args)
{
    const char *end = text + TEXT_SIZE - 1;
    char *at = text;

    while (*fmt && at < end) {
        if (*fmt != '%') {
            *at++ = *fmt++;
        } else if (fmt[1] == 's') {
            at = put_string(at, end, va_arg(args, const char *));
            fmt += 2;
        } else {
            at = put_number(at, end, va_arg(args, unsigned long),
                            fmt[2] == 'x' ? 16 : 10);
            fmt += 3;
        }
    }
    *at = '\0';
}

void text_format(char text[TEXT_SIZE], const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    text_vformat(text, fmt, args);
    va_end(args);
}
