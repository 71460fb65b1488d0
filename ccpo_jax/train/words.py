"""The words of a team: of a program, of a file of role prompts, and of a style for the others."""

from collections.abc import Collection, Mapping
from typing import Any

from ccpo_jax.config import FIELDS, Config, combine, get, has_effect, is_object
from ccpo_jax.errors import InputError
from ccpo_jax.rl.topology import Topology
from ccpo_jax.rollout.prompts import RolePrompt
from ccpo_jax.rollout.role_files import check_own_roles, check_readers, check_words, read_words
from ccpo_jax.rollout.role_prompts import PROMPTS

# What the words ask of a reply -> the field of the verifier that it sets, and its value.
_FORMAT_FIELDS = {
    "marked": ("verifier.extraction", "strict"),
    "unmarked": ("verifier.extraction", "lenient"),
    "evaluated": ("verifier.evaluated", True),
}


def team_words(
    config: Config,
    topology: Topology,
    *,
    ratings: bool,
    own: Mapping[str, RolePrompt] | None = None,
) -> dict[str, RolePrompt]:
    """The words of every role of a team, checked.

    Args:
      config: `prompts` and `prompt_style`.
      topology: the team's.
      ratings: True: the agents also rate outcomes.
      own: of a program, in place of a file; the style has the roles that they leave out.

    Raises:
      InputError: a file that cannot be read, a role that the team does not have, or words without
        a place for what they quote.
    """
    readers = readers_of(topology, ratings=ratings)
    if own is None:
        own = {} if config.prompts is None else read_words(config.prompts).roles
    for role, words in own.items():
        check_words(words, role, field="prompts")
    check_own_roles(own, readers, topology.name)

    missing = [role for role in readers if role not in own]
    style = _style_words(config.prompt_style, missing) if missing else {}
    check_readers({**style, **own}, {role: readers[role] for role in own}, field="prompts")
    check_readers(style, {role: readers[role] for role in missing}, field="prompt_style")
    return {role: own.get(role) or style[role] for role in readers}


def apply_format(config: Config, asked: Collection[str], typed: Collection[str] = ()) -> Config:
    """A configuration whose verifier reads answers as the words ask for them.

    Args:
      config: of the run.
      asked: the `format` of the words.
      typed: names of fields that were typed.

    Raises:
      InputError: the configuration says something else, or its verifier does not read the field.
    """
    changes: dict[str, Any] = {}
    for word in asked:
        name, value = _FORMAT_FIELDS[word]
        own = get(config, name)
        if not has_effect(config, name):
            raise InputError(
                "prompts",
                f"format={word!r} sets {name}, which has no effect in this run; leave format out",
            )
        if own != value and (name in typed or own != FIELDS[name].default):
            raise InputError(
                name,
                f"is {own!r}, and the words of {config.prompts!r:.80} have format={word!r}, which "
                f"means {value!r}; leave out --config.{name}, or the format",
            )
        changes[name] = value
    return combine(config, changes, inherited={}) if changes else config


def apply_file(config: Config, typed: Collection[str] = ()) -> Config:
    """`apply_format` with what the file of role prompts asks for; without one, `config`."""
    if config.prompts is None or is_object(config.prompts):
        return config
    return apply_format(config, read_words(config.prompts).format, typed)


def check_style(config: Config, topology: Topology, *, ratings: bool) -> None:
    """Checks that `prompt_style`, which was typed, has an effect.

    Raises:
      InputError: the file of role prompts has words for every role of the team.
    """
    if config.prompts is None or is_object(config.prompts):
        return
    own = read_words(config.prompts).roles
    if not set(readers_of(topology, ratings=ratings)) - set(own):
        raise InputError(
            "prompt_style",
            f"received {config.prompt_style!r:.80}, and {config.prompts!r:.200} has words for "
            "every role; leave prompt_style out",
        )


def readers_of(topology: Topology, *, ratings: bool) -> dict[str, tuple[str, ...]]:
    """Role -> the senders whose messages it reads, in order, as keys of `RolePrompt.message`."""
    readers: dict[str, dict[str, None]] = {}
    for turn, role in enumerate(topology.roles):
        readers.setdefault(role, {}).update(dict.fromkeys(senders_of(topology, turn)))
    if ratings:
        for role in topology.agent_roles:
            readers[f"rate_{role}"] = dict.fromkeys((*topology.roles, "verdict"))
    return {role: tuple(senders) for role, senders in readers.items()}


def senders_of(topology: Topology, turn: int) -> list[str]:
    """Who wrote each message that a turn reads: a role, or "own" where the speaker did."""
    senders = []
    for read in topology.reads[turn]:
        own = topology.speakers[read] == topology.speakers[turn]
        senders.append("own" if own else topology.roles[read])
    return senders


def _style_words(style: str, roles: list[str]) -> dict[str, Any]:
    """The words of some roles in a style, each checked by itself."""
    if style not in PROMPTS:
        raise InputError(
            "prompt_style", f"{style!r:.80} is unknown; use one of {', '.join(sorted(PROMPTS))}"
        )
    words = PROMPTS[style]
    for role in roles:
        if role not in words:
            raise InputError(
                "prompt_style",
                f"{style!r} has no prompt for the role {role!r}; it has {', '.join(sorted(words))}",
            )
        check_words(words[role], role, field="prompt_style")
    return {role: words[role] for role in roles}
