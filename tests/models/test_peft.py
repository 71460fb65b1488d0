"""PEFT folders: written, read back, refused by name, and the same network in peft and torch."""

import importlib.util
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ccpo_jax.models import LoRA, load, make_policy, with_adapters
from ccpo_jax.models.lora import TARGETS
from ccpo_jax.models.peft import CONFIG, WEIGHTS, read_adapter, write_adapter
from tests.support.checkpoints import CASES, VOCAB, write_checkpoint
from tests.support.errors import raises_for

SOME = LoRA(rank=3, alpha=6.0, targets=("q", "v", "down"), rslora=True)
TOKENS = np.random.default_rng(3).integers(0, VOCAB, (2, 12)).astype(np.int32)

_PARAMETER = re.compile(r"layers\.(\d+)\.\w+\.(\w+)_proj\.lora_([AB])\.")

needs_peft = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("peft", "torch", "transformers")),
    reason="peft, torch and transformers are not all installed",
)


def network(folder, case, lora):
    """(policy, base, adapters with a B other than zero); its checkpoint is in `folder`."""
    config, base = load(write_checkpoint(folder, CASES[case]))
    policy = with_adapters(make_policy(config), lora)
    adapters = policy.adapters.init(jax.random.key(0))
    rng = np.random.default_rng(1)
    return (
        config,
        policy,
        base,
        {
            name: x if name.endswith("_a") else 0.1 * rng.normal(size=x.shape).astype(np.float32)
            for name, x in adapters.items()
        },
    )


@pytest.fixture
def written(tmp_path):
    config, _, _, adapters = network(tmp_path / "base", "qwen2_tied", SOME)
    write_adapter(tmp_path, config, SOME, adapters, "some/base")
    return tmp_path, config, adapters


def test_what_is_written_is_read_back(written):
    folder, config, adapters = written
    lora, read = read_adapter(folder, config)
    assert lora == SOME
    assert read.keys() == adapters.keys()
    for name, x in adapters.items():
        np.testing.assert_array_equal(read[name], x)


def entry(**changes):
    def change(folder):
        entries = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps(entries | changes))

    return change


def tensors(change):
    def rewrite(folder):
        values = load_file(folder / WEIGHTS)
        change(values)
        save_file(values, folder / WEIGHTS)

    return rewrite


FIRST = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
BAD = {
    "LORA": entry(peft_type="IA3"),
    "use_dora": entry(use_dora=True),
    "rank_pattern": entry(rank_pattern={"q_proj": 8}),
    "alpha_pattern": entry(alpha_pattern={"q_proj": 8}),
    "modules_to_save": entry(modules_to_save=["lm_head"]),
    "bias": entry(bias="all"),
    "r=None": entry(r=None),
    "no object": lambda folder: (folder / CONFIG).write_text("[]"),
    CONFIG: lambda folder: (folder / CONFIG).unlink(),
    WEIGHTS: lambda folder: (folder / WEIGHTS).write_bytes(b"x"),
    "embed_tokens": tensors(lambda t: t.update({"base_model.model.embed_tokens": t[FIRST]})),
    FIRST: tensors(lambda t: t.pop(FIRST)),
    "[3, 32]": tensors(lambda t: t.update({FIRST: t[FIRST][:2]})),
    "more layers": tensors(lambda t: t.update({FIRST.replace("0", "7", 1): t[FIRST]})),
}


@pytest.mark.parametrize("word", BAD)
def test_what_is_not_understood_is_refused_by_name(written, word):
    folder, config, _ = written
    BAD[word](folder)
    with raises_for("lora.start") as error:
        read_adapter(folder, config)
    assert word in str(error.value)


@needs_peft
@pytest.mark.parametrize("case, targets", [("qwen2_tied", TARGETS), ("llama_bias", SOME.targets)])
def test_peft_computes_the_same_logits_and_gradients(tmp_path, case, targets):
    """On a random Qwen2 and a random Llama, the loss a fixed weighting of all logits."""
    import peft
    import torch
    import transformers

    lora = LoRA(rank=3, alpha=6.0, targets=targets)
    config, policy, base, adapters = network(tmp_path / "base", case, lora)
    (tmp_path / "adapter").mkdir()
    write_adapter(tmp_path / "adapter", config, lora, adapters, str(tmp_path / "base"))
    weighting = np.random.default_rng(5).normal(size=(*TOKENS.shape, VOCAB)).astype(np.float32)
    weighting /= weighting.size

    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "base", dtype=torch.float32, attn_implementation="eager"
    )
    theirs = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter", is_trainable=True)
    their_logits = theirs(torch.from_numpy(TOKENS.astype(np.int64))).logits
    (their_logits * torch.from_numpy(weighting)).sum().backward()

    positions = np.broadcast_to(np.arange(TOKENS.shape[1]), TOKENS.shape)
    ones = jnp.ones_like(TOKENS)

    def objective(adapters):
        params = policy.adapters.join(base, adapters)
        hidden = policy.hidden(params, jnp.asarray(TOKENS), positions, ones, ones)
        logits = policy.logits(params, hidden)
        return jnp.sum(logits * weighting), logits

    gradients, logits = jax.jit(jax.grad(objective, has_aux=True))(adapters)
    np.testing.assert_allclose(logits, their_logits.detach().numpy(), atol=1e-4)
    compared = 0
    for name, parameter in theirs.named_parameters():
        if not parameter.requires_grad:
            continue
        layer, target, letter = _PARAMETER.search(name).groups()
        own = gradients[f"{target}_lora_{letter.lower()}"][int(layer)]
        np.testing.assert_allclose(own.T, parameter.grad.numpy(), atol=1e-5)
        compared += 1
    assert compared == 2 * len(targets) * config.num_layers
