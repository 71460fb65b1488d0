"""Teams: who speaks when, who reads whom, who can be masked, and how the team's answer is decided.

A topology is static data: a directed acyclic graph of *turns*, each spoken by one agent. Most
agents speak once; in a debate they speak twice. A *world* is one row of ``agent_mask [W, A]``:
world 0 keeps everyone, world w > 0 masks one agent or several. Masking an agent hides all its
messages from every later prompt, and its vote from the tally.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ccpo_jax.errors import InputError
from ccpo_jax.rl.types import Array, HostArray
from ccpo_jax.rl.votes import TIES, vote_reward

DECISIONS = ("last", "vote")

# One turn of a graph: role, role(turns it reads) or role@agent(turns it reads).
_TURN = re.compile(r"(?P<role>\w+)(?:@(?P<agent>\d+))?(?:\((?P<reads>\d+(?:,\d+)*)?\))?")


@dataclasses.dataclass(frozen=True)
class Topology:
    """One team. Turns are numbered in an order in which they can be spoken.

    Agents are numbered by their first turn.

    Attributes:
      name: of the kind of team, as in TOPOLOGIES.
      roles: of each turn, the key of its prompt.
      reads: turns whose messages each turn reads; only earlier ones.
      ablated: agents that have a masked world of their own in training.
      decision: "last" = the last present agent answers for the team; "vote" = plurality of the
        agents' last answers.
      tie: how `vote_reward` breaks ties.
      speakers: agent of each turn; () = every turn has an agent of its own.

    Raises:
      InputError: `topology`, `team.decision`, `team.tie` or `ablated`, if they do not fit together.

    Example:
      >>> team = Topology("pair", ("writer", "editor"), ((), (0,)), ablated=(0,), decision="last")
      >>> team.num_agents, team.final_turns
      (2, (0, 1))
    """

    name: str
    roles: tuple[str, ...]
    reads: tuple[tuple[int, ...], ...]
    ablated: tuple[int, ...]
    decision: str
    tie: str = "expected"
    speakers: tuple[int, ...] = ()

    def __post_init__(self):
        if not self.speakers:
            object.__setattr__(self, "speakers", tuple(range(len(self.roles))))
        _check(self)

    @property
    def num_agents(self) -> int:
        """A."""
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
        raise InputError(
            "topology",
            f"{len(roles)} roles, {len(reads)} entries of reads and {len(speakers)} speakers; "
            "give one of each per turn",
        )

    for turn, partners in enumerate(reads):
        for partner in partners:
            if not 0 <= partner < turn:
                earlier = f"a turn reads earlier turns, 0 to {turn - 1}"
                raise InputError(
                    "topology",
                    f"turn {turn} reads turn {partner}; "
                    + (earlier if turn else "the first turn can read none"),
                )

    in_order_of_first_turn = list(dict.fromkeys(speakers))
    if in_order_of_first_turn != list(range(1 + max(speakers))):
        raise InputError(
            "topology",
            f"speakers {speakers} are out of order; number agents 0, 1, ... by their first turn",
        )
    if topology.decision not in DECISIONS:
        raise InputError(
            "team.decision",
            f"{topology.decision!r:.80} is unknown; use one of {', '.join(map(repr, DECISIONS))}",
        )
    if topology.tie not in TIES:
        raise InputError(
            "team.tie", f"{topology.tie!r:.80} is unknown; use one of {', '.join(map(repr, TIES))}"
        )
    agent_masks(topology.num_agents, topology.ablated)


def solo() -> Topology:
    """One agent that answers alone: single-agent reinforcement learning with the same program.

    Choose it as the first baseline of every team, at an equal number of decoded tokens. The agent
    is a dyad's Solver without a Thinker: the same role, and the same prompt as in the world that
    masks the Thinker. Nobody can be masked, so every estimator that fits gives it the team's
    reward.

    Deviation: not in arXiv:2603.21563.

    Example:
      >>> solo().roles, solo().ablated
      (('solver',), ())
    """
    return Topology("solo", roles=("solver",), reads=((),), ablated=(), decision="last")


def dyad() -> Topology:
    """A Thinker and a Solver: agent 0 writes a thought, agent 1 reads it and answers.

    Choose it to reproduce the paper's Think-Reason setting, or wherever one agent prepares the work
    of another. Masking the Thinker leaves the Solver to answer the question alone; the Solver
    itself is never masked.

    Reference: arXiv:2603.21563, the Think-Reason dyad.

    Example:
      >>> team = dyad()
      >>> team.roles, team.reads, team.ablated
      (('thinker', 'solver'), ((), (0,)), (0,))
    """
    return Topology(
        "dyad", roles=("thinker", "solver"), reads=((), (0,)), ablated=(0,), decision="last"
    )


def voting(num_agents: int = 3, tie: str = "expected") -> Topology:
    """Voters who answer independently; the plurality of their answers is the team's answer.

    Choose it for the cheapest counterfactuals: masking a voter only counts the votes again, and
    decodes nothing.

    Reference: arXiv:2603.21563, the voting team. Deviation: the vote itself, see `vote_reward`.

    Args:
      num_agents: at least 1; a single voter is a team of one.
      tie: how `vote_reward` breaks ties.

    Raises:
      InputError: `team.num_agents` or `team.tie`.

    Example:
      >>> voting(3).ablated
      (0, 1, 2)
    """
    _require_agents("a vote", num_agents, 1)
    return Topology(
        "voting",
        roles=("voter",) * num_agents,
        reads=((),) * num_agents,
        ablated=tuple(range(num_agents)),
        decision="vote",
        tie=tie,
    )


def chain(num_agents: int = 3) -> Topology:
    """A planner, a solver and checkers: every agent reads all earlier messages.

    Choose it for work in steps; the last present agent answers for the team. Two agents plan and
    solve; every further one checks. Masking the planner leaves the solver to solve from the
    question alone; masking the last checker lets the one before it answer.

    Deviation: not in arXiv:2603.21563.

    Args:
      num_agents: at least 2.

    Raises:
      InputError: `team.num_agents`.

    Example:
      >>> chain(3).roles, chain(3).reads
      (('planner', 'solver', 'checker'), ((), (0,), (0, 1)))
    """
    _require_agents("a chain", num_agents, 2)
    return Topology(
        "chain",
        roles=("planner", "solver") + ("checker",) * (num_agents - 2),
        reads=tuple(tuple(range(turn)) for turn in range(num_agents)),
        ablated=tuple(range(num_agents)),
        decision="last",
    )


def debate(num_agents: int = 3, tie: str = "expected") -> Topology:
    """Voters who answer, read everyone's first answer and answer again; the second answers vote.

    Choose it to let agents change their minds before they vote. Agent k speaks in turns k and
    N + k. Masking it hides its first answer from the others, whose second answers are decoded
    again, and its vote.

    Deviation: not in arXiv:2603.21563.

    Args:
      num_agents: N, at least 1; a single agent reads its own first answer again.
      tie: how `vote_reward` breaks ties.

    Raises:
      InputError: `team.num_agents` or `team.tie`.

    Example:
      >>> debate(2).speakers, debate(2).reads
      ((0, 1, 0, 1), ((), (), (0, 1), (0, 1)))
    """
    _require_agents("a debate", num_agents, 1)
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
    """Any team, written in one line.

    Choose it where no other team fits. The line lists the turns in order, each as ``role``,
    ``role(turns it reads)`` or ``role@agent(turns it reads)``. Without ``@`` a turn belongs to an
    agent of its own. Every agent can be masked.

    Deviation: not in arXiv:2603.21563.

    Args:
      graph: the line.
      decision: "last" or "vote", see `Topology`.
      tie: how `vote_reward` breaks ties.

    Raises:
      InputError: `team.graph`, if the line does not parse; `topology`, if a turn reads a later one;
        `team.decision` or `team.tie`.

    Example:
      >>> graph("voter voter debater@0(0,1) debater@1(0,1)", decision="vote").final_turns
      (2, 3)
    """
    roles: list[str] = []
    reads: list[tuple[int, ...]] = []
    speakers: list[int] = []
    for word in re.sub(r",\s+", ",", graph).split():
        turn = _TURN.fullmatch(word)
        if turn is None:
            raise _not_a_graph(graph)
        roles.append(turn["role"])
        reads.append(tuple(map(int, turn["reads"].split(","))) if turn["reads"] else ())
        new_agent = 1 + max(speakers, default=-1)
        speakers.append(new_agent if turn["agent"] is None else int(turn["agent"]))
    if not roles:
        raise _not_a_graph(graph)

    return Topology(
        "graph",
        roles=tuple(roles),
        reads=tuple(reads),
        ablated=tuple(range(1 + max(speakers))),
        decision=decision,
        tie=tie,
        speakers=tuple(speakers),
    )


def _not_a_graph(graph: str) -> InputError:
    return InputError(
        "team.graph",
        f"{graph!r} is not a list of turns; type role, role(turns it reads) or role@agent(...), "
        "such as 'planner solver(0) checker(0,1)'",
    )


def _require_agents(team: str, num_agents: int, at_least: int) -> None:
    if num_agents < at_least:
        agents = "1 agent" if at_least == 1 else f"{at_least} agents"
        alone = ", or --config.topology=solo for a team of one" if num_agents == 1 else ""
        raise InputError(
            "team.num_agents",
            f"{team} needs at least {agents}, received {num_agents}; use team.num_agents=3{alone}",
        )


def agent_masks(num_agents: int, ablated: Sequence[int | Sequence[int]] | None = None) -> HostArray:
    """Masks of the factual world and of one world per entry of `ablated`.

    Args:
      num_agents: A.
      ablated: what each further world masks, in this order: one agent, or several together; None =
        every agent on its own.

    Returns:
      ``[W, A]`` bool, W = 1 + len(ablated), True = present. Row 0 is all True.

    Raises:
      InputError: `ablated`, if an entry is not an agent.

    Example:
      >>> agent_masks(2, (0, (0, 1))).tolist()
      [[True, True], [False, True], [False, False]]
    """
    ablated = range(num_agents) if ablated is None else ablated
    masks = np.ones((1 + len(ablated), num_agents), bool)
    for world, entry in enumerate(ablated, 1):
        for agent in entry if isinstance(entry, Sequence) else (entry,):
            if not 0 <= agent < num_agents:
                raise InputError(
                    "ablated", f"agent {agent} does not exist; use agents 0 to {num_agents - 1}"
                )
            masks[world, agent] = False
    return masks


def all_subsets(num_agents: int) -> tuple[tuple[int, ...], ...]:
    """The `ablated` of `agent_masks` with a world per subset of agents.

    World w masks the agents whose bits are set in w.

    Example:
      >>> all_subsets(2)
      ((0,), (1,), (0, 1))
    """
    subsets = []
    for world in range(1, 2**num_agents):
        subsets.append(tuple(agent for agent in range(num_agents) if world >> agent & 1))
    return tuple(subsets)


def reaching(topology: Topology, turn: int, present: Sequence[bool]) -> frozenset[int]:
    """Turns whose text reaches the prompt of `turn`, directly or through others.

    Args:
      topology: the team.
      turn: whose prompt.
      present: ``[A]`` bool, the agents that speak.

    Example:
      >>> sorted(reaching(chain(3), 2, (True, False, True)))
      [0]
    """
    reached: set[int] = set()
    waiting = list(topology.reads[turn])
    while waiting:
        partner = waiting.pop()
        if partner not in reached and present[topology.speakers[partner]]:
            reached.add(partner)
            waiting += topology.reads[partner]
    return frozenset(reached)


def variants(
    topology: Topology, turn: int, masks: HostArray
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The worlds in which the text of `turn` has to be decoded.

    Two worlds in which the same turns reach a prompt share its text. Where the speaker itself is
    masked nobody reads the text, and nothing is decoded for it.

    Args:
      topology: the team.
      turn: whose text.
      masks: ``[W, A]`` bool, row 0 factual.

    Returns:
      ``(representative, variant_of_world)``: the first world of each distinct variant (variant 0 is
      factual), and for every world the variant whose text it has.

    Example:
      >>> masks = agent_masks(2, (0,))
      >>> variants(dyad(), 1, masks), variants(dyad(), 0, masks)
      (((0, 1), (0, 1)), ((0,), (0, 0)))
    """
    variant_of_view: dict[frozenset[int], int] = {}
    representative: list[int] = []
    variant_of_world: list[int] = []
    for world, present in enumerate(np.asarray(masks)):
        if world and not present[topology.speakers[turn]]:
            variant_of_world.append(0)
            continue
        view = reaching(topology, turn, present)
        if view not in variant_of_view:
            variant_of_view[view] = len(representative)
            representative.append(world)
        variant_of_world.append(variant_of_view[view])
    return tuple(representative), tuple(variant_of_world)


