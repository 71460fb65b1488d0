"""Dynamic sampling: which groups a step draws, keeps, discards and fills up with; and that it resumes."""

import json
import re

import jax
import numpy as np
import pytest

from ccpo_jax import Outcome, agent_masks
from ccpo_jax.config import parse
from ccpo_jax.data import Problem, batch_at
from ccpo_jax.report.legend import meaning
from ccpo_jax.rl.topology import voting
from ccpo_jax.rl.types import Samples
from ccpo_jax.rollout import Rollout, Turn
from ccpo_jax.sampler import Prompts
from ccpo_jax.train import Trainer, train
from ccpo_jax.train.drawing import ShortBatches, draw_groups, is_informative
from ccpo_jax.train.rollouts import Collected
from tests.support.errors import raises_for
from tests.support.runs import brief_run, first_devices, lines_of, rollouts_of
from tests.support.stubs import POLICY
from tests.support.teams import team_of

TEAM = team_of(voting(1), policy=POLICY)
KEY = jax.random.key(3)


def batch_of(position: int, rewards) -> Collected:
    """A batch whose problems are named position/0, position/1, ..., with the rewards ``[B][G]``."""
    reward = np.array(rewards, np.float32)
    shape = reward.shape
    count = np.ones(shape, np.int32)
    prompts = Prompts(np.zeros((shape[0], 2), np.int32), count[:, 0], np.zeros((*shape, 0)), count)
    samples = Samples(np.zeros((*shape, 3)), np.zeros((*shape, 3)), count, count > 1)
    texts = [[f"{position}/{b}"] * shape[1] for b in range(shape[0])]
    masks = agent_masks(1, ())
    return Collected(
        problems=[Problem(f"{position}/{b}", "", "", "math") for b in range(shape[0])],
        rollouts=Rollout((Turn(prompts, samples, texts, (0,), (shape[1],)),), masks),
        graded=texts,
        outcome=Outcome(reward[None], reward[None, ..., None], count[None, ..., None], masks),
        metrics={"verifier/no_answer": 1.0, "time/rollout": 2.0},
    )


SILENT = [0, 0]
SOLVED = [1, 1]
LOUD = [1, 0]


def drawn_from(stream, max_draws: int, first: int = 0):
    """What a step draws from a stream of batches of rewards; and the keys of its draws."""
    keys = []

    def draw(position, key):
        keys.append(tuple(jax.random.key_data(key).tolist()))
        return batch_of(position, stream[position])

    def informative(collected):
        return np.ptp(collected.outcome.reward[0], axis=-1) > 0

    drawn = draw_groups(draw, informative, TEAM, KEY, first=first, max_draws=max_draws)
    return drawn, keys


def names(collected: Collected) -> list[str]:
    return [problem.id for problem in collected.problems]


def test_a_step_draws_on_until_its_batch_is_full_and_drops_the_surplus():
    stream = [[LOUD] * 3, [LOUD, SILENT, SOLVED], [SOLVED, LOUD, SILENT], [LOUD] * 3]
    drawn, keys = drawn_from(stream, 8, first=1)
    assert names(drawn.kept) == ["1/0", "2/1", "3/0"]
    assert names(drawn.everything) == [f"{draw}/{b}" for draw in (1, 2, 3) for b in range(3)]
    assert drawn.draws == 3
    expected = {"draws": 3, "discarded_groups": 6, "surplus_groups": 2, "filled_groups": 0}
    assert drawn.metrics == expected

    kept = drawn.kept
    assert kept.rollouts.turns[0].texts == kept.graded == [[name] * 2 for name in names(kept)]
    assert kept.outcome.reward.tolist() == [[LOUD] * 3]
    # What was done for all groups adds up.
    assert kept.metrics == {"verifier/no_answer": 3.0, "time/rollout": 6.0}
    assert drawn.everything.rollouts.decoded_tokens == 18
    assert len(set(keys)) == 3 and keys[0] == tuple(jax.random.key_data(KEY).tolist())


