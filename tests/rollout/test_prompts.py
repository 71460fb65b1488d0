"""Prompts: segments, masking, padding; and every style has words for the roles of its
topologies."""

import dataclasses
import re

import numpy as np
import pytest

from ccpo_jax.hf import load_tokenizer
from ccpo_jax.rl.topology import TOPOLOGIES
from ccpo_jax.rollout import padding, prompts
from ccpo_jax.rollout.prompts import RolePrompt, Template, tokenize_role
from ccpo_jax.rollout.role_prompts import PROMPTS
from ccpo_jax.train.sources import TINY
from ccpo_jax.verifiers.reasoning import strip_reasoning
from experiments.robustness.families import FAMILIES, save_tokenizer
from tests.support.errors import raises_for
from tests.support.stubs import CODEC
from tests.support.teams import senders_of

SOLVER = RolePrompt("be brief", "problem: {problem}.", "\nhint: {message}?", "\nanswer")


def spell(ids) -> str:
    return "".join("<>"[0] if i == 2 else CODEC.decode([i]) for i in ids)


def test_segments_in_order():
    template = tokenize_role(CODEC, SOLVER)
    assert isinstance(template, Template)
    assert spell(prompts.prefix(template, CODEC, "1+1")) == "<be briefproblem: 1+1."
    assert spell(prompts.tail(template, [CODEC.encode("two")])) == "\nhint: two?\nanswer<"
    assert (
        spell(prompts.tail(template, [CODEC.encode("a"), CODEC.encode("b")]))
        == "\nhint: a?\nhint: b?\nanswer<"
    )


def test_masking_removes_exactly_the_segment():
    template = tokenize_role(CODEC, SOLVER)
    message = CODEC.encode("two")
    received, masked = prompts.tail(template, [message]), prompts.tail(template, [None])
    ((before, after),) = template.message
    segment = [*before, *message, *after]
    assert received == segment + masked and masked == prompts.tail(template, [])
    silent = prompts.tail(template, [[]])  # saying nothing is not the same as being masked
    assert silent == [*before, *after, *masked]


def test_whole_is_prefix_and_tail():
    template = tokenize_role(CODEC, RolePrompt("", "{problem}", "", "?"))
    assert prompts.whole(template, CODEC, "7") == prompts.prefix(
        template, CODEC, "7"
    ) + prompts.tail(template, [])
    assert template.message == ()


def test_quotes_are_bounded_before_and_after_tokenizing():
    class Counting(type(CODEC)):
        longest = 0

        def encode_batch(self, texts):
            self.longest = max(map(len, texts))
            return super().encode_batch(texts)

    codec = Counting()
    quoted = prompts.quote(codec, ["a" * 1_000_000, "b"], 10)
    assert [len(q) for q in quoted] == [10, 1] and codec.longest <= 160


@pytest.mark.parametrize("field,text", [("problem", "no slot"), ("message", "no slot")])
def test_a_segment_without_its_slot_is_refused(field, text):
    words = {"system": "", "problem": "{problem}", "message": "", "closing": ""} | {field: text}
    with raises_for("prompt_style"):
        tokenize_role(CODEC, RolePrompt(**words))


def test_braces_of_problems_are_not_slots():
    template = tokenize_role(CODEC, RolePrompt("", "{problem}", "", ""))
    assert len(prompts.prefix(template, CODEC, "{message}")) > 0


def test_padding():
    right, lengths = padding.pad_right([[5, 6], [], [7, 8, 9]], 4, 0)
    np.testing.assert_array_equal(right, [[5, 6, 0, 0], [0, 0, 0, 0], [7, 8, 9, 0]])
    left, _ = padding.pad_left([[5, 6], [], [7, 8, 9]], 4, 0)
    np.testing.assert_array_equal(left, [[0, 0, 5, 6], [0, 0, 0, 0], [0, 7, 8, 9]])
    np.testing.assert_array_equal(lengths, [2, 0, 3])
    assert right.dtype == left.dtype == lengths.dtype == np.int32


@pytest.mark.parametrize("style", PROMPTS)
def test_every_style_serves_every_topology(style):
    for topology in (make() for make in TOPOLOGIES.values()):
        for role, senders in zip(topology.roles, senders_of(topology), strict=True):
            words = PROMPTS[style][role]
            # A team of one is a Solver that reads nobody.
            assert bool(words.message) == (bool(senders) or topology.num_agents == 1)
            assert len(tokenize_role(CODEC, words, senders).message) == len(senders)


@pytest.mark.parametrize("style", PROMPTS)
def test_every_style_lets_a_dyad_rate_itself(style):
    for role in ("rate_thinker", "rate_solver"):
        template = tokenize_role(CODEC, PROMPTS[style][role], ("thinker", "solver", "verdict"))
        assert len(template.message) == 3 and template.message[1] != template.message[2]


