"""Signals as requests, tried on processes of their own that load the module alone, without JAX."""

import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import pytest

MODULE = pathlib.Path(__file__).resolve().parent.parent / "rnn_jax" / "system" / "interrupts.py"
LOAD = f"""
import hashlib, importlib.util, os, signal, sys, time
spec = importlib.util.spec_from_file_location("interrupts", {str(MODULE)!r})
interrupts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(interrupts)
# Whoever runs the tests may do so under nohup, or in the background of a script.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

def compile():  # one call into C that lasts for seconds, during which Python runs no handler
    hashlib.pbkdf2_hmac("sha256", b"", b"", 40_000_000)
"""


@pytest.fixture
def process():
    """`process(code) -> a process` that has printed its first line."""
    started = []

    def start(code, **options):
        program = [sys.executable, "-c", LOAD + textwrap.dedent(code)]
        child = subprocess.Popen(
            program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )
        started.append(child)
        assert child.stdout.readline() == "ready\n"
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_is_a_request_and_handlers_come_back(process, number):
    child = process("""
        before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
        with interrupts.deferred_or_exit() as request:
            print("ready", flush=True)
            while request.signal is None:
                time.sleep(0.01)
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
        assert signal.set_wakeup_fd(-1) == -1
        print(request.signal)
    """)
    child.send_signal(number)
    out, err = child.communicate(timeout=20)
    assert (child.returncode, out.strip(), err) == (0, str(int(number)), "")


def test_in_a_library_a_second_signal_raises_and_nothing_ends_the_process(process):
    child = process("""
        with interrupts.deferred() as request:
            try:
                print("ready", flush=True)
                while True:
                    time.sleep(0.01)
            except KeyboardInterrupt as stop:
                print(request.signal, stop.args[0], flush=True)
        print("goes on")
    """)
    child.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert child.poll() is None
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=20)
    assert (child.returncode, out, err) == (0, "15 2\ngoes on\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_a_callback_swallows_is_raised_again(process, number):
    child = process("""
        swallowed = []
        with interrupts.raising(interval=1.0):
            try:
                try:  # as an extension's callback does
                    print("ready", flush=True)
                    time.sleep(20)
                except KeyboardInterrupt as stop:
                    swallowed.append(stop)
                time.sleep(20)
            except KeyboardInterrupt as stop:
                number = stop.args[0]
        time.sleep(1.5)  # afterwards nothing comes again
        print(len(swallowed), number)
    """)
    child.send_signal(number)
    out, err = child.communicate(timeout=20)
    assert (child.returncode, out, err) == (0, f"1 {int(number)}\n", "")


def test_a_signal_swallowed_early_becomes_one_request_of_the_run(process):
    child = process("""
        swallowed = []
        with interrupts.raising(interval=1.0):
            try:
                print("ready", flush=True)
                time.sleep(20)
            except KeyboardInterrupt as stop:
                swallowed.append(stop)
            with interrupts.deferred_or_exit() as request:
                while request.signal is None:
                    time.sleep(0.01)
                request.answered = True
                time.sleep(1.5)  # a second one would end the process
            print(request.signal)
    """)
    child.send_signal(signal.SIGTERM)
    out, err = child.communicate(timeout=20)
    assert (child.returncode, out, err) == (0, "15\n", "")


def test_a_second_signal_ends_the_process_at_once_even_while_a_library_computes(process):
    child = process("""
        with interrupts.deferred_or_exit() as request:
            print("ready", flush=True)
            compile()
    """)
    child.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert child.poll() is None
    began = time.monotonic()
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=20)
    assert child.returncode == 130
    assert time.monotonic() - began < 2


def test_a_request_without_an_answer_ends_the_process_after_the_grace(process):
    child = process("""
        with interrupts.deferred_or_exit(grace=0.3) as request:
            print("ready", flush=True)
            compile()
    """)
    child.send_signal(signal.SIGTERM)
    _, err = child.communicate(timeout=20)
    assert child.returncode == 143
    assert err.count("\n") == 1
    assert "SIGTERM" in err
    assert "continues from there" in err


def test_a_request_that_was_answered_has_time_to_save(process):
    child = process("""
        with interrupts.deferred_or_exit(grace=0.1) as request:
            print("ready", flush=True)
            while request.signal is None:
                time.sleep(0.01)
            request.answered = True
            time.sleep(0.6)
        print("saved")
    """)
    child.send_signal(signal.SIGTERM)
    out, _ = child.communicate(timeout=20)
    assert (child.returncode, out) == (0, "saved\n")


def test_signals_that_were_ignored_stay_ignored(process):
    # As under nohup, and as a shell starts what it runs in the background.
    child = process("""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with interrupts.deferred_or_exit() as request:
            print("ready", flush=True)
            time.sleep(0.5)
            print(request.signal)
    """)
    child.send_signal(signal.SIGHUP)
    out, _ = child.communicate(timeout=20)
    assert (child.returncode, out) == (0, "None\n")


def test_another_thread_may_train_too(process):
    child = process("""
        import threading
        def train():
            with interrupts.deferred_or_exit() as request:
                print("ready", flush=True)
        thread = threading.Thread(target=train)
        thread.start()
        thread.join()
    """)
    child.communicate(timeout=20)
    assert child.returncode == 0
