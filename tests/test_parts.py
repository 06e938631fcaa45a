"""A batch in parts, and a step in bfloat16, against the plain step."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_language_model import config as language_config  # noqa: F401 (a fixture)
from test_mesh import close
from test_population import MODELS, after, plan_of

from rnn_jax import tasks, train
from rnn_jax.config import InputError, replace
from rnn_jax.train import accumulation, precision, steps

QUIET = {"model.dropout": 0.0, "model.token_dropout": 0.0, "data.max_length": 8}


@pytest.mark.parametrize("name", ["touched", "delayed", "one-hot lstm"])
def test_parts_make_the_step_of_the_whole_batch(config, name):
    config = replace(config, MODELS[name] | QUIET | {"train.batch_size": 8})
    whole = after(plan_of(config), 1, 2)
    parts = after(plan_of(replace(config, {"train.accumulate": 4})), 1, 2)
    close(parts.sums, whole.sums, 1e-5)
    close(parts.params, whole.params, 1e-4)


def plain(weights):
    """A task with a mean of squares over the rows that count, a carry, and rows that do not."""

    def loss(params, carry, batch, key, rates):
        errors = batch.weights * (params - batch.values + carry) ** 2
        total = batch.weights.sum()
        mean = errors.sum() / jnp.where(total > 0, total, 1)
        return mean, (carry + batch.values, {"rows": batch.weights.sum()})

    return SimpleNamespace(loss=loss, weight=lambda batch: batch.weights.sum(), weights=weights)


class Numbers(tuple):
    """(weights, values), a batch."""

    weights = property(lambda self: self[0])
    values = property(lambda self: self[1])


jax.tree_util.register_pytree_node(
    Numbers, lambda batch: (tuple(batch), None), lambda _, leaves: Numbers(leaves)
)


@pytest.mark.parametrize(
    "weights", [[1] * 6, [1, 0, 0, 0, 0, 1], [0] * 6, [0.2, 0, 0, 0.1, 0, 0.3]]
)
def test_a_part_counts_by_what_it_is_a_mean_over(weights):
    task = plain(weights)
    batch = Numbers((jnp.array(weights, jnp.float32), jnp.array([3.0, 1, 4, 1, 5, 9])))
    carry, key = jnp.arange(6.0), jax.random.key(0)
    parts = accumulation._loss(task, 3)
    both = [
        jax.value_and_grad(loss, has_aux=True)(jnp.float32(0.5), carry, batch, key, None)
        for loss in (task.loss, parts)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), *both)
    if weights == [1, 0, 0, 0, 0, 1]:  # ((0.5 - 3)^2 + (0.5 - 9 + 5)^2) / 2, and its slope
        assert both[1][0][0] == pytest.approx((6.25 + 12.25) / 2)
        assert both[1][1] == pytest.approx(-2.5 - 3.5)


def test_a_language_model_s_parts_weigh_by_tokens_and_hand_their_states_on(language_config):  # noqa: F811
    quiet = {
        "model.input_dropout": 0.0, "model.output_dropout": 0.0, "model.hidden_dropout": 0.0,
        "model.embedding_dropout": 0.0, "model.recurrent_dropout": 0.0, "model.sampled": 0,
        "model.activation_penalty": 0.0, "model.slowness_penalty": 0.0, "train.batch_size": 4,
    }  # fmt: skip
    config = replace(language_config, quiet)
    whole = after(plan_of(config), 2)
    parts = after(plan_of(replace(config, {"train.accumulate": 2})), 2)
    assert whole.step > 1
    close(parts.carry, whole.carry, 1e-3)
    close(parts.sums, whole.sums, 1e-4)


def test_parts_take_less_memory(config):
    config = replace(config, QUIET | {"train.batch_size": 32, "model.hidden": 64})

    def peak(parts):
        plan = plan_of(replace(config, {"train.accumulate": parts}))
        (window,) = plan.data.epochs.windows(0, 0)
        batches = window.assemble(next(iter(window.runs(0, 1))))
        program = plan.computed.train_steps.lower(
            plan.init_state(), batches, np.int32(1), plan.key, plan.numbers
        )
        return program.compile().memory_analysis().temp_size_in_bytes

    assert peak(8) < 0.6 * peak(1)


def test_noise_differs_from_part_to_part():
    def loss(params, carry, batch, key, rates):
        return params * 0 + jax.random.uniform(key), (carry, {})

    task = SimpleNamespace(loss=loss, weight=lambda batch: batch.weights.sum())
    batch = Numbers((jnp.ones(4), jnp.ones(4)))
    mean, _ = accumulation._loss(task, 2)(jnp.float32(0), None, batch, jax.random.key(0), None)
    keys = [jax.random.fold_in(jax.random.key(0), n) for n in range(2)]
    draws = [float(jax.random.uniform(key)) for key in keys]
    assert draws[0] != draws[1]
    assert mean == pytest.approx(np.mean(draws))


def test_in_bfloat16_products_are_narrow_and_what_is_learned_is_not(config, tmp_path):
    config = replace(config, QUIET | {"train.batch_size": 8, "model.hidden": 8})
    narrow = replace(config, {"train.dtype": "bfloat16"})
    one, other = after(plan_of(config), 1, 1), after(plan_of(narrow), 1, 1)
    assert jax.tree.map(lambda leaf: leaf.dtype, one) == jax.tree.map(
        lambda leaf: leaf.dtype, other
    )
    assert other.sums["loss"] == pytest.approx(one.sums["loss"], rel=0.02)
    assert other.sums["loss"] != one.sums["loss"]
    assert other.sums["gradient_norm"] == pytest.approx(one.sums["gradient_norm"], rel=0.05)
    found = train.run(replace(narrow, {"train.epochs": 12}), tmp_path / "run")
    assert found.history[-1]["accuracy"] == 1.0


def test_all_products_are_in_bfloat16_but_the_head_s_of_a_state(config):
    config = replace(config, QUIET | {"train.dtype": "bfloat16", "model.kernel": "fused"})
    plan = plan_of(config)
    (window,) = plan.data.epochs.windows(0, 0)
    batches = window.assemble(next(iter(window.runs(0, 1))))
    text = plan.computed.train_steps.lower(
        plan.init_state(), batches, np.int32(1), plan.key, plan.numbers
    ).as_text()
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    wide = [line for line in products if "bf16" not in line]
    assert len(products) - len(wide) == 4  # of the recurrence: forwards and backwards
    assert len(wide) == 3  # of the head, which reads the last state: float32, 2 classes
    assert all("x2xf32" in line for line in wide)


def test_auto_takes_no_kernel_that_knows_only_float32(config):
    config = replace(config, {"model.cell": "lstm", "train.dtype": "bfloat16"})
    assert tasks.resolve(config).config.model.kernel == "fused"
    with pytest.raises(InputError, match="supports dtype=float32, got bfloat16"):
        tasks.resolve(replace(config, {"model.kernel": "native"}))


def test_carries_keep_their_type_in_bfloat16():
    def loss(params, carry, batch, key, rates):
        assert params["a"].dtype == jnp.bfloat16
        assert params["n"].dtype == jnp.int32
        return params["a"].sum(), (carry.astype(jnp.bfloat16), {})

    task = SimpleNamespace(
        loss=loss, key=None, _replace=lambda **changes: SimpleNamespace(**changes)
    )
    params = {"a": jnp.ones(3), "n": jnp.int32(1)}
    value, (carry, _) = precision.in_type(task, "bfloat16").loss(
        params, jnp.zeros(2), None, steps.run_key(0), None
    )
    assert (value.dtype, carry.dtype) == (jnp.float32, jnp.float32)
    assert precision.in_type(task, "float32") is task


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--config.train.accumulate=3",),
         "--config.train.accumulate=3 does not divide --config.train.batch_size=4"),
        (("--config.train.accumulate=0",), "--config.train.accumulate must be at least 1, not 0"),
        (("--config.train.accumulate=2", "--config.data.pack", "--config.model.pooling=max",
          "--config.model.masked"),
         "--config.train.accumulate=2 needs --noconfig.data.pack: texts that share rows cannot be "
         "parted by rows"),
        (("--config.train.dtype=bfloat61",), "flag --config.train.dtype=bfloat61: must be one of "
         "float32, bfloat16; did you mean 'bfloat16'?"),
    ],
)  # fmt: skip
def test_what_cannot_be_parted_or_typed(launch, small, flags, said):
    code, out, err = launch("--experiment=gru", *small, *flags)
    assert (code, out) == (2, "")
    assert err == f"launch.py: {said}\n"
