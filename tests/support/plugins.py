"""Leaves nothing of a test's plugins behind, and one plugin that adds to every table."""

import contextlib
import sys
from collections.abc import Iterator

from ccpo_jax import config, references
from ccpo_jax.train import plugins

EVERY_TABLE = """
import re

import jax.numpy as jnp

import ccpo_jax
from ccpo_jax.data import DATASETS, TASKS, Source
from ccpo_jax.models import FAMILIES, Family
from ccpo_jax.rollout import PROMPTS, RolePrompt
from ccpo_jax.verifiers import VERIFIERS, Verifier


def pair(tie="expected"):
    roles = ("writer", "editor")
    return ccpo_jax.Topology("pair", roles, ((), (0,)), (0,), "last", tie)


def bonus(topology, *, weight=0.5):
    raw = ccpo_jax.CREDITS["difference"](topology)

    def update(state, outcome):
        delta, state = raw.update(state, outcome)
        return jnp.asarray(outcome.reward[0]) + weight * delta, state

    return ccpo_jax.CreditEstimator(raw.init, update, needs=raw.needs)


def plain(logprobs, old_logprobs, advantage, mask, *, totals):
    kept = jnp.where(mask, logprobs, 0.0)
    return -(kept * advantage[:, None]).sum() / totals.tokens, {}


def last_integer(text, context):
    numbers = re.findall(r"\\d+", text)
    return numbers[-1] if numbers else None


def same(first, second, context):
    return first == second


def count(split, size, seed):
    return [(f"Compute {n}+1.", str(n + 1)) for n in range(size)]


ccpo_jax.TOPOLOGIES["pair"] = pair
ccpo_jax.CREDITS["bonus"] = bonus
ccpo_jax.LOSSES["plain"] = plain
VERIFIERS["integer"] = Verifier(
    last_integer, same, lambda answer, context: answer, same, lambda gold, context: None
)
DATASETS["mine"] = Source("no_such_owner/no_such_set", "train")
PROMPTS["mine"] = {
    "writer": RolePrompt("Solve", "{problem}", "", ""),
    "editor": RolePrompt("Solve", "{problem}", "\\nThought: {message}", ""),
}
FAMILIES["mistral"] = Family("MistralForCausalLM")
TASKS["count"] = count
"""


@contextlib.contextmanager
def forgotten_plugins() -> Iterator[None]:
    """What is loaded inside is unknown again afterwards: tables, modules, the import path."""
    tables = {name: dict(table.entries) for name, table in plugins.TABLES.items()}
    outside = {name: dict(entries) for name, entries in config.OUTSIDE.items()}
    known = (dict(references._LOADED), dict(references._GIVEN), dict(plugins._ADDED))
    modules = set(sys.modules)
    path = list(sys.path)
    try:
        yield
    finally:
        for name, entries in tables.items():
            plugins.TABLES[name].entries.clear()
            plugins.TABLES[name].entries.update(entries)
        config.OUTSIDE.update(outside)
        for state, before in zip(
            (references._LOADED, references._GIVEN, plugins._ADDED), known, strict=True
        ):
            state.clear()
            state.update(before)
        for name in set(sys.modules) - modules:
            file = getattr(sys.modules[name], "__file__", None) or ""
            if name == references.module_name(file) or name.startswith("my_"):
                del sys.modules[name]
        sys.path[:] = path
