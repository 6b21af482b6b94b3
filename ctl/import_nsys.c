/* SPDX-License-Identifier: MIT */
#include "import.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define KERNELS "CUPTI_ACTIVITY_KIND_KERNEL"
#define GRAPHS  "CUPTI_ACTIVITY_KIND_GRAPH_TRACE" /* written in place of kernels with --cuda-graph-trace=graph */
#define COPIES  "CUPTI_ACTIVITY_KIND_MEMCPY"
#define RUNTIME "CUPTI_ACTIVITY_KIND_RUNTIME"
#define NVTX    "NVTX_EVENTS"

static bool has(sqlite3 *db, const char *table, const char *column)
{
	return sqlite3_table_column_metadata(db, NULL, table, column, NULL, NULL, NULL, NULL, NULL) == SQLITE_OK;
}

/* The first of these columns that a table lacks; NULL: it has all. */
static const char *lacks(sqlite3 *db, const char *table, const char *const columns[])
{
	for (size_t i = 0; columns[i]; i++)
		if (!has(db, table, columns[i]))
			return columns[i];
	return NULL;
}

static int row(sqlite3_stmt *statement, struct trace *trace, const char *table, enum trace_kind kind)
{
	char where[96];
	const char *name = (const char *)sqlite3_column_text(statement, 4);
	struct trace_event event = {.kind = kind,
				    .correlation = (uint64_t)sqlite3_column_int64(statement, 2),
				    .thread = (uint64_t)sqlite3_column_int64(statement, 3),
				    .name = (char *)(uintptr_t)name};
	int host = kind == TRACE_LAUNCH ? trace_host_kind(name ? name : "") : (int)kind;

	snprintf(where, sizeof(where), "table %s, row %lld", table, (long long)sqlite3_column_int64(statement, 5));
	for (int i = 0; i < 2; i++)
		if (sqlite3_column_type(statement, i) != SQLITE_INTEGER || sqlite3_column_int64(statement, i) < 0)
			return trace_refuse(trace, "%s: %s is not a time", where, i ? "end" : "start");
	if (sqlite3_column_type(statement, 2) != SQLITE_INTEGER)
		return trace_refuse(trace, "%s: correlationId is not a number", where);
	if (host < 0)
		return 0;
	event.kind = (enum trace_kind)host;
	event.begin_ns = (uint64_t)sqlite3_column_int64(statement, 0);
	event.end_ns = (uint64_t)sqlite3_column_int64(statement, 1);
	return trace_add(trace, event, where);
}

/* `query` returns start, end, correlation, thread, name, rowid; in order of time, which is not that of the rows. */
static int rows(sqlite3 *db, struct trace *trace, const char *table, enum trace_kind kind, const char *query)
{
	sqlite3_stmt *statement = NULL;
	int rc = 0, step = SQLITE_DONE;

	if (sqlite3_prepare_v2(db, query, -1, &statement, NULL) != SQLITE_OK)
		return trace_refuse(trace, "table %s: %s", table, sqlite3_errmsg(db));
	while (rc == 0 && (step = sqlite3_step(statement)) == SQLITE_ROW)
		rc = row(statement, trace, table, kind);
	if (rc == 0 && step != SQLITE_DONE)
		rc = trace_refuse(trace, "table %s: %s", table, sqlite3_errmsg(db));
	sqlite3_finalize(statement);
	return rc;
}

