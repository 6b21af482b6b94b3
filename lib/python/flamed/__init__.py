# SPDX-License-Identifier: MIT
"""flamed from Python: deadlines for inference, through libflamed.so.0.

    import flamed

    with flamed.Flamed() as governor:
        camera = governor.session("resnet50", deadline="33ms")
        for image in images:
            with camera.request():
                model(image)

        tokens = governor.stream("llama", rate="15/s", first="800ms")
        tokens.start()
        for token in generate(prompt):
            with tokens.request():
                ...

In asyncio, `async with camera.request():` does the same and never blocks the loop.
`@camera.timed` makes each call of a function one request.

A time is a number of seconds, a timedelta, or a text such as "33ms"; a deadline may
also be a rate, "30fps". Model, deadline, rate and socket default to FLAMED_MODEL,
FLAMED_DEADLINE_NS, FLAMED_RATE_MHZ and FLAMED_SOCKET, as `flamectl run` sets them; without
those, deadline or rate are the model's in flamed.conf, and a request that has none warns once.
Without a daemon everything here does nothing, and the program runs as it would
without flamed. Clocks are in Hz.
"""

from __future__ import annotations

import asyncio
import ctypes
import datetime
import errno
import functools
import inspect
import re
import warnings
from types import TracebackType
from typing import Any, Callable, Optional, Tuple, Type, TypeVar, Union

__all__ = ["Decision", "Flamed", "LEARNING", "NONE", "Point", "READY", "Request", "Session", "seconds"]

NONE, LEARNING, READY = range(3)
TIMEOUT = 1.0
DEADLINE_MAX_S = 10.0  # a number above this was most likely meant in milliseconds
_DEADLINE_NS_MIN, _DEADLINE_NS_MAX, _RATE_MHZ_MAX = 1000, 3600 * 10**9, 10**9  # of libflamed
_TIME_MAX_S = 1e9  # fits 64 bits in ns

Time = Union[float, int, str, datetime.timedelta]
Function = TypeVar("Function", bound=Callable[..., Any])

_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_RATES = ("/s", "fps", "hz")


class Decision(ctypes.Structure):
    """flamed's decision for a request; times in ns."""

    applied: int
    feasible: int
    cpu_hz: int
    gpu_hz: int
    mem_hz: int
    predicted_ns: int
    bound_ns: int
    settle_ns: int

    _fields_ = [
        ("applied", ctypes.c_int),
        ("feasible", ctypes.c_int),
        ("cpu_hz", ctypes.c_uint64),
        ("gpu_hz", ctypes.c_uint64),
        ("mem_hz", ctypes.c_uint64),
        ("predicted_ns", ctypes.c_uint64),
        ("bound_ns", ctypes.c_uint64),
        ("settle_ns", ctypes.c_uint64),
    ]


class Point(ctypes.Structure):
    """Where a measurement is wanted; the clocks are in force."""

    cpu_hz: int
    gpu_hz: int
    mem_hz: int
    context: int
    repeat: int
    step: int
    budget: int
    gain_permille: int

    _fields_ = [
        ("cpu_hz", ctypes.c_uint64),
        ("gpu_hz", ctypes.c_uint64),
        ("mem_hz", ctypes.c_uint64),
        ("context", ctypes.c_uint32),
        ("repeat", ctypes.c_uint32),
        ("step", ctypes.c_uint32),
        ("budget", ctypes.c_uint32),
        ("gain_permille", ctypes.c_uint32),
    ]


_INFER = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(Point))


def _load() -> ctypes.CDLL:
    library = ctypes.CDLL("libflamed.so.0")
    handle, text, u64, i64, u32, integer = (
        ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint64, ctypes.c_int64, ctypes.c_uint32, ctypes.c_int,
    )
    decision = ctypes.POINTER(Decision)
    counter = ctypes.POINTER(u64)
    functions: Tuple[Tuple[str, Any, Tuple[Any, ...]], ...] = (
        ("version", text, ()),
        ("open", integer, (ctypes.POINTER(handle), text)),
        ("close", None, (handle,)),
        ("connected", integer, (handle,)),
        ("session", integer, (handle, text, u64, u64)),
        ("stream", integer, (handle, text, u64, u64, u64)),
        ("stream_start", integer, (handle, integer)),
        ("session_close", integer, (handle, integer)),
        ("session_state", integer, (handle, integer)),
        ("session_counts", integer, (handle, integer, counter, counter)),
        ("phase", integer, (handle, integer, text, u32)),
        ("begin", i64, (handle, integer, u64)),
        ("begin_wait", i64, (handle, integer, u64, u64, decision)),
        ("decision", integer, (handle, i64, decision)),
        ("end", integer, (handle, i64, u64)),
        ("profile", integer, (handle, text, text, u32, u32, _INFER, handle)),
    )
    for name, result, arguments in functions:
        function = getattr(library, "flamed_" + name)
        function.restype, function.argtypes = result, arguments
    return library


