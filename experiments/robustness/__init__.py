"""Kills, damaged files and hostile texts."""
