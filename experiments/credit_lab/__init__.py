"""Which credit estimator tells who contributed."""
