/* SPDX-License-Identifier: MIT */
#include "json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "../common/file.h"

/* A node of the tree of dotted names; children are in order of first appearance. */
struct node {
	const char *name; /* not terminated */
	size_t name_len;
	const char *value; /* NULL: it only has children */
	struct node *child, *last, *next;
};

/* Length of a well-formed UTF-8 sequence at `text`; 0 if it is invalid (RFC 3629: overlong,
 * surrogate, or above U+10FFFF). */
static size_t utf8_length(const unsigned char *text)
{
	size_t len = text[0] >= 0xf0 && text[0] <= 0xf4 ? 4 : text[0] >= 0xe0 ? 3 : text[0] >= 0xc2 ? 2 : 0;

	if (text[0] < 0x80)
		return 1;
	if (text[0] > 0xf4 || len == 0)
		return 0;
	if ((text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] > 0x9f) ||
	    (text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] > 0x8f))
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

void json_string(FILE *out, const char *text)
{
	const unsigned char *p = (const unsigned char *)text;

	fputc('"', out);
	while (*p) {
		size_t len = utf8_length(p);

		if (*p == '"' || *p == '\\')
			fprintf(out, "\\%c", *p);
		else if (*p < 0x20 || *p == 0x7f)
			fprintf(out, "\\u%04x", *p);
		else if (len == 0)
			fputs("\\ufffd", out);
		else
			fwrite(p, 1, len, out);
		p += len ? len : 1;
	}
	fputc('"', out);
}

static bool is_number(const char *text)
{
	const char *p = text + (*text == '-');
	size_t digits = strspn(p, "0123456789");

	if (digits == 0 || (digits > 1 && *p == '0'))
		return false;
	p += digits;
	if (*p == '.') {
		digits = strspn(++p, "0123456789");
		if (digits == 0)
			return false;
		p += digits;
	}
	return *p == '\0';
}

void json_value(FILE *out, const char *text)
{
	if (is_number(text))
		fputs(text, out);
	else
		json_string(out, text);
}

/* Keys whose value is a string even where it looks like a number. */
static bool holds_text(const struct node *node)
{
	static const char *const names[] = {"model", "name", "version", "text", "message",
					    "board", "file", "devices", "tag"};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (node->name_len == strlen(names[i]) && memcmp(node->name, names[i], node->name_len) == 0)
			return true;
	return false;
}

static struct node *child_of(struct node *parent, const char *name, size_t len, struct node *fresh)
{
	for (struct node *child = parent->child; child; child = child->next)
		if (child->name_len == len && memcmp(child->name, name, len) == 0)
			return child;
	*fresh = (struct node){.name = name, .name_len = len};
	if (parent->last)
		parent->last->next = fresh;
	else
		parent->child = fresh;
	parent->last = fresh;
	return fresh;
}

/* True when the names are 0, 1, 2, ... in order. */
static bool is_array(const struct node *node)
{
	size_t i = 0;

	for (const struct node *child = node->child; child; child = child->next) {
		char number[24];
		int len = snprintf(number, sizeof(number), "%zu", i++);

		if (child->name_len != (size_t)len || memcmp(child->name, number, child->name_len) != 0)
			return false;
	}
	return i > 0;
}

static void indent(FILE *out, int depth)
{
	fputc('\n', out);
	for (int i = 0; i < depth; i++)
		fputs("  ", out);
}

/* Depth is bounded by the dots a line of LINE_BYTES_MAX can hold. */
static void write_node(FILE *out, const struct node *node, int depth)
{
	bool array = is_array(node) && !node->value;

	if (!node->child) {
		if (node->value && !holds_text(node))
			json_value(out, node->value);
		else
			json_string(out, node->value ? node->value : "");
		return;
	}
	fputc(array ? '[' : '{', out);
	for (const struct node *child = node->child; child; child = child->next) {
		indent(out, depth + 1);
		if (!array)
			fprintf(out, "\"%.*s\": ", (int)child->name_len, child->name);
		write_node(out, child, depth + 1);
		if (child->next || (node->value && !array))
			fputc(',', out);
	}
	if (node->value) { /* both a value and a parent: `clock=3`, `clock.cpu=1` */
		indent(out, depth + 1);
		fputs("\"\": ", out);
		json_value(out, node->value);
	}
	indent(out, depth);
	fputc(array ? ']' : '}', out);
}

/* The node of a dotted key; new nodes are taken from nodes[*used]. */
static struct node *node_of(struct node *nodes, size_t *used, const char *key)
{
	struct node *node = &nodes[0];

	for (;;) {
		size_t len = strcspn(key, ".");

		node = child_of(node, key, len, &nodes[*used]);
		*used += node == &nodes[*used];
		if (key[len] == '\0')
			return node;
		key += len + 1;
	}
}

int json_reply(FILE *out, const struct kv *reply)
{
	size_t count = 1, used = 1;
	CLEANUP_MEM struct node *nodes = NULL;

	for (size_t i = 0; i < reply->count; i++) {
		count++;
		for (const char *p = reply->pair[i].key; *p; p++)
			count += *p == '.';
	}
	nodes = calloc(count, sizeof(*nodes));
	if (!nodes)
		return -ENOMEM;
	for (size_t i = 0; i < reply->count; i++) {
		struct node *node;

		if (strcmp(reply->pair[i].key, "errno") == 0)
			continue;
		node = node_of(nodes, &used, reply->pair[i].key);
		if (!node->value)
			node->value = reply->pair[i].value;
	}
	if (!nodes[0].child)
		fputs("{}", out);
	else
		write_node(out, &nodes[0], 0);
	fputc('\n', out);
	return 0;
}
