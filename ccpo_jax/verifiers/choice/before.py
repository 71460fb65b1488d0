"""What the words before a letter make of it: "the answer is", "I choose", "it's" and their like.

All patterns end where the letter begins.
"""

import re

# How many of the last characters may be an announcement's end.
_NEAR = 60

# What has an answer for its value, in English and, before a colon, in other languages.
NOUN = (
    r"(?:answers?|option|choice|selection|response|conclusion|vote|pick|solution|letter"
    r"|(?:correct|right|best|closest) \w{1,20})"
)
_FOREIGN_NOUN = (
    r"(?:antwort|réponse|respuesta|risposta|resposta|jawaban|ответ|答え|回答|解答|정답|답)"
)
COPULA = (
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
_NOUN_WORD = re.compile(rf"(?i)\b{NOUN}\b")
_FROM_NOUN = re.compile(
    rf"(?i){NOUN}\b[^.!?:;\n]{{0,80}}?(?:{COPULA}|{_MARK}){_FILLER}\Z"
    rf"|answer[ \t]*+\n{_FILLER}\Z"
)
_LINK = re.compile(rf"(?i)(?:{COPULA}|{_MARK}|answer[ \t]*+\n){_FILLER}\Z")
_LABELLED = re.compile(rf"(?i)(?:\b(?:ans|sol)\.|\b{_FOREIGN_NOUN}\s*+:|\bboxed:){_FILLER}\Z")
_CHOSEN = re.compile(
    r"(?i)(?:\A|[.,;:!?\n]|\b(?:i|we|i'm|i've|we're|i'd|i'll|we'll|let's|let us|would|will"
    r"|should|must|so|therefore|thus|hence|then|can|now|finally|am|are|have))[ \t]*+"
    r"(?:(?:would|will|should|must|can|therefore|thus|hence) ){0,2}"
    r"(?:choose|chose|chosen|select|selected|pick|picked|vote for|go with|going with|go for"
    rf"|opt for|settle on|settle for|answer with|mark|conclude){_FILLER}\Z"
)

# These need the end of the clause behind the letter: "So B.", "This leaves us with B.", "It's B."
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
    r"[ \t)\]}>]*+(?:then(?=[.!,;\n]|\Z))?(?:[.!;:](?!\w)|\Z|\n|,"
    r"|(?:because|since|as|which|here|not|and not|rather)\b"
    r"|[(\[–—-])"
)

# Chinese announcements: 答案是B, 正确选项：B, 故选B.
_CHINESE_FILLER = r"(?:[\s:,]|选项|选择|选|项|应该?|为|是|boxed:)*+"
_CHINESE = re.compile(
    rf"答案\]?[^.!?;,\n]{{0,10}}?{_CHINESE_FILLER}\Z"
    rf"|正确的?(?:答案|选项|说法|表述|项)?[^.!?;,\n]{{0,6}}?(?:是|为|:){_CHINESE_FILLER}\Z"
    rf"|(?:选(?:择)?(?!项)|而是){_CHINESE_FILLER}\Z"
)

# "This makes option C correct", "making C the correct answer".
_MADE = re.compile(
    r"(?i)\b(?:makes?|making|leaves|leaving|renders?)(?: (?:option|choice|answer|statement))? \Z"
)

# What makes a letter an option, and what makes a letter that is right the answer.
_OPTION = re.compile(r"(?i)\b(?:option|choice|answer|statement|conclude that) \Z")
_SOLE = re.compile(r"(?i)\bonly (?:(?:option|choice|answer|statement) )?\Z")
_CONCLUDING = re.compile(rf"(?i)\b(?:only|option|choice|answer|so|thus|hence|therefore){_FILLER}\Z")

_CHINESE_NEGATIONS = ("不", "非", "没", "未", "勿", "错")

