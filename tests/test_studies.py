"""The study of vanishing gradients, shrunk: what it finds, keeps, continues and refuses. Its many
small runs are slow (`pytest -m slow`)."""

import itertools
import json
import re
from types import SimpleNamespace

import pytest
from test_sweeps import StoppingAfter

from rnn_jax import sweeps
from rnn_jax.config import InputError, replace
from rnn_jax.studies import STUDIES, VanishingConfig
from rnn_jax.studies.vanishing_gradients import study as study_lib
from rnn_jax.studies.vanishing_gradients import training
from rnn_jax.system.interrupts import Interrupted, Request

SMALL = {
    "study.hidden": 4, "study.length": 9, "study.rows": 3, "study.shortest": 2, "study.longest": 4,
    "study.seeds": 2, "study.clip_lag": 2, "study.examples": 40, "study.held_out": 10,
    "train.epochs": 1, "train.batch_size": 20,
}  # fmt: skip


@pytest.fixture(scope="module")
def small():
    return replace(VanishingConfig("vanishing_gradients"), SMALL)


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):
    """A study that was interrupted and continued."""
    path = tmp_path_factory.mktemp("study")
    said = []
    with pytest.raises(Interrupted):
        study_lib.run(small, path, said.append, StoppingAfter(20))
    before = json.loads((path / "study.json").read_text())["parts"]
    found = study_lib.run(small, path, said.append, Request())
    return SimpleNamespace(path=path, found=found, before=before)


def parts(path):
    return json.loads((path / "study.json").read_text())["parts"]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_study_goes_on_where_it_was_and_keeps_what_it_had(finished):
    after = parts(finished.path)
    assert 0 < len(finished.before) < len(after)
    assert {name: after[name] for name in finished.before} == finished.before


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_identity_keeps_exactly_its_scale_a_step(finished):
    curves = parts(finished.path)["untrained simple_identity"]
    for scale, curve in curves.items():
        expected = [float(scale) ** distance for distance in range(9)]
        assert curve == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_sigmoid_shrinks_to_a_quarter_at_most(finished):
    curve = parts(finished.path)["untrained simple_sigmoid"]["1"]
    assert all(after <= before / 4 * 1.0001 for before, after in itertools.pairwise(curve))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_cell_is_trained_at_the_first_lag_and_goes_on_only_if_it_learned(finished):
    for problem in (training.ADDING, training.COPYING):
        for lags in parts(finished.path)[f"{problem.name} over seeds"].values():
            found = {int(lag): [training.Trial(*each) for each in lags[lag]] for lag in lags}
            assert min(found) == 2
            assert (4 in found) == training.settled(problem, found[2])
            assert all(len(trials) == 2 for trials in found.values())


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_page_tells_and_figures_are_files(finished):
    page = (finished.path / "report.html").read_text()
    assert "By the chain rule" in page
    figures = sorted((finished.path / "figures").glob("*.svg"))
    assert len(figures) >= 4
    for figure in figures:
        text = figure.read_text()
        assert text.startswith("<svg xmlns=")
        assert "NaN" not in text
    assert finished.found.line


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_once_more_nothing_is_trained_and_the_same_is_said(finished, small, monkeypatch):
    def never(*arguments, **options):
        raise AssertionError("a sweep was run again")

    monkeypatch.setattr(sweeps, "run", never)
    said = []
    assert study_lib.run(small, finished.path, said.append, Request()) == finished.found


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_folder_of_another_study_is_refused(finished, small):
    with pytest.raises(InputError, match=r"another config .*study\.hidden"):
        study_lib.run(replace(small, {"study.hidden": 5}), finished.path, print, Request())
    (finished.path / "adding" / "lag_2" / "study.json").unlink(missing_ok=True)
    with pytest.raises(InputError, match="holds a sweep, and a study needs a folder of its own"):
        study_lib.run(small, finished.path / "adding" / "lag_2", print, Request())


def of(*figures):
    return [training.Trial(figure, "folder", None) for figure in figures]


def test_more_than_half_of_the_seeds_must_learn_and_each_is_told():
    lags = {
        "10": of(0.001, 0.002, 0.003),
        "20": of(0.1, 0.001, 0.002),
        "40": of(None, 0.1, 0.001),  # learned below a tenth of 1/6
    }
    assert training.reach(training.ADDING, lags) == 20
    assert training.reaches(training.ADDING, lags) == [10, 20, 40]
    assert not training.settled(training.ADDING, of(0.001, 0.1))  # half is not enough
    assert training.reach(training.COPYING, {"10": of(0.5, 0.95, 0.2)}) is None


def test_a_run_that_stopped_counts_as_the_worst_of_its_seeds():
    for problem, order in ((training.ADDING, (0.1, 0.2)), (training.COPYING, (0.9, 0.4))):
        assert training.median(problem, of(*order, None)) == order[1]
        assert training.median(problem, of(None, order[0], None)) is None
    assert training.median(training.ADDING, of()) is None


def test_the_program_says_what_a_study_has_not(launch, tmp_path):
    code, out, err = launch("--experiment=vanishing_gradients", "--mode=summary")
    assert (code, out) == (2, "")
    assert "is a study, for which there is no --mode=summary" in err
    code, _, err = launch(
        "--experiment=vanishing_gradients", "--overwrite", f"--workdir={tmp_path}"
    )
    assert code == 2
    assert re.search("--overwrite is for a run, and experiment .* is a study", err)
    code, out, _ = launch("--experiment=vanishing_gradients", "--help")
    assert code == 0
    assert "--config.study.longest" in out
    assert {"vanishing_gradients", "overfitting"} == set(STUDIES)
