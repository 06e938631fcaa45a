"""What a classifier has to show: its confusions, a score for each class, its hardest mistakes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rnn_jax.report.limits import shortened
from rnn_jax.report.pieces import Case, Confusion, Prose, Section, Share, Table

MISTAKES = 12
EXCERPT = 320  # characters shown of a text
BARS = 6  # classes shown of a text
MATRIX = 25  # classes up to which the whole matrix is shown
CONFUSIONS = 30  # shown where there are more
NAME = 40  # characters shown of a class


def classification_sections(
    labels: np.ndarray, probabilities: np.ndarray, texts: Sequence[str], classes: Sequence[str]
) -> list[Section]:
    """Confusion matrix with scores, and the mistakes whose true class was thought least likely.

    Args:
      labels: int[examples], the true classes.
      probabilities: float[examples, classes]; the largest is the prediction, the first of equals.
      texts: what was read, for each example.
      classes: the classes' names.

    Raises:
      ValueError: shapes that do not fit each other, or a label that is no class.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    if probabilities.ndim != 2 or probabilities.shape[1] != len(classes):
        raise ValueError(
            f"probabilities have shape {probabilities.shape}; expected [examples, {len(classes)}]"
        )
    if labels.shape != probabilities.shape[:1] or len(texts) != len(labels):
        raise ValueError(
            f"labels {labels.shape}, probabilities {probabilities.shape} and {len(texts)} texts "
            "must be of the same examples"
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(classes):
        raise ValueError(
            f"labels must be from 0 to {len(classes) - 1}, "
            f"not from {labels.min()} to {labels.max()}"
        )
    predicted = probabilities.argmax(axis=1) if len(labels) else np.zeros(0, int)
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (labels.astype(int), predicted), 1)
    classes = [shortened(name, NAME) for name in classes]
    wide = len(classes) > 7
    return [
        Section(
            "Test results by class",
            [
                Prose(_worst_confusion(counts, classes)),
                _overall(counts, classes),
                _confusions(counts, classes, wide),
                _scores(counts, classes, wide),
            ],
        ),
        Section("Hardest mistakes", _mistakes(labels, probabilities, predicted, texts, classes)),
    ]


def _worst_confusion(counts: np.ndarray, classes: Sequence[str]) -> str:
    right, total = int(np.trace(counts)), int(counts.sum())
    sentence = f"{right:,} of {total:,} test examples were classified correctly."
    wrong = counts - np.diag(np.diag(counts))
    if not wrong.any():
        return sentence
    true, taken = np.unravel_index(wrong.argmax(), wrong.shape)
    return (
        f"{sentence} The most frequent mistake: {classes[true]} predicted as {classes[taken]},"
        f" {wrong[true, taken]:,} of {counts[true].sum():,}."
    )


def _overall(counts: np.ndarray, classes: Sequence[str]) -> Table:
    """The scores of all classes together, beside what a guess without reading has."""
    total = int(counts.sum())
    accuracy = float(np.trace(counts)) / total if total else float("nan")
    _, (recall, precision, f1) = scores_of(counts)
    rows = [
        ["accuracy", Share(accuracy)],
        ["macro recall, the mean over classes", Share(recall)],
        ["macro precision", Share(precision)],
        ["macro F1", Share(f1)],
    ]
    if total:
        most = int(counts.sum(axis=1).argmax())
        share = float(counts[most].sum()) / total
        rows.append([f"accuracy if {classes[most]} were always predicted", Share(share)])
    return Table("Scores of all classes", ["score", "test"], rows, wide=False)


def _confusions(counts: np.ndarray, classes: Sequence[str], wide: bool) -> Confusion | Table:
    """The whole matrix, or of many classes its largest entries beside the diagonal."""
    if len(classes) <= MATRIX:
        return Confusion("Confusion matrix of the test split", classes, counts.tolist(), wide=wide)
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]
    pairs = [(int(n) // len(classes), int(n) % len(classes)) for n in order if wrong.flat[n]]
    rows = [
        [classes[true], classes[taken], int(wrong[true, taken]), Share(wrong[true, taken] / of)]
        for true, taken in pairs
        for of in [counts[true].sum()]
    ]
    title = f"Most frequent confusions of the test split, of {len(classes):,} classes"
    return Table(title, ["true", "predicted", "examples", "of the true class"], rows)


def scores_of(counts: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Recall, precision and F1, their harmonic mean, from a confusion matrix.

    The precision of a class that has examples but was never predicted counts as 0, as is usual;
    what else would divide by 0 is NaN and left out of the mean.

    Args:
      counts: int[classes, classes], true by predicted.

    Returns:
      float64[classes, 3], and the plain means over the classes.
    """
    right, true, said = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    with np.errstate(invalid="ignore"):
        recall, f1 = right / true, 2 * right / (true + said)
        precision = np.where((said == 0) & (true > 0), 0.0, right / said)
    scores = np.stack([recall, precision, f1], axis=1)
    known = [column[~np.isnan(column)] for column in scores.T]
    return scores, [float(column.mean()) if len(column) else float("nan") for column in known]


def _scores(counts: np.ndarray, classes: Sequence[str], wide: bool) -> Table:
    """Each class' scores; of many classes those come first that are found least."""
    scores, means = scores_of(counts)
    order = np.arange(len(classes))
    if len(classes) > MATRIX:
        order = np.argsort(np.nan_to_num(scores[:, 2], nan=2.0), kind="stable")
    true = counts.sum(axis=1)
    return Table(
        "Scores by class",
        ["class", "recall", "precision", "F1", "examples"],
        [[classes[n], *map(Share, scores[n].tolist()), int(true[n])] for n in order.tolist()],
        footer=["mean", *map(Share, means), int(true.sum())],
        wide=wide,
    )


def _mistakes(
    labels: np.ndarray,
    probabilities: np.ndarray,
    predicted: np.ndarray,
    texts: Sequence[str],
    classes: Sequence[str],
) -> list[Prose | Case]:
    wrong = np.flatnonzero(predicted != labels)
    if not len(wrong):
        return [Prose(f"No mistake among {len(labels):,} examples.")]
    of_truth = np.nan_to_num(probabilities[wrong, labels[wrong]], nan=0.0)
    hardest = wrong[np.argsort(of_truth, kind="stable")][:MISTAKES]
    several = "mistake" if len(wrong) == 1 else "mistakes"
    shown = "all" if len(hardest) == len(wrong) else f"{len(hardest)}"
    return [
        Prose(
            f"{len(wrong):,} {several} in {len(labels):,} examples; {shown} shown here, those "
            "first to whose true class the model gave the least probability."
        ),
        *(_case(texts[i], probabilities[i], labels[i], predicted[i], classes) for i in hardest),
    ]


def _case(
    text: str, probabilities: np.ndarray, true: int, predicted: int, classes: Sequence[str]
) -> Case:
    likely = [int(c) for c in np.argsort(-probabilities, kind="stable")]
    shown = [predicted, true, *(c for c in likely if c not in (predicted, true))][:BARS]
    remarks = {int(true): "true", int(predicted): "predicted"}
    bars = [
        (classes[c], float(probabilities[c]), remarks.get(c, ""))
        for c in sorted(map(int, shown), key=likely.index)
    ]
    words = " ".join(text.split())
    if len(words) > EXCERPT:
        head, _, cut = words[:EXCERPT].rpartition(" ")
        words = (head if len(cut) < EXCERPT // 4 else words[:EXCERPT]) + " …"
    title = f"{classes[true]}, predicted as {classes[predicted]}"
    return Case(title, words or "(empty text)", bars)
