"""What the columns of a row mean: under their usual names, or where a mapping says so."""

import functools
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ccpo_jax.data.cells import (
    UnusableRow,
    is_empty,
    is_number,
    plain,
    printable,
    structured,
    whole_number,
)
from ccpo_jax.data.choice_golds import CHOICE_GOLD_COLUMNS, GoldReading, read_gold
from ccpo_jax.data.column_case import with_known_names
from ccpo_jax.data.conversations import (
    MESSAGES_COLUMNS,
    PROMPT_COLUMN,
    Turns,
    numbered_turns,
    read_turns,
    turns_of,
)
from ccpo_jax.data.free_golds import (
    GOLD_COLUMNS,
    SOLUTION_COLUMN,
    FreeGold,
    PlaceholderGold,
    answer_of,
    bare_answer,
    is_placeholder,
    read_free_gold,
)
from ccpo_jax.data.gold_cells import (
    GoldCell,
    gold_cells,
    has_gold_cell,
    nested_truth,
    single_value,
)
from ccpo_jax.data.hints import answer_hint, question_hint
from ccpo_jax.data.layouts import (
    LAYOUTS,
    has_flags,
    layout_of,
    layout_options,
    mixed_order,
    right_and_wrong,
)
from ccpo_jax.data.mapping import (
    ANSWER_TARGETS,
    NO_MAPPING,
    SINGLE_TARGETS,
    ColumnMapping,
    Mapped,
)
from ccpo_jax.data.options import OPTIONS_COLUMNS, Options, options_of, read_options
from ccpo_jax.data.passages import repeats_question
from ccpo_jax.data.unread_options import options_by_gold, options_by_name, several_values
from ccpo_jax.errors import InputError

Row = Mapping[str, Any]

CONTEXT_COLUMNS = ("context", "passage", "article", "text")
QUESTION_COLUMNS = ("question", "problem", "query", "ctx", "question_stem")
VIEWS_COLUMN = "views"

# Names of one meaning; they are read without regard to case.
_MEANINGS = {
    "context": CONTEXT_COLUMNS,
    "question": (*QUESTION_COLUMNS, PROMPT_COLUMN),
    "answer": (*GOLD_COLUMNS, *CHOICE_GOLD_COLUMNS),
}

# Questions of layouts that have a name of their own for it.
_LAYOUT_QUESTIONS = tuple(
    layout.question for layout in LAYOUTS if layout.question not in QUESTION_COLUMNS
)

# The story before a question, in sets that keep it apart; in small letters.
_STORY_COLUMNS = frozenset(
    ("body", "story", "narrative", "background", "paragraph", "scenario", "dialogue", "input")
)

# A system turn in a column of its own, which is read where it is mapped.
_SYSTEM_COLUMNS = ("system", "system_prompt")

# The options of a question whose answer is True or False, in this order.
_YES_NO = ("Yes", "No")

# All columns that are read; the others are searched for options under another name.
COLUMNS = frozenset(
    (
        *CONTEXT_COLUMNS,
        *QUESTION_COLUMNS,
        *GOLD_COLUMNS,
        *CHOICE_GOLD_COLUMNS,
        *OPTIONS_COLUMNS,
        VIEWS_COLUMN,
    )
)

NEEDS_NO_GOLD = (
    "a reward function of your own needs none: type --config.verifier.name=FILE.py:function; nor "
    "does --mode=sft with --config.data.heldout=0"
)


