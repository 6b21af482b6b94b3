/* SPDX-License-Identifier: MIT */
/* Declarations shared by the verbs of flamectl. */
#ifndef CTL_CTL_H
#define CTL_CTL_H

#include <stdarg.h>
#include <stdio.h>
#include "../lib/wire.h"

#define CTL_TIMEOUT_NS 5000000000ULL

struct ctl {
	const char *verb;   /* for messages */
	const char *socket; /* path */
	bool json;
	bool terminal; /* stdout is a terminal */
	bool colour;   /* and NO_COLOR is not set */
	bool utf8;
	int columns; /* of the terminal; 80 where unknown */
	int lines;   /* of the terminal; 0 if stdout is not one, or if unknown */
	struct wire wire;
};

/* Exit status of a verb: 0, 1 (failed) or 2 (usage). */
int cmd_status(struct ctl *ctl, int argc, char **argv);
int cmd_models(struct ctl *ctl, int argc, char **argv);
int cmd_surface(struct ctl *ctl, int argc, char **argv);
int cmd_savings(struct ctl *ctl, int argc, char **argv);
int cmd_tradeoff(struct ctl *ctl, int argc, char **argv);
int cmd_explain(struct ctl *ctl, int argc, char **argv);
int cmd_profile(struct ctl *ctl, int argc, char **argv);
int cmd_run(struct ctl *ctl, int argc, char **argv);
int cmd_verify(struct ctl *ctl, int argc, char **argv);
int cmd_release(struct ctl *ctl, int argc, char **argv);
int cmd_top(struct ctl *ctl, int argc, char **argv);
int cmd_metrics(struct ctl *ctl, int argc, char **argv);
int cmd_report(struct ctl *ctl, int argc, char **argv);
int cmd_plan(struct ctl *ctl, int argc, char **argv);
int cmd_predict(struct ctl *ctl, int argc, char **argv);
int cmd_import(struct ctl *ctl, int argc, char **argv);

/* flamectl profile --background: measure a model with the command from its section of the configuration. Returns the
 * exit status. */
int profile_in_background(struct ctl *ctl, const char *config, const char *model);

/* flamectl models export and import, in fleet.c. Return the exit status. */
int models_export(struct ctl *ctl, int count, char **models);
int models_import(struct ctl *ctl, const char *path, bool other_versions);

/* The table of running profiles in a reply to op=status. */
void print_profiles(const struct ctl *ctl);

/* Connect to the daemon. Returns 0, or a negative errno after a message that suggests a remedy. */
int ctl_connect(struct ctl *ctl);

/* Send `message` (not yet ended) and wait for the reply, in ctl->wire.reply. Connects first if necessary and prints
 * the daemon's error. Returns 0 or -errno. */
int ctl_call(struct ctl *ctl, struct kv_out *message);

/* The same on an existing connection and without messages. If no reply comes in time, the connection is closed, since a
 * late reply would be taken for that of the next message. Returns 0 or -errno; -ENOTCONN: not connected. */
int ctl_exchange(struct ctl *ctl, struct kv_out *message);

/* Print on stderr why ctl_exchange() returned the negative `rc`. */
void ctl_failed(const struct ctl *ctl, int rc);

/* ctl_call() with a message of one key, `op`. */
int ctl_ask(struct ctl *ctl, const char *op);

/* The same from a place on that an earlier reply named as `next`; 0: the beginning. */
int ctl_ask_from(struct ctl *ctl, const char *op, uint64_t from);

/* Ask for the models, and find `name` in the current power mode: the user's own, else the administrator's. Returns 1 if
 * it is model.N of the reply, 0 if there is none, or -errno. */
int ctl_find_model(struct ctl *ctl, const char *name, size_t *n);

/* Print "flamectl VERB: ..." on stderr. */
void ctl_error(const struct ctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same with a pointer to --help; returns 2. */
int ctl_usage(const struct ctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* 0 if `name` is a model name; otherwise prints the rule, and returns 2. */
int ctl_want_model(const struct ctl *ctl, const char *name);

/* One option of a verb: "--name" stores its argument in *value, or sets *flag. */
struct ctl_option {
	const char *name; /* with its dashes */
	const char **value;
	bool *flag;
};

/* Take the options out of argv (argv[0] is the verb), up to "--": the verb's own, --json, --socket and --help. Other
 * arguments before "--" move to the front, and *count is their number, the verb included. *rest is the index after
 * "--", or argc. Returns 0, or 2 after a usage error; --help ends the program. */
int ctl_options(struct ctl *ctl, const struct ctl_option *options, size_t option_count, int argc, char **argv,
		int *count, int *rest);

/* The options before the verb. Returns the verb's index in argv (argc: there is none), or a negative exit status
 * after a usage error; --help and --version end the program. */
int ctl_global_options(struct ctl *ctl, int argc, char **argv);

/* Print the usage of the verb, or of flamectl before one is known, and exit. */
void ctl_help(const struct ctl *ctl) __attribute__((noreturn));

/* Value of a key of the last reply; "" when absent. */
const char *ctl_text(const struct ctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3)));
uint64_t ctl_u64(const struct ctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "1344/510/2133" (cpu, gpu, memory in MHz) of the keys PREFIXcpu_hz, ... of the
 * last reply; "-" for a clock that is not controlled. Returns `buf`. */
char *ctl_point(const struct ctl *ctl, const char *prefix, char *buf, size_t size);

/* Escape sequence of an SGR code, "" without colour. */
const char *sgr(const struct ctl *ctl, const char *code);

#define SGR_BOLD   "1"
#define SGR_DIM    "2"
#define SGR_RED    "31"
#define SGR_GREEN  "32"
#define SGR_YELLOW "33"
#define SGR_CYAN   "36"
#define SGR_OFF    "0"

#endif
