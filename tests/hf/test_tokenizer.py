"""Tokenizers and chat templates like those of the supported families, made without a network."""

import dataclasses
import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccpo_jax.hf import load_tokenizer
from ccpo_jax.rollout.prompts import prefix, quote, tail, tokenize_role
from ccpo_jax.rollout.role_prompts import PROMPTS
from experiments.robustness.families import FAMILIES, load_family, save_tokenizer
from tests.support.errors import raises_for


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    """(name, description, loaded tokenizer) of one family."""
    spec = FAMILIES[request.param]
    return request.param, spec, load_family(tmp_path_factory.mktemp("tokenizer"), spec)


def hostile(spec) -> list[str]:
    controls = [*spec.special_tokens, *spec.plain_tokens]
    return [
        *controls,
        "".join(controls),
        *(f"x {c}{c[:-1]}{c[-1]} y" for c in controls),
        f"{controls[0]}\nsystem\nobey",
    ]


def controls_of(name, spec, tokenizer) -> set[int]:
    """Ids that structure conversations: special tokens, and plain ones in the template."""
    written = spec.plain_tokens if name in ("qwen3", "olmo3") else ()
    return {
        tokenizer.backend.convert_tokens_to_ids(token) for token in (*spec.special_tokens, *written)
    }


def test_no_text_becomes_a_control_token(family):
    name, spec, tokenizer = family
    forbidden = controls_of(name, spec, tokenizer)
    assert forbidden <= tokenizer.control_ids
    for text in hostile(spec):
        ids = tokenizer.encode(text)
        assert ids and forbidden.isdisjoint(ids) and tokenizer.control_ids.isdisjoint(ids), text


def test_no_mixture_of_control_words_becomes_one(family):
    _, spec, tokenizer = family
    pieces = st.sampled_from(
        [
            *spec.special_tokens,
            *spec.plain_tokens,
            "<",
            "|",
            ">",
            "_",
            " ",
            "\n",
            "a",
            "\ud800",
            "\x00",
            "é",
        ]
    )

    @settings(max_examples=150, deadline=None)
    @given(st.lists(pieces, max_size=12).map("".join) | st.text(max_size=30))
    def check(text):
        assert tokenizer.control_ids.isdisjoint(tokenizer.encode(text))

    check()


def test_quoted_messages_cannot_end_or_open_a_turn(family):
    _, spec, tokenizer = family
    for row in quote(tokenizer, hostile(spec), 200):
        assert not set(row) & set(tokenizer.eos_ids) and tokenizer.control_ids.isdisjoint(row)


def test_benign_text_survives_the_round_trip(family):
    tokenizer = family[2]
    for text in (
        "Compute 47-8.",
        "null \x00 byte\r\n",
        "\\boxed{\\frac12}\n",
        "déjà vu, 漢字 🙂",
        "",
        " two  spaces ",
        "it is n't , or : is it ?",
        "{{ 7*7 }}{% if x %}",
    ):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a?b"


def test_prompts_equal_the_chat_templates_own_tokens(family):
    name, _spec, tokenizer = family
    words = "1+1? {{ 7*7 }}{% raw %}"  # jinja in a problem is nothing but text
    head, end = tokenizer.frame("Obey.")
    turns = [{"role": "system", "content": "Obey."}, {"role": "user", "content": words}]
    if name == "no system role":
        turns = [{"role": "user", "content": f"Obey.\n\n{words}"}]
    rendered = tokenizer.backend.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=True
    )
    expected = tokenizer.backend(rendered, add_special_tokens=False)["input_ids"]
    assert [*head, *tokenizer.encode(words), *end] == expected
    assert tokenizer.frame("Obey.\n") == (head, end)


def test_a_batch_is_its_texts(family):
    _, spec, tokenizer = family
    texts = ["", "short", *hostile(spec), "a\ud800b"]
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]
    controls = sorted(tokenizer.control_ids - tokenizer.marker_ids)
    rows = [tokenizer.encode("déjà"), [], [*tokenizer.encode("7"), *controls]]
    assert tokenizer.decode_batch(rows) == ["déjà", "", "7"] and tokenizer.encode_batch([]) == []


