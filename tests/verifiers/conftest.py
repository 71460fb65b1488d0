"""One pool of verifier processes for the tests of a file."""

import pytest

from ccpo_jax.verifiers import VerifierPool


@pytest.fixture(scope="module")
def pool():
    with VerifierPool(workers=2, time_limit=5.0) as pool:
        yield pool
