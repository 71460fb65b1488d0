"""Stop strings of agents: the table that finds them, and whether a response can hold one."""

import functools
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ccpo_jax.errors import InputError
from ccpo_jax.rl.types import HostArray
from ccpo_jax.rollout.prompts import TextCodec
from ccpo_jax.rollout.records import Agent
from ccpo_jax.sampler.stop_table import make_stop_table, shortest_match
from ccpo_jax.stop_strings import TokenBytes

# Tables are kept for the stop strings of several roles; each has a byte per state and token.
_KEPT_TABLES = 16


@runtime_checkable
class SpellsTokens(Protocol):
    """What stop strings need of a tokenizer besides a `TextCodec`."""

    @property
    def token_bytes(self) -> TokenBytes:
        """What each token adds to a text of `decode_batch`."""
        ...


def stop_table(agent: Agent) -> HostArray | None:
    """The table that finds an agent's stop strings; None where it has none.

    Raises:
      InputError: its tokenizer does not say what a token adds to a text.
    """
    return _table(agent.tokenizer, agent.stop) if agent.stop else None


@functools.lru_cache(_KEPT_TABLES)
def _table(tokenizer: object, stops: tuple[str, ...]) -> HostArray:
    return _make_table(tokenizer, stops)


def _make_table(tokenizer: object, stops: Sequence[str]) -> HostArray:
    if not isinstance(tokenizer, SpellsTokens):
        raise InputError(
            "model",
            f"its tokenizer, a {type(tokenizer).__name__}, has no token_bytes, which stop strings "
            "need; add it, or leave stop strings out",
        )
    return make_stop_table(tokenizer.token_bytes, stops)


def check_can_stop(stops: Sequence[str], agents: Sequence[Agent], field: str) -> None:
    """Checks that each stop string can be complete in a response of one of the agents at least.

    Args:
      stops: of all these agents.
      agents: who responds.
      field: the one that errors name.

    Raises:
      InputError: a stop string that no tokens write, or only more than a response may have.
    """
    # Tokenizer -> the most tokens of a response.
    limits: dict[TextCodec, int] = {}
    for agent in agents:
        limits[agent.tokenizer] = max(agent.max_tokens, limits.get(agent.tokenizer, 0))

    for stop in stops:
        # (tokens that it takes, tokens that there may be) for each tokenizer whose tokens write it.
        counts = []
        for tokenizer, most in limits.items():
            count = shortest_match(_make_table(tokenizer, (stop,)), tokenizer.eos_ids)
            if count is not None:
                counts.append((count, most))
        if not counts:
            raise InputError(
                field,
                f"the stop string {stop!r:.80} never occurs: no tokens of the model write it; "
                "leave it out",
            )
        if all(count > most for count, most in counts):
            count, most = counts[0]
            raise InputError(
                field,
                f"the stop string {stop!r:.80} takes {count} tokens, a response has {most} at "
                "most; shorten it, or raise response_length",
            )
