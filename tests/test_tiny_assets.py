"""The embedded model: small, offline, exact on text, and still fed what it was trained on."""

import itertools
import json
import random
import string
import subprocess
import sys

import jax
import pytest

from ccpo_jax import models
from ccpo_jax.hf.tokenizer import load_tokenizer
from ccpo_jax.rollout import prompts
from ccpo_jax.rollout.role_prompts import PROMPTS

pretrain = pytest.importorskip("experiments.study.pretrain_tiny", reason="run from the repository root: experiments/ is no package of the library")  # fmt: skip

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


def test_traces_fit_and_are_known_to_the_tokenizer(tokenizer, templates):
    seen = set()
    for trace in itertools.islice(pretrain.traces(0, 0.5), 2000):
        prompt, response = pretrain.encode(trace, tokenizer, templates)
        assert 3 not in prompt + response
        assert len(response) <= pretrain.MAX_TOKENS[trace.role] and len(prompt + response) <= 64
        assert len(prompts.whole(templates[trace.role], tokenizer, trace.question)) <= 32
        seen.add((trace.role, trace.thought is None))
    assert seen == {("thinker", True), ("solver", True), ("solver", False), ("voter", True)}


def test_clean_traces_are_right(tokenizer):
    rng = random.Random(0)
    for question, gold in pretrain.TASKS["dyad"]("pretrain", 200, 0):
        thought = pretrain.think(question, rng, "clean")
        for read in (thought, None):
            assert pretrain.solve(question, read, rng, "clean", room=3).endswith(f"Answer: {gold}")
        assert pretrain.solve(question, None, rng, "clean", room=99).endswith(f"\nAnswer: {gold}")
    assert pretrain.think("Compute 47-8+6-9.", rng, "clean") == "47-8=39+6=45"
    assert (
        pretrain.solve("Compute 47-8+6-9.", "47-8=39+6=45", rng, "clean", 3)
        == "45-9=36\nAnswer: 36"
    )


def test_a_half_competent_start(tokenizer, templates):
    """Sampled accuracy of both teams on 128 held-out problems leaves something to gain and something to lose."""
    config, params = models.load(str(FOLDER))
    scores = pretrain.score(
        models.make_policy(config, remat="none"), params, tokenizer, templates, problems=128
    )
    assert 0.2 < scores["dyad"] < 0.7
    assert 0.2 < scores["voting"] < 0.7
    assert scores["solo"] < scores["dyad"] - 0.05, "the thought must be worth something"


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
