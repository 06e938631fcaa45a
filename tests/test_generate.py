"""The program with language models: generate, predict, evaluate, bad input."""

from __future__ import annotations

import json
import re

import pytest

from rnn_jax.config import replace
from rnn_jax.tasks import LanguageConfig

LINES = "the cat sat on the mat .\na dog and the cat play all day , but the dog sleeps .\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a trained model of words."""
    from rnn_jax import train

    folder = tmp_path_factory.mktemp("generate")
    (folder / "own.txt").write_text(LINES * 30)
    config = replace(
        LanguageConfig("language_model"),
        {"data.source": "text", "data.data_dir": str(folder / "own.txt"), "data.window": 8,
         "data.yardsticks": False, "model.hidden": 8, "model.embedding_size": 8,
         "model.kernel": "scan", "train.epochs": 2, "train.batch_size": 4},
    )  # fmt: skip
    train.run(config, folder / "run")
    return folder / "run"


def test_a_text_is_written_and_written_again(launch, run):
    call = ("--mode=generate", f"--workdir={run}", "--prompt=The cat", "--tokens=40", "--seed=3")
    code, out, err = launch(*call)
    assert (code, err) == (0, "")
    assert out.startswith("The cat")
    assert out.endswith("\n")
    assert launch(*call) == (code, out, err)
    assert launch(*call[:-1], "--seed=4")[1] != out
    greedy = launch(*call, "--temperature=0")
    assert greedy == launch(*call[:-1], "--temperature=0", "--seed=9")


def test_several_samples_the_first_of_which_is_the_one(launch, run):
    call = ("--mode=generate", f"--workdir={run}", "--tokens=30")
    _, one, _ = launch(*call)
    _, out, _ = launch(*call, "--samples=3")
    found = re.split(r"^\[\d\]\n", out, flags=re.MULTILINE)
    assert len(found) == 4
    assert found[1].strip() == one.strip()


def test_unknown_words_of_a_prompt_are_named(launch, run):
    code, out, err = launch(
        "--mode=generate", f"--workdir={run}", "--prompt=The zebra", "--tokens=3"
    )
    assert code == 0
    assert out.startswith("The zebra")
    assert err == "the vocabulary has no 'zebra': read as unknown\n"


def test_a_text_is_rated(launch, run):
    code, out, _ = launch("--mode=predict", f"--workdir={run}", "--text=the cat sat")
    found = json.loads(out)
    assert code == 0
    assert set(found) == {"next", "perplexity", "tokens", "unknown"}
    assert [token for token, _ in found["tokens"]] == ["the", "cat", "sat"]
    assert sum(found["next"].values()) <= 1 + 1e-6


def test_a_text_is_explained(launch, run):
    code, out, err = launch("--mode=explain", f"--workdir={run}", "--text=the cat sat, zebra")
    assert (code, err) == (0, "")
    guess = json.loads(launch("--mode=predict", f"--workdir={run}", "--text=the cat sat, zebra")[1])
    assert out.splitlines() == [
        f"perplexity {guess['perplexity']:.2f} over 5 tokens",
        "Not in the vocabulary, 1 of 5 tokens: 'zebra'",
        f"explanation: {run / 'explain.html'}",
    ]
    page = (run / "explain.html").read_text()
    assert "What the gates do: layer 1, forward (lstm)" in page
    assert "forget gate: mean 0." in page


def test_evaluate_says_more_than_a_line(launch, run):
    code, out, _ = launch("--mode=evaluate", f"--workdir={run}")
    assert code == 0
    assert out.startswith("out of vocabulary: ")
    assert re.fullmatch(
        r"test perplexity \d+\.\d\d  bits/character \d\.\d{3}  \(text, \d+ tokens\)",
        out.splitlines()[-1],
    )


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--prompt=", "--prompt is empty; leave it out for a new story"),
        ("--prompt=  ", "--prompt is empty; leave it out for a new story"),
        ("--stop=", "--stop is empty; leave it out"),
        ("--tokens=-1", "--tokens must be at least 0, not -1"),
        ("--top_p=0", "--top_p must be in (0, 1], not 0.0"),
        ("--top_p=1.5", "--top_p must be in (0, 1], not 1.5"),
        ("--top_p=nan", "--top_p must be in (0, 1], not nan"),
        ("--top_k=-1", "--top_k must be at least 0, not -1"),
        ("--temperature=-1", "--temperature must be at least 0.0, not -1.0"),
        ("--temperature=nan", "--temperature must be at least 0.0, not nan"),
        ("--samples=0", "--samples must be at least 1, not 0"),
        ("--seed=-1", "--seed must be at least 0, not -1"),
        ("--text=x", "--text is for --mode=predict or --mode=explain, not --mode=generate"),
    ],
)
def test_bad_input_is_one_line(launch, run, flag, said):
    assert launch("--mode=generate", f"--workdir={run}", flag) == (2, "", f"launch.py: {said}\n")


def test_the_flags_of_generate_are_its_own(launch):
    code, _, err = launch("--experiment=language_model", "--prompt=x")
    assert code == 2
    assert err == "launch.py: --prompt is for --mode=generate, not --mode=train\n"


def test_a_classifier_writes_nothing(launch, small):
    assert launch("--experiment=masked_rnn", *small)[0] == 0
    code, _, err = launch("--mode=generate", small[-1])
    assert code == 2
    assert "is a classifier, for which there is no --mode=generate; it has --mode=" in err
    assert "predict" in err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has too little text"),
        (b"a text of one line " * 3, "fewer than --config.data.window="),
        (b"ab \xff\xfe" * 400, "is no UTF-8: byte 0xff at offset 3;"),
    ],
)
def test_a_text_file_that_cannot_be_learned_is_refused(launch, tmp_path, content, said):
    path = tmp_path / "own.txt"
    path.write_bytes(content)
    code, out, err = launch(
        "--experiment=language_model", f"--workdir={tmp_path / 'run'}",
        "--config.data.source=text", f"--config.data.data_dir={path}",
    )  # fmt: skip
    assert code == 2
    assert not re.search("^test ", out, flags=re.MULTILINE)
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()
