"""Which letters a text states as its answer: each is judged by the words before and behind it.

Every letter is either stated, or merely suggested ("It's C"), or neither. A question, a condition
and a negation state nothing. Texts are those of `choice_markup.plain_text`.
"""

import re
from typing import NamedTuple

from ccpo_jax.verifiers.choice_letters import SCRIPTS, Letters, find_letters

# How much of a text before and behind a letter is read to judge it.
_BEFORE = 160
_NEAR = 60
_BEHIND = 80

# How many letters of a text are judged, the last ones; a text that settles on one names few.
_MAX_LETTERS = 1000

# What has an answer for its value, in English and, before a colon, in other languages.
_NOUN = (
    r"(?:answers?|option|choice|selection|response|conclusion|vote|pick|solution|letter"
    r"|(?:correct|right|best|closest) \w{1,20})"
)
_FOREIGN_NOUN = (
    r"(?:antwort|réponse|respuesta|risposta|resposta|jawaban|ответ|答え|回答|解答|정답|답)"
)
_COPULA = (
    r"(?:\b(?:is|are|was|equals|remains|becomes|vote for)\b|'s\b"
    r"|(?<!could )(?<!might )(?<!may )(?<!can )\bbe\b)"
)
_MARK = r"(?:[:→]|=>|(?:(?<=answer)|(?<=answer ))=|[-–—]{1,2}(?=[\s(\[]))"

# Words that may stand between an announcement and its letter: "most likely the option".
_FILLER = (
    r"(?:[\s,:>→=–—-]|\b(?:i (?:think|believe|guess|suppose|would say)|in my opinion|of course)\b"
    r"|\b(?:the|most|likely|probably|clearly|definitely|certainly|surely|obviously|simply|just"
    r"|therefore|thus|hence|then|indeed|actually|still|only|exactly|best|correct|right|final|first"
    r"|second|third|fourth|fifth|last"
    r"|closest|to|as|follows|given|by|for|sure|is|be|option|choice|letter|answer|statement"
    r"|alternative|number|labell?ed|boxed)\b)*+"
)

# "The answer that fits is B" and "Answer: B", from the noun on; "Ans. B"; "Answer" as a heading.
_NOUN_WORD = re.compile(rf"(?i)\b{_NOUN}\b")
_FROM_NOUN = re.compile(
    rf"(?i){_NOUN}\b[^.!?:;\n]{{0,80}}?(?:{_COPULA}|{_MARK}){_FILLER}\Z"
    rf"|answer[ \t]*+\n{_FILLER}\Z"
)
_LINK = re.compile(rf"(?i)(?:{_COPULA}|{_MARK}|answer[ \t]*+\n){_FILLER}\Z")
_LABELLED = re.compile(rf"(?i)(?:\b(?:ans|sol)\.|\b{_FOREIGN_NOUN}\s*+:|\bboxed:){_FILLER}\Z")
_CHOSEN = re.compile(
    r"(?i)(?:\A|[.,;:!?\n]|\b(?:i|we|i'm|i've|we're|i'd|i'll|we'll|let's|let us|would|will"
    r"|should|must|so|therefore|thus|hence|then|can|now|finally|am|are|have))[ \t]*+"
    r"(?:(?:would|will|should|must|can|therefore|thus|hence) ){0,2}"
    r"(?:choose|chose|chosen|select|selected|pick|picked|vote for|go with|going with|go for"
    rf"|opt for|settle on|settle for|answer with|mark|conclude){_FILLER}\Z"
)

# These need the end of the clause behind the letter: "So B.", "This leaves us with B."
_CONCLUDED = re.compile(
    r"(?i)(?:\b(?:so|thus|hence|therefore|consequently|finally|elimination|leaves|leaving"
    rf"|left with)\b(?: us)?(?: with)?|∴|→|=>){_FILLER}\Z"
)
_CORRECTED = re.compile(
    rf"(?i)\b(?:not|none|never)\b[^.!?\n]{{0,40}}?\bbut(?: rather)?\b{_FILLER}\Z"
)
_POINTED_AT = re.compile(
    r"(?i)\b(?:(?:it|this|that|which|they|these)"
    r"(?:'s|'ll be| is| are| was| (?:must|should|would|will) be| has to be| can only be)"
    r"|(?:i|we)(?:'d| would| will|'ll)? (?:say|answer|guess)|(?:looks|seems) like|going to say"
    rf"|probably|definitely|certainly|clearly|obviously|surely|likely){_FILLER}\Z"
)
_CLAUSE_END = re.compile(
    r"[ \t)\]}>]*+(?:[.!;:](?!\w)|\Z|\n|,|(?:because|since|as|which|not|and not|rather)\b"
    r"|[(\[–—-])"
)

