"""Checkpoints in and out: what is read, what is written, and what is refused."""

import importlib.util
import json
import pathlib
import pickle
import shutil
import sys
import tempfile

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from huggingface_hub import constants
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from ccpo_jax.devices.sharding import make_mesh, state_sharding
from ccpo_jax.errors import InputError
from ccpo_jax.hf.tokenizer import load_tokenizer
from ccpo_jax.models import (
    FAMILIES,
    ModelConfig,
    hf,
    init_params,
    load,
    load_config,
    make_policy,
    save,
)
from ccpo_jax.models.decoder import parameter_shapes
from ccpo_jax.models.rope import Llama3Scaling, YarnScaling
from tests.support.checkpoints import CASES, VOCAB, random_tensors, torch_logits, write_checkpoint
from tests.support.errors import raises_for

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None,
    reason="torch is not installed; transformers cannot build the network",
)

# The parts of published config.json files that shape the network, and the published parameter
# counts (of Olmo the sum by hand: 2 x 100278 x 4096 + 32 x (4 x 4096^2 + 3 x 4096 x 11008 + 4 x
# 4096) + 4096).
PUBLISHED = {
    "Qwen2.5-0.5B-Instruct": (
        494_032_768,
        {
            "model_type": "qwen2",
            "hidden_act": "silu",
            "hidden_size": 896,
            "intermediate_size": 4864,
            "max_position_embeddings": 32768,
            "max_window_layers": 21,
            "num_attention_heads": 14,
            "num_hidden_layers": 24,
            "num_key_value_heads": 2,
            "rms_norm_eps": 1e-06,
            "rope_theta": 1000000.0,
            "sliding_window": 32768,
            "tie_word_embeddings": True,
            "use_sliding_window": False,
            "vocab_size": 151936,
        },
    ),
    "Qwen2.5-7B-Instruct": (
        7_615_616_512,
        {
            "model_type": "qwen2",
            "hidden_act": "silu",
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "max_position_embeddings": 32768,
            "max_window_layers": 28,
            "num_attention_heads": 28,
            "num_hidden_layers": 28,
            "num_key_value_heads": 4,
            "rms_norm_eps": 1e-06,
            "rope_theta": 1000000.0,
            "sliding_window": 131072,
            "tie_word_embeddings": False,
            "use_sliding_window": False,
            "vocab_size": 152064,
        },
    ),
    "Llama-3.2-1B-Instruct": (
        1_235_814_400,
        {
            "model_type": "llama",
            "attention_bias": False,
            "head_dim": 64,
            "hidden_act": "silu",
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "max_position_embeddings": 131072,
            "mlp_bias": False,
            "num_attention_heads": 32,
            "num_hidden_layers": 16,
            "num_key_value_heads": 8,
            "pretraining_tp": 1,
            "rms_norm_eps": 1e-05,
            "rope_scaling": {
                "factor": 32.0,
                "high_freq_factor": 4.0,
                "low_freq_factor": 1.0,
                "original_max_position_embeddings": 8192,
                "rope_type": "llama3",
            },
            "rope_theta": 500000.0,
            "tie_word_embeddings": True,
            "vocab_size": 128256,
        },
    ),
    "Qwen3-4B": (
        4_022_468_096,
        {
            "model_type": "qwen3",
            "attention_bias": False,
            "head_dim": 128,
            "hidden_act": "silu",
            "hidden_size": 2560,
            "intermediate_size": 9728,
            "max_position_embeddings": 40960,
            "max_window_layers": 36,
            "num_attention_heads": 32,
            "num_hidden_layers": 36,
            "num_key_value_heads": 8,
            "rms_norm_eps": 1e-06,
            "rope_scaling": None,
            "rope_theta": 1000000,
            "sliding_window": None,
            "tie_word_embeddings": True,
            "use_sliding_window": False,
            "vocab_size": 151936,
        },
    ),
    "Olmo-3-7B-Instruct": (
        7_298_011_136,
        {
            "model_type": "olmo3",
            "attention_bias": False,
            "hidden_act": "silu",
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "layer_types": (["sliding_attention"] * 3 + ["full_attention"]) * 8,
            "max_position_embeddings": 65536,
            "num_attention_heads": 32,
            "num_hidden_layers": 32,
            "num_key_value_heads": 32,
            "rms_norm_eps": 1e-06,
            "rope_theta": 500000,
            "rope_scaling": {
                "attention_factor": 1.2079441541679836,
                "beta_fast": 32,
                "beta_slow": 1,
                "factor": 8.0,
                "original_max_position_embeddings": 8192,
                "rope_type": "yarn",
            },
            "sliding_window": 4096,
            "tie_word_embeddings": False,
            "vocab_size": 100278,
        },
    ),
}


