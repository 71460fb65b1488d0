"""The folder of a run: lock, configuration, checkpoints, metrics and rollouts."""

from ccpo_jax.extras import train_extra

with train_extra():
    from ccpo_jax.workdir.accuracy_table import accuracy_rows, accuracy_table
    from ccpo_jax.workdir.atomic_write import write_atomically
    from ccpo_jax.workdir.changed import report_change
    from ccpo_jax.workdir.checkpoint import Checkpoints, open_checkpoints
    from ccpo_jax.workdir.disk_errors import as_disk_error
    from ccpo_jax.workdir.inputs import (
        check_same_inputs,
        compare_inputs,
        copy_inputs,
        inputs_of,
        kept_inputs,
        typed_inputs,
    )
    from ccpo_jax.workdir.metrics import MetricsWriter, NullWriter
    from ccpo_jax.workdir.rollout_log import RolloutLog, StepBatch
    from ccpo_jax.workdir.saved_config import (
        check_carried,
        check_drawing,
        check_rate,
        check_same_config,
        compare_config,
        keep_former_defaults,
        load_config,
        recorded_fields,
        save_config,
        saved_config,
    )
    from ccpo_jax.workdir.set_aside import set_aside
    from ccpo_jax.workdir.workdir import expand_workdir, lock_workdir, new_workdir

__all__ = [
    "Checkpoints",
    "MetricsWriter",
    "NullWriter",
    "RolloutLog",
    "StepBatch",
    "accuracy_rows",
    "accuracy_table",
    "as_disk_error",
    "check_carried",
    "check_drawing",
    "check_rate",
    "check_same_config",
    "check_same_inputs",
    "compare_config",
    "compare_inputs",
    "copy_inputs",
    "expand_workdir",
    "inputs_of",
    "keep_former_defaults",
    "kept_inputs",
    "load_config",
    "lock_workdir",
    "new_workdir",
    "open_checkpoints",
    "recorded_fields",
    "report_change",
    "save_config",
    "saved_config",
    "set_aside",
    "typed_inputs",
    "write_atomically",
]