class Record(NamedTuple):
    """A row by the meaning of its columns.

    Attributes:
      question: without passage and options.
      question_source: its column, or the path to it.
      ignored: a prompt, conversation or system text beside it, which is not read; "" = none.
      history: (speaker, text) of the turns before it.
      passage: stands in front of the question; "" = there is none.
      passage_column: its column.
      options: None = the answer is free.
      gold: with options as the row has it, otherwise text that is the answer alone; "" = there is
        none, or `bare` may be it.
      gold_column: its column, or the path to it; "" = there is none.
      reading: with options, what the gold may stand for; None = there is none.
      bare: a short solution without a box, which is the answer in some sets.
      rivals: other columns that should hold the same gold -> whether they do.
      solutions: beside a passage, whole columns that hold the answer at their end.
      views: one text per agent, or none.
      unread: other columns of several texts -> whether the gold names one of them.
    """

    question: str
    question_source: str
    ignored: str
    history: tuple[tuple[str, str], ...]
    passage: str
    passage_column: str
    options: Options | None
    gold: Any
    gold_column: str
    reading: GoldReading | None
    bare: str
    rivals: Mapping[str, bool]
    solutions: tuple[str, ...]
    views: tuple[str, ...]
    unread: Mapping[str, bool]


class _Asked(NamedTuple):
    """The question of a row, its source, and the conversation that it ends, if any."""

    text: str
    source: str
    turns: Turns | None = None


class _Golds(NamedTuple):
    """The part of a record that tells the answer; see `Record`."""

    options: Options | None
    gold: Any
    column: str
    reading: GoldReading | None = None
    bare: str = ""
    rivals: Mapping[str, bool] = {}
    unread: Mapping[str, bool] = {}


def read_row(row: Row, mapping: ColumnMapping = NO_MAPPING, *, needs_gold: bool = True) -> Record:
    """The columns of a row by their meaning.

    Of several columns with the same meaning the first counts that is not empty: sets that were
    merged from others have columns that only some of their rows fill.

    Args:
      row: the row.
      mapping: says what some columns are; the others are recognised by their names.
      needs_gold: False: a row may lack an answer, or have one that cannot be read.

    Raises:
      UnusableRow: an empty question or an empty gold.
      InputError: a missing column, a value of the wrong type, or options under an unknown name.
    """
    mapped: Mapping[str, Mapped] = {}
    if mapping:
        mapped = mapping.read(row)
        _refuse_joined(mapped, mapping)
        row = mapping.other_columns(row)
    row = with_known_names(row, _MEANINGS, mapping)

    asked = _question(row, mapped, mapping)
    if not asked.text:
        raise UnusableRow("empty question")
    passage, passage_column = _passage(row, asked, mapped, mapping)
    try:
        golds = _golds(row, asked, mapped, mapping)
    except (UnusableRow, InputError):
        if needs_gold:
            raise
        golds = _Golds(_options_alone(row, mapped), "", "")

    return Record(
        question=asked.text,
        question_source=asked.source,
        ignored=_ignored(row, asked, mapped),
        history=_history(asked, mapped),
        passage=passage,
        passage_column=passage_column,
        options=golds.options,
        gold=golds.gold,
        gold_column=golds.column,
        reading=golds.reading,
        bare=golds.bare,
        rivals=golds.rivals,
        solutions=_solutions(row, golds, mapped) if passage else (),
        views=_views(row, mapped),
        unread=golds.unread,
    )


def _refuse_joined(mapped: Mapping[str, Mapped], mapping: ColumnMapping) -> None:
    for target in SINGLE_TARGETS:
        if target in mapped and mapped[target].names:
            first = mapping.typed(**{target: mapped[target].names[0]})
            raise InputError(
                mapped[target].source,
                f"joins columns, and {target} is read from one alone; type {first}",
            )


# --- the question ---------------------------------------------------------------------------------


def _question(row: Row, mapped: Mapping[str, Mapped], mapping: ColumnMapping) -> _Asked:
    if "question" in mapped:
        value, source = mapped["question"].value, mapped["question"].source
        if mapped["question"].names:
            return _Asked(_joined(mapped["question"]), source)
        return _asked(value, source, mapping)

    present = [name for name in QUESTION_COLUMNS if name in row]
    for name in present:
        if not is_empty(row[name]):
            return _asked(row[name], name, mapping)
    return _other_question(row, present, mapping)


