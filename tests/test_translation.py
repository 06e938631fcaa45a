"""Encoder-decoders: what a batch computes, what a run finds, what its translator says."""

import dataclasses
import importlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnn_jax
from rnn_jax import AdamConfig, Seq2SeqConfig, TrainConfig, TranslationConfig, tasks, train
from rnn_jax.config import InputError, replace
from rnn_jax.data.language.vocabulary import END
from rnn_jax.data.pairs.batches import PairBatch
from rnn_jax.data.pairs.options import PairsConfig
from rnn_jax.data.pairs.vocabulary import Vocabularies, Vocabulary
from rnn_jax.models import without_rates
from rnn_jax.models.seq2seq import Decoded, Start, seq2seq, seq2seq_rates
from rnn_jax.optim import updates
from rnn_jax.report import translation as pages
from rnn_jax.tasks import translation, translation_report, translator
from rnn_jax.train import steps

FACTS = {"inputs": 9, "outputs": 7, "longest": 5}
CONFIG = TranslationConfig(
    "test",
    data=PairsConfig(train=300, held_out=40, buckets=1),
    model=Seq2SeqConfig(hidden=6, embedding_size=4, kernel="scan"),
    optimizer=AdamConfig(learning_rate=0.01),
    train=TrainConfig(epochs=1, batch_size=16, patience=0),
)


def made(changes=None):
    return tasks.make(tasks.resolve(replace(CONFIG, changes or {})).config, FACTS)


def some_batch(rows=4, seed=0):
    """Texts and answers of several lengths, each with its end; the last row is missing."""
    random = np.random.default_rng(seed)
    inputs, targets = np.zeros((rows, 6), np.int32), np.zeros((rows, 5), np.int32)
    for row in range(rows - 1):
        for array, size in ((inputs, FACTS["inputs"]), (targets, FACTS["outputs"])):
            length = random.integers(1, array.shape[1])
            array[row, :length] = random.integers(3, size, length)
            array[row, length] = END
    return PairBatch(inputs, targets, (np.arange(rows) < rows - 1).astype(np.float32))


def losses(task, params, batch, rates=None):
    return task.loss(params, None, batch, jax.random.key(1), rates or task.rates)


@pytest.mark.parametrize(
    "changes",
    [
        {"model.attention": "additive"},
        {"model.cell": "rg_lru", "model.upper_layers": 0, "model.scheduled_sampling": 0.5},
    ],
    ids=["lstm", "rg_lru"],
)
def test_a_step_changes_every_parameter_of_any_cell_s_network(changes):
    task = made(changes)
    update, numbers = (
        updates.make(CONFIG.optimizer),
        updates.hyperparameters(CONFIG.optimizer, 10, task.rates),
    )
    state = steps.init_state(task, update, numbers, 0)
    step = jax.jit(steps.make_train_step(task, update))
    after = step(state, some_batch(), steps.run_key(0), numbers)
    before = jax.tree_util.tree_leaves_with_path(state.params)
    for (path, old), new in zip(before, jax.tree.leaves(after.params), strict=True):
        assert (old != new).any(), jax.tree_util.keystr(path)
    assert {path[0].key for path, _ in before} <= set(task.flow)


def test_rows_and_steps_that_only_fill_the_shape_change_nothing():
    task, batch = made(), some_batch()
    params = task.init(jax.random.key(0))
    run = jax.jit(jax.value_and_grad(lambda params, batch: losses(task, params, batch)[0]))
    alone, of_alone = run(params, jax.tree.map(lambda leaf: leaf[:3], batch))
    wider = PairBatch(
        np.pad(batch.inputs, [(0, 0), (0, 2)]), np.pad(batch.targets, [(0, 0), (0, 3)]),
        batch.weights,
    )  # fmt: skip
    for each in (batch, wider):
        loss, gradient = run(params, each)
        np.testing.assert_allclose(loss, alone, rtol=1e-5)
        for one, other in zip(jax.tree.leaves(of_alone), jax.tree.leaves(gradient), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6)