# What keeps the words before a letter from stating it.
_CLAUSE_START = re.compile(
    r"(?i)[,.;!?\n]|\b(?:but|so|therefore|hence|thus|because|since|however|and|then)\b"
)
_CONDITION = re.compile(
    r"(?i)\b(?:if|whether|unless|suppose|supposing|supposed|assume|assuming|imagine|doubt(?<!no"
    r" doubt)|neither|nor|let's (?:say|check|test|try|see))\b|如果|假设|假如|是否|若|难道|有人|以为"
)
_NEGATION = re.compile(
    r"(?i)(?:\b(?:not|never|cannot|nor|neither|unlikely|hardly|nobody)\b|n't\b|[不非没未勿错]|排除)"
)
_NEGATED_STATEMENT = re.compile(
    r"(?i)(?:\b(?:not|never|cannot|unlikely|hardly)|n't)(?: (?:think|thought|believe|say|sure|true"
    r"|clear|likely|possible|plausible|convinced|certain|the case|mean|agree|be|that|the|a|an|my"
    r"|final|correct|right|best|option|choice|answer|letter|it|it's|is)){0,8} \Z"
)
_EXCEPTION = re.compile(
    r"(?i)\b(?:except|besides|other than|apart from|unlike|than|opposite of)(?: for)?"
    r"(?: (?:option|choice|answer))? \Z"
)
_WRONG_NOUN = re.compile(
    rf"(?i)\b(?:wrong|incorrect|false|invalid|worst)(?: \w{{1,20}})? {NOUN}\b"
    r"|\b(?:find|determine|identify|choose|select|decide|pick)(?: on)? the"
    rf"(?: \w{{1,20}})? {NOUN}\s*+:"
    rf"|\b(?:each|every|any|all|another|other|which) (?:of the )?{NOUN}\b|\banswers\s*+:"
)

# What calls a letter less than the best: "the least likely", "the second best answer".
LESSER = re.compile(
    r"(?i)\b(?:(?:least|less) (?:likely|probable|plausible|possible|suitable|appropriate|accurate"
    rf"|reasonable|convincing|correct|good|fitting|(?:\w{{1,20}} )?{NOUN})"
    rf"|(?:worst|poorest|weakest)(?: \w{{1,20}})? {NOUN}"
    r"|(?:second|third|next)[ -](?:best|closest|most \w{1,20})"
    rf" (?:{NOUN}|is|would be)|runner-up)\b"
)

# From such words up to the letter: "that the correct answer is", "it's".
_UP_TO_LETTER = (
    rf"{_FILLER}(?:(?:(?:of )?(?:this )?(?:question|problem)|that|it|it's|this|these"
    r"|you|we|i|was|were|would|must|should|could|will|choose|pick|select|say|claim|think|believe"
    rf"|conclude|consider|call)\b{_FILLER}){{0,6}}\Z"
)

# What denies a whole clause: "There is no way the answer is B", "It is wrong to choose B".
_DENIED_CLAUSE = re.compile(
    r"(?i)\b(?:no (?:way|chance|reason|possibility|(?:evidence|proof|indication)(?= that))"
    r"|(?:wrong|false|untrue|incorrect|impossible|mistaken|absurd|improbable|doubtful|unclear)"
    r" (?:that|to)|wrongly|falsely|mistakenly|den(?:y|ies|ied)|reject|disagree|refuse)\b"
    rf"{_UP_TO_LETTER}"
)

# What another, or a first impression, takes for the answer.
_OTHERS_VIEW = re.compile(
    r"(?i)\b(?<!what )(?<!which )(?<!whom )"
    r"(?:(?:he|she|they|you|one|some|many|most|others|people|someone|somebody|anyone"
    r"|students?|readers?|friends?|teachers?)(?: (?!should|must)\w{1,20}){0,2}?"
    r" (?:says?|said|thinks?|thought"
    r"|believes?|believed|claims?|claimed|argues?|argued|choose|chose|picked|selected"
    r"|guessed|assumed?|assumes|answered|suggests?|suggested|insists?|swears?)"
    r"|tempt(?:ed|ing)|(?:i|we) (?:first |initially |originally )?(?:thought|assumed|guessed))\b"
    rf"{_UP_TO_LETTER}"
)
_HEARSAY = re.compile(
    r"(?i)\b(?:(?:said|supposed|rumou?red|used|believed|claimed|thought|assumed|alleged) to be"
    r"|supposedly|allegedly|could have been|(?:that|which) (?:is|are) (?:wrong|incorrect))\b"
)
_FIRST_IMPRESSION = re.compile(
    r"(?i)\b(?:at first (?:glance|sight)"
    rf"|(?:at first|initially|originally|naively)[, ]++(?:i\b|we\b|(?:the )?{NOUN}\b))"
)
_NEW_THOUGHT = re.compile(
    r"(?i)[.;!?\n]|\b(?:but|yet|however|so|therefore|thus|hence|now|although|though|while)\b"
)

