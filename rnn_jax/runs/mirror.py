"""A run's or a sweep's folder that is mirrored to an object store, so that losing the machine costs
the time since the last checkpoint.

The folder stays on the disk, and training knows nothing of the mirror: a thread looks every second
whether there is a checkpoint that the store has not (`rnn_jax.runs.copies`), and sends it. The
start puts back what the store has and the disk has not (`rnn_jax.runs.restored`), and the end waits
until the store has everything.

Stores have no locks. mirror.json names the process whose mirror it is: who begins to train takes it
over, and a process that finds another's name in it ends its run.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from rnn_jax.config import InputError
from rnn_jax.runs import copies, restored
from rnn_jax.runs.checkpoints import FOLDER
from rnn_jax.runs.copies import Copied, Layout
from rnn_jax.runs.failure import RunError
from rnn_jax.system import store as store_lib
from rnn_jax.system.interrupts import Request
from rnn_jax.system.messages import first_line
from rnn_jax.system.store import Store, StoreError

MIRROR = "mirror.json"
FORMAT = 1  # of mirror.json
MAX_SAID = 2**28  # bytes of a file that says what is in a folder
LOOKS = 1.0  # seconds between two looks for something new
PAUSES = (5.0, 15.0, 60.0, 180.0)  # seconds after each failure, and after all further ones
LAST_ATTEMPTS = 3  # where a run has ended
LAST_PAUSE = 2.0


class Mirror:
    """The mirror of one folder. Without a store, nothing is done."""

    def __init__(self, store: Store | None = None, say: Callable[[str], None] = lambda line: None):
        """Args:
        store: where the mirror is.
        say: told in a line what happens to it.
        """
        self._store, self.say = store, say
        self._token = secrets.token_hex(8)
        self._folder = pathlib.Path()
        self._layout = Layout("", "", ())
        self._has: dict[str, Copied] = {}
        self._lock = threading.Lock()
        self._live: set[str] = set()  # runs that go on
        self._due: set[str] = set()  # runs to be sent once
        self.wake = threading.Event()

    def clear(self, layout: Layout) -> None:
        """Removes what is in the store, and nothing else.

        Args:
          layout: of what that may be.

        Raises:
          InputError: the store cannot be used, or holds something else.
        """
        if self._store is None:
            return
        with self._refusing() as store:
            names = self._own(store, layout)
            has = copies.there(names)
            copies.remove(store, dict.fromkeys(has, 0), has)
            store.remove(copies.within(run, name) for run, name, _ in layout.files(names))

    def restore(
        self, folder: pathlib.Path, layout: Layout, check: Callable[[str, bytes], None]
    ) -> None:
        """Puts on the disk what the store has and the disk has not.

        Args:
          folder: what is mirrored; held against other processes.
          layout: of it.
          check: given the store's address and the file that says what is in it, raises if it is
            another run or sweep.

        Raises:
          InputError: the store cannot be used, or holds something else.
        """
        if self._store is None:
            return
        with self._refusing() as store:
            sizes = self._own(store, layout)
            whole = copies.there(sizes).get("", Copied()).whole
            place = f"{FOLDER}/{max(whole):06d}/" if whole else ""
            if there := store.read(place + layout.says, MAX_SAID):
                check(store.url, there)
            if store.lies_in(folder):
                raise InputError(f"--mirror={store.url} lies in the folder that it is to mirror")
            self._folder, self._layout = folder, layout
            self._has, fetched = restored.fetch(store, sizes, folder, layout)
        if fetched:
            alone = fetched.get("")
            what = f"{alone.epoch} epochs and {alone.batch} batches" if alone else len(fetched)
            self.say(f"restored from {store.url}: {what}" + ("" if alone else " trials"))
        known = {run for run, copied in self._has.items() if copied.number}
        self._live = {""}
        self._due = {"", *(layout.inside(folder) - known)}  # what the store lacks

    def take(self, run: str) -> None:
        """A run of the sweep begins, or goes on."""
        if self._store is None:
            return
        with self._lock:
            self._live.add(run)

    def ended(self, run: str) -> None:
        """A run of the sweep has ended."""
        if self._store is None:
            return
        with self._lock:
            self._live.discard(run)
            self._due.add(run)
        self.wake.set()

    @contextlib.contextmanager
    def following(self, request: Request) -> Iterator[None]:
        """While it is open, the store is this process' and gets what is new; at its end, it has
        everything.

        Args:
          request: asked to stop if the mirror becomes another process'; answered while the end
            waits for the store.

        Raises:
          InputError: the store cannot be written.
          RunError: the mirror is another process' now, or the store could not be brought up to
            date at the end of a run that has found its end.
        """
        if self._store is None:
            yield
            return
        with self._refusing() as store:
            self._take_over(store)
        follower = _Follower(self, request)
        follower.start()
        try:
            yield
        except Exception as error:
            request.answered = True
            follower.finish()
            if follower.lost:
                raise RunError(follower.lost) from error
            if follower.problem:
                self.say(self._behind(follower.problem))
            raise
        except BaseException:  # at once
            follower.abandon()
            raise
        request.answered = True
        follower.finish()
        if follower.lost:
            raise RunError(follower.lost)
        if follower.problem:
            raise RunError(self._behind(follower.problem))

    def send(self, last: bool = False) -> None:
        """Sends what is new.

        Args:
          last: of all files, whether there is a new checkpoint or not.

        Raises:
          StoreError: the store does not answer or refuses.
          OtherOwnerError: the mirror is another process'.
        """
        store = self._store
        assert store is not None
        with self._lock:
            due, self._due = self._due, set()
            runs = sorted(self._live | due)
        try:
            copies.send(
                store, self._folder, self._layout, runs, {*due, *(runs if last else ())},
                self._has, first=lambda: self._check_owner(store),
            )  # fmt: skip
        except BaseException:
            with self._lock:
                self._due |= due
            raise

    def _behind(self, problem: str) -> str:
        assert self._store is not None
        return (
            f"everything is saved in {self._folder}, but its mirror {self._store.url} is behind "
            f"({problem}); the same command tries again"
        )

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[Store]:
        """Turns what a store says into bad input."""
        store = self._store
        assert store is not None
        try:
            yield store
        except StoreError as error:
            raise InputError(store_lib.refusal(store.url, error)) from error

    def _own(self, store: Store, layout: Layout) -> dict[str, int]:
        """The sizes of the objects in the store, which are all a mirror's; or there are none."""
        # The small question first: a list may be long, and so is the time that it is given.
        said, other = _said(store.read(MIRROR, MAX_SAID)), "choose another --mirror"
        sizes = store.sizes()
        if said is None and sizes:
            raise InputError(
                f"{store.url} holds {min(sizes)} but no {MIRROR}, so it is no mirror; {other}"
            )
        if said is not None and said.get("format") != FORMAT:
            raise InputError(
                f"{store.url}/{MIRROR} is not what this version of rnn_jax writes there; {other}"
            )
        if said is not None and said.get("of") != layout.of:
            raise InputError(
                f"{store.url} is the mirror of a {said.get('of')}, not of a {layout.of}; {other}"
            )
        return sizes

    def _take_over(self, store: Store) -> None:
        """Makes the store this process', which then knows all that is there."""
        said = {
            "format": FORMAT,
            "of": self._layout.of,
            "owner": self._token,
            "host": os.uname().nodename,
            "since": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        }
        store.write(MIRROR, (json.dumps(said) + "\n").encode())
        for run, found in copies.there(store.sizes()).items():  # the one before may have gone on
            copied = self._has.setdefault(run, Copied())
            copied.objects, copied.whole = found.objects, found.whole

    def _check_owner(self, store: Store) -> None:
        said = _said(store.read(MIRROR, MAX_SAID)) or {}
        if said.get("owner") != self._token:
            raise OtherOwnerError(
                f"the mirror {store.url} belongs to another process now ({said.get('host')}, since "
                f"{said.get('since')}); everything is saved in {self._folder}"
            )


