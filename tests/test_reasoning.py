"""Thoughts apart from answers, by hand; `tests/verifiers/test_reasoning.py` has the markers."""

import pytest

from ccpo_jax.reasoning import Marker, Reply, join_pieces, marker_of, opened_at_end, split_text

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    "text, reply",
    [
        ("5", Reply("5")),
        ("1 < 2 [a]", Reply("1 < 2 [a]")),
        ("\n 5", Reply("\n 5")),
        ("<think>\nIs it 7?\n</think>\n\n5", Reply("5", "Is it 7?")),
        # Two thoughts: both are thought, and the answer is what stands outside them.
        ("<think>7</think>\n5\n<think>8</think>\n6", Reply("5\n\n6", "7\n\n8")),
        # A closing marker alone: the prompt opened the thought. Of two, the last one ends it.
        ("7</think>\n5", Reply("5", "7")),
        ("<think>7</think> 8 </think>5", Reply("5", "7\n\n8")),
        # A thought that is never closed has no answer, and one behind an answer takes none away.
        (r"<think>so \boxed{7}", Reply("", r"so \boxed{7}", unfinished=True)),
        ("5 <think>or 7", Reply("5 ", "or 7", unfinished=True)),
        ("<think>\n\n</think>\n\n5", Reply("5")),
        ("<think>7</think>", Reply("", "7")),
        # Gemma 4, and gpt-oss with its special tokens and without them.
        ("<|channel>thought\n7<channel|>5", Reply("5", "7")),
        ("<|channel|>analysis<|message|>7<|channel|>final<|message|>5", Reply("5", "7")),
        ("analysisWe try 7.assistantfinal5", Reply("5", "We try 7.")),
        ("analysisWe try 7.", Reply("", "We try 7.", unfinished=True)),
    ],
)
def test_a_text_is_cut_at_its_markers(text, reply):
    assert split_text(text) == reply


@pytest.mark.parametrize(
    "text, reply",
    [
        ("7</think>5", Reply("5", "7")),
        (r"\boxed{7}", Reply("", r"\boxed{7}", unfinished=True)),
        ("<think>7</think>5", Reply("5", "7")),
        ("", Reply("", "", unfinished=True)),
    ],
)
def test_a_text_may_begin_within_a_thought(text, reply):
    assert split_text(text, opened=True) == reply


def test_channels_are_read_from_their_headers():
    pieces: list[tuple[Marker | None, str]] = [
        (None, ""),
        ("channel", "analysis"),
        ("message", "Is it 7?"),
        ("start", "assistant"),
        ("channel", "commentary"),
        ("message", "I look it up."),
        ("start", "assistant"),
        ("channel", "final"),
        ("message", "5"),
    ]
    assert join_pieces(pieces) == Reply("5", "Is it 7?\n\nI look it up.")
    assert join_pieces(pieces[:7]) == Reply("", "Is it 7?\n\nI look it up.", unfinished=True)
    assert join_pieces([(None, ""), ("channel", "final 5")]) == Reply(" 5")


def test_what_tokens_mark():
    opening = ["<think>", "[THINK]", "<seed:think>", "<|START_THINKING|>", "<|channel>"]
    closing = ["</think>", "[/THINK]", "</seed:think>", "<|END_THINKING|>", "<channel|>"]
    assert [marker_of(token) for token in opening] == ["opening"] * 5
    assert [marker_of(token) for token in closing] == ["closing"] * 5
    assert [marker_of(token) for token in ("<answer>", "think", "<|end|>", "<x><think>")] == [
        None
    ] * 4


def test_a_prompt_may_end_within_a_channel():
    assert opened_at_end("x<|channel|>analysis<|message|>") == "<|channel|>analysis<|message|>"
    assert opened_at_end("x<|channel>thought\n") == "<|channel>thought\n"
    assert not opened_at_end("x<|channel|>final<|message|>")
    assert not opened_at_end("x<|channel>thought\n<channel|>")