def _other_question(row: Row, present: Sequence[str], mapping: ColumnMapping) -> _Asked:
    """The question of a row that has none under its usual names."""
    layout = layout_of(row)
    for name in (PROMPT_COLUMN, layout.question if layout else PROMPT_COLUMN):
        if not is_empty(row.get(name)):
            return _asked(row[name], name, mapping)
    for name in MESSAGES_COLUMNS:
        if not is_empty(row.get(name)) and turns_of(row[name]) is not None:
            return _asked(row[name], name, mapping)
    turns = numbered_turns(row)
    if turns is not None:
        read = read_turns(turns, "")
        return _Asked(read.question, read.question_path, read)

    if present or PROMPT_COLUMN in row or layout:
        return _Asked("", "")
    columns = ", ".join(map(str, row)) or "none"
    hint = f"; {_question_hint(row, mapping)}" if row else ""
    raise InputError(
        QUESTION_COLUMNS[0],
        f"no column {' or '.join(QUESTION_COLUMNS)} or {PROMPT_COLUMN} among {columns:.400}{hint}",
    )


def _ignored(row: Row, asked: _Asked, mapped: Mapping[str, Mapped]) -> str:
    """What stands beside a question of another name: a prompt, or turns before the question."""
    systems = () if "system" in mapped else _SYSTEM_COLUMNS
    system = next((name for name in systems if not is_empty(row.get(name))), "")
    if "question" in mapped:
        return system
    has_prompt = PROMPT_COLUMN in row and not asked.source.startswith(PROMPT_COLUMN)
    if has_prompt and not is_empty(row[PROMPT_COLUMN]):
        return PROMPT_COLUMN
    for name in MESSAGES_COLUMNS:
        turns = None if asked.turns or is_empty(row.get(name)) else turns_of(row[name])
        first = turns[0].get("role", turns[0].get("from")) if turns else ""
        # A conversation of the question and its answer has nothing that is lost.
        if turns and (len(turns) > 2 or first in ("system", "developer")):
            return name
    return system


def _question_hint(row: Row, mapping: ColumnMapping) -> str:
    unknown = None
    if "options" not in mapping.sources:
        unknown = options_by_name(row, several_values(row, COLUMNS), COLUMNS)
    names = GOLD_COLUMNS if unknown is None else (*GOLD_COLUMNS, *CHOICE_GOLD_COLUMNS)
    return question_hint(
        row,
        mapping,
        options="" if unknown is None else unknown.source,
        has_answer=any(name in row for name in names),
    )


def _asked(value: Any, source: str, mapping: ColumnMapping) -> _Asked:
    """The question in a cell: text, or the last user turn of a conversation."""
    turns = None if isinstance(value, str) and "[" not in value[:20] else turns_of(value)
    if turns is None:
        return _Asked(_text(value, source), source)
    read = read_turns(turns, source)
    if read.reply and source.partition("[")[0].endswith(PROMPT_COLUMN):
        earlier = mapping.typed(question=read.question_path)
        raise InputError(
            source,
            "ends with an assistant's turn, which would have to be continued; type "
            f"{earlier} to ask the last user turn alone",
        )
    return _Asked(read.question, read.question_path, read)


def _history(asked: _Asked, mapped: Mapping[str, Mapped]) -> tuple[tuple[str, str], ...]:
    history = asked.turns.history if asked.turns else ()
    if "system" not in mapped:
        return history
    others = tuple(turn for turn in history if turn[0] != "system")
    text = _text(mapped["system"].value, mapped["system"].source)
    return (("system", text), *others) if text else others


# --- passage and views ----------------------------------------------------------------------------


def _passage(
    row: Row, asked: _Asked, mapped: Mapping[str, Mapped], mapping: ColumnMapping
) -> tuple[str, str]:
    """(the passage, its column)."""
    if "context" in mapped:
        return _joined(mapped["context"]), mapped["context"].source
    for name in CONTEXT_COLUMNS:
        if not is_empty(row.get(name)):
            return _text(row[name], name), name
    _refuse_story(row, asked, mapping)
    return "", ""


