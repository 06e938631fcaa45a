"""What a person sees; and that nobody looking is no reason to stop."""

import io
import math
import sys
import types

import pytest

from rnn_jax.system.display import COLUMNS, Display, of_the_caller
from rnn_jax.train import outcome


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


@pytest.mark.parametrize("better", [True, False])
@pytest.mark.parametrize("epochs", [9, 2**31 - 1])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e6, math.nan])
@pytest.mark.parametrize("headline", [("loss",), ("perplexity",), ("loss", "accuracy"), ()])
def test_an_epoch_is_a_line_of_a_terminal(headline, scale, epochs, better):
    names = ["loss", "accuracy", "perplexity", "bits_per_character", "a", "b", "c"]
    trained, validated = (
        {"step": 7, "epoch": epochs, "split": split, "examples": 10**9, "seconds": factor * 12345.6}
        | dict.fromkeys(names, factor * scale)
        for split, factor in (("train", 1.0), ("validation", 2.0))
    )
    task = types.SimpleNamespace(headline=headline, told=())
    line = outcome.epoch_line(task, epochs, trained, validated, better)
    assert len(line) <= COLUMNS
    assert line.startswith(f"epoch {epochs}/{epochs}  ")
    assert line.endswith("  best") == better
    first = headline[0] if headline else "loss"
    assert f"  {first} {scale:.4f} val {2 * scale:.4f}" in line
    if scale == 1.0 and epochs == 9 and headline == ("loss", "accuracy"):  # as most often
        assert "accuracy 1.0000 val 2.0000  12345.6 s" in line


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (200, "epoch 10/10  loss 0.0369 val 0.2582  accuracy 0.9869 val 0.9412  1.6 s  best"),
        (70, "epoch 10/10  loss 0.0369 val 0.2582  accuracy 0.9869 val 0.9412  best"),
        (50, "epoch 10/10  loss 0.0369 val 0.2582  best"),
        (40, "epoch 10/10  val loss 0.2582  best"),
    ],
)
def test_a_narrow_terminal_has_what_fits(monkeypatch, columns, expected):
    trained = {"epoch": 10, "loss": 0.0369, "accuracy": 0.9869, "seconds": 1.6}
    validated = {"epoch": 10, "loss": 0.2582, "accuracy": 0.9412}
    task = types.SimpleNamespace(headline=(), told=())
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stdout", Terminal())
    shown = Display().columns
    assert shown == min(columns, COLUMNS)
    assert outcome.epoch_line(task, 10, trained, validated, True, shown) == expected
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert Display().columns == COLUMNS  # a file's lines do not depend on who looks


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("columns", [30, 40, 59, 80, 200])
def test_a_bar_is_no_wider_than_the_terminal(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setattr("tqdm.std._screen_shape_wrapper", lambda: lambda file: (columns, 24))
    with Display(terminal=True).start("epoch 1/6", 2125) as shown:
        shown.show(960, {"loss": 1.1682, "accuracy": 0.5209})
        drawn = sys.stderr.getvalue().split("\r")[-1].rstrip()
    assert len(drawn) <= columns
    assert "45%" in drawn
    assert "loss 1.16" in drawn or columns in (80, 200)
    assert ("accuracy 0.5209" in drawn) == (columns in (59, 200))


def test_lines_where_there_is_no_terminal_fit(capsys, monkeypatch):
    clock = iter(range(0, 1000, 30))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    with Display(terminal=False).start("epoch 100/100", 120_000) as shown:
        shown.show(60_000, {"loss": 0.5, "accuracy": 0.25, "token_accuracy": 0.125})
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("epoch 100/100: 60000/120000 examples  loss 0.5000  ")
    assert line.endswith("s left")
    assert len(line) <= COLUMNS
