"""Is there something to learn? Scores of an untrained team on the study's tasks.

    python -m experiments.study.score_tiny --model=FOLDER

Per task the accuracy on held-out problems: greedy, at temperature 1 and 0.25, and pass@8, how
often at least one of eight samples at temperature 1 is right. Every agent is the same model.
"""

import argparse
from collections.abc import Sequence

import jax
import numpy as np

from ccpo_jax import models
from ccpo_jax.arguments import Parser, positive
from ccpo_jax.data.synthetic import TASKS, VIEWS
from ccpo_jax.hf.tokenizer import load_tokenizer
from ccpo_jax.rl.pass_at_k import pass_at_k
from ccpo_jax.rl.topology import Topology, dyad, solo, voting
from ccpo_jax.rl.votes import vote_reward
from ccpo_jax.rollout import Agent, Team, prompts, rollout
from ccpo_jax.rollout.records import Turn
from ccpo_jax.rollout.role_prompts import PROMPTS
from ccpo_jax.sampler import SamplingParams
from ccpo_jax.verifiers import Context
from ccpo_jax.verifiers.exact import extract_exact
from experiments.study.pretrain_tiny import FOLDER
from experiments.study.tiny_traces import MAX_TOKENS

SAMPLES = 8

# Teams of voters, by task.
VOTERS = {"voting": (3, 9), "parts": (3, 5, 9, 15)}

# Problems of one call: all calls of a team have the same shape, which is compiled once.
_BATCH = 128


class SharedModel:
    """A model that plays every agent of a team.

    Args:
      folder: in Hugging Face format.
    """

    def __init__(self, folder: str):
        config, params = models.load(folder)
        self.policy = models.make_policy(config, remat="none")
        self.weights = (jax.jit(self.policy.publish)(params),)
        self.tokenizer = load_tokenizer(folder)

    def answers(
        self, topology: Topology, questions: Sequence[str], temperature: float, draws: int = 1
    ) -> np.ndarray:
        """``[B, SAMPLES * draws]`` answers of the last turn; "" = none, or cut off."""
        agents = []
        for role in topology.roles:
            template = prompts.tokenize_role(self.tokenizer, PROMPTS["tiny"][role])
            agents.append(Agent(self.policy, self.tokenizer, template, MAX_TOKENS[role], 0))
        team = Team(topology, tuple(agents), prompt_length=48)
        sampling = SamplingParams(temperature=temperature)

        rows = []
        for start in range(0, len(questions), _BATCH):
            batch = questions[start : start + _BATCH]
            answers = []
            for draw in range(draws):
                key = jax.random.fold_in(jax.random.key(start), draw)
                spoken = rollout(
                    team, self.weights, batch, key, group_size=SAMPLES, sampling=sampling
                )
                answers.append(_answers(spoken.turns[-1]))
            rows.append(np.concatenate(answers, axis=1))
        return np.concatenate(rows)


def _answers(turn: Turn) -> np.ndarray:
    """``[B, R]`` answers of a turn."""
    rows = []
    for texts, truncated in zip(turn.texts, turn.samples.truncated, strict=True):
        row = []
        for text, is_cut in zip(texts, truncated, strict=True):
            row.append("" if is_cut else extract_exact(text, Context()) or "")
        rows.append(row)
    return np.array(rows)


def rewards(model: SharedModel, problems: int, temperature: float) -> dict[str, np.ndarray]:
    """Task -> ``[B, SAMPLES]`` reward of a team's samples, in [0, 1]."""
    reward = {}
    questions, golds = zip(*TASKS["dyad"]("test", problems, 0), strict=True)
    for topology in (dyad(), solo()):
        answers = model.answers(topology, questions, temperature)
        reward[topology.name] = (answers == np.array(golds)[:, None]).astype(np.float32)

    questions, golds = zip(*TASKS["voting"]("test", problems, 0), strict=True)
    votes = model.answers(voting(1), questions, temperature, draws=max(VOTERS["voting"]))
    for size in VOTERS["voting"]:
        reward[f"voting_{size}"] = plurality(votes[:, : size * SAMPLES], golds)

    questions, golds = zip(*TASKS["parts"]("test", problems, 0), strict=True)
    hidden = [min(VIEWS["parts"](question), key=len) for question in questions]
    informed = model.answers(voting(1), questions, temperature)
    others = model.answers(voting(1), hidden, temperature, draws=max(VOTERS["parts"]) - 1)
    for size in VOTERS["parts"]:
        votes = np.concatenate([informed, others[:, : (size - 1) * SAMPLES]], axis=1)
        reward[f"parts_{size}"] = plurality(votes, golds)
    return reward


def plurality(votes: np.ndarray, golds: Sequence[str]) -> np.ndarray:
    """``[B, SAMPLES]`` reward of teams of N voters, from ``[B, N * SAMPLES]`` answers.

    The votes of sample g are number g, g + SAMPLES, and so on.
    """
    votes = votes.reshape(len(votes), -1, SAMPLES).swapaxes(1, 2)
    _, classes = np.unique(votes, return_inverse=True)
    classes = np.where(votes == "", -1, classes.reshape(votes.shape))
    correct = (votes == np.array(golds)[:, None, None]).astype(np.float32)
    return np.asarray(vote_reward(classes, correct, np.ones(votes.shape, bool)))


def scores(model: SharedModel, problems: int = 512) -> dict[str, dict[str, float]]:
    """Task -> column -> accuracy in [0, 1]; the columns are those of the table."""
    greedy = rewards(model, problems, 0.0)
    sampled = rewards(model, problems, 1.0)
    sharp = rewards(model, problems, 0.25)
    table = {}
    for task, reward in sampled.items():
        table[task] = {
            "greedy": float(greedy[task].mean()),
            "T = 1": float(reward.mean()),
            "T = .25": float(sharp[task].mean()),
            "pass@8": float(pass_at_k(reward, SAMPLES).mean()),
        }
    return table


def as_table(scores: dict[str, dict[str, float]]) -> str:
    """The scores in percent, as a Markdown table."""
    columns = list(next(iter(scores.values())))
    rows = [["task", *columns], ["---"] * (len(columns) + 1)]
    for task, row in scores.items():
        rows.append([task, *(f"{100 * row[column]:.1f}" for column in columns)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


if __name__ == "__main__":
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(FOLDER), help="folder of the model")
    parser.add_argument("--problems", type=positive, default=512, help="held-out problems per task")
    args = parser.parse_args()
    print(as_table(scores(SharedModel(args.model), args.problems)))
