"""Samplers of other projects under the same load. Each is an optional install.

A peer is made by `make_peer` and called as ``peer(prompts, samples, response_length)``: it samples
at temperature 1 with log-probs and returns how many tokens it decoded.
"""

from collections.abc import Callable, Sequence

import numpy as np

from ccpo_jax.models import ModelConfig

Prompts = Sequence[Sequence[int]]
Peer = Callable[[Prompts, int, int], int]


def tunix(config: ModelConfig, stop: Sequence[int]) -> Peer:
    """google-tunix: one cache row per sample, prompts repeated for every sample, left-padded."""
    from flax import nnx
    from tunix.generate import sampler as sampling
    from tunix.models.qwen2 import model as qwen2

    shape = qwen2.ModelConfig(
        num_layers=config.num_layers,
        vocab_size=config.vocab_size,
        embed_dim=config.hidden_size,
        hidden_dim=config.ffn_size,
        num_heads=config.num_heads,
        head_dim=config.head_dim,
        num_kv_heads=config.num_kv_heads,
        rope_theta=int(config.rope_theta),
        norm_eps=config.norm_eps,
        use_tied_embedding=config.tied_embeddings,
    )
    network = qwen2.Qwen2(shape, rngs=nnx.Rngs(0))

    # The scale of our own random weights: next tokens are near uniform, so that stop tokens come
    # as often.
    table = network.embedder.input_embedding
    table.value = 0.02 * table.value

    samplers: dict[int, sampling.Sampler] = {}

    def call(prompts: Prompts, samples: int, response_length: int) -> int:
        # It puts a token of its own in front.
        longest = max(map(len, prompts)) + 1
        size = longest + response_length
        if size not in samplers:
            cache = sampling.CacheConfig(
                size, config.num_layers, config.num_kv_heads, config.head_dim
            )
            samplers[size] = sampling.Sampler(network, _Ids(), cache)

        texts = []
        for prompt in prompts:
            texts += [" ".join(map(str, prompt))] * samples
        out = samplers[size](
            texts,
            response_length,
            max_prompt_length=longest,
            temperature=1.0,
            top_p=1.0,
            seed=0,
            eos_tokens=list(stop),
            return_logprobs=True,
        )

        # It leaves the end token out.
        return sum(min(len(row) + 1, response_length) for row in out.tokens)

    return call


class _Ids:
    """A tokenizer whose texts are numbers."""

    def encode(self, text: str, **_) -> list[int]:
        return [int(word) for word in text.split()]

    def decode(self, ids, **_) -> str:
        return " ".join(map(str, ids))

    def bos_id(self) -> int:
        return 1

    def eos_id(self) -> int:
        return 2

    def pad_id(self) -> int:
        return 0


def hf(config: ModelConfig, stop: Sequence[int]) -> Peer:
    """transformers' generate on torch."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    shape = Qwen2Config(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.ffn_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        rope_theta=config.rope_theta,
        rms_norm_eps=config.norm_eps,
        tie_word_embeddings=config.tied_embeddings,
        bos_token_id=1,
        eos_token_id=list(stop),
        pad_token_id=0,
    )
    network = Qwen2ForCausalLM(shape).eval()

    def call(prompts: Prompts, samples: int, response_length: int) -> int:
        longest = max(map(len, prompts))
        padded = [[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
        ids = torch.tensor(padded).repeat_interleave(samples, 0)
        with torch.no_grad():
            out = network.generate(
                ids,
                attention_mask=(ids != 0).long(),
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                max_new_tokens=response_length,
                output_logits=True,
                return_dict_in_generate=True,
            )
            network.compute_transition_scores(out.sequences, out.logits, normalize_logits=True)

        responses = out.sequences[:, longest:].numpy()
        is_end = np.isin(responses, list(stop))
        length = np.where(is_end.any(1), is_end.argmax(1) + 1, responses.shape[1])
        return int(length.sum())

    return call


PEERS = {"tunix": tunix, "hf": hf}
_INSTALL = {"tunix": "google-tunix==0.1.7", "hf": "torch==2.13.0 transformers"}


def make_peer(name: str, config: ModelConfig, stop: Sequence[int]) -> Peer:
    """A peer with random weights of the given shape.

    Raises:
      ValueError: it is not installed; the message says how.
    """
    try:
        return PEERS[name](config, stop)
    except ModuleNotFoundError as missing:
        raise ValueError(
            f"--peer: {name} needs {missing.name}; type pip install {_INSTALL[name]}"
        ) from missing