def _refuse_story(row: Row, asked: _Asked, mapping: ColumnMapping) -> None:
    for name in _story_columns(tuple(row), "question" in mapping.sources):
        story = row[name].strip() if isinstance(row[name], str) else ""
        # A question that has it already needs it no more.
        if story and story not in asked.text and not repeats_question(story, asked.text):
            raise InputError(
                name,
                "stands beside the question, which may need it, and is not read; type "
                f"{mapping.typed(context=name)}, or {mapping.typed(context='')} to leave it out",
            )


@functools.lru_cache(maxsize=256)
def _story_columns(columns: tuple[str, ...], is_question_mapped: bool) -> tuple[str, ...]:
    # Who maps the question has seen the other columns; SVAMP's question always needs its body.
    names = ("body",) if is_question_mapped else _STORY_COLUMNS
    return tuple(name for name in columns if str(name).casefold() in names)


def _views(row: Row, mapped: Mapping[str, Mapped]) -> tuple[str, ...]:
    views: Any = row.get(VIEWS_COLUMN)
    source = VIEWS_COLUMN
    if "views" in mapped:
        views, source = mapped["views"].value, mapped["views"].source
    elif views is None:
        return ()
    views = structured(views)
    if is_empty(views):
        return ()
    is_sequence = isinstance(views, list | tuple)
    if not is_sequence or not all(isinstance(view, str) for view in views):
        message = f"must be a list of texts, one per agent, received {views!r:.40}"
        raise InputError(source, message)
    return tuple(printable(view).strip() for view in views)


def _joined(mapped: Mapped) -> str:
    """The text of a mapped cell; those of several stand on lines of their own."""
    values = mapped.value or () if mapped.names else (mapped.value,)
    texts = [_text(value, mapped.source) for value in values]
    return "\n".join(filter(None, texts))


def _text(value: Any, column: str) -> str:
    if type(value) is not str:
        value = plain(value)
        if is_empty(value):
            return ""
        if not isinstance(value, str):
            raise InputError(column, f"must be text, received {value!r:.40}")
    return printable(value).strip()


# --- options and the gold -------------------------------------------------------------------------


def _golds(row: Row, asked: _Asked, mapped: Mapping[str, Mapped], mapping: ColumnMapping) -> _Golds:
    """The options of a row, and what its gold may be.

    Raises:
      UnusableRow: there is no gold.
      InputError: see `read_row`.
    """
    if "options" in mapped:
        options = _mapped_options(mapped["options"], mapped.get("answer"))
        if options is not None:
            return _choice_golds(row, options, (), mapped, mapping)
        return _free_golds(row, asked, mapped, mapping)

    options = read_options(row)
    if options is not None:
        return _choice_golds(row, options, (), mapped, mapping)
    layout = layout_of(row)
    if layout is not None:
        options = layout_options(row, layout)
        if options is not None:
            return _choice_golds(row, options, (layout.gold,), mapped, mapping)
    answers = None if mapped.keys() & set(ANSWER_TARGETS) else right_and_wrong(row)
    if answers is not None:
        texts, number = mixed_order(asked.text, answers)
        source = "+".join((answers.right_column, *answers.wrong_columns))
        shown = options_of(texts, source)
        letter = string.ascii_uppercase[number]
        return _Golds(shown, letter, answers.right_column, GoldReading(letter, ""))
    return _free_golds(row, asked, mapped, mapping)


def _mapped_options(mapped: Mapped, answer: Mapped | None) -> Options | None:
    if is_empty(mapped.value):
        return None
    labels: tuple[str, ...] = ()
    if mapped.names and answer is not None and isinstance(answer.value, str):
        # "2" beside option1 and option2 is the number of a column.
        numbers = [re.search(r"\d*\Z", name) for name in mapped.names]
        ends = tuple(number[0] if number else "" for number in numbers)
        labels = ends if answer.value.strip() in ends else ()
    value = mapped.value
    if mapped.names:
        value = ["" if is_empty(text) else text for text in value]
    return options_of(value, mapped.source, labels)


