/* SPDX-License-Identifier: MIT */
/* libflamed against a daemon that is slow, restarts, refuses and sends rubbish, in this process and on a clock of the
 * test's: no call takes longer than its timeout, none answers with another request's reply, and once the daemon is
 * well again everything works. usage: calls DIR [STEPS [SEED]]   prints TAP; DIR is empty, and not removed. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "../../common/clock.h"
#include "../../common/kv.h"
#include "../../lib/flamed.h"

#define LINKS        8
#define NAMES        6               /* sessions of the handle */
#define LIVE         24              /* requests of the program that it has not ended */
#define GIVEN        512             /* requests that the daemon remembers of one connection */
#define TOKEN_FIRST  1000000ULL      /* ns: each begin has a deadline of its own, which the reply's clocks repeat */
#define SETTLE_MS    100             /* that closing may wait for replies */
#define RECOVERED_NS (12 * NS_PER_S) /* longer than any pause between two attempts to connect */

/* ---- random numbers: xorshift64* (Vigna 2016) ---- */

static uint64_t seed = 1;

static unsigned below(unsigned n)
{
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return (unsigned)((seed * 2685821657736338717ULL >> 33) % n);
}

static bool one_in(unsigned n)
{
	return below(n) == 0;
}

/* ---- time ---- */

static uint64_t now_ns = 1000 * NS_PER_S;

uint64_t clock_now_ns(void)
{
	return now_ns += 20;
}

void clock_sleep_ns(uint64_t ns)
{
	now_ns += ns;
}

/* ---- failure ---- */

static uint64_t step, begun, answered, spoilt, refused, restarts;

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

static void fail(const char *format, ...)
{
	va_list args;

	printf("not ok 1 - every call answers for itself, in time\n# step %" PRIu64 ": ", step);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n1..1\n");
	fflush(stdout);
	_exit(1);
}

/* ---- the daemon ---- */

struct link {
	int fd; /* -1: free */
	char in[1 << 17], out[1 << 18];
	size_t in_len, out_len, out_sent;
	uint64_t session[64]; /* ids given */
	char model[64][8];
	unsigned sessions;
	struct given {
		uint64_t id, token; /* id 0: ended */
	} given[GIVEN];
	unsigned count;
	bool profiled;
};

static struct link links[LINKS];
static struct sockaddr_un address = {.sun_family = AF_UNIX};
static int listener = -1;
static bool well; /* answers everything at once, truly */
static uint64_t ids = 100;

static void daemon_start(void)
{
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	unlink(address.sun_path);
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 4) < 0)
		fail("cannot listen: %s", strerror(errno));
}

static void link_end(struct link *l)
{
	close(l->fd);
	l->fd = -1;
}

static void daemon_stop(void)
{
	close(listener);
	listener = -1;
	for (struct link *l = links; l < links + LINKS; l++)
		if (l->fd >= 0)
			link_end(l);
	restarts++;
}

