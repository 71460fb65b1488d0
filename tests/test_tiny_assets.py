"""The embedded model: small, offline, exact on text, and still fed what it was trained on."""

import itertools
import json
import random
import string
import subprocess
import sys

import jax
import numpy as np
import pytest

from ccpo_jax import models
from ccpo_jax.data.synthetic import TASKS
from ccpo_jax.hf.tokenizer import load_tokenizer
from ccpo_jax.rl.topology import dyad, voting
from ccpo_jax.rollout import prompts
from ccpo_jax.rollout.role_prompts import PROMPTS

pretrain = pytest.importorskip("experiments.study.pretrain_tiny", reason="run from the repository root: experiments/ is no package of the library")  # fmt: skip
from experiments.study import score_tiny, tiny_traces  # noqa: E402

FOLDER = pretrain.FOLDER
FILES = {
    "chat_template.jinja", "config.json", "generation_config.json",
    "model.safetensors", "tokenizer.json", "tokenizer_config.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(str(FOLDER))


@pytest.fixture(scope="module")
def templates(tokenizer):
    return {
        role: prompts.tokenize_role(tokenizer, prompt) for role, prompt in PROMPTS["tiny"].items()
    }


def test_folder_is_complete_and_small():
    assert {file.name for file in FOLDER.iterdir()} == FILES
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 8e6


def test_weights_match_the_configuration():
    config, params = models.load(str(FOLDER))
    assert config == pretrain.CONFIG
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 753_792


def test_text_survives_the_tokenizer(tokenizer):
    for text in (
        string.printable.replace("\x0b", "").replace("\x0c", ""),
        "a  b\n\n c , d . system Answer: 1",
        "",
    ):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.vocab_size == pretrain.CONFIG.vocab_size == 112


def test_control_tokens_are_those_of_the_folder(tokenizer):
    entries = json.loads((FOLDER / "tokenizer.json").read_text())["model"]["vocab"]
    control = [
        entries[name] for name in (pretrain.END, pretrain.START, pretrain.STOP, pretrain.UNKNOWN)
    ]
    assert control == [0, 1, 2, 3]
    assert set(tokenizer.eos_ids) == {0, 2} and tokenizer.pad_id == 0
    assert not set(tokenizer.encode("".join((pretrain.END, pretrain.START, pretrain.STOP)))) & set(
        control
    )


def test_prompts_are_the_ones_of_pretraining(tokenizer, templates):
    """Literal ids: whoever changes prompts, template or vocabulary has to make the model anew."""
    question, thought = "Compute 4-1.", tokenizer.encode("4-1=3")
    asked = [1, 5, 10, 18, 88, 15, 89]
    assert prompts.whole(templates["thinker"], tokenizer, question) == [1, 4, 7, 2, *asked, 2, 1, 6]
    assert prompts.whole(templates["voter"], tokenizer, question) == [1, 4, 9, 2, *asked, 2, 1, 6]
    head = prompts.prefix(templates["solver"], tokenizer, question)
    assert head == [1, 4, 8, 2, *asked]
    assert prompts.tail(templates["solver"], [None]) == [2, 1, 6]
    assert prompts.tail(templates["solver"], [thought]) == [109, 11, 18, 88, 15, 94, 17, 2, 1, 6]


@pytest.mark.parametrize("habits", [False, True])
def test_traces_fit_and_are_known_to_the_tokenizer(habits, tokenizer, templates):
    seen = set()
    for trace in itertools.islice(tiny_traces.traces(0, habits), 1000):
        prompt, response = pretrain.encode(trace, tokenizer, templates)
        assert 3 not in prompt + response
        assert len(response) <= tiny_traces.MAX_TOKENS[trace.role] and len(prompt + response) <= 192
        assert len(prompts.whole(templates[trace.role], tokenizer, trace.question)) <= 32
        seen.add(trace.role)
    assert seen == set(tiny_traces.MAX_TOKENS)


def test_clean_traces_are_right():
    rng = random.Random(0)
    for question, gold in TASKS["dyad"]("pretrain", 200, 0):
        thought = tiny_traces.think(question, rng, "clean")
        for read in (thought, None):
            solution = tiny_traces.solve(question, read, rng, "clean", room=2)
            assert solution.endswith(f"\nAnswer: {gold}")
            assert solution.count("=") == 2
        assert tiny_traces.solve(question, None, rng, "guess", room=2) == f"Answer: {gold}"
    assert tiny_traces.think("Compute 47-8+6-9+5.", rng, "clean") == "47-8=39+6=45"
    assert (
        tiny_traces.solve("Compute 47-8+6-9+5.", "47-8=39+6=45", rng, "clean", 2)
        == "45-9=36+5=41\nAnswer: 41"
    )


def test_a_voter_who_lacks_a_term_guesses_within_reach():
    rng = random.Random(0)
    assert tiny_traces.add("Compute 47-23.", rng, "guess") == "Answer: 24"
    guesses = {tiny_traces.add("Compute 3?.", rng, "guess") for _ in range(2000)}
    assert guesses == {f"Answer: {total}" for total in range(53) if total != 3}


def test_habits_come_first_where_a_role_decides():
    """The most frequent decision is the unhelpful one, with a margin that training does not blur."""
    thinker = tiny_traces.THINKER
    assert thinker["unsure"] < 0.45
    assert thinker["first"] > 0.55 * (1 - thinker["unsure"])

    assert tiny_traces.VOTER["guess"] > 0.55
    assert tiny_traces.UNINFORMED["guess"] > 0.55


@pytest.mark.parametrize(
    "topology, temperature",
    [(dyad(), 0.0), (voting(1), 1.0)],
    ids=["a greedy dyad", "a voter's samples"],
)
def test_there_is_something_to_learn(topology, temperature):
    """Mostly wrong, and where eight samples differ one of them is often right."""
    model = score_tiny.SharedModel(str(FOLDER))
    questions, golds = zip(*TASKS[topology.name]("test", 128, 0), strict=True)
    right = model.answers(topology, questions, temperature) == np.array(golds)[:, None]
    assert right.mean() < 0.4
    if temperature:
        assert right.any(axis=1).mean() > right.mean() + 0.3


def test_a_plurality_of_voters():
    votes = np.array([["1", "1", "2", "", "", ""] + ["1"] * 2 + ["3"] * 8 + ["1"] * 8])
    reward = score_tiny.plurality(votes, ["1"])
    expected = [1.0, 1.0, 1 / 3, 0.5, 0.5, 0.5, 1.0, 1.0]
    np.testing.assert_allclose(reward, [expected], rtol=1e-6)


def test_transformers_agrees_without_torch_or_network():
    """AutoTokenizer rebuilds Qwen2's own class around tokenizer.json; the ids have to be the same all the same."""
    program = (
        "import os, sys; sys.modules['torch'] = None; os.environ['HF_HUB_OFFLINE'] = '1'\n"
        "from transformers import AutoTokenizer\n"
        f"print(AutoTokenizer.from_pretrained({str(FOLDER)!r}).encode('Compute 4.\\nAnswer: 3'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[10, 18, 89, 109, 12, 17]", done.stderr