# "B is the correct answer", and what needs the end of the clause: "B is correct", "only B fits".
_BE = (
    r"(?:is|are|would be|must be|should be|has to be|seems to be|seems|appears to be|appears"
    r"|remains) "
)
_PRAISE = (
    r"(?:(?:the|thus|therefore|clearly|definitely|indeed|most|single|final|only|best|correct|right"
    r"|likely|appropriate|suitable|accurate|logical|plausible|valid|possible) ){0,5}"
)
_CONFIRMED = re.compile(
    rf"(?i)[\s)\]}}>,:]*+{_BE}(?:{_PRAISE}answer|(?:my|our) (?:final )?(?:answer|choice)"
    r"|the only (?:\w{1,20} )?(?:option|choice)"
    rf"|{_PRAISE.replace('0,5', '0,4')}(?:best|correct|right|appropriate|suitable|accurate|likely) "
    r"(?:choice|option|one|fit|response|solution|selection|statement|alternative))\b"
)
_RIGHT = re.compile(
    rf"(?i)[\s)\]}}>,:]*+(?:{_BE}(?:thus |therefore |clearly |indeed |the |most |best ){{0,5}}"
    r"(?:correct|right|best|better|accurate|supported|likely|appropriate|plausible|suitable"
    r"|reasonable|logical)|fits(?: best)?|best fits|works(?: best)?|holds|remains|is left)"
    r"(?=[ \t]*+(?:[.!,;:\n)]|\Z|(?:because|since|as)\b))"
)
_BEST = re.compile(
    r"(?i)[\s)\]}>,:]*+(?:best (?:describes|explains|supports|fits|captures|completes|matches"
    r"|represents|answers|reflects|summari[sz]es|illustrates|expresses)"
    r"|most (?:strongly|closely|accurately|directly|clearly|likely) \w{2,15}s"
    r"|is the (?:one|option|statement) (?:that|which) (?:best|most|correctly)|it is(?=[.!]))\b"
)
# A statement is true; of a bare letter, a variable of the question, it says nothing.
_TRUE = re.compile(rf"(?i)[\s)\]}}>,:]*+{_BE}(?:thus |therefore |clearly |indeed )*true\b")
_OPTION = re.compile(r"(?i)\b(?:option|choice|answer|statement) \Z")
_RIGHT_IN_CHINESE = re.compile(r"\s*(?:选项|项)?\s*(?:是|为)?(?:唯一)?(?:正确|对的)")
_SOLE = re.compile(r"(?i)\bonly (?:(?:option|choice|answer|statement) )?\Z")
_SOLE_RIGHT = re.compile(
    r"(?i)[)\]}>]*+ (?!(?:is|are) (?:not|wrong|incorrect|false))"
    r"(?:is|satisfies|matches|meets|fits|explains|follows|describes|agrees|supports)\b"
)
_ONLY = re.compile(rf"(?i)\b(?:only|option|choice|answer|so|thus|hence|therefore){_FILLER}\Z")

# Chinese announcements: 答案是B, 正确选项：B, 故选B.
_CHINESE_FILLER = r"(?:[\s:,]|选项|选择|选|项|应该?|为|是|boxed:)*+"
_CHINESE = re.compile(
    rf"答案\]?[^.!?;,\n]{{0,10}}?{_CHINESE_FILLER}\Z"
    rf"|正确的?(?:答案|选项|说法|表述|项)?[^.!?;,\n]{{0,6}}?(?:是|为|:){_CHINESE_FILLER}\Z"
    rf"|(?:选(?:择)?(?!项)|而是){_CHINESE_FILLER}\Z"
)