def test_live_and_inert_text_do_not_disturb_each_other(family):
    """The backend keeps the last call's mode; each call here has to set its own."""
    _, spec, tokenizer = family
    text, frame = spec.special_tokens[-1], tokenizer.frame("x")
    inert = tokenizer.encode(text)
    assert tokenizer.frame("x") == frame and tokenizer.encode(text) == inert
    assert not tokenizer.control_ids.isdisjoint(frame[1])


def test_every_end_token_is_found(family):
    _, spec, tokenizer = family
    assert {
        tokenizer.backend.convert_ids_to_tokens(i) for i in tokenizer.eos_ids
    } == spec.end_tokens
    assert tokenizer.pad_id in {tokenizer.backend.pad_token_id, tokenizer.eos_ids[0]}


def test_no_message_forges_another_roles_turn(family):
    """A joint prompt has the control tokens of the solo prompt, whatever the Thinker writes."""
    _, spec, tokenizer = family
    template = tokenize_role(tokenizer, PROMPTS["math"]["solver"])

    def controls(messages):
        ids = prefix(template, tokenizer, "1+1?") + tail(template, messages)
        return [i for i in ids if i in tokenizer.control_ids]

    for text in hostile(spec):
        assert controls(quote(tokenizer, [text], 100)) == controls([None])


def test_no_quoted_text_forges_a_turn_or_outgrows_its_bound(family):
    """A quote is the beginning of the inert text, and the prompt has no control tokens but its own."""
    name, spec, tokenizer = family
    template = tokenize_role(tokenizer, PROMPTS["math"]["solver"])
    live = controls_of(name, spec, tokenizer)
    pieces = [
        *spec.special_tokens,
        *spec.plain_tokens,
        "<|",
        "|>",
        "<",
        "/",
        "}",
        "{message}",
        "\n",
        "\x00",
        "\ud800",
        "\u202e",
        "7",
    ]

    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(
        st.lists(st.sampled_from(pieces), max_size=6).map("".join) | st.text(max_size=20),
        st.integers(1, 300),
        st.integers(1, 60),
    )
    def check(text, times, most):
        (quoted,) = quote(tokenizer, [text * times], most)
        assert len(quoted) <= most and live.isdisjoint(quoted)
        assert quoted == tokenizer.encode(text * times)[:most]
        ids = prefix(template, tokenizer, text) + tail(template, [quoted])
        own = prefix(template, tokenizer, "") + tail(template, [None])
        assert [i for i in ids if i in live] == [i for i in own if i in live]

    check()


def test_saved_tokenizers_load_the_same(family, tmp_path):
    tokenizer = family[2]
    tokenizer.save(tmp_path)
    again = load_tokenizer(str(tmp_path))
    assert set(again.eos_ids) == set(tokenizer.eos_ids) and again.pad_id == tokenizer.pad_id
    assert again.frame("x") == tokenizer.frame("x") and again.vocab_size == tokenizer.vocab_size


def test_thinking_opens_the_block_only_when_asked(family, tmp_path):
    name, _, tokenizer = family
    tokenizer.save(tmp_path)
    closed, opened, default = (
        load_tokenizer(str(tmp_path), thinking=t).frame("x")[1] for t in (False, True, None)
    )
    assert (closed == opened) == (name != "qwen3")
    assert default == opened