static void say(struct link *l, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(struct link *l, const char *format, ...)
{
	va_list args;

	if (l->out_len > sizeof(l->out) - 100000)
		return;
	va_start(args, format);
	l->out_len += (size_t)vsnprintf(l->out + l->out_len, sizeof(l->out) - l->out_len, format, args);
	va_end(args);
}

/* Replies that do not belong to this operation. */
static void spoil(struct link *l, const char *op)
{
	static const char *const rubbish[] = {"rubbish\n\n",
					      "errno=abc\n\n",
					      "errno=99999\nmessage=x\n\n",
					      "errno=5\n\n",
					      "=\n\n",
					      "session=1\nsurface=ready\n\n",
					      "errno=-1\nrequest=1\nfeasible=1\n\n",
					      "errno=0\nx\n\n",
					      "\x01\xff\n\n"};
	bool begins = strcmp(op, "begin") == 0;

	spoilt++;
	switch (below(5)) {
	case 0:
		say(l, "%s", begins ? "errno=0\nmissed=0\n\n" : "errno=0\nrequest=77\nfeasible=1\ncpu_hz=77\n\n");
		break;
	case 1:
		for (int i = 0; i < 5000; i++)
			say(l, "k");
		break;
	case 2:
		for (int i = 0; i < 1000; i++)
			say(l, "key=%064d\n", i);
		say(l, "errno=0\n\n");
		break;
	default: say(l, "%s", rubbish[below(sizeof(rubbish) / sizeof(*rubbish))]); break;
	}
}

static bool refuse(struct link *l)
{
	if (well || !one_in(12))
		return false;
	refused++;
	say(l, "errno=%d\nmessage=request: refused\n\n", one_in(2) ? EDQUOT : ENOSPC);
	return true;
}

static uint64_t number(const struct kv *kv, const char *key)
{
	uint64_t value = 0;

	kv_u64(kv, key, 0, UINT64_MAX, &value);
	return value;
}

static void hear_open(struct link *l, const struct kv *kv)
{
	const char *model = kv_get(kv, "model");

	if (!model || strlen(model) >= sizeof(l->model[0]))
		fail("open without a model");
	if (l->sessions == 64 || refuse(l))
		return;
	strcpy(l->model[l->sessions], model);
	l->session[l->sessions++] = ++ids;
	say(l, "errno=0\nsession=%" PRIu64 "\nsurface=%s\n\n", ids, one_in(2) ? "ready" : "none");
}

/* The model of a deadline: its session's. */
static char model_of(uint64_t token)
{
	return (char)('a' + token % NAMES);
}

static void hear_begin(struct link *l, const struct kv *kv)
{
	uint64_t id = number(kv, "session"), token = number(kv, "deadline_ns");
	unsigned i = 0;

	while (i < l->sessions && l->session[i] != id)
		i++;
	if (i == l->sessions)
		fail("begin of session %" PRIu64 ", which this connection has not", id);
	if (token < TOKEN_FIRST || l->model[i][0] != model_of(token))
		fail("deadline %" PRIu64 " of another session than that of model %s", token, l->model[i]);
	if (refuse(l))
		return;
	l->given[l->count++ % GIVEN] = (struct given){++ids, token};
	say(l,
	    "errno=0\nrequest=%" PRIu64 "\nfeasible=%d\ncpu_hz=%" PRIu64 "\ngpu_hz=%" PRIu64
	    "\nmem_hz=0\npredicted_ns=1\nbound_ns=2\nsettle_ns=3\n\n",
	    ids, token % 2 == 0, token, token + 1);
}

static void hear_end(struct link *l, const struct kv *kv)
{
	uint64_t id = number(kv, "request");
	struct given *given = NULL;

	for (unsigned i = 0; i < GIVEN; i++)
		if (l->given[i].id == id)
			given = &l->given[i];
	if (!id || !given)
		fail("end of request %" PRIu64 ", which this connection has not, or no more", id);
	if (number(kv, "total_ns") != given->token + 7)
		fail("request %" PRIu64 " ended with the time of another", id);
	if (number(kv, "ack") != 1)
		fail("end without ack");
	given->id = 0;
	if (!refuse(l))
		say(l, "errno=0\nmissed=%d\n\n", given->token % 3 == 0);
}

static void hear_profile(struct link *l, const char *op)
{
	bool opens = strcmp(op, "profile") == 0;

	if (!opens && !l->profiled)
		fail("sample of no profile");
	l->profiled = true;
	if (refuse(l))
		return;
	if (one_in(4))
		say(l, "errno=0\ndone=1\nsurface=ready\n\n");
	else if (one_in(4))
		say(l, "errno=0\nprofile=7\npause=1\n\n");
	else
		say(l, "errno=0\nprofile=7\ncpu_hz=4242\ngpu_hz=4243\ncontext=0\nrepeat=3\nstep=1\nbudget=3\n\n");
}

static void hear(struct link *l, char *text, size_t len)
{
	static struct kv kv;
	const char *op;
	size_t line;

	if (kv_parse(text, len, &kv, &line) < 0 || !(op = kv_get(&kv, "op")))
		fail("no message: %.*s", (int)len, text);
	if (!well && one_in(200))
		spoil(l, op);
	if (strcmp(op, "open") == 0)
		hear_open(l, &kv);
	else if (strcmp(op, "begin") == 0)
		hear_begin(l, &kv);
	else if (strcmp(op, "end") == 0)
		hear_end(l, &kv);
	else if (strcmp(op, "profile") == 0 || strcmp(op, "sample") == 0)
		hear_profile(l, op);
	else if (strcmp(op, "close") == 0)
		say(l, "errno=0\n\n");
	else
		fail("op %s", op);
}

static void link_read(struct link *l)
{
	ssize_t n = recv(l->fd, l->in + l->in_len, sizeof(l->in) - l->in_len, MSG_DONTWAIT);
	size_t used = 0;
	long frame;

	if (n == 0 || (n < 0 && errno != EAGAIN)) {
		link_end(l);
		return;
	}
	l->in_len += n > 0 ? (size_t)n : 0;
	while ((well || !one_in(4)) && (frame = kv_frame(l->in + used, l->in_len - used)) > 0) {
		hear(l, l->in + used, (size_t)frame);
		used += (size_t)frame;
	}
	memmove(l->in, l->in + used, l->in_len - used);
	l->in_len -= used;
}

static void link_write(struct link *l)
{
	size_t left = l->out_len - l->out_sent, piece = !well && one_in(3) ? 1 + below((unsigned)left + 1) : left;
	ssize_t n = send(l->fd, l->out + l->out_sent, piece < left ? piece : left, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n > 0)
		l->out_sent += (size_t)n;
	if (l->out_sent == l->out_len)
		l->out_sent = l->out_len = 0;
}

static void daemon_accept(void)
{
	int fd = listener < 0 ? -1 : accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct link *l = links;

	if (fd < 0)
		return;
	while (l < links + LINKS && l->fd >= 0)
		l++;
	if (l == links + LINKS) {
		close(fd);
		return;
	}
	memset(l, 0, sizeof(*l));
	l->fd = fd;
}

static void daemon_turn(void)
{
	if (well || !one_in(3))
		daemon_accept();
	for (struct link *l = links; l < links + LINKS; l++) {
		if (l->fd >= 0 && (well || !one_in(3)))
			link_read(l);
		if (l->fd >= 0 && l->out_len && (well || !one_in(3)))
			link_write(l);
		if (l->fd >= 0 && !well && one_in(8000))
			link_end(l);
	}
}

/* libflamed waits here: the daemon goes on meanwhile. */
int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
	uint64_t until_ns = now_ns + (uint64_t)timeout->tv_sec * NS_PER_S + (uint64_t)timeout->tv_nsec;

	(void)mask;
	for (;;) {
		int n = poll(fds, count, 0);

		if (n || now_ns >= until_ns)
			return n;
		daemon_turn();
		now_ns += until_ns - now_ns < NS_PER_MS ? until_ns - now_ns : NS_PER_MS;
	}
}

