/* SPDX-License-Identifier: MIT */
/* flamed: options, start, signals, end. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../common/clock.h"
#include "../common/file.h"
#include "../common/log.h"
#include "daemon.h"
#include "notify.h"

#define STATUS_FAILED  1
#define STATUS_USAGE   2
#define HELLO_NS       (3 * NS_PER_S) /* a keeper that says nothing by then is started without */
#define SPARE_FDS      64
#define NICE           (-10)

static const char usage[] =
	"usage: flamed [--config FILE] [--sysroot DIR] [--runtime-dir DIR] [--state-dir DIR] [--check-config] [--restore]\n"
	"Runs inference at the lowest clocks that meet each request's deadline; see flamed(8).\n"
	"  --config FILE      configuration (default " SYSCONFDIR "/flamed.conf)\n"
	"  --sysroot DIR      put DIR before every /sys and /proc path; needs no privilege\n"
	"  --runtime-dir DIR  where flamed.sock is made (default /run/flamed)\n"
	"  --state-dir DIR    where what was learned and the knob journal are kept (default /var/lib/flamed)\n"
	"  --check-config     read the configuration, say what is wrong with it, and exit\n"
	"  --restore          put back the knobs that a killed flamed left behind, and exit\n"
	"  --version          print the version\n";

enum action { ACTION_RUN, ACTION_CHECK, ACTION_RESTORE, ACTION_DONE };

/* The action, or -1 after a usage error. */
static int parse_options(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{ "config", required_argument, NULL, 'c' },	 { "sysroot", required_argument, NULL, 'r' }, { "runtime-dir", required_argument, NULL, 'R' },
		{ "state-dir", required_argument, NULL, 's' }, { "check-config", no_argument, NULL, 'C' },   { "restore", no_argument, NULL, 'P' },
		{ "help", no_argument, NULL, 'h' },		 { "version", no_argument, NULL, 'V' },	      { NULL, 0, NULL, 0 },
	};
	enum action action = ACTION_RUN;
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'c': o->config = optarg; o->config_named = true; break;
		case 'r': o->sysroot = optarg; break;
		case 'R': o->runtime_dir = optarg; break;
		case 's': o->state_dir = optarg; o->state_dir_named = true; break;
		case 'C': action = ACTION_CHECK; break;
		case 'P': action = ACTION_RESTORE; break;
		case 'h': fputs(usage, stdout); return ACTION_DONE;
		case 'V': puts("flamed " FLAMED_VERSION); return ACTION_DONE;
		default: fputs(usage, stderr); return -1;
		}
	}
	if (optind == argc)
		return action;
	fprintf(stderr, "flamed: %s: no argument is expected here\n%s", argv[optind], usage);
	return -1;
}

static int restore_in(const struct sysroot *root, const char *dir)
{
	char journal[PATH_MAX];
	unsigned left = 0;
	int rc;

	if (snprintf(journal, sizeof(journal), "%s/journal", dir) >= (int)sizeof(journal))
		return -ENAMETOOLONG;
	rc = keeper_restore(root, journal, &left);
	if (rc < 0)
		log_error("%s: %s", journal, strerror(-rc));
	else if (rc > 0 || left > 0)
		log_notice("%s: %d knobs put back, %u left as somebody else set them", journal, rc, left);
	return rc;
}

/* The service's keeper has a state directory of its own. */
static int restore(const struct options *o)
{
	struct sysroot root = { o->sysroot };
	int rc = restore_in(&root, o->state_dir);

	if (!o->state_dir_named) {
		int other = restore_in(&root, "/var/lib/flamed-keeper");

		rc = rc < 0 ? rc : other;
	}
	return rc < 0 ? STATUS_FAILED : 0;
}

static void apply_config(struct daemon *d)
{
	struct governor_options options;

	governor_options_default(&options);
	options.objective = d->config.objective;
	options.margin = d->config.margin;
	options.mem_dwell_ns = d->config.mem_dwell_ns;
	options.hold_requests = d->config.hold_requests;
	options.gain_min = d->config.gain_min;
	d->governor.options = options;
	clocks_configure(&d->clocks, &d->config);
	log_set_level(d->config.log_level);
}

