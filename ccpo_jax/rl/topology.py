"""Teams: who speaks when, who reads whom, who can be masked, and how the team's answer is decided.

A topology is static data: a directed acyclic graph of *turns*, each spoken by one agent. Most agents speak once; in a
debate they speak twice. A *world* is one row of ``agent_mask [W, A]``: world 0 keeps everyone, world w > 0 masks one
agent or several. Masking hides all messages of an agent from every later prompt, and its vote from the tally.
"""

import dataclasses
import re
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from ccpo_jax.rl.rewards import TIES, vote_reward
from ccpo_jax.rl.types import Array

DECISIONS = ("last", "vote")


@dataclasses.dataclass(frozen=True)
class Topology:
    """One team. Turns are numbered in an order in which they can be spoken, agents by their first turn."""

    name: str
    roles: tuple[str, ...]  # role of each turn: the key of its prompt
    reads: tuple[tuple[int, ...], ...]  # turns whose messages each turn reads; only earlier ones
    ablated: tuple[int, ...]  # agents that have a masked world of their own in training
    decision: str  # "last": the present agent who speaks last answers for the team; "vote": plurality of last words
    tie: str = "expected"  # how `vote_reward` breaks ties
    speakers: tuple[int, ...] = ()  # agent of each turn; () = every turn is another agent's

    def __post_init__(self):
        object.__setattr__(self, "speakers", self.speakers or tuple(range(len(self.roles))))
        _check(self)

    @property
    def num_agents(self) -> int:
        return 1 + max(self.speakers)

    @property
    def final_turns(self) -> tuple[int, ...]:
        """The turn ``[A]`` that holds each agent's answer: its last one."""
        last = {speaker: turn for turn, speaker in enumerate(self.speakers)}
        return tuple(last[agent] for agent in range(self.num_agents))

    @property
    def agent_roles(self) -> tuple[str, ...]:
        """Role ``[A]`` in which each agent gives its answer."""
        return tuple(self.roles[turn] for turn in self.final_turns)


def _check(topology: Topology) -> None:
    roles, reads, speakers = topology.roles, topology.reads, topology.speakers
    if not len(roles) == len(reads) == len(speakers) >= 1:
        raise ValueError(
            f"topology: {len(roles)} roles, {len(reads)} entries of reads and {len(speakers)} speakers; "
            "give one of each per turn"
        )
    for turn, partners in enumerate(reads):
        for partner in partners:
            if not 0 <= partner < turn:
                raise ValueError(
                    f"topology: turn {turn} reads turn {partner}; "
                    + (
                        f"a turn reads earlier turns, 0 to {turn - 1}"
                        if turn
                        else "the first turn can read none"
                    )
                )
    if list(dict.fromkeys(speakers)) != list(range(1 + max(speakers))):
        raise ValueError(
            f"topology: speakers {speakers} skip a number; number agents 0, 1, ... by their first turn"
        )
    if topology.decision not in DECISIONS:
        raise ValueError(
            f"decision: {topology.decision!r:.80} is unknown; use one of {', '.join(map(repr, DECISIONS))}"
        )
    if topology.tie not in TIES:
        raise ValueError(
            f"tie: {topology.tie!r:.80} is unknown; use one of {', '.join(map(repr, TIES))}"
        )
    agent_masks(topology.num_agents, topology.ablated)


def dyad() -> Topology:
    """Think-Reason dyad: agent 0 writes a thought, agent 1 reads it and answers; masking 0 leaves 1 to answer solo."""
    return Topology(
        "dyad", roles=("thinker", "solver"), reads=((), (0,)), ablated=(0,), decision="last"
    )


def voting(num_agents: int = 3, tie: str = "expected") -> Topology:
    """N voters answer independently; the plurality is the team's answer; masking a voter re-tallies the vote."""
    _require_agents("a vote", num_agents)
    roles, reads, agents = ("voter",) * num_agents, ((),) * num_agents, tuple(range(num_agents))
    return Topology("voting", roles=roles, reads=reads, ablated=agents, decision="vote", tie=tie)


