"""Optuna with PyTorch: a worker of `sweep.py`. All trials in one process.

The study is told which trials to make, so that the same ones are compared. Variants: those of
`torch_worker.py`; as documented, trials come one after the other, else there is one at a time for
each processor, in a thread of its own (`n_jobs`), which is faster for small models.
"""

from __future__ import annotations

import os

import optuna
import sweeping
import torch
from torch_worker import Trainer


def search(asked: sweeping.Search, log: sweeping.Log) -> None:
    seeds = [point["seed"] for point in asked.points]
    if not asked.job.own_batches:
        log.at_once = len(os.sched_getaffinity(0))
        torch.set_num_threads(1)

    def objective(trial: optuna.Trial) -> float:
        point = {
            "learning_rate": trial.suggest_float("learning_rate", *asked.bounds, log=True),
            "seed": trial.suggest_int("seed", min(seeds), max(seeds)),
        }
        trainer = Trainer(asked.job_of(point))
        accuracy = 0.0
        for epoch in range(asked.epochs):
            trainer.train(trainer.prepare(epoch))
            accuracy = trainer.evaluate()
            trial.report(accuracy, epoch)
        weight = trainer.model.head.weight
        log.ended(point, accuracy, int(trainer.optimizers[-1].state[weight]["step"]))
        return accuracy

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for point in asked.points[: asked.trials]:
        study.enqueue_trial(point)
    study.optimize(objective, n_trials=asked.trials, n_jobs=log.at_once)


if __name__ == "__main__":
    sweeping.serve(search, ("optuna", "torch"))
