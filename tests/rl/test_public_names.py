"""What `import ccpo_jax` gives, and what it costs."""

import ast
import pathlib
import subprocess
import sys

import pytest

import ccpo_jax
import ccpo_jax.rl

FIXED = """
    init_moments update_moments standardize contribution shape_contribution history_gate gated_reward event_bonus
    group_advantage leave_one_out_advantage vote_reward agent_masks cross_play_contribution shapley_value sepo_reward
    CREDITS LOSSES TOPOLOGIES policy_gradient_loss gspo_loss RunningMoments CCPOState CreditEstimator
    cispo_loss gmpo_loss sapo_loss overlong_penalty
""".split()


@pytest.mark.parametrize("name", FIXED)
def test_names_that_other_people_import_stay(name):
    assert name in ccpo_jax.__all__ and name in dir(ccpo_jax)
    assert getattr(ccpo_jax, name) is getattr(ccpo_jax.rl, name)


def test_the_three_lists_of_names_agree():
    """What a type checker sees, what is resolved on first use, and what the folder exports."""
    tree = ast.parse(pathlib.Path(ccpo_jax.__file__).read_text())
    seen_by_checkers = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "ccpo_jax.rl"
        for alias in node.names
    ]
    assert seen_by_checkers == ccpo_jax.__all__ == ccpo_jax.rl.__all__


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = ccpo_jax.no_such_name


def test_the_import_alone_loads_neither_jax_nor_numpy():
    """A verifier worker imports the package and uses no name of it."""
    program = (
        "import sys, ccpo_jax\n"
        "assert not {'jax', 'numpy'} & sys.modules.keys()\n"
        "from ccpo_jax import vote_reward\n"
        "assert {'jax', 'numpy'} <= sys.modules.keys()\n"
        "assert not {'flax', 'optax', 'transformers', 'orbax'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
