"""Faults on demand: a look at the disk at every moment of a write, a disk that is full, a bit that
flips, a folder that may not be read."""

import contextlib
import ctypes
import os
import resource
import signal
import sys

_looks = []  # (folder, function) while a look is wanted


def _hook(event, arguments):
    if not _looks or event.split(".")[0] not in ("open", "os", "shutil"):
        return
    folder, look = _looks[-1]
    if any(folder in str(argument) for argument in arguments):
        _looks.pop()  # what the look itself does is not looked at
        try:
            look()
        finally:
            _looks.append((folder, look))


@contextlib.contextmanager
def at_every_moment(folder, look):
    """Calls `look()` before each of the interpreter's own operations on files below `folder` (open,
    rename, remove, ...): what is on the disk there and then is what SIGKILL would leave."""
    if not getattr(sys, "_rnn_jax_hook", False):
        sys.addaudithook(_hook)  # for good: there is no way to take one out
        sys._rnn_jax_hook = True
    _looks.append((str(folder), look))
    try:
        yield
    finally:
        _looks.clear()


@contextlib.contextmanager
def full_disk(size):
    """No file may grow beyond `size` bytes: the system answers much as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


_OVERRIDES = 0b1110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER of capabilities(7)
_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Set(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable"))


@contextlib.contextmanager
def permissions_bind():
    """Root may use any file; here this thread may not, and those that it starts.

    Raises:
      RuntimeError: this system has no way to do so.
    """
    if os.geteuid() != 0:
        yield
        return
    if sys.platform != "linux":
        raise RuntimeError("root's rights cannot be given up for a while here")
    library, header, sets = ctypes.CDLL(None, use_errno=True), _Header(_VERSION_3, 0), (_Set * 2)()

    def call(name):
        if getattr(library, name)(ctypes.byref(header), sets):
            raise RuntimeError(f"{name}: {os.strerror(ctypes.get_errno())}")

    call("capget")
    before = sets[0].effective
    sets[0].effective = before & ~_OVERRIDES
    call("capset")
    try:
        yield
    finally:
        sets[0].effective = before
        call("capset")


def flip(raw):
    """The bytes with one bit in the middle changed."""
    raw = bytearray(raw)
    raw[len(raw) // 2] ^= 4
    return bytes(raw)
