"""Stubs and fixtures that several tests share."""
