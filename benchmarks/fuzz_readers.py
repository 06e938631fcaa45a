"""Every reader of outside files, with valid files and what it may return: a part of `fuzz.py`."""

from __future__ import annotations

import csv
import io
import json
import pathlib
import shutil
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

Record = tuple[int, int | str, str | None, str]  # line, label, title, text

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


class Reader(NamedTuple):
    """One way into the program.

    name: what the table calls it.
    share: of all inputs.
    make: `(folder) -> (valid inputs, read, check)`; `read(raw)` returns what it accepts or raises
      one of `errors`; `check(raw, value)` raises AssertionError if it should not have accepted.
    errors: what `read` may raise, and nothing else.
    keys: names that a made-up JSON tree has; empty for other formats.
    flags: likewise those of made-up arguments.
    """

    name: str
    share: float
    make: Callable[[pathlib.Path], tuple[list[bytes], Callable, Callable]]
    errors: tuple[type[Exception], ...]
    keys: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


def vocabulary(folder: pathlib.Path):
    from rnn_jax.data.text import Vectorizer

    fitted = [
        Vectorizer.fit(["the cat and the dog", "Äpfel, naïve \udcff"], "words", 100),
        Vectorizer.fit(["abc"], "characters", 5),
    ]

    def check(raw: bytes, value: Vectorizer) -> None:
        assert Vectorizer.from_json(value.to_json()) == value
        assert len(value.words) == len(set(value.words)) <= value.vocab_size <= 2**24
        ids = value.encode(["the cat", "", "x" * 50], 7).ids
        assert ids.min(initial=0) >= 0
        assert ids.max(initial=0) < len(value.words)

    return [one.to_json().encode() for one in fitted], Vectorizer.from_json, check


def config(folder: pathlib.Path):
    from rnn_jax import Config, tasks
    from rnn_jax.config import check as check_config
    from rnn_jax.config import replace
    from rnn_jax.runs.identity import Identity

    changed = replace(Config(experiment="lstm"), {"model.dropout": 0.5, "data.data_dir": "/data"})
    continued = ({"epoch": 2, "environment": {"threads": 4}},)
    valid = [
        Identity(Config(experiment="test"), {"classes": ("a", "b")}, {"jax": "0.7"}),
        Identity(changed, {"classes": ("x", "y", "z")}, {}, "0" * 64, continued),
    ]

    def read(raw: bytes) -> Identity:
        return Identity.from_json(raw, tasks.reader())

    def check(raw: bytes, value: Identity) -> None:
        check_config(value.config)
        again = read(value.to_json())
        assert again == value or "NaN" in value.to_json()

    return [one.to_json().encode() for one in valid], read, check


def progress(folder: pathlib.Path):
    from rnn_jax.runs.checkpoints import Progress

    record = {"step": 9, "epoch": 1, "split": "train", "loss": 0.5, "skipped": 0}
    valid = [Progress(), Progress(3, 7, 12.5, 2, 0.25, True, (record, record))]

    def check(raw: bytes, value: Progress) -> None:
        again = Progress.from_json(value.to_json())
        assert again == value or "NaN" in value.to_json()
        assert min(value.epoch, value.batch, value.best_epoch, value.seconds) >= 0

    return [one.to_json().encode() for one in valid], Progress.from_json, check


def csv_records(folder: pathlib.Path):
    from rnn_jax.data import csv_folder

    path = folder / "train.csv"
    valid = [
        b'"1","A title","A story, with a comma"\r\n"2","Two","lines\nof ""text"""\r\n',
        "\ufefflabel,title,description\n1,é,ü\n\n3,a,b\n".encode(),
        b"text,label\nthe cat sleeps,animals\nrain,weather\n",
    ]

    def read(raw: bytes) -> list[Record]:
        path.write_bytes(raw)
        return list(csv_folder.records(path))

    def check(raw: bytes, rows: list[Record]) -> None:
        assert all(_is_label(label) for _, label, _, _ in rows)
        lines = [line for line, *_ in rows]
        assert lines == sorted(lines)
        assert sum(len(title or "") + len(text) for _, _, title, text in rows) <= len(raw)
        titled = any(title is not None for _, _, title, _ in rows)
        written = io.StringIO()
        out = csv.writer(written)
        out.writerow(("label", "title", "description") if titled else ("label", "text"))
        out.writerows([part for part in row[1:] if part is not None] for row in rows)
        again = read(written.getvalue().encode())
        assert [row[1:] for row in again] == [row[1:] for row in rows]

    return valid, read, check


