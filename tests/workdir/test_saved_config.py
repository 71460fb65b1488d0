"""config.json: what a resumed run may change, and what earlier versions wrote."""

import json

import pytest

from ccpo_jax.config import FIELDS, from_flat, parse, parse_field, to_json
from ccpo_jax.workdir.saved_config import (
    check_rate,
    compare_config,
    keep_former_defaults,
    recorded_fields,
    save_config,
    saved_config,
)
from tests.support.errors import raises_for

pytestmark = pytest.mark.fast


def config_of(**fields):
    return parse(from_flat(fields))


def test_steps_may_change_unless_the_learning_rate_decays_over_them(tmp_path):
    fields = {"steps": 10, "optimizer.schedule": "cosine"}
    save_config(config_of(**fields), str(tmp_path), 5)
    with raises_for("config") as error:
        compare_config(config_of(**fields | {"steps": 20}), str(tmp_path))
    assert "steps was 10 and is 20 (the learning rate decays over" in str(error.value)
    assert "\n" not in str(error.value)
    compare_config(config_of(**fields | {"steps": 20, "allow_changes": True}), str(tmp_path))
    # What the schedule was is kept.
    save_config(config_of(**fields | {"steps": 20}), str(tmp_path), 5)
    assert json.loads((tmp_path / "config-until-step-5.json").read_text())["steps"] == 10


@pytest.mark.parametrize("fields", [
    {}, {"optimizer.warmup_steps": 3}, {"optimizer.schedule": "linear", "optimizer.decay_steps": 9},
], ids=str)  # fmt: skip
def test_steps_may_change_where_no_rate_depends_on_them(fields, tmp_path):
    save_config(config_of(steps=10, **fields), str(tmp_path), 5)
    compare_config(config_of(steps=20, **fields), str(tmp_path))


WARM_UP = {"optimizer.warmup_steps": 3}
COSINE = {"optimizer.schedule": "cosine"}


@pytest.mark.parametrize("before,now,field", [
    ({}, COSINE, "optimizer.schedule"),
    ({}, WARM_UP, "optimizer.warmup_steps"),
    (WARM_UP, {}, "optimizer.warmup_steps"),
    (WARM_UP, COSINE, None),
    ({}, {"optimizer.learning_rate": 1e-3}, None),
], ids=str)  # fmt: skip
def test_a_rate_that_stays_cannot_begin_to_vary(before, now, field, tmp_path):
    save_config(config_of(**before), str(tmp_path), 5)
    if field is None:
        check_rate(config_of(**now), str(tmp_path))
        return
    with raises_for(field) as error:
        check_rate(config_of(**now), str(tmp_path))
    assert f"type --config.{field}={before.get(field, FIELDS[field].default)}," in str(error.value)


def test_a_learning_rate_of_an_earlier_version_is_one_for_all_agents(tmp_path):
    config = config_of(**{"optimizer.learning_rate": 2e-4})
    assert config.optimizer.learning_rate == (2e-4,)
    assert to_json(config)["optimizer"]["learning_rate"] == 2e-4
    (tmp_path / "config.json").write_text('{"optimizer": {"learning_rate": 0.0002}}')
    assert saved_config(str(tmp_path)) == config
    compare_config(config, str(tmp_path))

    several = config_of(**{"optimizer.learning_rate": [1e-4, 2e-4]})
    save_config(several, str(tmp_path), 0)
    assert saved_config(str(tmp_path)) == several


@pytest.mark.parametrize("text,rates", [("1e-4", (1e-4,)), ("1e-4,2e-4", (1e-4, 2e-4))])
def test_learning_rates_are_typed_like_other_lists(text, rates):
    assert parse_field("optimizer.learning_rate", text) == rates


@pytest.mark.parametrize("text", ["0", "1e-4,0", "1e-4,-1", "nan", "", "fast"])
def test_what_is_no_learning_rate_is_refused(text):
    with raises_for("optimizer.learning_rate"):
        config_of(**{"optimizer.learning_rate": parse_field("optimizer.learning_rate", text)})


@pytest.mark.parametrize("fields,field", [
    ({"optimizer.floor": 0.1}, "optimizer.floor"),
    ({"optimizer.decay_steps": 10}, "optimizer.decay_steps"),
    ({"optimizer.schedule": "linear", "optimizer.floor": 1.0}, "optimizer.floor"),
    ({"optimizer.schedule": "linear", "optimizer.decay_steps": 4, "optimizer.warmup_steps": 4},
     "optimizer.decay_steps"),
    ({"optimizer.schedule": "exponential"}, "optimizer.schedule"),
    ({"trainer.epochs": 0}, "trainer.epochs"),
], ids=str)  # fmt: skip
def test_schedules_that_cannot_be_are_refused(fields, field):
    with raises_for(field):
        config_of(**fields)


def test_the_documentation_says_when_steps_may_change():
    from ccpo_jax.fields import table_row

    assert table_row(FIELDS["steps"]).endswith(
        "yes; with `allow_changes` where the learning rate decays over all steps of the run |"
    )


def test_a_run_keeps_the_default_of_thinking_that_it_was_started_with(tmp_path, capsys):
    """Before it could be left to the template, it was off, and every run recorded that."""
    path = tmp_path / "config.json"
    command = config_of(model=("some/model",))
    path.write_text(json.dumps(to_json(command) | {"thinking": False}))

    resumed = keep_former_defaults(command, str(tmp_path))
    assert resumed.thinking is False
    assert "started with thinking=False" in capsys.readouterr().err
    compare_config(resumed, str(tmp_path))
    assert "thinking" in recorded_fields(resumed, str(tmp_path))
    assert "thinking" not in recorded_fields(command, str(tmp_path))

    # Another value is a change of the run as any other.
    on = config_of(model=("some/model",), thinking=True)
    assert keep_former_defaults(on, str(tmp_path)) == on
    with raises_for("config"):
        compare_config(on, str(tmp_path))

    # A run of today is left to its template, and says so; the embedded model has no switch.
    path.write_text(json.dumps(to_json(command)))
    assert json.loads(path.read_text())["thinking"] is None
    assert saved_config(str(tmp_path)) == keep_former_defaults(command, str(tmp_path)) == command
    assert keep_former_defaults(command, str(tmp_path / "new")) == command
    path.write_text(json.dumps({"model": ["tiny"], "thinking": False}))
    tiny = config_of(model=("tiny",))
    assert keep_former_defaults(tiny, str(tmp_path)) == tiny == saved_config(str(tmp_path))