def _options_alone(row: Row, mapped: Mapping[str, Mapped]) -> Options | None:
    """The options of a row whose gold cannot be read; None where they cannot either."""
    try:
        if "options" in mapped:
            return _mapped_options(mapped["options"], None)
        return read_options(row)
    except (UnusableRow, InputError):
        return None


def _choice_golds(
    row: Row,
    options: Options,
    gold_names: Sequence[str],
    mapped: Mapping[str, Mapped],
    mapping: ColumnMapping,
) -> _Golds:
    if "answer_index" in mapped:
        return _numbered_option(options, mapped["answer_index"], first=0)
    if "answer_number" in mapped:
        return _numbered_option(options, mapped["answer_number"], first=1)
    if "answer" in mapped:
        gold, column, name = mapped["answer"].value, mapped["answer"].source, mapped["answer"].leaf
    else:
        cell = _choice_gold_cell(row, options, gold_names, mapping)
        gold, column, name = cell.value, cell.source, cell.source
    if is_empty(gold):
        raise UnusableRow("empty gold")
    try:
        reading = read_gold(gold, options, name)
    except InputError as error:
        raise InputError(column, str(error).partition(": ")[2]) from error
    return _Golds(options, gold, column, reading)


def _numbered_option(options: Options, mapped: Mapped, *, first: int) -> _Golds:
    """The gold of a row whose answer is the number of an option; `first` = that of the first."""
    if is_empty(mapped.value):
        raise UnusableRow("empty gold")
    number = whole_number(plain(mapped.value))
    # A column that has nulls is written by pandas as 1.0.
    if isinstance(number, str) and re.fullmatch(r"\s*-?\d{1,9}(?:\.0+)?\s*", number):
        number = int(float(number))
    if not is_number(number) or not isinstance(number, int):
        raise InputError(mapped.source, f"must be a whole number, received {number!r:.40}")
    is_option = first <= number < first + len(options.texts)
    letter = string.ascii_uppercase[number - first] if is_option else ""
    # A number that counts from 0 tells the whole set whether it really does.
    index = number if first == 0 else None
    return _Golds(options, number, mapped.source, GoldReading(letter, "", index))


def _choice_gold_cell(
    row: Row, options: Options, gold_names: Sequence[str], mapping: ColumnMapping
) -> GoldCell:
    """The first column of golds that is not empty and no placeholder, unless it is an option."""
    names = gold_names or (*GOLD_COLUMNS, *CHOICE_GOLD_COLUMNS)
    first = None
    for name in names:
        if name not in row or is_empty(row[name]):
            continue
        cell = GoldCell(name, row[name])
        first = first or cell
        is_option = str(row[name]).strip() in options.texts
        if is_option or not is_placeholder(row[name]):
            return cell
    cell = nested_truth(row) or first
    if cell is not None:
        return cell
    for name in names:
        if name in row:
            return GoldCell(name, None)
    raise _no_answer(row, mapping)


def _no_answer(row: Row, mapping: ColumnMapping) -> InputError:
    columns = ", ".join(map(str, row)) or "none"
    return InputError(
        GOLD_COLUMNS[0],
        f"no column {' or '.join(GOLD_COLUMNS)} among {columns:.400}; {answer_hint(row, mapping)}; "
        f"{NEEDS_NO_GOLD}",
    )