def _number_and_unit(text: str) -> Tuple[float, str]:
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-z/]+)\s*", text, re.IGNORECASE)
    if not match:
        raise ValueError(f'no number with a unit such as "33ms" or "30fps": {text!r}')
    return float(match[1]), match[2].lower()


def seconds(time: Time) -> float:
    """A time in seconds: of a number, a timedelta, "33ms", or the period of a rate, "30fps"."""
    if isinstance(time, datetime.timedelta):
        return time.total_seconds()
    if not isinstance(time, str):
        return float(time)
    number, unit = _number_and_unit(time)
    if unit in _RATES:
        if number <= 0:
            raise ValueError(f"a rate has to be over 0: {time!r}")
        return 1 / number
    if unit not in _UNITS:
        raise ValueError(f"no unit of time ({' '.join(_UNITS)}) or rate ({' '.join(_RATES)}): {time!r}")
    return number * _UNITS[unit]


def _ns(time: Time) -> int:
    value = seconds(time)
    if not 0 <= value <= _TIME_MAX_S:
        raise ValueError(f"a time has to be from 0 to {_TIME_MAX_S:g} s: {time!r}")
    return round(value * 1e9)


def _deadline_ns(name: str, time: Time) -> int:
    """A plain number of seconds that no deadline is likely to have was meant in another unit."""
    if not isinstance(time, (str, datetime.timedelta)) and time > DEADLINE_MAX_S:
        raise ValueError(f'{name}={time!r} is {time:g} seconds; for milliseconds write {name}="{time:g}ms", for '
                         f'seconds {name}="{time:g}s"')
    return _ns(time)


def _accepted_ns(name: str, time: Time) -> int:
    """A deadline that libflamed accepts; 0: none, or the default."""
    value = _deadline_ns(name, time)
    if value and not _DEADLINE_NS_MIN <= value <= _DEADLINE_NS_MAX:
        raise ValueError(f"{name} has to be from 1 us to 1 h: {time!r}")
    return value


def _rate_mhz(rate: Union[float, int, str]) -> int:
    if isinstance(rate, str):
        number, unit = _number_and_unit(rate)
        if unit not in _RATES:
            raise ValueError(f'no rate such as "15/s", "30fps" or "60hz": {rate!r}')
    else:
        number = float(rate)
    if not 0 <= number <= _RATE_MHZ_MAX / 1000:
        raise ValueError(f"a rate has to be over 0 and at most {_RATE_MHZ_MAX // 1000}/s: {rate!r}")
    return round(number * 1000)


def _encode(text: Optional[str]) -> Optional[bytes]:
    return text.encode() if text is not None else None


class Request:
    """One inference, as a `with` or an `async with` block; made by Session.request(). May be used
    again, not at once."""

    def __init__(self, session: Session, deadline_ns: int, wait: bool, timeout_ns: int) -> None:
        self._session, self._deadline_ns, self._wait, self._timeout_ns = session, deadline_ns, wait, timeout_ns
        self.number = -errno.ENOENT  # of libflamed: > 0 while it runs, else a negative errno
        self.decision: Optional[Decision] = None  # with wait=True

    def _begin(self) -> None:
        if self._wait:
            self.decision = Decision()
            self.number = self._session._begin("begin_wait", self._deadline_ns, self._timeout_ns, self.decision)
        else:
            self.number = self._session._begin("begin", self._deadline_ns)

    def _end(self) -> None:
        self._session.end(self.number)

    def __enter__(self) -> Request:
        self._begin()
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        self._end()

    async def __aenter__(self) -> Request:
        # A begin that waits for the clocks blocks in libflamed: a thread does that. The others only write to a socket.
        if not self._wait:
            self._begin()
            return self
        begin = asyncio.get_running_loop().run_in_executor(None, self._begin)
        try:
            await asyncio.shield(begin)
        except asyncio.CancelledError:  # the block is not entered, so nobody else ends what begins
            begin.add_done_callback(lambda _: self._end())
            raise
        return self

    async def __aexit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                        trace: Optional[TracebackType]) -> None:
        self._end()


