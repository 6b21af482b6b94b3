/* SPDX-License-Identifier: MIT */
/* JSON output: the dotted keys of a reply as nested objects, and helpers to write other documents. */
#ifndef CTL_JSON_H
#define CTL_JSON_H

#include <stdio.h>
#include "../common/kv.h"

/* Write a reply, without `errno`, as an object. `a.b=` nests; names that count from 0
 * (`session.0.id`) make an array. Values that are JSON numbers are written as numbers, except those
 * of keys that hold text (names, models, versions). Invalid UTF-8 becomes U+FFFD. Returns 0 or
 * -ENOMEM. */
int json_reply(FILE *out, const struct kv *reply);

/* Write a quoted string. */
void json_string(FILE *out, const char *text);

/* Write a number, or a string if `text` is not a JSON number (no sign prefix '+', no leading zeros). */
void json_value(FILE *out, const char *text);

#endif
