"""The words of every role, as models read them; nothing else.

`PROMPTS` maps a style to its roles: those of the topologies that use it, and those in which a dyad
rates itself.
"""

from ccpo_jax.rollout.prompts import RolePrompt

_CHECK = {
    "planner": "\n\nThe plan of a colleague:\n{message}",
    "solver": "\n\nThe solution of a colleague, which may contain mistakes:\n{message}",
    "": "\n\nA message from a colleague, which may contain mistakes:\n{message}",
}
_DEBATE = {
    "own": "\n\nYour own first answer:\n{message}",
    "": "\n\nThe answer of a colleague, who worked independently and may be wrong:\n{message}",
}
# Closing words of both raters; rollout/ratings.py reads the reply.
_RATE = (
    "\n\nHow much did each role contribute to this outcome? Reply with a single JSON object. "
    "Repeat the outcome exactly, and give each role a share between 0.1 and 0.9, in steps of 0.1, "
    'so that the two shares add up to 1: {"outcome": OUTCOME, "thinker": SHARE, "solver": SHARE}.'
)
_MATH_ANSWER = "\n\nSolve the problem. Put the final answer, and nothing else, inside \\boxed{}."
_CHOICE_ANSWER = (
    "\n\nReason briefly, then end with a line such as 'Answer: C' that names exactly one option."
)
_TINY_RATE = {"verdict": "\nAnswer: {message}", "": "\nThought: {message}"}

PROMPTS = {
    "math": {
        "thinker": RolePrompt(
            system="You prepare mathematics problems for a colleague, who will write the solution.",
            problem="{problem}",
            message="",
            closing=(
                "\n\nState which facts matter, which method applies, and its main steps. Point out "
                "likely mistakes. Leave the final computation and the answer to your colleague."
            ),
        ),
        "solver": RolePrompt(
            system="You solve mathematics problems carefully, step by step.",
            problem="{problem}",
            message="\n\nNotes from a colleague, which may contain mistakes:\n{message}",
            closing=_MATH_ANSWER,
        ),
        "voter": RolePrompt(
            system="You solve mathematics problems carefully, step by step.",
            problem="{problem}",
            message="",
            closing=_MATH_ANSWER,
        ),
        "planner": RolePrompt(
            system=(
                "You plan solutions to mathematics problems. Your colleagues will carry out the "
                "plan and check it."
            ),
            problem="{problem}",
            message="",
            closing=(
                "\n\nWrite a short numbered plan: what is given, what is asked, and the steps from "
                "one to the other. Leave the computation and the final answer to your colleagues."
            ),
        ),
        "checker": RolePrompt(
            system="You check solutions to mathematics problems and correct them.",
            problem="{problem}",
            message=_CHECK,
            closing=(
                "\n\nCheck every step against the problem and correct any mistake. Put the final "
                "answer, and nothing else, inside \\boxed{}."
            ),
        ),
        "debater": RolePrompt(
            system="You solve mathematics problems and discuss them with colleagues.",
            problem="{problem}",
            message=_DEBATE,
            closing=(
                "\n\nCompare the answers. Where they differ, work out which one is right, no "
                "matter who gave it. Put your final answer, and nothing else, inside \\boxed{}."
            ),
        ),
        "rate_thinker": RolePrompt(
            system=(
                "You are the thinker: you wrote notes on a mathematics problem for a colleague, "
                "the solver."
            ),
            problem="{problem}",
            message={
                "thinker": "\n\nYour notes:\n{message}",
                "solver": "\n\nThe solver's answer:\n{message}",
                "verdict": "\n\nThe outcome: {message}",
            },
            closing=_RATE,
        ),
        "rate_solver": RolePrompt(
            system=(
                "You are the solver: you solved a mathematics problem with the notes of a "
                "colleague, the thinker."
            ),
            problem="{problem}",
            message={
                "thinker": "\n\nThe thinker's notes:\n{message}",
                "solver": "\n\nYour answer:\n{message}",
                "verdict": "\n\nThe outcome: {message}",
            },
            closing=_RATE,
        ),
    },
    "choice": {
        "thinker": RolePrompt(
            system=(
                "You prepare reasoning questions for a colleague, who will choose among the "
                "options."
            ),
            problem="{problem}",
            message="",
            closing=(
                "\n\nState what the text establishes, what the question asks, and how each option "
                "relates to it. Leave the choice to your colleague."
            ),
        ),
        "solver": RolePrompt(
            system="You answer multiple-choice reasoning questions. Exactly one option is right.",
            problem="{problem}",
            message="\n\nNotes from a colleague, which may contain mistakes:\n{message}",
            closing=_CHOICE_ANSWER,
        ),
        "voter": RolePrompt(
            system="You answer multiple-choice reasoning questions. Exactly one option is right.",
            problem="{problem}",
            message="",
            closing=_CHOICE_ANSWER,
        ),
        "planner": RolePrompt(
            system=(
                "You plan answers to reasoning questions. Your colleagues will answer the question "
                "and check the answer."
            ),
            problem="{problem}",
            message="",
            closing=(
                "\n\nList in a few numbered points what has to be established and in which order "
                "to test the options. Leave the choice to your colleagues."
            ),
        ),
        "checker": RolePrompt(
            system=(
                "You check answers to multiple-choice reasoning questions. Exactly one option is "
                "right."
            ),
            problem="{problem}",
            message=_CHECK,
            closing=(
                "\n\nCheck the reasoning against the text and correct any mistake. End with a line "
                "such as 'Answer: C' that names exactly one option."
            ),
        ),
        "debater": RolePrompt(
            system=(
                "You answer multiple-choice reasoning questions and discuss them with colleagues."
            ),
            problem="{problem}",
            message=_DEBATE,
            closing=(
                "\n\nCompare the answers. Where they differ, work out which one is right, no "
                "matter who gave it. End with a line such as 'Answer: C' that names exactly one "
                "option."
            ),
        ),
        "rate_thinker": RolePrompt(
            system=(
                "You are the thinker: you wrote notes on a question for a colleague, the solver."
            ),
            problem="{problem}",
            message={
                "thinker": "\n\nYour notes:\n{message}",
                "solver": "\n\nThe solver's choice:\n{message}",
                "verdict": "\n\nThe outcome: {message}",
            },
            closing=_RATE,
        ),
        "rate_solver": RolePrompt(
            system=(
                "You are the solver: you answered a question with the notes of a colleague, the "
                "thinker."
            ),
            problem="{problem}",
            message={
                "thinker": "\n\nThe thinker's notes:\n{message}",
                "solver": "\n\nYour choice:\n{message}",
                "verdict": "\n\nThe outcome: {message}",
            },
            closing=_RATE,
        ),
    },
    # What the embedded models were trained on; a changed letter spoils them. They know few words.
    "tiny": {
        "thinker": RolePrompt("Think", "{problem}", "", ""),
        "solver": RolePrompt("Solve", "{problem}", "\nThought: {message}", ""),
        "voter": RolePrompt("Vote", "{problem}", "", ""),
        "planner": RolePrompt("Think", "{problem}", "", ""),
        "checker": RolePrompt("Solve", "{problem}", "\nThought: {message}", ""),
        "debater": RolePrompt("Vote", "{problem}", "\nThought: {message}", ""),
        "rate_thinker": RolePrompt("Rate Think", "{problem}", _TINY_RATE, ""),
        "rate_solver": RolePrompt("Rate Solve", "{problem}", _TINY_RATE, ""),
    },
}
