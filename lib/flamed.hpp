/* SPDX-License-Identifier: MIT */
/* libflamed for C++17: a handle, a session and a request that end with their
 * scope. Header only; flamed.h says what each call does. No call throws but the
 * constructors of flamedpp::handle and flamedpp::session, on bad arguments or want
 * of memory: an absent daemon is no error. */
#ifndef FLAMED_HPP
#define FLAMED_HPP

#include <chrono>
#include <cstdint>
#include <system_error>
#include <utility>

#include "flamed.h"

namespace flamedpp {

using nanoseconds = std::chrono::nanoseconds;

namespace detail {
inline std::uint64_t count(nanoseconds time) { return time.count() > 0 ? static_cast<std::uint64_t>(time.count()) : 0; }

inline int check(int rc, const char *what)
{
	if (rc < 0)
		throw std::system_error(-rc, std::generic_category(), what);
	return rc;
}
} // namespace detail

/* A connection to flamed. */
class handle {
public:
	explicit handle(const char *socket_path = nullptr)
	{
		detail::check(flamed_open(&flamed_, socket_path), "flamed_open");
	}
	~handle() { flamed_close(flamed_); }
	handle(const handle &) = delete;
	handle &operator=(const handle &) = delete;
	handle(handle &&other) noexcept : flamed_(std::exchange(other.flamed_, nullptr)) {}

	bool connected() const { return flamed_connected(flamed_) == 1; }
	struct ::flamed *get() const { return flamed_; }

private:
	struct ::flamed *flamed_ = nullptr;
};

/* One inference: begins when made, ends when destroyed, or by end(). */
class request {
public:
	request(struct ::flamed *flamed, std::int64_t number) : flamed_(flamed), number_(number) {}
	~request() { end(); }
	request(const request &) = delete;
	request &operator=(const request &) = delete;
	request(request &&other) noexcept : flamed_(other.flamed_), number_(std::exchange(other.number_, -1)) {}

	/* Over 0 while it runs; else the negative errno of its begin, or of nothing left to end. */
	std::int64_t number() const { return number_; }

	/* Once; `total` as measured by the program, 0: the time that passed. */
	void end(nanoseconds total = nanoseconds(0))
	{
		if (number_ > 0)
			flamed_end(flamed_, number_, detail::count(total));
		number_ = -1;
	}
	/* Instead of end(): it failed, or was another inference than announced. */
	void withdraw()
	{
		if (number_ > 0)
			flamed_withdraw(flamed_, number_);
		number_ = -1;
	}
	/* Instead of end(): it was not run, and will be tried again. */
	void put_back()
	{
		if (number_ > 0)
			flamed_put_back(flamed_, number_);
		number_ = -1;
	}

private:
	struct ::flamed *flamed_;
	std::int64_t number_;
};

/* One model. Lives no longer than its handle. */
class session {
public:
	/* `deadline` is what its requests usually ask; 0: $FLAMED_DEADLINE_NS, or as flamed_session(). */
	session(handle &handle, const char *model, nanoseconds deadline = nanoseconds(0),
		nanoseconds timeout = std::chrono::seconds(1))
		: session(handle.get(),
			  flamed_session(handle.get(), model, detail::count(deadline), detail::count(timeout)))
	{
	}
	~session()
	{
		if (number_ >= 0)
			flamed_session_close(flamed_, number_);
	}
	session(const session &) = delete;
	session &operator=(const session &) = delete;
	session(session &&other) noexcept : flamed_(other.flamed_), number_(std::exchange(other.number_, -1)) {}

	/* A stream of `rate` requests a second, the first due `first` after its start. */
	static session stream(handle &handle, const char *model, double rate, nanoseconds first = nanoseconds(0),
			      nanoseconds timeout = std::chrono::seconds(1))
	{
		auto rate_mhz = static_cast<std::uint64_t>(rate * 1000 + 0.5);

		return session(handle.get(), flamed_stream(handle.get(), model, rate_mhz, detail::count(first),
							   detail::count(timeout)));
	}

	/* The next request starts the stream again. */
	void start() { flamed_stream_start(flamed_, number_); }
	void phase(const char *name, std::uint32_t context = 0) { flamed_phase(flamed_, number_, name, context); }

	[[nodiscard]] request begin(nanoseconds deadline = nanoseconds(0))
	{
		return request(flamed_, flamed_begin(flamed_, number_, detail::count(deadline)));
	}
	/* Blocks until the clocks are applied, `timeout` at most. */
	[[nodiscard]] request begin_wait(nanoseconds deadline = nanoseconds(0),
					 struct ::flamed_decision *decision = nullptr,
					 nanoseconds timeout = std::chrono::seconds(1))
	{
		return request(flamed_, flamed_begin_wait(flamed_, number_, detail::count(deadline),
							  detail::count(timeout), decision));
	}

	/* Requests that ended, and of those the missed ones. */
	std::pair<std::uint64_t, std::uint64_t> counts() const
	{
		std::uint64_t ended = 0, missed = 0;

		flamed_session_counts(flamed_, number_, &ended, &missed);
		return {ended, missed};
	}

private:
	session(struct ::flamed *flamed, int number)
		: flamed_(flamed), number_(detail::check(number, "flamed session"))
	{
	}

	struct ::flamed *flamed_;
	int number_;
};

} // namespace flamedpp

#endif