static void status_line(struct daemon *d)
{
	notify_status("%s: %u sessions, %zu models, %zu operating points%s%s", d->board.name, d->sessions, d->library.count, d->clocks.grid.points,
		      clocks_fault(&d->clocks)[0] ? "; degraded: " : "", clocks_fault(&d->clocks));
}

static const struct op {
	const char *name;
	void (*handle)(struct daemon *d, struct connection *c, const struct kv *kv);
	bool asks; /* no request waits for it: others' come first */
} ops[] = {
	{ "begin", request_begin, false },   { "end", request_end, false },       { "open", session_open, true },
	{ "close", session_close, false },   { "profile", profile_open, true },   { "sample", profile_sample, true },
	{ "hello", query_hello, true },      { "status", query_status, true },    { "models", query_models, true },
	{ "surface", query_surface, true },  { "explain", query_explain, true },  { "release", query_release, true },
	{ "tally", tally_read, true },
};

static const struct op *find_op(const char *name)
{
	for (size_t i = 0; i < sizeof(ops) / sizeof(*ops); i++) {
		if (strcmp(name, ops[i].name) == 0)
			return &ops[i];
	}
	return NULL;
}

static bool on_message(void *arg, struct connection *c, const struct kv *kv)
{
	struct daemon *d = arg;
	bool named = kv->count > 0 && strcmp(kv->pair[0].key, "op") == 0;
	const struct op *op = named ? find_op(kv->pair[0].value) : NULL;
	bool after_others = (!op || op->asks) && d->sessions > c->sessions;

	if (after_others && !connection_may_ask(c))
		return false;
	uint64_t start_ns = after_others ? clock_now_ns() : 0;
	if (op)
		op->handle(d, c, kv);
	else if (named)
		reply_error(c, EINVAL, "op: unknown operation %.64s", kv->pair[0].value);
	else
		reply_error(c, EINVAL, "op: has to be the first key of a message");
	if (after_others)
		connection_asked(c, clock_now_ns() - start_ns);
	return true;
}

static void on_closed(void *arg, struct connection *c)
{
	sessions_close(arg, c);
}

