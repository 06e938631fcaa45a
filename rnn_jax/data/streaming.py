"""Stories of any number to flat files, in memory that does not grow with them.

The training file is read in chunks: once for its digest, once to fit the vocabulary, once to turn
texts into ids. What comes out is kept in a cache folder, under the digest of all that it depends
on, and used again as long as it is undamaged.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import itertools
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from rnn_jax.config import InputError
from rnn_jax.data import sources, text
from rnn_jax.data.batching import Examples
from rnn_jax.data.flat import Flat, Writer, file_digest
from rnn_jax.data.labelled_folder import check_file
from rnn_jax.data.options import DataConfig
from rnn_jax.data.stories import Stories, digests
from rnn_jax.data.text import Vectorizer
from rnn_jax.system import files

FORMAT = 2  # of the cache; another number means another version's
CHUNK_STORIES = 4_096
CHUNK_CHARACTERS = 2**22
HELD = 2**23  # characters of stories that are validated on, about
MAX_HELD = 2**26
MAX_TEST = 2**25  # characters of the test stories
MAX_WORDS = 2**19  # different words that are counted at a time, or four times vocab_size
OPENING = 8  # words by which versions of a story are known
META, VOCABULARY = "meta.json", "vocabulary.json"
MAX_META = 2**16
Say = Callable[[str], None]
Versions = list[tuple[pathlib.Path, int, int]]  # (file, bytes, time of its last change)
# Options that change nothing that is prepared.
_APART = ("data_dir", "cache_dir", "stream", "window", "pool", "pack", "class_weights")


class Prepared(NamedTuple):
    """What was made of the training file."""

    vectorizer: Vectorizer
    train: Flat
    validation: Flat


def prepare(config: DataConfig, classes: tuple[str, ...], say: Say = lambda line: None) -> Prepared:
    """The training stories as ids in flat files, made now or found in the cache.

    Args:
      config: says which stories, and what is read of them.
      classes: their names.
      say: told in a line when something takes long.

    Raises:
      InputError: the stories cannot be had or used, or the cache folder cannot be written.
    """
    folder, versions = cache_folder(config), _versions(config)
    key = _key(config, classes, [path for path, *_ in versions])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f"{key}.lock", say):
            return _prepare(folder / key, config, classes, versions, say)
    except OSError as error:
        raise InputError(
            f"cannot keep the prepared stories in {folder} ({error.strerror or error}); make room, "
            "or name another folder with --config.data.cache_dir"
        ) from error


def cache_folder(config: DataConfig) -> pathlib.Path:
    """Where prepared stories are kept: `config.cache_dir`, or below the user's cache folder."""
    if config.cache_dir:
        return pathlib.Path(os.path.expanduser(config.cache_dir))
    return files.user_cache() / "stories"


def held_test(config: DataConfig, classes: tuple[str, ...]) -> Stories:
    """The test stories, in memory.

    Raises:
      InputError: the files are missing or malformed, or there are too many.
    """
    found, characters = [], 0
    stories = sources.stories(config, "test", classes)
    for story in itertools.islice(stories, config.take or None):
        found.append(story)
        characters += len(story[0] or "") + len(story[1])
        if characters > MAX_TEST:
            raise InputError(
                f"the test stories have more than {MAX_TEST} characters, too many to be held in "
                "memory: put a share of them into the test file, or take the first ones "
                "(--config.data.take)"
            )
    return Stories.collect(found)


