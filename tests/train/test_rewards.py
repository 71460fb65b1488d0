"""Training on rewards of the user's: from a file, with the whole row, saved where one fails."""

import pytest

from ccpo_jax import cli
from ccpo_jax.errors import RewardError
from ccpo_jax.train import train
from tests.support.runs import brief_run, first_devices, lines_of

REWARD = """
import os

def score(answer, problem):
    if os.path.exists({flag!r}):
        raise ValueError("the flag is up")
    return 0.25 + 0.5 * (problem["answer"] in answer), answer[-2:]

def verl(data_source, solution_str, ground_truth, extra_info):
    return {{"score": -1.0, "length": len(solution_str)}}
"""


@pytest.fixture
def rewards(tmp_path):
    (tmp_path / "reward.py").write_text(REWARD.format(flag=str(tmp_path / "flag")))
    return tmp_path / "reward.py"


def test_a_run_whose_reward_fails_ends_saved_and_goes_on_from_there(rewards, tmp_path, capsys):
    flag = tmp_path / "flag"
    changes = {
        "verifier.name": f"0.5*exact + 0.4*{rewards}:score + 0.1*{rewards}:verl",
        "verifier.range": (-0.1, 1.0),
    }

    def raise_flag(metrics, batch):
        if metrics["reward"] and batch.graded[0].parts["score"][0] is not None:
            flag.touch()

    with pytest.raises(RewardError) as error:
        train(
            brief_run(2, **changes),
            str(tmp_path / "run"),
            on_step=raise_flag,
            devices=first_devices(1),
        )
    assert "saved after step 1 of 2, where the same command resumes" in str(error.value)
    assert "a change of the function's file with --config.allow_changes=True" in str(error.value)
    assert "the flag is up" in str(error.value) and "\n" not in str(error.value)
    assert [line["step"] for line in lines_of(tmp_path / "run")] == [0, 1]

    flag.unlink()
    train(brief_run(2, **changes), str(tmp_path / "run"), devices=first_devices(1))
    lines = lines_of(tmp_path / "run")
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert all(line["verifier/failed/score"] == 0 for line in lines[1:])
    train(brief_run(2, **changes), str(tmp_path / "whole"), devices=first_devices(1))
    assert lines_of(tmp_path / "whole") == lines, "as if nothing had happened"
    capsys.readouterr()


def test_a_reward_that_fails_is_one_line_and_an_exit_status(capsys):
    def run():
        raise RewardError("verifier.name: it failed")

    assert cli.exit_status(run) == 1
    assert capsys.readouterr().err == "error: verifier.name: it failed\n"
