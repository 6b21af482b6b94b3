/* SPDX-License-Identifier: MIT */
/* One reply to each message, in order, even if requests expire, the keeper dies or clients disconnect: the
 * daemon's own server, sessions, requests and profiles in this process, in the world of world.h, against a model of the
 * protocol. usage: replies DIR [STEPS [SEED]]   prints TAP; DIR has to be empty, and is not removed. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../../common/clock.h"
#include "../../common/file.h"
#include "../../common/log.h"
#include "../../common/units.h"
#include "../../daemon/daemon.h"
#include "world.h"

#define CLIENTS      6
#define EXPECTED_MAX 64
#define SESSIONS_OWN 3
#define REQUESTS_OWN 12
#define EXPIRY_NS    (2 * NS_PER_S)
#define DEADLINE_NS  (20 * NS_PER_MS)
#define DRAIN_NS     (30 * NS_PER_S) /* by then every reply must have come */
#define HELPER_MS    60000           /* a helper process takes less, however busy the machine is */

static struct daemon d;

/* ---- clients, and the replies that they expect ---- */

enum kind {
	HELLO,
	STATUS,
	SURFACE,
	MODELS,
	EXPLAIN,
	OPEN,
	BEGIN,
	END,
	END_QUIET,
	CLOSE,
	PROFILE,
	SAMPLE,
	CLOSE_PROFILE,
	UNKNOWN,
	RUBBISH,
	KINDS
};

static const char *const kind_name[KINDS] = {"hello",
					     "status",
					     "surface",
					     "models",
					     "explain",
					     "open",
					     "begin",
					     "end",
					     "end without ack",
					     "close",
					     "profile",
					     "sample",
					     "close of a profile",
					     "unknown op",
					     "rubbish"};

struct expected {
	enum kind kind;
	uint64_t id; /* named in the message */
	uint64_t sent_ns;
	bool good;            /* the id is one the daemon gave, and not ended or closed by an earlier message */
	uint64_t begun_ns;    /* END: not before this was the request begun, */
	uint64_t known_ns;    /* and not after this */
	uint64_t last_active; /* BEGIN: how many others of the session may be in flight */
};

struct client {
	int fd;
	char out[65536];
	size_t out_len, out_sent;
	char in[65536 + 4096];
	size_t in_len;
	struct expected expected[EXPECTED_MAX];
	unsigned first, count;
	uint64_t session[SESSIONS_OWN];
	unsigned sessions;
	struct own_request {
		uint64_t id, session, begun_ns, known_ns;
	} request[REQUESTS_OWN];
	unsigned requests;
	uint64_t profile;
	bool profile_asked, open_asked;
};

static struct client client[CLIENTS];
static const char *directory;
static char path[108];
static uint64_t step, replies, expired, of_kind[KINDS];

static void fail(const struct client *c, const struct expected *e, const char *why, const char *reply)
{
	printf("not ok 1 - one reply to each message, in order\n# step %" PRIu64 ", client %td, %s (id %" PRIu64
	       "): %s\n# reply: %.400s\n1..1\n",
	       step, c ? c - client : -1, e ? kind_name[e->kind] : "nothing expected", e ? e->id : 0, why,
	       reply ? reply : "");
	fflush(stdout);
	_exit(1);
}

static void client_connect(struct client *c)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	memset(c, 0, sizeof(*c));
	strcpy(addr.sun_path, path);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		fail(c, NULL, "cannot connect", strerror(errno));
}

static void client_leave(struct client *c)
{
	close(c->fd);
	c->fd = -1;
}

