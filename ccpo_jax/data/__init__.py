"""Problems from the Hub, local files and generators: loading, splitting, batches.

`load` and `load_many` read datasets by name, `from_rows` rows at hand, `parse_row` one row;
`split_heldout` and `decontaminate` keep training and test problems apart; `batch_at` is the batch
of a step. A dataset from the Hub is one line in `hub_datasets.DATASETS`, a generator one in
`synthetic.TASKS`.
"""

from ccpo_jax.data.batches import batch_at
from ccpo_jax.data.cells import UnusableRow
from ccpo_jax.data.columns import Row
from ccpo_jax.data.hub_datasets import DATASETS, Source
from ccpo_jax.data.loading import check_names, join, load, load_many
from ccpo_jax.data.mapping import ColumnMapping, parse_columns
from ccpo_jax.data.problems import Dataset, Problem, describe_dropped
from ccpo_jax.data.rows import RowReader, from_rows, read_rows
from ccpo_jax.data.splits import decontaminate, split_heldout
from ccpo_jax.data.synthetic import TASKS, VIEWS
from ccpo_jax.data.whole_set import parse_row

__all__ = [
    "DATASETS",
    "TASKS",
    "VIEWS",
    "ColumnMapping",
    "Dataset",
    "Problem",
    "Row",
    "RowReader",
    "Source",
    "UnusableRow",
    "batch_at",
    "check_names",
    "decontaminate",
    "describe_dropped",
    "from_rows",
    "join",
    "load",
    "load_many",
    "parse_columns",
    "parse_row",
    "read_rows",
    "split_heldout",
]
