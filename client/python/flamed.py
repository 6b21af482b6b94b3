# SPDX-License-Identifier: MIT
"""flamed from Python: deadlines for inference, through libflamed.so.0.

    import flamed

    with flamed.Flamed() as governor:
        session = governor.session("resnet50", deadline=0.033)
        for image in images:
            with session.request():
                model(image)

Model, deadline and socket default to FLAMED_MODEL, FLAMED_DEADLINE_NS and
FLAMED_SOCKET, as `flamectl run` sets them. Without a daemon everything here
does nothing, and the program runs as it would without flamed. Times are
seconds, clocks Hz.
"""

import contextlib
import ctypes
import errno

NONE, LEARNING, READY = range(3)
TIMEOUT = 1.0


class Decision(ctypes.Structure):
    """What flamed decided for a request; times in ns."""

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


def _load():
    library = ctypes.CDLL("libflamed.so.0")
    handle, text, u64, i64, u32, integer = (
        ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint64, ctypes.c_int64, ctypes.c_uint32, ctypes.c_int,
    )
    decision = ctypes.POINTER(Decision)
    counter = ctypes.POINTER(u64)
    for name, result, arguments in (
        ("version", text, ()),
        ("open", integer, (ctypes.POINTER(handle), text)),
        ("close", None, (handle,)),
        ("connected", integer, (handle,)),
        ("session", integer, (handle, text, u64, u64)),
        ("session_close", integer, (handle, integer)),
        ("session_state", integer, (handle, integer)),
        ("session_counts", integer, (handle, integer, counter, counter)),
        ("phase", integer, (handle, integer, text, u32)),
        ("begin", i64, (handle, integer, u64)),
        ("begin_wait", i64, (handle, integer, u64, u64, decision)),
        ("decision", integer, (handle, i64, decision)),
        ("end", integer, (handle, i64, u64)),
        ("profile", integer, (handle, text, text, u32, u32, _INFER, handle)),
    ):
        function = getattr(library, "flamed_" + name)
        function.restype, function.argtypes = result, arguments
    return library


def _ns(seconds):
    return round(seconds * 1e9) if seconds else 0


def _encode(text):
    return text.encode() if text is not None else None


class Session:
    """One model; made by Flamed.session()."""

    def __init__(self, flamed, number):
        self._flamed, self._number = flamed, number

    def _call(self, name, *arguments):
        return getattr(self._flamed.library, "flamed_" + name)(self._flamed.handle, self._number, *arguments)

    @property
    def state(self):
        """NONE, LEARNING or READY when it was opened; None when flamed does not answer."""
        state = self._call("session_state")
        return state if state >= 0 else None

    def counts(self):
        """(requests ended, of those missed)."""
        ended, missed = ctypes.c_uint64(), ctypes.c_uint64()
        self._call("session_counts", ended, missed)
        return ended.value, missed.value

    def phase(self, name, context=0):
        """Phase ("run", "prefill", "decode") and tokens of the requests to come."""
        if self._call("phase", name.encode(), context) == -errno.EINVAL:
            raise ValueError(f"no such phase or context: {name!r}, {context!r}")

    def begin(self, deadline=0.0):
        """An inference begins; does not block. Returns a request for end()."""
        return self._call("begin", _ns(deadline))

    def begin_wait(self, deadline=0.0, timeout=TIMEOUT):
        """The same, but blocks until the clocks are applied. Returns (request, Decision)."""
        decision = Decision()
        return self._call("begin_wait", _ns(deadline), _ns(timeout), decision), decision

    def end(self, request, total=0.0):
        """The inference ended, after `total` seconds; 0: the time that passed."""
        return self._flamed.library.flamed_end(self._flamed.handle, request, _ns(total))

    @contextlib.contextmanager
    def request(self, deadline=0.0, wait=False, timeout=TIMEOUT):
        """One inference as a with block."""
        request = self.begin_wait(deadline, timeout)[0] if wait else self.begin(deadline)
        try:
            yield request
        finally:
            self.end(request)

    def close(self):
        self._call("session_close")


class Flamed:
    """A connection to flamed."""

    def __init__(self, socket=None):
        self.library, self.handle = _load(), ctypes.c_void_p()
        rc = self.library.flamed_open(self.handle, _encode(socket))
        if rc < 0:
            raise OSError(-rc, "flamed_open")

    @property
    def connected(self):
        return bool(self.library.flamed_connected(self.handle))

    def session(self, model=None, deadline=0.0, timeout=TIMEOUT):
        number = self.library.flamed_session(self.handle, _encode(model), _ns(deadline), _ns(timeout))
        if number == -errno.EINVAL:
            raise ValueError(f"no model, or no model name: {model!r}")
        return Session(self, number)

    def profile(self, infer, model=None, phase=None, context=0, budget=0):
        """Measure a model: infer(point) runs one inference. Returns the number of points measured."""
        raised = []

        def call(_, point):
            try:
                infer(point.contents)
                return 0
            except BaseException as error:  # must not unwind through C
                raised.append(error)
                return -errno.ECANCELED

        rc = self.library.flamed_profile(self.handle, _encode(model), _encode(phase), context, budget, _INFER(call), None)
        if raised:
            raise raised[0]
        if rc < 0:
            raise OSError(-rc, "flamed_profile")
        return rc

    def close(self):
        handle, self.handle = self.handle, ctypes.c_void_p()
        self.library.flamed_close(handle)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