OLMO = {
    "model_type": "olmo3",
    "rope_scaling": ...,
    "layer_types": ["sliding_attention", "full_attention"],
}


def parse(**changes):
    entries = {k: v for k, v in (CASES["llama3_scaled"] | changes).items() if v is not ...}
    return hf.parse_config(entries, FAMILIES[entries["model_type"]])


def assert_equal(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


@pytest.fixture
def no_device(monkeypatch):
    """Fails a test in which weights are put on a device."""

    def put(*_, **__):
        raise AssertionError("weights reached a device before the checkpoint was refused")

    monkeypatch.setattr(jax, "device_put", put)


# --- every family ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_saves_and_loads_what_it_initialises(name, tmp_path):
    family = FAMILIES[name]
    sizes = {
        "vocab_size": VOCAB,
        "hidden_size": 16,
        "num_layers": 2,
        "num_heads": 4,
        "num_kv_heads": 2,
    }
    config = ModelConfig(
        name,
        **sizes,
        head_dim=6,
        ffn_size=24,
        qkv_bias=bool(family.qkv_bias),
        qk_norm=family.qk_norm,
        qk_norm_whole=family.qk_norm_whole,
        post_norm=family.post_norm,
        window=3 if family.full_every else None,
        sliding=(True, False) if family.full_every else (),
        rope_scaling=Llama3Scaling(4.0, 1.0, 4.0, 32),
        rope_theta=77.0,
        norm_eps=1e-4,
        tied_embeddings=name == "llama",
    )
    params = jax.jit(init_params, static_argnums=0)(config, jax.random.key(0))
    save(tmp_path / "new" / "folder", config, params)
    again, read = load(str(tmp_path / "new" / "folder"))
    assert again == config
    assert_equal(params, read)
    policy = make_policy(again)
    one = jnp.zeros((1, 1), jnp.int32)
    assert policy.logits(read, policy.hidden(read, one, one, one + 1, one + 1)).shape == (
        1,
        1,
        VOCAB,
    )


@needs_torch
@pytest.mark.parametrize("case", CASES)
def test_transformers_reads_what_is_saved_bit_for_bit(case, tmp_path):
    import transformers

    original = write_checkpoint(tmp_path / "original", CASES[case])
    save(tmp_path / "saved", *load(original))
    entries = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert {key: entries[key] for key in CASES[case]} == CASES[case]
    before, after = (
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / name, output_loading_info=True)
        for name in ("original", "saved")
    )
    assert not any(after[1].values()), after[1]
    assert before[0].state_dict().keys() == after[0].state_dict().keys()
    for name, x in before[0].state_dict().items():
        assert x.equal(after[0].state_dict()[name]), name
    tokens = np.arange(30)[None] % VOCAB
    np.testing.assert_array_equal(
        torch_logits(tmp_path / "original", tokens), torch_logits(tmp_path / "saved", tokens)
    )


@needs_torch
@pytest.mark.parametrize("case", ["llama_bias", "qwen2_tied", "qwen3_bias"])
def test_reads_what_transformers_saves_in_several_files(case, tmp_path):
    import transformers

    original = write_checkpoint(tmp_path / "original", CASES[case])
    network = transformers.AutoModelForCausalLM.from_pretrained(original)
    network.save_pretrained(tmp_path / "resaved", max_shard_size="20KB")
    assert len(list((tmp_path / "resaved").glob("*.safetensors"))) > 1
    config, params = load(tmp_path / "resaved")
    expected_config, expected_params = load(original)
    assert config == expected_config
    assert_equal(params, expected_params)


