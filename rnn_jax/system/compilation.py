"""What a program sets before it compiles anything: a cache on the disk, and thrift with memory.

These are settings of the whole process, so a program asks for them; importing rnn_jax changes none.
"""

from __future__ import annotations

import ctypes
import functools
import os
import warnings

import jax

from rnn_jax.system import files

# JAX's own name for "compiled, or loaded from the cache"; the tests hold us to it.
_COMPILED = "/jax/core/compile/backend_compile_duration"
_SECONDS = 0.1  # the shortest one after which there is memory worth returning


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
