"""Trains, evaluates and uses recurrent networks: `python launch.py --experiment=bilstm`.

Run from the repository's root. `--experiment=NAME --help` shows every field of that experiment's
config.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import importlib.util
import io
import itertools
import json
import logging
import os
import pathlib
import signal
import sys
import types
from collections.abc import Callable
from typing import Any, NamedTuple

from absl import flags

ROOT = pathlib.Path(__file__).resolve().parent
MODES = ("train", "summary", "evaluate", "predict")

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2

MAX_FLAG = 100  # characters of a flag's name
MAX_LINE = 2**24  # bytes of a line on standard input


def experiments() -> dict[str, str]:
    """The experiments' names, and the first line of what each says of itself."""
    return _experiments(ROOT / "experiments")


@functools.cache
def _experiments(folder: pathlib.Path) -> dict[str, str]:
    import ast

    found = {}
    for file in sorted(folder.glob("*.py")):
        if not file.stem.isidentifier():  # an editor's or a system's own file
            continue
        try:
            docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        except (OSError, ValueError, SyntaxError) as error:
            docstring = f"(cannot be read: {error})"
        found[file.stem] = docstring.partition("\n")[0]
    return found


def load_experiment(name: str) -> types.ModuleType:
    """The module of an experiment: `get_config`, and perhaps `CELLS` and `TASKS` of its own.

    Raises:
      InputError: there is none of this name, or its file is broken.
    """
    from rnn_jax.config import InputError, nearest

    known = experiments()
    if name not in known:
        raise InputError(
            f"unknown experiment {name!r}{nearest(name, known)} (--list_experiments names them all)"
        )
    try:
        module = importlib.import_module(f"experiments.{name}")
    except SyntaxError as error:
        raise InputError(f"{error.filename} cannot be read: {error}") from error
    if not hasattr(module, "get_config"):
        raise InputError(f"experiments/{name}.py has no function get_config")
    return module


def extras_of(experiment: types.ModuleType | None):
    """The cells and tasks that an experiment brings with it."""
    from rnn_jax.tasks import Extras

    return Extras(getattr(experiment, "CELLS", {}), getattr(experiment, "TASKS", {}))


class Command(NamedTuple):
    """What the command line asks for.

    values: the flags.
    experiment: the module of the experiment, if one is named.
    config: its config, with the command line's options.
    given: names of the config's options that the command line set.
    """

    values: flags.FlagValues
    experiment: types.ModuleType | None
    config: Any
    given: tuple[str, ...]


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


def parse(argv: list[str]) -> Command:
    """Reads the command line.

    Raises:
      InputError: an unknown experiment, an unknown or mistyped flag, an option out of bounds.
    """
    from rnn_jax import config as config_lib
    from rnn_jax.config import InputError, nearest
    from rnn_jax.system.messages import one_line
    from rnn_jax.tasks import default_config

    for before, argument in itertools.pairwise(argv):
        name = argument.partition("=")[0]
        if name.startswith("-") and len(name) > MAX_FLAG and before not in ("--text", "-text"):
            # absl would look for flags of a similar name, deep and long.
            raise InputError(f"unknown flag {name[:MAX_FLAG]}...")
    values = base_flags()
    try:
        values(argv, known_only=True)
    except flags.Error as error:
        raise InputError(one_line(error)) from error
    experiment, config = None, default_config()
    name = values.experiment
    if name is None and values.workdir and values.mode in ("evaluate", "predict"):
        name = _experiment_in(values.workdir)
    if name is not None:
        experiment = load_experiment(name)
        config = experiment.get_config()
    values = base_flags()
    add_config_flags(values, config)
    try:
        rest = values(argv)[1:]
    except flags.UnrecognizedFlagError as error:
        place = config.moved.get(error.flagname.removeprefix("no").removeprefix("config."))
        if place is not None:
            raise InputError(f"--{error.flagname} is --config.{place} now") from error
        raise InputError(
            f"unknown flag --{error.flagname}{nearest(error.flagname, values)}"
        ) from error
    except flags.Error as error:
        raise InputError(one_line(error)) from error
    if rest:
        raise InputError(f"unexpected argument {rest[0]!r}; options are given as --flag=value")
    given = {
        name: values[f"config.{name}"].value
        for name, _, _ in config_lib.options(config)
        if values[f"config.{name}"].present
    }
    return Command(values, experiment, config_lib.replace(config, given), tuple(given))


def _experiment_in(workdir: str) -> str | None:
    """The experiment of the run in a folder, if it is one of ours: it may bring cells and tasks."""
    from rnn_jax.runs.identity import experiment_name

    name = experiment_name(workdir)
    return name if name in experiments() else None


def main(argv: list[str]) -> int:
    """Runs one command; returns the exit code."""
    sys.path.insert(0, str(ROOT))
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # what orbax logs it raises as well
    mode = None
    try:
        with _interrupts().raising():
            command = parse(argv)
            mode = command.values.mode
            return run(command)
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


def _interrupts() -> types.ModuleType:
    """`rnn_jax.system.interrupts` without the package: signals are heeded before JAX is imported,
    which takes seconds, and in whose callbacks an exception may be lost."""
    name = "rnn_jax.system.interrupts"
    if name not in sys.modules:
        file = pathlib.Path(__file__).resolve().parent.joinpath(*name.split(".")).with_suffix(".py")
        spec = importlib.util.spec_from_file_location(name, file)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


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


