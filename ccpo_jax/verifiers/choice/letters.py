"""The letters of a text that may name an option, and which of them belong together.

A letter is recognised by what stands around it, and every letter by the same rule: the article "A"
and the pronoun "I" are told from the letters by the word that follows.
"""

import bisect
import re
from collections.abc import Sequence
from typing import NamedTuple

# No letter names an option inside a word, a formula, an abbreviation or f(B).
_NOT_BEFORE = r"(?<![A-Za-z0-9'°^\\])(?<![A-Za-z][.-])(?<![A-Za-z0-9][(\[{<])"
_NOT_BEHIND = r"(?![A-Za-z0-9'^°²³\u00c0-\u024f\u0370-\u052f])(?!\.[A-Za-z]\.|\.\d|-[A-Za-z]|[+#])"

# Words that cannot follow an article or a pronoun: before them a single letter is a letter.
_LINKS = (
    r"and|or|but|not|nor|because|since|as|which|that|so|for|due|based|given|rather|instead|with"
    r"|without|by|in|on|at|from|to|if|while|whereas|although|though|when|where|it|its|this|these"
    r"|the|they|there|their|than|among|here|therefore|thus|hence|indeed|however|only|a|an"
)

# Verbs that make a letter the subject of a clause of its own: "C is a trap".
_VERBS = (
    r"is|was|are|were|would|must|should|could|can|cannot|may|might|will|seems?|appears?|remains?"
    r"|fits?|works?|holds?|best|most|has|have|does|do|isn't|wasn't|aren't|doesn't|can't|wouldn't|fails?"
    r"|says?|states?|means?|claims?|matches|satisfies|contradicts|describes|refers|alone"
)

# A sign of the scripts that are written without blanks between words.
SCRIPTS = r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]"

# What follows a capital letter that names an option.
_BEHIND_CAPITAL = (
    rf"(?=[ \t]*+(?:[.,;:!?)\]}}>/|&–—→⇒\n]|-|=>|\Z|{SCRIPTS})"
    rf"|[ \t]++(?:[(\[{{<A-Z0-9]|(?:{_LINKS}|{_VERBS})\b"
    r"|also (?:fits|works|holds|possible|correct|right)\b"
    r"|(?:then|correct|right|true)[ \t]*+(?:[.,;!\n]|\Z)))"
)
# A small letter without brackets has to end its line, or to label it.
_BEHIND_SMALL = r"(?=[ \t.)\]}>]*+(?:\n|\Z))"
_SMALL_LABEL = r"(?m:^)[a-z](?=[.)][ \t])"

_LETTER = re.compile(
    rf"{_NOT_BEFORE}(?:[(\[{{<]{{1,2}}[ ]{{0,3}}(?P<marked>[A-Za-z])[ ]?(?:[)\]}}>]|\s*\Z)"
    rf"|(?:[(\[{{<]{{1,2}}[ ]{{0,3}})?(?P<bare>[A-Z]{_NOT_BEHIND}{_BEHIND_CAPITAL}"
    rf"|[a-z]{_NOT_BEHIND}{_BEHIND_SMALL}|{_SMALL_LABEL}))"
)
# The verb behind a letter; behind brackets or a point, which may also label the text of an option,
# a judgement: "(A) is wrong", but not "(A) is a dog".
_VERB = re.compile(rf"[)\]}}>.:]*+[ \t]++(?:{_VERBS})\b")
_BARE_SUBJECT = re.compile(rf"[ \t]++(?:{_VERBS})\b")
_JUDGED = re.compile(
    r"[)\]}>.:]*+[ \t]++(?:(?:is|are|was|would be|seems|looks|must be|can be|cannot be|can't be"
    r"|isn't)(?: \w{1,20}){0,2}? (?:wrong|incorrect|correct|right|false|true|out|eliminated|answer"
    r"|option|choice|impossible|plausible|irrelevant|better|best|trap|distractor|supported)\b"
    r"|(?:fails|works|fits|holds|remains)(?=[.,;!?\n]))"
)
_SEVERAL_SUBJECTS = re.compile(r"[)\]}>]*+[ \t]++(?:are|were|both|all|have|do|fit|work|hold)\b")