class Session:
    """One model; made by Flamed.session() or Flamed.stream()."""

    def __init__(self, flamed: Flamed, number: int) -> None:
        self._flamed, self._number, self._warned = flamed, number, False

    def _call(self, name: str, *arguments: Any) -> int:
        return int(getattr(self._flamed.library, "flamed_" + name)(self._flamed.handle, self._number, *arguments))

    def _begin(self, name: str, *arguments: Any) -> int:
        request = self._call(name, *arguments)
        if request == -errno.EINVAL and self._number >= 0 and not self._warned:
            self._warned = True
            warnings.warn("an inference runs without flamed, as it has no deadline from 1 us to 1 h: give one to "
                          "session() or request(), or set FLAMED_DEADLINE_NS, or the model's deadline in flamed.conf",
                          RuntimeWarning, stacklevel=3)
        return request

    @property
    def state(self) -> Optional[int]:
        """NONE, LEARNING or READY when it was opened; None when flamed does not answer."""
        state = self._call("session_state")
        return state if state >= 0 else None

    def counts(self) -> Tuple[int, int]:
        """(requests ended, of those missed)."""
        ended, missed = ctypes.c_uint64(), ctypes.c_uint64()
        self._call("session_counts", ended, missed)
        return ended.value, missed.value

    def phase(self, name: str, context: int = 0) -> None:
        """Phase ("run", "prefill", "decode") and tokens of the requests to come."""
        if self._call("phase", name.encode(), context) == -errno.EINVAL:
            raise ValueError(f"no such phase or context: {name!r}, {context!r}")

    def start(self) -> None:
        """The next request starts the stream again: a new prompt."""
        if self._call("stream_start") == -errno.EINVAL:
            raise ValueError("this session is no stream; Flamed.stream() opens one")

    def begin(self, deadline: Time = 0) -> int:
        """An inference begins; does not block. Returns a request for end()."""
        return self._begin("begin", _deadline_ns("deadline", deadline))

    def begin_wait(self, deadline: Time = 0, timeout: Time = TIMEOUT) -> Tuple[int, Decision]:
        """The same, but blocks until the clocks are applied. Returns (request, Decision)."""
        decision = Decision()
        return self._begin("begin_wait", _deadline_ns("deadline", deadline), _ns(timeout), decision), decision

    def end(self, request: int, total: Time = 0) -> int:
        """The inference ended, after `total`; 0: the time that passed."""
        return int(self._flamed.library.flamed_end(self._flamed.handle, request, _ns(total)))

    def request(self, deadline: Time = 0, wait: bool = False, timeout: Time = TIMEOUT) -> Request:
        """One inference as a block: `with session.request():`, or `async with` in asyncio."""
        return Request(self, _deadline_ns("deadline", deadline), wait, _ns(timeout))

    def timed(self, function: Function) -> Function:
        """Decorator: each call of the function, or of the coroutine function, is one request."""
        if inspect.iscoroutinefunction(function):
            @functools.wraps(function)
            async def call_async(*arguments: Any, **named: Any) -> Any:
                async with self.request():
                    return await function(*arguments, **named)
            return call_async  # type: ignore[return-value]

        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            with self.request():
                return function(*arguments, **named)
        return call  # type: ignore[return-value]

    def close(self) -> None:
        self._call("session_close")

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Flamed:
    """A connection to flamed."""

    def __init__(self, socket: Optional[str] = None) -> None:
        self.library, self.handle = _load(), ctypes.c_void_p()
        rc = self.library.flamed_open(self.handle, _encode(socket))
        if rc < 0:
            raise OSError(-rc, "flamed_open")

    @property
    def connected(self) -> bool:
        return bool(self.library.flamed_connected(self.handle))

    def session(self, model: Optional[str] = None, deadline: Time = 0, timeout: Time = TIMEOUT) -> Session:
        """Open a session; `deadline` is the usual deadline of its requests."""
        number = self.library.flamed_session(self.handle, _encode(model), _accepted_ns("deadline", deadline),
                                             _ns(timeout))
        if number == -errno.EINVAL:
            raise ValueError(f"no model, or no model name: {model!r}")
        return Session(self, number)

    def stream(self, model: Optional[str] = None, rate: Union[float, int, str] = 0, first: Time = 0,
               timeout: Time = TIMEOUT) -> Session:
        """Open a session with a schedule: `rate` requests a second ("15/s", "30fps", 15), the first
        due `first` after the start."""
        number = self.library.flamed_stream(self.handle, _encode(model), _rate_mhz(rate), _accepted_ns("first", first),
                                            _ns(timeout))
        if number == -errno.EINVAL:
            raise ValueError(f"no model, no model name, or no rate: {model!r}, {rate!r}")
        return Session(self, number)

    def profile(self, infer: Callable[[Point], object], model: Optional[str] = None, phase: Optional[str] = None,
                context: int = 0,
                budget: int = 0) -> int:
        """Measure a model: infer(point) runs one inference. Returns the number of points measured."""
        raised = []

        def call(_: object, point: Any) -> int:
            try:
                infer(point.contents)
                return 0
            except BaseException as error:  # must not unwind through C
                raised.append(error)
                return -errno.ECANCELED

        rc = self.library.flamed_profile(self.handle, _encode(model), _encode(phase), context, budget, _INFER(call),
                                         None)
        if raised:
            raise raised[0]
        if rc < 0:
            raise OSError(-rc, "flamed_profile")
        return int(rc)

    def close(self) -> None:
        handle, self.handle = self.handle, ctypes.c_void_p()
        self.library.flamed_close(handle)

    def __enter__(self) -> Flamed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