# What keeps the words before a letter from stating it.
_CLAUSE_START = re.compile(
    r"(?i)[,.;!?\n]|\b(?:but|so|therefore|hence|thus|because|since|however|and|then)\b"
)
_CONDITION = re.compile(
    r"(?i)\b(?:if|whether|unless|suppose|supposing|supposed|assume|assuming|imagine|doubt(?<!no"
    r" doubt)|neither|nor|let's (?:say|check|test|try|see))\b|如果|假设|假如|是否|若"
)
_NEGATION = re.compile(
    r"(?i)(?:\b(?:not|never|cannot|nor|neither|unlikely|hardly|nobody)\b|n't\b|[不非没未勿错]|排除)"
)
_NEGATED_STATEMENT = re.compile(
    r"(?i)(?:\b(?:not|never|cannot|unlikely|hardly)|n't)(?: (?:think|thought|believe|say|sure|true"
    r"|clear|likely|possible|plausible|convinced|certain|the case|mean|agree|be|that|the|a|an|my"
    r"|final|correct|right|best|option|choice|answer|letter|it|it's|is)){0,8} \Z"
)
_WRONG_NOUN = re.compile(
    rf"(?i)\b(?:wrong|incorrect|false|invalid|worst)(?: \w{{1,20}})? {_NOUN}\b"
    r"|\b(?:find|determine|identify|choose|select|decide|pick)(?: on)? the"
    rf"(?: \w{{1,20}})? {_NOUN}\s*+:"
)
_OPTION_TEXT = re.compile(r"[)\]}>:]*+ ++[A-Z]")
_QUESTION = re.compile(r"[^.!?\n]{0,80}\?")
_ONLY_IF = re.compile(r"[\s)\]}>,]*+(?:only )?(?:if|had|unless|when)\b")
_ONLY_BUT = re.compile(r"[^.!?\n]{0,30}\b(?:if|unless|but)\b")

# What only sets a letter against another: "B, not A" and "B (rather than A)".
_CONTRAST = re.compile(
    r"\A[)\]}>]*+[ ,(]*+(?:and )?(?:not|rather than|instead of)\b[^.,;:!?\n)]{0,30}[,)]?"
)

# What joins a second option to one that was stated: "(B) the rain and (C) the snow".
_ANOTHER = re.compile(r"[^.!?;\n]{0,200}?\b(?:and|or)(?: also)?(?: option)? ")

# What withdraws a letter that was stated before.
_REJECTED = re.compile(
    r"(?i)[\s)\]}>,:]*+(?:is|was|would be) (?:also |clearly |therefore |actually )?"
    r"(?:not (?:the )?(?:correct|right|answer)|wrong|incorrect)\b"
)

# The last sentence, where it ends in a letter that it gives as its result.
_RESULT = re.compile(
    r"(?i)(?:\b(?:is|are|be|option|choice|answer|statement|get|matches|matching|to)\b|[:→]) *+\Z"
)
_NO_RESULT = re.compile(
    r"(?i)\b(?:not|never|cannot|nor|neither|than|except|unlike|wrong|if|whether|suppose|assume"
    r"|eliminat\w+|exclud\w+|reject\w*|rul(?:e|ed|es|ing) out|discard\w*|dismiss\w*|instead of"
    r"|unlikely|impossible|(?<!no )doubt|trap|distractor|mistake)\b"
    r"|\b(?:consider|evaluate|examine|analy[sz]e|check|look at|discuss|compare|test|review)"
    r"(?: (?:now|next|the|option|choice|statement|case)){0,3} *+\Z"
    r"|n't\b|incorrect (?:answer|option|choice)|[不非错]|排除"
)
_SENTENCE_END = re.compile(r"[.!?](?=\s)|\n")
_WORD_AND_STOP = re.compile(r"[a-z)]{2}[.!?] *+\Z")
_ENDING = re.compile(r"[\s.!,;:)\]}>]*+\Z")

# What announces an answer in words; how long one may be, and how many, the last, are read.
_PHRASE_START = re.compile(
    rf"(?i)\b(?:answers?|(?:correct|right|best) \w{{1,20}})\b[^.!?:;\n]{{0,60}}?(?:{_COPULA}|:)"
    r"[ \t]*+:?\s*+|\bboxed: \{"
)
_PHRASE = 2000
_MAX_PHRASES = 20

