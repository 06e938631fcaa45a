"""Engines: who trains the trials of a sweep. One file each, and a row of `ENGINES`."""

from __future__ import annotations

from collections.abc import Callable

from rnn_jax.sweeps.engines import local, ray_engine
from rnn_jax.sweeps.engines.base import Engine, Options, Work

__all__ = ["ENGINES", "Engine", "Options", "Work"]

ENGINES: dict[str, Callable[[Options], Engine]] = {"local": local.make, "ray": ray_engine.make}
