"""The warm start: its gradient against a loss written out by hand, and whole runs of it."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ccpo_jax import cli, data
from ccpo_jax.data import Problem
from ccpo_jax.learner.update import (
    LossConfig,
    PackingConfig,
    UpdateConfig,
    gradient,
    pack_trained,
    totals_of,
)
from ccpo_jax.rl.topology import debate, dyad, voting
from ccpo_jax.rollout import demonstrate
from ccpo_jax.rollout import prompts as segments
from ccpo_jax.train import Trainer, train
from ccpo_jax.train.demonstrations import find_targets, with_demonstrations
from ccpo_jax.train.supervised import SupervisedBatch, training_sequences
from ccpo_jax.workdir import open_checkpoints
from tests.support.errors import raises_for
from tests.support.runs import changed_preset, first_devices, lines_of
from tests.support.stubs import CODEC
from tests.support.teams import small_params, team_of

# --- the gradient ---------------------------------------------------------------------------------

# Two demonstrations of the first problem, of the second one, and of the third one that is too long.
QUESTIONS = ["1+1", "2+2+2", "9-3"]
PLANS = [["two", "1 and 1"], ["4+2"], ["from nine take three"]]
SOLUTIONS = [["2", "=2"], ["=6"], ["the answer is 6"]]
LIMIT = 12


def small_batch(team, texts):
    """Demonstrations of the dyad's roles as a batch; what lacks a second one is filled up."""
    problems = [Problem(str(n), question, "", "exact") for n, question in enumerate(QUESTIONS)]
    filled = {
        turn: [own + own[:1] * (2 - len(own)) for own in texts_of_turn]
        for turn, texts_of_turn in texts.items()
    }
    is_real = np.array([[True, True], [True, False], [True, False]])
    return SupervisedBatch(problems, demonstrate(team, QUESTIONS, filled), is_real)


def by_hand(team, turn, quoted):
    """(prompt ids, response ids) of each demonstration, straight from the words of the role."""
    agent = team.agents[turn]
    texts = [PLANS, SOLUTIONS][turn]
    written = []
    for b, question in enumerate(QUESTIONS):
        for g, text in enumerate(texts[b]):
            prompt = segments.prefix(agent.template, CODEC, question)
            if not agent.reads_messages:
                prompt += segments.tail(agent.template, [])
            else:
                message = CODEC.encode(PLANS[b][g])[:LIMIT] if quoted else None
                prompt += segments.tail(agent.template, [message])
            response = [*CODEC.encode(text), CODEC.eos_ids[0]][:LIMIT]
            written.append((prompt, response))
    return written


# More tokens than a sequence has. No token sees what stands behind it.
PADDED = 64


def direct_loss(policy, params, written):
    """Mean negative log-likelihood, one unpacked sequence at a time."""

    @jax.jit
    def nll(params, tokens, is_response):
        ones = jnp.ones((1, PADDED), jnp.int32)
        hidden = policy.hidden(params, tokens[None], jnp.arange(PADDED)[None], ones, ones)
        logits = policy.logits(policy.head(params), hidden[0, :-1])
        logprobs = jax.nn.log_softmax(logits)[jnp.arange(PADDED - 1), tokens[1:]]
        return -jnp.sum(logprobs * is_response[1:])

    total = 0.0
    count = 0
    for prompt, response in written:
        sequence = [*prompt, *response]
        tokens = np.zeros(PADDED, np.int32)
        tokens[: len(sequence)] = sequence
        positions = np.arange(PADDED)
        is_response = (len(prompt) <= positions) & (positions < len(sequence))
        total += nll(params, tokens, is_response)
        count += len(response)
    return total / count


@pytest.fixture(scope="module")
def team():
    """A dyad whose programs are compiled once."""
    return team_of(dyad(), max_tokens=LIMIT)


