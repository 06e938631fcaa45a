"""What a program sets before it compiles."""

import ctypes

import jax
import pytest

from rnn_jax import compilation


@pytest.fixture
def trimmed(monkeypatch):
    """The arguments of every call of the C library's malloc_trim."""
    calls = []

    class Library:
        malloc_trim = staticmethod(calls.append)

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library)
    monkeypatch.setattr(compilation, "_SECONDS", 0.0)
    compilation.return_memory.cache_clear()
    yield calls
    jax.monitoring.clear_event_listeners()
    compilation.return_memory.cache_clear()


def test_memory_is_returned_after_each_compilation_and_at_no_other_time(trimmed):
    compilation.return_memory()
    compilation.return_memory()  # asking twice is asking once
    function = jax.jit(lambda x: x * 3 + 1)
    trimmed.clear()
    function(2.0).block_until_ready()
    assert trimmed == [0]
    function(3.0).block_until_ready()
    assert trimmed == [0]


def test_a_c_library_that_cannot_return_memory_is_left_alone(monkeypatch):
    listeners = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    monkeypatch.setattr(jax.monitoring, "register_event_duration_secs_listener", listeners.append)
    compilation.return_memory.cache_clear()
    compilation.return_memory()
    assert not listeners
    compilation.return_memory.cache_clear()


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
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
