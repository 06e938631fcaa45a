"""Trains, evaluates and uses recurrent networks: `python launch.py --experiment=bilstm`.

Run from the repository's root. `--experiment=NAME --help` shows every field of that experiment's
config.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import itertools
import json
import logging
import os
import pathlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from absl import flags

ROOT = pathlib.Path(__file__).resolve().parent
MODES = ("train", "summary", "evaluate", "predict")

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2

MAX_FLAG = 100  # characters of a flag's name


def experiments() -> dict[str, str]:
    """The experiments' names, and the first line of what each says of itself."""
    import ast

    found = {}
    for file in sorted((ROOT / "experiments").glob("*.py")):
        docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        found[file.stem] = docstring.partition("\n")[0]
    return found


def base_flags() -> flags.FlagValues:
    """The flags that every experiment has."""
    values = flags.FlagValues()
    add = {"flag_values": values, "module_name": "launch.py"}
    flags.DEFINE_string("experiment", None, "which experiment; see --list_experiments", **add)
    flags.DEFINE_enum("mode", "train", MODES, "what to do", **add)
    flags.DEFINE_string(
        "workdir", None, "the run's folder (default: runs/ and the experiment's name)", **add
    )
    flags.DEFINE_bool("overwrite", False, "begin anew in a folder that holds a run", **add)
    flags.DEFINE_string(
        "text", None, "for predict: the text (otherwise lines on standard input)", **add
    )
    flags.DEFINE_bool("list_experiments", False, "name the experiments, and exit", **add)
    flags.DEFINE_bool("help", False, "show all flags, and exit", short_name="h", **add)
    return values


def add_config_flags(values: flags.FlagValues, config) -> None:
    """A flag `--config.<section>.<field>` for each option, with the experiment's value as
    default."""
    from rnn_jax.config import options

    define = {
        bool: flags.DEFINE_bool,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        str: flags.DEFINE_string,
    }
    for name, field, value in options(config):
        add = {"flag_values": values, "module_name": "config"}
        flag, meaning = f"config.{name}", field.metadata["help"]
        if field.metadata["choices"]:
            flags.DEFINE_enum(flag, value, field.metadata["choices"], meaning, **add)
        else:
            define[type(field.default)](flag, value, meaning, **add)


def parse(argv: list[str]):
    """Reads the command line.

    Returns:
      The flags, the config, and the names of the config's options that the command line set.

    Raises:
      InputError: an unknown experiment, an unknown or mistyped flag, an option out of bounds.
    """
    from rnn_jax import config as config_lib
    from rnn_jax.config import Config, InputError, nearest

    for before, argument in itertools.pairwise(argv):
        name = argument.partition("=")[0]
        if name.startswith("-") and len(name) > MAX_FLAG and before not in ("--text", "-text"):
            # absl would look for flags of a similar name, deep and long.
            raise InputError(f"unknown flag {name[:MAX_FLAG]}...")
    values = base_flags()
    try:
        values(argv, known_only=True)
    except flags.Error as error:
        raise InputError(_one_line(error)) from error
    config = Config()
    if values.experiment is not None:
        known = experiments()
        if values.experiment not in known:
            raise InputError(
                f"unknown experiment {values.experiment!r}{nearest(values.experiment, known)} "
                f"(--list_experiments names them all)"
            )
        config = importlib.import_module(f"experiments.{values.experiment}").get_config()
    values = base_flags()
    add_config_flags(values, config)
    try:
        rest = values(argv)[1:]
    except flags.UnrecognizedFlagError as error:
        raise InputError(
            f"unknown flag --{error.flagname}{nearest(error.flagname, values)}"
        ) from error
    except flags.Error as error:
        raise InputError(_one_line(error)) from error
    if rest:
        raise InputError(f"unexpected argument {rest[0]!r}; options are given as --flag=value")
    given = {
        name: values[f"config.{name}"].value
        for name, _, _ in config_lib.options(config)
        if values[f"config.{name}"].present
    }
    return values, config_lib.replace(config, given), tuple(given)


def main(argv: list[str]) -> int:
    """Runs one command; returns the exit code."""
    sys.path.insert(0, str(ROOT))
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # what orbax logs it raises as well
    mode = None
    try:
        with _terminable():
            values, config, given = parse(argv)
            mode = values.mode
            return run(values, config, given)
    except KeyboardInterrupt as stop:  # while a run goes on, it answers signals itself
        number = stop.args[0] if stop.args else signal.SIGINT
        kept = "; whatever was saved before stays" if mode == "train" else ""
        return _fail(f"stopped{kept}", 128 + number)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads any more
        return EXIT_FAILED
    except Exception as error:
        message = explain(error, mode)
        if message is None:
            raise
        return _fail(*message)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Lets SIGTERM end the program as Ctrl-C does."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def explain(error: Exception, mode: str | None) -> tuple[str, int] | None:
    """One line and the exit code for an error that a user can do something about, or None.

    Args:
      error: what was raised.
      mode: in which mode; None while flags are read.
    """
    import jax

    from rnn_jax.config import InputError
    from rnn_jax.train import RunError

    if isinstance(error, InputError):
        return str(error), EXIT_BAD_INPUT
    if isinstance(error, RunError):
        return str(error), EXIT_FAILED
    out_of_memory = isinstance(error, jax.errors.JaxRuntimeError) and (
        "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error).lower()
    )
    if out_of_memory or isinstance(error, MemoryError):
        advice = (
            "try a smaller --config.train.batch_size, then --config.data.max_length "
            "or --config.data.vocab_size"
            if mode == "train"
            else "the run's config is fixed, so this needs a device with more of it"
        )
        return f"out of memory; {advice}", EXIT_FAILED
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        where = error.filename or "the run folder"
        return f"cannot write {where} ({error.strerror}); what was saved before stays", EXIT_FAILED
    return None


