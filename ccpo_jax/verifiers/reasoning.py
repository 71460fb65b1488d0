"""What a text says after it has thought: no thought is ever an answer."""

from ccpo_jax.reasoning import split_text


def strip_reasoning(text: str) -> str:
    """The text without what it marks as thought, see `split_text`.

    Example:
      >>> strip_reasoning("<think>Is it 3? No.</think> It is 5.")
      ' It is 5.'
      >>> strip_reasoning("Is it 3? No.</think> It is 5."), strip_reasoning("<think>Is it 3?")
      (' It is 5.', '')
    """
    return split_text(text).answer