# A line, or the beginning of a text, that is a letter and at most words such as "so, option".
_LONE_PREFIX = re.compile(
    r"(?i)[\W_]*+(?:a:|(?:(?:so|thus|hence|therefore|final|correct|best|right|my|the|answer"
    r"|option|choice|letter|ans|is)\b[\s.,:-]*+)*+)[\s]*+"
)
_LONE_SUFFIX = re.compile(r"[)\]}>]*+(?:选项|项)?[\s.,:;!)\]}>]*+")
_LABEL_SUFFIX = re.compile(
    rf"[.):\]}}>]+(?=\s|\Z|[A-Z]|{SCRIPTS})|[,\s]\s*+{SCRIPTS}|\s*[-–—:]\s"
    r"|,?\s+(?:because|since|as)\b|\s\("
)


class Statement(NamedTuple):
    """What a text says about one letter.

    Attributes:
      position: where in the text.
      letter: the letter; None where several are named at once.
      kind: "stated"; "right": called right, as each of several statements may be; "suggested".
    """

    position: int
    letter: str | None
    kind: str


def find_statements(text: str) -> list[Statement]:
    """What a text says about single letters, in order, without what it takes back later on.

    Example:
      >>> find_statements("Is it A? No, the answer is B.")
      [Statement(position=27, letter='B', kind='stated')]
    """
    statements: list[Statement] = []
    lines = _first_and_last_line(text)
    stated_end = 0
    for letters in find_letters(text)[-_MAX_LETTERS:]:
        letter = letters.letters[0] if len(letters.letters) == 1 else None
        # An announcement is for the first letter behind it: "The answer is (B) a plan of C".
        before = text[max(stated_end, letters.start - _BEFORE) : letters.start]
        behind = _CONTRAST.sub("", text[letters.end : letters.end + _BEHIND])

        if letter and _REJECTED.match(behind):
            statements = [other for other in statements if other.letter != letter]
        kind = "stated" if _stands_alone(text, letters, *lines) else _kind(letters, before, behind)
        if (
            statements
            and letters.is_marked
            and _ANOTHER.fullmatch(text[stated_end : letters.start])
        ):
            statements[-1] = statements[-1]._replace(letter=None)
        elif kind and not _is_question(letters, behind):
            statements.append(Statement(letters.start, letter, kind))
            if kind == "stated":
                stated_end = letters.end
    return statements


def _is_question(letters: Letters, behind: str) -> bool:
    """Whether the sentence of a letter asks; the text of its option may do so: "(A) Why so?"."""
    if _OPTION_TEXT.match(behind) and (letters.is_marked or behind[0] in ")]}>:"):
        return False
    return _QUESTION.match(behind) is not None


def _kind(letters: Letters, before: str, behind: str) -> str | None:
    """What the words before and behind a letter make of it."""
    is_object = not letters.is_subject and not letters.is_item
    if is_object and _is_announced(before, behind):
        kind = "stated"
    elif _CONFIRMED.match(behind):
        kind = "stated"
    elif _is_called_right(before, behind, is_option=letters.is_marked):
        kind = "stated" if _ONLY.search(before[-_NEAR:]) else "right"
    elif is_object and _is_pointed_at(before, behind):
        kind = "suggested"
    else:
        return None

    clause = _clause(before)
    is_denied = _NEGATED_STATEMENT.search(clause) or _NEGATION.search(clause[-3:])
    is_open = _CONDITION.search(clause) or _ONLY_IF.match(behind)
    return None if is_denied or is_open else kind


def _clause(before: str) -> str:
    """The end of the words before a letter, from the beginning of their clause."""
    start = 0
    for end in _CLAUSE_START.finditer(before):
        start = end.end()
    return before[start:]


def _is_announced(before: str, behind: str) -> bool:
    """Whether the words before a letter say that it is the answer."""
    near = before[-_NEAR:]
    if _LINK.search(near):
        for noun in reversed(list(_NOUN_WORD.finditer(before))):
            match = _FROM_NOUN.match(before, noun.start())
            if match:
                preceding = _clause(before[: noun.start()])
                return not (
                    _NEGATION.search(match[0])
                    or _NEGATED_STATEMENT.search(preceding)
                    or _WRONG_NOUN.search(before, max(0, noun.start() - 40))
                )
    if _LABELLED.search(near):
        return True

    if _CHOSEN.search(near) or _CHINESE.search(near):
        return _NEGATION.search(_clause(before)) is None
    is_concluded = _CONCLUDED.search(near) or _CORRECTED.search(near)
    return bool(is_concluded and _CLAUSE_END.match(behind))


