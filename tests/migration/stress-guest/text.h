/*
 * Stress guest: formatted text
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TEXT_H
#define TEXT_H

#include <stdarg.h>

/* Long enough for every line; what does not fit is cut off */
#define TEXT_SIZE 160

/* Knows %s, %lu and %lx */
void text_vformat(char text[TEXT_SIZE], const char *fmt, va_list args);

__attribute__((format(printf, 2, 3)))
void text_format(char text[TEXT_SIZE], const char *fmt, ...);

#endif /* TEXT_H */