def test_the_loss_is_that_of_the_plain_computation():
    task, batch = made(), some_batch(rows=3)
    params = task.init(jax.random.key(0))
    module = seq2seq(CONFIG.model, FACTS["inputs"], FACTS["outputs"])
    total, right, exact = 0.0, 0, 0
    for row in range(2):
        text = batch.inputs[row][batch.inputs[row] > 0][None]
        answer = batch.targets[row][batch.targets[row] > 0]
        before = np.concatenate([[END], answer[:-1]])[None]
        logs = jax.nn.log_softmax(module.apply({"params": params}, text, before).logits[0])
        total -= sum(float(logs[step, token]) for step, token in enumerate(answer))
        hits = np.asarray(logs)[:, 2:].argmax(-1) + 2 == answer  # what can be written
        right, exact = right + hits.sum(), exact + hits.all()
    mean, (_, sums) = losses(task, params, batch)
    assert float(sums["loss"]) == pytest.approx(total, rel=1e-4)
    assert (int(sums["correct"]), int(sums["exact"]), int(sums["examples"])) == (right, exact, 2)
    tokens = int((batch.targets > 0).sum())
    assert float(mean) == pytest.approx(total / tokens, rel=1e-4)
    smooth = made({"model.label_smoothing": 0.25})
    smoothed, (_, same) = losses(smooth, params, batch)
    said = module.apply({"params": params}, batch.inputs, translation._before(batch.targets))
    spread = -np.asarray(jax.nn.log_softmax(said.logits)).mean(-1)[batch.targets > 0].mean()
    assert float(smoothed) == pytest.approx(0.75 * float(mean) + 0.25 * spread, rel=1e-4)
    assert float(same["loss"]) == float(sums["loss"])


def test_scheduled_sampling_gives_the_decoder_its_own_tokens():
    before = jnp.array([[END, 3, 4, 5]])
    logits = jnp.where(jnp.arange(7) == 6, 50.0, 0.0) + jnp.zeros((1, 4, 7))  # always 6
    mix = lambda rate: translation._mixed(jax.random.key(0), before, logits, rate).tolist()
    assert mix(0.0) == [[END, 3, 4, 5]]
    assert mix(1.0) == [[END, 6, 6, 6]]
    task = made({"model.scheduled_sampling": 0.5})
    plain, batch = made(), some_batch()
    params = task.init(jax.random.key(0))
    assert float(losses(task, params, batch)[0]) != float(losses(plain, params, batch)[0])


def test_what_is_found_is_compared_with_the_nearest_right_answer():
    batch = some_batch(rows=2)._replace(
        references=np.array([[[3, 4, 5, END], [6, 6, END, 0], [0, 0, 0, 0]], np.zeros((3, 4))])
    )
    tokens = jnp.array([[6, 5, 6, 0, 0], [0, 0, 0, 0, 0]])
    edits, wanted = translation._compared(tokens, batch)
    assert (int(edits[0]), int(wanted[0])) == (1, 2)
    alone = batch._replace(references=None, targets=np.array([[3, END, 0], [0, 0, 0]]))
    edits, wanted = translation._compared(jnp.array([[4, 3, 3], [0, 0, 0]]), alone)
    assert (int(edits[0]), int(wanted[0])) == (2, 1)


def test_greedy_answers_are_right_where_each_token_after_the_right_ones_is():
    """What is found token by token agrees with what is said of all steps at once."""
    task, batch = made(), some_batch(rows=40, seed=1)
    # Large parameters make an untrained network say many things.
    params = jax.tree.map(lambda leaf: 3 * leaf, task.init(jax.random.key(2)))
    evaluate = jax.jit(task.evaluate)
    _, _, outputs = evaluate(params, None, batch)
    assert outputs.shape == (40, 2 + FACTS["longest"] + 5)
    found, targets = np.asarray(outputs)[:, 2:], np.zeros_like(batch.targets)
    for row, tokens in enumerate(found[:-1]):
        answer = tokens[tokens > 0][:4]
        targets[row, : len(answer)], targets[row, len(answer)] = answer, END
        if row % 3 == 0:
            targets[row, 0] = 3 if targets[row, 0] != 3 else 4
    lengths = (found[:-1] > 0).sum(axis=1)
    right = (lengths <= 4) & (np.arange(39) % 3 > 0)
    assert right.sum() > 10
    assert len(np.unique(lengths[right])) > 3
    batch = batch._replace(targets=targets)
    _, (_, taught) = losses(task, params, batch)
    _, sums, outputs = evaluate(params, None, batch)
    assert ((np.asarray(outputs)[:-1, 0] == 0) == right).all()
    assert int(sums["exact"]) == int(taught["exact"]) == right.sum()
    assert int(sums["searched"]) == 39
    assert int(sums["edits"]) == int(outputs[:-1, 0].sum())