def _is_called_right(before: str, behind: str, *, is_option: bool) -> bool:
    """Whether the words behind a letter say that it is right."""
    if _ONLY_BUT.match(behind):
        return False
    if _SOLE.search(before[-_NEAR:]) and (is_option or _OPTION.search(before)):
        return _SOLE_RIGHT.match(behind) is not None
    if _TRUE.match(behind):
        return _OPTION.search(before) is not None
    return any(pattern.match(behind) for pattern in (_RIGHT, _BEST, _RIGHT_IN_CHINESE))


def _is_pointed_at(before: str, behind: str) -> bool:
    """Whether a pronoun or an adverb points at a letter: "it's C"."""
    pointing = _POINTED_AT.search(before[-_NEAR:])
    if pointing is None or not _CLAUSE_END.match(behind):
        return False
    pointing_start = len(before[:-_NEAR]) + pointing.start()
    return not _NEGATED_STATEMENT.search(_clause(before[:pointing_start]))


def _first_and_last_line(text: str) -> tuple[int, int, int]:
    """Where the first line begins and ends that is not empty, and where the last begins."""
    stripped = text.rstrip()
    first_start = len(text) - len(text.lstrip())
    first_end = stripped.find("\n", first_start)
    last_start = stripped.rfind("\n") + 1
    return first_start, first_end if first_end >= 0 else len(stripped), last_start


def _stands_alone(
    text: str, letters: Letters, first_start: int, first_end: int, last_start: int
) -> bool:
    """Whether a letter is all of the last line, or begins the text as the label of an option."""
    if letters.is_item or letters.is_subject:
        return False
    if letters.start >= last_start and _LONE_PREFIX.fullmatch(text, last_start, letters.start):
        if _LONE_SUFFIX.fullmatch(_CONTRAST.sub("", text[letters.end :])):
            return True
    if letters.start < first_end and _LONE_PREFIX.fullmatch(text, first_start, letters.start):
        is_line = _LONE_SUFFIX.fullmatch(text, letters.end, first_end) is not None
        return is_line or letters.is_marked or _LABEL_SUFFIX.match(text, letters.end) is not None
    return False


def find_result(text: str) -> str | None:
    """The letter in which the last sentence ends, where it is the sentence's only letter.

    Example:
      >>> find_result("The ratio is 3:2, or answer (C)."), find_result("It is vitamin C.")
      ('C', None)
    """
    text = text.rstrip()
    start = 0
    for end in _SENTENCE_END.finditer(text):
        start = end.end()
    sentence = text[start:]

    found = find_letters(sentence)
    if len(found) != 1 or len(found[0].letters) != 1:
        return None
    letters = found[0]
    before = sentence[: letters.start]
    # A letter may be a sentence; one that is a line may be the label of an option.
    is_sentence = not before.strip() and _WORD_AND_STOP.search(text[max(0, start - 9) : start])
    is_result = letters.is_marked or is_sentence or _RESULT.search(before)
    is_void = _NO_RESULT.search(_clause(before)) or not _ENDING.match(sentence, letters.end)
    return letters.letters[0] if is_result and not is_void else None


def find_label(text: str) -> str | None:
    """The letter of the only option whose label begins a line: "(B) It must rain".

    Example:
      >>> find_label("Let us see.\\n(B) It must rain"), find_label("(A) rain\\n(B) snow")
      ('B', None)
    """
    labels: set[str] = set()
    for letters in find_letters(text):
        line_start = text.rfind("\n", 0, letters.start) + 1
        if text[line_start : letters.start].strip():
            continue
        if letters.is_item or len(letters.letters) > 1:
            continue
        is_label = letters.is_marked or _LABEL_SUFFIX.match(text, letters.end)
        if is_label and not letters.is_subject:
            labels |= set(letters.letters)
    return labels.pop() if len(labels) == 1 else None


def find_phrases(text: str) -> list[tuple[int, str]]:
    """What follows each announcement of an answer up to the end of its line, with its position.

    Example:
      >>> find_phrases("Answer: it rains.")
      [(8, 'it rains.')]
    """
    phrases = []
    for announcement in list(_PHRASE_START.finditer(text))[-_MAX_PHRASES:]:
        phrase = text[announcement.end() : announcement.end() + _PHRASE].partition("\n")[0]
        phrases.append((announcement.end(), phrase.strip()))
    return phrases
