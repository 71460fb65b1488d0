"""The figures that the paper and its project page publish, in percent."""

PAGE = "the authors' project page, one sample per question; its tables have titles and no numbers"


# GRPO: untrained, shared reward (ReMA), CCPO
MATH500 = {
    "qwen2.5-1.5b": (54.00, 60.00, 61.00),
    "llama3.1-8b": (46.20, 51.80, 53.40),
    "qwen2.5-7b": (74.40, 75.40, 77.60),
    "qwen3-4b-base": (46.40, 78.00, 79.40),
}


# untrained, shared reward, CCPO, SEPO
GSPO = {
    "qwen2.5-1.5b": {
        "math500": (54.00, 57.80, 59.20, 59.20),
        "aime25": (None, 6.67, 6.67, 6.67),
        "amc23": (32.50, 42.50, 42.50, 35.00),
        "gaokao2023en": (41.04, 46.23, 47.01, 46.49),
        "minervamath": (12.50, 16.18, 15.44, 16.91),
    },
    "olmo3-7b": {
        "math500": (82.60, 87.00, 84.40, 87.00),
        "aime25": (30.00, 30.00, 30.00, 30.00),
        "amc23": (77.50, 82.50, 80.00, 85.00),
        "gaokao2023en": (72.73, 73.25, 73.77, 73.25),
        "minervamath": (27.57, 27.91, 30.15, 26.47),
    },
}


# CCPO on MATH500: the full team, and agent 0 removed at inference
REMOVED = {
    "qwen2.5-1.5b": (61.00, 56.40),
    "llama3.1-8b": (53.40, 52.00),
    "qwen2.5-7b": (77.60, 76.00),
}
