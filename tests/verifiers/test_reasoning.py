"""What stands in a thought is never read."""

import time

import pytest

from ccpo_jax.verifiers.reasoning import strip_reasoning

PAIRS = [
    ("<think>", "</think>"),
    ("<THINK>", "</THINK>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("<longcat_think>", "</longcat_think>"),
    ("<|thinking|>", "<|/thinking|>"),
    ("<scratchpad>", "</scratchpad>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("analysisWe try. ", "assistantfinal"),
]


@pytest.mark.parametrize("opening, closing", PAIRS, ids=[pair[0] for pair in PAIRS])
def test_a_thought_is_removed(opening, closing):
    assert "7" not in strip_reasoning(f"{opening} it is 7 {closing} It is 5.")
    assert strip_reasoning(f"{opening} it is 7 {closing} It is 5.").strip() == "It is 5."
    assert strip_reasoning(f"it is 7 {closing} It is 5.").strip() == "It is 5."
    assert strip_reasoning(f"{opening} it is 7, or 5").strip() == ""


@pytest.mark.parametrize(
    "text, spoken",
    [
        ("<think>7</think>5<think>8</think>6", "56"),
        ("<think>7<think>8</think>9</think>5", "5"),
        ("4 <think>7", "4 "),
        ("<think>7</thinking>5", "5"),
        ("</think></think>5", "5"),
        ("I think 7 < 8", "I think 7 < 8"),
        ("[Analysis] 5", "[Analysis] 5"),
        ("analysis of the assistant final", "analysis of the assistant final"),
        ("<b>5</b>", "<b>5</b>"),
        ("", ""),
    ],
)
def test_what_is_left(text, spoken):
    assert strip_reasoning(text) == spoken


@pytest.mark.parametrize("piece", ["<", "<think>", "</think>", "<|", "_", "<a_", "\n", "here is "])
def test_hostile_texts_take_linear_time(piece):
    started_at = time.perf_counter()
    strip_reasoning(piece * (200_000 // len(piece)))
    assert time.perf_counter() - started_at < 2
