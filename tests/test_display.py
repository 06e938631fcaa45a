"""What a person sees; and that nobody looking is no reason to stop."""

import io
import sys
import types

import pytest

from rnn_jax.system.display import Display, of_the_caller


class Gone(io.StringIO):
    """A pipe whose reader has gone away, a terminal that was closed, a log on a full disk."""

    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("terminal", [False, True])
def test_a_reader_that_goes_away_ends_no_run(monkeypatch, terminal):
    monkeypatch.setattr("sys.stdout", Gone())
    monkeypatch.setattr("sys.stderr", Gone())
    display = Display(terminal=terminal)
    display.line("a line")
    with display.start("epoch 1/1", 10) as shown:
        shown.show(5, {"loss": 1.0})
    display.line("another")


def test_a_bar_only_in_a_terminal_and_nothing_where_quiet(capsys):
    for display, parts in (
        (Display(terminal=True), ("epoch 1/1", "50%", "loss 1.0000")),
        (Display(terminal=False), ()),
        (Display(quiet=True, terminal=True), ()),
    ):
        with display.start("epoch 1/1", 10) as shown:
            shown.show(5, {"loss": 1.0})
        out, err = capsys.readouterr()
        assert out == ""
        assert all(part in err for part in parts)
        assert bool(err) == bool(parts)


def test_without_a_terminal_a_line_comes_now_and_then(capsys, monkeypatch):
    clock = iter(range(0, 1000, 15))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    with Display(terminal=False).start("epoch 1/1", 100, done=40) as shown:
        for done in (60, 80, 100):
            shown.show(done, {"loss": 0.5})
    lines = capsys.readouterr().out.splitlines()
    # Every 20 seconds at most: after 30 s of which 40 examples were done since the start.
    assert lines == ["epoch 1/1: 80/100 examples  loss 0.5000  1 examples/s  15 s left"]


def test_a_notebook_sees_bars_and_a_script_nothing(monkeypatch, capsys):
    for in_notebook in (False, True):
        if in_notebook:
            monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
        else:
            monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
        display = of_the_caller()
        display.line("kernel: scan")
        with display.start("epoch 1/1", 10) as shown:
            shown.show(5, {"loss": 1.0})
        out, err = capsys.readouterr()
        assert (out == "kernel: scan\n") == in_notebook
        assert ("loss 1.0000" in err or "50%" in err) == in_notebook