static int tables(sqlite3 *db, struct trace *trace)
{
	static const char *const kernel_columns[] = {"start", "end", "correlationId", "demangledName", NULL};
	static const char *const graph_columns[] = {"start", "end", "correlationId", NULL};
	static const char *const runtime_columns[] = {"start", "end", "correlationId", "nameId", "globalTid", NULL};
	static const char *const copy_columns[] = {"start", "end", "correlationId", "copyKind", NULL};
	static const char *const string_columns[] = {"id", "value", NULL};
	static const char *const range_columns[] = {"start", "end", "text", "globalTid", NULL};
	bool kernels = has(db, KERNELS, "start"), graphs = has(db, GRAPHS, "start"), copies = has(db, COPIES, "start");
	const char *missing = NULL;
	int rc = 0;

	if (!kernels && !graphs)
		return trace_refuse(trace, "there is no table " KERNELS
					   ": record with --trace=cuda, export with --type sqlite");
	if (!has(db, RUNTIME, "start"))
		return trace_refuse(trace, "there is no table " RUNTIME ": record with --trace=cuda");
	if ((missing = lacks(db, "StringIds", string_columns)))
		return trace_refuse(trace, "table StringIds has no column %s", missing);
	if ((missing = lacks(db, RUNTIME, runtime_columns)))
		return trace_refuse(trace, "table " RUNTIME " has no column %s", missing);
	if (kernels && (missing = lacks(db, KERNELS, kernel_columns)))
		return trace_refuse(trace, "table " KERNELS " has no column %s", missing);
	if (graphs && (missing = lacks(db, GRAPHS, graph_columns)))
		return trace_refuse(trace, "table " GRAPHS " has no column %s", missing);
	if (copies && (missing = lacks(db, COPIES, copy_columns)))
		return trace_refuse(trace, "table " COPIES " has no column %s", missing);
	if (kernels)
		rc = rows(db, trace, KERNELS, TRACE_KERNEL,
			  "SELECT k.start, k.end, k.correlationId, 0, s.value, k.rowid FROM " KERNELS
			  " k LEFT JOIN StringIds s ON s.id = k.demangledName ORDER BY k.start");
	if (rc == 0 && graphs)
		rc = rows(db, trace, GRAPHS, TRACE_KERNEL,
			  "SELECT start, end, correlationId, 0, 'graph', rowid FROM " GRAPHS " ORDER BY start");
	if (rc == 0 && copies) /* copyKind 2 is CUPTI_ACTIVITY_MEMCPY_KIND_DTOH */
		rc = rows(db, trace, COPIES, TRACE_TO_HOST,
			  "SELECT start, end, correlationId, 0, NULL, rowid FROM " COPIES
			  " WHERE copyKind = 2 ORDER BY start");
	if (rc == 0)
		rc = rows(db, trace, RUNTIME, TRACE_LAUNCH,
			  "SELECT r.start, r.end, r.correlationId, r.globalTid, s.value, r.rowid FROM " RUNTIME
			  " r LEFT JOIN StringIds s ON s.id = r.nameId ORDER BY r.start");
	if (rc || !has(db, NVTX, "start"))
		return rc;
	if ((missing = lacks(db, NVTX, range_columns)))
		return trace_refuse(trace, "table " NVTX " has no column %s", missing);
	/* Registered strings are in StringIds; an instantaneous event has no end. */
	return rows(db, trace, NVTX, TRACE_RANGE,
		    has(db, NVTX, "textId") ?
			    "SELECT n.start, n.end, 0, n.globalTid, coalesce(n.text, s.value), n.rowid FROM " NVTX
			    " n LEFT JOIN StringIds s ON s.id = n.textId WHERE n.end IS NOT NULL ORDER BY n.start" :
			    "SELECT start, end, 0, globalTid, text, rowid FROM " NVTX
			    " WHERE end IS NOT NULL ORDER BY start");
}

int trace_read_nsys(const char *path, struct trace *trace)
{
	sqlite3 *db = NULL;
	int rc;

	if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK)
		rc = trace_refuse(trace, "%s", db ? sqlite3_errmsg(db) : "out of memory");
	else if (sqlite3_exec(db, "PRAGMA schema_version", NULL, NULL, NULL) != SQLITE_OK)
		rc = trace_refuse(trace, "%s", sqlite3_errmsg(db));
	else
		rc = tables(db, trace);
	sqlite3_close(db);
	return rc;
}