static int open_socket(struct daemon *d)
{
	char path[PATH_MAX];
	int fd = d->passed_fd;

	if (fd != -1) {
		if (fd < 0)
			log_error("what the service manager passed is no listening Unix stream socket");
		return fd;
	}
	if (snprintf(path, sizeof(path), "%s/flamed.sock", d->options->runtime_dir) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = server_listen(path, d->config.socket_group);
	if (fd < 0)
		log_error("%s: %s%s", path, strerror(-fd), fd == -EADDRINUSE ? "; another flamed serves it" : "");
	return fd;
}

/* Everything that needs to know the clocks, once the keeper has said what it found. */
static void start(struct daemon *d)
{
	struct server_handlers handlers = { on_message, on_closed, d };
	struct model_options options;
	int fd, rc = clocks_init(&d->clocks, &d->board, &d->config);

	if (rc < 0) {
		log_error("the clocks' table: %s", strerror(-rc));
		goto failed;
	}
	governor_options_default(&d->governor.options);
	governor_init(&d->governor, &d->governor.options);
	model_options_default(&options);
	options.quantile = d->config.quantile;
	options.ready_width = d->config.ready_width;
	options.power_sensor = d->meter != NULL;
	options.board = d->board.prior;
	library_init(&d->library, d->options->state_dir, d->board.power_mode, &d->clocks.grid, &options);
	apply_config(d);
	board_log(&d->board);
	fd = open_socket(d);
	if (fd < 0)
		goto failed;
	d->server = server_new(d->loop, fd, &handlers);
	if (!d->server) {
		log_error("the socket cannot be served: out of memory or descriptors");
		goto failed;
	}
	log_info("ready: %zu operating points", d->clocks.grid.points);
	notify_ready();
	status_line(d);
	return;
failed:
	d->failed = true;
	loop_stop(d->loop);
}

static void take_sensors(struct daemon *d, int fds[RAILS_MAX][2])
{
	power_meter_free(d->meter);
	d->meter = d->config.power_sensor && d->board.rails ? power_meter_new(&d->board, &d->root, (const int(*)[2])fds) : NULL;
	d->energy_meter = d->board.rails && d->board.rail[0].kind == RAIL_RAPL;
}

static void close_all(int fds[RAILS_MAX][2])
{
	for (size_t i = 0; i < RAILS_MAX; i++)
		for (int k = 0; k < 2; k++)
			if (fds[i][k] >= 0)
				close(fds[i][k]);
}

static void on_keeper_reply(void *arg, const struct keeper_reply *reply, int fds[RAILS_MAX][2])
{
	struct daemon *d = arg;

	if (reply->op == KEEPER_HELLO && !d->server) {
		keeper_hello_merge(&d->board, reply);
		take_sensors(d, fds);
		d->clocks.last = *reply;
		loop_timer_stop(d->hello);
		start(d);
		return;
	}
	if (reply->op == KEEPER_HELLO && d->config.power_sensor)
		take_sensors(d, fds);
	else
		close_all(fds);
	clocks_take(&d->clocks, reply);
	requests_applied(d);
	profiles_applied(d);
}

static void on_keeper_lost(void *arg)
{
	struct daemon *d = arg;

	if (!d->server)
		return;
	clocks_lose(&d->clocks);
	requests_applied(d);
	profiles_applied(d);
}

/* No word from a keeper: serve all the same, say what cannot be done. */
static void on_hello_late(void *arg)
{
	struct daemon *d = arg;
	int none[RAILS_MAX][2];

	log_error("no keeper answers; serving without moving any clock");
	memset(none, -1, sizeof(none));
	take_sensors(d, none);
	start(d);
}

static void on_reload(void *arg)
{
	struct daemon *d = arg;
	char message[CONFIG_MESSAGE_MAX];
	struct config *fresh = malloc(sizeof(*fresh));

	notify_reloading();
	if (!fresh) {
		log_error("reload: out of memory; the old configuration stays");
	} else if (config_load(fresh, d->options->config, !d->options->config_named, message) < 0) {
		log_error("%s; the old configuration stays", message);
	} else {
		if (memcmp(fresh->use, d->config.use, sizeof(fresh->use)) || fresh->power_sensor != d->config.power_sensor)
			log_warning("[clocks] and [power] sensor are taken at the next start");
		memcpy(fresh->use, d->config.use, sizeof(fresh->use));
		fresh->power_sensor = d->config.power_sensor;
		d->config = *fresh;
		if (d->server)
			apply_config(d);
		log_info("configuration read again");
	}
	free(fresh);
	notify_ready();
}

static void on_terminate(void *arg)
{
	struct daemon *d = arg;

	notify_stopping();
	loop_stop(d->loop);
}

static void on_save(void *arg)
{
	struct daemon *d = arg;

	if (library_save(&d->library) < 0)
		loop_timer_in(d->save, d->config.save_interval_ns);
}

static void on_watchdog(void *arg)
{
	struct daemon *d = arg;

	notify_watchdog();
	status_line(d);
	loop_timer_in(d->watchdog, notify_watchdog_ns());
}

/* Every connection, and what the daemon itself holds. */
static void raise_descriptors(void)
{
	struct rlimit limit;
	rlim_t want = CONNECTIONS_MAX + SPARE_FDS;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= want)
		return;
	limit.rlim_cur = limit.rlim_max < want ? limit.rlim_max : want;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur < want)
		log_warning("only %llu descriptors: fewer than %d connections", (unsigned long long)limit.rlim_cur, CONNECTIONS_MAX);
}

/* A late answer costs a deadline, and there is little to do for one. The units say the same, and
 * who started us at another priority has decided; without the privilege it stays. */
static void come_first(void)
{
	if (getpriority(PRIO_PROCESS, 0) == 0)
		(void)!setpriority(PRIO_PROCESS, 0, NICE);
}

/* Beside flamed in a build tree, or where it is installed. */
static void find_keeper(char path[PATH_MAX + 32])
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	if (slash) {
		snprintf(path, PATH_MAX + 32, "%.*s/flamed-keeper", (int)(slash - self), self);
		if (access(path, X_OK) == 0)
			return;
	}
	strcpy(path, LIBEXECDIR "/flamed-keeper");
}

