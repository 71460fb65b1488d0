r"""What stands in the boxes of a text."""

import pytest

from ccpo_jax.boxes import last_boxed


@pytest.mark.parametrize(
    "text, answer",
    [
        # Several boxes that are one answer.
        (r"\boxed{1} \quad \text{and} \quad \boxed{2}", "1, 2"),
        (r"$$\boxed{(98, 2)} \quad \text{and} \quad \boxed{(99, 503)}$$", "(98, 2), (99, 503)"),
        (r"\boxed{1}\text{ or }\boxed{2}", "1, 2"),
        (r"\boxed{1}; otherwise \boxed{2}", "1, 2"),
        (r"\boxed{1} \qquad \boxed{2}", "1, 2"),
        (r"\boxed{1} papers and \boxed{2} bins", "1, 2"),
        (r"\boxed{(3, 3)} \text{ for part (a) and } \boxed{(1, 1)}", "(3, 3), (1, 1)"),
        (r"\[\boxed{1}, \boxed{2}, \boxed{3}\]", "1, 2, 3"),
        (r"\boxed{1}和\boxed{2}", "1, 2"),
        # With their variables.
        (r"$x=\boxed{3}$ or $x=\boxed{-3}$", "3, -3"),
        (r"$x=\boxed{2}, y=\boxed{1}$", "x=2, y=1"),
        (r"x = $\boxed{3}$ and y = $\boxed{4}$", "x=3, y=4"),
        (r"\(y_1 = \boxed{2x} \) and \( y_2 = \boxed{3x} \)", "y_1=2x, y_2=3x"),
        (r"\boxed{k = 45} \quad \text{and} \quad \boxed{n = 2}", "k = 45, n = 2"),
        (r"$x=\boxed{3}$ or $\boxed{4}$", "3, 4"),
        (r"\[x = \boxed{3} \\ y = \boxed{4}\]", "x=3, y=4"),
        # A later box that is another statement.
        (r"\boxed{1} was wrong, it is \boxed{2}", "2"),
        (r"\boxed{1}, so we get \boxed{2}", "2"),
        (r"\boxed{1} no no no no no \boxed{2}", "2"),
        (r"\boxed{1}. We check and find \boxed{2}", "2"),
        (r"\boxed{\frac12} or equivalently \boxed{0.5}", "0.5"),
        (r"\boxed{3}. Check: \boxed{3}", "3"),
        # Boxes without braces, under other names, escaped twice.
        (r"our answer is $\boxed 7$.", "7"),
        (r"$\boxed 73$", "73"),
        (r"$\boxed\frac12$", r"\frac12"),
        (r"\(\boxed -3\)", "-3"),
        ("is \\boxed 7.", "7"),
        (r"\fbox{5}", "5"),
        (r"\framebox{5}", "5"),
        (r"\fcolorbox{red}{white}{5}", "5"),
        (r"\colorbox{yellow}{5}", "5"),
        (r"\bbox[yellow]{5}", "5"),
        (r"\\boxed{5}", "5"),
        ("\x08oxed{5}", "5"),
        ("so boxed{5}", "5"),
        (r"\boxed{\text{Answer: }120}", "120"),
        # No box.
        (r"Put it inside \boxed{}.", None),
        (r"in a \boxed format", None),
        (r"\mbox{5}", None),
        ("the boxed number {5}", None),
        (r"\boxed{5", None),
    ],
)
def test_last_boxed(text, answer):
    assert last_boxed(text) == answer
