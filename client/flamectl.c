/* SPDX-License-Identifier: MIT */
/* flamectl: the verbs, and what they share. */
#include "ctl.h"

#include <errno.h>
#include <grp.h>
#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../common/clock.h"
#include "../common/point.h"
#include "../common/units.h"
#include "flamed.h"
#include "offline.h"

static int run_plan(struct ctl *ctl, int argc, char **argv)
{
	(void)ctl;
	return cmd_plan(argc, argv);
}

static int run_predict(struct ctl *ctl, int argc, char **argv)
{
	(void)ctl;
	return cmd_predict(argc, argv);
}

static const struct verb {
	const char *name;
	int (*run)(struct ctl *ctl, int argc, char **argv);
	const char *usage;
	const char *help;
} verbs[] = {
	{ "status", cmd_status, "[--watch [SECONDS]]", "board, clocks and who owns them, sessions, keeper" },
	{ "models", cmd_models, "", "models known, and how well" },
	{ "surface", cmd_surface, "MODEL [--phase P] [--context N] [--show WHAT] [--deadline T] [--svg FILE]",
	  "latency over the clocks as a heat map" },
	{ "explain", cmd_explain, "[SESSION]", "why the clocks are what they are" },
	{ "profile", cmd_profile, "[MODEL [--budget N] [--time] [--background [--config FILE]] [-- COMMAND...]]",
	  "measure a model, or watch it being measured" },
	{ "plan", run_plan, "--points GRID.csv --budget K [--samples S.csv]", "points worth measuring next; needs no daemon" },
	{ "predict", run_predict, "--samples S.csv --points P.csv [--layers L.csv] [--score]", "latencies from samples; needs no daemon" },
	{ "run", cmd_run, "--model M --deadline T [--profile] -- COMMAND...", "run a program under a deadline" },
	{ "verify", cmd_verify, "", "check this installation end to end" },
	{ "release", cmd_release, "", "hand the clocks back to the kernel until the next request" },
};

#define VERB_COUNT (sizeof(verbs) / sizeof(*verbs))

static void print_help(void)
{
	printf("usage: flamectl [--socket PATH] [--json] VERB ...\n\n");
	for (size_t i = 0; i < VERB_COUNT; i++)
		printf("  %-9s %s\n", verbs[i].name, verbs[i].help);
	printf("\n"
	       "  --socket PATH   default $FLAMED_SOCKET, else " FLAMED_SOCKET_DEFAULT "\n"
	       "  --json          print the answer as JSON\n"
	       "  --help          this, or `flamectl VERB --help`\n"
	       "  --version\n"
	       "\nflamectl(1) says more.\n");
}

static void message(const struct ctl *ctl, const char *format, va_list args)
{
	fflush(stdout);
	fprintf(stderr, "flamectl%s%s: ", ctl->verb ? " " : "", ctl->verb ? ctl->verb : "");
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
}

void ctl_error(const struct ctl *ctl, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	message(ctl, format, args);
	va_end(args);
}

int ctl_usage(const struct ctl *ctl, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	message(ctl, format, args);
	va_end(args);
	fprintf(stderr, "try: flamectl %s%s--help\n", ctl->verb ? ctl->verb : "", ctl->verb ? " " : "");
	return 2;
}

const char *sgr(const struct ctl *ctl, const char *code)
{
	static char ring[8][32];
	static unsigned next;
	char *text = ring[next++ % 8];

	if (!ctl->colour)
		return "";
	snprintf(text, sizeof(ring[0]), "\033[%.24sm", code);
	return text;
}

const char *ctl_text(const struct ctl *ctl, const char *format, ...)
{
	char key[96];
	const char *value;
	va_list args;

	va_start(args, format);
	vsnprintf(key, sizeof(key), format, args);
	va_end(args);
	value = kv_get(&ctl->wire.reply, key);
	return value ? value : "";
}

uint64_t ctl_u64(const struct ctl *ctl, const char *format, ...)
{
	char key[96];
	va_list args;

	va_start(args, format);
	vsnprintf(key, sizeof(key), format, args);
	va_end(args);
	return wire_u64(&ctl->wire, key, 0);
}

char *ctl_point(const struct ctl *ctl, const char *prefix, char *buf, size_t size)
{
	size_t len = 0;

	*buf = '\0';
	for (int c = 0; c < CLOCK_COUNT && len < size; c++) {
		uint64_t hz = ctl_u64(ctl, "%s%s_hz", prefix, clock_name((enum clock_id)c));

		len += (size_t)(hz ? snprintf(buf + len, size - len, "%s%.0f", c ? "/" : "", (double)hz / 1e6) :
				     snprintf(buf + len, size - len, "%s-", c ? "/" : ""));
	}
	return buf;
}

