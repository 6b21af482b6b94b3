/* SPDX-License-Identifier: MIT */
/* JSON out: a reply's dotted keys as nested objects, and the pieces to write
 * other documents with. */
#ifndef CLIENT_JSON_H
#define CLIENT_JSON_H

#include <stdio.h>
#include "../common/kv.h"

/* Object of a reply, `errno` left out. `a.b=` nests; names that count from 0
 * (`session.0.id`) make an array. Values that are JSON numbers are written as
 * numbers, except of keys that hold text (names, models, versions). Bytes that
 * are no UTF-8 become U+FFFD. Returns 0 or -ENOMEM. */
int json_reply(FILE *out, const struct kv *reply);

/* A string with its quotes. */
void json_string(FILE *out, const char *text);

/* A number, or a string when `text` is none; 'true' numbers only: no sign
 * prefix '+', no leading zeros. */
void json_value(FILE *out, const char *text);

#endif
