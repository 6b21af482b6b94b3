# SPDX-License-Identifier: MIT
"""A proxy in front of llama.cpp's server, or any other with its interface or OpenAI's.

    python3 -m flamed.llama --upstream 127.0.0.1:8080 --rate 15/s --first 800ms

Every completion that a client wants streamed becomes a stream of flamed: its first token is due `first` after the
prompt came, the others at `rate`. A request may say otherwise, in headers (Flamed-Rate: 30/s, Flamed-First: 500ms,
Flamed-Model: chat) or in its body ("flamed": {"rate": "30/s"}). All else, and all while flamed does not answer,
passes through as it is; what passes is never changed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import sys
from typing import Any, AsyncIterator, Callable, Dict, List, NamedTuple, Optional, Tuple, TypeVar

from . import Flamed, Session, _accepted_ns, _rate_mhz

COMPLETIONS = ("/v1/chat/completions", "/chat/completions", "/v1/completions", "/completions", "/completion", "/infill")
HEAD_MAX = 64 << 10
BODY_MAX = 64 << 20
EVENT_MAX = 1 << 20
PIECE = 64 << 10
LETTERS_PER_TOKEN = 4  # of a prompt's text; its tokens are not known before the server has read it
MODEL_MAX, MODEL_LETTERS = 64, "A-Za-z0-9._:-"
CONTEXT_MAX = 1 << 24

Answer = TypeVar("Answer")


def log(text: str) -> None:
    print("flamed-llama: " + text, file=sys.stderr, flush=True)


def reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)


class Refusal(Exception):
    """The reply to a client in place of the server's."""

    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status = status

    def reply(self) -> bytes:
        body = json.dumps({"error": {"message": str(self), "type": "flamed", "code": int(self.status[:3])}}).encode()
        return (f"HTTP/1.1 {self.status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                "Connection: close\r\n\r\n").encode() + body


class Broken(Exception):
    """A message that cannot be read to its end."""


class Head:
    """A start line and headers, raw and parsed."""

    def __init__(self, raw: bytes) -> None:
        lines = raw[:-4].decode("latin-1").split("\r\n")
        self.raw, self.start, self.fields = raw, lines[0].split(" ", 2), [line.partition(":") for line in lines[1:]]
        if len(self.start) < 2 or not any(word.startswith("HTTP/1.") for word in (self.start[0], self.start[-1])):
            raise Refusal("400 Bad Request", f"no message of HTTP/1: {lines[0][:80]!r}")
        self.chunked = "chunked" in self.get("transfer-encoding").lower()
        length = self.get("content-length")
        if length and (self.chunked or not re.fullmatch(r"[0-9]{1,15}", length)):
            raise Refusal("400 Bad Request", f"no length of a body: {length[:40]!r}")
        self.length = int(length) if length else None

    def get(self, name: str) -> str:
        return ",".join(value.strip() for key, _, value in self.fields if key.strip().lower() == name)

    def closes(self) -> bool:
        """The connection ends after this message."""
        said = self.get("connection").lower()
        return "close" in said or "HTTP/1.0" in self.start and "keep-alive" not in said

    def without(self, name: str) -> bytes:
        return re.sub(rb"(?i)\r\n" + name.encode() + rb"[ \t]*:[^\r\n]*", b"", self.raw)


async def read_head(reader: asyncio.StreamReader) -> Optional[Head]:
    """None where the connection ended before."""
    try:
        return Head(await reader.readuntil(b"\r\n\r\n"))
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise Refusal("400 Bad Request", "the headers end early") from error
        return None
    except asyncio.LimitOverrunError as error:
        raise Refusal("431 Request Header Fields Too Large", f"headers of over {HEAD_MAX} bytes") from error


async def read_chunk(reader: asyncio.StreamReader) -> Tuple[bytes, bytes]:
    """One chunk, raw and decoded; the last one is b"", followed by its trailers."""
    line = await reader.readuntil(b"\r\n")
    size = line.split(b";")[0].strip()
    if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", size) or int(size, 16) > BODY_MAX:
        raise Broken(f"no size of a chunk: {line[:40]!r}")
    if int(size, 16):
        data = await reader.readexactly(int(size, 16) + 2)
        return line + data, data[:-2]
    trailer = b""
    while trailer != b"\r\n":
        trailer = await reader.readuntil(b"\r\n")
        line += trailer
    return line, b""


async def read_pieces(reader: asyncio.StreamReader, head: Head, to_end: bool) -> AsyncIterator[Tuple[bytes, bytes]]:
    left = head.length
    if head.chunked:
        data = b"?"
        while data:
            raw, data = await read_chunk(reader)
            yield raw, data
    elif left is not None:
        while left:
            data = await reader.read(min(left, PIECE))
            if not data:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(data)
            yield data, data
    elif to_end:
        data = await reader.read(PIECE)
        while data:
            yield data, data
            data = await reader.read(PIECE)


async def pieces(reader: asyncio.StreamReader, head: Head, to_end: bool) -> AsyncIterator[Tuple[bytes, bytes]]:
    """A body in pieces: raw and decoded. `to_end`: without a length, which a reply need not have, the body extends to
    the end of the connection."""
    try:
        async for piece in read_pieces(reader, head, to_end):
            yield piece
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError) as error:
        raise Broken("a connection ended within a message") from error