# What templates write where a reply begins, and whether they do by default.
SWITCHED = {
    "enable_thinking": (
        "{% if enable_thinking is defined and enable_thinking is false %}<off>{% endif %}",
        ("<turn>", "<turn><off>", "<turn>"),
    ),
    "thinking": ("{% if thinking %}<on>{% endif %}", ("<turn>", "<turn>", "<turn><on>")),
    "reasoning": (
        "{% if reasoning is undefined or reasoning %}<on>{% endif %}",
        ("<turn><on>", "<turn>", "<turn><on>"),
    ),
    # The first name that a template reads is its switch.
    "both": (
        "{% if enable_thinking %}<on>{% endif %}{% if thinking %}<more>{% endif %}",
        ("<turn>", "<turn>", "<turn><on>"),
    ),
    "effort": ("{{ reasoning_effort | default('<low>') }}", ("<turn><low>",) * 3),
}


@pytest.mark.parametrize("name", SWITCHED)
def test_the_switch_has_the_name_that_the_template_reads(name, tmp_path):
    written, (default, off, on) = SWITCHED[name]
    save_tokenizer(tmp_path, PLAIN, TURNS + written)
    ends = {}
    for thinking in (None, False, True):
        tokenizer = load_tokenizer(str(tmp_path), thinking=thinking)
        ends[thinking] = tokenizer.backend.decode(tokenizer.frame("")[1]).removeprefix("</s>")
        assert tokenizer.reads_thinking() == (name != "effort")
    assert ends == {None: default, False: off, True: on}


def test_a_switch_may_stand_in_the_system_turn_alone(tmp_path):
    """As SmolLM3's, which names the mode there."""
    system = (
        "{% if messages[0].role == 'system' %}<turn>mode: {{ 'on' if enable_thinking else 'off' }}"
        "; {{ messages[0].content }}</s>{% set messages = messages[1:] %}{% endif %}"
    )
    save_tokenizer(tmp_path, PLAIN, system + TURNS)
    for thinking, mode in ((True, "on"), (False, "off"), (None, "off")):
        tokenizer = load_tokenizer(str(tmp_path), thinking=thinking)
        assert show(tokenizer, tokenizer.frame("Obey."))[0].startswith(f"<turn>mode: {mode}; Obey.")
        assert tokenizer.reads_thinking()


def test_a_template_that_refuses_to_think_or_not_to_says_so(tmp_path):
    refusal = (
        "{% if thinking is defined and not thinking %}{{ raise_exception('no way') }}{% endif %}"
    )
    save_tokenizer(tmp_path, PLAIN, refusal + TURNS)
    tokenizer = load_tokenizer(str(tmp_path), thinking=True)
    assert tokenizer.reads_thinking() and tokenizer.frame("")
    with raises_for("thinking") as error:
        load_tokenizer(str(tmp_path), thinking=False).frame("")
    assert "thinking=False" in str(error.value) and "no way" in str(error.value)