# --- config.json ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_have_their_published_size(name):
    count, entries = PUBLISHED[name]
    config = hf.parse_config(entries, FAMILIES[entries["model_type"]])
    assert sum(leaf.size for leaf in jax.tree.leaves(parameter_shapes(config))) == count
    assert config.rope_theta == entries["rope_theta"] and config.norm_eps == entries["rms_norm_eps"]
    if name == "Llama-3.2-1B-Instruct":
        assert config.rope_scaling == Llama3Scaling(32.0, 1.0, 4.0, 8192)


def test_both_spellings_of_rope_mean_the_same():
    scaling = CASES["llama3_scaled"]["rope_scaling"]
    older = parse()
    newer = parse(rope_scaling=..., rope_theta=..., rope_parameters=scaling | {"rope_theta": 5e3})
    assert older == newer and older.rope_scaling.factor == 8.0 and older.rope_theta == 5e3
    assert parse(rope_scaling={"type": "default"}).rope_scaling is None
    assert parse(rope_scaling=None, rope_theta=...).rope_theta == 10000.0


def test_absent_fields_take_the_defaults_of_transformers():
    bare = parse(num_key_value_heads=..., tie_word_embeddings=..., rms_norm_eps=..., hidden_act=...)
    assert (bare.num_kv_heads, bare.head_dim, bare.tied_embeddings, bare.norm_eps) == (
        4,
        8,
        False,
        1e-6,
    )
    assert not bare.qkv_bias and not bare.o_bias
    assert parse(model_type="qwen3").head_dim == 128
    assert parse(model_type="qwen2").qkv_bias and not parse(model_type="qwen2").o_bias


def test_olmo_is_read_as_transformers_reads_it():
    """Both spellings, absent fields, and the attention factor that YaRN implies."""
    _count, entries = PUBLISHED["Olmo-3-7B-Instruct"]
    config = hf.parse_config(entries, FAMILIES["olmo3"])
    assert config.sliding == (True, True, True, False) * 8 and config.window == 4096
    assert config.post_norm and config.qk_norm_whole and not config.tied_embeddings
    assert config.rope_scaling == YarnScaling(8.0, 8192, 1.2079441541679836, 32.0, 1.0)
    bare = {
        k: v
        for k, v in entries.items()
        if k not in ("layer_types", "sliding_window", "rope_theta", "rms_norm_eps")
    }
    bare["rope_scaling"] = {
        k: entries["rope_scaling"][k]
        for k in ("rope_type", "factor", "original_max_position_embeddings")
    }
    implied = hf.parse_config(bare, FAMILIES["olmo3"])
    assert (implied.sliding, implied.window, implied.rope_theta) == (config.sliding, 4096, 5e5)
    assert implied.norm_eps == 1e-5 and implied.rope_scaling.attention_factor == pytest.approx(
        1.2079441541679836
    )
    newer = {k: v for k, v in entries.items() if k not in ("rope_theta", "rope_scaling")}
    newer["rope_parameters"] = {
        "full_attention": entries["rope_scaling"] | {"rope_theta": 5e5},
        "sliding_attention": {"rope_type": "default", "rope_theta": 5e5},
    }
    assert hf.parse_config(newer, FAMILIES["olmo3"]) == config
    full = parse(**OLMO | {"layer_types": ["full_attention"] * 2})
    assert full.window is None and full.sliding == ()


YARN = {"rope_type": "yarn", "factor": 3.3}
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 0.1, "high_freq_factor": 1.0}
LENGTH = "original_max_position_embeddings"


