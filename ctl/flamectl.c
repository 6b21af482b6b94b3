/* SPDX-License-Identifier: MIT */
/* flamectl: the table of verbs, and the connection and messages that all of them use. */
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
#include "../lib/flamed.h"
#include "installation.h"

static const struct verb {
	const char *name;
	int (*run)(struct ctl *ctl, int argc, char **argv);
	const char *usage;
	const char *help;
} verbs[] = {
	{"status", cmd_status, "[--watch [SECONDS]]", "board, clocks and who owns them, sessions, keeper"},
	{"top", cmd_top, "", "the same, live: sessions with their latencies, clocks, decisions"},
	{"models", cmd_models, "[export [MODEL...] | import [--other-versions] FILE]",
	 "known models, and how well each is known"},
	{"surface", cmd_surface,
	 "MODEL [--phase P] [--context N] [--mem MHZ] [--show WHAT] [--deadline T] [--svg FILE]",
	 "latency over the clocks as a heat map"},
	{"tradeoff", cmd_tradeoff, "MODEL [--phase P] [--context N] [--svg FILE]",
	 "least power and energy for each deadline"},
	{"savings", cmd_savings, "[MODEL]", "estimated savings and misses of flamed, from shadow mode"},
	{"explain", cmd_explain, "[SESSION]", "reasons for the current clocks"},
	{"profile", cmd_profile,
	 "[MODEL [--budget N] [--time] [--cupti] [--background [--config FILE]] [-- COMMAND...]]",
	 "measure a model, or watch its measurement"},
	{"plan", cmd_plan, "--points GRID.csv --budget K [--samples S.csv]",
	 "points worth measuring next; needs no daemon"},
	{"predict", cmd_predict, "--samples S.csv --points P.csv [--layers L.csv] [--score]",
	 "latencies from samples; needs no daemon"},
	{"import", cmd_import,
	 "TRACE [--samples S.csv] [--layers L.csv] [--range NAME] [--cpu F] [--gpu F] [--mem F] [--phase P] "
	 "[--context N]",
	 "samples and layers from a trace of nsys, torch.profiler or Chrome's format; needs no daemon"},
	{"run", cmd_run,
	 "--model M {--deadline T | --rate R [--ttft T]} [--profile | --shadow] [--report FILE.html] -- COMMAND...",
	 "run a program under a deadline"},
	{"verify", cmd_verify, "[cuda]", "check this installation end to end; cuda: permissions of CUDA programs"},
	{"metrics", cmd_metrics, "[--prometheus]", "counters and clocks as OpenMetrics text, for a scraper"},
	{"report", cmd_report, "[FILE.tar] [--sysroot DIR] [--config FILE] [--log FILE]",
	 "write an archive for a bug report, without personal data"},
	{"release", cmd_release, "", "return the clocks to the kernel until the next request"},
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
	       "  --help          print this help; flamectl VERB --help prints that of a verb\n"
	       "  --version\n"
	       "\nSee flamectl(1).\n");
}

__attribute__((format(printf, 2, 0))) static void message(const struct ctl *ctl, const char *format, va_list args)
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