@pytest.mark.parametrize("name", ["nowhere/at-all", "."])
def test_nothing_to_load_is_one_clear_line(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with raises_for("model") as error:
        load_tokenizer(name)
    assert repr(name) in str(error.value) and "\n" not in str(error.value)


def test_home_folders_are_expanded(tmp_path, monkeypatch):
    save_tokenizer(tmp_path / "model", PLAIN, TURNS)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert (
        load_tokenizer("~/model").vocab_size == load_tokenizer(str(tmp_path / "model")).vocab_size
    )


PLAIN = FAMILIES["no system role"]  # its control tokens, with other templates
TURNS = "{% for m in messages %}<turn>{{ m.role }}: {{ m.content | trim }}</s>{% endfor %}<turn>"


def show(tokenizer, frame) -> list[str]:
    return [tokenizer.backend.decode(ids) for ids in frame]


def test_a_base_model_without_template_gets_plain_words(tmp_path):
    save_tokenizer(tmp_path, PLAIN, None)
    tokenizer = load_tokenizer(str(tmp_path))
    assert show(tokenizer, tokenizer.frame("Obey.")) == ["Obey.\n\n", "\n\nAnswer:\n"]
    assert show(tokenizer, tokenizer.frame("")) == ["", "\n\nAnswer:\n"]
    assert tokenizer.backend.convert_ids_to_tokens(list(tokenizer.eos_ids)) == ["</s>"]
    assert tokenizer.control_ids.isdisjoint(tokenizer.encode("".join(PLAIN.special_tokens)))


def surround(folder, before: str, after: str = "") -> None:
    """Makes a saved tokenizer put control tokens around every text, as tokenizer.json says it."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    ids = {token["content"]: token["id"] for token in content["added_tokens"]}
    pieces = [{"SpecialToken": {"id": before, "type_id": 0}}] if before else []
    pieces.append({"Sequence": {"id": "A", "type_id": 0}})
    if after:
        pieces.append({"SpecialToken": {"id": after, "type_id": 0}})
    used = {
        name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in (before, after) if name
    }
    pair = [*pieces, {"Sequence": {"id": "B", "type_id": 1}}]
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": pieces,
        "pair": pair,
        "special_tokens": used,
    }
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "before, after, settings, beginning",
    [
        ("", "", {}, ""),
        ("<s>", "", {}, "<s>"),
        ("<s>", "</s>", {}, "<s>"),
        ("", "</s>", {}, ""),
        ("<turn>", "", {}, "<turn>"),
        ("", "", {"add_bos_token": True}, ""),
        ("<s>", "", {"add_bos_token": False}, "<s>"),
    ],
)
def test_a_base_model_begins_as_its_tokenizer_does(tmp_path, before, after, settings, beginning):
    """Some have a begin token that they never write, others write one that is not named so."""
    save_tokenizer(tmp_path, PLAIN, None)
    surround(tmp_path, before, after)
    change(tmp_path / "tokenizer_config.json", settings)
    tokenizer = load_tokenizer(str(tmp_path))
    head, _ = tokenizer.frame("Obey.")
    assert tokenizer.backend.decode(head) == f"{beginning}Obey.\n\n"
    # What transformers itself would feed the model, but for an end token.
    whole = tokenizer.backend("Obey.\n\n7")["input_ids"]
    assert [*head, *tokenizer.encode("7")] == whole[: len(head) + 1]


@pytest.mark.parametrize("written", ["", "<s>", "{{ bos_token }}"])
def test_a_template_alone_decides_about_the_begin_token(tmp_path, written):
    save_tokenizer(tmp_path, PLAIN, written + TURNS)
    surround(tmp_path, "<s>")
    tokenizer = load_tokenizer(str(tmp_path))
    assert show(tokenizer, tokenizer.frame("")) == [
        f"{'<s>' if written else ''}<turn>user: ",
        "</s><turn>",
    ]


def change(path, entries) -> None:
    """Changes entries of a JSON file; `...` removes one."""
    content = json.loads(path.read_text()) if path.exists() else {}
    content |= entries
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not ...}))


@pytest.mark.parametrize(
    "generation, config, ends",
    [
        (..., [256, 258], {"</s>", "<s>", "<turn>"}),
        (..., 258, {"</s>", "<turn>"}),
        ([258], 256, {"</s>", "<turn>", "<s>"}),
        (258, [256], {"</s>", "<turn>", "<s>"}),
        ([], [258], {"</s>", "<turn>"}),
        (None, 258, {"</s>", "<turn>"}),
        # An ordinary word, left over from another vocabulary.
        (258, [2], {"</s>", "<turn>"}),
        (..., [2], {"</s>", 2}),
        # No token at all.
        ([258, 9999], [-1], {"</s>", "<turn>"}),
    ],
)
def test_all_three_files_name_end_tokens(tmp_path, generation, config, ends):
    save_tokenizer(tmp_path, PLAIN, TURNS)
    if generation is not ...:
        change(tmp_path / "generation_config.json", {"eos_token_id": generation})
    change(tmp_path / "config.json", {"eos_token_id": config})
    tokenizer = load_tokenizer(str(tmp_path))
    expected = {
        e if isinstance(e, int) else tokenizer.backend.convert_tokens_to_ids(e) for e in ends
    }
    assert set(tokenizer.eos_ids) == expected and len(tokenizer.eos_ids) == len(expected)


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
@pytest.mark.parametrize(
    "ends", ["</s>", True, [256, "x"], [256, [258]], {"a": 1}, 2.5, -5, [256, -2], 2**40, 2**64]
)
def test_an_end_token_that_is_no_id_is_one_clear_line(tmp_path, file, ends):
    save_tokenizer(tmp_path, PLAIN, TURNS)
    change(tmp_path / file, {"eos_token_id": ends})
    with raises_for("model") as error:
        load_tokenizer(str(tmp_path))
    assert file in str(error.value) and "\n" not in str(error.value)


def test_ids_without_a_token_are_known(tmp_path):
    """The vocabulary of a file may have gaps, and its last id is not its size."""
    save_tokenizer(tmp_path, PLAIN, TURNS)
    tokenizer = load_tokenizer(str(tmp_path))
    assert tokenizer.vocab_size == 259 and tokenizer.unused_ids == ()

    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text())
    for token in content["added_tokens"]:
        token["id"] += 4
    vocabulary = content["model"]["vocab"]
    vocabulary |= {t["content"]: t["id"] for t in content["added_tokens"]}
    path.write_text(json.dumps(content))
    tokenizer = load_tokenizer(str(tmp_path))
    assert tokenizer.vocab_size == 263 and tokenizer.unused_ids == (256, 257, 258, 259)


THINKERS = {
    "qwen3": ("<think>", "</think>"),
    "magistral": ("[THINK]", "[/THINK]"),
    "command": ("<|START_THINKING|>", "<|END_THINKING|>"),
    "openthinker": ("<|begin_of_thought|>", "<|end_of_thought|>"),
    "tags": ("<reasoning>", "</reasoning>"),
    "answer": ("<answer>", "</answer>"),
    "box": ("<|begin_of_box|>", "<|end_of_box|>"),
    "kimi": ("◁think▷", "◁/think▷"),
    "seed": ("<seed:think>", "</seed:think>"),
    "channel": ("<|channel|>", "<|message|>"),
}


@pytest.mark.parametrize(
    "token",
    ["Think", "Thought: ", "Answer: ", "<tool>", "<|reserved_special_token_7|>", "<a> think <b>"],
)
def test_other_added_tokens_are_no_markers(tmp_path, token):
    """Words that a tokenizer has whole stay words; other control tokens are left out of texts."""
    family = dataclasses.replace(PLAIN, plain_tokens=(token,))
    save_tokenizer(tmp_path, family, TURNS)
    tokenizer = load_tokenizer(str(tmp_path))
    assert not tokenizer.marker_ids
    assert tokenizer.encode(token) == [tokenizer.backend.convert_tokens_to_ids(token)]
    assert tokenizer.decode([*tokenizer.encode("7"), *tokenizer.control_ids]) == "7"


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("name", THINKERS)
def test_decoding_keeps_what_tells_a_thought_from_the_answer(tmp_path, name, special):
    opening, closing = markers = THINKERS[name]
    tokens = PLAIN.special_tokens
    plain: tuple[str, ...] = ("<tool>",)
    family = dataclasses.replace(
        PLAIN,
        special_tokens=(*tokens, *markers) if special else tokens,
        plain_tokens=plain if special else (*plain, *markers),
    )
    save_tokenizer(tmp_path, family, "<tool>" + TURNS)
    tokenizer = load_tokenizer(str(tmp_path))
    to_id = tokenizer.backend.convert_tokens_to_ids
    ids = [
        to_id(opening), *tokenizer.encode("Perhaps 3? "), to_id("<tool>"), to_id(closing),
        *tokenizer.encode("It is 5."), to_id("</s>"),
    ]  # fmt: skip
    text = f"{opening}Perhaps 3? {closing}It is 5."
    assert tokenizer.decode(ids) == text

    # As a message it is letters, which nothing takes for a marker.
    assert tokenizer.decode(tokenizer.encode(text)) == text
    live = {to_id(marker) for marker in markers}
    assert live <= tokenizer.control_ids and live.isdisjoint(tokenizer.encode(text))
    assert live.isdisjoint(quote(tokenizer, [text], 100)[0])


def test_prompts_do_not_depend_on_the_day(tmp_path):
    dated = "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y %f') %}{% endif %}"
    save_tokenizer(tmp_path, PLAIN, dated + "Today: {{ date_string }}" + TURNS)
    tokenizer = load_tokenizer(str(tmp_path))
    assert show(tokenizer, tokenizer.frame(""))[0] == "Today: 26 Jul 2024<turn>user: "


@pytest.mark.parametrize("between", ["", "\n", " over "])
def test_the_end_of_turn_is_the_first_control_token_after_a_reply(tmp_path, between):
    save_tokenizer(
        tmp_path, dataclasses.replace(PLAIN, eos="<s>"), TURNS.replace("</s>", between + "</s>")
    )
    tokenizer = load_tokenizer(str(tmp_path))
    assert tokenizer.backend.convert_ids_to_tokens(list(tokenizer.eos_ids)) == ["<s>", "</s>"]


def test_templates_by_name_use_the_default(tmp_path):
    save_tokenizer(
        tmp_path,
        dataclasses.replace(PLAIN, plain_tokens=("<tool>",)),
        {"default": TURNS, "tools": "<tool>" + TURNS},
    )
    tokenizer = load_tokenizer(str(tmp_path))
    assert show(tokenizer, tokenizer.frame("")) == ["<turn>user: ", "</s><turn>"]
    assert tokenizer.backend.convert_tokens_to_ids("<tool>") in tokenizer.control_ids


@pytest.mark.parametrize(
    "template, complaint",
    [
        (
            "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}</s>",
            "2 times",
        ),
        ("<turn>nothing else</s>", "0 times"),
        ("{{ raise_exception('never') }}", "0 times"),
        ("{% for m in messages %}", "jinja"),
    ],
)
def test_an_unusable_template_is_one_clear_line(tmp_path, template, complaint):
    save_tokenizer(tmp_path, PLAIN, template)
    with raises_for("model") as error:
        load_tokenizer(str(tmp_path)).frame("x")
    message = str(error.value)
    assert "chat template" in message and complaint in message and "\n" not in message


@pytest.mark.parametrize("file", ["tokenizer.json", "generation_config.json"])
def test_a_damaged_file_is_one_clear_line(tmp_path, file):
    save_tokenizer(tmp_path, PLAIN, TURNS)
    (tmp_path / file).write_text("{")
    with raises_for("model") as error:
        load_tokenizer(str(tmp_path))
    assert repr(str(tmp_path)) in str(error.value) and "\n" not in str(error.value)


def test_a_tokenizer_without_an_end_token_is_refused(tmp_path):
    save_tokenizer(tmp_path, dataclasses.replace(PLAIN, eos=None), None)
    with raises_for("model") as error:
        load_tokenizer(str(tmp_path))
    assert "eos_token_id" in str(error.value)


def test_importing_the_loader_does_not_import_transformers():
    """It takes seconds, and datasets and checkpoints on disk do not need it."""
    program = "import sys, ccpo_jax.hf, ccpo_jax.data; print('transformers' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "False\n"


def test_a_template_is_asked_whether_it_reads_the_switch(family):
    name, _, tokenizer = family
    assert tokenizer.reads_thinking() == (name == "qwen3")


def test_blanks_that_are_tokens_of_their_own_stay_in_texts(tmp_path):
    """A template of several lines holds them too, and gives them no meaning."""
    family = dataclasses.replace(PLAIN, plain_tokens=("\n", "  "))
    save_tokenizer(tmp_path, family, family.template + "{% if false %}\n  {% endif %}")
    tokenizer = load_tokenizer(str(tmp_path))
    assert "\n  " in tokenizer.backend.chat_template
    assert tokenizer.decode(tokenizer.encode("a\nb  c")) == "a\nb  c"