# A box is no word of the sentence around it.
_BOX_WORDS = re.compile(r"\s*+\bboxed: \{?\s*+")


def is_announced(before: str, behind: str) -> bool:
    """Whether the words before a letter say that it is the answer."""
    near = before[-_NEAR:]
    if _LINK.search(near):
        for noun in reversed(list(_NOUN_WORD.finditer(before))):
            match = _FROM_NOUN.match(before, noun.start())
            if match:
                preceding = clause(before[: noun.start()])
                return not (
                    _NEGATION.search(match[0])
                    or _HEARSAY.search(match[0])
                    or _NEGATED_STATEMENT.search(preceding)
                    or _CONDITION.search(preceding)
                    or LESSER.search(preceding + match[0])
                    or _WRONG_NOUN.search(before, max(0, noun.start() - 40))
                )
    if _LABELLED.search(near):
        return True

    if _CHOSEN.search(near) or _CHINESE.search(near):
        return _NEGATION.search(clause(before)) is None
    is_concluded = _CONCLUDED.search(near) or _CORRECTED.search(near)
    return bool(is_concluded and _CLAUSE_END.match(behind))


def is_pointed_at(before: str, behind: str) -> bool:
    """Whether a pronoun or an adverb points at a letter: "it's C"."""
    pointing = _POINTED_AT.search(before[-_NEAR:])
    if pointing is None or not _CLAUSE_END.match(behind):
        return False
    pointing_start = len(before[:-_NEAR]) + pointing.start()
    return not _NEGATED_STATEMENT.search(clause(before[:pointing_start]))


def is_void(before: str) -> bool:
    """Whether a negation or a condition keeps the words before a letter from stating anything."""
    words = _BOX_WORDS.sub(" ", clause(before))
    patterns = (_NEGATED_STATEMENT, _EXCEPTION, _DENIED_CLAUSE, LESSER, _CONDITION, _HEARSAY)
    if words.endswith(_CHINESE_NEGATIONS) or any(pattern.search(words) for pattern in patterns):
        return True
    return _OTHERS_VIEW.search(words) is not None or _is_first_impression(before)


def is_denied(before: str) -> bool:
    """Whether the words before a letter deny it: "it's not B"."""
    words = _BOX_WORDS.sub(" ", clause(before))
    return _NEGATED_STATEMENT.search(words) is not None and not _CONDITION.search(words)


def _is_first_impression(before: str) -> bool:
    """Whether a letter is only the first thing that comes to mind."""
    start = 0
    for end in _NEW_THOUGHT.finditer(before):
        start = end.end()
    return _FIRST_IMPRESSION.search(before, start) is not None


def is_made(before: str) -> bool:
    """Whether something makes a letter what is said of it behind: "this makes C"."""
    return _MADE.search(before[-_NEAR:]) is not None and not _NEGATION.search(clause(before))


def names_option(before: str) -> bool:
    """Whether a letter is called an option: "statement B"."""
    return _OPTION.search(before) is not None


def names_only_one(before: str) -> bool:
    """Whether a letter is called the only one: "only B"."""
    return _SOLE.search(before[-_NEAR:]) is not None


def concludes(before: str) -> bool:
    """Whether what is said of a letter is a conclusion: "so B", "option B"."""
    return _CONCLUDING.search(before[-_NEAR:]) is not None


def clause(before: str) -> str:
    """The end of the words before a letter, from the beginning of their clause."""
    start = 0
    for end in _CLAUSE_START.finditer(before):
        start = end.end()
    return before[start:]
