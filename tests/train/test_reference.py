"""The reference policies of a run: what is loaded, how often, and what a resumed run makes of it."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ccpo_jax import models
from ccpo_jax.config import parse
from ccpo_jax.devices.sharding import Layout, make_mesh, put, state_sharding
from ccpo_jax.learner.reference import Reference
from ccpo_jax.train import train
from ccpo_jax.train.build import build
from ccpo_jax.train.parts import Model, Parts
from ccpo_jax.train.reference import digest_of, load_references
from ccpo_jax.train.same_reference import compare_references, keep_references
from ccpo_jax.train.sources import TINY, Source
from tests.support.errors import raises_for
from tests.support.runs import brief_run, first_devices, lines_of
from tests.support.stubs import POLICY
from tests.support.trees import bytes_of


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Another network with the same tokenizer: half as deep."""
    folder = tmp_path_factory.mktemp("other")
    shutil.copytree(TINY, folder, dirs_exist_ok=True)
    config, params = models.load(TINY)
    params["layers"] = jax.tree.map(lambda x: x[:1], params["layers"])
    models.save(folder, dataclasses.replace(config, num_layers=1), params)
    return folder


def kl_run(steps=0, **changes):
    return brief_run(steps, **{"loss.kl_weight": 0.1, "data.heldout": 0} | changes)


def built(**changes):
    return build(kl_run(**changes), devices=first_devices(1))


def test_agents_of_one_source_share_one_copy_in_the_type_of_the_matrix_products():
    run = built(shared_policy=False, compute_dtype="bfloat16")
    first, *others = run.references
    assert len(run.references) == 3 and all(r.params is first.params for r in others)
    assert {x.dtype for x in jax.tree.leaves(first.params)} == {jnp.dtype(jnp.bfloat16)}
    assert bytes_of(first.params) * 2 == bytes_of(run.params[0])
    assert built(compute_dtype="float32").references[0].digest != first.digest


def test_the_initial_model_is_copied_before_training_changes_it():
    run = built(compute_dtype="float32")
    before = jax.device_get(run.references[0].params)
    jax.tree.map(lambda x: x.delete(), run.params)
    jax.tree.map(np.testing.assert_array_equal, before, run.references[0].params)


def test_a_run_without_the_term_and_a_mode_that_does_not_train_load_none():
    assert build(kl_run(0, **{"loss.kl_weight": 0.0}), devices=first_devices(1)).references == ()
    assert build(kl_run(), devices=first_devices(1), for_training=False).references == ()


def test_another_network_of_the_same_tokenizer_can_be_the_reference(other):
    run = built(**{"loss.reference": (str(other),)})
    (reference,) = run.references
    assert reference.params["layers"]["q"].shape[0] == 1
    assert reference.source == str(other) and reference.policy != run.team.agents[0].policy


def test_a_mistake_in_the_reference_is_one_line_about_it(other, tmp_path):
    with raises_for("loss.reference"):
        built(**{"loss.reference": (str(tmp_path / "nowhere"),)})
    with raises_for("loss.reference"):
        built(**{"loss.reference": (str(other), str(other))})
    # What to type next is this field, also where reading any model says so.
    (tmp_path / "empty").mkdir()
    with raises_for("loss.reference") as error:
        built(**{"loss.reference": (str(tmp_path / "empty"),)})
    assert "--config.loss.reference=FOLDER" in str(error.value)
    assert "--config.model" not in str(error.value)

    shutil.copytree(other, tmp_path / "foreign")
    file = tmp_path / "foreign" / "tokenizer.json"
    content = json.loads(file.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["7"], vocabulary["8"] = vocabulary["8"], vocabulary["7"]
    file.write_text(json.dumps(content))
    with raises_for("loss.reference") as error:
        built(**{"loss.reference": (str(tmp_path / "foreign"),)})
    assert "another vocabulary" in str(error.value)


def test_a_run_resumes_bit_for_bit_and_refuses_another_reference(tmp_path):
    train(kl_run(3), str(tmp_path / "whole"), devices=first_devices(1))
    whole = lines_of(tmp_path / "whole")
    assert whole[1]["kl/0"] < 1e-10 and whole[3]["kl/0"] > 1e-7

    workdir = tmp_path / "parts"
    train(kl_run(1), str(workdir), devices=first_devices(1))
    train(kl_run(3), str(workdir), devices=first_devices(1))
    assert lines_of(workdir) == whole

    # The workdir of a run is a reference too: that of its checkpoint, not the model it began with.
    trained = built(**{"loss.reference": (str(workdir),)}).references[0]
    assert trained.digest != built().references[0].digest

    record = workdir / "reference.json"
    record.write_text(record.read_text().replace('"digest": "', '"digest": "0'))
    with raises_for("model") as error:
        train(kl_run(4), str(workdir), devices=first_devices(1))
    assert "reference tiny has other parameters" in str(error.value)


@pytest.mark.fast
def test_a_changed_reference_stops_a_run_that_resumes(tmp_path, capsys):
    def compare(*digests, allow_changes=False):
        references = [Reference(POLICY, {}, f"m{i}", digest) for i, digest in enumerate(digests)]
        compare_references(
            str(tmp_path), references, field="loss.reference", allow_changes=allow_changes
        )
        return references

    keep_references(str(tmp_path), compare("a", "b"))
    compare()
    compare("a", "b")
    with raises_for("loss.reference") as error:
        compare("a", "c")
    assert "reference m1 has" in str(error.value) and "allow_changes" in str(error.value)
    compare("a", "c", allow_changes=True)
    assert "goes on with the new one" in capsys.readouterr().err

    (tmp_path / "reference.json").write_text('[{"source": 1}]')
    with raises_for("workdir"):
        compare("a", "b")


def test_a_digest_sees_every_bit_and_no_device():
    rng = np.random.default_rng(0)
    params = {"embed": rng.normal(size=(16, 8)).astype(np.float32), "final_norm": np.ones(8)}
    params = jax.tree.map(jnp.asarray, params)
    one = Layout(make_mesh(devices=jax.devices()[:1]))
    digest = digest_of(params, one)

    spread = Layout(make_mesh(fsdp=2, model=2))
    placed = jax.tree.map(put, params, state_sharding(spread.mesh, params))
    assert digest_of(placed, spread) == digest

    swapped = params["embed"].at[jnp.array([3, 4])].set(params["embed"][jnp.array([4, 3])])
    nudged = params["embed"].at[5, 5].set(jnp.nextafter(params["embed"][5, 5], jnp.inf))
    digests = {digest_of(params | {"embed": x}, one) for x in (swapped, nudged)}
    assert len(digests | {digest}) == 3


def test_a_model_of_a_program_keeps_its_own_type():
    run = built()
    agent = run.team.agents[0]
    name = "object:model 0"
    parts = Parts(models={name: Model(agent.policy, run.params[0], agent.tokenizer)})
    config = parse(kl_run(compute_dtype="bfloat16"))
    (reference,) = load_references(
        config, run.team, run.params, (Source(name, name),), run.layout, parts
    )
    assert {x.dtype for x in jax.tree.leaves(reference.params)} == {jnp.dtype(jnp.float32)}