def _prepare(
    folder: pathlib.Path, config: DataConfig, classes: tuple[str, ...], versions: Versions, say: Say
) -> Prepared:
    if folder.exists():
        try:
            return _open(folder)
        except (OSError, ValueError, LookupError, TypeError) as error:
            say(f"the prepared stories are made anew: {error}")
            shutil.rmtree(folder)
    say(f"preparing the stories of {config.data_dir}, once; they are kept in {folder}")
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        _write(part, config, classes)
        if _versions(config) != versions:  # then the folder's name may be another content's
            raise InputError(f"the files in {config.data_dir} changed while they were read")
        os.rename(part, folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    files.sync_folder(folder.parent)
    prepared = _open(folder, verify=False)
    say(f"{len(prepared.train)} training stories are prepared")
    return prepared


def _write(folder: pathlib.Path, config: DataConfig, classes: tuple[str, ...]) -> None:
    def parts() -> Iterator[tuple[Stories, Stories]]:
        chunks = _chunks(sources.stories(config, "train", classes))
        return (_cut(chunk, threshold) for chunk in chunks)

    threshold = _threshold(config)
    texts = (story for train, _ in parts() for story in train.text(config.vocab_field))
    limits = [limit for limit in (config.vocab_texts, config.take) if limit]
    vectorizer = text.fit_texts(
        itertools.islice(texts, min(limits, default=None)),
        config,
        max_words=max(MAX_WORDS, 4 * config.vocab_size),
    )
    with contextlib.ExitStack() as opened:
        writers = {
            name: opened.enter_context(Writer(folder, name, config.vocab_size))
            for name in ("train", "validation")
        }
        characters = 0
        for split in parts():
            for writer, stories in zip(writers.values(), split, strict=True):
                if config.take:
                    left = min(config.take - writer.stories, len(stories))
                    stories = stories.select(np.arange(left))
                chosen = stories.text(config.field)
                if writer is writers["validation"]:
                    characters += sum(map(len, chosen))
                writer.add(Examples(vectorizer.encode(chosen, config.max_length), stories.labels))
            if characters > MAX_HELD:
                raise InputError(
                    f"more than {MAX_HELD} characters would be validated on, since stories repeat "
                    "themselves; give --config.data.validation=test"
                )
            wanted = [writer for name, writer in writers.items() if name == "train" or threshold]
            if config.take and all(writer.stories == config.take for writer in wanted):
                break
        content: dict[str, Any] = {name: writer.close() for name, writer in writers.items()}
    for name, writer in writers.items():
        if not writer.stories and (name == "train" or config.validation == "split"):
            raise InputError(
                f"the {name} split of {config.source} has no story, with --config.data."
                f"validation_share={config.validation_share}; where stories are few or open alike, "
                "give --config.data.validation=test"
            )
    vocabulary = vectorizer.to_json()
    files.write_atomically(folder / VOCABULARY, vocabulary)
    content |= {"format": FORMAT, "vocabulary": _sha256(vocabulary)}
    files.write_atomically(folder / META, _sealed(content))


def _open(folder: pathlib.Path, verify: bool = True) -> Prepared:
    """What `_write` wrote.

    Raises:
      OSError, ValueError: it is not all there, or not as it was written.
    """
    seal, _, raw = files.read_bounded(folder / META, MAX_META).decode().partition("\n")
    if _sha256(raw) != seal:
        raise ValueError(f"{folder / META} is damaged")
    content = json.loads(raw)
    vocabulary = files.read_bounded(folder / VOCABULARY, text.MAX_FILE).decode()
    if _sha256(vocabulary) != content["vocabulary"]:
        raise ValueError(f"{folder / VOCABULARY} is damaged")
    train, validation = (Flat(folder, name, **content[name]) for name in ("train", "validation"))
    if verify:
        train.verify()
        validation.verify()
    return Prepared(Vectorizer.from_json(vocabulary), train, validation)


def _versions(config: DataConfig) -> Versions:
    """The training files, with what changes when somebody writes to one.

    Raises:
      InputError: one is missing or no file.
    """
    found = []
    for path in sources.files(config, "train"):
        check_file(path)
        try:
            status = path.stat()
        except OSError as error:
            raise InputError(f"cannot read {path} ({error.strerror})") from error
        found.append((path, status.st_size, status.st_mtime_ns))
    return found


def _key(config: DataConfig, classes: tuple[str, ...], paths: list[pathlib.Path]) -> str:
    """The digest of all that the prepared stories depend on."""
    try:
        contents = [file_digest(path) for path in paths]
    except OSError as error:
        raise InputError(f"cannot read {error.filename} ({error.strerror})") from error
    options = {
        name: value for name, value in dataclasses.asdict(config).items() if name not in _APART
    }
    return _sha256(json.dumps([FORMAT, contents, options, classes], sort_keys=True))


def _threshold(config: DataConfig) -> int:
    """Stories whose digest is below it are validated on."""
    if config.validation != "split":
        return 0
    size = sum(size for _, size, _ in _versions(config))
    return int(min(config.validation_share, HELD / max(size, 1)) * 2**64)


def _cut(stories: Stories, threshold: int) -> tuple[Stories, Stories]:
    """The stories that are trained on, and those that are validated on.

    A story's side depends on how it opens, so that its versions stay together, and only where it
    has no eight words to open with, on all of it.
    """
    if not threshold:
        return stories, stories.select(np.arange(0))
    keys = [
        " ".join(words) if len(words) == OPENING else f"{title or ''}\n{description}"
        for title, description in zip(stories.titles, stories.descriptions, strict=True)
        for words in (description.split(None, OPENING)[:OPENING],)
    ]
    held = digests(key.lower() for key in keys) < np.uint64(threshold)
    return stories.select(np.flatnonzero(~held)), stories.select(np.flatnonzero(held))


def _chunks(stories: Iterable[tuple[str | None, str, int]]) -> Iterator[Stories]:
    """The stories, so many at a time as the memory is promised to hold."""
    found, characters = [], 0
    for story in stories:
        found.append(story)
        characters += len(story[0] or "") + len(story[1])
        if len(found) == CHUNK_STORIES or characters > CHUNK_CHARACTERS:
            yield Stories.collect(found)
            found, characters = [], 0
    if found:
        yield Stories.collect(found)


@contextlib.contextmanager
def _locked(path: pathlib.Path, say: Say) -> Iterator[None]:
    """Waits until no other process prepares the same stories."""
    with files.open_lock(path) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another process that prepares the same stories")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sealed(content: dict[str, Any]) -> str:
    raw = json.dumps(content)
    return f"{_sha256(raw)}\n{raw}"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