def chain(num_agents: int = 3) -> Topology:
    """Plan, solve, check: everyone reads all that was said before, the last present agent answers for the team.

    Two agents plan and solve; every further one checks. Masking the planner leaves the solver to solve from the
    question alone, masking the last checker lets the one before it answer.
    """
    _require_agents("a chain", num_agents)
    roles = ("planner", "solver") + ("checker",) * (num_agents - 2)
    reads = tuple(tuple(range(turn)) for turn in range(num_agents))
    return Topology(
        "chain", roles=roles, reads=reads, ablated=tuple(range(num_agents)), decision="last"
    )


def debate(num_agents: int = 3, tie: str = "expected") -> Topology:
    """One exchange, then a vote: all answer alone, read everyone's first answer, and answer again; that counts.

    Agent k speaks in turns k and N + k. Masking it hides its first answer from the others, who reply anew, and its
    vote.
    """
    _require_agents("a debate", num_agents)
    agents = tuple(range(num_agents))
    return Topology(
        "debate",
        roles=("voter",) * num_agents + ("debater",) * num_agents,
        reads=((),) * num_agents + (agents,) * num_agents,
        ablated=agents,
        decision="vote",
        tie=tie,
        speakers=agents + agents,
    )


def graph(
    graph: str = "planner solver(0) solver(0) checker(1,2)",
    decision: str = "last",
    tie: str = "expected",
) -> Topology:
    """Any team, from one line: its turns in order, each ``role``, ``role(turns it reads)`` or ``role@agent(...)``.

    Without ``@`` a turn belongs to an agent of its own. Every agent can be masked.

    Raises:
      ValueError: if the line does not read as turns, or a turn reads what has not been said yet.

    Example:
      >>> graph("voter voter debater@0(0,1) debater@1(0,1)", decision="vote").final_turns
      (2, 3)
    """
    turns = [
        re.fullmatch(r"(\w+)(?:@(\d+))?(?:\((\d+(?:,\d+)*)?\))?", word)
        for word in re.sub(r",\s+", ",", graph).split()
    ]
    if not turns or not all(turns):
        raise ValueError(
            f"graph: {graph!r} is not a list of turns; type role, role(turns it reads) or role@agent(...), "
            "such as 'planner solver(0) checker(0,1)'"
        )
    speakers: list[int] = []
    for turn in turns:
        speakers.append(1 + max(speakers, default=-1) if turn[2] is None else int(turn[2]))
    reads = tuple(tuple(map(int, (turn[3] or "").split(","))) if turn[3] else () for turn in turns)
    roles, agents = tuple(turn[1] for turn in turns), tuple(range(1 + max(speakers)))
    return Topology("graph", roles, reads, agents, decision, tie, tuple(speakers))


def _require_agents(what: str, num_agents: int) -> None:
    if num_agents < 2:
        raise ValueError(
            f"num_agents: {what} needs at least 2 agents, received {num_agents}; use num_agents=3"
        )


def agent_masks(
    num_agents: int, ablated: Sequence[int | Sequence[int]] | None = None
) -> np.ndarray:
    """Masks of the factual world and of one world per entry of `ablated`.

    Args:
      num_agents: A.
      ablated: what each further world masks, in this order: an agent, or several together; None means every agent on
        its own.

    Returns:
      ``[W, A]`` bool, W = 1 + len(ablated). Row 0 is all True.

    Raises:
      ValueError: if an entry of `ablated` is not an agent.

    Example:
      >>> agent_masks(2, (0, (0, 1))).tolist()
      [[True, True], [False, True], [False, False]]
    """
    ablated = range(num_agents) if ablated is None else ablated
    groups = [tuple(entry) if isinstance(entry, Sequence) else (entry,) for entry in ablated]
    masks = np.ones((1 + len(groups), num_agents), bool)
    for world, agents in enumerate(groups, 1):
        for agent in agents:
            if not 0 <= agent < num_agents:
                raise ValueError(
                    f"ablated: agent {agent} does not exist; use agents 0 to {num_agents - 1}"
                )
            masks[world, agent] = False
    return masks


