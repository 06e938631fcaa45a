"""The examination of a step finds the place that was made to go wrong."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from classifiers import task_of
from unrolls import compiled

from rnn_jax import Config, DataConfig, ModelConfig
from rnn_jax.config import replace
from rnn_jax.train import numerics
from rnn_jax.types import Batch

CONFIG = Config(
    experiment="test",
    data=DataConfig(vocab_size=12),
    model=ModelConfig(
        cell="simple_rnn", hidden=3, layers=2, bidirectional=True, embedding_size=4, dropout=0.2
    ),
)
BATCH = Batch(
    tokens=np.array([[3, 5, 3, 0], [7, 3, 4, 9], [8, 0, 0, 0]], np.int32),
    lengths=np.array([3, 4, 1], np.int32),
    labels=np.array([1, 0, 0], np.int32),
    weights=np.array([1, 1, 0], np.float32),
)
KEY = jax.random.key(1)


@functools.cache  # one compilation for all tests of a model
def setup(**changes):
    config = replace(CONFIG, {f"model.{name}": value for name, value in changes.items()})
    task = task_of(config)
    examine = numerics.examiner(task)
    params = jax.jit(task.init)(jax.random.key(0))
    return task, params, lambda params, *step: examine(params, None, *step, task.rates)


def test_a_finite_step_has_nothing_wrong_and_the_loss_and_norms_of_the_step_itself():
    task, params, examine = setup()
    stages, found = examine(params, BATCH, KEY)
    assert numerics.first_wrong(stages, found) is None
    names = [stage.name for stage in stages]
    assert names[:4] == [
        "inputs", "recurrent/layers_0 (forward)", "recurrent/layers_0 (backward)",
        "recurrent/layers_1 (forward)",
    ]  # fmt: skip
    assert names[-1] == "head"
    (loss, _), grads = jax.jit(jax.value_and_grad(task.loss, has_aux=True))(
        params, None, BATCH, KEY, task.rates
    )
    np.testing.assert_allclose(found.loss, loss, rtol=1e-6)
    np.testing.assert_allclose(
        found.gradients["head/kernel"], jnp.linalg.norm(grads["head"]["kernel"]), rtol=1e-5
    )
    np.testing.assert_allclose(
        found.parameters["head/kernel"], jnp.linalg.norm(params["head"]["kernel"]), rtol=1e-6
    )
    total = np.sqrt(sum(float(norm) ** 2 for norm in found.gradients.values()))
    np.testing.assert_allclose(found.gradient, total, rtol=1e-5)


def poison(params, *path, value=np.nan, row=None):
    """The parameters, with one array (or one row of it) set to `value`."""
    if len(path) > 1:
        inner = poison(params[path[0]], *path[1:], value=value, row=row)
        return params | {path[0]: inner}
    array = np.array(params[path[0]])
    array[slice(None) if row is None else row] = value
    return params | {path[0]: jnp.asarray(array)}


def test_a_bad_embedding_row_is_found_where_the_text_reads_it():
    _, params, examine = setup()
    stages, found = examine(poison(params, "embedding", "embedding", row=4), BATCH, KEY)
    wrong = numerics.first_wrong(stages, found)
    assert wrong == ("values", "inputs", 2, 1)
    assert numerics.norms(found)["loss"] == "nan"
    assert numerics.norms(found)["parameter_norms"]["embedding/embedding"] == "nan"


@pytest.mark.parametrize(
    ("layer", "direction", "time"),
    [("layers_0", "forward", 0), ("layers_0", "backward", 3), ("layers_1", "backward", 3)],
)
def test_a_bad_layer_is_found_and_the_first_step_in_its_own_direction(layer, direction, time):
    _, params, examine = setup()
    names = list(params["recurrent"][layer][direction])
    params = poison(params, "recurrent", layer, direction, names[0])
    wrong = numerics.first_wrong(*examine(params, BATCH, KEY))
    assert wrong[:3] == ("values", f"recurrent/{layer} ({direction})", time)
    # Row 2 only fills the shape, row 0 is shorter: the backward walk starts with row 1's last step.
    assert wrong.row == (1 if time == 3 else 0)


def test_an_overflow_that_the_loss_does_not_show_is_found():
    # A class of probability 0 that no label asks for.
    _, params, examine = setup()
    params = poison(params, "head", "bias", value=np.array([0, -np.inf], np.float32))
    stages, found = examine(params, BATCH._replace(labels=np.zeros(3, np.int32)), KEY)
    assert np.isfinite(found.loss)
    assert np.isfinite(found.gradient)
    assert numerics.first_wrong(stages, found)[:3] == ("values", "head", None)


def test_a_gradient_that_explodes_through_time_is_found_where_it_overflows():
    # tanh's slope is 1 at 0: walking back, a gradient grows by the recurrent weight each step.
    _, params, examine = setup(
        cell="simple_rnn", hidden=1, layers=1, bidirectional=False, dropout=0.0
    )
    params = jax.tree.map(jnp.zeros_like, params)
    layer = ("recurrent", "layers_0")
    params = poison(params, *layer, "recurrent_kernel", value=1e15)
    params = poison(params, *layer, "kernel", value=1.0)
    params = poison(params, "head", "kernel", value=np.array([[1.0, -1.0]], np.float32))
    batch = BATCH._replace(labels=np.array([1, 1, 1], np.int32))
    stages, found = examine(params, batch, KEY)
    assert np.isfinite(found.loss)
    wrong = numerics.first_wrong(stages, found)
    # By the last of four steps the gradient is about 1; three steps earlier it is 1e45.
    assert wrong == ("gradient", "inputs", 0, 1)
    assert numerics.norms(found)["gradient_norm"] in ("inf", "nan")


@pytest.mark.parametrize(
    ("kernel", "cell"),
    [
        ("scan", "simple_rnn"),
        ("fused", "simple_rnn"),
        pytest.param("native", "lstm", marks=compiled),
    ],
)
def test_packed_sequences_are_named_by_their_place_in_the_batch(kernel, cell):
    _, params, examine = setup(cell=cell, kernel=kernel, pooling="mean", dropout=0.0)
    packed = BATCH._replace(
        tokens=np.array([[7, 3, 4, 9, 3, 5], [8, 6, 0, 0, 0, 0]], np.int32),
        lengths=np.array([2, 4, 2], np.int32),
        weights=np.array([1, 1, 1], np.float32),
        segments=np.array([[2, 2, 2, 2, 1, 1], [3, 3, 0, 0, 0, 0]], np.int32),
    )
    assert numerics.first_wrong(*examine(params, packed, KEY)) is None
    wrong = poison(params, "embedding", "embedding", row=5)
    assert numerics.first_wrong(*examine(wrong, packed, KEY)) == ("values", "inputs", 1, 0)
    wrong = poison(params, "embedding", "embedding", row=6)
    assert numerics.first_wrong(*examine(wrong, packed, KEY)) == ("values", "inputs", 1, 2)
