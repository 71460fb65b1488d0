"""Model families (stand-in by the lead until the real file lands)."""
import jax
import jax.numpy as jnp

from ccpo_jax.models.decoder import ModelConfig, make_policy


def init_params(c: ModelConfig, key):
    shapes = {"attn_norm": (c.hidden_size,), "q": (c.hidden_size, c.num_heads * c.head_dim), "k": (c.hidden_size, c.num_kv_heads * c.head_dim),
              "v": (c.hidden_size, c.num_kv_heads * c.head_dim), "o": (c.num_heads * c.head_dim, c.hidden_size), "mlp_norm": (c.hidden_size,),
              "gate": (c.hidden_size, c.ffn_size), "up": (c.hidden_size, c.ffn_size), "down": (c.ffn_size, c.hidden_size)}
    if c.qkv_bias:
        shapes |= {"q_bias": (c.num_heads * c.head_dim,), "k_bias": (c.num_kv_heads * c.head_dim,), "v_bias": (c.num_kv_heads * c.head_dim,)}
    if c.qk_norm:
        shapes |= {"q_norm": (c.head_dim,), "k_norm": (c.head_dim,)}
    keys = iter(jax.random.split(key, 64))
    def make(n, s):
        if "norm" in n: return jnp.ones((c.num_layers,) + s)
        if "bias" in n: return jnp.zeros((c.num_layers,) + s)
        return 0.02 * jax.random.normal(next(keys), (c.num_layers,) + s)
    p = {"embed": 0.02 * jax.random.normal(next(keys), (c.vocab_size, c.hidden_size)), "layers": {n: make(n, s) for n, s in shapes.items()}, "final_norm": jnp.ones(c.hidden_size)}
    if not c.tied_embeddings:
        p["head"] = 0.02 * jax.random.normal(next(keys), (c.hidden_size, c.vocab_size))
    return p


_N = {"attn_norm": "input_layernorm.weight", "q": "self_attn.q_proj.weight", "k": "self_attn.k_proj.weight", "v": "self_attn.v_proj.weight", "q_bias": "self_attn.q_proj.bias",
      "k_bias": "self_attn.k_proj.bias", "v_bias": "self_attn.v_proj.bias", "o": "self_attn.o_proj.weight", "mlp_norm": "post_attention_layernorm.weight",
      "gate": "mlp.gate_proj.weight", "up": "mlp.up_proj.weight", "down": "mlp.down_proj.weight"}


def save(folder, c, params, *, dtype=None):
    import json, pathlib
    import numpy as np
    from safetensors.numpy import save_file
    folder = pathlib.Path(folder); folder.mkdir(parents=True, exist_ok=True)
    out = {"model.embed_tokens.weight": params["embed"], "model.norm.weight": params["final_norm"]}
    for n, x in params["layers"].items():
        for i in range(c.num_layers):
            out[f"model.layers.{i}.{_N[n]}"] = x[i].T if x[i].ndim == 2 else x[i]
    if not c.tied_embeddings: out["lm_head.weight"] = params["head"].T
    save_file({k: np.ascontiguousarray(np.asarray(v)) for k, v in out.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    json.dump({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": c.vocab_size, "hidden_size": c.hidden_size, "num_hidden_layers": c.num_layers,
               "num_attention_heads": c.num_heads, "num_key_value_heads": c.num_kv_heads, "intermediate_size": c.ffn_size, "rope_theta": c.rope_theta, "rms_norm_eps": c.norm_eps,
               "tie_word_embeddings": c.tied_embeddings, "max_position_embeddings": c.max_positions, "hidden_act": "silu", "torch_dtype": "float32"}, open(folder / "config.json", "w"), indent=1)


def load(path, *, dtype=jnp.float32, revision=None):
    import json, pathlib
    import numpy as np
    from safetensors.numpy import load_file
    j = json.load(open(pathlib.Path(path) / "config.json")); t = load_file(pathlib.Path(path) / "model.safetensors")
    c = ModelConfig("qwen2", j["vocab_size"], j["hidden_size"], j["num_hidden_layers"], j["num_attention_heads"], j["num_key_value_heads"], j["hidden_size"] // j["num_attention_heads"],
                    j["intermediate_size"], j.get("rope_theta", 10000.0), None, j["rms_norm_eps"], True, False, j["tie_word_embeddings"], j["max_position_embeddings"])
    f = lambda i, n: (lambda x: x.T if x.ndim == 2 else x)(t[f"model.layers.{i}.{_N[n]}"])
    return c, {"embed": jnp.asarray(t["model.embed_tokens.weight"]), "final_norm": jnp.asarray(t["model.norm.weight"]),
               "layers": {n: jnp.asarray(np.stack([f(i, n) for i in range(c.num_layers)])) for n in _N}} | ({} if c.tied_embeddings else {"head": jnp.asarray(t["lm_head.weight"].T)})