@pytest.mark.parametrize(
    "changes, length",
    [
        ({"rope_scaling": YARN}, 64),
        ({"rope_scaling": YARN | {LENGTH: None}}, 64),
        ({"rope_scaling": YARN | {LENGTH: 16}}, 16),
        ({"rope_scaling": {"type": "yarn", "factor": 3.3}}, 64),
        ({"rope_scaling": ..., "rope_parameters": YARN | {"rope_theta": 5e3}}, 64),
        ({"rope_scaling": YARN, "max_position_embeddings": ...}, 2048),
        ({"rope_scaling": YARN, LENGTH: 24}, 24),
        ({"rope_scaling": LLAMA3}, 64),
        ({"rope_scaling": LLAMA3 | {LENGTH: 8}}, 8),
    ],
)
def test_without_an_original_length_it_is_the_models(changes, length, tmp_path):
    scaling = parse(**changes).rope_scaling
    assert scaling.original_max_positions == length

    entries = {k: v for k, v in (CASES["llama3_scaled"] | changes).items() if v is not ...}
    save(tmp_path / "saved", *load(write_checkpoint(tmp_path / "source", entries)))
    assert load_config(tmp_path / "saved").rope_scaling == scaling


@needs_torch
@pytest.mark.parametrize("scaling", [YARN, LLAMA3], ids=["yarn", "llama3"])
def test_without_an_original_length_logits_equal_transformers(scaling, tmp_path):
    entries = CASES["llama3_scaled"] | {"rope_scaling": scaling, "max_position_embeddings": 12}
    folder = write_checkpoint(tmp_path, entries)
    config, params = load(folder)
    tokens = np.arange(30)[None] % VOCAB
    positions = jnp.arange(30)[None]
    policy = make_policy(config)
    hidden = policy.hidden(params, tokens, positions, positions * 0 + 1, positions * 0 + 1)
    np.testing.assert_allclose(
        policy.logits(params, hidden), torch_logits(folder, tokens), atol=1e-4
    )


def test_sliding_windows_that_no_layer_uses_are_fine():
    parse(use_sliding_window=True, sliding_window=4, max_window_layers=2)
    parse(use_sliding_window=True, sliding_window=None, max_window_layers=0)
    parse(use_sliding_window=True, max_window_layers=0, layer_types=["full_attention"] * 2)


def yarn(**changes):
    return {"rope_scaling": {"rope_type": "yarn"} | changes}


