"""Language models: what a window computes, what noise does, what a run says and writes."""

from __future__ import annotations

import dataclasses
import importlib
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import tasks
from rnn_jax.config import AdamConfig, InputError, TrainConfig, replace
from rnn_jax.data.language.vocabulary import END, SPECIAL, Vocabulary
from rnn_jax.data.language.windows import TextBatch
from rnn_jax.models import without_rates
from rnn_jax.models.language_model import language_model, language_model_rates
from rnn_jax.nn.noise import dropout, embedding_dropout
from rnn_jax.optim import updates
from rnn_jax.tasks import LanguageConfig
from rnn_jax.tasks.base import Data
from rnn_jax.train import steps
from rnn_jax.unrolling import unroll

VOCABULARY = 11


@pytest.fixture
def config() -> LanguageConfig:
    return replace(
        LanguageConfig("small"),
        {"model.hidden": 6, "model.embedding_size": 6, "model.kernel": "scan",
         "train.batch_size": 3, "data.window": 4},
    )  # fmt: skip


def task_of(config):
    return tasks.make(tasks.resolve(config).config, {"vocab_size": VOCABULARY})


def batch_of(targets, before=END) -> TextBatch:
    targets = np.asarray(targets, np.int32)
    inputs = np.concatenate([np.full((len(targets), 1), before), targets[:, :-1]], axis=1)
    rows = len(targets)
    return TextBatch(
        np.where(targets == 0, END, inputs).astype(np.int32), targets,
        np.full(rows, targets.shape[1], np.int32), np.zeros(rows, np.float32),
    )  # fmt: skip


def some_targets(rows=3, time=4, seed=0):
    return np.random.default_rng(seed).integers(3, VOCABULARY, (rows, time))


def losses_of(task, params, targets, width):
    """Each token's loss, in windows of this width."""
    carry, found, before = task.initial_carry(), [], np.full((len(targets), 1), END)
    for start in range(0, targets.shape[1], width):
        part = targets[:, start : start + width]
        batch = batch_of(part)
        batch.inputs[:, :1] = before
        carry, _, outputs = task.evaluate(params, carry, batch)
        found.append(np.asarray(outputs)[..., 0])
        before = part[:, -1:]
    return np.concatenate(found, axis=1)


@pytest.mark.parametrize("name", ["language_model", "language_model_large", "char_language_model"])
def test_a_step_changes_every_parameter_of_an_experiment_s_model(name):
    config = importlib.import_module(f"experiments.{name}").get_config()
    small = {"model.hidden": 5, "train.batch_size": 3, "data.window": 4, "model.kernel": "scan",
             "model.input_dropout": 0.0, "model.output_dropout": 0.0}  # fmt: skip
    if config.model.embedding_size:
        small["model.embedding_size"] = 4
    task = task_of(replace(config, small))
    update = updates.make(config.optimizer)
    numbers = updates.hyperparameters(config.optimizer, 10, task.rates)
    state = steps.init_state(task, update, numbers, 0)
    step = jax.jit(steps.make_train_step(task, update))
    after = step(state, batch_of(some_targets()), steps.run_key(0), numbers)
    before = jax.tree_util.tree_leaves_with_path(state.params)
    for (path, old), new in zip(before, jax.tree.leaves(after.params), strict=True):
        assert (old != new).any(), jax.tree_util.keystr(path)
    assert (jax.tree.leaves(after.carry)[0] != 0).any()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("carry", ["story", "stream"])
def test_windows_of_any_length_say_the_same(config, tied, carry):
    task = task_of(replace(config, {"model.tied": tied, "data.carry": carry, "model.layers": 2}))
    params, targets = task.init(jax.random.key(0)), some_targets(time=12)
    targets[1, 5] = targets[0, 2] = END
    whole = losses_of(task, params, targets, 12)
    for width in (1, 4, 5):
        assert losses_of(task, params, targets, width) == pytest.approx(whole, abs=1e-5)


def test_a_story_begins_without_a_state_unless_it_is_carried_into_it(config):
    for carry, same in (("story", True), ("stream", False)):
        task = task_of(replace(config, {"data.carry": carry}))
        params, targets = task.init(jax.random.key(0)), some_targets(time=8)
        targets[:, 3] = END
        after = losses_of(task, params, targets, 8)[:, 4:]
        alone = losses_of(task, params, targets[:, 4:], 4)
        assert (np.abs(after - alone).max() < 1e-6) == same


