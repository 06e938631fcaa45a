"""Sweeps: their grammar, which trials they make, and what they find, continue and say."""

import csv
import dataclasses
import json
import shlex
import shutil
import threading
import time

import numpy as np
import pytest

from rnn_jax import load
from rnn_jax.config import InputError, replace
from rnn_jax.runs.folder import CHECKPOINTS
from rnn_jax.sweeps import Sweep, book, outcomes, points, search, trials
from rnn_jax.sweeps import run as sweep
from rnn_jax.sweeps.engines import Options, local
from rnn_jax.sweeps.grammar import Choice, Draw, parse
from rnn_jax.sweeps.report import interval
from rnn_jax.sweeps.trials import Space
from rnn_jax.sweeps.watch import Lines, Watch
from rnn_jax.system import files, sharing
from rnn_jax.system.interrupts import Interrupted, Request
from rnn_jax.tasks import default_config
from rnn_jax.train import loop

RATES = "optimizer.learning_rate=[0.01,0.02]; train.seed=0..1"


def space(axes, config=None):
    config = config or default_config()
    return Space(config, parse(axes, config))


# --- the grammar


@pytest.mark.parametrize(
    ("text", "axes"),
    [
        ("model.hidden=[8]", [Choice("model.hidden", (8,))]),
        ("  model.hidden = [ 8 ,16 ] ; ", [Choice("model.hidden", (8, 16))]),
        ("--config.model.hidden=[8]", [Choice("model.hidden", (8,))]),
        ("train.seed=3..3", [Choice("train.seed", (3,))]),
        ("optimizer.learning_rate=[1,2e-3]", [Choice("optimizer.learning_rate", (1.0, 0.002))]),
        ("model.masked=[true, false]", [Choice("model.masked", (True, False))]),
        ('model.cell=[gru,"ls\\u0074m"]', [Choice("model.cell", ("gru", "lstm"))]),
        ("optimizer.b1=uniform(0.5,0.9)", [Draw("optimizer.b1", "uniform", 0.5, 0.9)]),
        ("model.hidden=int(4,9)", [Draw("model.hidden", "int", 4, 9)]),
        (
            "optimizer.clip_norm=log(0.1,10);\nmodel.layers=1..2",
            [Draw("optimizer.clip_norm", "log", 0.1, 10.0), Choice("model.layers", (1, 2))],
        ),
    ],
)
def test_the_grammar(text, axes):
    assert parse(text, default_config()) == tuple(axes)


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("model.hiden=[8]", 0, "did you mean 'model.hidden'"),
        ("model.hidden=[8,0]", 16, "at least 1"),
        ("model.hidden=[8,1.5]", 16, "of type int"),
        ("model.hidden=[8;", 15, "a comma or ]"),
        ("model.hidden=[8,8]", 16, "twice"),
        ("model.hidden=[]", 14, "expected a value"),
        ("model.hidden [8]", 13, "= after model.hidden"),
        ("model.hidden=8", 13, "a list [1,2], a range 0..4"),
        ("model.hidden=[8] train.seed=0..1", 17, "a semicolon"),
        ("model.hidden=[8]; model.hidden=[9]", 18, "twice"),
        ("model.hidden=uniform(4,9)", 13, "int(...) draws it"),
        ("optimizer.b1=int(0,1)", 13, "no whole number"),
        ("model.cell=log(1,2)", 11, "no number"),
        ("optimizer.b1=uniform(0.9,0.5)", 25, "above the first"),
        ("optimizer.b1=uniform(0.5,1)", 25, "below 1.0"),
        ("optimizer.clip_norm=log(0,1)", 24, "above 0"),
        ("optimizer.b1=uniform(0.5)", 24, "a comma between"),
        ("train.seed=4..1", 11, "must rise"),
        ("train.seed=0..99999999", 11, "at most"),
        ("optimizer.schedule=[cosine,linear]", 27, "one of constant, cosine"),
        ('model.cell=["gru]', 12, "quotation mark"),
        ("", 0, "expected an option"),
        ("model.masked=[yes]", 14, "of type bool"),
        ("optimizer.b1=[nan]", 14, "of type float"),
    ],
)
def test_a_wrong_sweep_has_a_caret_under_the_place(text, place, words):
    with pytest.raises(InputError) as found:
        parse(text, default_config())
    message, shown, caret = str(found.value).split("\n")
    assert message.startswith("--sweep: ")
    assert words in message
    assert shown.strip() == text.strip()
    assert caret.index("^") - 2 == place