def test_the_words_around_a_message_depend_on_its_sender():
    role = RolePrompt("", "{problem}", {"own": "\nmine: {message}.", "": "\nother: {message}."}, "")
    template = tokenize_role(CODEC, role, ("voter", "own"))
    assert (
        spell(prompts.tail(template, [CODEC.encode("a"), CODEC.encode("b")]))
        == "\nother: a.\nmine: b.<"
    )
    assert spell(prompts.tail(template, [None, CODEC.encode("b")])) == "\nmine: b.<"
    assert spell(prompts.tail(template, [])) == "<"
    with raises_for("prompt_style"):
        tokenize_role(CODEC, RolePrompt("", "{problem}", {"own": "{message}"}, ""), ("voter",))
    with raises_for("prompt_style"):
        tokenize_role(CODEC, RolePrompt("be silent", "{problem}", "", ""), ("planner",))


@pytest.mark.parametrize("style", ["math", "choice"])
def test_the_thinker_leaves_the_answer_to_its_colleague(style):
    assert "to your colleague" in PROMPTS[style]["thinker"].closing
    assert PROMPTS[style]["solver"].closing == PROMPTS[style]["voter"].closing


@pytest.mark.parametrize(
    "end, opened",
    [
        ("<think>\n", "<think>\n"),
        ("<think>", "<think>"),
        ("<|START_THINKING|>", "<|START_THINKING|>"),
        ("[THINK]", "[THINK]"),
        ("◁think▷", "◁think▷"),
        ("<|begin_of_thought|>\n\n", "<|begin_of_thought|>\n\n"),
        ("<seed:think>", "<seed:think>"),
        ("<reasoning>\n", "<reasoning>\n"),
        # Closed, or no thought at all.
        ("<think>\n\n</think>\n\n", ""),
        ("<|START_THINKING|><|END_THINKING|>", ""),
        ("<|begin_of_thought|><|end_of_thought|>", ""),
        ("<|end_of_thought|>", ""),
        ("<think>\nLet me see.", ""),
        ("Think: ", ""),
        ("<answer>", ""),
        ("", ""),
    ],
)
@pytest.mark.parametrize("as_tokens", [True, False])
def test_a_prompt_that_ends_within_a_thought_says_so(tmp_path, end, opened, as_tokens):
    """Then the text of a response that never leaves the thought is one."""
    family = FAMILIES["no system role"]
    markers = tuple(re.findall(r"<[^\s<>]+>|\[THINK\]|◁think▷", end)) if as_tokens else ()
    family = dataclasses.replace(family, special_tokens=(*family.special_tokens, *markers))
    template = (
        "{% for m in messages %}<turn>{{ m.role }}: {{ m.content }}</s>{% endfor %}"
        "{% if add_generation_prompt %}<turn>" + end.replace("\n", "{{ '\\n' }}") + "{% endif %}"
    )
    save_tokenizer(tmp_path, family, template)
    tokenizer = load_tokenizer(str(tmp_path))
    role = tokenize_role(tokenizer, SOLVER)
    assert prompts.opened_thought(role, tokenizer) == opened
    text = opened + "Perhaps \\boxed{3}?"
    assert (strip_reasoning(text).strip() == "") == bool(opened)

    # A marker at the end of the role's own words is letters, which the template's end follows.
    wordy = tokenize_role(tokenizer, dataclasses.replace(SOLVER, closing="Begin with <think>"))
    assert prompts.opened_thought(wordy, tokenizer) == opened


def test_ids_of_the_embedded_model():
    """What its Solver reads: its own words are ordinary tokens in quoted text too.

    The model was trained on these ids. Other ids, and it writes nonsense: then its tokenizer or the
    rules of quoting have changed, and either the change is wrong or the model has to be trained
    again.
    """
    tokenizer = load_tokenizer(str(TINY))
    template = tokenize_role(tokenizer, PROMPTS["tiny"]["solver"])
    thought = prompts.quote(tokenizer, ["47-8=39"], 18)[0]
    prefix = prompts.prefix(template, tokenizer, "Compute 47-8.")
    # <|im_start|>system Solve<|im_end|> <|im_start|>user Compute 4 7 - 8 .
    assert prefix == [1, 4, 8, 2, 1, 5, 10, 18, 21, 88, 22, 89]
    # line feed, Thought: 4 7 - 8 = 3 9 <|im_end|> <|im_start|>assistant
    tail = [109, 11, 18, 21, 88, 22, 94, 17, 23, 2, 1, 6]
    assert prompts.tail(template, [thought]) == tail

    answer = "39\nAnswer: 39"
    assert prompts.quote(tokenizer, [answer], 30)[0] == tokenizer.encode(answer)
