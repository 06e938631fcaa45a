"""What can be asked of a trained network: gates against a walk in NumPy, importance against what it
must add up to."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from classifiers import task_of
from test_report import Page

import rnn_jax
from rnn_jax import inspect, tasks, train
from rnn_jax.cells import gru, lru, lstm, min_gru, simple_rnn
from rnn_jax.cells.wrappers import learnable_initial, zoneout
from rnn_jax.config import InputError, replace
from rnn_jax.data.language.vocabulary import SPECIAL, Vocabulary
from rnn_jax.data.text import Vectorizer
from rnn_jax.inspect.gates import LayerGates
from rnn_jax.report import maps
from rnn_jax.report.pieces import Heat, Map
from rnn_jax.tasks import LanguageConfig, base, explanation

WORDS = ("", "[UNK]", "the", "cat", "dog", "sleeps", "and", "rain", "wind", "again")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_lstm(p, x, carry):
    """One step in float64, {name: value} with the state after it."""
    h, c = carry
    i, f, g, o = np.split(x @ p["kernel"] + p["bias"] + h @ p["recurrent_kernel"], 4)
    peephole = p.get("peephole", np.zeros((3, len(c))))
    i, f, g = sigmoid(i + peephole[0] * c), sigmoid(f + peephole[1] * c), np.tanh(g)
    c = f * c + i * g
    o = sigmoid(o + peephole[2] * c)
    h = o * np.tanh(c)
    found = {"forget gate": f, "input gate": i, "output gate": o, "candidate": g}
    return found | {"cell state": c, "hidden state": h}, (h, c)


def numpy_gru(p, x, h, reset_after=True):
    xr, xz, xn = np.split(x @ p["kernel"] + p["bias"], 3)
    ur, uz, un = np.split(p["recurrent_kernel"], 3, axis=1)
    br, bz, bn = np.split(p.get("recurrent_bias", np.zeros(len(p["bias"]))), 3)
    r, z = sigmoid(xr + h @ ur + br), sigmoid(xz + h @ uz + bz)
    n = np.tanh(xn + r * (h @ un + bn)) if reset_after else np.tanh(xn + (r * h) @ un + bn)
    h = (1 - z) * n + z * h
    return {"update gate": z, "reset gate": r, "candidate": n, "state": h}, h


def numpy_simple_rnn(p, x, h):
    h = np.tanh(x @ p["kernel"] + p["bias"] + h @ p["recurrent_kernel"])
    return {"state": h}, h


def numpy_walk(step, params, inputs, carry, reverse=False):
    """A row in float64: {name: [time, units]}."""
    p = {name: np.asarray(leaf, np.float64) for name, leaf in params.items()}
    found = [None] * len(inputs)
    for t in reversed(range(len(inputs))) if reverse else range(len(inputs)):
        found[t], carry = step(p, np.asarray(inputs[t], np.float64), carry)
    return {name: np.stack([each[name] for each in found]) for name in found[0]}


def grown(cell, in_features):
    """Parameters that are far from those at a start, and from even gates."""
    shapes = jax.eval_shape(lambda: cell.init(jax.random.key(0), in_features))
    draw = np.random.default_rng(7).normal
    return {n: draw(size=leaf.shape).astype(np.float32) for n, leaf in sorted(shapes.items())}


def drawn(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def walked(cell, params, inputs, lengths=None, reverse=False):
    walk = functools.partial(inspect.walk, cell, reverse=reverse)
    return jax.jit(walk)(params, inputs, lengths)


CELLS = {
    "lstm": (lstm(4), numpy_lstm, (np.zeros(4), np.zeros(4))),
    "peepholes": (lstm(4, peepholes=True), numpy_lstm, (np.zeros(4), np.zeros(4))),
    "gru": (gru(4), numpy_gru, np.zeros(4)),
    "gru, reset before": (
        gru(4, reset_after=False), lambda *given: numpy_gru(*given, reset_after=False), np.zeros(4),
    ),
    "simple_rnn": (simple_rnn(4), numpy_simple_rnn, np.zeros(4)),
}  # fmt: skip


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_walk_is_that_in_numpy_and_ends_where_unroll_ends(name, reverse):
    cell, step, empty = CELLS[name]
    params = grown(cell, 3)
    inputs, lengths = drawn(2, 5, 3), np.array([5, 3])
    walk = walked(cell, params, inputs, lengths, reverse)
    carry, _ = rnn_jax.unroll(cell, params, inputs, lengths, reverse=reverse)
    last = dict(zip(walk.state_names, walk.states, strict=True))
    for row, length in enumerate((5, 3)):
        expected = numpy_walk(step, params, inputs[row, :length], empty, reverse)
        shown = walk.gate_names + walk.state_names
        assert shown == tuple(expected)
        for got, found in zip(shown, walk.gates + walk.states, strict=True):
            np.testing.assert_allclose(found[row, :length], expected[got], atol=2e-6, err_msg=got)
        end = 0 if reverse else length - 1
        if "cell state" in last:
            np.testing.assert_allclose(last["cell state"][row, end], carry.cell[row], atol=1e-6)
            np.testing.assert_allclose(last["hidden state"][row, end], carry.hidden[row], atol=1e-6)
        else:
            np.testing.assert_allclose(last["state"][row, end], carry[row], atol=1e-6)
    assert walk.steps.tolist() == [[True] * 5, [True] * 3 + [False] * 2]
    assert walk.direction == ("backward" if reverse else "forward")


@pytest.mark.parametrize(
    "cell",
    [lstm(3), gru(3), min_gru(3), learnable_initial(gru(3))],
    ids=lambda cell: cell.spec.kind,
)
def test_a_state_is_what_was_kept_and_what_was_written(cell):
    params = grown(cell, 2)
    walk = walked(cell, params, drawn(1, 6, 2))
    state = np.asarray(walk.states[0])
    before = cell.initial_carry(params, 1)
    before = np.asarray(getattr(before, "cell", before))[:, None]
    before = np.concatenate([before, state[:, :-1]], axis=1)
    np.testing.assert_allclose(walk.keep * before + walk.write, state, atol=1e-6)


def test_cells_whose_gates_say_less_are_not_read_as_if_they_said_all():
    inputs = drawn(1, 6, 2)
    held, plain = zoneout(lstm(3), 0.3), lstm(3)
    params = grown(plain, 2)
    walk = walked(held, params, inputs)
    # Its gates are the inner cell's, its states are not; so nothing is said of what it keeps.
    first = walked(plain, params, inputs)
    np.testing.assert_allclose(walk.gates[0][:, 0], first.gates[0][:, 0], atol=1e-6)
    assert not np.allclose(walk.states[0], first.states[0], atol=1e-2)
    assert (walk.keep, walk.write) == (None, None)
    rotating = walked(lru(3), grown(lru(3), 2), inputs)
    assert (rotating.gates, rotating.keep, rotating.state_names) == ((), None, ("state",))
    own = rnn_jax.Cell(
        init=lambda key, size: {"kernel": jnp.ones((size, 2))},
        project=lambda params, inputs: inputs @ params["kernel"],
        step=lambda params, carry, at: (carry + at, carry + at),
        initial_carry=lambda params, batch: jnp.zeros((batch, 2)),
    )
    summed = walked(own, {"kernel": np.ones((2, 2), np.float32)}, inputs)
    np.testing.assert_allclose(summed.states[0][0, :, 0], np.cumsum(inputs.sum(-1)), atol=1e-5)
    assert summed.cell == "cell"


def predictor_of(config, changes, scale=3.0):
    config = replace(config, changes)
    task = task_of(config, ("animals", "weather"))
    params = jax.tree.map(lambda leaf: scale * leaf, task.init(jax.random.key(3)))
    vocabulary = Vectorizer(WORDS, "words", config.data.vocab_size).to_json()
    remembered = {"vocabulary.json": vocabulary}
    return task.predictor(base.Trained(config, task, params, remembered, {}, 0, 1))


TEXT = "The cat and zebra sleeps again"


def test_the_gates_of_a_whole_network_are_those_of_its_equations(config):
    predictor = predictor_of(
        config,
        {"model.cell": "lstm", "model.bidirectional": True, "model.layers": 2,
         "model.pooling": "mean", "model.kernel": "scan"},
    )  # fmt: skip
    found = predictor.gates(TEXT)
    assert found.words == ("the", "cat", "and", "zebra", "sleeps", "again")
    assert found.known.tolist() == [True, True, True, False, True, True]
    assert [(each.layer, each.direction) for each in found.layers] == [
        (1, "forward"), (1, "backward"), (2, "forward"), (2, "backward")
    ]  # fmt: skip
    params, empty = predictor.run.params, (np.zeros(4), np.zeros(4))
    inputs = np.asarray(params["embedding"]["embedding"])[[2, 3, 6, 1, 5, 9]]
    for number in (0, 1):
        layer, below = params["recurrent"][f"layers_{number}"], []
        for direction in ("forward", "backward"):
            expected = numpy_walk(
                numpy_lstm, layer[direction], inputs, empty, direction == "backward"
            )
            (got,) = (
                each
                for each in found.layers
                if (each.layer, each.direction) == (number + 1, direction)
            )
            assert {**got.gates, **got.states}.keys() == expected.keys()
            for name, values in expected.items():
                np.testing.assert_allclose(got[name], values, atol=3e-6, err_msg=name)
            means = expected["forget gate"].mean(axis=0)[got.order]
            assert (np.diff(means) <= 1e-6).all()
            below.append(expected["hidden state"])
        inputs = np.concatenate(below, axis=1)
    assert found.layers[0].axes == ("words", "units")
    with pytest.raises(KeyError, match="'memory' is none of forget gate, input gate"):
        found.layers[0]["memory"]


def layer_of(keep, write, direction="forward"):
    keep, write = np.array(keep, np.float32), np.array(write, np.float32)
    return LayerGates(
        1, direction, "gru", {"update gate": keep}, {"state": write}, keep, write, np.arange(2)
    )


def test_the_unit_that_holds_longest_by_hand():
    # Unit 0 writes 0.8 at the first word: 0.9, 0.81, then 0.243 of it are left. Unit 1 holds 0.31
    # to the end, which is too weak to count, and its 0.9 is lost at once.
    keep = [[0.5, 1.0], [0.9, 1.0], [0.9, 1.0], [0.3, 1.0], [1.0, 0.1]]
    write = [[0.8, 0.31], [0.0, 0.0], [0.0, 0.0], [0.0, 0.9], [0.2, 0.0]]
    held = layer_of(keep, write).held
    assert held == (0, 0, pytest.approx(0.8), 2, 3)
    lines = layer_of(keep, write).summary(["a", "b", "c", "d", "e"])
    assert lines == (
        "update gate: mean 0.77; above 0.9 50%, below 0.1 0% of the time; unit 1 is open the most "
        "(0.82), unit 0 the least (0.72)",
        "state: from 0.00 to 0.90; from word to word unit 0 changes least (0.25), unit 1 most "
        "(0.53)",
        "unit 0 holds longest: 'a' (word 1) adds +0.80, of which more than half is left for 2 "
        "words more, until 'd' (word 4) clears it",
    )
    # Backwards the same happens from the last word on.
    turned = layer_of(keep[::-1], write[::-1], "backward").held
    assert turned == (0, 4, pytest.approx(0.8), 2, 1)
    # Nothing clears what is kept to the end; the strongest of equals is named.
    assert layer_of(np.ones((3, 2)), [[0.6, -0.9], [0, 0], [0, 0]]).held == (
        1, 0, pytest.approx(-0.9), 2, None,
    )  # fmt: skip
    assert layer_of(np.ones((3, 2)), np.zeros((3, 2))).held is None
    nothing = dataclasses.replace(layer_of(np.ones((3, 2)), np.zeros((3, 2))), keep=None)
    assert nothing.held is None


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    """A finished run of a GRU, as `train.run` returns it."""
    changes = {"train.epochs": 6, "model.kernel": "scan"}
    return train.run(replace(config, changes), tmp_path_factory.mktemp("inspect") / "run")


SEEN = "a dog and a cat play in the zebra garden"


def test_integrated_gradients_add_up_to_the_difference_of_the_logits(trained):
    found = trained.importance(SEEN)
    predictor = trained.predictor
    assert found.label == predictor(SEEN).label
    assert found.probability == pytest.approx(predictor(SEEN).probabilities[found.label], abs=1e-6)
    difference = found.logit - found.baseline
    assert abs(difference) > 0.3  # a network that has learned something
    assert abs(found.gap) < 1e-5 * abs(difference)
    assert found.integrated.sum() == pytest.approx(difference, rel=1e-5)
    # The network is not linear: gradients at the text alone do not add up, nor does one point.
    assert abs(found.gradient.sum() - difference) > 0.01 * abs(difference)
    coarse = trained.importance(SEEN, steps=1)
    assert abs(coarse.gap) > 20 * abs(found.gap)
    np.testing.assert_allclose(
        trained.importance(SEEN, steps=200).integrated, found.integrated, atol=1e-5
    )
    # Of two classes, what counts for one counts otherwise for the other.
    other = next(name for name in predictor.classes if name != found.label)
    assert trained.importance(SEEN, label=other).logit < found.logit


def test_gradients_and_occlusion_are_what_the_network_does(trained):
    found, predictor = trained.importance(SEEN), trained.predictor
    read, params = predictor.read(SEEN), trained.predictor.run.params
    vectors = np.asarray(predictor.scorer.embed(params, read.batch.tokens))
    target = predictor.classes.index(found.label)

    def logit(word, scale):
        changed = vectors.copy()
        changed[0, word] *= scale
        return float(predictor.scorer.logits(params, changed, read.batch.lengths)[0, target])

    for word in (1, 4, 9):
        assert found.occlusion[word] == pytest.approx(found.logit - logit(word, 0), abs=1e-5)
        slope = (logit(word, 1.01) - logit(word, 0.99)) / 0.02
        assert found.gradient[word] == pytest.approx(slope, abs=1e-3)
    assert found.words[4] == "cat"
    order = [word for word, _ in found.ranked()]
    assert order[0] == found.words[np.abs(found.integrated).argmax()]


def test_for_a_linear_network_all_three_are_the_same():
    table = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    weights = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    scorer = inspect.Scorer(
        embed=lambda params, tokens: params[0][tokens],
        logits=lambda params, vectors, lengths: vectors[:, :4].sum(axis=1) @ params[1] + 0.5,
    )
    tokens = np.array([3, 1, 4, 8, 0, 0], np.int32)
    found = inspect.importance_of(
        scorer, (jnp.asarray(table), jnp.asarray(weights)), tokens, ("a", "b", "c"),
        ("w", "x", "y", "z"), (True,) * 4, label="b", steps=3,
    )  # fmt: skip
    expected = table[tokens[:4]] @ weights[:, 1]
    for each in (found.gradient, found.integrated, found.occlusion):
        np.testing.assert_allclose(each, expected, atol=1e-5)
    assert found.baseline == pytest.approx(0.5)
    assert found.logit == pytest.approx(0.5 + expected.sum(), abs=1e-5)


def texts(sections):
    return [piece.text for section in sections for piece in section.pieces if piece.kind == "prose"]


def test_an_unmasked_network_reads_padding_which_counts(config):
    predictor = predictor_of(config, {"model.masked": False, "model.cell": "simple_rnn"})
    found, gates = predictor.importance("rain again"), predictor.gates("rain again")
    assert found.words == gates.words == ("rain", "again", *["(padding)"] * 6)
    assert np.abs(found.integrated[2:]).min() > 0
    # Far from the start of a training a network is so steep that the default is not enough.
    assert abs(found.gap) > 1e-3
    assert abs(predictor.importance("rain again", steps=300).gap) < 1e-4
    page = explanation.of_classifier(predictor, "rain again")
    assert any("by integrated gradients at 256 points" in prose for prose in texts(page.sections))
    assert "The network is not masked: it reads 6 steps of padding, too." in page.story
    (layer,) = gates.layers
    assert (layer.gates, layer.held) == ({}, None)
    assert layer["state"].shape == (8, 4)
    changes = np.abs(np.diff(layer["state"], axis=0)).mean(axis=0)
    assert layer.order.tolist() == np.argsort(changes).tolist()
    masked = predictor_of(config, {}).importance("rain again")
    assert masked.words == ("rain", "again")


def test_long_texts_are_read_as_far_as_the_network_reads(config):
    read = predictor_of(config, {}).read("wind " * 30)
    assert (len(read.words), read.total, read.batch.tokens.shape) == (16, 30, (1, 16))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"text": "!!"}, "text must have a word at least, got none"),
        ({"text": ""}, "text must have a word at least, got none"),
        ({"text": 3}, "text must be a string, got 3"),
        ({"text": "rain", "label": "sport"}, "label must be one of animals, weather, got 'sport'"),
        ({"text": "rain", "steps": 0}, "steps must be a whole number from 1 to 4096, got 0"),
        ({"text": "rain", "steps": 2.5}, "steps must be a whole number from 1 to 4096, got 2.5"),
    ],
)
def test_what_cannot_be_explained_is_refused(trained, given, message):
    with pytest.raises(ValueError, match=message):
        trained.importance(**given)
    if len(given) == 1:
        with pytest.raises(ValueError, match=message):
            trained.gates(**given)


def test_a_network_without_recurrent_layers_has_no_gates():
    with pytest.raises(ValueError, match="no layer RNN or Bidirectional, so there are no gates"):
        inspect.gates_of([], ("a",), (True,))


@pytest.fixture(scope="module")
def writer():
    config = replace(
        LanguageConfig("small"),
        {"model.cell": "gru", "model.hidden": 4, "model.embedding_size": 4, "model.kernel": "scan",
         "train.batch_size": 2},
    )  # fmt: skip
    words = (*SPECIAL, "the", "cat", "sat")
    task = tasks.make(config, {"vocab_size": len(words)})
    params = jax.tree.map(lambda leaf: 6 * leaf, task.init(jax.random.key(0)))
    remembered = {"vocabulary.json": Vocabulary(words, "words", True, {"": 1}).to_json()}
    return task.predictor(base.Trained(config, task, params, remembered, {}, 0, 1))


def test_the_gates_of_a_language_model_begin_with_an_end(writer):
    found = writer.gates("The cat zebra sat")
    assert found.words == ("(start)", "the", "cat", "zebra", "sat")
    assert found.known.tolist() == [True, True, True, False, True]
    (layer,) = found.layers
    vectors = np.asarray(writer.params["embedding"])[[2, 3, 4, 1, 5]]
    params = writer.params["recurrent"]["layers_0"]
    expected = numpy_walk(numpy_gru, params, vectors, np.zeros(4))
    for name, values in expected.items():
        np.testing.assert_allclose(layer[name], values, atol=3e-6, err_msg=name)
    with pytest.raises(ValueError, match="text must have a token at least, got none"):
        writer.gates("  ")


def test_a_run_says_what_its_task_has_not(trained, writer):
    finished = train.Run(None, (), "", None, None)
    vars(finished)["predictor"] = writer
    with pytest.raises(InputError, match=r"Writer\('small', 6 words\) has no importance"):
        finished.importance("the cat")
    assert finished.gates("the cat").words == ("(start)", "the", "cat")


def test_plots_have_names_and_values(trained):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    gates, importance = trained.gates(SEEN), trained.importance(SEEN)
    figure = gates.plot()
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in shown] == [
        "update gate", "reset gate", "candidate", "state"
    ]  # fmt: skip
    (layer,) = gates.layers
    np.testing.assert_allclose(shown[0].images[0].get_array(), layer["update gate"][:, layer.order])
    assert shown[0].images[0].get_clim() == (0, 1)
    assert [label.get_text() for label in shown[0].get_yticklabels()] == list(gates.words)
    assert shown[0].get_xlabel() == "units, sorted"
    pyplot.close(figure)
    figure = importance.plot()
    (axes,) = figure.axes
    assert [bars.get_label() for bars in axes.containers] == [
        "integrated gradients", "gradient x input", "occlusion"
    ]  # fmt: skip
    widths = [bar.get_width() for bar in axes.containers[0]]
    np.testing.assert_allclose(widths, importance.integrated)
    assert axes.get_xlabel() == f"importance for {importance.label!r} (logit)"
    pyplot.close(figure)


def test_without_matplotlib_a_plot_names_the_install_line(trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for each in (trained.gates(SEEN), trained.importance(SEEN), trained):
        with pytest.raises(
            InputError, match=r"plots need matplotlib: pip install 'rnn_jax\[plot\]'"
        ):
            each.plot()


def test_the_report_colours_words_by_what_the_prediction_loses(trained):
    page = (trained.folder / "report.html").read_text()
    assert "<h2" in page.partition("Words that count")[0]
    assert page.count('class="wide coloured"') >= 2
    predictor = trained.predictor
    data = predictor.run.task.prepare(lambda line: None, predictor.run.remembered)
    test, classes = data.test, predictor.classes
    outputs = np.array(
        [list(each.probabilities.values()) for each in predictor.predict(test.texts)]
    )

    shown = ["", "zebra", *predictor.vectorizer.words[2:]]

    def say(split):
        tokens = split.stories.tokens
        texts = [" ".join(shown[i] for i in tokens[row]) for row in range(len(tokens))]
        return [list(each.probabilities.values()) for each in predictor.predict(texts)]

    tested = base.Tested(outputs, data, predictor.run.params, (), say)
    losses = explanation.lost(tested, test, 0)
    words = predictor.vectorizer.split(test.texts[0])[: len(losses)]
    label = classes[outputs[0].argmax()]
    place = int(np.abs(losses).argmax())
    without = " ".join([*words[:place], "zebra", *words[place + 1 :]])
    expected = np.log(outputs[0].max()) - np.log(predictor(without).probabilities[label])
    assert losses[place] == pytest.approx(expected, abs=1e-5)
    assert losses[place] != 0
    section = explanation.tested_texts(tested, test, classes, predictor.vectorizer)
    first = section.pieces[1]
    assert max(abs(word.strength) for word in first.words) == pytest.approx(1)


def test_explain_writes_a_page_and_says_where(launch, trained):
    text = 'The cat <script>"and" zebra & rain again'
    code, out, err = launch("--mode=explain", f"--workdir={trained.folder}", f"--text={text}")
    assert (code, err) == (0, "")
    found = trained.importance(text)
    first, unknown, where = out.splitlines()
    assert first.startswith(f"{found.label} ({found.probability:.1%}); the words that count most: ")
    assert f"{found.ranked()[0][0]} {found.ranked()[0][1]:+.2f}" in first
    assert unknown == "Not in the vocabulary, 2 of 6 words: 'scriptand', 'zebra'"
    path = trained.folder / "explain.html"
    assert where == f"explanation: {path}"
    page = Page(path.read_text())  # every tag is closed in its place
    assert "script" not in page.tags
    assert text in page.text
    for line in trained.gates(text).layers[0].summary(found.words):
        assert line in page.text
    # Each word has its figure, each map its gate.
    tips = [value for name, value in page.attributes if name == "title"]
    assert [f"{value:+.3f}" for value in found.integrated] == tips[: len(found.words)]
    labels = [value for name, value in page.attributes if name == "aria-label"]
    assert "Over the words: update gate, reset gate, candidate, state for 6 words" in labels


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("--text=", "--text is empty; give it some words"),
        ("--text=?!", "--text: text must have a word at least, got none"),
        (None, "--text is missing: give the text to explain"),
    ],
)
def test_explain_refuses_a_text_without_words(launch, trained, text, said):
    flags = ["--mode=explain", f"--workdir={trained.folder}", *([text] if text else [])]
    assert launch(*flags) == (2, "", f"launch.py: {said}\n")


def test_explain_says_when_no_word_is_known(launch, trained):
    call = ("--mode=explain", f"--workdir={trained.folder}", "--text=zebra quagga")
    code, out, _ = launch(*call)
    assert code == 0
    assert "None of the text's 2 words is in the vocabulary" in out


def test_explain_is_for_kinds_that_have_it(launch, trained, monkeypatch):
    other = tasks.TASKS["classification"]._replace(modes=("train", "predict"))
    monkeypatch.setitem(tasks.TASKS, "classification", other)
    code, _, err = launch("--mode=explain", f"--workdir={trained.folder}", "--text=cat")
    assert code == 2
    assert "a classifier, for which there is no --mode=explain; it has --mode=train, predict" in err


def test_a_language_model_explains_how_surprising_tokens_are(writer):
    found = explanation.of_writer(writer, "the cat zebra")
    guess = writer("the cat zebra")
    assert found.said == (f"perplexity {guess.perplexity:.2f} over 3 tokens",)
    assert found.warnings == ["Not in the vocabulary, 1 of 3 tokens: 'zebra'"]
    words = found.sections[0].pieces[0].words
    bits = [-np.log2(share) for _, share in guess.tokens]
    assert [word.tip for word in words] == [f"{each:.2f} bits" for each in bits]
    assert [word.known for word in words] == [True, True, False]
    (heat,) = (piece for piece in found.sections[1].pieces if piece.kind == "heat")
    assert heat.rows == ["(start)", "the", "cat", "zebra"]


def test_maps_stay_within_their_drawing_and_skip_what_is_no_number():
    values = [[0.0, 1.0, 1.0], [math.nan, 0.5, math.inf], [0.02, 0.97, 2.0]]
    piece = Heat("t", ["a", "b" * 40, "c"], [Map("gate", values), Map("state", values, size=2.0)])
    at = maps.heat(piece)
    assert [word for _, word in at["words"]] == ["a", "b" * 15 + "…", "c"]
    gate, state = at["maps"]
    assert (gate["scale"], state["scale"]) == ("0 to 1", "±2")
    corners = lambda found: [
        (side, strength, *map(float, corner))
        for side, strength, path in found["paths"]
        for corner in re.findall(r"M([\d.]+) ([\d.]+)h([\d.]+)", path)
    ]
    left, cell = gate["left"], gate["width"] / 3
    # One piece for equal neighbours, by hand: full, half full, none for NaN, infinity and 0.02.
    assert sorted(corners(gate)) == [
        ("above", "0.5", left + cell, maps.HEAD + maps.ROW, cell),
        ("above", "1", left + cell, maps.HEAD, 2 * cell),
        ("above", "1", left + cell, maps.HEAD + 2 * maps.ROW, 2 * cell),
    ]
    assert all(
        at["label"] < x and x + wide <= at["width"] and top + maps.ROW <= at["bottom"]
        for found in at["maps"]
        for _, _, x, top, wide in corners(found)
    )
    (below,) = maps.heat(Heat("t", ["a"], [Map("s", [[-3.0]], 3.0)]))["maps"]
    assert [found[:2] for found in corners(below)] == [("below", "1")]