def run(values: flags.FlagValues, config, given: tuple[str, ...]) -> int:
    """Runs the command that `parse` has read; returns the exit code, or raises."""
    if values.help:
        print(f"{__doc__}\n{values.get_help()}")
        return 0
    if values.list_experiments:
        names = experiments()
        width = max(map(len, names))
        print("\n".join(f"{name.ljust(width)}  {line}" for name, line in names.items()))
        return 0
    from rnn_jax.config import InputError

    if values.experiment is None and not (
        values.workdir and values.mode in ("evaluate", "predict")
    ):
        raise InputError(f"--experiment is missing; choose one of {', '.join(experiments())}")
    for flag, mode in (("text", "predict"), ("overwrite", "train")):
        if values[flag].present and values.mode != mode:
            raise InputError(f"--{flag} is for --mode={mode}, not --mode={values.mode}")
    workdir = values.workdir or str(pathlib.Path("runs") / values.experiment)
    if values.mode == "summary":
        return _summary(config)
    from rnn_jax import compilation

    compilation.use_cache()
    compilation.return_memory()
    if values.mode == "train":
        return _train(values, config, workdir)
    return _use(values, workdir, given)


def _summary(config) -> int:
    import jax

    from rnn_jax import summary, tasks
    from rnn_jax.data import sources

    task = tasks.classification(config, sources.classes(config.data))
    print(summary.table(jax.eval_shape(task.init, jax.random.key(0))))
    return 0


def _train(values: flags.FlagValues, config, workdir: str) -> int:
    from rnn_jax import train
    from rnn_jax.display import Display
    from rnn_jax.interrupts import Interrupted

    try:
        result = train.run(config, workdir, overwrite=values.overwrite, display=Display())
    except Interrupted as interrupted:
        # stdout's last line is the result's; this is none.
        print(
            f"{interrupted}; everything is saved in {workdir}: "
            "the same command (without --overwrite) continues from here",
            file=sys.stderr,
        )
        return 128 + interrupted.signal
    report = pathlib.Path(workdir) / "report.html"
    if report.exists():  # a finished run's cannot be made anew without its data
        print(f"report: {report}")
    _print_test(config, result.history[-1])
    return 0


def _use(values: flags.FlagValues, workdir: str, given: tuple[str, ...]) -> int:
    """evaluate and predict: the config is the folder's."""
    from rnn_jax import predict
    from rnn_jax.config import InputError, replace
    from rnn_jax.evaluate import evaluate_test, open_run

    if values.mode == "predict" and values.text is not None and not values.text.strip():
        raise InputError("--text is empty; give it some words")
    movable = {"data.data_dir"} if values.mode == "evaluate" else set()
    if fixed := sorted(set(given) - movable):
        raise InputError(
            f"--config.{fixed[0]} cannot be set here: {values.mode} uses the run's config"
        )
    trained = open_run(workdir)
    if values.experiment not in (None, trained.config.experiment):
        raise InputError(
            f"{workdir} holds a run of experiment {trained.config.experiment!r}, "
            f"not {values.experiment!r}"
        )
    if values.mode == "evaluate":
        changes = {name: values[f"config.{name}"].value for name in given}
        trained = trained._replace(config=replace(trained.config, changes))
        _print_test(trained.config, evaluate_test(trained))
        return 0
    predictor = predict.Predictor(trained)
    if values.text is not None:
        print(json.dumps(predictor(values.text)._asdict(), ensure_ascii=False))
        return 0
    if sys.stdin.isatty():
        print("one text a line; end with Ctrl-D", file=sys.stderr)
    for line in sys.stdin.buffer:
        text = line.decode("utf-8", errors="replace").strip()
        answer = predictor(text)._asdict() if text else {"error": "empty line"}
        print(json.dumps(answer, ensure_ascii=False), flush=True)
    return 0


def _print_test(config, record) -> None:
    print(
        f"test accuracy {record['accuracy']:.4f}  loss {record['loss']:.4f}  "
        f"({config.data.source}, {record['examples']} examples)"
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _fail(message: str, code: int) -> int:
    print(f"launch.py: {message}", file=sys.stderr)
    return code


def _without_closed_loops(hook: Callable[[Any], None]) -> Callable[[Any], None]:
    """`hook`, without what the writes say that orbax abandons on a full disk: it raises as well."""

    def call(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    return call


if __name__ == "__main__":
    sys.unraisablehook = _without_closed_loops(sys.unraisablehook)
    sys.exit(main(sys.argv))
