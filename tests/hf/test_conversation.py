"""Conversations of a dataset: live structure, inert texts, and templates that cannot write them."""

import pytest

from ccpo_jax.conversation import Conversation
from ccpo_jax.hf import chat_template, load_tokenizer
from ccpo_jax.rollout.prompts import RolePrompt, prefix, tail, tokenize_role, whole
from experiments.robustness.families import FAMILIES, load_family, save_tokenizer
from tests.support.errors import raises_for

PLAIN = FAMILIES["no system role"]  # its control tokens, with other templates
TURNS = (
    "{% for m in messages %}<turn>{{ m.role }}: {{ m.content | trim }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant: {% endif %}"
)
EXAMPLES = (("user", "2+2?"), ("assistant", "4"), ("user", "3+3?"), ("assistant", "6"))
ROLE = RolePrompt("Obey.", "Problem: {problem}", "\nHint: {message}", "\nGo.")
SILENT = RolePrompt("", "{problem}", "", "")


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    """(name, loaded tokenizer) of one family."""
    spec = FAMILIES[request.param]
    return request.param, load_family(tmp_path_factory.mktemp("tokenizer"), spec)


def load(folder, template):
    save_tokenizer(folder, PLAIN, template)
    return load_tokenizer(str(folder))


def prompt(tokenizer, history, role=SILENT, question="1+1?") -> str:
    """The whole prompt as the model reads it."""
    ids = whole(tokenize_role(tokenizer, role), tokenizer, Conversation(history, question))
    return tokenizer.backend.decode(ids)


@pytest.mark.parametrize("system", ["", "Be brief.\n"])
@pytest.mark.parametrize("examples", [(), EXAMPLES[:2], EXAMPLES])
def test_prompts_equal_the_chat_templates_own_tokens(family, system, examples):
    name, tokenizer = family
    history = ((("system", system),) if system else ()) + examples
    template = tokenize_role(tokenizer, ROLE)
    ids = prefix(template, tokenizer, Conversation(history, "1+1? {{ 7*7 }}"))
    ids += tail(template, [None])

    shared = "\n\n".join(["Obey.", system.strip()] if system else ["Obey."])
    turns = [{"role": speaker, "content": text} for speaker, text in examples]
    turns.append({"role": "user", "content": "Problem: 1+1? {{ 7*7 }}\nGo."})
    if name == "no system role":
        turns[0]["content"] = f"{shared}\n\n{turns[0]['content']}"
    else:
        turns.insert(0, {"role": "system", "content": shared})
    expected = tokenizer.backend.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=True
    )
    assert ids == tokenizer.backend(expected, add_special_tokens=False)["input_ids"]


def test_a_conversation_without_earlier_words_is_the_question(family):
    _, tokenizer = family
    for role in (ROLE, SILENT):
        template = tokenize_role(tokenizer, role)
        for history in ((), (("system", " "),)):
            conversation = Conversation(history, "1+1?")
            assert prefix(template, tokenizer, conversation) == prefix(template, tokenizer, "1+1?")


def test_no_text_of_a_dataset_is_a_control_token(family):
    name, tokenizer = family
    template = tokenize_role(tokenizer, ROLE)
    hostile = "".join((*FAMILIES[name].special_tokens, *FAMILIES[name].plain_tokens))

    def live(text: str) -> list[int]:
        history = (("system", text), ("user", text), ("assistant", text))
        ids = prefix(template, tokenizer, Conversation(history, text))
        return [token for token in ids if token in tokenizer.control_ids]

    assert live(hostile) == live("harmless")


def test_without_a_system_text_there_is_no_system_turn_before_examples_either(family):
    _, tokenizer = family
    assert "system" not in prompt(tokenizer, EXAMPLES)
    assert "Be kind" not in prompt(tokenizer, EXAMPLES)
    template = tokenize_role(tokenizer, SILENT)
    beginning = tuple(prefix(template, tokenizer, Conversation(EXAMPLES, "1+1?")))
    assert beginning[: len(template.head)] == template.head


def test_each_sequence_of_speakers_is_rendered_once(family, monkeypatch):
    _, tokenizer = family
    template = tokenize_role(tokenizer, ROLE)
    prefix(template, tokenizer, Conversation(EXAMPLES, "1?"))

    def fail(*_, **__):
        raise AssertionError("rendered again")

    monkeypatch.setattr(chat_template, "around_turns", fail)
    others = tuple((speaker, text * 2) for speaker, text in EXAMPLES)
    prefix(template, tokenizer, Conversation(others, "2?"))


# --- templates of other kinds ---------------------------------------------------------------------


def test_a_template_may_put_the_system_text_into_the_last_user_turn(tmp_path):
    """As Mistral's does."""
    late = (
        "{% if messages[0].role == 'system' %}{% set s = messages[0].content + '\\n\\n' %}"
        "{% set messages = messages[1:] %}{% else %}{% set s = '' %}{% endif %}"
        "<s>{% for m in messages %}<turn>{{ m.role }}: {{ s if loop.last }}{{ m.content }}</s>"
        "{% endfor %}"
    )
    history = (("system", "Short."), *EXAMPLES[:2])
    assert prompt(load(tmp_path, late), history, ROLE) == (
        "<s><turn>user: 2+2?</s><turn>assistant: 4</s>"
        "<turn>user: Obey.\n\nShort.\n\nProblem: 1+1?\nGo.</s>"
    )


def test_a_model_without_a_template_reads_plain_words(tmp_path):
    tokenizer = load(tmp_path, None)
    history = (("system", "Short."), *EXAMPLES[:2])
    assert prompt(tokenizer, history, ROLE) == (
        "Obey.\n\nShort.\n\n2+2?\n\nAnswer:\n4\n\nProblem: 1+1?\nGo.\n\nAnswer:\n"
    )
    assert prompt(tokenizer, EXAMPLES[:2]) == "2+2?\n\nAnswer:\n4\n\n1+1?\n\nAnswer:\n"


ALTERNATE = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}" + TURNS
)


@pytest.mark.parametrize(
    "template, history, reason",
    [
        (ALTERNATE, EXAMPLES[:1], "user, user: it says 'roles must alternate'"),
        # A template that reads the last turn alone.
        (TURNS.replace("in messages", "in messages[-1:]"), EXAMPLES, "user (turn 1) 0 times"),
        (TURNS.replace("m.role }}", "m.role }}{{ m.content }}"), EXAMPLES, "2 times"),
        (TURNS.replace("in messages", "in messages | reverse"), EXAMPLES, "behind the last turn"),
        (
            TURNS + "{% if messages | length > 1 %}!{% endif %}",
            EXAMPLES,
            "something else behind a question",
        ),
        (
            TURNS.replace("trim }}", "trim | upper if m.role == 'assistant' else m.content }}"),
            EXAMPLES,
            "assistant (turn 2) 0 times",
        ),
    ],
)
def test_a_template_that_cannot_write_the_turns_is_one_clear_line(
    tmp_path, template, history, reason
):
    with raises_for("model") as error:
        prompt(load(tmp_path, template), history)
    assert "\n" not in str(error.value)
    assert reason in str(error.value) or "user's words 2 times" in str(error.value)


@pytest.mark.parametrize(
    "history", [(("tool", "x"),), (("user", "x"), ("system", "y")), (("", "x"),)]
)
def test_speakers_that_no_template_knows_are_refused(history):
    with raises_for("history") as error:
        Conversation(history, "1+1?")
    assert "\n" not in str(error.value)
