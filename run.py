"""`python run.py --config=configs/voting.py[:preset] [--workdir=DIR] [--mode=train|eval|sample|export]`."""

import sys

from absl import app, flags
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration file, with an optional :preset.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; made from the configuration's name when absent.")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "eval", "sample", "export"], "What to do.")


def main(argv):
    """Hands the parsed flags to the program."""
    del argv
    from ccpo_jax import train

    sys.exit(train.main(_CONFIG.value, config_file(), _WORKDIR.value, _MODE.value))


def config_file() -> str:
    """The --config flag as typed, preset included."""
    return config_flags.get_config_filename(flags.FLAGS["config"])


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main)