def _is_label(label: int | str) -> bool:
    if isinstance(label, int):
        return 0 <= label <= 1000
    return (
        label.isprintable() and 0 < len(label) <= 100 and not (label.isascii() and label.isdigit())
    )


def _write_array_record(path: pathlib.Path, records: list[bytes]) -> None:
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()


def _check_stories(raw: bytes, rows: list[Record]) -> None:
    assert [number for number, *_ in rows] == list(range(1, len(rows) + 1))
    for _, label, title, text in rows:
        assert _is_label(label)
        assert title is not None
        assert "\0" not in (title + text).encode().decode()


def array_record_records(folder: pathlib.Path):
    """An input is the one record of a good file."""
    from rnn_jax.data import array_record_folder

    path = folder / "train.array_record"
    valid = [
        b'{"label": 3, "title": "Wall St. Bears", "description": "Short-sellers are ..."}',
        json.dumps({"title": "", "label": 1, "description": "\u00e9\n"}).encode(),
    ]

    def read(raw: bytes) -> list[Record]:
        _write_array_record(path, [raw])
        return list(array_record_folder.records(path))

    return valid, read, _check_stories


def array_record_files(folder: pathlib.Path):
    """An input is a whole file."""
    from rnn_jax.data import array_record_folder

    path = folder / "train.array_record"
    valid, _, _ = array_record_records(folder)
    _write_array_record(path, valid)
    file = path.read_bytes()

    def read(raw: bytes) -> list[Record]:
        path.write_bytes(raw)
        return list(array_record_folder.records(path))

    return [file], read, _check_stories


def classes(folder: pathlib.Path):
    from rnn_jax import DataConfig
    from rnn_jax.data import csv_folder

    settings = DataConfig(source="csv", data_dir=str(folder))

    def read(raw: bytes) -> tuple[str, ...]:
        (folder / "classes.txt").write_bytes(raw)
        return csv_folder.classes(settings)

    def check(raw: bytes, names: tuple[str, ...]) -> None:
        assert 2 <= len(names) == len(set(names)) <= 1000
        assert all(name.isprintable() and 0 < len(name) <= 100 for name in names)

    return [b"World\nSports\nSci/Tech\n", "\ufeffö\nä".encode()], read, check


def weights(ending: str) -> Callable:
    def make(folder: pathlib.Path):
        import numpy as np

        from rnn_jax.interop import load_arrays, save_arrays

        path = folder / f"weights{ending}"
        arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b/c": np.int32(4)}
        save_arrays(path, arrays)
        valid = [path.read_bytes()]
        if ending == ".npz":
            np.savez_compressed(path, zeros=np.zeros((50, 50)))
            valid.append(path.read_bytes())

        def read(raw: bytes) -> dict[str, np.ndarray]:
            path.write_bytes(raw)
            return load_arrays(path, max_bytes=2**20)

        def check(raw: bytes, loaded: dict[str, np.ndarray]) -> None:
            assert sum(array.nbytes for array in loaded.values()) <= 2**20
            assert not any(array.dtype.hasobject for array in loaded.values())

        return valid, read, check

    return make


