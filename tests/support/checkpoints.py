"""Small checkpoints in Hugging Face format: a config.json per option of every family."""

import inspect
import itertools
import json
import pathlib

import numpy as np
from safetensors.numpy import save_file

from ccpo_jax.models import FAMILIES, hf

VOCAB = 50
_COMMON = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "hidden_act": "silu",
}
_LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}

# One frequency kept, one blended, the others lowered.
_YARN = {
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 8,
    "attention_factor": 1.25,
    "beta_fast": 1.2,
    "beta_slow": 0.2,
}

CASES = {
    "qwen2_tied": _COMMON
    | {
        "model_type": "qwen2",
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "use_sliding_window": False,
        "sliding_window": 4,
        "max_window_layers": 1,
    },
    "qwen2_untied": _COMMON
    | {
        "model_type": "qwen2",
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "tie_word_embeddings": False,
        "rms_norm_eps": 1e-2,
        "rope_theta": 100.0,
        "num_hidden_layers": 3,
    },
    "llama3_scaled": _COMMON
    | {
        "model_type": "llama",
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "tie_word_embeddings": True,
        "rms_norm_eps": 1e-5,
        "rope_theta": 5e3,
        "max_position_embeddings": 64,
        # One frequency kept, one blended, two lowered.
        "rope_scaling": _LLAMA3
        | {
            "low_freq_factor": 0.1,
            "high_freq_factor": 1.0,
            "original_max_position_embeddings": 8,
        },
    },
    "llama_bias": _COMMON
    | {
        "model_type": "llama",
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": False,
        "rms_norm_eps": 1e-5,
        "attention_bias": True,
        "head_dim": 12,
        "rope_parameters": _LLAMA3
        | {"rope_theta": 50.0, "factor": 3.0, "original_max_position_embeddings": 16},
    },
    "qwen3_untied": _COMMON
    | {
        "model_type": "qwen3",
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
        "rms_norm_eps": 1e-6,
        "head_dim": 16,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e3},
    },
    "qwen3_bias": _COMMON
    | {
        "model_type": "qwen3",
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "rms_norm_eps": 1e-3,
        "head_dim": 6,
        "rope_theta": 1e4,
        "attention_bias": True,
    },
    "olmo3": _COMMON
    | {
        "model_type": "olmo3",
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": False,
        "rms_norm_eps": 1e-5,
        "sliding_window": 5,
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {
            "full_attention": _YARN | {"rope_theta": 50.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
        },
    },
    # As published: without layer_types every fourth layer sees everything.
    "olmo3_older": _COMMON
    | {
        "model_type": "olmo3",
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
        "rms_norm_eps": 1e-2,
        "sliding_window": 3,
        "num_hidden_layers": 4,
        "head_dim": 12,
        "attention_bias": True,
        "rope_theta": 500000.0,
        "rope_scaling": _YARN | {"beta_fast": 1.0, "beta_slow": 0.02},
    },
}


def random_tensors(entries: dict, seed: int = 0) -> dict[str, np.ndarray]:
    """Float32 tensors by Hugging Face name, large enough for every option to show in the logits."""
    rng = np.random.default_rng(seed)
    config = hf.parse_config(entries, FAMILIES[entries["model_type"]])
    tensors = {}
    for name, tensor in sorted(hf.tensors(config).items()):
        noise = rng.standard_normal(tensor.shape).astype(np.float32)
        if name.endswith("norm.weight"):
            tensors[name] = np.float32(1) + np.float32(0.3) * noise
        else:
            tensors[name] = np.float32(0.25) * noise
    return tensors


def write_checkpoint(
    folder: pathlib.Path, entries: dict, tensors: dict | None = None
) -> pathlib.Path:
    """A folder with config.json and model.safetensors, written without ccpo_jax or transformers."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(entries))
    save_file(random_tensors(entries) if tensors is None else tensors, folder / "model.safetensors")
    return folder


def torch_logits(folder: pathlib.Path, tokens: np.ndarray) -> np.ndarray:
    """What transformers computes in float32."""
    import torch
    import transformers

    network = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    with torch.no_grad():
        return network(torch.from_numpy(np.asarray(tokens, np.int64))).logits.numpy()


def torch_decoding(folder: pathlib.Path, tokens: np.ndarray, prompt: int) -> np.ndarray:
    """What transformers computes in float32, with its own cache.

    For the last token of the prompt and each after it.
    """
    import torch
    import transformers

    network = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    # Its name depends on the version of transformers.
    parameters = inspect.signature(network.forward).parameters
    cache_name = "cache" if "cache" in parameters else "past_key_values"
    cache = {cache_name: transformers.DynamicCache(config=network.config)}
    ids = torch.from_numpy(np.asarray(tokens, np.int64))
    bounds = [0, *range(prompt, ids.shape[1] + 1)]
    logits = []
    with torch.no_grad():
        for first, last in itertools.pairwise(bounds):
            out = network(ids[:, first:last], use_cache=True, **cache)
            logits.append(out.logits[:, -1].numpy())
    return np.stack(logits, axis=1)
