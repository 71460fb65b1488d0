r"""Where a text announces an answer: "The answer is", "Answer:", "A:", "####", "答案：".

The patterns begin with a fixed letter or sign, so that a long text without announcements costs
little.
"""

import re
from typing import NamedTuple

# Between "answer" and its verb: up to 60 characters of the same clause, formulas included.
_CLAUSE = r"(?:[^.:=\n$?\"]|\$[^$\n]{1,60}\$|\"[^\"\n]{0,60}\"){0,60}?"
_VERB = (
    r"(?:(?i:\b(?:is|are"
    r"|was (?=found to be|determined to be|calculated to be)|will be"
    r"|would be|should be|must be|has to be|equals|becomes"
    r"|comes (?:out )?(?:to|as)(?: be)?|(?:seems|turns out|works out|appears) to(?: be)?)\b)|=)"
)

# "The answer is", "answer to this is:", "**Answer:**", "answer =", '"answer": ', "Answer (in cm):",
# "Answer $9$", "Answer 9", "an answer of 9".
_BEHIND_WORD = (
    r"(?:(?P<label>[\s*_\"'`)}\]]{0,6}[:：=]|\s?(?:[=-]>|[→⇒])| [-–—] "
    r"|\s?\([^()\n]{1,60}\)[*_]{0,3}\s?[:=]"
    r"|(?<=Answer) (?:to|for|in)\b[^.:=\n?]{1,50}:"
    r"|[\s*_]{0,4}(?=\$|\\\(|\\\[)|(?<=A.....)[ *_]{1,4}(?=-?\d))"
    r"|(?<=nswer) (?:of )?(?=[-$]{0,2}\d[\d.,/]*\$?\W*(?:\n|\Z))|(?<=nswer) of (?=[-$\\\d])"
    r"|['’]s (?=[-$\\*(]{0,4}\d|[$\\])"
    rf"|{_CLAUSE}{_VERB}:?)"
)
# The word is found by its last letters, because a pattern that begins with letters is fast. It is
# not the name of a tag, nor the end of another word.
_ANSWER = re.compile(
    rf"nswer(?<=[Aa].....)(?<![A-Za-z</\[]......)s?(?![A-Za-z0-9>])"
    rf"{_BEHIND_WORD}"
)
_UPPER_ANSWER = re.compile(
    rf"NSWER(?<=A.....)(?<![A-Za-z</\[]......)S?(?![A-Za-z0-9>])"
    rf"{_BEHIND_WORD}"
)
# "**Final Answer**" alone on its line. Patterns of lines begin with the break before the line.
_HEADING = re.compile(
    r"\n[ #*_>-]{0,8}(?:(?:The|the|My|my|So|Final|final|FINAL|Correct|correct) ){0,3}"
    r"(?:[Aa]nswer|ANSWER)[*_ ]{0,4}(?=\n|\Z)"
)
# "Final Result: 42".
_FINAL = re.compile(
    r"\n[ #*_>-]{0,8}(?:Final|FINAL) (?:[Rr]esult|RESULT|[Vv]alue|[Ss]olution)"
    r"[*_ ]{0,4}[:：][*_]{0,3}"
)
# GSM8K's sign.
_HASHES = re.compile(r"####\s*+")
# A line that begins with a label of its own, "A: 18" or "Ans. 18", but not the first of several
# options.
_LABEL = re.compile(
    r"\n[ \t>*_-]{0,6}(?:(?:A|ANS|[Aa]ns)[*_]{0,2}[:：][*_]{0,2}|(?:ANS|[Aa]ns)(?:\s?=|\.\s))"
    r"(?![^\n]{0,200}\n[ \t>*_-]{0,6}B[*_]{0,2}[:：])"
)
# Other languages: "答案是 18", "La respuesta es 18", "Réponse : 18", "Antwort: 18".
_FOREIGN = re.compile(
    r"(?:答案|答え|最终结果)(?!(?:肯定|绝对|一定|显然|当然)?(?:不|并非|未必|没|非|错"
    r"|至少|至多|最多|最少|大于|小于|超过))"
    r"(?:应该?|就|分别)?(?:是|为|等于|は)?\s?[:：]?|(?:^|(?<=[\s*]))答\s?[:：]"
    r"|(?:정답|답)(?:은|:)|(?:[Rr]espuesta|[Rr]esposta|[Rr]isposta|[Rr]éponse|[Aa]ntwort|[Оо]твет)"
    r"(?:[^.:=\n]{0,30}?\b(?:es|est|ist|è|é|lautet)\b|[\s*]{0,3}[:：])"
)

_FOREIGN_SIGNS = (
    "答",
    "最终结果",
    "답",
    "espuesta",
    "esposta",
    "isposta",
    "éponse",
    "ntwort",
    "твет",
)

