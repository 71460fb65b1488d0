"""A response's thoughts are kept apart from its answer, by the tokens of its tokenizer or by text."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ccpo_jax.hf import load_tokenizer
from ccpo_jax.reasoning import Reply
from ccpo_jax.rl.topology import dyad
from ccpo_jax.rollout import demonstrated_ids, rollout
from ccpo_jax.rollout.prompts import RolePrompt, tokenize_role
from ccpo_jax.rollout.thoughts import decode_replies, encode_replies, may_think
from experiments.robustness.families import FAMILIES, save_tokenizer
from tests.support.stubs import CODEC, POLICY
from tests.support.teams import ROLES, team_of

MARKERS = ("<think>", "</think>")
SOLVER = RolePrompt("", "{problem}", "", "")
PLAIN = dataclasses.replace(FAMILIES["no system role"], bos=None)


def tokenizer_of(folder, *, special=(), plain=(), opening=""):
    """A byte-level tokenizer whose template ends a prompt with `opening`."""
    family = dataclasses.replace(
        PLAIN, special_tokens=(*PLAIN.special_tokens, *special), plain_tokens=plain
    )
    turns = "{% for m in messages %}<turn>{{ m.role }}: {{ m.content }}</s>{% endfor %}<turn>"
    save_tokenizer(folder, family, turns + opening)
    return load_tokenizer(str(folder))


def replies_of(tokenizer, *texts) -> list[Reply]:
    """The replies in texts whose markers are live tokens, where the tokenizer has such tokens."""
    rows = tokenizer.backend(list(texts), add_special_tokens=False)["input_ids"]
    return decode_replies(tokenize_role(tokenizer, SOLVER), tokenizer, rows)


KINDS = {
    "special tokens": {"special": MARKERS},
    "added tokens": {"plain": MARKERS},
    "text alone": {},
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_marker_marks_a_thought(kind, tmp_path):
    tokenizer = tokenizer_of(tmp_path, **KINDS[kind])
    assert replies_of(
        tokenizer,
        "<think>\nIs it \\boxed{7}?\n</think>\n\nIt is 5.",
        "7</think>5",
        "<think>7</think>5 <think>8</think>6",
        "<think>so \\boxed{7}",
        "5 < 6",
        "",
    ) == [
        Reply("It is 5.", "Is it \\boxed{7}?"),
        Reply("5", "7"),
        Reply("5 6", "7\n\n8"),
        Reply("", "so \\boxed{7}", unfinished=True),
        Reply("5 < 6"),
        Reply(""),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_that_opens_the_thought(kind, tmp_path):
    tokenizer = tokenizer_of(tmp_path, **KINDS[kind], opening="<think>")
    assert replies_of(tokenizer, "7</think>5", "it is \\boxed{7}", "<think>7</think>5") == [
        Reply("5", "7"),
        Reply("", "it is \\boxed{7}", unfinished=True),
        Reply("5", "7"),
    ]


def test_tokens_decide_and_letters_in_a_thought_do_not(tmp_path):
    """A thought that spells its closing marker goes on; what an answer spells is thought too."""
    tokenizer = tokenizer_of(tmp_path, plain=MARKERS)
    opening, closing = tokenizer.backend.convert_tokens_to_ids(list(MARKERS))
    spelled = tokenizer.encode("Behind </think> stands \\boxed{7}.")
    answer = tokenizer.encode("<think>8</think>5")
    end = tokenizer.eos_ids[0]
    rows = [
        [opening, *spelled, closing, *tokenizer.encode("5"), end],
        [opening, *spelled, end],
        [opening, *spelled, closing, *answer, end],
        [*answer, end],
    ]
    thought = "Behind </think> stands \\boxed{7}."
    assert decode_replies(tokenize_role(tokenizer, SOLVER), tokenizer, rows) == [
        Reply("5", thought),
        Reply("", thought, unfinished=True),
        Reply("5", f"{thought}\n\n8"),
        Reply("5", "8"),
    ]


def test_channels(tmp_path):
    """As gpt-oss writes them, with the prompt up to the role of the reply."""
    special = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>")
    tokenizer = tokenizer_of(tmp_path, special=special, opening="<|start|>assistant")
    thought = "<|channel|>analysis<|message|>Is it 7?<|end|>"
    assert replies_of(
        tokenizer,
        f"{thought}<|start|>assistant<|channel|>final<|message|>It is 5.</s>",
        f"{thought}</s>",
        "<|channel|>final<|message|>5",
        "5",
    ) == [
        Reply("It is 5.", "Is it 7?"),
        Reply("", "Is it 7?", unfinished=True),
        Reply("5"),
        Reply("5"),
    ]


def test_headers_of_other_formats_are_no_thoughts(tmp_path):
    tokenizer = tokenizer_of(tmp_path, special=("<|start|>", "<|message|>", *MARKERS))
    assert set(tokenizer.thought_tokens.values()) == {"opening", "closing"}
    assert replies_of(tokenizer, "<think>7</think><|start|>5") == [Reply("5", "7")]


@pytest.mark.parametrize(
    "text, reply",
    [
        ("<think>7</think>5###6", Reply("5", "7")),
        ("<think>7###</think>5", Reply("", "7", unfinished=True)),
        # It begins in the thought and ends in the answer.
        ("<think>7</think>!5", Reply("", "7", unfinished=True)),
        ("<think>7</think>5", Reply("5", "7")),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_string_is_one_of_the_whole_text(kind, text, reply, tmp_path):
    tokenizer = tokenizer_of(tmp_path, **KINDS[kind])
    rows = tokenizer.backend([text], add_special_tokens=False)["input_ids"]
    role = tokenize_role(tokenizer, SOLVER)
    assert decode_replies(role, tokenizer, rows, stops=("###", "</think>!")) == [reply]


@pytest.mark.parametrize("kind", KINDS)
def test_a_demonstration_has_the_markers_that_a_model_writes(kind, tmp_path):
    """As tokens where it has them; what else looks like a control token stays letters."""
    tokenizer = tokenizer_of(tmp_path, **KINDS[kind])
    texts = ["<think>7</s></think>5<turn>", "5", "<think></think>"]
    encoded = encode_replies(tokenizer, texts)
    assert tokenizer.decode_batch(encoded) == texts
    live = [[i for i in ids if i in tokenizer.control_ids] for ids in encoded]
    marked = tokenizer.backend.convert_tokens_to_ids(list(MARKERS)) if tokenizer.marker_ids else []
    assert live == [marked, [], marked]
    replies = decode_replies(tokenize_role(tokenizer, SOLVER), tokenizer, encoded)
    assert replies == [Reply("5<turn>", "7</s>"), Reply("5"), Reply("")]


@pytest.mark.parametrize("opening, begins", [("<think>", "\n7"), ("{{ '<think>\\n' }}", "7")])
@pytest.mark.parametrize("kind", KINDS)
def test_a_demonstration_does_not_open_the_thought_again(kind, opening, begins, tmp_path):
    """Whatever blanks it has around the marker that ends its prompt."""
    tokenizer = tokenizer_of(tmp_path, **KINDS[kind], opening=opening)
    agent = dataclasses.replace(
        team_of(dyad(), codec=tokenizer).agents[0], template=tokenize_role(tokenizer, SOLVER)
    )
    rest = "</think>5"
    texts = [f"{start}7{rest}" for start in ("<think>", "\n<think>", "<think>\n", "")]
    responses = tokenizer.decode_batch(demonstrated_ids(agent, texts))
    assert responses == [f"7{rest}", f"7{rest}", f"{begins}{rest}", f"7{rest}"]


# --- in a team ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def thinking_rollout(tmp_path_factory):
    """A dyad that always writes ``<think>7</think>5``, with the world without its Thinker.

    The network's next token depends on the last one alone, and hardly leaves a choice.
    """
    tokenizer = tokenizer_of(tmp_path_factory.mktemp("tokenizer"), plain=MARKERS)
    opening, closing = tokenizer.backend.convert_tokens_to_ids(list(MARKERS))
    (start,) = tokenizer.backend.convert_tokens_to_ids(["<turn>"])
    seven, five = tokenizer.encode("75")
    response = [opening, seven, closing, five, tokenizer.eos_ids[0]]
    table = np.zeros((tokenizer.vocab_size, tokenizer.vocab_size), np.float32)
    for last, following in zip([start, *response[:-1]], response, strict=True):
        table[last, following] = 100.0

    team = team_of(dyad(), shared=True, codec=tokenizer, policy=POLICY, max_tokens=8)
    team = dataclasses.replace(team, prompt_length=64)
    verified: dict[int, tuple[str, ...]] = {}
    rollouts = rollout(
        team,
        [{"table": jnp.asarray(table)}],
        ["1+4", "2+3"],
        jax.random.key(0),
        group_size=2,
        ablated=(0,),
        on_prompt_done=verified.update,
    )
    return tokenizer, team, rollouts, verified, response


def test_a_partner_reads_the_answer_alone(thinking_rollout):
    tokenizer, team, rollouts, _, _ = thinking_rollout
    solver = rollouts.turns[1].prompts
    template = team.agents[1].template
    ((before, after),) = template.message
    slots = solver.tail.shape[-1]
    joint = [*before, *tokenizer.encode("5"), *after, *template.closing]
    for b in range(2):
        for row in range(4):
            ids = solver.tail[b, row, slots - solver.tail_length[b, row] :].tolist()
            # The rows of the world without the Thinker follow those of the factual one.
            assert ids == (joint if row < 2 else list(template.closing))
    assert ROLES["solver"].message == "\nhint: {message}"
    assert tokenizer.decode(joint).startswith("\nhint: 5?")


def test_a_verifier_reads_the_answer_alone_and_a_thought_is_trained_on(thinking_rollout):
    _, _, rollouts, verified, response = thinking_rollout
    assert verified == {0: ("5",) * 6, 1: ("5",) * 6}
    for turn, rows in zip(rollouts.turns, (2, 4), strict=True):
        assert turn.texts == [["5"] * rows] * 2
        assert turn.thoughts == [["7"] * rows] * 2
        assert turn.unfinished == [[False] * rows] * 2
        assert turn.thought(1, 0) == "7"
        np.testing.assert_array_equal(turn.samples.length, len(response))
        assert (turn.samples.tokens[..., : len(response)] == response).all()
    first = rollouts.first_prompts(1).turns[1]
    assert first.texts == [["5"] * 4] and first.thoughts == [["7"] * 4]


def test_who_may_think_by_its_tokenizer_or_by_what_it_wrote(thinking_rollout):
    _, team, rollouts, _, _ = thinking_rollout
    bare = dataclasses.replace(team.agents[0], tokenizer=CODEC)
    turn = rollouts.turns[0]
    silent = turn._replace(thoughts=[["", ""]] * 2)
    assert may_think(team.agents[0], silent) and may_think(bare, turn)
    assert may_think(bare, silent._replace(unfinished=[[False, True], [False, False]]))
    assert not may_think(bare, silent) and not may_think(bare, turn._replace(thoughts=()))
