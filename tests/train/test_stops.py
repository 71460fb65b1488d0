"""A whole run with stop strings: it trains, and nothing that is read holds one."""

import json

import pytest

from ccpo_jax.train import Trainer
from ccpo_jax.train.build import build
from ccpo_jax.train.team_chat import team_chat
from tests.support.errors import raises_for
from tests.support.runs import brief_run, first_devices, lines_of, rollouts_of

WORDS = {"voter": {"system": "Vote", "stop": ["=", "Answer: 1"]}}


def test_a_run_trains_on_what_stands_before_its_stop_strings(tmp_path):
    changes = {
        "sample.stop": ("7",),
        "response_length": (8,),
        "data.heldout": 0,
        "rollout_log.problems": 2,
        "rollout_log.every": 1,
    }
    config = brief_run(2, **changes)
    trainer = Trainer(config, workdir=tmp_path, prompts=WORDS, devices=first_devices(1))
    trainer.train()
    lines = [line for line in lines_of(tmp_path) if "reward" in line]
    assert len(lines) == 2 and all(line["update/grad_norm/0"] > 0 for line in lines)
    # A response of the embedded model has a "=" behind its first sum, or "Answer: ".
    assert all(line["truncated/0"] < 1 for line in lines)

    texts = []
    for record in rollouts_of(tmp_path):
        for turn in record["turns"]:
            texts += [entry["text"] for entry in turn["texts"]]
    assert len(texts) > 20 and any(texts)
    assert not any(stop in text for text in texts for stop in ("=", "7", "Answer: 1"))
    (chat, *_) = team_chat(trainer.run.team, trainer.run.words)["turns"]
    assert chat["stop"] == ["7", "=", "Answer: 1"]
    assert json.loads((tmp_path / "config.json").read_text())["sample"]["stop"] == ["7"]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"sample.stop": ("é",)}, "never occurs"),
        ({"sample.stop": ("a" * 17,)}, "takes 17 tokens, a response has 16"),
        ({"sample.stop": ("",)}, "empty"),
        ({"sample.stop": ("ab" * 126,)}, "252 bytes"),
    ],
)
def test_a_stop_string_without_effect_is_refused_before_training(changes, words):
    with raises_for("sample.stop") as error:
        build(brief_run(1, **changes), devices=first_devices(1))
    assert words in str(error.value) and "\n" not in str(error.value)
