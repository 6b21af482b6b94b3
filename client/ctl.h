/* SPDX-License-Identifier: MIT */
/* What the verbs of flamectl share. */
#ifndef CLIENT_CTL_H
#define CLIENT_CTL_H

#include <stdarg.h>
#include <stdio.h>
#include "wire.h"

#define CTL_TIMEOUT_NS 5000000000ULL

struct ctl {
	const char *verb;   /* for messages */
	const char *socket; /* path */
	bool json;
	bool terminal;      /* stdout is one */
	bool colour;        /* and NO_COLOR is not set */
	bool utf8;
	int columns;        /* of the terminal; 80 where unknown */
	struct wire wire;
};

/* Exit status of a verb: 0, 1 (failed) or 2 (usage). */
int cmd_status(struct ctl *ctl, int argc, char **argv);
int cmd_models(struct ctl *ctl, int argc, char **argv);
int cmd_surface(struct ctl *ctl, int argc, char **argv);
int cmd_explain(struct ctl *ctl, int argc, char **argv);
int cmd_profile(struct ctl *ctl, int argc, char **argv);
int cmd_run(struct ctl *ctl, int argc, char **argv);
int cmd_verify(struct ctl *ctl, int argc, char **argv);
int cmd_release(struct ctl *ctl, int argc, char **argv);

/* flamectl profile --background: by the command that [model MODEL] of the
 * configuration names. Returns the exit status. */
int profile_in_background(struct ctl *ctl, const char *config, const char *model);

/* The table of running profiles in a reply to op=status. */
void print_profiles(const struct ctl *ctl);

/* Connect to the daemon. On failure says what to do about it; returns 0 or
 * -errno. */
int ctl_connect(struct ctl *ctl);

/* One request in `message` (without its end), reply in ctl->wire.reply. Prints
 * the daemon's error. Connects if need be. Returns 0 or -errno. */
int ctl_call(struct ctl *ctl, struct kv_out *message);

/* ctl_call() of a lone op. */
int ctl_ask(struct ctl *ctl, const char *op);

/* "flamectl VERB: ..." on stderr. */
void ctl_error(const struct ctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same with a pointer to --help; returns 2. */
int ctl_usage(const struct ctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* What a verb's options are: "--name" takes a value into *value, or sets *flag. */
struct ctl_option {
	const char *name; /* with its dashes */
	const char **value;
	bool *flag;
};

/* Take the options out of argv (argv[0] is the verb), up to "--", which is
 * left as argv[result]; other arguments are moved to the front. Returns how
 * many arguments are left before "--" (verb included) in *count, 0, or 2 after
 * a usage error. `*rest` is the index after "--", or argc. */
int ctl_options(const struct ctl *ctl, const struct ctl_option *options, size_t option_count, int argc, char **argv, int *count,
		int *rest);

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
