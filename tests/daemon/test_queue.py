#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
# Connections that wait: replies still owed to a client that has shut down its sending side, and the order in which
# the questions of one user's connections are answered.
import select

from daemonlib import *

OTHER_UID = 65534
QUESTIONS = 60
ROUNDS = 20  # at most


def to_the_end(c):
    """Every reply up to the end of the connection."""
    replies = []
    try:
        while True:
            replies.append(c.reply())
    except Closed:
        return replies


def half_closed():
    """Everything that was sent before shutdown(SHUT_WR) is answered, in order; then its sessions end."""
    d = Daemon()
    before = d.knobs()
    c = d.client()
    text = "op=open\nmodel=half\n\n" + "op=hello\n\n"
    session = c.ask(op="open", model="half")["session"]
    for k in range(20):
        text += f"op=begin\nsession={session}\ndeadline_ns={50 + k}000000\nwait=1\n\nop=unknown{k}\n\n"
    c.raw(text.encode())
    c.s.shutdown(socket.SHUT_WR)
    replies = to_the_end(c)
    begun = replies[2::2]
    ok(len(replies) == 42 and "session" in replies[0] and "protocol" in replies[1],
       "a client that only sends no more gets every reply", (len(replies), replies[:3]))
    ok(["request" in r for r in begun[:8]] == [True] * 8 and all(r["errno"] == "122" for r in begun[8:]) and
       len({r["request"] for r in begun[:8]}) == 8, "each begin its own", begun)
    ok(all(f"unknown{k}" in r.get("message", "") for k, r in enumerate(replies[3::2])), "in order", replies[3::2])
    ok(wait_for(lambda: d.status()["sessions"] == "0"), "then its sessions end", d.status()["sessions"])
    ok(d.restored(before), "and every knob is as found", d.difference(before))
    d.end()


def half_closed_while_held():
    """The keeper answers late: the begin is answered all the same, before the connection ends."""
    for late_s, expiry_s, what in ((0.3, 60, "in force"), (0, 5, "expired")):
        d = Daemon(config=f"[flamed]\nrequest_expiry = {expiry_s} s\n")
        before = d.knobs()
        keeper = d.keeper_pid()
        c = d.client()
        session = c.open("held")
        os.kill(keeper, signal.SIGSTOP)
        c.send(op="begin", session=session, deadline_ns=50000000, wait=1)
        c.send(op="hello")
        c.s.shutdown(socket.SHUT_WR)
        time.sleep(late_s)
        ok(d.status()["requests"] == "1", f"{what}: the request is in flight", d.status()["requests"])
        if late_s:
            os.kill(keeper, signal.SIGCONT)
        replies = to_the_end(c)
        ok(len(replies) == 2 and "protocol" in replies[1], f"{what}: both messages are answered", replies)
        ok("request" in replies[0] if late_s else replies[0]["errno"] == "110", f"{what}: the begin by its own reply",
           replies[0])
        os.kill(keeper, signal.SIGCONT)
        ok(wait_for(lambda: d.status()["sessions"] == "0"), f"{what}: then the session ends", d.status())
        ok(d.restored(before), f"{what}: every knob is as found", d.difference(before))
        d.end()


def closed_while_held():
    """A closed connection differs from a half-closed one: its request ends while the keeper hangs."""
    d = Daemon(config="[flamed]\nrequest_expiry = 60 s\n")
    keeper = d.keeper_pid()
    c = d.client()
    session = c.open("gone")
    os.kill(keeper, signal.SIGSTOP)
    c.send(op="begin", session=session, deadline_ns=50000000, wait=1)
    ok(wait_for(lambda: d.status()["requests"] == "1"), "a begin waits for the keeper")
    c.close()
    ok(wait_for(lambda: d.status()["sessions"] == "0"), "its client is gone: the session ends at once", d.status())
    os.kill(keeper, signal.SIGCONT)
    d.end()


def reload_while_full():
    """The keeper hangs until its socket is full: a reload takes the place of no release."""
    d = Daemon()
    before = d.knobs()
    keeper = d.keeper_pid()
    reloads = 0

    def reload():
        nonlocal reloads
        reloads += 1
        d.process.send_signal(signal.SIGHUP)
        return wait_for(lambda: d.text().count("configuration reloaded") == reloads)
    for first in (False, True):  # there is room for an even or an odd number of messages: a release or a target is last
        c = d.client()
        session = c.open("net")
        os.kill(keeper, signal.SIGSTOP)
        errors = set()
        if first:
            reload()
        for _ in range(300):
            begun = c.ask(op="begin", session=session, deadline_ns=50000000)
            errors |= {begun["errno"], c.ask(op="end", request=begun["request"], total_ns=20000000, ack=1)["errno"],
                       c.ask(op="release")["errno"]}
        ok(errors == {"0"}, "many targets and releases while the keeper hangs", errors)
        ok(reload(), "a reload", d.text()[-300:])
        c.close()
        os.kill(keeper, signal.SIGCONT)
        time.sleep(1)  # all that is in the socket has been read by then
        ok(d.restored(before), "the keeper goes on: the last release arrives", d.difference(before))
    d.end()


def one_queue():
    """Beside another user the questions of one user are answered in the order of their arrival over all its
    connections."""
    d = Daemon()
    bystander = d.client()
    session = bystander.open("net")
    bystander.request(session, 60, latency_ns)
    clients = [d.client_of(OTHER_UID) for _ in range(QUESTIONS)]
    order = [(7 * k) % QUESTIONS for k in range(QUESTIONS)]
    for _ in range(ROUNDS):
        for c in clients:  # in debt, for at most a second, so that the next question has to wait
            c.send(op="surface", model="net")
        for c in clients:
            c.reply()
        for k in order:
            clients[k].send(op="hello")
            time.sleep(0.002)
        came, waiting = [], {clients[k].s: k for k in order}
        early = len(select.select(list(waiting), [], [], 0)[0])
        while waiting:
            ready, _, _ = select.select(list(waiting), [], [], 20)
            if not ready:
                break
            for s in sorted(ready, key=lambda s: order.index(waiting[s])):  # together: no order is seen
                came.append(waiting.pop(s))
                clients[came[-1]].reply()
        if early < QUESTIONS // 2 or came != order:
            break  # else this test was too late: the debt was paid before the last question was sent
    ok(early < QUESTIONS // 2, "most of them wait", early)
    ok(len(came) == QUESTIONS, "every question is answered", len(came))
    ok(came == order, "in the order in which they came", (came, order))
    begun = bystander.request(session, 60, latency_ns)[0]
    ok(begun["errno"] == "0", "the other user is served", begun)
    d.end()


for test in (half_closed, half_closed_while_held, closed_while_held, reload_while_full):
    test()
if os.geteuid() == 0:
    one_queue()
else:
    skip("one_queue", "only root can play other users")
done()