# What joins two letters to one answer: "A or B", "A, B", "A/B", "A, but it could also be B".
_ALSO = (
    r"(?:[\s,(\[{]|\b(?:or|and|also|maybe|perhaps|possibly|probably|even|either|option|choice"
    r"|answer|letter|the|else|but|though|although|alternatively|boxed:"
    r"|it (?:could|might|may) (?:also |as well )?be|(?:could|might|may) (?:also )?be)"
    r"(?=[\s,(\[{])|选项|也可能|可能)*+"
)
_EITHER_OF = re.compile(
    r"(?i)[\s,;.)\]}>(]*+(?:[/&|+]|\b(?:or|nor|versus|vs\.?|maybe|perhaps|possibly|alternatively"
    rf"|otherwise)\b|或者?|{_ALSO}\b(?:it )?(?:could|might|may) (?:also )?be\b){_ALSO}"
)
_BOTH_OF = re.compile(rf"(?i)[\s)\]}}>]*+(?:[,;]|\band\b|和|与|及|以及){_ALSO}")
_BUT = re.compile(r"(?i)[\s,;.)\]}>]*+(?:but|and|though|although|however|\()[\s,(]*+(?:option )?")
_BESIDE = re.compile(
    r"(?i)[\s,;.)\]}>]*+(?:(?:but|and|though|although|however)\b[\s,]*+)?(?:(?:option|choice) )?"
)
_ALSO_RIGHT = re.compile(
    r"(?i)[)\]}> ]*+(?:(?:is|could be|may be|might be|would be|seems) (?:also|equally|just as"
    r"|possible|plausible)(?! wrong| incorrect| not)|(?:could|may|might|would) also\b"
    r"|(?:could|may|might) be)"
)
_EQUALLY_RIGHT = re.compile(
    r"(?i)[)\]}> ]*+(?:(?:is|could be|may be|might be|would be|seems) (?:also|equally|just as"
    r"|as good)(?! wrong| incorrect| not| false| bad)|also (?:fits|works|holds)"
    r"|(?:is|would be|seems|fits|works|holds)(?: (?:right|correct|fine|good|valid|true))?"
    r" (?:too|as well)\b)"
)
_RELATED = re.compile(r"[ ]*+(?:[<>=≤≥≠≈~]=?|-{1,2}>|=>|→|⇒)[ ]*+")
_NEXT_TO = re.compile(r"[ ]*+(?:\}?[ ]*+boxed:[ ]*+|[~–—-][ ]*+)?")
_CLAUSE_END = re.compile(r"[ \t)\]}>]*+(?:[.,;!?\n]|\Z)")

# The words that may stand before the letter of an item of a list: "Option A: it rains".
_ITEM_PREFIX = re.compile(r"(?i)[ \t]*+(?:(?:option|choice|statement|answer)[ \t]++)?")
_ITEM_SUFFIX = re.compile(r"[)\]}>.:]*+")

# A line that introduces a list of options, unless it announces the answer.
_INTRODUCTION = re.compile(
    r"(?i)\b(?:options|choices|answers|statements|each|every|one by one)\b.*:\Z"
    r"|\b(?:evaluate|examine|analy[sz]e|assess|consider|check|review|discuss|compare|go over"
    r"|go through|look at|walk through)\b.*\b(?:options|choices|each|every|one by one)\b"
)
_ANNOUNCEMENT = re.compile(
    r"(?i)\b(?:answer|option|choice)(?::|\b[^.:;!?]{0,60} (?:is|must be|would be):?)\Z"
)
_SEARCH = re.compile(r"(?i)\b(?:find|determine|identify|decide|see|each|every)\b")


class Letters(NamedTuple):
    """Letters that a text names together, mostly one.

    Attributes:
      letters: the distinct ones, as capitals.
      start: position of the first, brackets included.
      end: position behind the last, without what closes its brackets.
      is_marked: whether the last stands in brackets.
      is_subject: whether a verb makes them the subject of a clause: "B is a trap".
      is_item: whether they label an item of a list of options.
    """

    letters: tuple[str, ...]
    start: int
    end: int
    is_marked: bool
    is_subject: bool
    is_item: bool


def find_letters(text: str) -> list[Letters]:
    """The letters that may name options, in order, those that belong together as one.

    Example:
      >>> [found.letters for found in find_letters("A dog. (A) or C fit, B is wrong.")]
      [('A', 'C'), ('B',)]
    """
    groups: list[Letters] = []
    for match in _LETTER.finditer(text):
        letter = (match["marked"] or match["bare"]).upper()
        is_marked = match["marked"] is not None
        is_subject = _JUDGED.match(text, match.end()) is not None
        if not is_marked and _BARE_SUBJECT.match(text, match.end()):
            is_subject = True
        single = Letters((letter,), match.start(), match.end(), is_marked, is_subject, False)
        if groups and _belong_together(text, groups[-1], single):
            first = groups.pop()
            letters = tuple(dict.fromkeys((*first.letters, letter)))
            single = single._replace(letters=letters, start=first.start)
        groups.append(single)
    return _with_items(text, _with_rows(text, groups))


