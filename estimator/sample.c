/* SPDX-License-Identifier: MIT */
/* Samples and layers as CSV text. Strict: a value that cannot be a
 * measurement is an error that names line, column and value. */
#include "sample.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../common/csv.h"
#include "../common/file.h"
#include "../common/limits.h"

/* CUPTI: the device stamps begin and end (CUPTI documentation, Activity API), but a traced launch takes the host a
 * microsecond or two more; so it does in the traces of nsys and torch.profiler, which are made by CUPTI. A pair of
 * events around a launch: each has a resolution of half a microsecond (CUDA Driver API, cuEventElapsedTime), and what
 * the device does between the event and the kernel is in the time. Wall: the host's wake-up. */
const struct layer_trust layer_trust[LAYER_SOURCES] = {
	[SOURCE_DEVICE] = {"", 0, 0},          [SOURCE_CUPTI] = {"cupti", 2000, 100},
	[SOURCE_TRACE] = {"trace", 2000, 200}, [SOURCE_EVENTS] = {"events", 500, 2000},
	[SOURCE_WALL] = {"wall", 2000, 20000},
};

#define VALUE_MAX    1e12 /* Hz, ns, uW: 1 THz, 1000 s, 1 MW */
#define CLOCK_HZ_MIN 1e3  /* a lower clock is in the wrong unit */
#define COUNT_MAX    1e9

enum layer_source layer_source_parse(const char *name)
{
	for (size_t i = 1; i < LAYER_SOURCES && name; i++)
		if (strcmp(name, layer_trust[i].name) == 0)
			return (enum layer_source)i;
	return SOURCE_DEVICE;
}

enum sample_column { S_PHASE, S_CONTEXT, S_CPU, S_GPU, S_MEM, S_LATENCY, S_N, S_SD, S_MAX, S_POWER, S_COLUMNS };
static const char *const sample_names[S_COLUMNS] = {"phase",      "context", "cpu_hz", "gpu_hz", "mem_hz",
						    "latency_ns", "n",       "sd_ns",  "max_ns", "power_uw"};

enum layer_column {
	L_PHASE,
	L_CONTEXT,
	L_CPU,
	L_GPU,
	L_MEM,
	L_REP,
	L_LAYER,
	L_CPU_NS,
	L_GPU_NS,
	L_SYNC,
	L_SOURCE,
	L_COLUMNS
};
static const char *const layer_names[L_COLUMNS] = {"phase", "context", "cpu_hz", "gpu_hz", "mem_hz", "rep",
						   "layer", "cpu_ns",  "gpu_ns", "sync",   "source"};

struct reader {
	struct csv csv;
	const char *const *names;
	size_t columns;
	int column[L_COLUMNS]; /* of the text, by our column; -1: absent */
	char *message;
	size_t message_size;
};
_Static_assert((int)S_COLUMNS <= (int)L_COLUMNS, "one reader serves both");

__attribute__((format(printf, 2, 3))) static int refuse(struct reader *r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(r->message, r->message_size, format, args);
	va_end(args);
	return -EINVAL;
}

static int open_text(struct reader *r, char *text, const char *const *names, size_t columns,
		     void (*warn)(void *arg, const char *text), void *arg)
{
	int rc = csv_open(&r->csv, text);

	if (rc)
		return refuse(r, "%s", r->csv.message);
	r->names = names;
	r->columns = columns;
	for (size_t i = 0; i < columns; i++)
		r->column[i] = csv_column(&r->csv, names[i]);
	for (size_t i = 0; i < r->csv.columns && warn; i++) {
		char line[CSV_MESSAGE_MAX];
		bool known = false;

		for (size_t j = 0; j < r->columns; j++)
			known |= r->column[j] == (int)i;
		if (known)
			continue;
		snprintf(line, sizeof(line), "column %.64s is unknown and ignored", r->csv.name[i]);
		warn(arg, line);
	}
	return 0;
}

static int need_column(struct reader *r, size_t which)
{
	return r->column[which] >= 0 ? 0 : refuse(r, "line 1: column %s is missing", r->names[which]);
}

static const char *field_of(const struct reader *r, size_t which)
{
	return r->column[which] >= 0 ? r->csv.field[r->column[which]] : "";
}

/* Decimal digits, with an optional fraction. */
static bool plain_decimal(const char *text)
{
	size_t whole = strspn(text, "0123456789"), fraction;

	if (!whole)
		return false;
	text += whole;
	if (*text != '.')
		return *text == '\0';
	fraction = strspn(text + 1, "0123456789");
	return fraction && text[1 + fraction] == '\0';
}

#define WHOLE_DIGITS 15 /* digits that a double holds exactly */

/* Like strtod(3), but in a fraction of its time, which dominates the reading of a file. */
static double whole(const char *text)
{
	uint64_t value = 0;

	for (; *text; text++)
		value = value * 10 + (uint64_t)(*text - '0');
	return (double)value;
}