@pytest.mark.parametrize("turn,quoted", [(0, False), (1, True), (1, False)])
def test_the_gradient_is_that_of_the_loss_written_out(team, turn, quoted):
    """Packed, with shared prompts, a cut text, a quoted partner and a masked one."""
    texts = {0: PLANS, 1: SOLUTIONS} if quoted else {turn: [PLANS, SOLUTIONS][turn]}
    batch = small_batch(team, texts)
    index = list(batch.turns).index(turn)
    sequences = training_sequences(batch, [list(batch.turns)[index]])
    written = by_hand(team, turn, quoted)
    assert [
        ([*s.prefix.tolist(), *s.tail.tolist()], s.response.tolist()) for s in sequences
    ] == written

    policy = team.agents[turn].policy
    params = jax.tree.map(lambda x: x / 3, small_params(0))
    expected, expected_grads = jax.value_and_grad(
        lambda params: direct_loss(policy, params, written)
    )(params)
    for rows_per_microbatch in (1, 2):
        config = UpdateConfig(
            LossConfig("supervised", logits_chunk=5),
            optimizer=None,  # pyright: ignore[reportArgumentType]
            packing=PackingConfig(40, rows_per_microbatch),
        )
        packed = pack_trained(sequences, config)
        assert len(packed) > 1 or rows_per_microbatch > 1
        grads, loss, _ = gradient(policy, params, packed, totals_of(sequences), config)
        np.testing.assert_allclose(loss, expected, atol=1e-5)
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), grads, expected_grads
        )
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(grads)) > 1e-2


# --- where the texts are --------------------------------------------------------------------------


def dataset_of(*rows):
    problems = [
        Problem(f"set/{n}", f"question {n}", "7", "exact", row=row) for n, row in enumerate(rows)
    ]
    return data.Dataset("set", tuple(problems), {})


@pytest.mark.fast
def test_who_learns_from_what():
    targets = find_targets(("thinker=a.plan", "solver=solution"), dyad())
    assert targets.turns == (0, 1) and targets.columns["thinker"] == ("a.plan",)
    rows = {"a": {"plan": ["p", "q"]}, "solution": "s"}
    (problem,) = dataset_of(rows).problems
    assert targets.read(problem) == {"thinker": ["p", "q"], "solver": ["s", "s"]}
    # By default the role that answers, all voters alike, and of a debate those who speak last.
    assert find_targets((), dyad()).turns == (1,)
    assert find_targets((), voting(3)).turns == (0, 1, 2)
    assert find_targets((), debate(2)).roles == ("debater", "debater")


@pytest.mark.fast
def test_a_batch_is_filled_up_and_marked():
    targets = find_targets(("solver=s",), dyad())
    texts, is_real = targets.of_batch(dataset_of({"s": "x"}, {"s": ["y", "z"]}).problems)
    assert texts == {1: [["x", "x"], ["y", "z"]]}
    assert is_real.tolist() == [[True, False], [True, True]]


@pytest.mark.fast
@pytest.mark.parametrize(
    "targets,told",
    [
        (("thinkr=plan",), "did you mean thinker?"),
        (("plan",), "not ROLE=COLUMN"),
        (("thinker=",), "not ROLE=COLUMN"),
        (("thinker=a", "thinker=b"), "thinker twice"),
    ],
)
def test_targets_that_cannot_be_are_refused(targets, told):
    with raises_for("sft.targets") as error:
        find_targets(targets, dyad())
    assert told in str(error.value)


@pytest.mark.fast
def test_rows_without_a_text_are_left_out_and_named():
    team = team_of(dyad())
    targets = find_targets(("solver=s",), dyad())
    rows = [
        {"s": "ok"},
        {"s": None},
        {"s": 7},
        {"s": " "},
        {"t": "no"},
        {"s": "much too long a text"},
    ]
    kept = with_demonstrations(dataset_of(*rows), targets, team)
    assert [problem.id for problem in kept.problems] == ["set/0", "set/5"]
    assert kept.dropped == {"without a demonstration": 4}
    notes = " ".join(kept.notes)
    assert "thinker has no demonstrations and is not trained" in notes
    assert "set/1: nothing in column s" in notes
    assert "1 of 2 texts of solver exceed response_length=12" in notes and "takes 21" in notes
    with raises_for("sft.targets") as error:
        with_demonstrations(dataset_of(*rows[2:5]), targets, team)
    assert "set/0: column s is 7" in str(error.value) and "columns are s" in str(error.value)

    # What stands behind a stop string is not trained on, and has no length.
    stopped = dataclasses.replace(team.agents[1], stop=("too",))
    team = dataclasses.replace(team, agents=(team.agents[0], stopped))
    assert "exceed" not in " ".join(with_demonstrations(dataset_of(*rows), targets, team).notes)


