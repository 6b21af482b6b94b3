/* SPDX-License-Identifier: MIT */
#include "kv.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "units.h"

long kv_frame(const char *buf, size_t len)
{
	size_t line = 0; /* start of the current line */

	for (;;) {
		const char *end = memchr(buf + line, '\n', len - line);
		size_t line_len = (end ? (size_t)(end - buf) : len) - line;

		if (line_len > LINE_BYTES_MAX || line + line_len + 1 > MESSAGE_BYTES_MAX)
			return -EMSGSIZE;
		if (!end)
			return 0;
		if (line_len == 0)
			return (long)line + 1;
		line += line_len + 1;
	}
}

static bool key_valid(const char *key)
{
	if (*key == '\0')
		return false;
	for (; *key; key++)
		if (!((*key >= 'a' && *key <= 'z') || (*key >= '0' && *key <= '9') || *key == '_' || *key == '.'))
			return false;
	return true;
}

static bool has_control_byte(const char *line, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			return true;
	return false;
}

int kv_parse(char *buf, size_t len, struct kv *out, size_t *line)
{
	char *next = buf, *end = buf + len;

	out->count = 0;
	*line = 0;
	while (next < end) {
		char *newline = memchr(next, '\n', (size_t)(end - next));
		char *equals;

		++*line;
		if (!newline || has_control_byte(next, (size_t)(newline - next)))
			return -EINVAL;
		if (newline == next)
			return 0;
		*newline = '\0';
		equals = strchr(next, '=');
		if (!equals)
			return -EINVAL;
		*equals = '\0';
		if (!key_valid(next))
			return -EINVAL;
		if (out->count == KV_PAIRS_MAX)
			return -E2BIG;
		out->pair[out->count].key = next;
		out->pair[out->count++].value = equals + 1;
		next = newline + 1;
	}
	return 0;
}

const char *kv_get(const struct kv *kv, const char *key)
{
	for (size_t i = 0; i < kv->count; i++)
		if (strcmp(kv->pair[i].key, key) == 0)
			return kv->pair[i].value;
	return NULL;
}

int kv_u64(const struct kv *kv, const char *key, uint64_t min, uint64_t max, uint64_t *out)
{
	const char *text = kv_get(kv, key);
	uint64_t value;
	int rc;

	if (!text)
		return 0;
	rc = parse_u64(text, &value);
	if (rc < 0)
		return rc;
	if (value < min || value > max)
		return -ERANGE;
	*out = value;
	return 1;
}

/* Make room for `more` bytes and a NUL. A failure is permanent. */
static bool kv_room(struct kv_out *out, size_t more)
{
	size_t size = out->size ? out->size : 512;
	char *grown;

	if (out->error)
		return false;
	if (out->len + more + 1 <= out->size)
		return true;
	while (size < out->len + more + 1)
		size *= 2;
	grown = realloc(out->data, size);
	if (!grown) {
		out->error = -ENOMEM;
		return false;
	}
	out->data = grown;
	out->size = size;
	return true;
}

void kv_add(struct kv_out *out, const char *key, const char *format, ...)
{
	size_t head = strlen(key) + 1, len = 0;
	char *value;
	va_list args;
	int n;

	/* First into the room there is: a short line needs no more memory than it takes. */
	do {
		if (!kv_room(out, head + len + 1))
			return;
		value = out->data + out->len + head;
		va_start(args, format);
		n = vsnprintf(value, out->size - out->len - head, format, args);
		va_end(args);
		if (n < 0 || (size_t)n >= LINE_BYTES_MAX - head) {
			out->error = -EMSGSIZE;
			return;
		}
		len = (size_t)n;
	} while (out->len + head + len + 2 > out->size);
	memcpy(out->data + out->len, key, head - 1);
	value[-1] = '=';
	/* The value may contain text from elsewhere: a control byte in it must not end the line. */
	for (char *p = value; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = ' ';
	value[len] = '\n';
	out->len += head + len + 1;
}

/* Avoids printf, as most values in replies to requests are numbers. */
void kv_add_u64(struct kv_out *out, const char *key, uint64_t value)
{
	size_t key_len = strlen(key), digits = 0;
	char reversed[20], *to;

	if (!kv_room(out, key_len + 1 + sizeof(reversed) + 1))
		return;
	to = out->data + out->len;
	memcpy(to, key, key_len);
	to += key_len;
	*to++ = '=';
	do
		reversed[digits++] = (char)('0' + value % 10);
	while (value /= 10);
	out->len += key_len + 1 + digits + 1;
	while (digits > 0)
		*to++ = reversed[--digits];
	*to = '\n';
}

void kv_end(struct kv_out *out)
{
	if (kv_room(out, 1))
		out->data[out->len++] = '\n';
}

void kv_reset(struct kv_out *out)
{
	out->len = 0;
	out->error = 0;
}

void kv_free(struct kv_out *out)
{
	free(out->data);
	memset(out, 0, sizeof(*out));
}

bool model_name_valid(const char *name)
{
	size_t len = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-");

	return len > 0 && len <= MODEL_NAME_MAX && name[len] == '\0';
}