class OtherOwnerError(Exception):
    """The mirror is another process'."""


class _Follower(threading.Thread):
    """Sends what is new until it is told to finish.

    lost: that the mirror is another process' now, if it is.
    problem: why the store is behind, if it is.
    """

    def __init__(self, mirror: Mirror, request: Request):
        super().__init__(name="mirror", daemon=True)
        self._mirror, self._request = mirror, request
        self._wake, self._say = mirror.wake, mirror.say
        self._finishing = self._abandoned = False
        self.lost = self.problem = ""

    def run(self) -> None:
        """In the thread."""
        failures, attempts, pause = 0, LAST_ATTEMPTS, 0.0
        while not self._abandoned:
            self._wake.wait(pause)
            self._wake.clear()
            last = self._finishing  # what is sent from now on is all there is
            try:
                self._mirror.send(last)
            except OtherOwnerError as error:
                self.lost = str(error)
                if self._request.signal is None:
                    self._request.signal = signal.SIGTERM
                return
            except Exception as error:  # of the store, of the disk
                failures, attempts = failures + 1, attempts - last
                if failures == 1 and not last:
                    self._say(f"the mirror is behind ({first_line(error)}): it will be tried again")
                self.problem = first_line(error)
                pause = LAST_PAUSE if last else PAUSES[min(failures, len(PAUSES)) - 1]
                if not attempts:
                    return
                continue
            if failures and not last:
                self._say("the mirror is up to date again")
            failures, pause, self.problem = 0, LOOKS, ""
            if last:
                return

    def finish(self) -> None:
        """Returns when everything is sent, or cannot be."""
        self._finishing = True
        self._wake.set()
        while self.is_alive():
            self.join(0.2)  # a signal's handler runs in between

    def abandon(self) -> None:
        """Sends nothing more."""
        self._abandoned = True
        self._wake.set()


NONE = Mirror()


def opened(url: str | None, say: Callable[[str], None]) -> Mirror:
    """The mirror at an address such as "gs://bucket/folder"; without one, none.

    Raises:
      InputError: the address is wrong, or what it takes is not installed.
    """
    return Mirror(store_lib.open_store(url), say) if url else NONE


def _said(content: bytes | None) -> dict[str, Any] | None:
    """What mirror.json says; None if there is none."""
    if content is None:
        return None
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