/* Empty fields leave `*out` alone. Rounds to a whole number. */
static int read_number(struct reader *r, size_t which, double low, double high, uint64_t *out)
{
	const char *text = field_of(r, which);
	double value;

	if (!*text)
		return 0;
	if (!plain_decimal(text))
		return refuse(r, "line %zu: %s: '%.40s' is not a plain number", r->csv.line, r->names[which], text);
	value = strlen(text) <= WHOLE_DIGITS && !strchr(text, '.') ? whole(text) : strtod(text, NULL);
	if (value != 0 && (value < low || value > high))
		return refuse(r, "line %zu: %s: %.40s is out of range (%.0f to %.0f)", r->csv.line, r->names[which],
			      text, low, high);
	*out = (uint64_t)(value + 0.5);
	return 0;
}

static int read_u32(struct reader *r, size_t which, double high, uint32_t *out)
{
	uint64_t value = *out;
	int rc = read_number(r, which, 0, high, &value);

	*out = (uint32_t)value;
	return rc;
}

/* Phase, context and clocks: columns 0 to 4 of both forms. */
static int read_place(struct reader *r, enum phase *phase, uint32_t *context, struct op_point *point)
{
	int rc = phase_parse(field_of(r, S_PHASE), phase);

	if (rc)
		return refuse(r, "line %zu: phase: '%.40s' is not run, prefill or decode", r->csv.line,
			      field_of(r, S_PHASE));
	rc = read_u32(r, S_CONTEXT, CONTEXT_TOKENS_MAX, context);
	for (int c = 0; c < CLOCK_COUNT && !rc; c++)
		rc = read_number(r, S_CPU + (size_t)c, CLOCK_HZ_MIN, VALUE_MAX, &point->hz[c]);
	return rc;
}

static int read_sample(struct reader *r, bool points_only, struct sample *s)
{
	uint64_t n = 1;
	int rc;

	memset(s, 0, sizeof(*s));
	rc = read_place(r, &s->phase, &s->context, &s->point);
	rc = rc ? rc : read_number(r, S_LATENCY, 1, VALUE_MAX, &s->latency_ns);
	rc = rc ? rc : read_number(r, S_N, 1, COUNT_MAX, &n);
	rc = rc ? rc : read_number(r, S_SD, 0, VALUE_MAX, &s->sd_ns);
	rc = rc ? rc : read_number(r, S_MAX, 0, VALUE_MAX, &s->max_ns);
	rc = rc ? rc : read_number(r, S_POWER, 1, VALUE_MAX, &s->power_uw);
	if (rc)
		return rc;
	if (!points_only && !s->latency_ns)
		return refuse(r, "line %zu: latency_ns: '%.40s' is not a measured latency", r->csv.line,
			      field_of(r, S_LATENCY));
	if (!n)
		return refuse(r, "line %zu: n: 0 inferences cannot have been measured", r->csv.line);
	s->n = (uint32_t)n;
	return 0;
}

static int read_layer(struct reader *r, struct layer *l)
{
	uint32_t sync = 0;
	int rc;

	memset(l, 0, sizeof(*l));
	rc = read_place(r, &l->phase, &l->context, &l->point);
	rc = rc ? rc : read_u32(r, L_REP, COUNT_MAX, &l->rep);
	if (!rc && !*field_of(r, L_LAYER))
		rc = refuse(r, "line %zu: layer: empty", r->csv.line);
	rc = rc ? rc : read_u32(r, L_LAYER, LAYERS_MAX - 1, &l->layer);
	rc = rc ? rc : read_number(r, L_CPU_NS, 0, VALUE_MAX, &l->cpu_ns);
	rc = rc ? rc : read_number(r, L_GPU_NS, 0, VALUE_MAX, &l->gpu_ns);
	rc = rc ? rc : read_u32(r, L_SYNC, 1, &sync);
	l->sync = sync;
	l->source = layer_source_parse(field_of(r, L_SOURCE));
	if (!rc && l->source == SOURCE_DEVICE && *field_of(r, L_SOURCE))
		rc = refuse(r, "line %zu: source: '%.40s' is not cupti, trace, events or wall", r->csv.line,
			    field_of(r, L_SOURCE));
	return rc;
}

/* Make room for one more row of `size` bytes. */
static int grow(void **rows, size_t count, size_t *room, size_t size)
{
	size_t wanted = *room ? *room * 2 : 64;
	void *more;

	if (count < *room)
		return 0;
	more = reallocarray(*rows, wanted, size);
	if (!more)
		return -ENOMEM;
	*rows = more;
	*room = wanted;
	return 0;
}

static int say(struct reader *r, int rc)
{
	if (rc == -ENOMEM)
		snprintf(r->message, r->message_size, "out of memory");
	return rc;
}

