"""What a program sets before it compiles."""

import ctypes
import json

import jax
import numpy as np
import pytest
from conftest import QUICK_XLA, known_flags
from test_population import after, plan_of

from rnn_jax import tasks, train
from rnn_jax.config import replace
from rnn_jax.system import compilation
from rnn_jax.system.interrupts import Interrupted
from rnn_jax.train import steps


@pytest.fixture
def listeners(monkeypatch):
    """Those that `return_memory` registers; unregistered at the end."""
    found, register = [], jax.monitoring.register_event_duration_secs_listener

    def note(listener):
        found.append(listener)
        register(listener)

    monkeypatch.setattr(jax.monitoring, "register_event_duration_secs_listener", note)
    monkeypatch.setattr(compilation, "_SECONDS", 0.0)
    compilation.return_memory.cache_clear()
    yield found
    compilation.return_memory.cache_clear()
    for listener in found:
        jax.monitoring.unregister_event_duration_listener(listener)


def test_flags_that_this_xla_does_not_have_are_left_out():
    assert known_flags(("--xla_backend_optimization_level=0", "--xla_no_such_flag=1")) == (
        "--xla_backend_optimization_level=0",
    )
    assert QUICK_XLA  # else all tests are compiled slowly


def test_memory_is_returned_after_each_compilation_and_at_no_other_time(listeners, monkeypatch):
    trimmed = []

    class Library:
        @staticmethod
        def malloc_trim(pad):
            trimmed.append(pad)

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library)
    compilation.return_memory()
    compilation.return_memory()
    assert len(listeners) == 1
    function, (two, three) = jax.jit(lambda x: x * 3 + 1), jax.numpy.array([2.0, 3.0])
    trimmed.clear()
    function(two).block_until_ready()
    assert trimmed == [0]
    function(three).block_until_ready()
    assert trimmed == [0]


def test_a_c_library_that_cannot_return_memory_is_left_alone(listeners, monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    compilation.return_memory()
    assert not listeners


def test_the_real_c_library_takes_the_call_if_it_has_it(listeners):
    compilation.return_memory()
    assert len(listeners) == hasattr(ctypes.CDLL(None), "malloc_trim")
    for listener in listeners:
        listener(compilation._COMPILED, 1.0)  # a wrong type of argument would raise


def test_the_cache_is_in_the_user_s_folder_unless_jax_was_told_otherwise(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = {
        name: getattr(jax.config, name)
        for name in ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    }
    try:
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
        compilation.use_cache()
        assert jax.config.jax_compilation_cache_dir == before["jax_compilation_cache_dir"]
        monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
        compilation.use_cache()
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "rnn_jax")
        assert jax.config.jax_persistent_cache_min_compile_time_secs == 0.2
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def test_short_trainings_are_compiled_quickly_and_long_ones_for_speed(monkeypatch):
    assert compilation.manner(100) == compilation.QUICK
    assert compilation.manner(10**6) == compilation.THOROUGH
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compilation.manner(100) == compilation.THOROUGH
    assert compilation.options(compilation.QUICK) is None


def test_options_that_the_user_sets_or_xla_lacks_are_left_alone(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=3")
    monkeypatch.setattr(compilation, "_EMITTER", {"xla_no_such_option": False})
    assert compilation.options(compilation.QUICK) is None
    monkeypatch.setenv("XLA_FLAGS", "")
    quick, thorough = map(compilation.options, (compilation.QUICK, compilation.THOROUGH))
    assert quick == thorough == compilation._LEVEL


def test_the_two_manners_differ_by_rounding_alone(config, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")  # the tests' own
    found = []
    for manner in (compilation.QUICK, compilation.THOROUGH):
        plan = plan_of(config, manner=manner)
        found.append(after(plan, 1).params)
    quick, thorough = map(jax.tree.leaves, found)
    for one, other in zip(quick, thorough, strict=True):
        size = float(abs(other).max())
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * size)


def test_a_run_keeps_the_manner_that_it_began_with(config, tmp_path, signal_at, monkeypatch):
    """Extended beyond the number of steps, too: it must not round in other places then."""
    signal_at(3)
    with pytest.raises(Interrupted):
        train.run(config, tmp_path)
    signal_at(10**6)
    asked = []
    monkeypatch.setattr(compilation, "manner", lambda steps: asked.append(steps) or "thorough")
    train.run(config, tmp_path)
    assert asked == []
    said = json.loads((tmp_path / "config.json").read_text())
    assert said["environment"]["compilation"] == compilation.QUICK
    assert said["continued"] == []


def test_a_long_compilation_says_what_it_is_and_how_long_it_takes(monkeypatch):
    monkeypatch.setattr(compilation, "_PATIENCE", 0.05)
    monkeypatch.setattr(compilation, "_LOOK", 0.02)
    said, listeners = [], []
    for kind in ("scalar_listener", "event_duration_secs_listener"):
        register = getattr(jax.monitoring, f"register_{kind}")

        def note(listener, register=register):
            listeners.append(listener)
            register(listener)

        monkeypatch.setattr(jax.monitoring, f"register_{kind}", note)
    compilation.announce.cache_clear()
    try:
        for _ in range(2):
            compilation.announce(said.append)
        assert len(listeners) == 2

        def a_long_one(x):
            for _ in range(100):
                x = jax.numpy.sort(jax.numpy.sin(x)[::-1])
            return x

        jax.jit(a_long_one)(jax.numpy.ones(5)).block_until_ready()
        known, said[:] = [*said], []
        jax.jit(lambda x: x + 1)(1.0).block_until_ready()  # a moment's: nothing is said of it
    finally:
        jax.monitoring.unregister_scalar_listener(listeners[0])
        jax.monitoring.unregister_event_duration_listener(listeners[1])
        compilation.announce.cache_clear()
    lines = [line for line in known if line.startswith("compiling a long one: ")]
    seconds = [int(line.split()[-4]) for line in lines]
    assert lines  # one at least, however fast the machine is
    assert all(line.endswith(" s so far") for line in lines)
    assert seconds == sorted(seconds)
    assert known[-1].startswith("compiled a long one in ")
    assert said == []


def test_a_tall_network_is_drawn_in_parts_of_the_same_bits(config, monkeypatch):
    task = tasks.make(replace(config, {"model.layers": 3}), {"classes": ("a", "b")})
    drawn = {}
    for tall in (0, 10**9):
        monkeypatch.setattr(steps, "_TALL", tall)
        draw = steps._drawn.__wrapped__(task)
        assert hasattr(draw, "lower") == (tall > 0)  # a program, or its parts
        drawn[tall] = jax.tree.leaves(draw(np.uint32(3)))
    assert all(map(np.array_equal, *drawn.values()))
