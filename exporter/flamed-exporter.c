/* SPDX-License-Identifier: MIT */
/* Serves flamed's metrics over HTTP: /metrics for Prometheus, /healthz for a supervisor. It is an
 * unprivileged process of its own, so that the daemon contains no HTTP server. */
#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#include "../common/clock.h"
#include "../common/log.h"
#include "../common/units.h"
#include "../lib/flamed.h"
#include "../lib/scrape.h"
#include "installation.h"

#define LISTEN_DEFAULT    "127.0.0.1:9756"
#define DAEMON_TIMEOUT_NS (2 * NS_PER_S) /* for each page; scrapers usually wait ten seconds */
#define HEADER_BYTES_MAX  8192
#define CLIENT_TIMEOUT_S  10

struct exporter {
	const char *socket; /* of flamed */
	struct wire wire;
};

/* A scraper lists the formats that it accepts. One that lists none gets the older format, which
 * every scraper accepts. */
static enum scrape_format accepted(struct evhttp_request *request)
{
	const char *accept = evhttp_find_header(evhttp_request_get_input_headers(request), "Accept");

	return accept && strstr(accept, "application/openmetrics-text") ? SCRAPE_OPENMETRICS : SCRAPE_PROMETHEUS;
}

/* Errors of a daemon that does not run, is out of reach or hangs: no second attempt. */
static bool is_down(int rc)
{
	return rc == -ENOENT || rc == -ECONNREFUSED || rc == -EACCES || rc == -ETIMEDOUT;
}

/* Ask over the connection, or a new one if there is none. A daemon that was restarted has closed it: once more then.
 * Returns 0 or an error of wire_connect() or of `ask`. */
static int ask_twice(struct exporter *x, int (*ask)(struct wire *wire, void *what), void *what)
{
	int rc = -ENOTCONN;

	for (int tries = 0; tries < 2 && rc < 0 && !is_down(rc); tries++) {
		rc = x->wire.fd >= 0 ? 0 : wire_connect(&x->wire, x->socket);
		if (rc == 0)
			rc = ask(&x->wire, what);
		if (rc < 0)
			wire_close(&x->wire);
	}
	return rc;
}

struct page {
	enum scrape_format format;
	char *text; /* the owner frees it; NULL: none */
	size_t len;
};

static int ask_metrics(struct wire *wire, void *what)
{
	struct page *page = what;
	FILE *out = open_memstream(&page->text, &page->len);
	int rc;

	if (!out)
		return -ENOMEM;
	rc = scrape_write(wire, DAEMON_TIMEOUT_NS, page->format, out);
	if (fclose(out) != 0 && rc == 0)
		rc = -ENOMEM;
	if (rc < 0) {
		free(page->text);
		page->text = NULL;
	}
	return rc;
}

static int ask_hello(struct wire *wire, void *hello)
{
	return wire_call(wire, hello, DAEMON_TIMEOUT_NS);
}

static void complain(const struct exporter *x, int error)
{
	if (log_first(x->socket))
		log_warning("%s: cannot get metrics from flamed: %s; /metrics reports flamed_up 0 until it answers",
			    x->socket, strerror(-error));
}

/* To HEAD without the text: libevent would send it all the same, and no length. */
static void reply(struct evhttp_request *request, int code, const char *type, const char *text, size_t len)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
	bool head = evhttp_request_get_command(request) == EVHTTP_REQ_HEAD;
	struct evbuffer *body = evbuffer_new();
	char length[24];

	snprintf(length, sizeof(length), "%zu", len);
	if (!body || (!head && evbuffer_add(body, text, len) < 0)) {
		evhttp_send_error(request, HTTP_INTERNAL, NULL);
	} else {
		evhttp_add_header(headers, "Content-Type", type);
		evhttp_add_header(headers, "Content-Length", length);
		evhttp_send_reply(request, code, NULL, body);
	}
	if (body)
		evbuffer_free(body);
}

/* If the daemon does not answer, report flamed_up 0, so that an alert can be set on it. */
static void on_metrics(struct evhttp_request *request, void *arg)
{
	struct exporter *x = arg;
	struct page page = {.format = accepted(request)};
	char down[128];
	int rc = ask_twice(x, ask_metrics, &page);

	if (rc < 0) {
		complain(x, rc);
		page.len = (size_t)
			snprintf(down, sizeof(down),
				 "# TYPE flamed_up gauge\n# HELP flamed_up Whether flamed answers.\nflamed_up 0\n%s",
				 page.format == SCRAPE_OPENMETRICS ? "# EOF\n" : "");
	} else {
		log_forget(x->socket);
	}
	reply(request, HTTP_OK, scrape_content_type(page.format), page.text ? page.text : down, page.len);
	free(page.text);
}

static void on_healthz(struct evhttp_request *request, void *arg)
{
	struct exporter *x = arg;
	struct kv_out hello = {0};
	int rc;

	kv_add(&hello, "op", "hello");
	kv_end(&hello);
	rc = ask_twice(x, ask_hello, &hello);
	kv_free(&hello);
	if (rc == 0) {
		reply(request, HTTP_OK, "text/plain; charset=utf-8", "ok\n", 3);
		return;
	}
	char text[128];
	int len = snprintf(text, sizeof(text), "flamed does not answer: %s\n", strerror(-rc));
	reply(request, HTTP_SERVUNAVAIL, "text/plain; charset=utf-8", text, (size_t)len);
}

