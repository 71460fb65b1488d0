"""The tiny teams: how their model is made, and what each credit estimator does for them."""
