/* SPDX-License-Identifier: MIT */
/* What test_python.py runs against a daemon of tables: scopes end requests. */
#include <cstdio>
#include <stdexcept>

#include "flamed.hpp"

using namespace std::chrono_literals;

int main(int, char **argv)
{
	flamedpp::handle handle(argv[1]);
	flamedpp::session session(handle, "net", 33ms);

	{
		auto request = session.begin_wait();
	}
	try {
		auto request = session.begin_wait(20ms);
		throw std::runtime_error("mine");
	} catch (const std::runtime_error &) {
		std::puts("caught");
	}
	auto moved = [&] { return session.begin_wait(); }();
	moved.end();
	moved.end();
	auto stream = flamedpp::session::stream(handle, "llama", 15, 800ms);
	stream.start();
	{
		auto token = stream.begin_wait();
	}
	stream.phase("decode", 7);
	/* Replies come in order: the next wait has taken the counts of those before it. */
	std::printf("ended %llu\n", static_cast<unsigned long long>(session.counts().first));
	try {
		flamedpp::session bad(handle, "no good");
	} catch (const std::system_error &) {
		return 0;
	}
	return 1;
}