static bool make_watches(struct daemon *d)
{
	d->hello = loop_timer(d->loop, on_hello_late, d);
	d->expiry = loop_timer(d->loop, requests_expire, d);
	d->idle = loop_timer(d->loop, clocks_idle, d);
	d->save = loop_timer(d->loop, on_save, d);
	d->power = loop_timer(d->loop, sample_in_flight, d);
	d->work = loop_timer(d->loop, work_ahead, d);
	d->watchdog = loop_timer(d->loop, on_watchdog, d);
	d->terminate[0] = loop_signal(d->loop, SIGTERM, on_terminate, d);
	d->terminate[1] = loop_signal(d->loop, SIGINT, on_terminate, d);
	d->reload = loop_signal(d->loop, SIGHUP, on_reload, d);
	return d->hello && d->expiry && d->idle && d->save && d->power && d->work && d->watchdog && d->terminate[0] && d->terminate[1] && d->reload;
}

static void free_watches(struct daemon *d)
{
	struct loop_watch *all[] = { d->hello, d->expiry, d->idle, d->save, d->power, d->work, d->watchdog, d->terminate[0], d->terminate[1], d->reload };

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		loop_watch_free(all[i]);
}

static int run(struct daemon *d)
{
	struct keeper_link_events events = { on_keeper_reply, on_keeper_lost, d };
	struct keeper_link_options options = { .sysroot = d->root.prefix, .state_dir = d->options->state_dir, .boards_dir = d->config.boards_dir };
	char program[PATH_MAX + 32];
	bool service = (d->passed_fd = notify_socket()) >= 0 && d->root.prefix[0] == '\0' && d->config.keeper_socket[0];
	int rc;

	signal(SIGPIPE, SIG_IGN);
	raise_descriptors();
	come_first();
	rc = dir_make(d->options->state_dir, 0750);
	if (rc < 0)
		log_error("%s: %s", d->options->state_dir, strerror(-rc));
	rc = dir_make(d->options->runtime_dir, 0755);
	if (rc < 0)
		log_error("%s: %s", d->options->runtime_dir, strerror(-rc));
	board_detect(&d->board, &d->root, d->config.boards_dir);
	d->loop = loop_new();
	if (!d->loop || !make_watches(d)) {
		log_error("the event loop cannot be made: out of memory or descriptors");
		return STATUS_FAILED;
	}
	find_keeper(program);
	options.program = program;
	options.socket = service ? d->config.keeper_socket : NULL;
	loop_timer_in(d->hello, HELLO_NS);
	if (notify_watchdog_ns())
		loop_timer_in(d->watchdog, notify_watchdog_ns());
	d->clocks.keeper = keeper_link_new(d->loop, &options, &events);
	rc = d->clocks.keeper ? loop_run(d->loop) : -ENOMEM;
	if (rc < 0)
		log_error("flamed ends: %s", strerror(-rc));
	server_free(d->server);
	if (d->clocks.grid.points)
		library_save(&d->library);
	keeper_link_free(d->clocks.keeper);
	library_free(&d->library);
	power_meter_free(d->meter);
	free_watches(d);
	loop_free(d->loop);
	return rc < 0 || d->failed ? STATUS_FAILED : 0;
}

int main(int argc, char **argv)
{
	static struct daemon d;
	struct options o = { SYSCONFDIR "/flamed.conf", "", "/run/flamed", "/var/lib/flamed", false, false };
	int action = parse_options(argc, argv, &o);
	char message[CONFIG_MESSAGE_MAX];

	if (action < 0)
		return STATUS_USAGE;
	if (action == ACTION_DONE)
		return 0;
	log_init(LOG_LEVEL_INFO, NULL, true);
	if (action == ACTION_RESTORE)
		return restore(&o);
	int rc = config_load(&d.config, o.config, !o.config_named, message);
	if (rc < 0) {
		log_error("%s", message);
		return rc == -ENOMEM ? STATUS_FAILED : STATUS_USAGE;
	}
	if (action == ACTION_CHECK) {
		printf("%s: ok\n", o.config);
		return 0;
	}
	log_set_level(d.config.log_level);
	d.options = &o;
	d.root.prefix = o.sysroot;
	d.started_ns = clock_now_ns();
	return run(&d);
}