def vectors(kind: str) -> Callable:
    """An input is a file of word2vec, GloVe, or of NumPy with the words that it begins with."""

    def make(folder: pathlib.Path):
        import numpy as np

        from rnn_jax.data.vectors import reading

        path, words = folder / f"vectors.{kind}", ("", "[UNK]", "the", "c\u00e4t", "sat")
        array = np.array([[0.5, -1, 3e-3], [2, 0, 1], [7, 8, 9]], np.float32)
        named = list(zip(("c\u00e4t", "dog", "the"), array, strict=True))
        lines = "".join(f"{word} {' '.join(map(str, row))}\n" for word, row in named).encode()
        packed = [word.encode() + b" " + row.tobytes() for word, row in named]
        stored = io.BytesIO()
        np.save(stored, array)
        listed = b"c\xc3\xa4t\ndog\nthe\n\0"
        valid = {
            "txt": [lines, b"3 3\n" + lines],
            "bin": [b"3 3\n" + b"".join(packed), b"3 3\n" + b"\n".join(packed) + b"\n"],
            "npy": [listed + stored.getvalue()],
        }[kind]

        def read(raw: bytes) -> reading.Vectors:
            if kind == "npy":
                first, _, raw = raw.partition(b"\0")
                path.with_suffix(".txt").write_bytes(first)
            path.write_bytes(raw)
            return reading.read(str(path), words, 3, 2)

        def check(raw: bytes, found: reading.Vectors) -> None:
            rows = found.rows.tolist()
            assert rows == sorted(set(rows))
            assert 1 <= rows[0] <= rows[-1] < len(words)
            assert found.values.shape == (len(rows), 3)
            assert np.isfinite(found.values).all()
            assert all(words[row].encode() in raw for row in rows)
            assert reading.coverage(found, words, 2)

        return valid, read, check

    return make


def texts(folder: pathlib.Path):
    """What predict reads: any bytes at all are a text."""
    from rnn_jax.data.text import Vectorizer

    words = Vectorizer.fit(["the cat and the dog"], "words", 100)
    characters = Vectorizer.fit(["the cat"], "characters", 20)

    def read(raw: bytes) -> list:
        text = raw.decode("utf-8", errors="replace").strip()
        return [one.encode([text, text], 30) for one in (words, characters)]

    def check(raw: bytes, rows: list) -> None:
        for one, row in zip((words, characters), rows, strict=True):
            assert row.lengths.max() <= 30
            assert row.lengths[0] == row.lengths[1]
            assert ((row.ids >= 1) & (row.ids < len(one))).all()

    return ["The cat, naïve\u00a0dog!".encode(), b"\xff\xfe"], read, check


def _checkpoint(folder: pathlib.Path):
    import numpy as np

    from rnn_jax.runs.checkpoints import Checkpoints, Progress

    state = {"a": np.arange(60, dtype=np.float32).reshape(20, 3), "b": (np.int32(7),)}
    written = Checkpoints(folder / "checkpoints", {"config.json": "{}"})
    written.save(state, state["b"], Progress(epoch=1))
    written.wait()
    return folder / "checkpoints" / "000001", state


def checkpoint_files(folder: pathlib.Path):
    """One of a checkpoint's files is another: an input is the file's index and its new content."""
    from rnn_jax.runs import checkpoints

    path, _ = _checkpoint(folder)
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    contents = [file.read_bytes() for file in files]
    digests = next(i for i, file in enumerate(files) if file.name == checkpoints.DIGESTS)

    def read(raw: bytes) -> int:
        index = raw[0] % len(files) if raw else 0
        files[index].write_bytes(raw[1:])
        try:
            problem = checkpoints.verify(path)
        finally:
            files[index].write_bytes(contents[index])
        if problem:
            raise ValueError(problem)
        return index

    def check(raw: bytes, index: int) -> None:
        if index == digests:  # other white space, say, is the same digests
            assert json.loads(raw[1:]) == json.loads(contents[index])
        else:
            assert raw[1:] == contents[index]

    return [bytes([i]) + content for i, content in enumerate(contents)], read, check