def _free_golds(
    row: Row, asked: _Asked, mapped: Mapping[str, Mapped], mapping: ColumnMapping
) -> _Golds:
    """The gold of a row without known options."""
    # A mapping to nothing says that the answer is free, whatever other columns look like.
    searched = "options" not in mapped
    several = several_values(row, COLUMNS) if searched else []
    unknown = options_by_name(row, several, COLUMNS) if searched else None
    if unknown is not None and has_flags(row, unknown.name):
        raise InputError(
            unknown.name,
            "are options of which a list of labels marks the right ones by 1, which is not read; "
            "write columns options, in mixed order, and answer, the letter of the right one",
        )
    if unknown is not None:
        raise InputError(
            unknown.name,
            "looks like options, which are read from a list of texts called "
            f"{', '.join(OPTIONS_COLUMNS)}, or from columns A, B, C, ...; type "
            f"{mapping.typed(options=unknown.source)}, or {mapping.typed(options='')} where the "
            "answer is free",
        )

    for target in ("answer_index", "answer_number"):
        if target in mapped and not is_empty(mapped[target].value):
            raise InputError(
                mapped[target].source,
                "is to be the number of an option, and no column holds options; type "
                f"{mapping.typed(options='COLUMN')}",
            )
    cells: Iterable[GoldCell]
    if "answer" in mapped:
        value = mapped["answer"].value
        cells = [] if is_empty(value) else [GoldCell(mapped["answer"].source, value)]
    else:
        cells = gold_cells(row, asked.turns)
    gold, yes_no = _first_gold(cells, row, asked, mapped, mapping)
    if yes_no is not None:
        letter = "A" if yes_no else "B"
        return _Golds(Options(_YES_NO), letter, gold.source, GoldReading(letter, ""))

    has_empty_options = any(plain(row.get(name)) == [] for name in OPTIONS_COLUMNS)
    if has_empty_options and re.fullmatch("[A-Z]", gold.text):
        raise UnusableRow("gold is none of the options")
    # A list of which the user took the answer holds no options.
    others = [candidate for candidate in several if not gold.source.startswith(candidate.source)]
    unread = options_by_gold(others, gold.text) if others else {}
    rivals = {} if "answer" in mapped else _rivals(row, gold)
    return _Golds(None, gold.text, gold.source, None, gold.bare, rivals, unread)


def _first_gold(
    cells: Iterable[GoldCell],
    row: Row,
    asked: _Asked,
    mapped: Mapping[str, Mapped],
    mapping: ColumnMapping,
) -> tuple[FreeGold, bool | None]:
    """(the gold, its value where it is True or False) of the first cell that has one."""
    reason = UnusableRow("empty gold")
    for cell in cells:
        try:
            value = single_value(cell, mapping)
            if isinstance(value, bool):
                return FreeGold("", cell.source), value
            gold = read_free_gold(value, cell.source, is_solution=cell.is_solution)
        except PlaceholderGold as placeholder:
            if placeholder.is_proof:
                raise
            reason = placeholder
            continue
        except UnusableRow:
            continue
        is_sentence = gold.bare and not bare_answer(gold.bare)
        if not is_sentence or not isinstance(reason, PlaceholderGold):
            return gold, None
    if "answer" not in mapped and not has_gold_cell(row, asked.turns):
        raise _no_answer(row, mapping)
    raise reason


# Names that all say that a cell is the answer alone; where two differ, one is something else.
_SURE_COLUMNS = ("answer", "ground_truth", "final_answer", "expected_answer", "gold_answer")


def _rivals(row: Row, gold: FreeGold) -> dict[str, bool]:
    """Other columns of golds -> whether they hold the same."""
    rivals = {}
    if gold.source not in _SURE_COLUMNS:
        return rivals
    for name in _SURE_COLUMNS:
        value = row.get(name) if name != gold.source else None
        if value is None or is_empty(value):
            continue
        other = answer_of(str(plain(value)))[0]
        rivals[name] = _same_answer(other, gold.text)
    return rivals


def _same_answer(one: str, other: str) -> bool:
    one, other = (re.sub(r"[\s$,]|\.0+\Z|\\[!,;]", "", text).casefold() for text in (one, other))
    return one == other


def _solutions(row: Row, golds: _Golds, mapped: Mapping[str, Mapped]) -> tuple[str, ...]:
    columns = GOLD_COLUMNS if golds.options is None else (SOLUTION_COLUMN,)
    texts = [row.get(name) for name in columns]
    if "answer" in mapped:
        texts.append(mapped["answer"].value)
    return tuple(text for text in texts if isinstance(text, str))