/* ---- the program ---- */

static struct flamed *flamed;
static int session[NAMES];   /* -1: none */
static uint64_t ends[NAMES]; /* of it, that went well */
static struct live {
	int64_t request;
	uint64_t token;
	unsigned name;
} live[LIVE];
static unsigned lives;
static int64_t last_request;
static uint64_t tokens = TOKEN_FIRST / NAMES;

/* Returns within its timeout, with an error of its manual page. */
static void check(const char *call, uint64_t start_ns, uint64_t most_ms, int64_t rc)
{
	static const int64_t known[] = {-ENOTCONN, -EAGAIN, -ENOENT, -EDQUOT, -ENOSPC, -ETIMEDOUT};
	bool ok = rc >= 0;

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		ok |= rc == known[i];
	if (!ok)
		fail("%s returned %" PRId64, call, rc);
	if (now_ns - start_ns > most_ms * NS_PER_MS + 2 * NS_PER_MS)
		fail("%s took %.3f s", call, (double)(now_ns - start_ns) / 1e9);
}

static void check_decision(const struct live *l, const struct flamed_decision *decision)
{
	if (decision->cpu_hz != l->token || decision->gpu_hz != l->token + 1 || decision->bound_ns != 2 ||
	    decision->feasible != (l->token % 2 == 0))
		fail("the decision of deadline %" PRIu64 " is that of %" PRIu64, l->token, decision->cpu_hz);
	answered++;
}

static void call_session(unsigned name)
{
	char model[2] = {(char)('a' + name), 0};
	unsigned timeout_ms = below(300);
	uint64_t start_ns = now_ns;

	if (session[name] >= 0)
		return;
	session[name] = one_in(4) ? flamed_stream(flamed, model, 20000, 0, timeout_ms * NS_PER_MS) :
				    flamed_session(flamed, model, 0, timeout_ms * NS_PER_MS);
	check("flamed_session", start_ns, timeout_ms, session[name]);
	for (unsigned other = 0; other < NAMES; other++)
		if (other != name && session[name] >= 0 && session[other] == session[name])
			fail("session %d given twice", session[name]);
	ends[name] = 0;
}

