import dataclasses
import json

import pytest

from rnn_jax import Config, ModelConfig
from rnn_jax import config as config_lib
from rnn_jax.cells.initializers import INITIALIZERS
from rnn_jax.config import InputError, replace


def test_every_option_has_help_and_a_legal_default():
    config_lib.check(Config())
    for name, field, _ in config_lib.options(Config()):
        assert field.metadata["help"], name


def test_every_initializer_can_be_chosen():
    (field,) = (field for field in dataclasses.fields(ModelConfig) if field.name == "initializer")
    assert set(field.metadata["choices"]) == set(INITIALIZERS)


def test_a_config_survives_json():
    config = config_lib.replace(
        Config(experiment="x"), {"train.epochs": 3, "model.masked": False, "data.field": "title"}
    )
    assert (
        config_lib.from_dict(Config, json.loads(json.dumps(config_lib.to_dict(config)))) == config
    )


def test_replace_changes_nothing_else():
    changed = config_lib.replace(Config(), {"optimizer.clip_norm": 5.0})
    assert config_lib.differences(Config(), changed) == ["optimizer.clip_norm: 10.0 -> 5.0"]
    assert dataclasses.replace(Config(), optimizer=changed.optimizer) == changed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.hiden": 3}, "did you mean 'model.hidden'"),
        ({"model.hidden": 0}, "--config.model.hidden must be at least 1, not 0"),
        ({"model.hidden": "8"}, "must be of type int, not '8'"),
        ({"model.hidden": True}, "must be of type int, not True"),
        ({"model.dropout": 1.0}, "must be below 1.0"),
        ({"model.pooling": "sum"}, "must be one of last, mean, max"),
        ({"model.pooling": "meen"}, "did you mean 'mean'"),
        ({"optimizer.learning_rate": float("nan")}, "must be a finite number"),
        ({"optimizer.learning_rate": float("inf")}, "must be a finite number"),
        ({"optimizer.learning_rate": 1e39}, "must be a finite number in float32"),
        ({"optimizer.learning_rate": 10**400}, "must be a finite number in float32"),
        ({"optimizer.b1": 1 - 1e-9}, "must be below 1.0, not 0.999999999"),  # 1 in float32
        ({"train.epochs": 10**400}, "must be below 2147483648, not 1000"),
        ({"data.data_dir": "a\0b"}, "must be text in UTF-8 without control characters"),
        ({"data.data_dir": "a\udcffb"}, "must be text in UTF-8 without control characters"),
    ],
)
def test_illegal_values_are_named(changes, message):
    with pytest.raises(InputError, match=message):
        config_lib.replace(Config(), changes)


@pytest.mark.parametrize(
    "values", [[], {"data": 3}, {"nothing": {}}, {"data": {"nothing": 1}}, {"experiment": 3}]
)
def test_a_config_file_of_another_shape_is_refused(values):
    with pytest.raises(InputError):
        config_lib.from_dict(Config, values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer.weight_decay": 0.1}, "needs --config.optimizer.weight_decay=0, not 0.1; "),
        ({"optimizer.b1": 0.9995}, "needs --config.optimizer.b1 of at most 0.999, not 0.9995; "),
        (
            {"optimizer.b1": 0.95, "optimizer.b2": 0.95},
            "needs --config.optimizer.b2 of at least 0.9945 with b1=0.95, not 0.95; ",
        ),
        (
            {"optimizer.b1": 0.0, "optimizer.b2": 0.0},
            "needs --config.optimizer.b2 of at least 0.89",
        ),
    ],
)
def test_delayed_updates_need_a_closed_form(changes, message):
    late = replace(Config(), {"optimizer.embedding_update": "delayed"})
    replace(late, {"optimizer.b1": 0.99, "optimizer.b2": 0.999})  # is fine
    with pytest.raises(InputError, match=f"=delayed {message}.*embedding_update=dense"):
        replace(late, changes)
    assert replace(late, changes | {"optimizer.embedding_update": "touched"})


@pytest.mark.parametrize(
    ("changes", "got"),
    [
        ({"model.masked": False}, "nomasked and mean"),
        ({"model.pooling": "last"}, "masked and last"),
    ],
)
def test_packing_needs_a_masked_model_that_pools_over_steps(changes, got):
    config = Config(model=ModelConfig(masked=True, pooling="mean"))
    packed = replace(config, {"data.pack": True})
    assert replace(packed, {"model.pooling": "max"}).data.pack
    with pytest.raises(InputError, match=f"--config.data.pack needs .* not {got}; .*--noconfig"):
        replace(packed, changes)
