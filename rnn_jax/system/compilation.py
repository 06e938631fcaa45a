"""What a program sets before it compiles anything: a cache on the disk, and thrift with memory.

These are settings of the whole process, so a program asks for them; importing rnn_jax changes none.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax

from rnn_jax.system import files

# JAX's own names for "compiled, or loaded from the cache", and for what comes before; the tests
# hold us to them.
_COMPILED = "/jax/core/compile/backend_compile_duration"
_STAGES = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    _COMPILED,
)
_PATIENCE = 10.0  # seconds after which a compilation is said, and again after twice as many
_LOOK = 0.5  # seconds between two looks at how long it has taken
_SECONDS = 0.1  # the shortest one after which there is memory worth returning

QUICK, THOROUGH = "quick", "thorough"
# Fewer steps than these take longer to be compiled than quick code loses on them: it is compiled in
# a third to two thirds of the time, and a step of it takes a tenth to two thirds longer.
_STEPS = 10_000
# Code of level 1 has the same bits, and is as fast, as that of the highest; the older emitter joins
# operations in other ways, and so rounds in other places.
_LEVEL = {"xla_backend_optimization_level": 1}
_EMITTER = {"xla_cpu_use_fusion_emitters": False}


def manner(steps: int) -> str:
    """How training of so many steps is compiled best: quickly, or for speed."""
    return QUICK if steps < _STEPS and jax.default_backend() == "cpu" else THOROUGH


def options(manner: str) -> dict[str, Any] | None:
    """XLA's options for `jax.jit(..., compiler_options=...)`; what XLA_FLAGS sets is left alone."""
    if jax.default_backend() != "cpu":
        return None
    flags = os.environ.get("XLA_FLAGS", "")
    wanted = _LEVEL | (_EMITTER if manner == QUICK else {})
    return {
        name: value for name, value in wanted.items() if name not in flags and _has(name, value)
    } or None


@functools.cache
def _has(name: str, value: bool | int) -> bool:
    """Whether this version of XLA has an option: they come and go."""
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except (RuntimeError, ValueError):
        return False
    return True


def use_cache() -> None:
    """Keeps compiled programs in the user's cache folder, so that a second start is quick.

    `JAX_COMPILATION_CACHE_DIR` names another folder.
    """
    # One that a kill or a full disk left behind is compiled anew: that is no news to a user.
    warnings.filterwarnings("ignore", message="Error .* persistent compilation cache entry")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(files.user_cache()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@functools.cache
def return_memory() -> None:
    """Returns what the compiler freed to the system, whenever a program was compiled or loaded.

    The C library would keep it for later, and the peak would be higher by what all compilations
    left behind (docs/performance.md has figures). Only glibc can be asked to; with another C
    library this does nothing. Asking twice is asking once.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return
    trim.argtypes = [ctypes.c_size_t]

    def compiled(event: str, duration_secs: float, **_: str | int) -> None:
        if event == _COMPILED and duration_secs > _SECONDS:
            trim(0)

    jax.monitoring.register_event_duration_secs_listener(compiled)


@functools.cache
def announce(say: Callable[[str], None]) -> None:
    """Has said what is being compiled, and for how long, wherever that takes more than some
    seconds. Asking twice is asking once.

    Args:
      say: told in lines, perhaps in threads of their own.
    """
    # For each thread what it is about, with the time at which it began; the outermost comes first.
    about: dict[int, list[tuple[str, float]]] = {}

    def begin(event: str, value: float | int, **more: str | int) -> None:
        if event in _STAGES:
            here = about.setdefault(threading.get_ident(), [])
            here.append((_named(str(more.get("fun_name", ""))), time.monotonic()))

    def end(event: str, duration_secs: float, **_: str | int) -> None:
        here = about.get(threading.get_ident())
        if event in _STAGES and here:
            name, began = here.pop()
            if not here and time.monotonic() - began >= _PATIENCE:
                say(f"compiled {name} in {time.monotonic() - began:.0f} s")

    def watch() -> None:
        due: dict[tuple[str, float], float] = {}
        while True:
            time.sleep(_LOOK)
            for here in list(about.values()):
                for name, began in here[:1]:
                    seconds = time.monotonic() - began
                    if seconds >= due.get((name, began), _PATIENCE):
                        due[name, began] = 2 * seconds
                        say(f"compiling {name}: {seconds:.0f} s so far")

    jax.monitoring.register_scalar_listener(begin)
    jax.monitoring.register_event_duration_secs_listener(end)
    threading.Thread(target=watch, daemon=True, name="compilation").start()


def _named(function: str) -> str:
    """What JAX compiles, in words.

    >>> _named("jit(train_steps)")
    'train steps'
    """
    return function.removeprefix("jit(").removesuffix(")").replace("_", " ")
