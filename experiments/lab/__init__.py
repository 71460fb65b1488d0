"""Parts of `credit_lab.py`: teams of which everything is known, evidence about estimators, and what they claim."""
