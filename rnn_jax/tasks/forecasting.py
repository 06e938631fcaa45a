"""Forecasting: quantiles of what comes next in time series, learned with the pinball loss."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.config import AdamConfig, Config, InputError
from rnn_jax.data import batching
from rnn_jax.data.arrays import ArrayBatch, ArrayEpochs, ArrayPass
from rnn_jax.data.series import preparation
from rnn_jax.data.series.options import SeriesConfig
from rnn_jax.data.series.preparation import Known, Prepared, Split
from rnn_jax.data.series.windows import Windows
from rnn_jax.models import without_rates
from rnn_jax.models.forecaster import Forecaster, ForecasterConfig, forecaster, forecaster_rates
from rnn_jax.tasks import forecast_report, intervals, recurrent, told
from rnn_jax.tasks.base import (
    MODES,
    Cells,
    Data,
    Facts,
    Held,
    Kind,
    Record,
    Resolved,
    Say,
    Task,
    Tested,
    Trained,
)
from rnn_jax.tasks.forecasts import Forecasts
from rnn_jax.tasks.metrics import Sums
from rnn_jax.types import Array, Params, PRNGKey

SERIES = "series.json"
FACTORS = "calibration"  # among the parameters: float32[horizon, intervals], by how much they widen
NEAR = 1.0  # a step's weight in the loss falls with this power of how far ahead it is
INTERVAL = 0.8  # the interval whose coverage is counted, or that of the quantiles nearest to it


@dataclasses.dataclass(frozen=True)
class ForecastingConfig(Config):
    """An experiment that forecasts time series."""

    task: ClassVar[str] = "forecasting"

    data: SeriesConfig = SeriesConfig()
    model: ForecasterConfig = ForecasterConfig()
    optimizer: AdamConfig = AdamConfig()


class SeriesPass(NamedTuple):
    """Forecasts of a part of the series, in the order of their origins.

    prepared: the series, and what made the windows.
    split: which forecasts.
    batch_size: of a full batch.
    """

    prepared: Prepared
    split: Split
    batch_size: int

    @property
    def examples(self) -> int:
        return len(self.split.origins)

    def batches(self) -> Iterator[tuple[ArrayBatch, np.ndarray]]:
        """Yields (batch, members), members int64[n]."""
        return ArrayPass(self.split.windows, self.batch_size).batches()

    def shown(self, members: np.ndarray) -> dict[str, Any]:
        names = self.prepared.known.names
        return {
            "examples": members.tolist(),
            "series": [names[each] for each in self.split.series[members]],
            "first steps": self.split.origins[members].tolist(),
        }


def kind() -> Kind:
    """The kind of task that forecasts."""
    return Kind(
        config=ForecastingConfig,
        noun="a forecaster",
        facts=_facts,
        read_facts=_read_facts,
        make=_task,
        resolve=_resolve,
        remembers=(SERIES,),
        modes=MODES,
    )


def _resolve(
    config: ForecastingConfig, cells: Cells, environment: Mapping[str, Any], strict: bool
) -> Resolved:
    return recurrent.resolve_kernel(config, cells, environment, strict)


def _facts(config: ForecastingConfig) -> Facts:
    return preparation.facts(config.data)


def _read_facts(values: Any) -> Facts:
    if not isinstance(values, dict) or set(values) != {"seasons", "known"}:
        raise ValueError("expected a JSON object with seasons and known")
    numbers = [*values["seasons"], values["known"]]
    if not all(type(each) is int and 0 <= each < 2**20 for each in numbers) or len(numbers) < 2:
        raise ValueError("seasons and known must be whole numbers")
    return values


def _task(config: ForecastingConfig, facts: Facts, cells: Cells) -> Task:
    # Rates are arguments of the loss: models that differ in nothing else are the same.
    plain = without_rates(config.model, cells, "dropout")
    seasons, ahead, levels = tuple(facts["seasons"]), config.data.ahead, config.model.levels
    horizon = config.data.horizon
    teller = told.teller(plain)
    module = forecaster(plain, config.data.history, horizon, seasons, config.data.lags, cells)
    parts = preparation.layout_of(config.data, seasons)
    low, high = interval(levels)
    # Beside the network's own parameters; no step changes them.
    conformal = config.model.calibration == "conformal"
    as_learned = {FACTORS: jnp.ones((horizon, intervals.pairs(levels)))} if conformal else {}

    def init(key: PRNGKey) -> Params:
        drawn = module.init(
            key,
            jnp.zeros((1, parts.reach)),
            jnp.ones((1, parts.reach), bool),
            jnp.zeros((1, parts.history + horizon, facts["known"])),
            jnp.ones((1, horizon)),
            jnp.zeros((1, horizon, config.data.smoothed)),
        )["params"]
        return {**drawn, **as_learned}

    def measured(
        params: Params, batch: ArrayBatch, widen: Callable[[Array], Array], **noise: Any
    ) -> tuple[Array, Sums, Array]:
        apply = functools.partial(teller.apply, module)
        found, heard = _applied(module, apply, params, batch.arrays, **noise)
        quantiles = widen(found.quantiles)
        came = jnp.asarray(batch.arrays.values)[:, parts.reach :]
        counted = jnp.asarray(batch.arrays.seen)[:, parts.reach :]
        counted &= (jnp.asarray(batch.weights) > 0)[:, None]
        typical = jnp.asarray(batch.arrays.typical)
        losses = pinball(quantiles, came, levels)
        # Rows that only fill a batch have a typical error of 0.
        shares = lead_weights(horizon) / jnp.where(counted, typical, 1)
        weighed = jnp.where(counted, losses * shares, 0)
        errors = jnp.where(counted, jnp.abs(came - quantiles[..., levels.index(0.5)]), 0)
        inside = (came >= quantiles[..., low]) & (came <= quantiles[..., high]) & counted
        sums = {
            "loss": jnp.sum(weighed),
            "examples": jnp.sum(jnp.asarray(batch.weights) > 0, dtype=jnp.int32),
            "covered": jnp.sum(inside, dtype=jnp.int32),
        }
        for steps in ahead:
            sums[f"error_{steps}"] = jnp.sum(errors[:, :steps])
            sums[f"steps_{steps}"] = jnp.sum(counted[:, :steps], dtype=jnp.int32)
        mean = sums["loss"] / jnp.maximum(sums["examples"], 1)
        return mean, sums | teller.sums(heard, jnp.asarray(batch.weights) > 0), quantiles

    def loss(
        params: Params, carry: None, batch: ArrayBatch, key: PRNGKey, rates: Any
    ) -> tuple[Array, tuple[None, Sums]]:
        noise = {"rates": rates, "deterministic": False, "rngs": {"dropout": key}}
        mean, sums, _ = measured(params, batch, lambda quantiles: quantiles, **noise)
        return mean, (carry, sums)

    def evaluate(params: Params, carry: None, batch: ArrayBatch) -> tuple[None, Sums, Array]:
        _, sums, quantiles = measured(params, batch, functools.partial(_widened, params))
        return carry, sums, quantiles

    def calibrate(
        params: Params, say: Callable[[Params], np.ndarray], validation: SeriesPass
    ) -> Params:
        plain = {**params, **as_learned}
        came = forecast_report.scaled_came(validation.prepared, validation.split)
        origins = validation.split.origins
        return {**plain, FACTORS: jnp.asarray(intervals.factors(say(plain), came, origins, levels))}

    def means(sums: Mapping[str, Any]) -> dict[str, float]:
        found = {"loss": float(sums["loss"]) / max(int(sums["examples"]), 1)}
        for steps in ahead:
            count = int(sums[f"steps_{steps}"])
            name = "MASE" if steps == horizon else f"MASE_{steps}"
            found[name] = float(sums[f"error_{steps}"]) / count if count else float("nan")
        covered, count = int(sums["covered"]), int(sums[f"steps_{horizon}"])
        return found | {"coverage": covered / count if count else float("nan")}

    def pass_of(prepared: Prepared, split: Split) -> SeriesPass:
        return SeriesPass(prepared, split, config.train.batch_size)

    def prepare(say: Say, remembered: Mapping[str, str] | None) -> Data:
        known = known_of(remembered) if remembered else None
        found = preparation.prepare(config.data, known)
        return Data(
            digest=preparation.digest(found.found),
            remembered={SERIES: found.known.to_json()},
            epochs=ArrayEpochs(found.train.windows, batching.dealing(config.train)),
            validation=pass_of(found, found.validation),
            test=pass_of(found, found.test),
        )

    def test(remembered: Mapping[str, str]) -> SeriesPass:
        found = preparation.prepare(config.data, known_of(remembered))
        return pass_of(found, found.test)

    def result(record: Record) -> str:
        nearer = ", ".join(f"{steps}: {record[f'MASE_{steps}']:.3f}" for steps in ahead[:-1])
        return (
            f"test MASE {record['MASE']:.3f}  coverage {record['coverage']:.3f}  "
            f"({config.data.source}, {horizon} steps ahead{'; ' if nearer else ''}{nearer}; "
            f"season {seasons[-1]}, {record['examples']} origins)"
        )

    def sections(tested: Tested) -> list[Any]:
        test: Any = tested.data.test
        return forecast_report.sections(
            np.stack(list(tested.outputs)), test.prepared, test.split, ahead, levels
        )

    def details(outputs: np.ndarray, test: SeriesPass) -> list[str]:
        return forecast_report.lines(
            np.stack(list(outputs)), test.prepared, test.split, ahead, levels
        )

    def predictor(trained: Trained) -> Forecasts:
        known = known_of(trained.remembered)

        def said(windows: Windows) -> Array:
            found = _applied(module, module.apply, trained.params, windows)
            return _widened(trained.params, found.quantiles)

        return Forecasts(said, known, config.data, parts, levels)

    task = Task(
        key=recurrent.key_of(module, facts["known"], ahead, config.data.smoothed, conformal),
        facts=facts,
        init=init,
        loss=loss,
        evaluate=evaluate,
        rates=forecaster_rates(config.model),
        held=_held(init) if conformal else None,
        sums=_like_sums(ahead),
        means=means,
        flow=("encoder", "decoder", "head_state", "head_ahead", "head_hidden", "head", FACTORS),
        examples="windows",
        headline=("MASE", "coverage"),
        prepare=prepare,
        test=test,
        result=result,
        details=details,
        calibrate=calibrate if conformal else None,
        sections=sections,
        predictor=predictor,
        answer=_no_text,
        onwards=lambda predictor, file: predictor.lines(file),
    )
    return teller.reporting(task)


def pinball(quantiles: Array, came: Array, levels: tuple[float, ...]) -> Array:
    """Twice the mean pinball loss of the quantiles, float32[batch, horizon]; of the median alone it
    would be the absolute error.

    Koenker and Bassett 1978, https://doi.org/10.2307/1913643.

    Args:
      quantiles: float32[batch, horizon, levels].
      came: float32[batch, horizon], what they are quantiles of.
      levels: which ones.
    """
    asked = jnp.asarray(levels, jnp.float32)
    off = came[..., None] - quantiles
    return 2 * jnp.mean(jnp.maximum(asked * off, (asked - 1) * off), axis=-1)


def lead_weights(horizon: int) -> np.ndarray:
    """float32[horizon]: how much each step ahead counts in the loss; they sum up to 1."""
    weights = np.arange(1, horizon + 1, dtype=np.float64) ** -NEAR
    return (weights / weights.sum()).astype(np.float32)


def interval(levels: tuple[float, ...]) -> tuple[int, int]:
    """The places of the two quantiles between which four fifths lie, or nearest to that."""
    pairs = [(place, len(levels) - 1 - place) for place in range(levels.index(0.5))]
    return min(pairs, key=lambda pair: abs(levels[pair[1]] - levels[pair[0]] - INTERVAL))


def known_of(remembered: Mapping[str, str]) -> Known:
    """What a run remembers of its series.

    Raises:
      InputError: nothing, or it is damaged.
    """
    if SERIES not in remembered:
        raise InputError(f"the run's {SERIES} is missing")
    try:
        return preparation.known_of(remembered[SERIES])
    except InputError as error:
        raise InputError(f"the run's {SERIES} cannot be used: {error}") from error


def _widened(params: Params, quantiles: Array) -> Array:
    """Quantiles as the validation part has shown that they should be, if it was asked."""
    return intervals.calibrated(quantiles, params[FACTORS]) if FACTORS in params else quantiles


def _applied(
    module: Forecaster,
    apply: Callable[..., Any],
    params: Params,
    windows: Windows,
    rates: Any = None,
    **noise: Any,
) -> Any:
    """What a module's `apply` makes of windows; what came is not looked at."""
    own = {name: each for name, each in params.items() if name != FACTORS}
    variables = {"params": own} if rates is None else {"params": own, "rates": rates}
    reach = windows.values.shape[1] - module.horizon
    values, seen, known, typical, smoothed = (jnp.asarray(each) for each in windows)
    # Rows that only fill a batch are zeros.
    typical = jnp.where(typical > 0, typical, 1)
    before = (values[:, :reach], seen[:, :reach])
    return apply(variables, *before, known, typical, smoothed, **noise)


def _held(init: Callable[[PRNGKey], Params]) -> Held:
    shapes = jax.eval_shape(init, jax.random.key(0))
    return Held({name: jax.tree.map(lambda _, own=name == FACTORS: own, tree)
                 for name, tree in shapes.items()}, None)  # fmt: skip


def _like_sums(ahead: tuple[int, ...]) -> Any:
    counts = {f"steps_{steps}": jnp.int32(0) for steps in ahead}
    errors = {f"error_{steps}": jnp.float32(0) for steps in ahead}
    whole = {"loss": jnp.float32(0), "examples": jnp.int32(0), "covered": jnp.int32(0)}
    return whole | counts | errors


def _no_text(predictor: Any, text: str) -> dict[str, Any]:
    raise InputError(
        "a forecaster reads no text: leave --text out to go on from the end of the run's series, "
        "or give --file=FILE to go on from another"
    )
