/*
 * Stress guest: the serial port
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CONSOLE_H
#define CONSOLE_H

void console_putc(char c);

/* Print one line and its newline, after the guest's name */
__attribute__((format(printf, 1, 2)))
void console_line(const char *fmt, ...);

/* Print an error, tell the host in the counters and stop. For CPL 0 only. */
__attribute__((noreturn, format(printf, 1, 2)))
void fatal(const char *fmt, ...);

#endif /* CONSOLE_H */