static void on_other(struct evhttp_request *request, void *arg)
{
	static const char page[] = "flamed-exporter: /metrics and /healthz\n";

	(void)arg;
	reply(request, strcmp(evhttp_request_get_uri(request), "/") == 0 ? HTTP_OK : HTTP_NOTFOUND,
	      "text/plain; charset=utf-8", page, sizeof(page) - 1);
}

static void on_signal(evutil_socket_t signal, short what, void *base)
{
	(void)signal;
	(void)what;
	event_base_loopbreak(base);
}

/* Parse "ADDRESS:PORT", "[IPV6]:PORT" or ":PORT" (loopback). Returns 0 or -EINVAL. */
static int parse_listen(const char *text, char address[64], uint16_t *port)
{
	const char *colon = strrchr(text, ':');
	size_t len = colon ? (size_t)(colon - text) : 0;
	uint64_t number;

	if (!colon || len >= 64 || parse_u64(colon + 1, &number) < 0 || number > UINT16_MAX)
		return -EINVAL;
	if (len > 2 && text[0] == '[' && text[len - 1] == ']')
		snprintf(address, 64, "%.*s", (int)(len - 2), text + 1);
	else
		snprintf(address, 64, "%.*s", (int)len, text);
	if (!address[0])
		strcpy(address, "127.0.0.1");
	*port = (uint16_t)number;
	return 0;
}

/* Use the sockets passed by the service manager, or create one. Returns 0 or an exit status. */
static int listen_on(struct evhttp *http, const char *where)
{
	int passed = sd_listen_fds(1);
	char address[64];
	uint16_t port;

	for (int i = 0; i < passed; i++) {
		int fd = SD_LISTEN_FDS_START + i;

		if (evutil_make_socket_nonblocking(fd) < 0 || evhttp_accept_socket(http, fd) < 0) {
			log_error("socket %d passed by the service manager: %s", i, strerror(errno));
			return 1;
		}
	}
	if (passed > 0)
		return 0;
	if (parse_listen(where, address, &port) < 0) {
		log_error("--listen: not ADDRESS:PORT: %s", where);
		return 2;
	}
	struct evhttp_bound_socket *bound = evhttp_bind_socket_with_handle(http, address, port);
	if (!bound) {
		log_error("--listen %s: %s", where, strerror(errno));
		return 1;
	}
	/* Port 0 selects any free port: log which. */
	struct sockaddr_storage name;
	socklen_t size = sizeof(name);
	if (getsockname(evhttp_bound_socket_get_fd(bound), (struct sockaddr *)&name, &size) == 0)
		log_info("listening on %s port %d", address,
			 ntohs(name.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&name)->sin6_port :
							    ((struct sockaddr_in *)&name)->sin_port));
	return 0;
}

static int serve(struct exporter *x, const char *where)
{
	struct event_base *base = event_base_new();
	struct evhttp *http = base ? evhttp_new(base) : NULL;
	struct event *end[2] = {base ? evsignal_new(base, SIGTERM, on_signal, base) : NULL,
				base ? evsignal_new(base, SIGINT, on_signal, base) : NULL};
	int rc = 1;

	if (!http || !end[0] || !end[1] || event_add(end[0], NULL) < 0 || event_add(end[1], NULL) < 0) {
		log_error("out of memory");
		goto out;
	}
	evhttp_set_allowed_methods(http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD);
	evhttp_set_max_headers_size(http, HEADER_BYTES_MAX);
	evhttp_set_max_body_size(http, 0);
	evhttp_set_timeout(http, CLIENT_TIMEOUT_S);
	evhttp_set_cb(http, "/metrics", on_metrics, x);
	evhttp_set_cb(http, "/healthz", on_healthz, x);
	evhttp_set_gencb(http, on_other, x);
	rc = listen_on(http, where);
	if (rc == 0) {
		sd_notify(0, "READY=1");
		rc = event_base_dispatch(base) < 0;
		sd_notify(0, "STOPPING=1");
	}
out:
	for (int i = 0; i < 2; i++)
		if (end[i])
			event_free(end[i]);
	if (http)
		evhttp_free(http);
	if (base)
		event_base_free(base);
	return rc;
}

static int usage(FILE *out)
{
	fputs("usage: flamed-exporter [--listen ADDRESS:PORT] [--socket PATH]\n\n"
	      "Serve the metrics of flamed over HTTP: /metrics (OpenMetrics or Prometheus\n"
	      "text, as requested by the scraper) and /healthz.\n\n"
	      "  --listen ADDRESS:PORT  default " LISTEN_DEFAULT "; ignored if the service manager passes a socket\n"
	      "  --socket PATH          of flamed; default $FLAMED_SOCKET, else " FLAMED_SOCKET_DEFAULT "\n"
	      "  --version\n",
	      out);
	return out == stdout ? 0 : 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"listen", required_argument, NULL, 'l'},
		{"socket", required_argument, NULL, 's'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0},
	};
	struct exporter x = {.socket = secure_getenv("FLAMED_SOCKET")};
	const char *where = LISTEN_DEFAULT;
	int option, rc;

	if (!x.socket || !*x.socket)
		x.socket = FLAMED_SOCKET_DEFAULT;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'l': where = optarg; break;
		case 's': x.socket = optarg; break;
		case 'h': return usage(stdout);
		case 'V': puts("flamed-exporter " FLAMED_VERSION); return 0;
		default: return usage(stderr);
		}
	}
	if (optind < argc) {
		fprintf(stderr, "flamed-exporter: unexpected argument %s\n", argv[optind]);
		return usage(stderr);
	}
	signal(SIGPIPE, SIG_IGN);
	wire_init(&x.wire);
	rc = serve(&x, where);
	wire_free(&x.wire);
	return rc;
}
