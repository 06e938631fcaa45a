"""Faults on demand: a look at the disk at every moment of a write, a disk that is full, a bit that
flips."""

import contextlib
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


def flip(raw):
    """The bytes with one bit in the middle changed."""
    raw = bytearray(raw)
    raw[len(raw) // 2] ^= 4
    return bytes(raw)