@pytest.mark.parametrize(
    "changes, field",
    [
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"use_sliding_window": True, "max_window_layers": 1}, "use_sliding_window"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ({"rope_scaling": {"rope_type": "longrope"}}, "rope_scaling.rope_type"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling.rope_type"),
        (
            {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
            "rope_scaling.low_freq_factor",
        ),
        (yarn(), "rope_scaling.factor"),
        (yarn(truncate=False), "rope_scaling.truncate"),
        (yarn(mscale=1.0), "rope_scaling.mscale"),
        (yarn() | {"rope_theta": 1.0}, "rope_theta"),
        (OLMO | {"layer_types": ["full_attention"]}, "layer_types"),
        (OLMO | {"layer_types": ["chunked_attention"] * 2}, "layer_types"),
        (OLMO | {"layer_types": ..., "num_hidden_layers": 10**9}, "num_hidden_layers"),
        (OLMO | {"sliding_window": 0}, "sliding_window"),
        (
            OLMO
            | {"rope_scaling": None, "rope_parameters": {"sliding_attention": {"rope_theta": 3.0}}},
            "rope_parameters.sliding_attention",
        ),
        (
            {"rope_scaling": None, "rope_parameters": {"partial_rotary_factor": 0.5}},
            "partial_rotary_factor",
        ),
        ({"rope_theta": -1}, "rope_theta"),
        ({"hidden_size": ...}, "hidden_size"),
        ({"hidden_size": "32"}, "hidden_size"),
        ({"num_hidden_layers": True}, "num_hidden_layers"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_unsupported_options_are_named(changes, field):
    with raises_for(f"config.json.{field}") as error:
        parse(**changes)
    assert "\n" not in str(error.value)
    value = changes.get(field, ...)
    assert value is ... or repr(value)[:20] in str(error.value) or field == "layer_types", (
        "received"
    )


def test_sizes_that_do_not_fit_each_other_are_named():
    with raises_for("num_kv_heads"):
        parse(num_key_value_heads=3)


def test_fields_of_the_original_config_survive(tmp_path):
    extra = {
        "eos_token_id": [1, 2],
        "torch_dtype": "float16",
        "transformers_version": "4.40.0",
        "anything": {"a": 1},
    }
    folder = write_checkpoint(tmp_path, CASES["qwen2_tied"] | extra)
    save(tmp_path / "out", *load(folder), dtype=jnp.bfloat16)
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["torch_dtype"] == "bfloat16" and "dtype" not in written
    assert {k: written[k] for k in extra if k != "torch_dtype"} == {
        k: extra[k] for k in extra if k != "torch_dtype"
    }


@pytest.mark.parametrize(
    "changes, field",
    [
        ({"model_type": "qwen2"}, "config.qkv_bias"),
        ({"qk_norm": True}, "config.qk_norm"),
        ({"qkv_bias": True}, "config.o_bias"),
        ({"model_type": "gpt2"}, "config.json.model_type"),
    ],
)
def test_a_config_its_family_cannot_express_is_not_saved(changes, field, tmp_path):
    sizes = {
        "vocab_size": 9,
        "hidden_size": 8,
        "num_layers": 1,
        "num_heads": 2,
        "num_kv_heads": 1,
        "head_dim": 4,
    }
    config = ModelConfig(**({"model_type": "llama", "ffn_size": 8} | sizes | changes))
    params = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), parameter_shapes(config))
    with raises_for(field):
        save(tmp_path / "out", config, params)
    assert not (tmp_path / "out").exists()


# --- weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stored", [np.float32, np.float16, ml_dtypes.bfloat16], ids=lambda t: t.__name__
)
def test_every_float_type_is_read_and_cast_exactly(stored, tmp_path):
    tensors = {name: x.astype(stored) for name, x in random_tensors(CASES["llama_bias"]).items()}
    folder = write_checkpoint(tmp_path, CASES["llama_bias"], tensors)
    for dtype in (jnp.float32, jnp.bfloat16):
        _, params = load(folder, dtype=dtype)
        assert {(x.dtype, isinstance(x, jax.Array)) for x in jax.tree.leaves(params)} == {
            (jnp.dtype(dtype), True)
        }
        q = tensors["model.layers.1.self_attn.q_proj.weight"]
        np.testing.assert_array_equal(params["layers"]["q"][1], q.T.astype(dtype))
        np.testing.assert_array_equal(params["head"], tensors["lm_head.weight"].T.astype(dtype))
        np.testing.assert_array_equal(
            params["embed"], tensors["model.embed_tokens.weight"].astype(dtype)
        )


@pytest.mark.parametrize("dtype", [None, jnp.float32, jnp.bfloat16])
def test_written_files_hold_the_dtype_and_the_format_mark(dtype, tmp_path):
    config, params = load(write_checkpoint(tmp_path, CASES["qwen3_bias"]))
    save(tmp_path / "out", config, params, dtype=dtype)
    name = jnp.dtype(dtype or jnp.float32).name
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == name
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert "lm_head.weight" not in written, "tied embeddings are written once"
    for key, x in random_tensors(CASES["qwen3_bias"]).items():
        assert written[key].dtype.name == name
        np.testing.assert_array_equal(written[key], x.astype(dtype or np.float32))
    with safe_open(tmp_path / "out" / "model.safetensors", framework="np") as file:
        assert file.metadata() == {"format": "pt"}


def test_large_checkpoints_are_written_in_several_files_and_replace_what_was_there(
    tmp_path, monkeypatch
):
    config, params = load(write_checkpoint(tmp_path / "a", CASES["qwen2_untied"]))
    out = tmp_path / "out"
    save(out, config, params)
    monkeypatch.setattr(hf, "_SHARD_BYTES", 20_000)
    save(out, config, params)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    files = sorted(path.name for path in out.glob("*.safetensors"))
    assert (
        files == sorted(set(index["weight_map"].values()))
        and files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    )
    held = {name: load_file(out / name) for name in files}
    assert {key: name for name, file in held.items() for key in file} == index["weight_map"]
    sizes = [sum(x.nbytes for x in file.values()) for file in held.values()]
    assert len(files) > 2 and max(sizes) <= 20_000 and sum(sizes) == index["metadata"]["total_size"]
    assert_equal(load(out)[1], params)
    monkeypatch.undo()
    save(out, config, params)
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "model.safetensors"]


