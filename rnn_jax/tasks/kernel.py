"""How a task of recurrent layers comes to its kernel."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from rnn_jax.config import Config
from rnn_jax.models import recurrent
from rnn_jax.tasks.base import Cells, Resolved


def resolve_kernel(
    config: Config, cells: Cells, environment: Mapping[str, Any], strict: bool
) -> Resolved:
    """`Kind.resolve` of a network of recurrent layers: its kernel is chosen."""
    before = environment.get("kernel")
    kernel, reason = recurrent.choose_kernel(config.model, cells, before, strict)
    model = dataclasses.replace(config.model, kernel=kernel.name)
    said = f"kernel: {kernel.name} ({reason})" if reason else f"kernel: {kernel.name}"
    return Resolved(dataclasses.replace(config, model=model), {"kernel": kernel.name}, (said,))