static int64_t call_begin(unsigned name, bool wait, unsigned timeout_ms)
{
	uint64_t token = tokens++ * NAMES + name, start_ns = now_ns;
	struct live l = {.token = token, .name = name};
	struct flamed_decision decision;

	if (session[name] < 0 || lives == LIVE)
		return 0;
	l.request = wait ? flamed_begin_wait(flamed, session[name], token, timeout_ms * NS_PER_MS, &decision) :
			   flamed_begin(flamed, session[name], token);
	check(wait ? "flamed_begin_wait" : "flamed_begin", start_ns, wait ? timeout_ms : 0, l.request);
	if (l.request <= 0)
		return l.request;
	if (l.request <= last_request)
		fail("request %" PRId64 " given twice", l.request);
	last_request = l.request;
	if (wait && decision.applied)
		check_decision(&l, &decision);
	live[lives++] = l;
	begun++;
	return l.request;
}

static int call_end(unsigned i)
{
	struct flamed_layer layers[3] = {{10, 20, 0}, {30, 40, 1}, {50, 60, 0}};
	struct live l = live[i];
	uint64_t start_ns = now_ns;
	int rc = one_in(3) ? flamed_end_layers(flamed, l.request, l.token + 7, layers, 3) :
			     flamed_end(flamed, l.request, l.token + 7);

	check("flamed_end", start_ns, 0, rc);
	live[i] = live[--lives];
	ends[l.name] += rc == 0;
	return rc;
}

static void call_decision(const struct live *l)
{
	struct flamed_decision decision;
	uint64_t start_ns = now_ns;
	int rc = flamed_decision(flamed, l->request, &decision);

	check("flamed_decision", start_ns, 0, rc);
	if (rc == 0)
		check_decision(l, &decision);
}

static void call_counts(unsigned name)
{
	uint64_t ended, missed, start_ns = now_ns;
	int rc;

	if (session[name] < 0)
		return;
	rc = flamed_session_counts(flamed, session[name], &ended, &missed);
	check("flamed_session_counts", start_ns, 0, rc);
	if (rc || missed > ended || ended > ends[name])
		fail("%" PRIu64 " of %" PRIu64 " counted, of %" PRIu64 " ended: %d", missed, ended, ends[name], rc);
}

static void forget(unsigned name)
{
	for (unsigned i = lives; i-- > 0;)
		if (live[i].name == name)
			live[i] = live[--lives];
	session[name] = -1;
}

static void call_close(unsigned name)
{
	uint64_t start_ns = now_ns;

	if (session[name] < 0)
		return;
	check("flamed_session_close", start_ns, SETTLE_MS, flamed_session_close(flamed, session[name]));
	forget(name);
}

static void call_profile(void)
{
	struct flamed_measurement measurement = {.latency_ns = 5000000, .n = 3};
	struct flamed_point point = {0};
	unsigned timeout_ms = below(200);
	uint64_t start_ns = now_ns;
	int rc = flamed_profile_open(flamed, "p", "run", 0, 3, timeout_ms * NS_PER_MS, &point);

	check("flamed_profile_open", start_ns, timeout_ms, rc);
	if (rc == 1 && (point.cpu_hz != 4242 || point.gpu_hz != 4243 || point.repeat != 3))
		fail("a point of another reply: %" PRIu64, point.cpu_hz);
	start_ns = now_ns;
	rc = rc < 0 ? 0 : flamed_profile_sample(flamed, &measurement, timeout_ms * NS_PER_MS, &point);
	check("flamed_profile_sample", start_ns, timeout_ms, rc);
	start_ns = now_ns;
	check("flamed_profile_close", start_ns, SETTLE_MS, flamed_profile_close(flamed));
}

static void new_handle(void)
{
	uint64_t start_ns = now_ns;

	flamed_close(flamed);
	check("flamed_close", start_ns, SETTLE_MS, 0);
	if (flamed_open(&flamed, address.sun_path) < 0)
		fail("flamed_open");
	for (unsigned name = 0; name < NAMES; name++)
		forget(name);
	last_request = 0;
}

