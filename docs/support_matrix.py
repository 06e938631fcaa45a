"""Writes docs/support.md: what each kernel can run, asked of the kernels themselves.

    python docs/support_matrix.py           # writes the page
    python docs/support_matrix.py --check   # says if it is out of date; then exit code 1

Cells and options come from the factories, and each kernel says what it supports. What `unroll`
takes and which transformations work is tried on a small LSTM, up to the program that JAX would
compile, or on a min_gru for the kernels of linear cells; a refusal is an error.
"""

from __future__ import annotations

import inspect
import pathlib
import sys
from collections.abc import Callable
from typing import Any
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np

import rnn_jax
from rnn_jax import kernels

PAGE = pathlib.Path(__file__).resolve().parent / "support.md"
YES, NO = "yes", "no"
CELLS = {"simple_rnn": rnn_jax.simple_rnn, "lstm": rnn_jax.lstm, "gru": rnn_jax.gru}
LINEAR = {
    "min_gru": rnn_jax.min_gru,
    "min_lstm": rnn_jax.min_lstm,
    "lru": rnn_jax.lru,
    "rg_lru": rnn_jax.rg_lru,
}
HIDDEN, FEATURES = 4, 3

# For each option a value that is not its default.
OTHERS: dict[str, tuple[Any, str]] = {
    "activation": ("relu", '`activation="relu"`'),
    "recurrent_activation": (jax.nn.hard_sigmoid, "another `recurrent_activation`"),
    "use_bias": (False, "`use_bias=False`"),
    "recurrent_bias": (True, "`recurrent_bias=True`"),
    "forget_bias": (0.0, "`forget_bias`"),
    "projection": (2, "`projection`"),
    "peepholes": (True, "`peepholes=True`"),
    "reset_after": (False, "`reset_after=False`"),
    "gru.recurrent_bias": (False, "`recurrent_bias=False`"),
    "r_min": (0.5, "`r_min`"),
    "r_max": (0.5, "`r_max`"),
    "max_phase": (1.0, "`max_phase`"),
    "lru.use_bias": (True, "`use_bias=True`"),
    "layer_norm": (True, "`layer_norm=True`"),
    "input_dropout": (0.5, "`input_dropout`"),
    "recurrent_dropout": (0.5, "`recurrent_dropout`"),
    "initializer": ("torch", "`initializer`"),
    "dtype": (jnp.bfloat16, "`dtype=bfloat16`"),
    "param_dtype": (jnp.bfloat16, "`param_dtype=bfloat16`"),
}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "`lengths`": {"lengths": jnp.array([2, 5])},
    "`mask`": {"mask": jnp.ones((2, 5), bool)},
    "`resets`": {"resets": jnp.zeros((2, 5), bool)},
    "`reverse`": {"reverse": True},
    "`key` (dropout)": {"key": jax.random.key(0)},
    "`remat_chunk`": {"remat_chunk": 2},
}


def problem(kernel: str, cell: rnn_jax.Cell) -> str | None:
    """Why a kernel cannot run a cell on this machine; None if it can."""
    return kernels.KERNELS[kernel]().problem(cell, None, None)


def names() -> list[str]:
    """The kernels, the reference first."""
    return ["scan", *(name for name in reversed(kernels.KERNELS) if name != "scan")]


def cells() -> dict[str, rnn_jax.Cell]:
    """Each cell as it is, and with each option set to another value."""
    found = {}
    for kind, factory in (CELLS | LINEAR).items():
        found[f"**`{kind}`**"] = factory(HIDDEN)
        for option in _options(factory):
            value, title = OTHERS.get(f"{kind}.{option}") or OTHERS[option]
            found[f"`{kind}`, {title}"] = factory(HIDDEN, **{option: value})
    lstm = rnn_jax.lstm(HIDDEN)
    found["`learnable_initial(lstm)`"] = rnn_jax.learnable_initial(lstm)
    found["`zoneout(lstm, 0.1)`"] = rnn_jax.zoneout(lstm, 0.1)
    found["a cell of your own"] = lstm.__class__(
        lstm.init, lstm.project, lstm.step, lstm.initial_carry, spec=("mine",)
    )
    return found


