/* SPDX-License-Identifier: MIT */
/* Clients of the flamed that tests/bench_daemon.c measures: blocking, and ending the program at the first error. */
#ifndef TESTS_BENCH_CLIENT_H
#define TESTS_BENCH_CLIENT_H

#include <stddef.h>

#define REQUEST "op=begin\nsession=%s\ndeadline_ns=50000000\n\n"

extern char bench_dir[]; /* the template of mkdtemp() until it is made */

void fail(const char *what);
/* A path in bench_dir, until the fourth call from here. */
char *in_dir(const char *name);
int connect_within(const char *path, unsigned ms);
/* Send, and receive up to the empty line that ends a message. */
void ask(int fd, const char *message, char *reply, size_t size);
void value_of(const char *reply, const char *key, char *out, size_t size);

#endif