@pytest.mark.fast
def test_a_bare_answer_that_nobody_typed_teaches_no_format():
    team = team_of(dyad())
    rows = dataset_of(
        {"answer": "7"}, {"answer": "3 + 4 is 7"}, {"solution": "so 7", "answer": "7"}
    )
    kept = with_demonstrations(rows, find_targets((), dyad()), team)
    assert [problem.id for problem in kept.problems] == ["set/1", "set/2"]
    typed = with_demonstrations(rows, find_targets(("solver=answer",), dyad()), team)
    assert len(typed.problems) == 3


# --- whole runs -----------------------------------------------------------------------------------

SUFFIX = "Answer: "


def rows_of_demonstrations(count=300):
    """Sums whose demonstrations name the question's first number, and then the answer."""
    rows = []
    for problem in data.load("synthetic/dyad", field="data.train", size=count).problems:
        first = problem.question.removeprefix("Compute ").replace("+", "-").partition("-")[0]
        solution = f"{first};{SUFFIX}{problem.gold}"
        rows.append({"question": problem.question, "answer": problem.gold, "solution": solution})
    return rows


def file_of_demonstrations(folder):
    path = pathlib.Path(folder, "demos.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows_of_demonstrations()))
    return str(path)


def small_run(path, steps, **changes):
    """A warm start of the embedded model that takes seconds."""
    sizes = {
        "mode": "sft",
        "steps": steps,
        "batch_size": 16,
        "data.train": (path,),
        "data.heldout": 16,
        "eval.batch_size": 16,
        "eval.greedy": False,
        "verifier.workers": 1,
        "log.tensorboard": False,
        "optimizer.learning_rate": (2e-3,),
        "response_length": (16,),
    }
    return changed_preset("solo:tiny", sizes, changes)


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """(workdir, file of demonstrations) of an uninterrupted run of sixty steps."""
    folder = tmp_path_factory.mktemp("warm")
    path = file_of_demonstrations(folder)
    workdir = str(folder / "run")
    train(small_run(path, 60, checkpoint_every=10), workdir, devices=first_devices(1))
    return workdir, path


def test_a_small_model_learns_a_format_in_a_minute(warm):
    workdir, _ = warm
    lines = lines_of(workdir)
    before, after = lines[0], lines[-1]
    assert before["eval/loss"] > 2.0 and after["eval/loss"] < 0.7 * before["eval/loss"]
    assert lines[1]["loss"] == pytest.approx(lines[1]["update/loss/0"])
    assert lines[1]["update/trained_tokens/0"] > 16 * 3
    assert not any("logprob_gap" in name for line in lines for name in line)
    with Trainer(workdir=workdir, devices=first_devices(1)) as trainer:
        questions = [problem.question for problem in trainer.run.datasets.heldout.problems]
        answered = trainer.sample(questions, temperature=0)
    texts = [answer.samples[0].messages[-1].text for answer in answered]
    firsts = [question.removeprefix("Compute ")[:2] for question in questions]
    starts = [
        text.startswith(first.rstrip("+-")) for text, first in zip(texts, firsts, strict=True)
    ]
    assert np.mean([SUFFIX in text for text in texts]) > 0.8
    assert np.mean(starts) > 0.5


def test_a_run_that_was_killed_resumes_bit_for_bit(warm, tmp_path):
    workdir, path = warm
    config = small_run(path, 60, checkpoint_every=10)
    with Trainer(config, workdir=tmp_path, devices=first_devices(1)) as trainer:
        for _ in range(8):
            trainer.step()
        trainer.save()
        # Steps that no checkpoint has.
        trainer.step()
    with open_checkpoints(workdir, read_only=True) as checkpoints:
        saved = min(checkpoints.steps())
        assert 8 < saved < 60
    with Trainer(config, workdir=tmp_path, devices=first_devices(1)) as trainer:
        assert trainer.step_count == 8
        while trainer.step_count < saved:
            trainer.step()
        with open_checkpoints(workdir, read_only=True) as checkpoints:
            _, expected = checkpoints.restore(trainer.state, step=saved)
        jax.tree.map(np.testing.assert_array_equal, trainer.state.params, expected.params)
        jax.tree.map(np.testing.assert_array_equal, trainer.state.opt_state, expected.opt_state)


def test_reinforcement_starts_from_it(warm, tmp_path):
    """Its first evaluation is the warm start's last one, number by number; and it trains."""
    workdir, path = warm
    changes = {
        "mode": "train",
        "model": (workdir,),
        "batch_size": 4,
        "group_size": 2,
        "optimizer.learning_rate": (1e-4,),
    }
    train(small_run(path, 1, **changes), str(tmp_path / "rl"), devices=first_devices(1))
    first = lines_of(tmp_path / "rl")[0]
    with open_checkpoints(workdir, read_only=True) as checkpoints:
        best = checkpoints.metrics(checkpoints.best_step() or 0)
    accuracies = {name: value for name, value in best.items() if name.startswith("eval/")}
    shared = {name: value for name, value in first.items() if name in accuracies}
    assert shared == {
        name: value
        for name, value in accuracies.items()
        if not name.startswith(("eval/loss", "eval/time"))
    }
    assert "eval/team_accuracy" in shared and "eval/loss" not in first
    assert lines_of(tmp_path / "rl")[1]["decoded_tokens"] > 0
    saved = json.loads((tmp_path / "rl" / "config.json").read_text())
    assert saved["model"] == [workdir] and saved["mode"] == "train"


def test_a_workdir_keeps_its_way_of_learning(warm, capsys):
    """Evaluated, exported and reported on as any; but each resumes as what it began."""
    workdir, path = warm
    common = ["--config=solo:tiny", f"--workdir={workdir}", f"--config.data.train={path}"]
    assert cli.main([*common, "--config.steps=61"]) == 2
    error = capsys.readouterr().err
    assert f"--config.model={workdir}" in error and "--mode=sft" in error
    assert cli.main([*common, "--mode=sft", "--config.loss.name=gspo"]) == 2
    assert "loss.name" in capsys.readouterr().err
    assert cli.main(["--config=solo:tiny", f"--workdir={workdir}", "--mode=eval"]) == 0
    assert '"eval/loss"' in capsys.readouterr().out
    assert cli.main(["--config=solo:tiny", f"--workdir={workdir}", "--mode=export"]) == 0
    assert pathlib.Path(workdir, "export", "policy", "model.safetensors").is_file()
    assert cli.main(["report", workdir]) == 0
    assert pathlib.Path(workdir, "report.html").is_file()


def test_what_a_step_was_made_of(capsys):
    """Voters with one network; a list holds several demonstrations of its problem."""
    rows = [row | {"solution": [row["solution"], SUFFIX]} for row in rows_of_demonstrations(20)]
    # Where none is held out, demonstrations are enough.
    for row in rows[::2]:
        del row["answer"]
    seen = []
    config = {
        "preset": "voting:tiny",
        "mode": "sft",
        "steps": 1,
        "shared_policy": True,
        "batch_size": 2,
        "data.heldout": 0,
        "response_length": (16,),
        "verifier.workers": 1,
    }
    with Trainer(
        config,
        train=rows,
        on_step=lambda metrics, batch: seen.append((metrics, batch)),
        devices=first_devices(1),
    ) as trainer:
        trainer.train()
    ((metrics, batch),) = seen
    assert isinstance(batch, SupervisedBatch) and list(batch.turns) == [0, 1, 2]
    assert batch.is_real.shape == (2, 2)
    lengths = [turn.samples.length[batch.is_real].sum() for turn in batch.turns.values()]
    assert metrics["update/trained_tokens/0"] == sum(lengths)
    # The second text of each of the ten problems with an answer has none.
    judged = "the verifier takes 10 of 20 demonstrations of voter as wrong, 10 of them without"
    assert judged in capsys.readouterr().err


def test_eight_devices_learn_as_one_does(warm):
    _, path = warm
    config = small_run(path, 2, **{"data.heldout": 0})
    losses = []
    for count in (1, 8):
        with Trainer(config, devices=first_devices(count)) as trainer:
            losses.append([trainer.step()["loss"] for _ in range(2)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    assert losses[0][1] != losses[0][0]