def test_the_probabilities_are_those_of_the_plain_computation(config):
    task = task_of(config)
    params, batch = task.init(jax.random.key(1)), batch_of(some_targets())
    _, sums, outputs = task.evaluate(params, task.initial_carry(), batch)
    table = params["embedding"]
    cell = tasks.language_model.language_model(config.model, VOCABULARY).recurrent.layers[0].cell
    _, hidden = unroll(cell, params["recurrent"]["layers_0"], table[batch.inputs])
    logits = (hidden @ table.T + params["bias"]).at[..., 0].set(-jnp.inf)
    logs = jax.nn.log_softmax(logits)
    expected = -jnp.take_along_axis(logs, batch.targets[..., None], -1)[..., 0]
    assert outputs[..., 0] == pytest.approx(np.asarray(expected), rel=1e-5)
    assert outputs[..., 1] == pytest.approx(np.exp(np.asarray(logs).max(-1)), rel=1e-5)
    assert (outputs[..., 2] == (np.asarray(logs).argmax(-1) == batch.targets)).all()
    assert float(sums["loss"]) == pytest.approx(float(expected.sum()), rel=1e-5)
    figures = task.means(jax.device_get(sums))
    assert figures["perplexity"] == pytest.approx(float(np.exp(expected.mean())), rel=1e-5)
    bits = float(expected.sum()) / np.log(2) / 12
    assert figures["bits_per_character"] == pytest.approx(bits, rel=1e-5)


def test_padding_changes_no_bit(config):
    task = task_of(config)
    params = task.init(jax.random.key(0))
    targets = some_targets()
    targets[2, 2:] = 0
    batch = batch_of(targets)

    def run(batch):
        loss = lambda params: task.loss(
            params, task.initial_carry(), batch, jax.random.key(0), task.rates
        )
        (value, (_, sums)), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        return value, sums, gradient

    batch.inputs[2, 3] = 5  # after the last target
    other = batch._replace(inputs=batch.inputs.copy())
    other.inputs[2, 3] = 9
    one, two = run(batch), run(other)
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        assert (np.asarray(left) == np.asarray(right)).all()
    assert int(one[1]["tokens"]) == 10


@pytest.mark.parametrize("name", ["input", "hidden", "output", "embedding"])
def test_dropout_is_one_mask_a_window_on_its_axis(config, name):
    """Equal to the network without noise into which the mask is put by hand."""
    model = dataclasses.replace(config.model, layers=2, **{f"{name}_dropout": 0.5})
    module = language_model(model, VOCABULARY)
    tokens, noise = jnp.asarray(some_targets(time=5)), jax.random.key(3)
    params = module.init(jax.random.key(0), tokens)["params"]
    found = module.apply({"params": params}, tokens, deterministic=False, rngs={"dropout": noise})
    seen = []

    def watch(next_fun, args, kwargs, context):
        result = next_fun(*args, **kwargs)
        if context.method_name == "__call__" and context.module.path[-1:] in (
            ("layers_0",), ("layers_1",),
        ):  # fmt: skip
            seen.append((args[0], result[1]))
        return result

    with nn.intercept_methods(watch):
        module.apply({"params": params}, tokens, deterministic=False, rngs={"dropout": noise})
    (first_in, first_out), (second_in, second_out) = seen
    vectors = params["embedding"][tokens]
    places = {
        "input": (vectors, first_in),
        "hidden": (first_out, second_in),
        "output": (second_out, found.features),
        "embedding": (vectors, first_in),
    }
    for place, (before, after) in places.items():
        factors = np.where(before == 0, 1, after / np.where(before == 0, 1, before))
        if place == name or {place, name} == {"input", "embedding"}:
            assert set(np.unique(factors.round(3))) == {0.0, 2.0}
            if name == "embedding":  # a word is dropped wherever it stands, or nowhere
                assert (factors == factors[..., :1]).all()
                for token in np.unique(tokens):
                    assert len(np.unique(factors[np.asarray(tokens) == token])) == 1
            else:  # a row's features, the same at all steps, not the same in all rows
                assert (factors == factors[:, :1]).all()
                assert (factors[0] != factors[1]).any()
        else:
            assert (factors == 1).all()


