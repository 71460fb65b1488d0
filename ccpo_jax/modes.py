"""What a run is good for besides training: evaluate it, read what the team writes, export it."""

import dataclasses
import json
import pathlib

import jax
import numpy as np

from ccpo_jax import models
from ccpo_jax.config import parse
from ccpo_jax.devices.distributed import is_main_process, print_main, sync_errors
from ccpo_jax.devices.sharding import batch_sharding, fetch
from ccpo_jax.errors import InputError, as_input_error, escape_control
from ccpo_jax.rollout import rollout
from ccpo_jax.sampler import SamplingParams
from ccpo_jax.train.build import Run, build
from ccpo_jax.train.evaluate import collect_ratings
from ccpo_jax.train.loop import evaluation, heldout_set, test_sets
from ccpo_jax.train.step import initial_state, publish
from ccpo_jax.verifiers import VerifierPool
from ccpo_jax.verifiers.grader import Grader
from ccpo_jax.workdir import accuracy_rows, accuracy_table, open_checkpoints


def trained_or_loaded(config, workdir: str | None, *, required: bool) -> tuple[Run, tuple, int]:
    """(program, parameters, step): the best checkpoint of `workdir`, else the untrained models."""
    with as_input_error():
        config = parse(config)
        with sync_errors():
            program = build(config)
        folder = pathlib.Path(workdir or "", "checkpoints")
        if workdir is None and not required:
            return program, program.params, 0
        if workdir is None:
            raise ValueError("workdir: which run? type --workdir=FOLDER of a training run")
        if not folder.is_dir():
            raise ValueError(
                f"workdir: no checkpoints in {workdir}; train first, then type --workdir=FOLDER"
            )
        with open_checkpoints(workdir, read_only=True) as checkpoints:
            step, state = checkpoints.restore(
                initial_state(program, config), step=checkpoints.best_step()
            )
    return program, state.params, step


def evaluate_only(config, workdir: str | None) -> dict[str, float]:
    """Evaluates the best checkpoint of a workdir, or the untrained models, on held-out problems and test sets."""
    config = parse(config)
    program, params, step = trained_or_loaded(config, workdir, required=False)
    sets = heldout_set(program) | test_sets(program)
    if not sets:
        raise InputError(
            "data.heldout",
            "there is nothing to evaluate; type --config.data.eval=SET, or data.heldout > 0",
        )
    with VerifierPool(**dataclasses.asdict(config.verifier)) as pool:
        metrics = evaluation(program, config, params, pool, sets)
    for prefix, dataset in sets.items():
        rows = accuracy_rows(metrics, prefix, program.team.topology)
        print_main(f"{dataset.name}, checkpoint of step {step}\n" + accuracy_table(rows))
    print_main(json.dumps({"step": step} | metrics))
    return metrics


def show_samples(config, workdir: str | None, problems: int = 4) -> None:
    """Prints a few held-out problems with every message, verdict, contribution and rating."""
    config = parse(config)
    program, params, step = trained_or_loaded(config, workdir, required=False)
    team, pad = program.team, config.eval.batch_size
    chosen = list((program.datasets.heldout.problems or program.datasets.train.problems)[:problems])
    asked = (chosen * pad)[:pad]  # a shape that divides over the devices
    weights, key = publish(program, params), jax.random.key(config.seed)
    questions, layout = [p.prompt_text for p in asked], program.layout
    sharding = batch_sharding(layout.mesh, layout.decode)
    sampling = SamplingParams(
        temperature=config.sample.temperature,
        top_p=config.sample.top_p,
        max_concurrent=config.sample.max_concurrent,
        sharding=sharding,
    )
    ablated = team.topology.ablated
    with VerifierPool(**dataclasses.asdict(config.verifier)) as pool:
        judge = Grader(pool, asked)
        spoken = rollout(
            team,
            weights,
            questions,
            key,
            group_size=1,
            sampling=sampling,
            ablated=ablated,
            on_prompt_done=judge.submit,
        )
        result, *_ = judge.collect(team, spoken)
        if program.credit.needs.ratings:
            spoken, result, _ = collect_ratings(
                team, weights, questions, spoken, result, key, sampling=sampling
            )
    for b, problem in enumerate(chosen):
        print_main(
            f"\n=== {problem.id}, checkpoint of step {step}: {escape_control(problem.question)}"
        )
        print_main(f"--- gold: {escape_control(problem.gold)}")
        for w, mask in enumerate(spoken.masks):
            reward, masked = (
                result.reward[w, b, 0],
                int(np.argmin(mask)),
            )  # each world masks one agent
            gain = result.reward[0, b, 0] - reward
            print_main(f"--- without agent {masked}: reward {reward:.2f}, so it contributes {gain:+.2f}" if w else
                  f"--- team: reward {reward:.2f}")  # fmt: skip
            for t, (turn, a) in enumerate(zip(spoken.turns, team.topology.speakers, strict=True)):
                if mask[a] and (w == 0 or turn.variant_of_world[w] > 0):
                    final = t == team.topology.final_turns[a]
                    verdict = (
                        ("right" if result.correct[w, b, 0, a] else "wrong")
                        if final
                        else "first words"
                    )
                    said = escape_control(turn.texts[b][turn.rows(w).start])
                    print_main(f"[agent {a}, {team.topology.roles[t]}: {verdict}] {said}")
        for a, turn in enumerate(spoken.ratings):
            thinker, solver = result.shares[a, b, 0]
            print_main(
                f"[agent {a} rates thinker {thinker:.1f}, solver {solver:.1f}] {escape_control(turn.texts[b][0])}"
            )


def export(config, workdir: str | None) -> None:
    """Writes the best checkpoint's networks and tokenizers to <workdir>/export in Hugging Face format."""
    program, params, step = trained_or_loaded(config, workdir, required=True)
    for index, (network, tree) in enumerate(zip(program.model_configs, params, strict=True)):
        folder = pathlib.Path(workdir, "export", "policy" if len(params) == 1 else f"agent_{index}")
        whole = jax.tree.map(fetch, tree)
        if is_main_process():
            models.save(folder, network, whole)
            next(a for a in program.team.agents if a.parameter_set == index).tokenizer.save(folder)
        print_main(f"step {step} -> {folder}")
