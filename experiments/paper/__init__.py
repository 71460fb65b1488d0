"""The paper's tables: rows, runs and their results."""
