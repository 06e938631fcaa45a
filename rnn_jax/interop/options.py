"""How a whole module is computed, changed in one call; its parameters stay as they are."""

from __future__ import annotations

from typing import Any, TypeVar

from rnn_jax.nn.layers import RNN, Bidirectional, Layer, Stacked

L = TypeVar("L", bound=Layer)


def with_options(module: L, *, kernel: Any = None, reverse: bool | None = None) -> L:
    """A module like this one, but for the kernel or the direction of all its layers.

    Args:
      module: an `RNN`, `Bidirectional` or `Stacked`, of any cells; it stays as it is.
      kernel: how all layers are computed, as in `RNN`; None leaves it.
      reverse: whether all layers walk time backwards; None leaves it. A `Bidirectional` has both
        directions already, so a module with one inside has no other.

    Returns:
      The new module. Variables of the old one are valid for it.

    Raises:
      ValueError: `reverse` with a `Bidirectional`, or a module or kernel that is none.

    >>> from rnn_jax.cells import gru
    >>> module = with_options(Stacked([RNN(gru(4)), RNN(gru(4))]), kernel="fused", reverse=True)
    >>> [(layer.kernel, layer.reverse) for layer in module.layers]
    [('fused', True), ('fused', True)]
    """
    if reverse is not None and not isinstance(reverse, bool):
        raise ValueError(f"reverse must be True, False or None, got {reverse!r}")
    if isinstance(module, RNN):
        changes = {"kernel": kernel, "reverse": reverse}
        return module.clone(**{name: new for name, new in changes.items() if new is not None})
    if isinstance(module, Bidirectional):
        if reverse is not None:
            raise ValueError(
                f"reverse must be None for a Bidirectional, which walks both ways, got {reverse}"
            )
        return module.clone(
            forward=with_options(module.forward, kernel=kernel),
            backward=with_options(module.backward, kernel=kernel),
        )
    if isinstance(module, Stacked):
        return module.clone(
            layers=tuple(
                with_options(layer, kernel=kernel, reverse=reverse) for layer in module.layers
            )
        )
    raise ValueError(
        f"module must be an RNN, a Bidirectional or a Stacked, got {type(module).__name__}"
    )
