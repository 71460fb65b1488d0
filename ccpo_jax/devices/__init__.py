"""Devices: meshes and shardings, runs of several processes, compilation."""