static void one_step(void)
{
	unsigned name = below(NAMES);
	uint64_t start_ns = now_ns;

	switch (below(20)) {
	case 0: call_session(name); break;
	case 1:
	case 2:
	case 3: call_begin(name, true, below(100)); break;
	case 4:
	case 5:
	case 6:
	case 7: call_begin(name, false, 0); break;
	case 8:
	case 9:
	case 10:
	case 11:
		if (lives)
			call_end(below(lives));
		break;
	case 12:
	case 13:
		if (lives)
			call_decision(&live[below(lives)]);
		break;
	case 14: call_counts(name); break;
	case 15:
		if (one_in(20))
			call_close(name);
		else if (one_in(20))
			call_profile();
		else if (one_in(200))
			new_handle();
		break;
	case 16:
		check("flamed_connected", start_ns, 0, flamed_connected(flamed));
		if (session[name] >= 0)
			check("flamed_session_state", start_ns, 0, flamed_session_state(flamed, session[name]));
		break;
	case 17:
		if (listener < 0 ? one_in(10) : one_in(400))
			(listener < 0 ? daemon_start : daemon_stop)();
		break;
	case 18: now_ns += one_in(50) ? NS_PER_S : below(60000000); break;
	default: daemon_turn(); break;
	}
}

/* The daemon is well again: so is every session. */
static void recover(void)
{
	well = true;
	if (listener < 0)
		daemon_start();
	for (struct link *l = links; l < links + LINKS; l++)
		if (l->fd >= 0)
			link_end(l);
	while (lives)
		call_end(0);
	for (uint64_t until_ns = now_ns + RECOVERED_NS; now_ns < until_ns; now_ns += NS_PER_S / 10) {
		flamed_connected(flamed);
		daemon_turn();
	}
	for (unsigned name = 0; name < NAMES; name++) {
		uint64_t ended, missed, ended_before, missed_before, token;

		if (session[name] < 0)
			call_session(name);
		if (session[name] < 0)
			fail("no session of a daemon that is well: %d", session[name]);
		flamed_session_counts(flamed, session[name], &ended_before, &missed_before);
		if (call_begin(name, true, 1000) <= 0)
			fail("no request of a daemon that is well");
		call_decision(&live[0]);
		token = live[0].token;
		if (call_end(0) != 0)
			fail("no end of a request of a daemon that is well");
		daemon_turn();
		flamed_session_counts(flamed, session[name], &ended, &missed);
		if (ended != ended_before + 1 || missed != missed_before + (token % 3 == 0))
			fail("an end that is not counted: %" PRIu64 " after %" PRIu64, ended, ended_before);
	}
	well = false;
}

int main(int argc, char **argv)
{
	uint64_t steps = argc > 2 ? strtoull(argv[2], NULL, 10) : 1000000;

	if (argc < 2)
		return 2;
	seed = argc > 3 ? strtoull(argv[3], NULL, 10) * 2654435761U + 1 : 1;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", argv[1]);
	for (struct link *l = links; l < links + LINKS; l++)
		l->fd = -1;
	for (unsigned name = 0; name < NAMES; name++)
		session[name] = -1;
	if (flamed_open(&flamed, address.sun_path) < 0)
		fail("flamed_open");
	for (step = 0; step < steps; step++) {
		one_step();
		if (step % 5000 == 4999)
			recover();
	}
	recover();
	flamed_close(flamed);
	printf("ok 1 - every call answers for itself, in time: %" PRIu64 " steps, %" PRIu64 " requests\n", steps,
	       begun);
	if (answered < steps / 50 || spoilt < steps / 2000 || refused < steps / 500 || restarts < steps / 50000)
		fail("too little happened: %" PRIu64 " decisions, %" PRIu64 " spoilt, %" PRIu64 " refused, %" PRIu64
		     " restarts",
		     answered, spoilt, refused, restarts);
	printf("# | libflamed: %" PRIu64 " decisions, %" PRIu64 " bad replies, %" PRIu64 " refusals, %" PRIu64
	       " restarts\n"
	       "1..1\n",
	       answered, spoilt, refused, restarts);
	unlink(address.sun_path);
	return 0;
}