class Terms(NamedTuple):
    """The schedule of a completion."""
    model: Optional[str]
    rate_mhz: int
    first_ns: int
    prompt: int  # tokens


def read_terms(head: Head, body: Dict[str, Any], default: Terms) -> Terms:
    """Of a request: its headers come before its fields, these before the configuration."""
    fields = body.get("flamed", {})
    if not isinstance(fields, dict):
        raise Refusal("400 Bad Request", f"flamed: not an object such as {{\"rate\": \"15/s\"}}: {fields!r}")

    def said(name: str) -> Any:
        return head.get("flamed-" + name) or fields.get(name)

    model = said("model")
    if model is not None and not (isinstance(model, str) and
                                  re.fullmatch(rf"[{MODEL_LETTERS}]{{1,{MODEL_MAX}}}", model)):
        raise Refusal("400 Bad Request", f"flamed: no model name: {model!r}")
    found = []
    for name, parse, otherwise in (("rate", _rate_mhz, default.rate_mhz),
                                   ("first", lambda value: _accepted_ns("first", value), default.first_ns)):
        value = said(name)
        try:
            found.append(parse(value) if value is not None else otherwise)
        except (TypeError, ValueError, OverflowError) as error:
            raise Refusal("400 Bad Request", f"flamed: {name}: {error}") from error
    if not model and not default.model and isinstance(body.get("model"), str):
        # Servers take a file's name for it, or anything.
        model = re.sub(rf"[^{MODEL_LETTERS}]+", "-", os.path.basename(body["model"]))[:MODEL_MAX]
    text = body.get("messages", body.get("prompt", ""))
    letters = len(text if isinstance(text, str) else json.dumps(text))
    return Terms(model or default.model or "llama", found[0], found[1],
                 min(letters // LETTERS_PER_TOKEN + 1, CONTEXT_MAX))


class Event(NamedTuple):
    token: bool
    last: bool


def read_event(data: bytes) -> Event:
    """Parse a `data:` line of a streamed completion."""
    if data == b"[DONE]":
        return Event(False, True)
    try:
        event = json.loads(data)
        choice = event["choices"][0] if event.get("choices") else event
        part = choice.get("delta", choice)
        token = any(part.get(key) for key in ("content", "text", "reasoning_content", "tool_calls"))
        return Event(token, bool(choice.get("finish_reason") or choice.get("stop") or "error" in event))
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return Event(False, False)


async def aside(call: Callable[[], Answer]) -> Answer:
    """A call that blocks, without blocking the loop."""
    return await asyncio.get_running_loop().run_in_executor(None, call)


class Completion:
    """A stream of flamed: each token is a request that begins when the previous token has arrived."""

    def __init__(self, session: Session, prompt: int) -> None:
        self._session, self._context, self._line, self._last = session, prompt, b"", False
        self._came: asyncio.Queue[Optional[bool]] = asyncio.Queue()
        session.phase("prefill", prompt)
        self._request = session.begin()
        self._following = asyncio.ensure_future(self._follow())

    def feed(self, data: bytes) -> None:
        """More of the reply."""
        *lines, self._line = (self._line + data).split(b"\n")
        self._line = self._line if len(self._line) < EVENT_MAX else b""
        for line in lines:
            if not self._last and line.startswith(b"data:"):
                event = read_event(line[5:].strip())
                self._last = event.last
                if event.token:
                    self._came.put_nowait(event.last)

    async def _follow(self) -> None:
        while True:
            last = await self._came.get()
            if last is None:
                return
            self._session.end(self._request)
            if last:
                return
            self._context = min(self._context + 1, CONTEXT_MAX)
            self._session.phase("decode", self._context)
            # The step that finds the end of the text is begun as well, and dropped when the stream is closed. Tokens
            # that arrive together are begun one after the other, as flamed accepts few at once.
            self._request = self._session.begin() if self._came.empty() else (await aside(self._session.begin_wait))[0]

    async def close(self) -> None:
        self._came.put_nowait(None)
        await asyncio.wait([self._following])
        await aside(self._session.close)


class Proxy:
    def __init__(self, governor: Flamed, upstream: Tuple[str, int], default: Terms) -> None:
        self._governor, self._upstream, self._default = governor, upstream, default
        self._answered: Optional[bool] = None

    def connected(self) -> bool:
        now = self._governor.connected
        if now != self._answered and (self._answered is not None or not now):
            log("flamed answers again" if now else "flamed does not answer: completions pass through without deadlines")
        self._answered = now
        return now

    def _gone(self, text: str) -> Refusal:
        return Refusal("502 Bad Gateway", f"{self._upstream[0]}:{self._upstream[1]}: {text}")

    async def _open(self, head: Head, text: bytes) -> Optional[Completion]:
        """A completion's stream; None if it has no schedule."""
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            return None  # the server replies with the error
        if not isinstance(body, dict) or body.get("stream") is not True:
            return None
        terms = read_terms(head, body, self._default)
        if not terms.rate_mhz or not self.connected():
            return None
        try:
            session = await aside(lambda: self._governor.stream(terms.model, rate=terms.rate_mhz / 1000,
                                                                first=f"{terms.first_ns}ns"))
        except ValueError as error:
            raise Refusal("400 Bad Request", f"flamed: {error}") from error
        if session._number < 0:
            log(f"{terms.model}: flamed refuses a stream: {os.strerror(-session._number)}")
            return None
        return Completion(session, terms.prompt)

    async def _request(self, reader: asyncio.StreamReader, head: Head) -> Tuple[Optional[Completion], List[bytes]]:
        """The completion of a request, and the part of its body that was read."""
        if head.start[0] != "POST" or head.start[1].split("?")[0] not in COMPLETIONS:
            return None, []
        raws, text = [], b""
        try:
            async for raw, data in pieces(reader, head, False):
                raws.append(raw)
                text += data
                if len(text) > BODY_MAX:
                    raise Refusal("413 Content Too Large", f"a completion of over {BODY_MAX >> 20} MiB")
        except Broken as broken:
            raise Refusal("400 Bad Request", str(broken)) from broken
        return await self._open(head, text), raws

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its reply. Returns whether another may follow."""
        head = await read_head(reader)
        if not head:
            return False
        expects = head.get("expect").lower() == "100-continue"
        if expects:  # the server's own would only be read once the body was sent on
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        completion, raws = await self._request(reader, head)
        server: Optional[asyncio.StreamWriter] = None
        try:
            try:
                answers, server = await asyncio.open_connection(*self._upstream, limit=HEAD_MAX)
            except OSError as error:
                raise self._gone(reason(error)) from error
            try:
                server.write((head.without("expect") if expects else head.raw) + b"".join(raws))
                if not raws:
                    async for raw, _ in pieces(reader, head, False):
                        server.write(raw)
                        await server.drain()
                await server.drain()
            except OSError:
                pass  # forward the reply that it sent before it had read everything
            return await self._reply(answers, writer, head, completion)
        finally:
            if server:
                server.close()
            if completion:
                await completion.close()

    async def _reply(self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Head,
                     completion: Optional[Completion]) -> bool:
        head = None
        while not head or head.start[1].startswith("1"):
            try:
                head = await read_head(answers)
            except Refusal as refusal:
                raise self._gone(str(refusal)) from refusal
            except OSError as error:
                raise self._gone(reason(error)) from error
            if not head:
                raise self._gone("closed without a reply")
            writer.write(head.raw)
        empty = request.start[0] == "HEAD" or head.start[1] in ("204", "304")
        if not empty:  # such a reply may still have the length of one
            async for raw, data in pieces(answers, head, True):
                if completion:
                    completion.feed(data)
                writer.write(raw)
                await writer.drain()
        await writer.drain()
        told = empty or head.chunked or head.length is not None
        return told and not request.closes() and not head.closes()

    async def client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except Refusal as refusal:
            log(str(refusal))
            writer.write(refusal.reply())
        except Broken as broken:
            log(str(broken))
        except OSError:
            pass  # the client went away
        finally:
            writer.close()


def address(text: str) -> Tuple[str, int]:
    match = re.fullmatch(r"(?:http://)?(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})/?", text)
    if not match or int(match[2]) > 65535:
        raise argparse.ArgumentTypeError(f"no address such as 127.0.0.1:8080: {text!r}")
    return match[1].strip("[]"), int(match[2])


def checked(parse: Any) -> Any:
    """For argparse: errors with the module's messages."""
    def convert(text: str) -> int:
        try:
            return int(parse(text))
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
    return convert


def arguments(words: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="flamed-llama", description="A proxy in front of a server of llama.cpp's or "
                                     "OpenAI's interface: each streamed completion is a stream of flamed.")
    parser.add_argument("--upstream", type=address, default=("127.0.0.1", 8080), help="the server; 127.0.0.1:8080")
    parser.add_argument("--listen", type=address, default=("127.0.0.1", 8081), help="127.0.0.1:8081; port 0: any")
    parser.add_argument("--model", help="flamed's name of the model; default: what the request names")
    parser.add_argument("--rate", type=checked(_rate_mhz), default=0,
                        help="tokens a second, such as 15/s; without it only requests that name a rate are streams")
    parser.add_argument("--first", type=checked(lambda text: _accepted_ns("first", text)), default=0,
                        help="when the first token is due, such as 800ms; default: one period")
    parser.add_argument("--socket", help="flamed's socket")
    return parser.parse_args(words)


async def serve(options: argparse.Namespace) -> int:
    with Flamed(options.socket) as governor:
        proxy = Proxy(governor, options.upstream, Terms(options.model, options.rate, options.first, 0))
        try:
            server = await asyncio.start_server(proxy.client, *options.listen, limit=HEAD_MAX)
        except OSError as error:
            log(f"{options.listen[0]}:{options.listen[1]}: {reason(error)}")
            return 1
        proxy.connected()
        log("listening on {}:{}".format(*server.sockets[0].getsockname()[:2]))
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        await ended.wait()
        server.close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
    return 0


def main(words: Optional[List[str]] = None) -> int:
    return asyncio.run(serve(arguments(words)))


if __name__ == "__main__":
    sys.exit(main())
