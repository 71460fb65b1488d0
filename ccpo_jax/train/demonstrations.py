"""The texts that roles learn to write in a supervised warm start, from columns of their rows."""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence

import numpy as np

from ccpo_jax import data
from ccpo_jax.data.mapping import ColumnMapping, paths_in
from ccpo_jax.errors import InputError
from ccpo_jax.rl.topology import Topology
from ccpo_jax.rl.types import HostArray
from ccpo_jax.rollout import Team, demonstrated_ids

FIELD = "sft.targets"

# Columns that have a worked solution, the first that a set has, where no column was typed.
SOLUTIONS = ("solution", "answer")


class NoDemonstration(Exception):
    """A row lacks a target text; the message says which."""


@dataclasses.dataclass(frozen=True)
class Demonstrations:
    """Where the texts of each role are.

    Attributes:
      columns: role -> path of its column, or the paths of which the first that a row has counts.
      roles: role of each turn in `turns`.
      turns: the turns of these roles, which are trained.
    """

    columns: Mapping[str, tuple[str, ...]]
    roles: tuple[str, ...]
    turns: tuple[int, ...]

    def read(self, problem: data.Problem) -> dict[str, list[str]]:
        """Role -> the texts of its demonstrations, of all roles the same number.

        Raises:
          NoDemonstration: a column is missing, empty or not a text, or the columns hold different
            numbers of texts.
        """
        texts = {role: _texts(problem, paths) for role, paths in self.columns.items()}
        count = max(map(len, texts.values()))
        for role, of_role in texts.items():
            if len(of_role) not in (1, count):
                columns = " or ".join(self.columns[role])
                raise NoDemonstration(
                    f"column {columns:.80} has {len(of_role)} texts, another {count}"
                )
        return {role: of_role * (count // len(of_role)) for role, of_role in texts.items()}

    def of_batch(
        self, problems: Sequence[data.Problem]
    ) -> tuple[dict[int, list[list[str]]], HostArray]:
        """The texts of a batch.

        Args:
          problems: ``[B]``, each with demonstrations.

        Returns:
          ``(turn -> [B][G] texts, is_real [B, G])``: G is the largest number of demonstrations of
          one problem; what others lack is filled with their first one, and marked False.
        """
        read = [self.read(problem) for problem in problems]
        counts = np.array([len(next(iter(texts.values()))) for texts in read])
        group = int(counts.max())
        is_real = np.arange(group) < counts[:, None]
        texts_of_turn: dict[int, list[list[str]]] = {}
        for turn, role in zip(self.turns, self.roles, strict=True):
            rows = []
            for texts in read:
                own = texts[role]
                rows.append(own + own[:1] * (group - len(own)))
            texts_of_turn[turn] = rows
        return texts_of_turn, is_real


def find_targets(targets: Sequence[str], topology: Topology) -> Demonstrations:
    """The columns of every role.

    Args:
      targets: as in the field `sft.targets`; () = a solution for the roles that answer.
      topology: the team's.

    Raises:
      InputError: an entry is not ROLE=COLUMN, or names a role that the team lacks.
    """
    columns: dict[str, tuple[str, ...]] = {}
    known = tuple(dict.fromkeys(topology.roles))
    for entry in targets:
        role, equals, path = (part.strip() for part in entry.partition("="))
        if not (role and equals and path):
            raise InputError(
                FIELD,
                f"{entry!r:.80} is not ROLE=COLUMN; type --config.{FIELD}={known[-1]}=solution",
            )
        if role not in known:
            near = difflib.get_close_matches(role[:80], known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise InputError(
                FIELD,
                f"{role!r:.80} is not a role of this team; {hint}its roles are {', '.join(known)}",
            )
        if role in columns:
            raise InputError(FIELD, f"has {role} twice; a list in one column holds several texts")
        columns[role] = (path,)
    if not columns:
        columns = dict.fromkeys(_answering_roles(topology), SOLUTIONS)

    turns = tuple(turn for turn, role in enumerate(topology.roles) if role in columns)
    return Demonstrations(
        columns,
        roles=tuple(topology.roles[turn] for turn in turns),
        turns=turns,
    )


def with_demonstrations(
    dataset: data.Dataset, demonstrations: Demonstrations, team: Team
) -> data.Dataset:
    """The problems that have all demonstrations; how many lack one or are too long goes to the log.

    Raises:
      InputError: none has.
    """
    kept = []
    gaps = []
    texts_of_role: dict[str, list[str]] = {role: [] for role in demonstrations.columns}
    for problem in dataset.problems:
        try:
            for role, texts in demonstrations.read(problem).items():
                texts_of_role[role] += texts
        except NoDemonstration as reason:
            gaps.append((problem, str(reason)))
        else:
            kept.append(problem)
    if not kept:
        problem, reason = gaps[0]
        columns = ", ".join(list(paths_in(problem.row))[:20]) or "none"
        raise InputError(
            FIELD,
            f"no problem of {dataset.name:.80} has demonstrations: {problem.id:.80}: {reason}; "
            f"its columns are {columns:.400}; type --config.{FIELD}=ROLE=COLUMN",
        )

    notes = [*dataset.notes, _describe(demonstrations, team.topology)]
    notes += _too_long(demonstrations, team, texts_of_role)
    dropped = dict(dataset.dropped)
    if gaps:
        problem, reason = gaps[0]
        dropped["without a demonstration"] = len(gaps)
        notes.append(f"no demonstration of {problem.id:.80}: {reason}")
    return dataclasses.replace(dataset, problems=tuple(kept), dropped=dropped, notes=tuple(notes))


def _answering_roles(topology: Topology) -> list[str]:
    finals = topology.final_turns
    turns = finals if topology.decision == "vote" else [max(finals)]
    return list(dict.fromkeys(topology.roles[turn] for turn in turns))


def _texts(problem: data.Problem, paths: Sequence[str]) -> list[str]:
    """The demonstrations in a problem's row."""
    path = next((path for path in paths if path in problem.row), paths[0])
    value = ColumnMapping({path: path}).read(problem.row)[path].value
    if len(paths) > 1 and isinstance(value, str) and value.strip() == problem.gold.strip():
        # Nobody typed this column.
        raise NoDemonstration(f"column {path:.80} is the bare answer {value!r:.40}")
    texts = list(value) if isinstance(value, list | tuple) else [value]
    if texts and all(isinstance(text, str) and text.strip() for text in texts):
        return texts
    if value is None:
        raise NoDemonstration(f"nothing in column {path:.80}")
    raise NoDemonstration(f"column {path:.80} is {value!r:.60}, not a text")


def _too_long(
    demonstrations: Demonstrations, team: Team, texts_of_role: dict[str, list[str]]
) -> list[str]:
    """Says of each role how many of its texts are cut off."""
    notes = []
    for turn, role in zip(demonstrations.turns, demonstrations.roles, strict=True):
        agent = team.agents[turn]
        texts = texts_of_role.pop(role, [])
        lengths = [len(ids) for ids in demonstrated_ids(agent, texts)]
        count = sum(length > agent.max_tokens for length in lengths)
        if count:
            notes.append(
                f"{count} of {len(texts)} texts of {role} exceed response_length="
                f"{agent.max_tokens} and are cut off, the longest takes {max(lengths)}"
            )
    return notes


def _describe(demonstrations: Demonstrations, topology: Topology) -> str:
    parts = []
    for role, paths in demonstrations.columns.items():
        parts.append(f"{role} learns from {' or '.join(f'`{path}`' for path in paths)}")
    others = [role for role in topology.roles if role not in demonstrations.columns]
    for role in dict.fromkeys(others):
        parts.append(f"{role} has no demonstrations and is not trained")
    return ", ".join(parts)