def test_the_place_stays_in_view_in_a_long_sweep():
    text = "; ".join(f"data.{name}=[true]" for name in ("pack",)) + " " * 200 + "; model.hiden=[1]"
    with pytest.raises(InputError) as found:
        parse(text, default_config())
    _, shown, caret = str(found.value).split("\n")
    assert len(shown) < 80
    assert shown[caret.index("^") :].startswith("model.hiden")


# --- the trials


def test_a_grid_is_every_combination_the_last_axis_fastest():
    made = trials.grid(space("model.hidden=[8,16]; train.seed=0..2; model.layers=[1,2]"))
    found = [tuple(trial.changes.values()) for trial in made]
    # Seeds repeat a configuration, wherever they stand.
    assert found == [(h, s, n) for h in (8, 16) for n in (1, 2) for s in (0, 1, 2)]
    assert all(trial.config.model.hidden == trial.changes["model.hidden"] for trial in made)
    assert len({trial.name for trial in made}) == 12


def test_a_grid_s_trials_of_one_shape_come_together():
    made = trials.grid(space("optimizer.learning_rate=[0.1,0.2]; model.hidden=[8,16]"))
    found = [tuple(trial.changes.values()) for trial in made]
    assert found == [(0.1, 8), (0.2, 8), (0.1, 16), (0.2, 16)]


def test_draws_stay_within_their_bounds_and_spread_evenly():
    axes = "optimizer.learning_rate=log(1e-4,1e-2); model.hidden=int(3,5); "
    axes += "optimizer.b1=uniform(0,0.5)"
    made = trials.random(space(axes), 600)
    rates, hidden, b1 = np.array([list(trial.changes.values()) for trial in made]).T
    assert 1e-4 <= rates.min() < 1.1e-4
    assert 0.9e-2 < rates.max() <= 1e-2
    np.testing.assert_allclose(np.log(rates).mean(), np.log(1e-3), atol=0.15)
    np.testing.assert_allclose(np.bincount(hidden.astype(int))[3:], 200, atol=45)
    np.testing.assert_allclose([b1.mean(), b1.std()], [0.25, 0.5 / 12**0.5], atol=0.02)
    assert abs(np.corrcoef(np.log(rates), b1)[0, 1]) < 0.12


def test_configurations_go_round_the_cells_each_with_draws_of_its_own_and_every_seed():
    axes = "optimizer.learning_rate=log(1e-4,1e-2); model.hidden=[8,16,32]; train.seed=0..1"
    made = [tuple(trial.changes.values()) for trial in trials.random(space(axes), 10)]
    assert [hidden for _, hidden, _ in made] == [8, 8, 16, 16, 32, 32, 8, 8, 16, 16]
    assert [seed for *_, seed in made] == [0, 1] * 5
    assert [a for a, *_ in made[::2]] == [b for b, *_ in made[1::2]]
    assert len({rate for rate, *_ in made}) == 5


def test_a_larger_sweep_begins_with_the_smaller_ones_trials():
    small = space("optimizer.learning_rate=log(1e-4,1e-2); model.hidden=[8,16]")
    large = space("optimizer.learning_rate=log(1e-4,1e-2); model.hidden=[8,16,32]")
    few, more, other = (
        {t.name for t in trials.random(*arguments)}
        for arguments in ((small, 6), (small, 20), (large, 30))
    )
    assert few < more
    assert more <= other


def test_a_trials_name_is_that_of_its_numbers():
    config = default_config()
    name = trials.name_of(config)
    assert trials.name_of(replace(config, {"train.checkpoint_steps": 7})) == name
    assert trials.name_of(replace(config, {"optimizer.learning_rate": 0.001})) == name
    assert trials.name_of(replace(config, {"optimizer.epsilon": 1})) != name
    whole = [replace(config, {"optimizer.clip_norm": value}) for value in (1, 1.0)]
    assert trials.name_of(whole[0]) == trials.name_of(whole[1])
    assert trials.name_of(replace(config, {"train.seed": 1})) != name


