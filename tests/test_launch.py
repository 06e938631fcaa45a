"""The program as its users meet it: commands, exit codes, one line for each mistake."""

import io
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

import pytest

from rnn_jax.kernels.native import library

ROOT = pathlib.Path(__file__).resolve().parent.parent


def assert_refused(result, *words):
    """One clear line on standard error, exit code 2, nothing on standard output."""
    code, out, err = result
    assert code == 2, err
    assert out == ""
    assert err.count("\n") == 1, err
    for word in words:
        assert str(word) in err


@pytest.fixture
def trained(launch, small):
    """Flags of a finished run of `masked_rnn`, and its folder's flag."""
    code, out, err = launch("--experiment=masked_rnn", *small)
    assert code == 0, err
    return small, small[-1], out


def test_help_shows_every_option_and_exits_with_0(launch):
    from rnn_jax import Config
    from rnn_jax.config import options

    code, out, _ = launch("--experiment=bilstm", "--help")
    assert code == 0
    for name, field, _ in options(Config()):
        assert f"--config.{name}" in out.replace("--[no]", "--")
        assert "".join(field.metadata["help"].split()) in "".join(out.split())  # wrapped anywhere
    assert "(default: '128')" in out  # the experiment's own value
    assert launch("--experiment=bilstm", "-h") == (0, out, "")


def test_experiments_are_listed_with_what_they_are(launch):
    code, out, _ = launch("--list_experiments")
    assert code == 0
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "adding", "bilstm", "char_language_model", "char_rnn", "copy", "course_bilstm",
        "course_lstm", "course_masked_rnn", "course_simple_rnn", "gru", "language_model",
        "language_model_large", "lru", "lstm", "masked_rnn", "min_gru", "overfitting", "simple_rnn",
        "time_series", "translation", "vanishing_gradients",
    ]  # fmt: skip
    assert all(len(line.split()) > 3 for line in lines)


@pytest.mark.parametrize(
    ("experiment", "total"),
    [
        ("simple_rnn", "1,281,364"),
        ("masked_rnn", "1,281,364"),
        ("lstm", "1,282,372"),
        ("gru", "1,281,812"),
        ("bilstm", "2,758,148"),
        ("course_simple_rnn", "1,281,364"),
        ("course_masked_rnn", "1,281,364"),
        ("course_lstm", "1,282,372"),
        ("course_bilstm", "2,758,148"),
    ],
)
def test_summary_has_the_course_s_parameter_counts(launch, experiment, total):
    # Four classes, and neither stories nor network.
    code, out, _ = launch(
        f"--experiment={experiment}", "--mode=summary", "--config.data.source=ag_news_subset"
    )
    assert code == 0
    assert out.splitlines()[-1].split() == ["total", total]
    parts = [line.partition("/")[0] for line in out.splitlines()[2:-2]]
    assert list(dict.fromkeys(parts)) == ["embedding", "recurrent", "head"]  # as data flows


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], ["--experiment is missing", "bilstm"]),
        (["--experiment=bilsm"], ["unknown experiment 'bilsm'", "did you mean 'bilstm'"]),
        (["--experiment=../launch"], ["unknown experiment '../launch'"]),
        (["--experiment=bilstm", "--config.model.hiden=3"], ["did you mean 'config.model.hidden'"]),
        (["--experiment=bilstm", "--config.model.hidden=many"], ["=many: must be a whole number"]),
        (["--experiment=bilstm", "--config.train.epochs=1.5"], ["=1.5: must be a whole number"]),
        (
            ["--experiment=bilstm", "--config.train.epochs=" + "9" * 5000],
            ["--config.train.epochs=999"],
        ),
        (
            ["--experiment=bilstm", "--config.model.dropout=x"],
            ["model.dropout=x: must be a number"],
        ),
        (
            ["--experiment=bilstm", "--config.data.pack=perhaps"],
            ["=perhaps: must be true or false"],
        ),
        (["--experiment=bilstm", "--trials=few"], ["--trials=few: must be a whole number"]),
        (["--experiment=bilstm", "--config.model.hidden=-3"], ["at least 1, not -3"]),
        (["--experiment=bilstm", "--config.model.cell=elman"], ["config.model.cell", "gru"]),
        (["--experiment=bilstm", "--config.train.pack=true"], ["pack is --config.data.pack now"]),
        (["--experiment=bilstm", "--config.data.take=-1"], ["config.data.take", "at least 0"]),
        (["--experiment=bilstm", "--config.optimizer.learning_rate=nan"], ["finite"]),
        (["--experiment=bilstm", "--mode=trian"], ["--mode=trian", "did you mean 'train'"]),
        (["--experiment=bilstm", "--config.data.source=bbc"], ["ag_news_subset", "'bbc_news'"]),
        (["--experiment=bilstm", "train"], ["unexpected argument 'train'"]),
        (["--experiment=bilstm", "--config.data.source=csv"], ["data_dir"]),
    ],
)
def test_bad_flags(launch, tmp_path, flags, words):
    assert_refused(launch(*flags, f"--workdir={tmp_path / 'run'}"), *words)
    assert not (tmp_path / "run").exists()