static void say(struct client *c, struct expected e, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void say(struct client *c, struct expected e, const char *format, ...)
{
	va_list args;

	e.sent_ns = now_ns;
	c->expected[(c->first + c->count++) % EXPECTED_MAX] = e;
	va_start(args, format);
	c->out_len += (size_t)vsnprintf(c->out + c->out_len, sizeof(c->out) - c->out_len, format, args);
	va_end(args);
}

static uint64_t bogus(void)
{
	static uint64_t next = 1000000007ULL * 512;

	return next += 1 + below(100);
}

static void say_begin(struct client *c)
{
	uint64_t id = c->sessions && !one_in(20) ? c->session[below(c->sessions)] : bogus();
	bool good = false;

	for (unsigned i = 0; i < c->sessions; i++)
		good |= c->session[i] == id;
	say(c, (struct expected){.kind = BEGIN, .id = id, .good = good},
	    "op=begin\nsession=%" PRIu64 "\ndeadline_ns=%llu\n%s\n", id,
	    (unsigned long long)(DEADLINE_NS / (1 + below(8))), one_in(2) ? "wait=1\n" : "");
}

static void say_end(struct client *c, bool quiet)
{
	struct expected e = {.kind = quiet ? END_QUIET : END};
	unsigned k = c->requests ? below(c->requests) : 0;

	if (c->requests && !one_in(20)) {
		e.id = c->request[k].id;
		e.good = true;
		e.begun_ns = c->request[k].begun_ns;
		e.known_ns = c->request[k].known_ns;
		c->request[k] = c->request[--c->requests];
	} else {
		e.id = bogus();
	}
	say(c, e, "op=end\nrequest=%" PRIu64 "\n%s%s\n", e.id, one_in(2) ? "total_ns=9000000\n" : "",
	    quiet ? "" : "ack=1\n");
}

static void say_close(struct client *c)
{
	unsigned k = c->sessions ? below(c->sessions) : 0;
	bool good = c->sessions && !one_in(10);
	uint64_t id = good ? c->session[k] : bogus();

	if (good) {
		c->session[k] = c->session[--c->sessions];
		for (unsigned i = c->requests; i-- > 0;)
			if (c->request[i].session == id)
				c->request[i] = c->request[--c->requests];
	}
	say(c, (struct expected){.kind = CLOSE, .id = id, .good = good}, "op=close\nsession=%" PRIu64 "\n\n", id);
}

static void say_profile(struct client *c)
{
	if (c->profile && one_in(3)) {
		say(c, (struct expected){.kind = CLOSE_PROFILE, .id = c->profile, .good = true},
		    "op=close\nprofile=%" PRIu64 "\n\n", c->profile);
		c->profile = 0;
	} else if (c->profile && !c->profile_asked) {
		c->profile_asked = true;
		say(c, (struct expected){.kind = SAMPLE, .id = c->profile, .good = true},
		    "op=sample\nprofile=%" PRIu64 "\n%s\n", c->profile,
		    one_in(3) ? "" : "latency_ns=9000000\nn=5\nsd_ns=1000\n");
	} else if (!c->profile && !c->profile_asked && one_in(3)) {
		c->profile_asked = true;
		say(c, (struct expected){.kind = PROFILE}, "op=profile\nmodel=p%u\nbudget=3\n\n", below(3));
	}
}

static void talk(struct client *c)
{
	if (c->count >= EXPECTED_MAX - 2 || c->out_len > sizeof(c->out) - 4096)
		return;
	switch (below(24)) {
	case 0: say(c, (struct expected){.kind = HELLO}, "op=hello\n\n"); break;
	case 1: say(c, (struct expected){.kind = STATUS}, "op=status\n\n"); break;
	case 2: say(c, (struct expected){.kind = UNKNOWN}, "op=nonsense\n\n"); break;
	case 3: say(c, (struct expected){.kind = RUBBISH}, "op=hello\nrubbish\n\n"); break;
	case 4: say(c, (struct expected){.kind = EXPLAIN}, "op=explain\n\n"); break;
	case 5: say(c, (struct expected){.kind = MODELS}, "op=models\n\n"); break;
	case 6: say(c, (struct expected){.kind = SURFACE}, "op=surface\nmodel=m%u\n\n", below(3)); break;
	case 7: say_close(c); break;
	case 8: say_profile(c); break;
	case 9:
	case 10:
		if (c->sessions < SESSIONS_OWN && !c->open_asked) {
			c->open_asked = true;
			say(c, (struct expected){.kind = OPEN}, "op=open\nmodel=m%u\n%s\n", below(3),
			    one_in(2) ? "deadline_ns=20000000\n" : "");
		}
		break;
	case 11:
	case 12:
	case 13:
	case 14:
	case 15:
	case 16: say_begin(c); break;
	case 17:
	case 18: say_end(c, true); break;
	default: say_end(c, false); break;
	}
}

/* ---- the model of the protocol ---- */

static void note_begun(struct client *c, const struct expected *e, const struct kv *kv)
{
	uint64_t id = 0;
	bool open = false;

	kv_u64(kv, "request", 1, UINT64_MAX, &id);
	for (unsigned i = 0; i < c->sessions; i++)
		open |= c->session[i] == e->id;
	if (open && c->requests < REQUESTS_OWN)
		c->request[c->requests++] = (struct own_request){id, e->id, e->sent_ns, now_ns};
}

/* Whether the daemon replied that the object does not exist. */
static bool is_unknown(const struct kv *kv, const char *what, uint64_t id)
{
	char text[64];
	uint64_t rc = 0;

	kv_u64(kv, "errno", 0, 4095, &rc);
	snprintf(text, sizeof(text), "%s: no %s %" PRIu64, what, what, id);
	return rc == ENOENT && kv_get(kv, "message") && strncmp(kv_get(kv, "message"), text, strlen(text)) == 0;
}

static const char *judge_end(const struct expected *e, const struct kv *kv, uint64_t rc)
{
	bool alive = e->good && now_ns < e->begun_ns + EXPIRY_NS,
	     over = !e->good || e->sent_ns > e->known_ns + EXPIRY_NS + NS_PER_MS;

	if (rc == 0 && over)
		return "a request that cannot exist any more was ended";
	if (rc == 0)
		return kv_get(kv, "missed") ? NULL : "no answer to an end";
	expired += e->good;
	if (!is_unknown(kv, "request", e->id))
		return "an error of another message";
	return alive ? "a request that was in flight is not known" : NULL;
}

/* The fault of a reply to this message; NULL: none. */
static const char *judge(struct client *c, const struct expected *e, const struct kv *kv)
{
	static const char *const key[KINDS] = {
		[HELLO] = "protocol", [STATUS] = "uptime_ns", [SURFACE] = "slowdown",
		[EXPLAIN] = "regime", [OPEN] = "surface",     [BEGIN] = "feasible",
	};
	uint64_t rc = 0, id = 0;
	bool given = kv_get(kv, "message") != NULL;

	if (kv_u64(kv, "errno", 0, 4095, &rc) != 1 || (rc && !given))
		return "no errno, or no message to it";
	switch (e->kind) {
	case UNKNOWN:
	case RUBBISH: return rc == EINVAL ? NULL : "no error";
	case HELLO:
	case STATUS: return rc == 0 && kv_get(kv, key[e->kind]) ? NULL : "another reply";
	case MODELS:
		return rc == 0 && !kv_get(kv, "missed") && !kv_get(kv, "session") && !kv_get(kv, "request") ?
			       NULL :
			       "another reply";
	case SURFACE:
	case EXPLAIN:
		return rc == 0      ? (kv_get(kv, key[e->kind]) ? NULL : "another reply") :
		       rc == ENOENT ? NULL :
				      "another error";
	case OPEN:
		c->open_asked = false;
		if (rc)
			return rc == EDQUOT || rc == ENOSPC ? NULL : "another error";
		if (kv_u64(kv, "session", 1, UINT64_MAX, &id) != 1 || !kv_get(kv, "surface"))
			return "another reply";
		c->session[c->sessions++] = id;
		return NULL;
	case BEGIN:
		if (!e->good)
			return is_unknown(kv, "session", e->id) ? NULL : "a session that is not was known";
		if (rc == 0 && (!kv_get(kv, "request") || !kv_get(kv, "feasible")))
			return "another reply";
		if (rc == 0)
			note_begun(c, e, kv);
		if (rc == ETIMEDOUT)
			return now_ns >= e->sent_ns + EXPIRY_NS ? NULL : "expired too early";
		return rc == 0 || rc == EDQUOT || rc == ENOSPC ? NULL : "another error";
	case END:
	case END_QUIET: return judge_end(e, kv, rc);
	case CLOSE:
		if (!e->good)
			return is_unknown(kv, "session", e->id) ? NULL : "a session that is not was known";
		return rc == 0 && kv->count == 1 ? NULL : "another reply";
	case CLOSE_PROFILE:
		return (rc == 0 && kv->count == 1) || is_unknown(kv, "profile", e->id) ? NULL : "another reply";
	case PROFILE:
	case SAMPLE:
		c->profile_asked = false;
		if (rc) {
			c->profile = e->kind == SAMPLE ? 0 : c->profile;
			return rc == EBUSY || rc == EDQUOT || rc == ENOENT || rc == ETIMEDOUT || rc == ENOMEM ?
				       NULL :
				       "another error";
		}
		if (kv_get(kv, "done"))
			c->profile = 0;
		else if (kv_u64(kv, "profile", 1, UINT64_MAX, &c->profile) != 1)
			return "another reply";
		return NULL;
	case KINDS: break;
	}
	return "no such kind";
}

/* An end without ack succeeded, and so has no reply, if this reply is not its error. */
static bool was_silent(const struct client *c, const struct expected *e, const struct kv *kv, const char *reply)
{
	if (e->kind != END_QUIET || is_unknown(kv, "request", e->id))
		return false;
	if (!e->good || e->sent_ns > e->known_ns + EXPIRY_NS + NS_PER_MS)
		fail(c, e, "the error to an end of a request that is over did not come", reply);
	return true;
}

static void take(struct client *c, char *text, size_t len)
{
	static struct kv kv;
	struct expected *e;
	char reply[512];
	size_t line;

	snprintf(reply, sizeof(reply), "%.*s", (int)len, text);
	if (kv_parse(text, len, &kv, &line) < 0)
		fail(c, NULL, "no message", reply);
	for (;;) {
		const char *wrong;

		if (c->count == 0)
			fail(c, NULL, "a reply too many", reply);
		e = &c->expected[c->first];
		c->first = (c->first + 1) % EXPECTED_MAX;
		c->count--;
		if (was_silent(c, e, &kv, reply))
			continue;
		wrong = judge(c, e, &kv);
		if (wrong)
			fail(c, e, wrong, reply);
		of_kind[e->kind]++;
		replies++;
		return;
	}
}

static void hear(struct client *c)
{
	ssize_t n = recv(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len, MSG_DONTWAIT);
	long frame;
	size_t used = 0;

	if (n == 0 || (n < 0 && errno != EAGAIN))
		fail(c, NULL, "the connection ended", n < 0 ? strerror(errno) : NULL);
	if (n <= 0)
		return;
	c->in_len += (size_t)n;
	while ((frame = kv_frame(c->in + used, c->in_len - used)) > 0) {
		take(c, c->in + used, (size_t)frame);
		used += (size_t)frame;
	}
	memmove(c->in, c->in + used, c->in_len - used);
	c->in_len -= used;
}

/* A piece of the pending output, cut anywhere. */
static void push(struct client *c)
{
	size_t left = c->out_len - c->out_sent, piece = one_in(3) ? 1 + below((unsigned)left + 1) : left;
	ssize_t n =
		left ? send(c->fd, c->out + c->out_sent, piece < left ? piece : left, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;

	if (n > 0)
		c->out_sent += (size_t)n;
	if (c->out_sent == c->out_len)
		c->out_sent = c->out_len = 0;
}

/* A helper process runs in real time, for which the clock of the test waits. */
static void await_helper(void)
{
	struct pollfd end = {.fd = d.fitting.helper.fd, .events = POLLIN};

	if (d.fitting.helper.pid)
		(void)!poll(&end, 1, HELPER_MS);
}

/* Everything is sent, served, expired and received: no reply may be missing. */
static void drain(void)
{
	keeper.hung = false;
	if (!keeper.alive)
		keeper_return(&d);
	for (uint64_t until_ns = now_ns + DRAIN_NS; now_ns < until_ns; pass(20 * NS_PER_MS)) {
		for (struct client *c = client; c < client + CLIENTS; c++) {
			push(c);
			hear(c);
		}
		await_helper();
		turn();
		keeper_answer(&d);
	}
	for (struct client *c = client; c < client + CLIENTS; c++)
		for (; c->count; c->count--, c->first = (c->first + 1) % EXPECTED_MAX)
			if (c->expected[c->first].kind != END_QUIET)
				fail(c, &c->expected[c->first], "no reply, ever", NULL);
}

static void one_step(void)
{
	struct client *c = &client[below(CLIENTS)];

	switch (below(16)) {
	case 0:
	case 1:
	case 2:
	case 3: talk(c); break;
	case 4:
	case 5:
	case 6: push(c); break;
	case 7:
	case 8:
	case 9: turn(); break;
	case 10: hear(c); break;
	case 11: pass(one_in(40) ? EXPIRY_NS / (1 + below(4)) : below(3000000)); break;
	case 12:
	case 13: keeper_answer(&d); break;
	case 14:
		if (one_in(200) && keeper.alive)
			keeper_die(&d);
		else if (one_in(keeper.hung ? 10 : 40))
			keeper.hung = !keeper.hung;
		else if (!keeper.alive && one_in(20))
			keeper_return(&d);
		break;
	default:
		if (one_in(400)) {
			client_leave(c);
			turn();
			client_connect(c);
		}
		break;
	}
}

static void ignore(void *arg)
{
	(void)arg;
}

static void make_daemon(void)
{
	static const uint64_t hz[] = {500000000, 1000000000, 1500000000};
	static struct options options;
	struct server_handlers handlers = {dispatch_message, dispatch_beside_others, dispatch_closed, &d};
	struct governor_options governor;
	struct model_options model;
	int fd;

	snprintf(path, sizeof(path), "%s/s", directory);
	log_init(LOG_LEVEL_ERROR, NULL, true);
	config_default(&d.config);
	d.config.request_expiry_ns = EXPIRY_NS;
	d.config.power_sensor = false;
	options.runtime_dir = options.state_dir = directory;
	d.options = &options;
	d.root.prefix = directory;
	d.loop = &loop;
	for (int i = 0; i < CLOCK_COUNT - 1; i++) {
		struct clock_domain *domain = &d.board.clock[i];

		domain->devices = 1;
		domain->device[0].method = METHOD_DEVFREQ_LIMITS;
		domain->device[0].count = sizeof(hz) / sizeof(*hz);
		memcpy(domain->device[0].hz, hz, sizeof(hz));
		domain->settle_ns = NS_PER_MS;
	}
	d.clocks.keeper = (struct keeper_link *)&keeper;
	keeper.alive = true;
	assert(clocks_init(&d.clocks, &d.board, &d.config) == 0);
	governor_options_default(&governor);
	governor_init(&d.governor, &governor);
	model_options_default(&model);
	library_init(&d.library, directory, "", &d.clocks.grid, &model, &d.governor);
	d.expiry = loop_timer(&loop, requests_expire, &d);
	d.idle = loop_timer(&loop, clocks_idle, &d);
	d.save = loop_timer(&loop, ignore, &d);
	d.read = loop_timer(&loop, ignore, &d);
	d.rescan = loop_timer(&loop, ignore, &d); /* the board of this test does not change */
	d.power.timer = loop_timer(&loop, power_sample, &d);
	d.work = loop_timer(&loop, work_ahead, &d);
	fd = server_listen(path, "");
	assert(fd >= 0);
	d.server = server_new(&loop, fd, &handlers);
	assert(d.server);
}

int main(int argc, char **argv)
{
	uint64_t steps = argc > 2 ? strtoull(argv[2], NULL, 10) : 1000000;

	if (argc < 2)
		return 2;
	directory = argv[1];
	seed = argc > 3 ? strtoull(argv[3], NULL, 10) * 2654435761U + 1 : 1;
	make_daemon();
	for (struct client *c = client; c < client + CLIENTS; c++)
		client_connect(c);
	for (step = 0; step < steps; step++) {
		one_step();
		if (step % 20000 == 19999)
			drain();
	}
	drain();
	printf("ok 1 - one reply to each message, in order: %" PRIu64 " steps, %" PRIu64 " replies\n", steps, replies);
	bool all = expired > 0;
	for (int k = 0; k < KINDS; k++)
		all &= of_kind[k] > 0;
	printf("%s 2 - each kind of message was answered, and some requests had expired\n1..2\n",
	       all ? "ok" : "not ok");
	for (int k = 0; k < KINDS; k++)
		printf("# %s: %" PRIu64 "\n", kind_name[k], of_kind[k]);
	server_free(d.server);
	library_free(&d.library);
	return !all;
}