def test_a_beam_of_one_is_greedy():
    """Where the end is not the likeliest token, nothing that ends there is an answer."""
    after = jnp.log(jnp.array([0.0, 0, 0.45, 0.55, 0])), jnp.log(jnp.array([0.0, 0, 0.3, 0.1, 0.6]))

    def decode(params, memory, carry, before):
        step = jnp.where(carry == 0, after[0], after[1])
        step = jnp.where(carry >= 2, jnp.array([0.0, 0, 50, 0, 0]), step)
        return Decoded(carry + 1, step[:, None], None)

    network = translator.Network(
        lambda params, texts: Start(None, jnp.zeros((len(texts), 1))), decode
    )
    words = Vocabulary(("", "<unk>", "</s>", "a", "b"), "characters")
    found = translator.Translator(network, {}, Vocabularies(words, words), 5)
    ((greedy,),) = found.translate(["a"], beam=1)
    assert greedy.text == "ab"
    log = np.log(0.55) + np.log(0.6)
    assert greedy.score == pytest.approx(log / ((5 + 3) / 6) ** 0.6, rel=1e-4)
    assert found.translate(["a"], beam=3)[0][0].text == ""


def test_rates_of_the_collection_do_what_those_of_the_module_do():
    config = dataclasses.replace(
        CONFIG.model, dropout=0.25, recurrent_dropout=0.25, layers=2, decoder_layers=2
    )
    module, plain = (
        seq2seq(each, FACTS["inputs"], FACTS["outputs"])
        for each in (config, without_rates(config, {}, "dropout"))
    )
    batch = some_batch()
    asked = (batch.inputs, translation._before(batch.targets))
    params = module.init(jax.random.key(0), *asked)["params"]
    noise = {"deterministic": False, "rngs": {"dropout": jax.random.key(7)}}
    own = module.apply({"params": params}, *asked, **noise)
    given = plain.apply({"params": params, "rates": seq2seq_rates(config)}, *asked, **noise)
    still = plain.apply({"params": params}, *asked, **noise)
    np.testing.assert_allclose(own.logits, given.logits, rtol=1e-4, atol=1e-6)
    assert not np.allclose(own.logits, still.logits)


