"""Configuration files: the package's presets by their path; a place for your own."""