def test_bad_data_names_file_and_line(launch, small, csv_folder, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    flags = ["--experiment=masked_rnn", *small, f"--config.data.data_dir={folder}"]
    assert_refused(launch(*flags), folder / "train.csv")
    (folder / "test.csv").write_text((csv_folder / "test.csv").read_text())
    (folder / "train.csv").write_text('"1","a","b"\n"1","only a title"\n')
    assert_refused(launch(*flags), folder / "train.csv", "2")
    (folder / "train.csv").write_text('"1","a","b"\n"-1","a","b"\n')
    assert_refused(launch(*flags), folder / "train.csv", "2", "label")
    (folder / "train.csv").write_text("")
    assert_refused(launch(*flags), folder / "train.csv")


def test_a_run_s_last_line_and_its_files(trained, tmp_path):
    _, _, out = trained
    folder = tmp_path / "run"
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    test = records[-1]
    assert out.splitlines()[-1] == (
        f"test accuracy {test['accuracy']:.4f}  loss {test['loss']:.4f}  (csv, 10 examples)"
    )
    assert [(record["epoch"], record["split"]) for record in records[:4]] == [
        (1, "train"), (1, "validation"), (2, "train"), (2, "validation"),
    ]  # fmt: skip
    assert all(record["gradient_norm"] > 0 for record in records if record["split"] == "train")
    content = json.loads((folder / "config.json").read_text())
    assert content["config"]["experiment"] == "masked_rnn"
    assert content["facts"] == {"classes": ["animals", "weather"]}
    assert {"jax", "device", "threads"} <= set(content["environment"])
    assert "animals" in (folder / "report.html").read_text()
    assert list((folder / "tensorboard").iterdir())
    assert "%|" not in out  # no bar where there is no terminal


def test_the_same_command_again_prints_the_result_again(launch, trained, tmp_path):
    flags, _, out = trained
    metrics = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    code, again, _ = launch("--experiment=masked_rnn", *flags)
    assert code == 0
    assert again.splitlines()[-1] == out.splitlines()[-1]
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == metrics


def test_another_config_or_experiment_is_refused_and_overwrite_begins_anew(
    launch, trained, tmp_path
):
    flags, _, _ = trained
    metrics = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    other = ["--config.train.seed=1", "--config.model.hidden=5"]
    assert_refused(
        launch("--experiment=masked_rnn", *flags, *other),
        "train.seed: 0 -> 1", "model.hidden: 16 -> 5", "--workdir", "--overwrite",
    )  # fmt: skip
    assert_refused(launch("--experiment=simple_rnn", *flags), "'masked_rnn', not 'simple_rnn'")
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == metrics
    code, _, _ = launch("--experiment=masked_rnn", *flags, *other, "--overwrite")
    assert code == 0
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 5


@pytest.mark.parametrize("mode", ["train", "evaluate", "summary"])
def test_the_process_is_set_up_wherever_something_is_compiled_at_length(launch, monkeypatch, mode):
    from rnn_jax import InputError, train
    from rnn_jax.system import compilation
    from rnn_jax.train import opened

    def stop(*arguments, **options):
        raise InputError("far enough")

    done = []
    every = ["use_cache", "return_memory", "announce"]
    for name in every:
        monkeypatch.setattr(compilation, name, lambda *_, name=name: done.append(name))
    monkeypatch.setattr(train, "run", stop)
    monkeypatch.setattr(opened, "open_run", stop)
    assert launch("--experiment=lstm", f"--mode={mode}")[0] == (0 if mode == "summary" else 2)
    assert done == ([] if mode == "summary" else every)


def test_evaluate_gives_the_run_s_own_test_figures(launch, trained):
    _, workdir, out = trained
    code, again, _ = launch("--experiment=masked_rnn", "--mode=evaluate", workdir)
    assert code == 0
    assert again.strip() == out.splitlines()[-1]
    assert_refused(
        launch("--experiment=lstm", "--mode=evaluate", workdir), "'masked_rnn'", "'lstm'"
    )
    assert_refused(
        launch("--mode=evaluate", workdir, "--config.model.hidden=3"), "--config.model.hidden"
    )


def test_predict_answers_in_json(launch, trained, monkeypatch):
    _, workdir, _ = trained
    code, out, _ = launch("--mode=predict", workdir, "--text=the cat and the dog")
    assert code == 0
    alone = json.loads(out)
    assert alone["label"] in ("animals", "weather")
    assert sum(alone["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert max(alone["probabilities"], key=alone["probabilities"].get) == alone["label"]

    lines = b"the cat and the dog\n\n\xff\xfe wind\n!?\nrain again"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    code, out, _ = launch("--mode=predict", workdir)
    assert code == 0
    answers = [json.loads(line) for line in out.splitlines()]
    assert answers[0] == alone
    assert [sorted(answer) for answer in answers] == [
        ["label", "probabilities"], ["error"], *[["label", "probabilities"]] * 3,
    ]  # fmt: skip
    assert_refused(launch("--mode=predict", workdir, "--text= "), "--text is empty")


def test_the_same_text_has_one_answer_whichever_way_it_comes(launch, small, monkeypatch, tmp_path):
    # Of characters, white space is one.
    flags = ["--config.data.tokens=characters", "--config.train.epochs=1"]
    code, _, err = launch("--experiment=masked_rnn", *small, *flags)
    assert code == 0, err
    import rnn_jax
    from rnn_jax.commands import predict

    text = "\ufeff  wind and rain \r"
    expected = rnn_jax.load(tmp_path / "run")("wind and rain")._asdict()
    assert rnn_jax.load(tmp_path / "run")(text)._asdict() == expected
    code, out, _ = launch("--mode=predict", small[-1], f"--text={text}")
    assert json.loads(out) == expected
    monkeypatch.setattr(predict, "MAX_LINE", 100)
    lines = f"{text}\n{'a' * 250}\n{text}".encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    code, out, _ = launch("--mode=predict", small[-1])
    answers = [json.loads(line) for line in out.splitlines()]
    assert answers == [expected, {"error": "a line of more than 100 bytes"}, expected]


@pytest.mark.parametrize("mode", ["evaluate", "predict"])
def test_a_folder_without_a_trained_run_is_refused(launch, small, tmp_path, mode):
    flags = ["--experiment=masked_rnn", f"--mode={mode}", f"--workdir={tmp_path}"]
    assert_refused(launch(*flags), tmp_path, "no run")
    from rnn_jax import Config, tasks
    from rnn_jax.runs import folder as folder_lib

    config = Config(experiment="masked_rnn")
    with folder_lib.claim(tmp_path, config, {"classes": ("a", "b")}, tasks.reader(), {}):
        pass
    assert_refused(launch(*flags), tmp_path, "no checkpoint")


def test_other_classes_than_the_run_s_are_refused(launch, trained, csv_folder, tmp_path):
    _, workdir, _ = trained
    folder = shutil.copytree(csv_folder, tmp_path / "data")
    (folder / "classes.txt").write_text("weather\nanimals\n")
    assert_refused(
        launch("--mode=evaluate", workdir, f"--config.data.data_dir={folder}"),
        "weather, animals", "animals, weather", "--config.data.data_dir",
    )  # fmt: skip


def test_several_texts_are_predicted_in_their_order_and_one_is_no_list(trained, tmp_path):
    import rnn_jax

    predictor = rnn_jax.load(tmp_path / "run")
    texts = ["rain", "the cat and the dog " * 4, "", "wind and rain", "a dog"]
    together = predictor.predict(texts, batch_size=2)
    for text, answer in zip(texts, together, strict=True):
        alone = predictor(text)
        assert answer.label == alone.label
        assert answer.probabilities == pytest.approx(alone.probabilities, abs=1e-6)
    assert predictor.predict([]) == []
    assert predictor.predict(text for text in texts) == predictor.predict(texts)
    for wrong, words in (
        ("abc", "texts must be a sequence of strings, got the string 'abc'"),
        ([None], r"texts must be a sequence of strings, got None in it"),
        (["a", b"b"], r"texts must be a sequence of strings, got b'b' in it"),
        (None, "texts must be a sequence of strings, got None"),
        ({"a": 1}, r"texts must be a sequence of strings, got \{'a': 1\}"),
    ):
        with pytest.raises(ValueError, match=words):
            predictor.predict(wrong)
    for wrong in (["a"], None, b"a"):
        with pytest.raises(ValueError, match=r"^text must be a string, got "):
            predictor(wrong)
    with pytest.raises(ValueError, match="batch_size must be an int of at least 1, got 0"):
        predictor.predict(texts, batch_size=0)


@pytest.mark.parametrize(
    ("mode", "flag", "owner"),
    [
        ("train", "--text=a", "predict"),
        ("evaluate", "--text=a", "predict"),
        ("summary", "--text=a", "predict"),
        ("predict", "--overwrite", "train"),
        ("evaluate", "--overwrite", "train"),
        ("summary", "--overwrite", "train"),
    ],
)
def test_a_flag_that_a_mode_would_ignore_is_refused(launch, tmp_path, mode, flag, owner):
    result = launch("--experiment=bilstm", f"--mode={mode}", flag, f"--workdir={tmp_path / 'run'}")
    assert_refused(result, flag.split("=")[0], f"--mode={owner}", f"--mode={mode}")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("mode", ["evaluate", "predict", "summary"])
def test_ctrl_c_speaks_of_saved_work_only_where_something_is_saved(launch, monkeypatch, mode):
    from rnn_jax import commands

    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "run", stop)
    result = launch("--experiment=bilstm", f"--mode={mode}")
    assert result == (130, "", "launch.py: stopped\n")


def test_running_out_of_memory_proposes_what_the_mode_allows(
    launch, small, trained, monkeypatch, tmp_path
):
    import jax

    from rnn_jax import train
    from rnn_jax.tasks import predictor
    from rnn_jax.train import evaluate

    _, workdir, _ = trained

    def fail(*arguments, **options):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")

    monkeypatch.setattr(train, "run", fail)
    code, out, err = launch("--experiment=masked_rnn", *small)
    assert (code, out) == (1, "")
    assert err == (
        "launch.py: out of memory; try a smaller --config.train.batch_size, then "
        "--config.train.steps_per_call, then --config.data.max_length, then "
        "--config.data.vocab_size, then --config.model.hidden\n"
    )
    err = launch("--experiment=time_series", f"--workdir={tmp_path / 'series'}")[2]
    assert "out of memory; try a smaller --config.train.batch_size, then " in err
    assert "data.max_length" not in err  # of which it has none
    monkeypatch.setattr(predictor, "outputs_in_order", fail)
    monkeypatch.setattr(evaluate, "outputs_in_order", fail)
    for flags in (["--mode=predict", "--text=a"], ["--mode=evaluate"]):
        code, out, err = launch(*flags, workdir)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert "out of memory" in err
        assert "--config" not in err  # which these modes refuse


def test_other_errors_keep_their_traceback(launch, small, monkeypatch):
    from rnn_jax import train

    def fail(*arguments, **options):
        raise RuntimeError("a defect")

    monkeypatch.setattr(train, "run", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        launch("--experiment=masked_rnn", *small)


def test_a_platform_that_is_not_there_is_one_line(tmp_path):
    command = [sys.executable, "launch.py", "--experiment=lstm", f"--workdir={tmp_path / 'run'}"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cuda"},
        capture_output=True,
        text=True,
    )
    if done.returncode == 0:
        pytest.skip("there is a GPU")
    assert (done.returncode, done.stdout) == (2, "")
    assert "JAX has no device for JAX_PLATFORMS='cuda' here" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_streams_may_be_closed_or_narrow_and_nobody_need_be_at_home(launch, small, tmp_path):
    code, _, err = launch("--experiment=masked_rnn", *small, "--config.train.epochs=1")
    assert code == 0, err
    command = f"{shlex.quote(sys.executable)} launch.py --mode=predict {small[-1]}"
    environment = {
        name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")
    }
    train = shlex.join([sys.executable, "launch.py", "--experiment=masked_rnn", *small])
    text = f"{command} --text='Börse läuft'"
    for more, line, said in (
        ({"PYTHONIOENCODING": "ascii"}, text, None),
        ({"HOME": "/nonexistent"}, f"{text} 2>&-", None),
        # An answer that goes nowhere is none; what a run finds is in its folder as well.
        ({}, f"{text} >&-", "standard output is closed, and the answer goes nowhere else"),
        ({}, f"{train} --config.train.epochs=1 >&- 2>&-", ""),
        ({}, f"{text} >/dev/full", "cannot write to standard output (No space left on device)"),
        ({}, f"{text} | true", None),
    ):
        done = subprocess.run(
            line, shell=True, cwd=ROOT, env=environment | more, capture_output=True, text=True
        )
        assert done.returncode == (1 if said else 0), done.stderr
        assert done.stderr == (f"launch.py: {said}\n" if said else "")
        assert bool(json.loads(done.stdout or "{}")) == (said is None and "|" not in line)


def test_why_a_kernel_was_chosen_is_said_to_those_who_ask(launch, small, trained, monkeypatch):
    _, _, out = trained
    assert out.splitlines()[0] in ("kernel: native", "kernel: fused")
    assert "why no faster" not in out
    monkeypatch.setattr(library, "missing", lambda kind: "needs a C++ compiler")
    code, out, err = launch(
        "--experiment=masked_rnn", *small, "--overwrite", "--verbose", "--config.train.epochs=1"
    )
    assert (code, err) == (0, "")
    assert out.splitlines()[:2] == [
        "kernel: fused",
        "why no faster kernel: native needs a C++ compiler",
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_evaluate_needs_the_test_stories_alone(launch, small, story_folder, tmp_path, stream):
    code, out, err = launch(
        "--experiment=masked_rnn", *small, f"--config.data.stream={stream}",
        f"--config.data.cache_dir={tmp_path / 'cache'}", "--config.data.validation_share=0.2",
        f"--config.data.data_dir={story_folder}",
    )  # fmt: skip
    assert code == 0, err
    folder = tmp_path / "only"
    folder.mkdir()
    shutil.copy(story_folder / "test.csv", folder)
    flags = ["--mode=evaluate", small[-1], f"--config.data.data_dir={folder}"]
    assert launch(*flags)[:2] == (0, out.splitlines()[-1] + "\n")
    (folder / "test.csv").write_text('"3","a","b"\n')
    assert_refused(launch(*flags), "test.csv:1: label 3 is out of range: there are 2 classes")
    (folder / "test.csv").unlink()
    assert_refused(launch(*flags), "test.csv is missing")
