"""`--mode=eval`: accuracies of a trained or untrained team."""

import json
from collections.abc import Mapping
from typing import Any

from ccpo_jax.config import Config
from ccpo_jax.devices.distributed import print_main
from ccpo_jax.errors import InputError
from ccpo_jax.modes.restore import trained_or_loaded
from ccpo_jax.train.loop import evaluate_sets, heldout_set, test_sets
from ccpo_jax.workdir import accuracy_rows, accuracy_table


def evaluate_only(config: Config | Mapping[str, Any], workdir: str | None) -> dict[str, float]:
    """Evaluates the best checkpoint of a workdir, or the untrained models, on held-out problems and
    test sets.

    Raises:
      InputError: there is neither a held-out problem nor a test set.
    """
    run, state, step = trained_or_loaded(config, workdir)
    sets = heldout_set(run) | test_sets(run)
    if not sets:
        raise InputError(
            "data.heldout",
            "there is nothing to evaluate; type --config.data.eval=SET, or data.heldout > 0",
        )
    with run.verifier_pool() as pool:
        metrics = evaluate_sets(run, state.params, pool, sets)
    for prefix, dataset in sets.items():
        rows = accuracy_rows(metrics, prefix, run.team.topology)
        print_main(f"{dataset.name}, checkpoint of step {step}\n{accuracy_table(rows)}")
    print_main(json.dumps({"step": step} | metrics))
    return metrics