/* Whose socket it is, and how to become one of them. */
static void explain_access(const struct ctl *ctl)
{
	struct stat st;
	const struct group *group = stat(ctl->socket, &st) == 0 ? getgrgid(st.st_gid) : NULL;
	const char *user = getenv("USER");

	ctl_error(ctl, "no permission for %s", ctl->socket);
	if (group)
		fprintf(stderr, "It is for members of the group \"%s\". To join: sudo usermod -aG %s %s, then log in again.\n", group->gr_name,
			group->gr_name, user && *user ? user : "$USER");
	else
		fprintf(stderr, "It is for members of the group \"flamed\". To join: sudo usermod -aG flamed %s, then log in again.\n",
			user && *user ? user : "$USER");
}

static void explain_connect(const struct ctl *ctl, int error)
{
	switch (error) {
	case -ENOENT:
	case -ENOTDIR:
		ctl_error(ctl, "no socket at %s: is flamed running?", ctl->socket);
		break;
	case -ECONNREFUSED:
		ctl_error(ctl, "nobody answers at %s: flamed has stopped", ctl->socket);
		break;
	case -EACCES:
	case -EPERM:
		explain_access(ctl);
		return;
	case -EAGAIN:
		ctl_error(ctl, "flamed is too busy to take a connection at %s; try again", ctl->socket);
		return;
	default:
		ctl_error(ctl, "cannot connect to %s: %s", ctl->socket, strerror(-error));
		return;
	}
	fprintf(stderr, "Start it with: systemctl start flamed    (its log: journalctl -u flamed -e). Another socket: --socket PATH.\n");
}

int ctl_connect(struct ctl *ctl)
{
	uint64_t until_ns = clock_now_ns() + CTL_TIMEOUT_NS;
	int rc;

	if (ctl->wire.fd >= 0)
		return 0;
	while ((rc = wire_connect(&ctl->wire, ctl->socket)) == -EAGAIN && clock_now_ns() < until_ns)
		clock_sleep_ns(20 * NS_PER_MS);
	if (rc < 0)
		explain_connect(ctl, rc);
	return rc;
}

/* What others named must not command a terminal: C1 control characters, the
 * only ones that kv_parse() lets through, become "??". */
static void disarm(struct wire *wire)
{
	unsigned char *text = (unsigned char *)wire->in;

	for (size_t i = 0; i + 1 < wire->in_used; i++)
		if (text[i] == 0xc2 && text[i + 1] >= 0x80 && text[i + 1] < 0xa0)
			text[i] = text[i + 1] = '?';
}

int ctl_call(struct ctl *ctl, struct kv_out *out)
{
	int rc = ctl_connect(ctl);

	if (rc < 0)
		return rc;
	kv_end(out);
	rc = wire_call(&ctl->wire, out, CTL_TIMEOUT_NS);
	disarm(&ctl->wire);
	if (rc == 0)
		return 0;
	if (ctl->wire.reply.count && kv_get(&ctl->wire.reply, "message"))
		ctl_error(ctl, "%s", kv_get(&ctl->wire.reply, "message"));
	else if (rc == -ETIMEDOUT)
		ctl_error(ctl, "flamed did not answer within %llu s", (unsigned long long)(CTL_TIMEOUT_NS / NS_PER_S));
	else if (rc == -EPROTO)
		ctl_error(ctl, "what listens at %s does not speak flamed's protocol", ctl->socket);
	else
		ctl_error(ctl, "connection lost: %s", strerror(-rc));
	return rc;
}

int ctl_ask(struct ctl *ctl, const char *op)
{
	struct kv_out out = { 0 };
	int rc;

	kv_add(&out, "op", "%s", op);
	rc = ctl_call(ctl, &out);
	kv_free(&out);
	return rc;
}

/* One option at argv[i]; returns how many arguments it took, 0 when it is none
 * of these, -1 after an error. */
static int take_option(const struct ctl *ctl, const struct ctl_option *options, size_t option_count, int i, int argc, char **argv)
{
	for (size_t o = 0; o < option_count; o++) {
		size_t len = strlen(options[o].name);

		if (strncmp(argv[i], options[o].name, len) != 0)
			continue;
		if (options[o].flag && argv[i][len] == '\0') {
			*options[o].flag = true;
			return 1;
		}
		if (options[o].value && argv[i][len] == '=') {
			*options[o].value = argv[i] + len + 1;
			return 1;
		}
		if (options[o].value && argv[i][len] == '\0') {
			if (i + 1 >= argc) {
				ctl_usage(ctl, "%s needs a value", options[o].name);
				return -1;
			}
			*options[o].value = argv[i + 1];
			return 2;
		}
	}
	return 0;
}