def _options(factory: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(factory).parameters.values()
    return [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]


def runs(call: Callable[[], Any]) -> bool:
    """Whether JAX makes a program of a call without a refusal."""
    try:
        jax.jit(call).lower()
    except (TypeError, ValueError):
        return False
    return True


def _probe(kernel: str) -> rnn_jax.Cell:
    """A cell that a kernel can run, with dropout."""
    lstm = rnn_jax.lstm(HIDDEN, recurrent_dropout=0.5)
    cells = (lstm, rnn_jax.min_gru(HIDDEN, input_dropout=0.5))
    return next((cell for cell in cells if problem(kernel, cell) is None), cells[0])


def _unroll(kernel: str, params: Any, inputs: Any, **options: Any) -> Any:
    return rnn_jax.unroll(_probe(kernel), params, inputs, kernel=kernel, **options)[1]


def _arguments(kernel: str) -> dict[str, dict[str, Any]]:
    cell, (params, inputs) = _probe(kernel), _arrays(kernel)
    return ARGUMENTS | {"`initial`": {"initial": cell.initial_carry(params, len(inputs))}}


def _arrays(kernel: str) -> tuple[Any, Any]:
    params = _probe(kernel).init(jax.random.key(0), FEATURES)
    return params, jnp.ones((2, 5, FEATURES))


def transformations(kernel: str) -> dict[str, Callable[[], Any]]:
    """What one does with a function of parameters, by name."""
    params, inputs = _arrays(kernel)
    loss = lambda params: jnp.sum(_unroll(kernel, params, inputs) ** 2)
    length = lambda params: sum(jnp.sum(x**2) for x in jax.tree.leaves(jax.grad(loss)(params)))
    return {
        "`jax.jit`": lambda: jax.jit(loss)(params),
        "`jax.vmap`": lambda: jax.vmap(lambda one: _unroll(kernel, params, one))(inputs[None]),
        "`jax.grad`": lambda: jax.grad(loss)(params),
        "`jax.checkpoint`": lambda: jax.grad(jax.checkpoint(loss))(params),
        "`jax.grad` of `jax.grad`": lambda: jax.grad(length)(params),
        "`jax.jvp`, `jacfwd`, `hessian`": lambda: jax.jvp(loss, (params,), (params,)),
        "`jax.shard_map` over rows": lambda: _sharded(kernel, params, inputs, True),
        "`jax.shard_map` with `check_vma=False`": lambda: _sharded(kernel, params, inputs, False),
    }


def _sharded(kernel: str, params: Any, inputs: Any, check: bool) -> Any:
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("rows",))
    spec = jax.sharding.PartitionSpec
    run = lambda params, inputs: _unroll(kernel, params, inputs)
    return jax.shard_map(
        run, mesh=mesh, in_specs=(spec(), spec("rows")), out_specs=spec("rows"), check_vma=check
    )(params, inputs)


def on_device(kernel: str, device: str) -> bool:
    """Whether a kernel would run its cell if this were the machine's device."""
    cell = _probe(kernel)
    with mock.patch.object(jax, "default_backend", return_value=device):
        return problem(kernel, cell) is None


def page() -> str:
    """The page's text.

    Raises:
      RuntimeError: a kernel cannot run anything here, so that nobody can tell what it supports.
    """
    for kernel in names():
        missing = problem(kernel, _probe(kernel))
        if missing:
            raise RuntimeError(f"{kernel} {missing}: the page cannot be written on this machine")
    tried = {kernel: transformations(kernel) for kernel in names()}
    given = {kernel: (*_arrays(kernel), _arguments(kernel)) for kernel in names()}
    sections = {
        "Cells and options": _telling(
            {
                title: [problem(kernel, cell) is None for kernel in names()]
                for title, cell in cells().items()
            }
        ),
        "Arguments of `unroll`": {
            title: [
                runs(lambda k=k, a=a, title=title: _unroll(k, *a[:2], **a[2][title]))
                for k, a in given.items()
            ]
            for title in _arguments("scan")
        },
        "Transformations": {
            title: [runs(tried[kernel][title]) for kernel in names()]
            for title in next(iter(tried.values()))
        },
        "Devices": {
            title: [on_device(kernel, device) for kernel in names()]
            for title, device in (("CPU", "cpu"), ("GPU", "gpu"), ("TPU", "tpu"))
        },
    }
    return INTRODUCTION + "".join(_section(title, rows) for title, rows in sections.items())


INTRODUCTION = """# Support matrix

What each kernel can run. `python docs/support_matrix.py` writes this page by asking the kernels,
and a test holds it to the code. A kernel refuses what it cannot run with one line that says so;
`scan`, the reference, runs every cell and option. Options that no kernel minds are left out.

`native` needs a C++ compiler on the machine. Devices are those that the kernels accept; tests run
on CPUs.
"""


def _telling(rows: dict[str, list[bool]]) -> dict[str, list[bool]]:
    """Without the options that change no answer; a cell's options follow its own row, in bold."""
    kept, before = {}, None
    for title, answers in rows.items():
        if title.startswith("**"):
            before = answers
        if title.startswith("**") or answers != before or "`, " not in title:
            kept[title] = answers
    return kept


def _section(title: str, rows: dict[str, list[bool]]) -> str:
    lines = [f"\n## {title}\n"]
    lines.append(f"|  | {' | '.join(f'`{kernel}`' for kernel in names())} |")
    lines.append(f"| --- | {' | '.join(':---:' for _ in names())} |")
    for name, answers in rows.items():
        lines.append(f"| {name} | {' | '.join(YES if each else NO for each in answers)} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    text = page()
    if "--check" in arguments:
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
            print("docs/support.md: run python docs/support_matrix.py", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
