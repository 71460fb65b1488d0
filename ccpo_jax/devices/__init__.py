"""Devices: meshes and shardings, several processes, compilation."""