def all_subsets(num_agents: int) -> tuple[tuple[int, ...], ...]:
    """What `agent_masks` needs for a world per subset of agents: world w masks the agents whose bits are set in w.

    Example:
      >>> all_subsets(2)
      ((0,), (1,), (0, 1))
    """
    return tuple(
        tuple(k for k in range(num_agents) if world >> k & 1) for world in range(1, 2**num_agents)
    )


def reaching(topology: Topology, turn: int, present: Sequence[bool]) -> frozenset[int]:
    """Turns whose text reaches the prompt of `turn`, directly or through others, if only `present` ``[A]`` speak."""
    found: set[int] = set()
    for partner in topology.reads[turn]:
        if present[topology.speakers[partner]]:
            found |= {partner} | reaching(topology, partner, present)
    return frozenset(found)


def variants(
    topology: Topology, turn: int, masks: np.ndarray
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which worlds change what `turn` reads, so that only those are decoded again.

    Two worlds in which the same turns reach a prompt share its text. Where the speaker itself is masked nobody reads
    the text, and nothing is decoded for it.

    Args:
      topology: the team.
      turn: whose text.
      masks: ``[W, A]`` bool, row 0 factual.

    Returns:
      ``(representative, variant_of_world)``: the first world of each distinct variant (variant 0 is factual), and for
      every world the variant its text comes from.

    Example:
      >>> variants(dyad(), 1, agent_masks(2, (0,)))
      ((0, 1), (0, 1))
      >>> variants(dyad(), 0, agent_masks(2, (0,)))
      ((0,), (0, 0))
    """
    seen: dict[frozenset[int], int] = {}
    representative: list[int] = []
    of_world: list[int] = []
    for world, present in enumerate(np.asarray(masks)):
        if world and not present[topology.speakers[turn]]:
            of_world.append(0)
            continue
        view = reaching(topology, turn, present)
        if view not in seen:
            seen[view] = len(representative)
            representative.append(world)
        of_world.append(seen[view])
    return tuple(representative), tuple(of_world)


def texts_per_sample(topology: Topology, masks: np.ndarray) -> int:
    """How many texts one sample of the team takes in all worlds together: the price of the masks.

    Example:
      >>> [texts_per_sample(dyad(), agent_masks(2, ablated)) for ablated in ((), (0,))]
      [2, 3]
    """
    return sum(len(variants(topology, turn, masks)[0]) for turn in range(len(topology.roles)))


def is_chain(topology: Topology) -> bool:
    """Whether the turns follow one another, each an agent's own and each reading the one before it."""
    turns = range(len(topology.roles))
    alone = topology.num_agents == len(turns) and topology.decision == "last"
    return alone and all(turn - 1 in topology.reads[turn] for turn in turns[1:])


def team_reward(topology: Topology, correct: Array, answer_id: Array, agent_mask: Array) -> Array:
    """The team's reward in every world.

    "vote" is the plurality's (expected) correctness; "last" is the correctness of the present agent who speaks last.
    Nobody present earns nothing.

    Args:
      topology: the team.
      correct: ``[W, ..., A]`` float32, each agent's answer is right.
      answer_id: ``[W, ..., A]`` int32, answer classes, -1 = none.
      agent_mask: ``[W, A]`` bool.

    Returns:
      ``[W, ...]`` float32 in [0, 1].
    """
    worlds, agents = agent_mask.shape
    mask = jnp.asarray(agent_mask).reshape((worlds,) + (1,) * (correct.ndim - 2) + (agents,))
    if topology.decision == "vote":
        return vote_reward(
            answer_id, correct, jnp.broadcast_to(mask, correct.shape), tie=topology.tie
        )
    order = 1 + np.array(topology.final_turns)
    last = jnp.argmax(jnp.where(mask, order, 0), axis=-1, keepdims=True)
    index = jnp.broadcast_to(last, correct.shape[:-1] + (1,))
    answer = jnp.take_along_axis(correct, index, axis=-1)[..., 0]
    return jnp.where(mask.any(axis=-1), answer, 0.0)


TOPOLOGIES = {
    "dyad": dyad,
    "voting": voting,
    "chain": chain,
    "debate": debate,
    "graph": graph,
}
