"""How processes meet: on 127.0.0.1, each in a thread here."""

import concurrent.futures
import socket
import threading
import time

import pytest

from rnn_jax.config import InputError
from rnn_jax.system import meeting

HOST = "127.0.0.1"


@pytest.fixture
def port():
    with socket.create_server((HOST, 0)) as free:
        return free.getsockname()[1]


@pytest.fixture
def met(port):
    """`met(count, (index, count it was told), ...)`: what becomes of process 0 and of those."""

    def run(count, *others, timeout=5.0):
        with concurrent.futures.ThreadPoolExecutor(len(others) + 1) as pool:
            asked = [pool.submit(meeting.gather, HOST, port, count, timeout)]
            for index, told in others:
                asked.append(pool.submit(meeting.report, HOST, port, told, index, timeout))
            return [said(each) for each in asked]

    return run


def said(asked):
    error = asked.exception(timeout=30)
    assert error is None or isinstance(error, InputError)
    return error and str(error)


def test_all_go_on_when_all_are_there(met, port):
    assert met(4, (1, 4), (3, 4), (2, 4)) == [None] * 4
    with socket.create_server((HOST, port)):  # free for who listens there next
        pass
    assert met(1) == [None]


def test_those_that_do_not_come_are_named_to_all(met, port):
    words = (
        f"process 1, 3 of 4 did not come to {HOST}:{port} within 1 s: start all of them, each with "
        "its own --process"
    )
    assert met(4, timeout=1.0)[0] == words.replace("1, 3", "1, 2, 3")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        zero = pool.submit(meeting.gather, HOST, port, 4, 1.0)
        second = pool.submit(meeting.report, HOST, port, 4, 2, 10.0)
        assert said(zero) == said(second) == words
        silent = pool.submit(meeting.gather, HOST, port, 4, 10.0)
        impatient = pool.submit(meeting.report, HOST, port, 4, 2, 1.0)
        assert said(impatient) == words.replace(
            f"process 1, 3 of 4 did not come to {HOST}:{port}",
            f"process 0 is at {HOST}:{port}, but not all of 4 came",
        )
        for index in (1, 2, 3):
            threading.Thread(target=meeting.report, args=(HOST, port, 4, index, 10.0)).start()
        assert said(silent) is None


@pytest.mark.parametrize(
    ("others", "words"),
    [
        (((1, 3), (1, 3)), "two processes have --process=1"),
        (((1, 5), (2, 3)), "process 1 has --processes=5, and process 0 --processes=3"),
    ],
)
def test_flags_that_do_not_fit_together_end_all(met, others, words):
    found = met(3, *others, timeout=2.0)
    assert found[0] == f"{words}: start all of them anew"
    assert found[1] is not None
    assert found[2] is not None


def test_strangers_do_not_count_and_who_fell_may_come_again(met, port):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        zero = pool.submit(meeting.gather, HOST, port, 3, 10.0)
        time.sleep(0.3)
        for words in (b"GET / HTTP/1.1\n", b"[1]\n", b"", b"[1, 3]\n"):
            with socket.create_connection((HOST, port), 5) as caller:
                caller.sendall(words)
        both = [pool.submit(meeting.report, HOST, port, 3, 1, 10.0)]
        meeting.report(HOST, port, 3, 2, 10.0)
        assert [said(each) for each in (zero, *both)] == [None, None]


def test_a_port_that_is_taken(port):
    with socket.create_server((HOST, port)), pytest.raises(InputError, match="cannot listen at"):
        meeting.gather(HOST, port, 2, 1.0)
