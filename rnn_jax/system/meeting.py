"""How the processes of a run meet, before JAX's runtime takes over.

That runtime's own wait ends a process without a word that helps. So process 0 listens where JAX
will listen, until each of the others has come and said which one it is; then all go on, or all say
why not.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time

from rnn_jax.config import InputError

GO = "go"  # process 0's answer when all are there; anything else is why not
_LINE = 4096  # bytes of a message, at most
_PAUSE = 0.2  # seconds between tries


def gather(host: str, port: int, count: int, timeout: float) -> None:
    """Waits, as process 0, for all the others.

    Args:
      host, port: where to listen; on this machine's own address nobody else can reach it.
      count: how many processes there are.
      timeout: seconds.

    Raises:
      InputError: some do not come, two say that they are the same, or nobody can listen there.
    """
    end, callers = time.monotonic() + timeout, dict[int, socket.socket]()
    with contextlib.ExitStack() as held:
        try:
            server = held.enter_context(_server(host, port))
        except OSError as error:
            raise InputError(
                f"process 0 cannot listen at {host}:{port} ({error.strerror or error}): end what "
                "uses it, or give another port"
            ) from error
        server.settimeout(_PAUSE)
        try:
            while _all_but(count, callers):
                if time.monotonic() > end:
                    missing = _all_but(count, callers)
                    raise InputError(
                        f"process {', '.join(map(str, missing))} of {count} did not come to "
                        f"{host}:{port} within {timeout:g} s: start all of them, each with its own "
                        "--process"
                    )
                with contextlib.suppress(TimeoutError):
                    caller = held.enter_context(server.accept()[0])
                    _welcome(caller, callers, count)
        except InputError as error:
            for caller in callers.values():
                _tell(caller, str(error))
            raise
        server.close()
        for caller in callers.values():
            _tell(caller, GO)
        for caller in callers.values():  # who hangs up first keeps the port for a while
            with contextlib.suppress(OSError):
                caller.settimeout(1)
                caller.recv(1)


def report(host: str, port: int, count: int, index: int, timeout: float) -> None:
    """Tells process 0 that this one is there, and waits until all are.

    Raises:
      InputError: nobody answers there, or process 0 says why it cannot go on.
    """
    end = time.monotonic() + timeout
    while True:
        try:
            with socket.create_connection((host, port), max(1.0, end - time.monotonic())) as to:
                to.sendall(f"{json.dumps([index, count])}\n".encode())
                try:
                    answer = _line(to)
                except TimeoutError:
                    answer = (
                        f"process 0 is at {host}:{port}, but not all of {count} came within "
                        f"{timeout:g} s: start all of them, each with its own --process"
                    )
        except OSError as error:
            if time.monotonic() > end or isinstance(error, socket.gaierror):
                raise InputError(
                    f"no coordinator answers at {host}:{port} ({error.strerror or error}, waited "
                    f"{timeout:g} s): start process 0 there, or mend --coordinator"
                ) from error
            time.sleep(_PAUSE)
            continue
        if answer == GO:
            return
        raise InputError(answer or f"process 0 at {host}:{port} ended: start all of them again")


def _welcome(caller: socket.socket, callers: dict[int, socket.socket], count: int) -> None:
    """Notes who has come; somebody else, who says nothing that is understood, does not count."""
    try:
        caller.settimeout(2)
        index, told = json.loads(_line(caller))
        index, told = int(index), int(told)
    except (OSError, ValueError, TypeError):
        return
    wrong = None
    if told != count:
        wrong = f"process {index} has --processes={told}, and process 0 --processes={count}"
    elif index in callers and not _gone(callers[index]):
        wrong = f"two processes have --process={index}"
    if wrong is not None:
        _tell(caller, f"{wrong}: start all of them anew")
        raise InputError(f"{wrong}: start all of them anew")
    callers[index] = caller


def _all_but(count: int, callers: dict[int, socket.socket]) -> list[int]:
    """Who is missing; callers that fell are, and may be started anew."""
    for index in [index for index, caller in callers.items() if _gone(caller)]:
        del callers[index]
    return [index for index in range(1, count) if index not in callers]


def _gone(caller: socket.socket) -> bool:
    """Whether nobody is there any more."""
    caller.setblocking(False)
    try:
        return not caller.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        caller.settimeout(2)


def _server(host: str, port: int) -> socket.socket:
    if host in ("127.0.0.1", "localhost"):
        return socket.create_server(("127.0.0.1", port))
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def _tell(caller: socket.socket, words: str) -> None:
    with contextlib.suppress(OSError):  # it may be gone
        caller.sendall(f"{words}\n".encode())


def _line(of: socket.socket) -> str:
    """The next line; shorter if there is no end to it, or nobody there."""
    held = b""
    while b"\n" not in held and len(held) < _LINE:
        piece = of.recv(_LINE)
        if not piece:
            break
        held += piece
    return held.partition(b"\n")[0].decode(errors="replace")