def run(command: Command) -> int:
    """Runs the command that `parse` has read; returns the exit code, or raises."""
    values = command.values
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
    _check_devices()
    workdir = os.path.expanduser(values.workdir or str(pathlib.Path("runs") / values.experiment))
    if values.mode in ("train", "summary"):
        from rnn_jax import tasks

        kind = tasks.kind_of(command.config, extras_of(command.experiment))
        _check_mode(values.mode, kind, f"experiment {values.experiment!r}")
    if values.mode == "summary":
        return _summary(command)
    from rnn_jax.system import compilation

    compilation.use_cache()
    compilation.return_memory()
    return (_train if values.mode == "train" else _use)(command, workdir)


def _check_devices() -> None:
    """Raises InputError where JAX was told to use a device that is not there."""
    import jax

    from rnn_jax.config import InputError

    wanted = os.environ.get("JAX_PLATFORMS")
    try:
        jax.devices()
    except Exception as error:  # JAX raises this and that
        if not wanted:
            raise
        raise InputError(
            f"JAX has no device for JAX_PLATFORMS={wanted!r} here: unset it, or install JAX for "
            "that device"
        ) from error


def _check_mode(mode: str, kind: Any, what: str) -> None:
    """Raises InputError for a mode that a kind of task does not have; `what` is of that kind."""
    from rnn_jax.config import InputError

    if mode not in kind.modes:
        raise InputError(
            f"{what} is {kind.noun}, for which there is no --mode={mode}; it has "
            f"--mode={', '.join(kind.modes)}"
        )


def _summary(command: Command) -> int:
    import jax

    from rnn_jax import tasks
    from rnn_jax.report import summary

    extras = extras_of(command.experiment)
    resolved = tasks.resolve(command.config, extras, strict=False)
    facts = tasks.kind_of(command.config, extras).facts(command.config)
    task = tasks.make(resolved.config, facts, extras)
    print(summary.table(jax.eval_shape(task.init, jax.random.key(0)), task.flow))
    return 0


def _train(command: Command, workdir: str) -> int:
    from rnn_jax import train
    from rnn_jax.system import interrupts
    from rnn_jax.system.display import Display

    extras, overwrite = extras_of(command.experiment), command.values.overwrite
    try:
        result = train.run(
            command.config,
            workdir,
            overwrite=overwrite,
            display=Display(),
            deferred=interrupts.deferred_or_exit,
            **extras._asdict(),
        )
    except interrupts.Interrupted as interrupted:
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
    print(result.line)
    return 0


def _use(command: Command, workdir: str) -> int:
    """evaluate and predict: the config is the folder's."""
    from rnn_jax import tasks
    from rnn_jax.config import InputError, options
    from rnn_jax.data.text import plain
    from rnn_jax.system.files import bounded_lines
    from rnn_jax.train import evaluate, opened

    values, extras = command.values, extras_of(command.experiment)
    if values.mode == "predict" and values.text is not None and not plain(values.text):
        raise InputError("--text is empty; give it some words")
    movable = {
        name
        for name, field, _ in options(command.config)
        if values.mode == "evaluate" and name.startswith("data.") and not field.metadata["fixed"]
    }
    if fixed := sorted(set(command.given) - movable):
        raise InputError(
            f"--config.{fixed[0]} cannot be set here: {values.mode} uses the run's config"
        )
    run = opened.open_run(workdir, extras)
    if values.experiment not in (None, run.config.experiment):
        raise InputError(
            f"{workdir} holds a run of experiment {run.config.experiment!r}, "
            f"not {values.experiment!r}"
        )
    _check_mode(values.mode, tasks.kind_of(run.config, extras), workdir)
    if values.mode == "evaluate":
        changes = {name: values[f"config.{name}"].value for name in command.given}
        run = opened.moved(run, changes, extras)
        print(run.task.result(evaluate.evaluate_test(run)))
        return 0
    predictor, answer = run.task.predictor(run), run.task.answer
    if values.text is not None:
        print(json.dumps(answer(predictor, values.text), ensure_ascii=False))
        return 0
    if sys.stdin.isatty():
        print("one text a line; end with Ctrl-D", file=sys.stderr)
    for line in bounded_lines(sys.stdin.buffer, MAX_LINE):
        if line is None:
            answered = {"error": f"a line of more than {MAX_LINE} bytes"}
        else:
            text = line.decode("utf-8", errors="replace")
            answered = answer(predictor, text) if plain(text) else {"error": "empty line"}
        print(json.dumps(answered, ensure_ascii=False), flush=True)
    return 0


def _fail(message: str, code: int) -> int:
    print(f"launch.py: {message}", file=sys.stderr)
    return code


def _without_closed_loops(hook: Callable[[Any], None]) -> Callable[[Any], None]:
    """`hook`, without what the writes say that orbax abandons on a full disk: it raises as well."""

    def call(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    return call


def _prepare_streams() -> None:
    """Standard streams that any text can be written to, be they closed or of a narrow encoding."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 (for the process' life)
        elif isinstance(stream, io.TextIOWrapper) and mode == "w":
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    _prepare_streams()
    sys.unraisablehook = _without_closed_loops(sys.unraisablehook)
    code = main(sys.argv)
    if code > 128:
        # Stopped by a signal, perhaps while XLA compiles in threads of its own: taking the process
        # apart under them may crash it. What was to be saved is on the disk.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)
    sys.exit(code)