def texts_per_sample(topology: Topology, masks: HostArray) -> int:
    """Texts that one sample of the team takes in all worlds together.

    Args:
      topology: the team.
      masks: ``[W, A]`` bool, row 0 factual.

    Example:
      >>> [texts_per_sample(dyad(), agent_masks(2, ablated)) for ablated in ((), (0,))]
      [2, 3]
    """
    return sum(len(variants(topology, turn, masks)[0]) for turn in range(len(topology.roles)))


def is_dyad(topology: Topology) -> bool:
    """Whether there are two agents, of which the last one answers and the first can be masked.

    Example:
      >>> is_dyad(dyad()), is_dyad(voting(2))
      (True, False)
    """
    return topology.decision == "last" and topology.num_agents == 2 and topology.ablated == (0,)


def is_chain(topology: Topology) -> bool:
    """Whether there are several turns, each of an agent of its own that reads the turn before it.

    Example:
      >>> is_chain(dyad()), is_chain(voting())
      (True, False)
    """
    turns = range(len(topology.roles))
    one_turn_each = topology.num_agents == len(turns)
    linked = all(turn - 1 in topology.reads[turn] for turn in turns[1:])
    return len(turns) > 1 and one_turn_each and linked and topology.decision == "last"


def votes_independently(topology: Topology) -> bool:
    """Whether the team votes and masking an agent changes no text, because nobody reads another.

    Example:
      >>> votes_independently(voting()), votes_independently(debate())
      (True, False)
    """
    return topology.decision == "vote" and not any(topology.reads)