int ctl_want_model(const struct ctl *ctl, const char *name)
{
	if (model_name_valid(name))
		return 0;
	return ctl_usage(ctl, "not a model name: \"%s\"; a name is 1 to 64 letters, digits, and . _ : -", name);
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

/* Name the group that may use the socket, and how to join it. */
static void explain_access(const struct ctl *ctl)
{
	struct stat st;
	const struct group *group = stat(ctl->socket, &st) == 0 ? getgrgid(st.st_gid) : NULL;
	const char *user = getenv("USER");

	ctl_error(ctl, "no permission for %s", ctl->socket);
	if (group)
		fprintf(stderr,
			"Only members of the group \"%s\" may connect. To join: sudo usermod -aG %s %s, then log "
			"in again.\n",
			group->gr_name, group->gr_name, user && *user ? user : "$USER");
	else
		fprintf(stderr,
			"Only members of the group \"flamed\" may connect. To join: sudo usermod -aG flamed %s, "
			"then log in again.\n",
			user && *user ? user : "$USER");
}

static void explain_connect(const struct ctl *ctl, int error)
{
	switch (error) {
	case -ENOENT:
	case -ENOTDIR: ctl_error(ctl, "no socket at %s; is flamed running?", ctl->socket); break;
	case -ECONNREFUSED: ctl_error(ctl, "connection to %s refused: flamed is not running", ctl->socket); break;
	case -EACCES:
	case -EPERM: explain_access(ctl); return;
	case -EAGAIN: ctl_error(ctl, "flamed is too busy to accept a connection at %s; try again", ctl->socket); return;
	default: ctl_error(ctl, "cannot connect to %s: %s", ctl->socket, strerror(-error)); return;
	}
	fprintf(stderr, "Start it with: systemctl start flamed    (its log: journalctl -u flamed -e). Another socket: "
			"--socket PATH.\n");
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

/* Text from other users must not control the terminal. C1 control characters, the only ones that kv_parse() accepts,
 * are replaced by "??". */
static void disarm(struct wire *wire)
{
	unsigned char *text = (unsigned char *)wire->in;

	for (size_t i = 0; i + 1 < wire->in_used; i++)
		if (text[i] == 0xc2 && text[i + 1] >= 0x80 && text[i + 1] < 0xa0)
			text[i] = text[i + 1] = '?';
}

void ctl_failed(const struct ctl *ctl, int rc)
{
	if (ctl->wire.reply.count && kv_get(&ctl->wire.reply, "message"))
		ctl_error(ctl, "%s", kv_get(&ctl->wire.reply, "message"));
	else if (rc == -ETIMEDOUT)
		ctl_error(ctl, "flamed did not answer within %llu s", (unsigned long long)(CTL_TIMEOUT_NS / NS_PER_S));
	else if (rc == -EPROTO)
		ctl_error(ctl, "the program that listens at %s does not use flamed's protocol", ctl->socket);
	else
		ctl_error(ctl, "connection lost: %s", strerror(-rc));
}

int ctl_exchange(struct ctl *ctl, struct kv_out *out)
{
	int rc;

	kv_end(out);
	rc = wire_call(&ctl->wire, out, CTL_TIMEOUT_NS);
	disarm(&ctl->wire);
	if (rc == -ETIMEDOUT && ctl->wire.reply.count == 0)
		wire_close(&ctl->wire);
	return rc;
}

int ctl_call(struct ctl *ctl, struct kv_out *out)
{
	int rc = ctl_connect(ctl);

	if (rc < 0)
		return rc;
	rc = ctl_exchange(ctl, out);
	if (rc < 0)
		ctl_failed(ctl, rc);
	return rc;
}

int ctl_ask(struct ctl *ctl, const char *op)
{
	return ctl_ask_from(ctl, op, 0);
}

int ctl_ask_from(struct ctl *ctl, const char *op, uint64_t from)
{
	struct kv_out out = {0};
	int rc;

	kv_add(&out, "op", "%s", op);
	if (from)
		kv_add_u64(&out, "from", from);
	rc = ctl_call(ctl, &out);
	kv_free(&out);
	return rc;
}

int ctl_find_model(struct ctl *ctl, const char *name, size_t *n)
{
	uint64_t from = 0;

	do {
		int rc = ctl_ask_from(ctl, "models", from);

		if (rc < 0)
			return rc;
		for (*n = 0; *ctl_text(ctl, "model.%zu.name", *n); ++*n) {
			uint64_t owner = ctl_u64(ctl, "model.%zu.uid", *n);

			/* the administrator's reply has the models of all users, and any has those of all modes */
			if (!strcmp(ctl_text(ctl, "model.%zu.name", *n), name) &&
			    !strcmp(ctl_text(ctl, "model.%zu.mode", *n), ctl_text(ctl, "mode")) &&
			    (owner == 0 || owner == ctl_u64(ctl, "uid")))
				return 1;
		}
		from = ctl_u64(ctl, "next");
	} while (from);
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
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0)
		ctl->lines = size.ws_row;
}

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < VERB_COUNT; i++)
		if (strcmp(name, verbs[i].name) == 0)
			return &verbs[i];
	return NULL;
}

void ctl_help(const struct ctl *ctl)
{
	const struct verb *verb = ctl->verb ? find_verb(ctl->verb) : NULL;

	if (verb)
		printf("usage: flamectl [--socket PATH] [--json] %s %s\n%s\n", verb->name, verb->usage, verb->help);
	else
		print_help();
	exit(fflush(stdout) == 0 ? 0 : 1);
}

static int run_verb(struct ctl *ctl, int argc, char **argv)
{
	const struct verb *verb = find_verb(argv[0]);

	if (!verb)
		return ctl_usage(ctl, "unknown verb %s", argv[0]);
	ctl->verb = verb->name;
	return verb->run(ctl, argc, argv);
}

int main(int argc, char **argv)
{
	struct ctl ctl = {.socket = secure_getenv("FLAMED_SOCKET")};
	int rc;

	setlocale(LC_CTYPE, "");
	wire_init(&ctl.wire);
	look_at_terminal(&ctl);
	if (!ctl.socket || !*ctl.socket)
		ctl.socket = FLAMED_SOCKET_DEFAULT;
	rc = ctl_global_options(&ctl, argc, argv);
	if (rc < 0)
		return -rc;
	if (rc == argc)
		return ctl_usage(&ctl, "no verb given");
	rc = run_verb(&ctl, argc - rc, argv + rc);
	wire_free(&ctl.wire);
	if (fflush(stdout) != 0 || ferror(stdout))
		rc = rc ? rc : 1;
	return rc;
}
