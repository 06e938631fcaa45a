"""What holds for every network: padding and neighbours change nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from classifiers import task_of
from unrolls import compiled

from rnn_jax import Config, DataConfig, ModelConfig, cells, models
from rnn_jax.cells import initializers
from rnn_jax.data import batching, packing, text
from rnn_jax.data import shapes as shapes_lib
from rnn_jax.nn import layers
from rnn_jax.types import Batch

POOLINGS = ("last", "mean", "max")
CLASSES = 3


def model_and_variables(**options):
    config = ModelConfig(**{"hidden": 4, "embedding_size": 5, "layers": 2} | options)
    model = models.classifier(config, vocab_size=20, classes=CLASSES)
    variables = model.init(jax.random.key(0), jnp.ones((1, 3), jnp.int32), jnp.array([3]))
    return model, variables


@pytest.mark.parametrize("cell", ["simple_rnn", "lstm", "gru"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_changes_no_bit_of_a_masked_model(cell, pooling):
    model, variables = model_and_variables(cell=cell, bidirectional=True, pooling=pooling)
    lengths = jnp.array([6, 2, 0, 5])
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 20, (4, 6))
    in_padding = np.arange(6) >= np.asarray(lengths)[:, None]

    @jax.jit
    def of_tokens(params, tokens):
        loss = lambda params: (model.apply({"params": params}, tokens, lengths) ** 2).sum()
        return model.apply({"params": params}, tokens, lengths), jax.grad(loss)(params)

    @jax.jit
    def of_vectors(params, vectors):
        apply = lambda p, v: model.apply({"params": p}, v, lengths, method="classify")
        grads = jax.grad(lambda p, v: (apply(p, v) ** 2).sum(), argnums=(0, 1))(params, vectors)
        return apply(params, vectors), grads

    params = variables["params"]
    clean = of_tokens(params, jnp.asarray(np.where(in_padding, 0, tokens)))
    assert np.isfinite(clean[0]).all()
    jax.tree.map(np.testing.assert_array_equal, clean, of_tokens(params, jnp.asarray(tokens)))

    vectors = rng.normal(size=(4, 6, 5)).astype(np.float32)
    fill = lambda value: jnp.asarray(np.where(in_padding[..., None], value, vectors))
    clean = of_vectors(params, fill(0.0))
    for garbage in (np.nan, np.inf, 1e30):
        jax.tree.map(np.testing.assert_array_equal, clean, of_vectors(params, fill(garbage)))
    assert not np.asarray(clean[1][1])[in_padding].any()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_an_unmasked_model_reads_the_padding_up_to_the_text_s_own_width(pooling):
    config = ModelConfig(hidden=4, embedding_size=5, masked=False, pooling=pooling)
    model = models.classifier(config, vocab_size=20, classes=CLASSES, widths=(4, 6, 9))
    tokens = lambda width: jnp.array([[3, 4, *[0] * (width - 2)]])
    variables = model.init(jax.random.key(0), tokens(4), jnp.array([2]))
    logits = lambda width, length: model.apply(variables, tokens(width), jnp.array([length]))
    assert (logits(4, 2) != logits(6, 5)).any()  # as padding of its own, two steps more
    np.testing.assert_allclose(logits(4, 2), logits(9, 2), atol=1e-6)  # its neighbours' is not read


@pytest.mark.parametrize("masked", [True, False])
def test_a_text_s_prediction_does_not_depend_on_its_neighbours(masked):
    config = Config(
        data=DataConfig(vocab_size=20, max_length=40),
        model=ModelConfig(cell="lstm", hidden=4, embedding_size=5, masked=masked),
    )
    task = task_of(config)
    params = task.init(jax.random.key(1))
    rng = np.random.default_rng(2)
    rows = [rng.integers(1, 20, length) for length in (0, 3, 8, 9, 25, 40, 1, 3)]
    offsets = np.cumsum([0, *map(len, rows)])
    ids = text.Ragged(np.concatenate(rows).astype(np.int32), offsets)
    examples = batching.Examples(ids, np.zeros(len(rows), np.int32))
    evaluate = jax.jit(task.evaluate)

    def predictions(batch_size):
        found = {}
        shapes = shapes_lib.padded_shapes(batch_size, config.data.max_length)
        for shape, members in batching.plan(examples.lengths, batch_size, shapes, shuffle=False):
            batch = batching.assemble(examples, shape, members, batch_size)
            _, _, outputs = evaluate(params, None, batch)
            found |= dict(zip(members.tolist(), np.asarray(outputs), strict=False))
        return np.stack([found[row] for row in range(len(rows))])

    alone = predictions(1)
    assert len({output.tobytes() for output in alone}) == len(rows)
    np.testing.assert_allclose(predictions(3), alone, atol=1e-6)
    np.testing.assert_allclose(predictions(8), alone, atol=1e-6)


def test_the_cells_start_as_the_config_says():
    started = {}
    for initializer in initializers.INITIALIZERS:
        _, variables = model_and_variables(cell="lstm", layers=1, initializer=initializer)
        names = jax.tree_util.tree_flatten_with_path(variables)[0]
        (started[initializer],) = (leaf for path, leaf in names if "recurrent_kernel" in str(path))
    squares = {name: np.sum(np.square(kernel), axis=1) for name, kernel in started.items()}
    np.testing.assert_allclose(squares["keras"], 1, atol=1e-5)  # one orthogonal matrix
    np.testing.assert_allclose(squares["gatewise"], 4, atol=1e-5)  # four
    assert 0.4 < np.abs(started["torch"]).max() <= 0.5  # uniform up to a half


def test_one_hot_tokens_go_straight_into_the_cell():
    model, variables = model_and_variables(embedding_size=0, layers=1)
    assert set(variables["params"]) == {"recurrent", "head"}
    vectors = model.apply(variables, jnp.array([[2, 0]]), method="embed")
    np.testing.assert_array_equal(vectors, jax.nn.one_hot(jnp.array([[2, 0]]), 20))
    kernel = variables["params"]["recurrent"]["layers_0"]["kernel"]
    assert kernel.shape == (20, 16)


@pytest.mark.parametrize("kind", ["dropout", "token_dropout"])
def test_dropout_is_noise_for_training_alone(kind):
    config = Config(
        data=DataConfig(vocab_size=20),
        model=ModelConfig(cell="gru", hidden=4, embedding_size=5, layers=2, **{kind: 0.5}),
    )
    task = task_of(config)
    params = task.init(jax.random.key(0))
    batch = Batch(
        jnp.ones((2, 3), jnp.int32), jnp.array([3, 2]), jnp.array([0, 1]), jnp.ones(2)
    )  # fmt: skip
    loss = lambda seed: task.loss(params, None, batch, jax.random.key(seed), task.rates)[0]
    losses = [float(loss(seed)) for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    once, again = (task.evaluate(params, None, batch)[2] for _ in range(2))
    np.testing.assert_array_equal(once, again)


@pytest.mark.parametrize(
    ("attribute", "wrong", "expected"),
    [
        ("pooling", "maximum", "one of last, mean, max"),
        ("dropout", 1.0, r"a number in \[0, 1\)"),
        ("dropout", -0.1, r"a number in \[0, 1\)"),
        ("vocab_size", 0, "at least 1"),
        ("embedding_size", -1, "at least 0"),
        ("classes", 0, "at least 1"),
    ],
)
def test_a_network_s_attributes_are_checked(attribute, wrong, expected):
    attributes = {"vocab_size": 20, "embedding_size": 5, "classes": CLASSES, attribute: wrong}
    recurrent = layers.Stacked([layers.RNN(cells.gru(4))])
    with pytest.raises(ValueError, match=f"^{attribute} must be {expected}, got {wrong!r}$"):
        models.SequenceClassifier(recurrent, **attributes)


@pytest.mark.parametrize(
    ("kernel", "cell", "pooling"),
    [
        ("scan", "lstm", "mean"),
        ("scan", "gru", "max"),
        ("scan", "simple_rnn", "mean"),
        ("fused", "lstm", "mean"),
        ("fused", "gru", "max"),
        ("fused", "simple_rnn", "mean"),
        pytest.param("native", "lstm", "mean", marks=compiled),
        pytest.param("native", "lstm", "max", marks=compiled),
    ],
)
def test_packed_sequences_give_what_padded_ones_give(cell, pooling, kernel):
    model, variables = model_and_variables(
        cell=cell, bidirectional=True, pooling=pooling, kernel=kernel
    )
    rng = np.random.default_rng(1)
    lengths = np.array([5, 0, 9, 1, 3, 7, 2], np.int64)
    ids = rng.integers(1, 20, lengths.sum()).astype(np.int32)
    tokens = text.Ragged(ids, np.concatenate([[0], np.cumsum(lengths)]))
    examples = batching.Examples(tokens, np.zeros(7, np.int32))
    cotangent = rng.normal(size=(8, CLASSES)).astype(np.float32)

    def run(shape):
        batch = batching.assemble(examples, shape, np.arange(7), batch_size=8)

        def loss(variables):
            logits = model.apply(variables, batch.tokens, batch.lengths, segments=batch.segments)
            return (logits * cotangent).sum(), logits

        (_, logits), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables)
        return batch, logits, grads

    _, *padded = run(packing.Shape(8, 9))
    batch, *packed = run(packing.Shape(3, 11))
    assert (batch.segments == 0).any()
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6),
        packed, padded,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kernel", "cell"),
    [
        ("scan", "gru"),
        ("fused", "gru"),
        pytest.param("native", "lstm", marks=compiled),
        pytest.param("native", "gru", marks=compiled),
    ],
)
@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_padding_behind_packed_sequences_changes_no_bit(pooling, kernel, cell):
    model, variables = model_and_variables(
        cell=cell,
        bidirectional=True,
        pooling=pooling,
        kernel=kernel,
    )
    segments = jnp.array([[2, 2, 2, 1, 1, 0], [3, 0, 0, 0, 0, 0]])
    vectors = np.random.default_rng(0).normal(size=(2, 6, 5)).astype(np.float32)

    @jax.jit
    def run(params, vectors):
        def loss(params, vectors):
            logits = model.apply(
                {"params": params}, vectors, jnp.array([2, 3, 1]), segments=segments,
                method="classify",
            )  # fmt: skip
            return (logits**2).sum(), logits

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, vectors)

    in_padding = np.asarray(segments == 0)
    fill = lambda value: jnp.asarray(np.where(in_padding[..., None], value, vectors))
    clean = run(variables["params"], fill(0.0))
    for garbage in (np.nan, np.inf, 1e30):
        jax.tree.map(np.testing.assert_array_equal, clean, run(variables["params"], fill(garbage)))
    assert np.isfinite(clean[0][1]).all()
    assert not np.asarray(clean[1][1])[in_padding].any()


@pytest.mark.parametrize("wrong", [{"masked": False}, {"pooling": "last"}])
def test_packed_sequences_need_a_mask_and_a_pooling_over_steps(wrong):
    model, variables = model_and_variables(**{"pooling": "mean"} | wrong)
    segments = jnp.array([[1, 1, 2, 0]])
    with pytest.raises(ValueError, match="segments need masked=True and a pooling of mean or max"):
        model.apply(variables, segments, jnp.array([2, 1]), segments=segments)


def test_rates_given_as_arrays_drop_what_the_module_s_own_drop():
    names = {"dropout": 0.3, "token_dropout": 0.6, "layers": 2, "pooling": "mean"}
    noisy, variables = model_and_variables(**names)
    quiet, _ = model_and_variables(**names | {"dropout": 0.0, "token_dropout": 0.0})
    tokens, lengths = jnp.arange(40).reshape(4, 10) % 20, jnp.array([10, 7, 3, 9])

    @jax.jit
    def logits(rates):
        given = variables | {"rates": rates}
        noise = {"dropout": jax.random.key(5)}
        return quiet.apply(given, tokens, lengths, deterministic=False, rngs=noise)

    own = lambda model: model.apply(
        variables, tokens, lengths, deterministic=False, rngs={"dropout": jax.random.key(5)}
    )
    config = ModelConfig(dropout=0.3, token_dropout=0.6)
    np.testing.assert_allclose(logits(models.classifier_rates(config)), own(noisy), atol=1e-6)
    other = ModelConfig(dropout=0.5, token_dropout=0.1)
    assert (logits(models.classifier_rates(other)) != own(noisy)).any()
    assert logits._cache_size() == 1
    off = models.classifier_rates(ModelConfig())
    np.testing.assert_allclose(logits(off), own(quiet), atol=1e-6)
    # An array of 0 drops nothing either; a member of a population may have it.
    zeros = jax.tree.map(jnp.zeros_like, models.classifier_rates(config))
    np.testing.assert_allclose(logits(zeros), own(quiet), atol=1e-6)


def test_recurrent_dropout_may_come_from_the_rates():
    config = ModelConfig(
        cell="gru", hidden=3, layers=2, bidirectional=True, embedding_size=4, recurrent_dropout=0.3
    )
    assert models.without_rates(config, {}) == dataclasses.replace(config, recurrent_dropout=0.5)
    assert models.without_rates(config, {"gru": None}) == config  # one of somebody's own
    tokens = jnp.arange(2, 14).reshape(2, 6)
    make = lambda config: models.classifier(config, 20, 3, (6,))
    usual, own = make(models.without_rates(config, {})), make(config)
    lengths = jnp.array([6, 4])
    params = own.init(jax.random.key(0), tokens, lengths)["params"]
    noise = {"deterministic": False, "rngs": {"dropout": jax.random.key(5)}}

    @jax.jit
    def logits(rates):
        return usual.apply({"params": params, "rates": rates}, tokens, lengths, **noise)

    for rate in (0.3, 0.6):
        own = make(dataclasses.replace(config, recurrent_dropout=rate))
        expected = own.apply({"params": params}, tokens, lengths, **noise)
        rates = models.classifier_rates(dataclasses.replace(config, recurrent_dropout=rate))
        np.testing.assert_allclose(logits(rates), expected, atol=1e-6)
    assert logits._cache_size() == 1
    still = own.apply({"params": params}, tokens, lengths)
    assert np.abs(still - expected).max() > 1e-3


def test_token_dropout_leaves_out_whole_tokens():
    rate = 0.5
    model, variables = model_and_variables(token_dropout=rate, pooling="mean", cell="simple_rnn")
    vectors = jnp.ones((64, 1, 5))

    def logits(vectors, **noise):
        lengths = jnp.ones(len(vectors), jnp.int32)
        return model.apply(variables, vectors, lengths, method="classify", **noise)

    with_noise = logits(vectors, deterministic=False, rngs={"dropout": jax.random.key(0)})
    whole, none = logits(vectors / (1 - rate)), logits(jnp.zeros_like(vectors))
    kept = np.isclose(with_noise, whole, atol=1e-6).all(axis=1)
    dropped = np.isclose(with_noise, none, atol=1e-6).all(axis=1)
    assert (kept ^ dropped).all()
    assert 0.25 < dropped.mean() < 0.75
