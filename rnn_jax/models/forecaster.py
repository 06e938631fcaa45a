"""A recurrent forecaster: it reads a history, and says quantiles of what comes, all steps at once.

An encoder reads the history: scaled values, how far they are from earlier seasons, and what is
known ahead. For each step ahead a small network reads what the encoder found, what is known of that
step, how far ahead it is and how much the series moved of late (a direct head, as in Wen et al.
2017, "A multi-horizon quantile recurrent forecaster", https://arxiv.org/abs/1711.11053), or the
outputs of a second recurrent network that goes on from the encoder's state (decoder=recurrent). It
gives

    median_h = sum_j w_hj c_hj + a_h . d + u_h s_h

the weights w of simple forecasts c (`rnn_jax.models.simple_forecasts`, and those of exponential
smoothing, `rnn_jax.data.series.smoothing`), which are a softmax; a
linear path a from the last differences d, as the autoregressive path of Lai et al. 2018,
https://arxiv.org/abs/1703.07015; and a free part s in units of the typical error, which fades with
the lead over the shortest season (u_h): farther ahead simple forecasts mixed are safer. The other
quantiles are the median plus and minus sums of positive steps, so that none cross.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.config import InputError, option
from rnn_jax.models import recurrent, simple_forecasts
from rnn_jax.models.recurrent import RecurrentConfig
from rnn_jax.nn.noise import dropout, module_rate, rate_array
from rnn_jax.types import Array, Cell

DECAYS = (1.0, 4.0, 16.0, 64.0, 256.0)  # steps over which what is known of a lead falls
BY_LEAD = 10.0  # how much faster than the network that is learned which depends on the lead alone
SMOOTHED = 2.0  # how much above the others' logits those of smoothed forecasts start
STILL = 0.01  # a mean change, scaled, below which a series counts as still
_NEVER = -1e9  # a logit of a forecast that cannot be made


@dataclasses.dataclass(frozen=True)
class ForecasterConfig(RecurrentConfig):
    """A recurrent forecaster."""

    decoder: str = option(
        "direct",
        "what goes over the steps ahead: direct (each step by itself) or recurrent (a second "
        "network of the same cells, from the encoder's state)",
        choices=("direct", "recurrent"),
    )
    quantiles: str = option(
        "0.05,0.1,0.25,0.5,0.75,0.9,0.95",
        "the quantiles that are learned, rising, by commas; 0.5 among them, and with each its "
        "counterpart (0.1 and 0.9)",
    )
    width: int = option(64, "units of the head's hidden layer", minimum=1, below=2**16)
    differences: int = option(
        2, "last differences that the linear path reads (0: no such path)", minimum=0, below=1000
    )
    calibration: str = option(
        "conformal",
        "conformal: the best epoch's intervals are made as wide as the validation part asks for, "
        "where it holds enough forecasts; none: they stay as they were learned",
        choices=("conformal", "none"),
    )
    dropout: float = option(
        0.0, "share of the head's inputs and units that training drops", minimum=0.0, below=1.0
    )

    @property
    def levels(self) -> tuple[float, ...]:
        """The quantiles."""
        return levels_of(self.quantiles)

    def check(self) -> None:
        self.levels  # noqa: B018, it checks itself


def levels_of(text: str) -> tuple[float, ...]:
    """The quantiles that an option lists by commas.

    Raises:
      InputError: it lists something else.
    """
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if (
        len(found) < 3
        or not all(0 < level < 1 for level in found)
        or not all(one < other for one, other in itertools.pairwise(found))
        or 0.5 not in found
        or any(min(abs(1 - level - other) for other in found) > 1e-9 for level in found)
    ):
        raise InputError(
            "--config.model.quantiles must be numbers between 0 and 1 by commas, rising, 0.5 among "
            f"them, and with each its counterpart, such as 0.1,0.5,0.9, not {text!r}"
        )
    return found


class Said(NamedTuple):
    """What a forecaster says.

    quantiles: float32[batch, horizon, levels], scaled, none below the one before.
    weights: float32[batch, horizon, forecasts], of the simple forecasts; they sum up to 1.
    """

    quantiles: Array
    weights: Array


class Forecaster(nn.Module):
    """See the module's docstring.

    Attributes:
      encoder: a layer, `(inputs) -> (carry, outputs)`.
      decoder: one more, which goes on from its carry; None for a direct head.
      history, horizon: steps that are read, and forecast.
      seasons, lags: of the simple forecasts.
      levels: the quantiles, rising, 0.5 among them.
      width: units of the head's hidden layer.
      differences: last differences that the linear path reads.
      dropout: share that training drops; the collection "rates" may have another
        (`rnn_jax.nn.noise.module_rate`).
    """

    encoder: nn.Module
    decoder: nn.Module | None
    history: int
    horizon: int
    seasons: tuple[int, ...]
    lags: int
    levels: tuple[float, ...]
    width: int = 64
    differences: int = 2
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self,
        values: Array,
        seen: Array,
        known: Array,
        typical: Array,
        smoothed: Array,
        deterministic: bool = True,
    ) -> Said:
        """The quantiles of what comes.

        Args:
          values: float32[batch, reach], scaled; what is not seen may be anything finite.
          seen: bool[batch, reach].
          known: float32[batch, history + horizon, features], what is known ahead.
          typical: float32[batch, horizon], how large errors of simple forecasts are.
          smoothed: float32[batch, horizon, n], more simple forecasts; NaN where none can be made.
          deterministic: no dropout; otherwise needs the random stream "dropout".
        """
        values = jnp.where(seen, values, 0)
        simple = simple_forecasts.simple_forecasts(
            values, seen, self.seasons, self.lags, self.horizon
        )
        made = jnp.isfinite(smoothed)
        simple = simple._replace(
            values=jnp.concatenate([simple.values, jnp.where(made, smoothed, 0)], axis=-1),
            made=jnp.concatenate([simple.made, made], axis=-1),
        )
        residuals = [_residuals(values, seen, season, self.lags) for season in self.seasons]
        count = jnp.maximum(jnp.sum(simple.made, axis=-1), 1)
        middle = jnp.sum(simple.values, axis=-1) / count
        off = jnp.where(simple.made, jnp.square(simple.values - middle[..., None]), 0)
        spread = jnp.sqrt(jnp.sum(off, axis=-1) / count + 1e-12)

        moves = _moves(values, seen, self.seasons[0])[:, None]
        inputs = self._history(values, seen, known, residuals)
        carry, outputs = self.encoder(inputs, deterministic=deterministic)
        ahead = jnp.concatenate(
            [
                known[:, self.history :],
                jnp.broadcast_to(_lead(self.horizon), (len(values), *_lead(self.horizon).shape)),
                _squashed(jnp.stack([middle, middle - simple.last[:, None], spread], axis=-1)),
                jnp.log(typical)[..., None],
                jnp.broadcast_to(moves, (len(values), self.horizon, moves.shape[-1])),
            ],
            axis=-1,
        )
        if self.decoder is None:
            found = outputs[:, -1:]
        else:
            _, found = self.decoder(ahead, initial=carry, deterministic=deterministic)
        found, ahead = (self._dropped(each, deterministic) for each in (found, ahead))
        hidden = nn.relu(
            nn.Dense(self.width, name="head_state")(found)
            + nn.Dense(self.width, use_bias=False, name="head_ahead")(ahead)
        )
        hidden = nn.relu(nn.Dense(self.width, name="head_hidden")(hidden))
        hidden = self._dropped(hidden, deterministic)
        forecasts, below = simple.values.shape[-1], self.levels.index(0.5)
        said = nn.Dense(
            forecasts + len(self.levels), kernel_init=nn.initializers.zeros, name="head"
        )(hidden)
        # What depends on the lead alone is learned first, and by itself.
        by_lead = self.param("by_lead", nn.initializers.zeros, (_lead(1).shape[1], said.shape[-1]))
        said += BY_LEAD * (jnp.asarray(_lead(self.horizon)) @ by_lead)
        logits, free, steps = jnp.split(said, [forecasts, forecasts + 1], axis=-1)
        prior = np.zeros(forecasts, np.float32)
        prior[forecasts - smoothed.shape[-1] :] = SMOOTHED
        weights = jax.nn.softmax(jnp.where(simple.made, logits + prior, _NEVER), axis=-1)
        fading = np.exp(-np.arange(self.horizon) / self.seasons[0]).astype(np.float32)
        median = jnp.sum(weights * simple.values, axis=-1) + typical * fading * free[..., 0]
        if self.differences:
            median += self._linear(values, seen, residuals)
        steps = jax.nn.softplus(steps) * typical[..., None]
        down = -jnp.cumsum(steps[..., :below][..., ::-1], axis=-1)[..., ::-1]
        up = jnp.cumsum(steps[..., below:], axis=-1)
        parts = [down, jnp.zeros_like(median)[..., None], up]
        return Said(median[..., None] + jnp.concatenate(parts, axis=-1), weights)

    def _history(
        self, values: Array, seen: Array, known: Array, residuals: list[tuple[Array, Array]]
    ) -> Array:
        """What the encoder reads: float32[batch, history, features]."""
        last = slice(-self.history, None)
        columns = [values[:, last], seen[:, last].astype(jnp.float32)]
        columns += [off[:, last] for off, _ in residuals]
        return jnp.concatenate(
            [_squashed(jnp.stack(columns, axis=-1)), known[:, : self.history]], axis=-1
        )

    def _linear(self, values: Array, seen: Array, residuals: list[tuple[Array, Array]]) -> Array:
        """The linear path: float32[batch, horizon]."""
        count, read = min(self.differences, values.shape[1] - 1), []
        for numbers, there in [(values, seen), *residuals]:
            numbers, there = numbers[:, -count - 1 :], there[:, -count - 1 :]
            both = there[:, 1:] & there[:, :-1]
            read.append(jnp.where(both, numbers[:, 1:] - numbers[:, :-1], 0))
        table = self.param("linear", nn.initializers.zeros, (len(DECAYS), count * len(read)))
        falls = jnp.asarray(_falls(self.horizon))
        return jnp.einsum("hd,df,bf->bh", falls, table, jnp.concatenate(read, axis=-1))

    def _dropped(self, values: Array, deterministic: bool) -> Array:
        rate = None if deterministic else module_rate(self, "dropout")
        return values if rate is None else dropout(self.make_rng("dropout"), values, rate)


def _residuals(values: Array, seen: Array, season: int, lags: int) -> tuple[Array, Array]:
    """How far values are from the mean of earlier seasons, and where that can be said:
    float32 and bool[batch, reach]; never where the window holds no earlier season."""
    sums, counts = jnp.zeros_like(values), jnp.zeros_like(values)
    for lag in range(1, lags + 1):
        shift = [(0, 0), (season * lag, 0)]
        sums += jnp.pad(values, shift)[:, : values.shape[1]]
        counts += jnp.pad(seen, shift)[:, : values.shape[1]]
    there = seen & (counts > 0)
    return jnp.where(there, values - sums / jnp.maximum(counts, 1), 0), there


def _moves(values: Array, seen: Array, season: int) -> Array:
    """How much the series moved of late, from step to step and from season to season, over a
    quarter of a season, a season and all that is known: logarithms of mean absolute changes,
    float32[batch, 6]; 0 where nothing can be compared."""
    found = []
    for lag in (1, season):
        both = seen[:, lag:] & seen[:, :-lag]
        off = jnp.where(both, jnp.abs(values[:, lag:] - values[:, :-lag]), 0)
        for span in (max(season // 4, 1), season, both.shape[1]):
            count = jnp.sum(both[:, -span:], axis=1)
            mean = jnp.sum(off[:, -span:], axis=1) / jnp.maximum(count, 1)
            found.append(jnp.where(count > 0, jnp.log(mean + STILL), 0))
    return jnp.stack(found, axis=-1)


def _squashed(values: Array) -> Array:
    """Large values drawn together, small ones as they are: sign(x) log(1 + |x|)."""
    return jnp.sign(values) * jnp.log1p(jnp.abs(values))


def _falls(horizon: int) -> np.ndarray:
    """float32[horizon, decays]: exponentials of the lead, 1 at the first step."""
    leads = np.arange(horizon, dtype=np.float32)
    return np.exp(-leads[:, None] / np.array(DECAYS, np.float32))


def _lead(horizon: int) -> np.ndarray:
    """float32[horizon, features]: how far ahead a step is."""
    leads = np.arange(1, horizon + 1, dtype=np.float32)
    whole = np.stack([leads / horizon, np.log(leads) / 4], axis=1)
    return np.concatenate([_falls(horizon), whole], axis=1)


def forecaster(
    config: ForecasterConfig,
    history: int,
    horizon: int,
    seasons: tuple[int, ...],
    lags: int,
    cells: Mapping[str, Callable[[Any], Cell]] = MappingProxyType({}),
) -> Forecaster:
    """The forecaster that a config describes.

    Args:
      config: the options; the kernel is one that can run the cell.
      history, horizon, seasons, lags: as for `Forecaster`.
      cells: those of the experiment, beside `rnn_jax.models.CELLS`.

    Raises:
      InputError: there is no such cell.
    """
    stack = lambda: recurrent.stack(config, cells)
    return Forecaster(
        encoder=stack(),
        decoder=stack() if config.decoder == "recurrent" else None,
        history=history,
        horizon=horizon,
        seasons=tuple(seasons),
        lags=lags,
        levels=config.levels,
        width=config.width,
        differences=config.differences,
        dropout=config.dropout,
    )


def forecaster_rates(config: ForecasterConfig) -> dict[str, Any]:
    """The rates of a config's forecaster as arrays, None where they are 0: its collection
    "rates"."""
    layers = recurrent.stack_rates(config)
    return {"dropout": rate_array(config.dropout), "encoder": layers, "decoder": layers}