FLAGS = (
    "--experiment=translation", "--config.data.source=tsv", "--config.data.input_tokens=words",
    "--config.model.hidden=24", "--config.model.embedding_size=12", "--config.train.epochs=30",
    "--config.train.batch_size=8", "--config.data.buckets=1", "--config.model.beam=3",
    "--config.model.test_beam=2", "--config.model.upper_layers=0",
    "--config.optimizer.learning_rate=0.01", "--config.train.steps_per_call=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A file of pairs: two letters, and the same in small letters."""
    file = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    letters = "ABCDEFG"
    rows = [f"{a} {b}\t{(a + b).lower()}" for a in letters for b in letters]
    file.write_text("\n".join(rows) + "\n")
    return file


def test_a_run_resumes_bit_for_bit_and_answers(launch, copied, tmp_path, signal_at, without_times):
    flags = [*FLAGS, f"--config.data.data_dir={copied}"]
    folder, other = tmp_path / "one", tmp_path / "two"
    code, out, err = launch(*flags, f"--workdir={folder}")
    assert code == 0, err
    last = out.splitlines()[-1]
    match = float(last.split()[3])
    assert match > 0.5  # of 49 that there could be
    assert last.startswith(f"test exact match {match:.4f}  token errors ")
    assert last.endswith("  (tsv, 5 pairs)")

    signal_at(12)
    assert launch(*flags, f"--workdir={other}")[0] == 130
    signal_at(10**6)
    assert launch(*flags, f"--workdir={other}")[1].splitlines()[-1] == last
    assert without_times(folder) == without_times(other)

    code, out, err = launch("--mode=evaluate", f"--workdir={folder}")
    assert (code, out.splitlines()[-1]) == (0, last), err
    assert "texts of 2 tokens: exact match " in out

    code, out, err = launch("--mode=predict", f"--workdir={folder}", "--text=A B")
    assert code == 0, err
    answer = json.loads(out)
    assert list(answer) == ["hypotheses"]
    assert len(answer["hypotheses"]) == 3
    scores = [each["score"] for each in answer["hypotheses"]]
    assert scores == sorted(scores, reverse=True)

    translator = rnn_jax.load(folder)
    assert translation_report.answer(translator, "A Z")["unknown"] == ["Z"]
    assert translator("  A   B ") == answer["hypotheses"][0]["text"]
    several = translator.translate(["A B", "C"] * 3, batch_size=4)
    assert [each.text for each in several[2]] == [each["text"] for each in answer["hypotheses"]]
    found = translator.align("A B", "ab")
    assert (found.inputs, found.outputs) == (["A", "B", "</s>"], ["a", "b", "</s>"])
    np.testing.assert_allclose(found.weights.sum(axis=1), 1, rtol=1e-5)
    assert "Translator('translation', from words to characters)" in repr(translator)
    page = (folder / "report.html").read_text()
    assert "Answers that are right, by the length of the text" in page
    assert "tokens that are read" in page

    for arguments, said in (
        ({"texts": "A B"}, "texts must be a sequence of strings"),
        ({"texts": [1]}, "texts must be a sequence of strings"),
        ({"texts": ["A"], "beam": 0}, "beam must be a whole number from 1"),
    ):
        with pytest.raises(ValueError, match=said):
            translator.translate(**arguments)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data.language": "xx"}, "none of num2words"),
        ({"model.cell": "gur"}, "did you mean 'gru'"),
        ({"model.attention": "dots"}, "did you mean 'dot'"),
        ({"data.source": "tsv"}, "data_dir=FILE"),
        ({"data.max_length": 2}, "more than --config.data.max_length=2"),
    ],
)
def test_bad_options_cost_nothing(tmp_path, changes, said):
    with pytest.raises(InputError, match=said):
        train.run(replace(CONFIG, {}) if not changes else _changed(changes), tmp_path / "run")


def _changed(changes):
    config = CONFIG
    for name, value in changes.items():
        section, _, field = name.partition(".")
        group = dataclasses.replace(getattr(config, section), **{field: value})
        config = dataclasses.replace(config, **{section: group})
    return config


def test_facts_are_read_back():
    kind = tasks.TASKS["translation"]
    assert kind.read_facts(FACTS) == FACTS
    for bad in ({}, {**FACTS, "inputs": 0}, {**FACTS, "more": 1}, [1], {**FACTS, "longest": "5"}):
        with pytest.raises(ValueError, match=r"."):
            kind.read_facts(bad)


def test_the_report_s_pieces():
    lengths = np.array([1, 1, 2, 3, 3, 3, 8, 9])
    right = np.array([1, 0, 1, 1, 1, 1, 0, 0], bool)
    found = pages.by_length(lengths, right)
    assert found == [("1 to 2", 2 / 3, 3), ("3", 1.0, 3), ("8", 0.0, 1), ("9", 0.0, 1)]
    section = pages.mistakes([("t", "123", "13")], 1, 8, list)
    assert section.pieces[-1].rows == [["t", "123", "1·3", 1]]
    assert pages.attention([]).pieces == []


def test_the_experiment_learns_from_numbers():
    """What its docstring and docs/translation.md say of it."""
    config = importlib.import_module("experiments.translation").get_config()
    assert (config.data.source, config.data.train, config.data.held_out) == (
        "numbers",
        20_000,
        2000,
    )
    assert (config.model.hidden, config.model.cell, config.data.input_tokens) == (
        96,
        "lstm",
        "auto",
    )
    assert config.model.decoder_layers + config.model.upper_layers == 2