int samples_parse(char *text, bool points_only, struct sample **out, size_t *count, char *message, size_t message_size,
		  void (*warn)(void *arg, const char *text), void *arg)
{
	struct reader r = {.message = message, .message_size = message_size};
	struct sample *rows = NULL;
	size_t n = 0, room = 0;
	int rc = open_text(&r, text, sample_names, S_COLUMNS, warn, arg);

	if (!rc && r.column[S_CPU] < 0 && r.column[S_GPU] < 0 && r.column[S_MEM] < 0)
		rc = refuse(&r, "line 1: none of the columns cpu_hz, gpu_hz, mem_hz is there");
	if (!rc && !points_only)
		rc = need_column(&r, S_LATENCY);
	while (!rc) {
		rc = csv_next(&r.csv);
		if (rc <= 0) {
			rc = rc ? refuse(&r, "%s", r.csv.message) : 0;
			break;
		}
		rc = n < SAMPLES_MAX ? grow((void **)&rows, n, &room, sizeof(*rows)) : -E2BIG;
		if (rc == -E2BIG)
			refuse(&r, "line %zu: more than %d samples", r.csv.line, SAMPLES_MAX);
		rc = rc ? rc : read_sample(&r, points_only, &rows[n]);
		n += !rc;
	}
	if (rc) {
		free(rows);
		return say(&r, rc);
	}
	*out = rows;
	*count = n;
	return 0;
}

int layers_parse(char *text, struct layer **out, size_t *count, char *message, size_t message_size,
		 void (*warn)(void *arg, const char *text), void *arg)
{
	static const enum layer_column needed[] = {L_LAYER, L_CPU_NS, L_GPU_NS};
	struct reader r = {.message = message, .message_size = message_size};
	struct layer *rows = NULL;
	size_t n = 0, room = 0;
	int rc = open_text(&r, text, layer_names, L_COLUMNS, warn, arg);

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]) && !rc; i++)
		rc = need_column(&r, needed[i]);
	while (!rc) {
		rc = csv_next(&r.csv);
		if (rc <= 0) {
			rc = rc ? refuse(&r, "%s", r.csv.message) : 0;
			break;
		}
		rc = n < LAYER_ROWS_MAX ? grow((void **)&rows, n, &room, sizeof(*rows)) : -E2BIG;
		if (rc == -E2BIG)
			refuse(&r, "line %zu: more than %d layer rows", r.csv.line, LAYER_ROWS_MAX);
		rc = rc ? rc : read_layer(&r, &rows[n]);
		n += !rc;
	}
	if (rc) {
		free(rows);
		return say(&r, rc);
	}
	*out = rows;
	*count = n;
	return 0;
}

static void add_names(struct csv_out *out, const char *const *names, size_t count)
{
	for (size_t i = 0; i < count; i++)
		csv_add(out, names[i]);
	csv_end_row(out);
}

static void add_unless_zero(struct csv_out *out, uint64_t value)
{
	if (value)
		csv_add_u64(out, value);
	else
		csv_add(out, "");
}

static void add_place(struct csv_out *out, enum phase phase, uint32_t context, struct op_point point)
{
	csv_add(out, phase_name(phase));
	csv_add_u64(out, context);
	for (int c = 0; c < CLOCK_COUNT; c++)
		csv_add_u64(out, point.hz[c]);
}

char *samples_format(const struct sample *samples, size_t count)
{
	struct csv_out out = {0};

	add_names(&out, sample_names, S_COLUMNS);
	for (size_t i = 0; i < count; i++) {
		const struct sample *s = &samples[i];

		add_place(&out, s->phase, s->context, s->point);
		add_unless_zero(&out, s->latency_ns);
		add_unless_zero(&out, s->n);
		add_unless_zero(&out, s->sd_ns);
		add_unless_zero(&out, s->max_ns);
		add_unless_zero(&out, s->power_uw);
		csv_end_row(&out);
	}
	return csv_take(&out);
}

char *layers_format(const struct layer *layers, size_t count)
{
	struct csv_out out = {0};
	bool tagged = false; /* no source column, as in version 0.1, if no source is known */

	for (size_t i = 0; i < count; i++)
		tagged |= layers[i].source != SOURCE_DEVICE;
	add_names(&out, layer_names, tagged ? L_COLUMNS : L_SOURCE);
	for (size_t i = 0; i < count; i++) {
		const struct layer *l = &layers[i];

		add_place(&out, l->phase, l->context, l->point);
		csv_add_u64(&out, l->rep);
		csv_add_u64(&out, l->layer);
		csv_add_u64(&out, l->cpu_ns);
		csv_add_u64(&out, l->gpu_ns);
		csv_add_u64(&out, l->sync);
		if (tagged)
			csv_add(&out, layer_trust[l->source].name);
		csv_end_row(&out);
	}
	return csv_take(&out);
}