int ctl_options(const struct ctl *ctl, const struct ctl_option *options, size_t option_count, int argc, char **argv, int *count, int *rest)
{
	int kept = 1, i = 1;

	while (i < argc && strcmp(argv[i], "--") != 0) {
		int took = take_option(ctl, options, option_count, i, argc, argv);

		if (took < 0)
			return 2;
		if (took == 0 && argv[i][0] == '-')
			return ctl_usage(ctl, "no such option: %s", argv[i]);
		if (took == 0)
			argv[kept++] = argv[i++];
		i += took;
	}
	*count = kept;
	*rest = i < argc ? i + 1 : argc;
	return 0;
}

static void look_at_terminal(struct ctl *ctl)
{
	struct winsize size;
	const char *no_colour = getenv("NO_COLOR"), *term = getenv("TERM"), *columns = getenv("COLUMNS");
	uint64_t value;

	ctl->terminal = isatty(STDOUT_FILENO) == 1;
	ctl->colour = ctl->terminal && !(no_colour && *no_colour) && term && strcmp(term, "dumb") != 0;
	ctl->utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
	ctl->columns = 80;
	if (columns && parse_u64(columns, &value) == 0 && value >= 20 && value <= 1000)
		ctl->columns = (int)value;
	else if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 20)
		ctl->columns = size.ws_col;
}

static int run_verb(struct ctl *ctl, int argc, char **argv)
{
	for (size_t i = 0; i < VERB_COUNT; i++) {
		if (strcmp(argv[0], verbs[i].name) != 0)
			continue;
		if (argc > 1 && strcmp(argv[1], "--help") == 0) {
			printf("usage: flamectl [--socket PATH] [--json] %s %s\n%s\n", verbs[i].name, verbs[i].usage, verbs[i].help);
			return 0;
		}
		ctl->verb = verbs[i].name;
		return verbs[i].run(ctl, argc, argv);
	}
	return ctl_usage(ctl, "no such verb: %s", argv[0]);
}

/* Options before the verb, and --json and --socket behind it too (up to
 * "--"), where fingers put them. */
static int global_options(struct ctl *ctl, int *argc, char **argv)
{
	int kept = 0, i;
	bool verb = false;

	for (i = 1; i < *argc && strcmp(argv[i], "--") != 0; i++) {
		if (strcmp(argv[i], "--json") == 0) {
			ctl->json = true;
		} else if (strncmp(argv[i], "--socket=", 9) == 0) {
			ctl->socket = argv[i] + 9;
		} else if (strcmp(argv[i], "--socket") == 0) {
			if (++i >= *argc)
				return ctl_usage(ctl, "--socket needs a path");
			ctl->socket = argv[i];
		} else if (!verb && strcmp(argv[i], "--help") == 0) {
			print_help();
			return -1;
		} else if (!verb && strcmp(argv[i], "--version") == 0) {
			printf("flamectl %s\n", FLAMED_VERSION);
			return -1;
		} else if (!verb && argv[i][0] == '-') {
			return ctl_usage(ctl, "no such option: %s", argv[i]);
		} else {
			verb = true;
			argv[kept++] = argv[i];
		}
	}
	while (i < *argc)
		argv[kept++] = argv[i++];
	argv[kept] = NULL;
	*argc = kept;
	return 0;
}

int main(int argc, char **argv)
{
	struct ctl ctl = { .socket = getenv("FLAMED_SOCKET") };
	int rc;

	setlocale(LC_CTYPE, "");
	wire_init(&ctl.wire);
	look_at_terminal(&ctl);
	if (!ctl.socket || !*ctl.socket)
		ctl.socket = FLAMED_SOCKET_DEFAULT;
	rc = global_options(&ctl, &argc, argv);
	if (rc != 0)
		return rc < 0 ? 0 : rc;
	if (argc == 0 || strcmp(argv[0], "--") == 0)
		return ctl_usage(&ctl, "what is to be done? Give a verb");
	rc = run_verb(&ctl, argc, argv);
	wire_free(&ctl.wire);
	if (fflush(stdout) != 0 || ferror(stdout))
		rc = rc ? rc : 1;
	return rc;
}
