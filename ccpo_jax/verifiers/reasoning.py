"""What a text says after it has thought: no thought is ever an answer."""

import re

# The names of the tags that models think in; vendors put words such as "seed:" before them.
_NAME = (
    r"(?:(?!end_)\w{1,12}[:_])?"
    r"(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|scratchpad|analysis)"
)

# Behind an opening bracket: <think>, <|thinking|>, [THINK], ◁think▷, <|begin_of_thought|> and the
# channels of gpt-oss.
_OPENING = (
    rf"\|?{_NAME}\|?[>▷]|THINK\]|unused94>(?:thought)?|\|(?:begin|start)_of_{_NAME}\|>|\|{_NAME}_start\|>"
    r"|\|channel\|>\s*+(?:analysis|commentary)"
)
_CLOSING = (
    rf"\|?/{_NAME}\|?[>▷]|/THINK\]|unused95>|\|end_(?:of_)?{_NAME}\|>|\|{_NAME}_end\|>"
    r"|\|channel\|>\s*+final(?:<\|message\|>)?"
)
_MARKER = re.compile(rf"[<\[◁](?i:(?P<opening>{_OPENING})|(?P<closing>{_CLOSING}))")

_BRACKETS = ("<", "[", "◁")

# The channels of gpt-oss where its special tokens were removed.
_BARE_CHANNEL = re.compile(r"\Aanalysis(?=[A-Z])")
_BARE_FINAL = "assistantfinal"


def strip_reasoning(text: str) -> str:
    """The text without what it marks as thought.

    A thought that is never closed reaches to the end: a response that was cut off while it thought
    has no answer. A closing marker alone means that the prompt ended with the opening one:
    everything before it is thought.

    Example:
      >>> strip_reasoning("<think>Is it 3? No.</think> It is 5.")
      ' It is 5.'
      >>> strip_reasoning("Is it 3? No.</think> It is 5."), strip_reasoning("<think>Is it 3?")
      (' It is 5.', '')
    """
    if _BARE_FINAL in text:
        text = text.rpartition(_BARE_FINAL)[2]
    elif _BARE_CHANNEL.match(text):
        return ""

    if not any(bracket in text for bracket in _BRACKETS):
        return text

    spoken: list[str] = []
    position = 0
    in_thought = False
    for marker in _MARKER.finditer(text):
        if marker["opening"] is not None:
            if not in_thought:
                spoken.append(text[position : marker.start()])
            in_thought = True
        elif in_thought:
            in_thought = False
        else:
            # Nothing was opened, or more than once: all that came before is thought.
            spoken.clear()
        position = marker.end()

    if not in_thought:
        spoken.append(text[position:])
    return "".join(spoken)