def test_the_bound_holds_and_uninformative_groups_fill_the_batch_up_in_the_order_drawn():
    stream = [[SILENT, SILENT, LOUD, SILENT], [SILENT, LOUD, SILENT, SILENT]]
    drawn, _ = drawn_from(stream, 2)
    assert names(drawn.kept) == ["0/0", "0/1", "0/2", "1/1"]
    expected = {"draws": 2, "discarded_groups": 4, "surplus_groups": 0, "filled_groups": 2}
    assert drawn.metrics == expected


@pytest.mark.parametrize("max_draws", [1, 4])
def test_a_first_draw_that_suffices_is_the_ordinary_batch_itself(max_draws):
    stream = [[LOUD] * 3] if max_draws > 1 else [[SILENT] * 3]
    drawn, keys = drawn_from(stream, max_draws)
    assert drawn.kept is drawn.everything and names(drawn.kept) == ["0/0", "0/1", "0/2"]
    assert keys == [tuple(jax.random.key_data(KEY).tolist())]
    assert bool(drawn.metrics) == (max_draws > 1)


def test_a_group_informs_where_any_agent_that_trains_has_an_advantage():
    advantage = np.zeros((2, 4, 2), np.float32)
    advantage[0, 1] = [1, -1]
    advantage[1, 2] = [-1e-9, 0]
    advantage[1, 3] = [np.nan, 0]
    assert is_informative(advantage, (0, 1)).tolist() == [False, True, True, True]
    assert is_informative(advantage, (0,)).tolist() == [False, True, False, False]


def test_short_batches_are_announced_ever_more_rarely(capsys):
    notice = ShortBatches(8)
    notice.report(1, {"reward": 1.0})
    notice.report(2, {"draws": 1.0, "filled_groups": 0.0})
    for step in range(3, 12):
        notice.report(step, {"draws": 4.0, "filled_groups": 3.0})
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == (
        "step 3: only 5 of 8 groups were informative after 4 draws (sample.max_draws)"
    )
    assert [int(re.match(r"step (\d+)", line)[1]) for line in lines] == [3, 4, 6, 10]


def test_credits_with_a_baseline_of_their_own_may_draw_on():
    parse({"topology": "dyad", "credit.name": "nested", "sample.max_draws": 4})


# --- runs -----------------------------------------------------------------------------------------

# Nobody solves a hopeless problem; what others earn differs from answer to answer.
REWARD = """
import zlib

def score(answer, problem):
    return 0.0 if problem["hopeless"] else zlib.crc32(answer.encode()) % 997 / 997
"""
BATCH, GROUP, AGENTS, MAX_DRAWS = 4, 4, 3, 3
DRAWING = {"draws", "discarded_groups", "surplus_groups", "filled_groups"}


def fields_of(folder, hopeless) -> dict:
    """The fields of a run on sixteen problems, some of them hopeless."""
    rows = [
        {"question": f"Compute {i}+1.", "answer": str(i + 1), "hopeless": hopeless(i)}
        for i in range(16)
    ]
    (folder / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "reward.py").write_text(REWARD)
    return {
        "data.train": (str(folder / "sums.jsonl"),),
        "verifier.name": f"{folder / 'reward.py'}:score",
        "verifier.time_limit": 60.0,
        "data.size": None,
        "data.heldout": 0,
        "eval.samples": None,
        "eval.batch_size": None,
        "batch_size": BATCH,
        "group_size": GROUP,
        "loss.entropy_bonus": 0.0,
        "rollout_log.problems": BATCH,
        "rollout_log.every": 1,
        # So that the answers of a group always differ.
        "sample.temperature": 3.0,
    }


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> dict:
    """Of a run in which five problems of eight are hopeless."""
    folder = tmp_path_factory.mktemp("mixed")
    return fields_of(folder, lambda i: i % 8 < 5) | {"sample.max_draws": MAX_DRAWS}