def test_recurrent_dropout_reaches_the_recurrent_product(config):
    model = dataclasses.replace(config.model, recurrent_dropout=0.5)
    module, still = (language_model(each, VOCABULARY) for each in (model, config.model))
    tokens = jnp.asarray(some_targets(time=5))
    params = module.init(jax.random.key(0), tokens)["params"]
    noise = {"deterministic": False, "rngs": {"dropout": jax.random.key(0)}}
    dropped = module.apply({"params": params}, tokens, **noise).outputs
    kept = still.apply({"params": params}, tokens, **noise).outputs
    assert np.allclose(dropped[:, 0], kept[:, 0])  # nothing is carried into the first step
    assert not np.allclose(dropped[:, 1], kept[:, 1])
    quiet = module.apply({"params": params}, tokens).outputs
    assert (np.asarray(quiet) == np.asarray(kept)).all()


def test_rates_of_the_collection_do_what_those_of_the_module_do(config):
    kinds = ("input", "hidden", "output", "embedding", "recurrent")
    rates = {f"{name}_dropout": 0.25 for name in kinds}
    model = dataclasses.replace(config.model, layers=2, **rates)
    tokens = jnp.asarray(some_targets())
    module, plain = (
        language_model(each, VOCABULARY)
        for each in (model, without_rates(model, {}, *(f"{name}_dropout" for name in kinds[:4])))
    )
    params = module.init(jax.random.key(0), tokens)["params"]
    noise = {"deterministic": False, "rngs": {"dropout": jax.random.key(7)}}
    own = module.apply({"params": params}, tokens, **noise)
    given = plain.apply({"params": params, "rates": language_model_rates(model)}, tokens, **noise)
    assert np.asarray(own.features) == pytest.approx(np.asarray(given.features), rel=1e-6)


def test_embedding_dropout_keeps_the_expectation():
    kept = np.asarray(embedding_dropout(jax.random.key(0), 4000, 0.25))
    assert set(np.unique(kept)) == {0.0, np.float32(4 / 3)}
    assert kept.mean() == pytest.approx(1, abs=0.05)
    assert dropout(jax.random.key(0), jnp.ones((2, 2)), 0.0).tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize("name", ["activation_penalty", "slowness_penalty"])
def test_penalties_are_added_to_the_loss_but_not_to_its_figure(config, name):
    plain, task = task_of(config), task_of(replace(config, {f"model.{name}": 2.0}))
    params, batch = plain.init(jax.random.key(0)), batch_of(some_targets())
    run = lambda each: each.loss(params, each.initial_carry(), batch, jax.random.key(0), each.rates)
    (without, (_, one)), (value, (_, two)) = run(plain), run(task)
    hidden = (
        language_model(config.model, VOCABULARY).apply({"params": params}, batch.inputs).outputs
    )
    expected = {
        "activation_penalty": 2 * np.square(hidden).mean(),
        "slowness_penalty": 2 * np.square(np.diff(hidden, axis=1)).mean(),
    }[name]
    assert float(value - without) == pytest.approx(float(expected), rel=1e-3)
    assert float(one["loss"]) == float(two["loss"])


def test_tied_vectors_are_read_by_the_head_through_a_map_where_widths_differ(config):
    shapes = lambda changes: {
        name: jax.tree.leaves(leaf)[0].shape
        for name, leaf in jax.eval_shape(
            task_of(replace(config, changes)).init, jax.random.key(0)
        ).items()
        if name != "recurrent"
    }
    assert shapes({}) == {"embedding": (11, 6), "bias": (11,)}
    assert shapes({"model.hidden": 8}) == {
        "embedding": (11, 6), "bias": (11,), "projection": (8, 6),
    }  # fmt: skip
    assert shapes({"model.tied": False, "model.hidden": 8}) == {
        "embedding": (11, 6), "bias": (11,), "head": (11, 8),
    }  # fmt: skip
    assert shapes({"model.tied": False, "model.embedding_size": 0}) == {
        "bias": (11,), "head": (11, 6),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model.embedding_size": 0}, "tied needs vectors"),
        (
            {"model.embedding_size": 0, "model.tied": False, "model.embedding_dropout": 0.1},
            "embedding_dropout needs",
        ),
        ({"data.source": "text"}, "data_dir=FILE"),
    ],
)
def test_options_that_do_not_go_together(config, changes, named):
    with pytest.raises(InputError, match=named):
        replace(config, changes)