@pytest.mark.parametrize(
    ("axes", "kind", "count", "words"),
    [
        ("model.hidden=[8,16]; train.seed=0..2", None, 4, "6 combinations"),
        ("model.hidden=int(8,16)", None, None, "--trials is missing"),
        ("model.hidden=int(8,16)", "grid", 4, "model.hidden is drawn"),
        ("model.hidden=[8,16]", "random", 4, "nothing to draw"),
        ("model.hidden=[8,16]", "tpe", None, "--trials is missing"),
        ("train.seed=0..2", "tpe", 3, "besides the seed"),
        ("model.hidden=int(8,16); train.seed=0..2", None, 7, "--trials=6 or 9"),
        ("model.hidden=int(8,16); train.seed=0..2", None, 2, "--trials=3 or 3"),
    ],
)
def test_a_search_must_fit_the_axes(axes, kind, count, words):
    with pytest.raises(InputError, match=words):
        search.kind_of(space(axes), kind, count)


def test_more_trials_than_there_are_different_ones_are_refused():
    with pytest.raises(InputError, match="--trials=3 at most"):
        trials.random(space("model.hidden=int(8,10)"), 5)


def test_options_that_do_not_go_together_name_the_trial():
    axes = "optimizer.embedding_update=[dense,delayed]; optimizer.weight_decay=[0,0.1]"
    with pytest.raises(InputError, match=r"embedding_update=delayed.*weight_decay=0.1.*cannot be"):
        trials.grid(space(axes))


def test_the_confidence_interval_is_students():
    # Five values with mean 3 and standard deviation sqrt(2.5): t(0.975, 4) = 2.776445.
    mean, low, high = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (mean, high - mean) == (3.0, pytest.approx(2.776445 * (2.5 / 5) ** 0.5, rel=1e-6))
    assert low == pytest.approx(2 * mean - high)


# --- what a sweep finds


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """A sweep of four trials of two epochs, and what it said."""
    config = replace(config, {"train.epochs": 2})
    path, said = tmp_path_factory.mktemp("sweeps") / "sweep", []
    found = sweep(
        Sweep(RATES), config, path, engine=local.make(Options(jobs=2)), watch=Lines(said.append)
    )
    return config, path, found, said


def again(config, path, axes=RATES, watch=None, request=None, **asked):
    return sweep(
        Sweep(axes, **asked), config, path,
        engine=local.make(Options(jobs=1)), watch=watch or Watch(), request=request,
    )  # fmt: skip


def test_every_trial_is_the_run_that_it_is_alone(finished, tmp_path, without_times):
    _, path, found, _ = finished
    assert [entry.outcome.status for entry in found.entries] == ["finished"] * 4
    for trial, outcome in found.entries:
        alone = tmp_path / trial.name
        loop.run(trial.config, alone)
        folder = path / "trials" / trial.name
        assert without_times(folder) == without_times(alone)
        assert outcome.history == outcomes.read(folder).history


def test_the_best_trial_has_the_lowest_validation_loss_and_is_what_load_opens(finished):
    _, path, found, _ = finished
    losses = {entry.trial.name: entry.outcome.loss for entry in found.entries}
    assert losses[found.best.trial.name] == min(losses.values())
    direct = load(path / "trials" / found.best.trial.name)
    assert load(path)("the cat").probabilities == direct("the cat").probabilities
    assert found.line.startswith(f"test accuracy {found.best.outcome.test['accuracy']:.4f}")
    assert "(best of 4 trials: 4 finished)" in found.line


