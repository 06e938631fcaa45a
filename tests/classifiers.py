"""Classifiers as the program makes them, for tests that look inside."""

from __future__ import annotations

from rnn_jax import tasks
from rnn_jax.tasks.base import Task


def task_of(config, classes=("a", "b")) -> Task:
    """The task of a config whose data has these classes."""
    return tasks.make(tasks.resolve(config).config, {"classes": tuple(classes)})