@pytest.fixture(scope="module")
def whole(mixed, tmp_path_factory):
    """A run of four steps that nobody disturbed: its trainer, folder and batches."""
    workdir = tmp_path_factory.mktemp("whole")
    batches = []
    with Trainer(
        brief_run(4, **mixed),
        workdir=workdir,
        on_step=lambda metrics, batch: batches.append(batch),
        devices=first_devices(1),
    ) as trainer:
        trainer.train()
    return trainer, workdir, batches


def test_a_run_draws_keeps_and_discards_what_a_count_by_hand_does(whole):
    """No prompt of the stream is skipped, and none is drawn twice before all have been drawn."""
    trainer, workdir, batches = whole
    problems = trainer.run.datasets.train.problems
    position = 0
    short = 0
    for line, batch in zip(lines_of(workdir)[1:], batches, strict=True):
        drawn = []
        fair = []
        draws = 0
        while len(fair) < BATCH and draws < MAX_DRAWS:
            drawn += batch_at(problems, trainer.run.seed, position + draws, BATCH)
            hopeless = [problem.row["hopeless"] for problem in drawn]
            fair = [number for number in range(len(drawn)) if not hopeless[number]]
            draws += 1
        position += draws
        filled = max(BATCH - len(fair), 0)
        assert {name: line[name] for name in DRAWING} == {
            "draws": draws,
            "discarded_groups": len(drawn) - BATCH,
            "surplus_groups": len(fair) + filled - BATCH,
            "filled_groups": filled,
        }
        filling = [number for number in range(len(drawn)) if hopeless[number]][:filled]
        kept = sorted(fair[:BATCH] + filling)
        assert list(batch.problems) == [drawn[number] for number in kept]
        is_silent = (batch.advantage == 0).all(axis=(0, 2))
        assert is_silent.tolist() == [hopeless[number] for number in kept]
        short += filled > 0
        assert all(meaning(name, "ccpo") for name in line)
    assert 0 < short < len(batches) and position > len(batches) + 2

    # The moments have seen all groups, not only those kept.
    seen = int(trainer.state.credit_state.delta.count)
    assert int(trainer.state.drawn) == position and seen == position * BATCH * GROUP * AGENTS


def test_a_run_that_was_ended_draws_on_where_it_stood_and_cannot_change_its_stream(
    whole, mixed, tmp_path
):
    _, workdir, _ = whole
    train(brief_run(2, **mixed), str(tmp_path), devices=first_devices(1))
    with raises_for("sample.max_draws") as error:
        changes = mixed | {"sample.max_draws": 1, "allow_changes": True}
        train(brief_run(4, **changes), str(tmp_path), devices=first_devices(1))
    assert "off in a run that has begun" in str(error.value)
    train(brief_run(4, **mixed), str(tmp_path), devices=first_devices(1))
    assert lines_of(tmp_path) == lines_of(workdir)
    assert rollouts_of(tmp_path) == rollouts_of(workdir)


def test_where_every_group_informs_a_step_is_the_ordinary_one(tmp_path):
    fields = fields_of(tmp_path, lambda i: False)
    for name, changes in {"off": {}, "on": {"sample.max_draws": MAX_DRAWS}}.items():
        train(brief_run(2, **fields, **changes), str(tmp_path / name), devices=first_devices(1))
    ordinary, drawing = lines_of(tmp_path / "off"), lines_of(tmp_path / "on")
    for line, other in zip(ordinary[1:], drawing[1:], strict=True):
        assert other["draws"] == 1 and other.keys() - line.keys() == DRAWING
        assert line == {name: value for name, value in other.items() if name not in DRAWING}
    assert rollouts_of(tmp_path / "on") == rollouts_of(tmp_path / "off")

    arrays = []
    for name in ("off", "on"):
        (record,) = (tmp_path / name).glob("checkpoints/2/record/record.json")
        arrays.append(json.loads(record.read_text())["arrays"])
    assert arrays[1].pop("drawn")[:2] == ["int32", []] and arrays[0] == arrays[1]