def test_the_files_say_what_was_found(finished):
    _, path, found, said = finished
    kept = json.loads((path / "sweep.json").read_text())
    assert kept["best"] == found.best.trial.name
    with open(path / "sweep.csv", newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert len(kept["trials"]) == len(rows) == 4
    for trial, outcome in found.entries:
        row = rows[trial.name]
        assert float(row["optimizer.learning_rate"]) == trial.changes["optimizer.learning_rate"]
        assert float(row["validation_loss"]) == outcome.loss
        assert float(row["test_accuracy"]) == outcome.test["accuracy"]
    page = (path / "report.html").read_text()
    for words in ("4 trials", "Over the seeds", "launch.py --experiment=test"):
        assert words in page
    assert sum("validation loss" in line for line in said) == 4


def test_a_book_knows_its_best_and_takes_little_of_the_time(config, tmp_path, monkeypatch):
    found, rng = book.Book(tmp_path, {}), np.random.default_rng(0)
    assert found.best() is None
    losses = {}
    for name in map(str, rng.integers(0, 9, 60)):  # trials come again, with other losses or none
        loss = float(rng.integers(0, 5)) if rng.random() < 0.8 else None
        losses[name] = loss
        record = {"split": "validation", "epoch": 1, "loss": loss}
        found.put(trials.Trial(name, {}, config), outcomes.Outcome("paused", (record,)))
        known = [name for name, each in losses.items() if each is not None]
        best = found.best()
        assert (best and best.trial.name) == min(known, key=losses.get, default=None)
    now = [time.monotonic() + 1.0]
    monkeypatch.setattr(book.time, "monotonic", lambda: now[0])
    write, writes = files.write_atomically, []

    def slowly(path, text):
        now[0] += 1.0
        writes.append(path.name)
        write(path, text)

    monkeypatch.setattr(files, "write_atomically", slowly)
    found.keep()
    assert writes == ["sweep.json", "sweep.csv"]  # in two seconds
    now[0] += 39.0
    found.keep()
    assert len(writes) == 2
    now[0] += 2.0
    found.keep()
    assert len(writes) == 4
    found.write()  # whatever it takes
    assert len(writes) == 6


def test_again_nothing_is_trained_and_the_answer_is_the_same(finished, monkeypatch):
    config, path, found, _ = finished
    monkeypatch.setattr(loop, "run", None)
    repeated = again(config, path)
    assert repeated.line == found.line
    assert repeated.entries == found.entries


def test_an_enlarged_sweep_keeps_what_overlaps(finished, tmp_path, monkeypatch):
    config, path, found, _ = finished
    copy = shutil.copytree(path, tmp_path / "copy")
    trained, run = [], loop.run
    monkeypatch.setattr(loop, "run", lambda c, p, **kw: trained.append(p.name) or run(c, p, **kw))
    axes = "optimizer.learning_rate=[0.01,0.02,0.03]; train.seed=0..1"
    larger = again(config, copy, axes)
    assert len(larger.entries) == 6
    assert len(trained) == 2
    before = {entry.trial.name: entry.outcome for entry in found.entries}
    assert before == {e.trial.name: e.outcome for e in larger.entries if e.trial.name in before}


def test_without_its_record_a_sweep_finds_its_trials_again(finished, tmp_path, monkeypatch):
    config, path, found, _ = finished
    copy = shutil.copytree(path, tmp_path / "copy")
    (copy / "sweep.json").unlink()
    monkeypatch.setattr(loop, "run", None)
    assert again(config, copy).line == found.line


class StoppingAfter(Request):
    """Asks to stop when it was looked at so often."""

    def __init__(self, looks):
        self.looks = looks
        super().__init__()

    @property
    def signal(self):
        self.looks -= 1
        return 2 if self.looks < 0 else None

    @signal.setter
    def signal(self, value):
        pass


def test_an_interrupted_sweep_goes_on_bit_for_bit(finished, tmp_path, without_times):
    config, path, found, _ = finished
    for stop_after in (1, 7, 12):
        folder, request = tmp_path / str(stop_after), StoppingAfter(3 * stop_after)
        with pytest.raises(Interrupted):
            again(config, folder, request=request)
        kept = json.loads((folder / "sweep.json").read_text())
        assert any(trial["status"] != "finished" for trial in kept["trials"])
        again(config, folder)
        for trial, _ in found.entries:
            name = f"trials/{trial.name}"
            assert without_times(folder / name) == without_times(path / name)


def test_a_trial_that_is_not_finite_ends_alone(finished, tmp_path):
    config, *_ = finished
    config = replace(config, {"optimizer.clip_norm": 0.0})
    found = again(config, tmp_path / "s", "optimizer.learning_rate=[0.01,1e38]")
    good, bad = (entry.outcome for entry in found.entries)
    assert (good.status, bad.status) == ("finished", "failed")
    assert "not finite" in bad.reason
    assert found.best.outcome is good
    repeated = again(config, tmp_path / "s", "optimizer.learning_rate=[0.01,1e38]")
    assert repeated.entries == found.entries


def test_a_budget_begins_no_more_trials(finished, tmp_path):
    config, *_ = finished
    found = again(config, tmp_path / "s", budget=1e-9)
    assert [entry.outcome.status for entry in found.entries] == ["waiting"] * 4
    assert found.best is None
    assert "none ended" in found.line


def test_a_wrong_trial_costs_nothing(config, tmp_path):
    with pytest.raises(InputError, match="cell"):
        again(config, tmp_path / "s", "model.cell=[gru,gruu]")
    assert not (tmp_path / "s" / "trials").exists()


def test_another_experiments_folder_and_a_runs_folder_are_refused(finished, tmp_path):
    config, path, *_ = finished
    other = dataclasses.replace(config, experiment="other")
    with pytest.raises(InputError, match="holds a sweep of experiment 'test', not 'other'"):
        again(other, path)
    folder = path / "trials" / sorted(p.name for p in (path / "trials").iterdir())[0]
    with pytest.raises(InputError, match="holds a run"):
        again(config, folder)


def test_a_damaged_trial_is_named_and_the_others_go_on(finished, tmp_path):
    config, path, found, _ = finished
    copy = shutil.copytree(path, tmp_path / "copy")
    broken = copy / "trials" / found.entries[0].trial.name
    for digests in (broken / CHECKPOINTS).glob("*/digests.json"):
        digests.write_text("{}")
    result = again(config, copy)
    assert [entry.outcome.status for entry in result.entries].count("finished") == 3
    damaged = next(e.outcome for e in result.entries if e.trial.name == broken.name)
    assert damaged.status == "failed"
    assert "damaged" in damaged.reason


def test_data_are_read_once_for_all_trials(config, tmp_path, monkeypatch):
    from rnn_jax.data import sources

    reads, read = [], sources.load
    monkeypatch.setattr(sources, "load", lambda *a: reads.append(1) or read(*a))
    short = replace(config, {"train.epochs": 1})
    again(short, tmp_path / "s", "train.seed=0..2")
    assert len(reads) == 1


def test_what_is_shared_is_made_once_by_many_threads_and_not_kept():
    made = []
    slow = sharing.shared(lambda n: n)(lambda n: made.append(n) or time.sleep(0.05) or n)
    with sharing.scope():
        threads = [threading.Thread(target=slow, args=(n % 2,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(made) == [0, 1]
    slow(1)
    assert sorted(made) == [0, 1, 1]


# --- the program


def test_the_program_sweeps_and_predicts_with_the_best(launch, small, tmp_path):
    workdir = tmp_path / "sweep"
    flags = [*small[:-1], f"--workdir={workdir}", "--experiment=gru"]
    code, out, err = launch(*flags, "--sweep=model.hidden=[4,8]", "--jobs=1")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert "(best of 2 trials: 2 finished)" in lines[-1]
    assert lines[-1].startswith("test accuracy")
    command = next(line.strip() for line in lines if line.strip().startswith("python launch.py"))
    best = json.loads((workdir / "sweep.json").read_text())["best"]
    # What is printed trains just that trial.
    code, again, _ = launch(*shlex.split(command)[2:], f"--workdir={tmp_path / 'alone'}")
    assert code == 0
    assert again.splitlines()[-1] == lines[-1].partition("  (best")[0]
    code, out, _ = launch("--mode=predict", f"--workdir={workdir}", "--text=rain again")
    one = launch("--mode=predict", f"--workdir={workdir / 'trials' / best}", "--text=rain again")
    assert (code, out) == (0, one[1])
    code, out, _ = launch("--mode=evaluate", f"--workdir={workdir}")
    assert out.splitlines()[-1] == lines[-1].partition("  (best")[0]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--trials=4"], "--trials is for a sweep"),
        (["--jobs=2"], "--jobs is for a sweep"),
        (["--sweep="], "--sweep is empty"),
        (["--sweep=model.hidden=[8", "--jobs=1"], "a comma or ]"),
        (["--sweep=model.hidden=[8]", "--search=gird"], "did you mean 'grid'"),
        (["--sweep=model.hidden=[8]", "--prune=mean"], "--prune must be one of"),
        (["--sweep=model.hidden=[8]", "--budget=soon"], "must be like 90s, 30m or 2h"),
        (["--sweep=model.hidden=[8]", "--trials=0"], "at least 1"),
        (["--sweep=model.hidden=[8]", "--overwrite"], "--overwrite is for one run"),
        (["--mode=summary", "--sweep=model.hidden=[8]"], "--sweep is for --mode=train"),
    ],
)
def test_wrong_flags_get_a_line_and_exit_code_2(launch, small, flags, words):
    code, out, err = launch(*small, "--experiment=gru", *flags)
    assert (code, out) == (2, "")
    assert words in err


def test_predict_before_any_trial_has_a_loss(launch, tmp_path):
    (tmp_path / "sweep.json").write_text('{"format": 1, "best": null, "trials": []}')
    code, _, err = launch("--mode=predict", f"--workdir={tmp_path}", "--text=x")
    assert (code, "no trial of the sweep" in err) == (2, True)


# --- Optuna


def test_tpe_proposes_configurations_within_the_space_and_learns_from_their_means(config, tmp_path):
    axes = "optimizer.learning_rate=log(1e-3,1e-1); model.hidden=[4,6]; train.seed=0..1"
    short = replace(config, {"train.epochs": 1})
    found = again(short, tmp_path / "s", axes, search="tpe", trials=8)
    assert len(found.entries) == 8
    proposed = points.by_point(list(found.entries))
    assert [len(group) for _, group in proposed] == [2] * 4
    for point, _ in proposed:
        assert 1e-3 <= point["optimizer.learning_rate"] <= 1e-1
        assert point["model.hidden"] in (4, 6)
    # Enlarged, it goes on after the first eight.
    more = again(short, tmp_path / "s", axes, search="tpe", trials=12)
    assert more.entries[:8] == found.entries
    assert len(more.entries) == 12


def test_tpe_finds_the_minimum_of_a_known_function():
    """Better than chance on |log10(rate) + 3| by far: half of the later trials near it."""
    from rnn_jax.sweeps.outcomes import FINISHED, Outcome

    base = space("optimizer.learning_rate=log(1e-5,1e-1)")
    finder = search.make(base, "tpe", 60, ())
    rates = []
    while group := finder.next():
        (trial,) = group
        rates.append(trial.changes["optimizer.learning_rate"])
        record = {"split": "validation", "epoch": 1, "loss": abs(np.log10(rates[-1]) + 3)}
        finder.tell([(trial, Outcome(FINISHED, (record,)))])
    assert len(rates) == 60
    near = np.abs(np.log10(rates[30:]) + 3) < 0.4  # a fifth of the range
    assert near.mean() > 0.5


def test_a_pruner_stops_what_is_worse_than_the_median_and_knows_it_after_a_restart():
    from rnn_jax.sweeps.outcomes import FINISHED, Outcome
    from rnn_jax.sweeps.proposals import Pruner

    def history(*losses):
        return tuple(
            {"split": "validation", "epoch": n, "loss": v} for n, v in enumerate(losses, 1)
        )

    for kind, bad in (("median", history(9.0)), ("halving", history(9.0))):
        pruner = Pruner(kind)
        for n in range(5):
            assert pruner.promising(f"good {n}", history(1.0 - n / 10))
            pruner.ended(f"good {n}", Outcome(FINISHED, history(1.0 - n / 10, 0.5)))
        assert not pruner.promising("bad", bad)
        assert pruner.promising("better", history(0.1))


def test_pruned_trials_stay_pruned_and_keep_their_checkpoint(config, tmp_path):
    base = replace(config, {"train.epochs": 3, "train.patience": 0})
    axes = "optimizer.learning_rate=[0.02,0.021,0.022,0.023,1e-7,1e-8]"
    found = again(base, tmp_path / "s", axes, prune="median")
    states = [entry.outcome.status for entry in found.entries]
    assert states[:4] == ["finished"] * 4
    assert "pruned" in states
    pruned = next(entry for entry in found.entries if entry.outcome.status == "pruned")
    assert 0 < pruned.outcome.epochs < 3
    repeated = again(base, tmp_path / "s", axes, prune="median")
    assert repeated.entries == found.entries