def test_weights_go_straight_to_their_shards(tmp_path):
    mesh = make_mesh(fsdp=2, model=2)
    folder = write_checkpoint(tmp_path, CASES["qwen2_untied"])
    _, params = load(folder, sharding=lambda tree: state_sharding(mesh, tree))
    assert params["layers"]["q"].sharding == state_sharding(mesh, params)["layers"]["q"]
    assert len(params["layers"]["q"].sharding.device_set) == 8
    assert_equal(params, load(folder)[1])


def test_constants_and_second_copies_in_old_files_are_passed_over(tmp_path, no_device, monkeypatch):
    tensors = random_tensors(CASES["llama3_scaled"])
    old = tensors | {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(4, np.float32)}
    old["lm_head.weight"] = old["model.embed_tokens.weight"] + 1
    folder = write_checkpoint(tmp_path, CASES["llama3_scaled"], old)
    with raises_for("model") as error:
        load(folder)
    assert "lm_head.weight" in str(error.value) and "tie_word_embeddings" in str(error.value)
    monkeypatch.undo()
    old["lm_head.weight"] = old["model.embed_tokens.weight"]
    assert "head" not in load(write_checkpoint(tmp_path, CASES["llama3_scaled"], old))[1]


def test_parameters_that_do_not_fit_the_config_are_not_saved(tmp_path):
    config, params = load(write_checkpoint(tmp_path, CASES["qwen2_untied"]))
    headless = {name: x for name, x in params.items() if name != "head"}
    with raises_for("params['head']") as error:
        save(tmp_path / "out", config, headless)
    assert "(32, 50)" in str(error.value)
    with raises_for("params['final_norm']") as error:
        save(tmp_path / "out", config, params | {"final_norm": np.ones(3)})
    assert "(3,)" in str(error.value) and "(32,)" in str(error.value)
    with raises_for("dtype") as error:
        save(tmp_path / "out", config, params, dtype=jnp.int8)
    assert "bfloat16" in str(error.value)
    assert not (tmp_path / "out").exists()


# --- broken checkpoints ---------------------------------------------------------------------------


def change_tensors(change):
    def apply(folder):
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return apply


def index_to(name):
    def apply(folder):
        shutil.move(folder / "model.safetensors", folder.parent / "stolen.safetensors")
        index = {"weight_map": {"model.norm.weight": name}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return apply


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def pickle_only(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def text_in(name, content):
    return lambda folder: (folder / name).write_text(content)


def without(name):
    return lambda folder: (folder / name).unlink()


def header_of(change):
    """Rewrites the header of a safetensors file, which says where in the file each tensor lies."""

    def apply(folder):
        path = folder / "model.safetensors"
        content = path.read_bytes()
        end = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:end])
        change(header)
        changed = json.dumps(header).encode()
        path.write_bytes(len(changed).to_bytes(8, "little") + changed + content[end:])

    return apply


def overlap(header):
    header["model.norm.weight"]["data_offsets"] = header["model.layers.0.input_layernorm.weight"][
        "data_offsets"
    ]


def grow(header):
    header["model.norm.weight"]["shape"] = [2**62]


def beyond(header):
    header["model.norm.weight"]["data_offsets"] = [2**40, 2**40 + 128]