# An answer that is not the text's own, or only supposed.
_NOT_OWN = re.compile(
    r"(?i)\b(?:if|whether|suppose|supposing|assum(?:e|ing)|wrong|incorrect|previous|earlier|initial"
    r"|first|other|original|false|no|his|her|their|your|student['’]s|someone['’]s|any|another"
    r"|no way|impossible|unlikely|absurd|(?<!no )(?<!a )doubt"
    r"|(?:[a-z]{2,5}n['’]t|not) (?:think|believe|say|true|possible|likely|the case|mean)"
    r"|(?<!this )(?<!that )(?<!it )(?:claims|thinks|believes|guesses|argues|says)"
    r"|(?<!i )(?<!we )(?:might|may|could|would) (?:[a-z]{1,8} )?"
    r"(?:think|say|claim|guess|believe|assume|expect)"
    r"|(?:they|people|some|others|students|many|he|she|you|someone) "
    r"(?:claim|think|say|believe|guess|argue|thought|said|claimed|assumed?)) "
    r"(?:(?:that|the|my|final|correct|right|true) ){0,3}$"
)

_NOT_OWN_CHINESE = re.compile(
    r"(?:如果|若|假如|假设|倘若|要是|设|错误的?|有人[^。\n]{0,6}|[他她你们](?:认为|说|以为|觉得)|以为|是否"
    r"|并非|不能说|怀疑)(?:正确|最终|的|他|该|说|认为){0,3}\Z"
)
# "You might think the answer is 42, but it is 43": the value of the text itself.
_OWN_INSTEAD = re.compile(
    r"[^.\n]{1,60}?\bbut (?:in fact,? |actually,? |really )?(?:it|that|this)"
    r"(?:['’]s| is| should be| must be)(?: actually| really| in fact)?(?= (?!not\b))"
)

# Marks of an answer: <answer>5</answer>. A model that is stopped there leaves it open.
_TAG = re.compile(
    r"<(?P<name>(?:final[_ ]?)?answer|ans)>(?P<content>.{0,2000}?)(?:</(?P=name)>|\Z)"
    r"|\[ANSWER\](?P<bracketed>.{0,2000}?)(?:\[/ANSWER\]|\Z)",
    re.DOTALL | re.IGNORECASE,
)
_TAG_SIGNS = ("nswer>", "nswer]", "ans>", "NSWER>", "NSWER]", "Ans>", "ANS>")

# Between two tags: both are the answer.
_JOINING = re.compile(r"\s{0,8}+[,;/(]?\s?(?:and|or|maybe|perhaps|possibly|or maybe)\s{0,8}+")


class Announcement(NamedTuple):
    """Where an answer is announced.

    Attributes:
      start: where the announcement begins.
      end: where what it announces begins.
      is_label: a label such as "Answer:", behind which a sentence may stand.
    """

    start: int
    end: int
    is_label: bool


class Tag(NamedTuple):
    """An answer between tags: its positions, tags included, and what stands between them."""

    start: int
    end: int
    content: str


def announcements_in(text: str) -> list[Announcement]:
    """All announcements of a text, in order."""
    announcements = []
    line_labels = [_LABEL, _FINAL]
    labels = [_HASHES]
    if "nswer" in text or "NSWER" in text:
        line_labels.append(_HEADING)
        for pattern in (_ANSWER, _UPPER_ANSWER):
            for match in pattern.finditer(text):
                start = match.start() - 1
                if _NOT_OWN.search(text[max(0, start - 40) : start]):
                    instead = _OWN_INSTEAD.match(text, match.end())
                    if instead:
                        announcements.append(Announcement(start, instead.end(), False))
                else:
                    is_label = match["label"] is not None
                    announcements.append(Announcement(start, match.end(), is_label))
    if any(sign in text for sign in _FOREIGN_SIGNS):
        labels.append(_FOREIGN)

    for pattern in labels:
        for match in pattern.finditer(text):
            if not _NOT_OWN_CHINESE.search(text[max(0, match.start() - 16) : match.start()]):
                announcements.append(Announcement(match.start(), match.end(), True))
    lines = f"\n{text}"
    for pattern in line_labels:
        for match in pattern.finditer(lines):
            announcements.append(Announcement(match.start(), match.end() - 1, True))
    return sorted(announcements)


def tags_in(text: str) -> list[Tag]:
    """The answers between tags, in order; the content of one that is joined to another is both."""
    if not any(sign in text for sign in _TAG_SIGNS):
        return []
    tags: list[Tag] = []
    for match in _TAG.finditer(text):
        content = match["content"] if match["content"] is not None else match["bracketed"]
        if not content.strip():
            continue
        if tags and _JOINING.fullmatch(text, tags[-1].end, match.start()):
            content = f"{tags[-1].content}, {content}"
        tags.append(Tag(match.start(), match.end(), content))
    return tags