def _with_rows(text: str, groups: Sequence[Letters]) -> list[Letters]:
    """The same letters, those of a row such as "A B C" or "(A)(B) or (C)" as one.

    A row is told by its end, so that the last letter is read first.
    """
    merged: list[Letters] = []
    for group in reversed(groups):
        last = merged[-1] if merged else None
        is_row = (
            last is not None
            and len(last.letters) > 1
            and not last.is_subject
            and (last.is_marked or not group.is_marked)
            and _NEXT_TO.fullmatch(text, group.end, last.start) is not None
        )
        if last is not None and is_row:
            letters = tuple(dict.fromkeys((*group.letters, *last.letters)))
            merged[-1] = last._replace(letters=letters, start=group.start)
        else:
            merged.append(group)
    return merged[::-1]


def _belong_together(text: str, first: Letters, second: Letters) -> bool:
    """Whether two letters are alternatives, or two parts of one answer."""
    if second.start - first.end > 40:
        return False
    between = text[first.end : second.start]
    if _EITHER_OF.fullmatch(between) or _RELATED.fullmatch(between):
        return True
    if _BUT.fullmatch(between) and _ALSO_RIGHT.match(text, second.end):
        return True
    if _BESIDE.fullmatch(between) and _EQUALLY_RIGHT.match(text, second.end):
        return True
    if _VERB.match(text, second.end) and not _SEVERAL_SUBJECTS.match(text, second.end):
        return False
    if _BOTH_OF.fullmatch(between):
        return True
    # "A B" and "(A)(B)" are two letters; in "(A) B" the second is the text of the option.
    is_label = first.is_marked and not second.is_marked
    is_answer = _CLAUSE_END.match(text, second.end) is not None and not is_label
    return is_answer and _NEXT_TO.fullmatch(between) is not None


class _Label(NamedTuple):
    """A letter that begins a line: its place among the letters, its line, and how it is set."""

    index: int
    line: int
    letter: str
    form: str


def _with_items(text: str, groups: Sequence[Letters]) -> list[Letters]:
    """The same letters, those that label the options of a list marked as its items.

    A list is two or more lines that begin with different letters of one form, or one such line
    below words that introduce options. A line that ends in a colon begins a new list, and a letter
    that is judged, "(A) is wrong", is part of a sentence.
    """
    line_starts = [0, *(match.end() for match in re.finditer("\n", text)), len(text) + 1]
    items: set[int] = set()
    previous: _Label | None = None
    for index, found in enumerate(groups):
        label = _label(text, line_starts, index, found)
        if label is None:
            continue

        above = _lines_between(text, line_starts, previous.line if previous else -1, label.line)
        last_above = next((words for words in reversed(above) if words), "")
        begins_list = any(words.endswith(":") for words in above)
        goes_on = previous and previous.form == label.form and previous.letter != label.letter
        if previous and goes_on and not begins_list:
            items |= {previous.index, index}
        if _introduces_list(last_above[-200:]):
            items.add(index)
        previous = label
    return [found._replace(is_item=index in items) for index, found in enumerate(groups)]


def _label(text: str, line_starts: Sequence[int], index: int, found: Letters) -> _Label | None:
    """The letter as the label of its line, None where it is none."""
    line = bisect.bisect_right(line_starts, found.start) - 1
    prefix = _ITEM_PREFIX.match(text, line_starts[line])
    suffix = _ITEM_SUFFIX.match(text, found.end)
    assert prefix is not None and suffix is not None
    if prefix.end() != found.start or found.is_subject or len(found.letters) != 1:
        return None

    opening = "(" if found.is_marked else ""
    form = f"{prefix[0].strip().lower()} {opening}{suffix[0]}"
    return _Label(index, line, found.letters[0], form)


def _introduces_list(line: str) -> bool:
    """Whether a line says that the options follow, and not that the answer does."""
    if _ANNOUNCEMENT.search(line) and not _SEARCH.search(line):
        return False
    return _INTRODUCTION.search(line) is not None


def _lines_between(text: str, line_starts: Sequence[int], first: int, last: int) -> list[str]:
    """The lines between two lines, without blanks around them; at most the last 20."""
    chosen = range(max(first + 1, last - 20), last)
    return [text[line_starts[line] : line_starts[line + 1] - 1].strip() for line in chosen]