def twice(folder):
    """The same tensor in two files of one index."""
    tensors = load_file(folder / "model.safetensors")
    save_file({NORM: tensors[NORM]}, folder / "b.safetensors")
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    index = {"weight_map": dict.fromkeys(tensors, "a.safetensors") | {NORM: "b.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def huge_header(folder):
    (folder / "model.safetensors").write_bytes((2**60).to_bytes(8, "little") + b"{}")


def config_with(**changes):
    return lambda folder: (folder / "config.json").write_text(
        json.dumps(CASES["qwen2_tied"] | changes)
    )


def number_in(value, dtype=np.float32):
    """One bad number, in the tensor that is read last."""

    def change(tensors):
        for name in tensors:
            tensors[name] = tensors[name].astype(dtype)
        tensors[NORM][-1] = value

    return change_tensors(change)


NORM = "model.norm.weight"
# How a checkpoint is damaged -> the damage, and what the error names: a file, a tensor, a value.
# The field is "model" unless the name begins with "config.json.".
BROKEN = {
    "no config": (without("config.json"), "config.json"),
    "config not json": (text_in("config.json", "{"), "config.json is not valid JSON"),
    "config not an object": (text_in("config.json", "[]"), "list"),
    "nested a million deep": (text_in("config.json", "[" * 1_000_000), "is not valid JSON"),
    "unknown family": (text_in("config.json", '{"model_type": "mamba"}'), "config.json.model_type"),
    "no family": (text_in("config.json", "{}"), "config.json.model_type"),
    "numbers without end": (config_with(vocab_size=10**30), "config.json.vocab_size"),
    "sizes that contradict": (config_with(hidden_size=2**39), "549755813888"),
    "layers without number": (config_with(num_hidden_layers=10**9), "num_hidden_layers=1000000000"),
    "no weights": (without("model.safetensors"), "neither model.safetensors nor"),
    "pickle": (pickle_only, "pickled"),
    "truncated": (truncate, "model.safetensors is truncated or damaged"),
    "not safetensors": (text_in("model.safetensors", "<html>"), "is truncated or damaged"),
    "overlapping": (header_of(overlap), "is truncated or damaged"),
    "larger than it is": (header_of(grow), "is truncated or damaged"),
    "beyond its end": (header_of(beyond), "is truncated or damaged"),
    "a header of 2**60 bytes": (huge_header, "is truncated or damaged"),
    "missing": (change_tensors(lambda t: t.pop(NORM)), f"lacks {NORM};"),
    "many missing": (change_tensors(lambda t: [t.pop(k) for k in sorted(t)[:7]]), "and 4 more"),
    "unexpected": (change_tensors(lambda t: t.update({"score.weight": t[NORM]})), "score.weight"),
    "shape": (change_tensors(lambda t: t.update({NORM: t[NORM][:-1]})), "(31,)"),
    "dtype": (change_tensors(lambda t: t.update({NORM: t[NORM].astype(np.int8)})), "I8"),
    "in two files": (twice, "two files in"),
    "NaN": (number_in(np.nan), "1 of 32 numbers"),
    "infinity": (number_in(-np.inf), "1 of 32 numbers"),
    "NaN in bfloat16": (number_in(np.nan, ml_dtypes.bfloat16), "1 of 32 numbers"),
    "NaN in float16": (number_in(np.nan, np.float16), "1 of 32 numbers"),
    "index up": (index_to("../stolen.safetensors"), "'../stolen.safetensors'"),
    "index absolute": (index_to("/etc/passwd"), "'/etc/passwd'"),
    "index parent": (index_to(".."), "'..'"),
    "index to nothing": (index_to("gone.safetensors"), "gone.safetensors"),
    "index to a number": (index_to(3), "weight_map"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_checkpoints_are_refused_in_one_line(kind, tmp_path, no_device):
    damage, named = BROKEN[kind]
    folder = write_checkpoint(tmp_path / "model", CASES["qwen2_tied"])
    damage(folder)
    with raises_for(named if named.startswith("config.json.") else "model") as error:
        load(folder)
    assert named in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["some-team/some-model", "./no/such/folder", "/no/such/folder"])
def test_names_that_lead_nowhere_without_network_are_one_clear_error(
    name, monkeypatch, tmp_path, no_device
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # The variable is read at import.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with raises_for("model") as error:
        load(name)
    assert name in str(error.value) and "\n" not in str(error.value)


def test_only_safetensors_and_json_are_read(tmp_path):
    """No pickle is opened and no code runs, whatever the folder or config.json contains."""
    entries = CASES["qwen2_tied"] | {
        "auto_map": {
            "AutoConfig": "evil.Config",
            "AutoModelForCausalLM": "evil.Model",
            "AutoTokenizer": "evil.Model",
        },
    }
    folder = write_checkpoint(tmp_path / "model", entries)
    mark = tmp_path / "code has run"
    code = f"import pathlib; pathlib.Path({str(mark)!r}).touch()"
    for name in ("evil.py", "modeling_evil.py", "__init__.py", "setup.py", "conftest.py"):
        (folder / name).write_text(code + "\nclass Model: pass\nConfig = Model\n")

    class Evil:
        def __reduce__(self):
            return exec, (code,)

    for name in (
        "pytorch_model.bin",
        "model.pt",
        "model.pkl",
        "training_args.bin",
        "tokenizer.pkl",
        "optimizer.pt",
    ):
        (folder / name).write_bytes(pickle.dumps(Evil()))
    opened, watching = [], False
    sys.addaudithook(
        lambda event, args: opened.append(str(args[0])) if event == "open" and watching else None
    )
    watching = True
    load(folder)
    with pytest.raises(ValueError, match="no tokenizer could be loaded"):
        load_tokenizer(str(folder))
    watching = False
    read = {pathlib.Path(name).name for name in opened if name.startswith(str(folder))}
    assert "config.json" in read
    assert {pathlib.Path(name).suffix for name in read} <= {".json", ".safetensors"}
    assert not mark.exists()
    pickle.loads((folder / "model.pkl").read_bytes())
    assert mark.exists(), "the pickle would have run code"


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.sampled_from(["flip", "cut", "zeros", "noise"]),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 2**32 - 1),
)
def test_a_random_blow_is_refused_or_leaves_finite_weights(blow, place, noise):
    """Flipped bits of weights are not noticed, but shapes and finiteness are certain."""
    with tempfile.TemporaryDirectory() as directory:
        folder = write_checkpoint(pathlib.Path(directory), CASES["qwen2_tied"])
        path = folder / "model.safetensors"
        content = bytearray(path.read_bytes())
        # The header, at the beginning, is hit more often than the weights.
        at = int(place**4 * len(content))
        if blow == "flip":
            content[at] ^= 1 << noise % 8
        elif blow == "cut":
            del content[at:]
        else:
            size = min(64, len(content) - at)
            pattern = bytes(4) if blow == "zeros" else noise.to_bytes(4, "little")
            content[at : at + size] = (pattern * 16)[:size]
        path.write_bytes(content)
        refused = None
        try:
            config, params = load(folder)
        except InputError as error:
            refused = error
        if refused is not None:
            assert refused.field == "model" or refused.field.startswith("config.json.")
            assert "\n" not in str(refused)
            return
        shapes = jax.tree.map(lambda x: x.shape, parameter_shapes(config))
        assert jax.tree.map(np.shape, params) == shapes
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(params))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whatever_config_json_holds_it_is_parsed_or_refused_in_one_line(data):
    junk = st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=5)
        | st.just(10**400),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(["rope_type", "type", "factor", "a"]), inner, max_size=2
            )
        ),
        max_leaves=4,
    )
    entries = dict(CASES[data.draw(st.sampled_from(sorted(CASES)))])
    fields = [
        *entries,
        "rope_scaling",
        "rope_parameters",
        "layer_types",
        "use_sliding_window",
        "max_window_layers",
        "quantization_config",
        "attention_bias",
        "head_dim",
        "partial_rotary_factor",
        "torch_dtype",
    ]
    for _ in range(data.draw(st.integers(1, 3))):
        entries[data.draw(st.sampled_from(fields))] = data.draw(junk)
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "config.json").write_text(json.dumps(entries))
        refused = ""
        try:
            parameter_shapes(load_config(folder))
        except ValueError as error:
            refused = str(error)
        assert "\n" not in refused and len(refused) < 500 + len(folder)
