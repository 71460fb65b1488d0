"""Configurations: data only. `run.py --config=configs/NAME.py[:preset]` reads them; nothing here imports the library."""