def forged_checkpoints(folder: pathlib.Path):
    """As `checkpoint_files`, with digests that fit, as a forger would write them."""
    import jax
    import numpy as np

    from rnn_jax.runs import checkpoints

    path, state = _checkpoint(folder)
    good = shutil.copytree(path, folder / "good")
    names = [file.relative_to(path) for file in sorted(path.rglob("*")) if file.is_file()]
    names = [name for name in names if name.name != checkpoints.DIGESTS]

    def read(raw: bytes) -> Any:
        shutil.rmtree(path)
        shutil.copytree(good, path)
        (path / names[raw[0] % len(names) if raw else 0]).write_bytes(raw[1:])
        digests = json.dumps(checkpoints._digests(path))
        (path / checkpoints.DIGESTS).write_text(digests)
        found = checkpoints.newest(path.parent)
        return checkpoints.restore(found.path, "state", state)

    def check(raw: bytes, value: Any) -> None:
        for one, other in zip(jax.tree.leaves(value), jax.tree.leaves(state), strict=True):
            assert (np.shape(one), one.dtype) == (np.shape(other), np.asarray(other).dtype)

    return [bytes([i]) + (good / name).read_bytes() for i, name in enumerate(names)], read, check


def command_lines(folder: pathlib.Path):
    """Arguments, one a line."""
    from rnn_jax import commands
    from rnn_jax.commands import experiments
    from rnn_jax.commands.base import Command
    from rnn_jax.config import check as check_config

    known = experiments.names(ROOT)
    before = set(sys.modules)

    def read(raw: bytes) -> Command:
        arguments = raw.decode("utf-8", errors="surrogateescape").split("\n")
        return commands.parse(["launch.py", *arguments], ROOT)

    def check(raw: bytes, value: Command) -> None:
        check_config(value.config)
        assert value.config.experiment in {"", *known}
        assert value.config.experiment == (value.values.experiment or "")
        assert value.mode.name == value.values.mode
        loaded = {name for name in set(sys.modules) - before if name.startswith("experiments.")}
        assert loaded <= {f"experiments.{name}" for name in known}

    valid = [
        b"--experiment=bilstm\n--config.train.epochs=3\n--workdir=x\n--overwrite",
        b"--experiment=gru\n--config.model.cell=lstm\n--config.optimizer.learning_rate=0.1\n--help",
    ]
    return valid, read, check


def _flags() -> list[str]:
    """The names of all flags, and of those that absl would add."""
    from rnn_jax.commands.flags import add_config_flags, base_flags
    from rnn_jax.tasks import TASKS

    names = {"flagfile", "undefok"}
    for kind in TASKS.values():
        values = base_flags()
        add_config_flags(values, kind.config())
        names.update(values)
    return sorted(names)


def readers() -> list[Reader]:
    from rnn_jax import Config
    from rnn_jax.config import InputError, options

    refused = (InputError,)
    names = [part for name, _, _ in options(Config()) for part in name.split(".")]
    return [
        Reader("vocabulary.json", 0.25, vocabulary, refused, ("tokens", "vocab_size", "words")),
        Reader(
            "config.json", 0.2, config, (ValueError,),
            ("config", "facts", "classes", "task", "environment", "data", "continued",
             "experiment", *names),
        ),
        Reader(
            "progress.json of a checkpoint", 0.25, progress, (ValueError,),
            ("format", "epoch", "batch", "seconds", "best_epoch", "best_loss", "finished",
             "history", "step", "split", "loss"),
        ),
        Reader("train.csv, test.csv", 0.1, csv_records, refused),
        Reader(
            "a record of train.array_record", 0.02, array_record_records, refused,
            ("label", "title", "description"),
        ),
        Reader("train.array_record", 0.005, array_record_files, refused),
        Reader("classes.txt", 0.05, classes, refused),
        Reader("texts to predict", 0.07, texts, ()),
        Reader("weights.npz", 0.03, weights(".npz"), (ValueError,)),
        Reader("weights.safetensors", 0.03, weights(".safetensors"), (ValueError,)),
        Reader("vectors of words, text", 0.03, vectors("txt"), refused),
        Reader("vectors of words, word2vec's binary", 0.03, vectors("bin"), refused),
        Reader("vectors of words, NumPy's array", 0.03, vectors("npy"), refused),
        Reader("any file of a checkpoint", 0.015, checkpoint_files, (ValueError,)),
        Reader("forged checkpoint", 0.0015, forged_checkpoints, refused),
        Reader("command line", 0.02, command_lines, refused, flags=tuple(_flags())),
    ]  # fmt: skip
