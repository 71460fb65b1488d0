"""The records of a rollout: a team and its agents; turns, their prompts and their responses."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax

from ccpo_jax.conversation import Conversation
from ccpo_jax.rl.topology import Topology
from ccpo_jax.rl.types import HostArray, Policy, Samples
from ccpo_jax.rollout.prompts import Template, TextCodec
from ccpo_jax.sampler import Prompts

# A problem's text, with the turns before it where it has any; or one per agent where agents read
# different things.
ProblemText = str | Conversation | Sequence[str | Conversation]


@dataclasses.dataclass(frozen=True)
class Agent:
    """What it takes to sample the responses of one turn. Static."""

    policy: Policy
    tokenizer: TextCodec
    template: Template
    max_tokens: int  # T, tokens at which a response is cut
    parameter_set: int  # index into the tuple of parameter sets
    stop: tuple[str, ...] = ()  # texts of which any ends a response; its text ends before it

    @property
    def reads_messages(self) -> bool:
        """Whether its prompts quote other turns, so that rows of one problem differ in their
        prompt."""
        return bool(self.template.message)


@dataclasses.dataclass(frozen=True)
class Team:
    """A topology and its agents. Static."""

    topology: Topology
    agents: tuple[Agent, ...]  # one per turn: an agent with two turns is there twice
    prompt_length: int  # L, most tokens of a prompt before any message
    raters: tuple[Agent, ...] = ()  # one per agent: rates the outcome; () = nobody rates

    @property
    def stages(self) -> tuple[tuple[int, ...], ...]:
        """Turns by stage: a turn is in the first stage by which all that it reads exists."""
        depth: dict[int, int] = {}
        for turn, partners in enumerate(self.topology.reads):
            depth[turn] = 1 + max((depth[partner] for partner in partners), default=-1)
        num_stages = 1 + max(depth.values())
        return tuple(
            tuple(turn for turn in depth if depth[turn] == stage) for stage in range(num_stages)
        )


class Turn(NamedTuple):
    """All responses of one turn to a batch of problems, on the host.

    The rows of a prompt are (variant, sample), variant 0 first. Variant 0 is the factual one;
    worlds whose masks let the turn read the same things share a variant.

    What a model thinks is kept apart from what it says: partners and verifiers read `texts` alone.
    """

    prompts: Prompts  # [B, ...], [B, R, ...]
    samples: Samples  # [B, R, T]
    texts: list[list[str]]  # [B][R], without thoughts
    variant_of_world: tuple[int, ...]  # [W]
    samples_per_variant: tuple[int, ...]  # they add up to R
    thoughts: Sequence[Sequence[str]] = ()  # [B][R], "" = none; () = no response has one
    unfinished: Sequence[Sequence[bool]] = ()  # [B][R], it ends within a thought; () = none does

    def thought(self, index: int, row: int) -> str:
        """What the response in a row of a prompt thinks; "" = nothing."""
        return self.thoughts[index][row] if self.thoughts else ""

    def rows(self, world: int) -> slice:
        """The rows that belong to `world`."""
        variant = self.variant_of_world[world]
        first = sum(self.samples_per_variant[:variant])
        return slice(first, first + self.samples_per_variant[variant])

    def row_of_sample(self, world: int, sample, num_samples: int):
        """The row of this turn that a sample of a later turn, or of the whole team, goes with.

        Where there are K times as many samples as rows, K in a row share a row; else they are
        paired by number.

        Args:
          world: the world.
          sample: an integer, or a host array of integers.
          num_samples: how many samples there are in `world`.
        """
        rows = self.rows(world)
        num_rows = rows.stop - rows.start
        if num_samples % num_rows == 0:
            return rows.start + sample // (num_samples // num_rows)
        return rows.start + sample % num_rows


class Rollout(NamedTuple):
    """One batch of team rollouts over all worlds, on the host."""

    turns: tuple[Turn, ...]  # as in the topology
    masks: HostArray  # shape=[W, A], dtype=bool, True = the agent is present
    ratings: tuple[Turn, ...] = ()  # [A] each agent's rating of the outcome; () = nobody was asked

    def first_prompts(self, count: int) -> "Rollout":
        """The rollouts of the first `count` problems."""
        return self.select_prompts(range(count))

    def select_prompts(self, chosen: Sequence[int]) -> "Rollout":
        """The rollouts of the problems with these numbers, in this order."""
        numbers = list(chosen)

        def select(turn: Turn) -> Turn:
            return turn._replace(
                prompts=Prompts(*(x[numbers] for x in turn.prompts)),
                samples=jax.tree.map(lambda x: x[numbers], turn.samples),
                texts=[turn.texts[number] for number in numbers],
                thoughts=[turn.thoughts[number] for number in numbers if turn.thoughts],
                unfinished=[turn.unfinished[number] for number in numbers if turn.unfinished],
            )

        turns = tuple(select(turn) for turn in self.turns)
        ratings = tuple(select(turn) for turn in self.ratings)
        return Rollout(turns, self.masks, ratings)

    def num_samples(self, topology: Topology, world: int) -> int:
        """Samples of the whole team in `world`: of what its mask changes, else the factual ones."""
        finals = [self.turns[turn] for turn in topology.final_turns]
        for turn in finals:
            variant = turn.variant_of_world[world]
            if variant:
                return turn.samples_per_variant[variant]
        return max(turn.samples_per_variant[0] for turn in self.turns)

    @property
    def decoded_tokens(self) -> int:
        """Tokens decoded for this batch, end tokens included."""
        return int(sum(turn.samples.length.sum() for turn in self.turns + self.ratings))