TEXT = "the cat sat on the mat .\na dog and the cat play all day , but the dog sleeps .\n"


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "own.txt"
    path.write_text(TEXT * 40)
    return path


@pytest.fixture(scope="module")
def small(text_file) -> LanguageConfig:
    return replace(
        LanguageConfig(
            "small",
            optimizer=AdamConfig(learning_rate=0.02),
            train=TrainConfig(epochs=3, batch_size=4, patience=0, steps_per_call=3),
        ),
        {"data.source": "text", "data.data_dir": str(text_file), "data.window": 8,
         "model.hidden": 12, "model.embedding_size": 12, "model.input_dropout": 0.1,
         "model.kernel": "scan"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(small, tmp_path_factory):
    from rnn_jax import train

    folder = tmp_path_factory.mktemp("language") / "run"
    return folder, train.run(small, folder)


def test_a_run_learns_reports_and_remembers(trained):
    folder, result = trained
    first, *_, last = (record for record in result.history if record["split"] == "validation")
    assert last["perplexity"] < first["perplexity"] < 40
    assert last["perplexity"] == pytest.approx(np.exp(last["loss"]))
    assert result.line.startswith(f"test perplexity {result.history[-1]['perplexity']:.2f}  bits")
    assert result.line.endswith(f"(text, {result.history[-1]['tokens']} tokens)")
    assert set(last["shown"]) == {"0.5", "0.8", "1.0"}
    page = (folder / "report.html").read_text(encoding="utf-8")
    for heading in ("Samples", "Beside n-gram models", "Words", "Calibration", "Neighbours"):
        assert f">{heading}<" in page
    for name in ("unigram", "Kneser-Ney 3-grams", "Kneser-Ney 5-grams with cache"):
        assert name in page


def test_the_state_is_a_part_of_what_is_saved(small, tmp_path, monkeypatch):
    """Stopped in the middle of an epoch, a run goes on with the state that it had."""
    from rnn_jax import train
    from rnn_jax.system.interrupts import Interrupted
    from rnn_jax.train import epoch

    whole = train.run(small, tmp_path / "whole")
    calls, between = 0, epoch._between

    def stop(plan, session, standing):
        nonlocal calls
        calls += 1
        if calls == 3:
            session.request.signal = 2
        between(plan, session, standing)

    monkeypatch.setattr(epoch, "_between", stop)
    with pytest.raises(Interrupted):
        train.run(small, tmp_path / "cut")
    again = train.run(small, tmp_path / "cut")
    for one, two in zip(jax.tree.leaves(whole.params), jax.tree.leaves(again.params), strict=True):
        assert (np.asarray(one) == np.asarray(two)).all()
    plain = lambda record: {k: v for k, v in record.items() if k != "seconds"}
    assert list(map(plain, whole.history)) == list(map(plain, again.history))


def test_windows_longer_than_the_text_are_refused(small, tmp_path):
    from rnn_jax import train

    with pytest.raises(InputError, match=r"fewer than --config\.data\.window=4000"):
        train.run(replace(small, {"data.window": 4000}), tmp_path / "run")


def test_the_data_of_a_finished_run_is_evaluated(trained):
    from rnn_jax.train.evaluate import evaluate_test
    from rnn_jax.train.opened import open_run

    folder, result = trained
    record, lines = evaluate_test(open_run(folder))
    assert record["loss"] == pytest.approx(result.history[-1]["loss"], rel=1e-6)
    assert lines[0].startswith("out of vocabulary: 0.00% of ")
    assert any("tokens of the story before it 2 to 3: perplexity" in line for line in lines)


def test_a_vocabulary_of_another_size_than_the_text_gives_is_found(small):
    data = tasks.make(tasks.resolve(small).config, tasks.kind_of(small).facts(small)).prepare(
        print, None
    )
    assert isinstance(data, Data)
    words = Vocabulary.from_json(data.remembered["vocabulary.json"]).words
    assert words[: len(SPECIAL)] == SPECIAL
    assert json.loads(data.remembered["vocabulary.json"])["tokens"] == "words"
    assert tasks.kind_of(small).facts(small) == {"vocab_size": len(words)}