def team_reward(
    topology: Topology, correct: ArrayLike, answer_id: ArrayLike, agent_mask: ArrayLike
) -> Array:
    """The team's reward in every world.

    Decision "vote": the (expected) score of the plurality answer, see `vote_reward`. Decision
    "last": the score of the present agent who speaks last. With nobody present it is 0.

    Args:
      topology: the team.
      correct: ``[W, ..., A]`` float in [0, 1], score of each agent's own answer: 1 = right.
      answer_id: ``[W, ..., A]`` int32, answer classes, -1 = no answer.
      agent_mask: ``[W, A]`` bool, True = present.

    Returns:
      ``[W, ...]`` float32 in [0, 1].

    Example:
      >>> masks = agent_masks(2, (1,))
      >>> correct = jnp.array([[1.0, 0.0], [1.0, 0.0]])
      >>> team_reward(graph("solver checker(0)"), correct, jnp.zeros((2, 2), int), masks).tolist()
      [0.0, 1.0]
    """
    correct = jnp.asarray(correct)
    agent_mask = jnp.asarray(agent_mask)
    worlds, agents = agent_mask.shape
    mask = agent_mask.reshape((worlds,) + (1,) * (correct.ndim - 2) + (agents,))
    if topology.decision == "vote":
        return vote_reward(
            answer_id, correct, jnp.broadcast_to(mask, correct.shape), tie=topology.tie
        )

    order = 1 + np.array(topology.final_turns)
    last = jnp.argmax(jnp.where(mask, order, 0), axis=-1, keepdims=True)
    index = jnp.broadcast_to(last, (*correct.shape[:-1], 1))
    answer = jnp.take_along_axis(correct, index, axis=-1)[..., 0]
    return jnp.where(mask.any(axis=-1), answer, 0.0)


# The team of config field topology.
TOPOLOGIES: dict[str, Callable[..., Topology]] = {
    "solo": solo,
    "dyad": dyad,
    "voting": voting,
    "chain": chain,
    "debate": debate,
    "graph": graph,
}
