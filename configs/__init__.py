"""Configurations: data only. `run.py --config=configs/NAME.py[:preset]` reads them; no library imports."""
