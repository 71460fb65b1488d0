r"""Unicode mathematics, written as LaTeX: ``3√5`` becomes ``3\sqrt{5}`` and ``x²`` ``x^{2}``."""

import re
import unicodedata

_SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ"
_SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎"
_TO_PLAIN = str.maketrans(_SUPERSCRIPTS + _SUBSCRIPTS, "0123456789+-=()ni" + "0123456789+-=()")

_SUPERSCRIPT_RUN = re.compile(f"[{_SUPERSCRIPTS}]++")
_SUBSCRIPT_RUN = re.compile(f"[{_SUBSCRIPTS}]++")

# A root sign and what stands under it: a number, a letter, a command or a group.
_ROOT = re.compile(r"([√∛∜])\s*+(\d+(?:\.\d+)?|[A-Za-z]|\\[A-Za-z]++|(?=[({]))")
_ROOT_INDEX = {"√": r"\sqrt", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]"}

_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta",
    "η": "eta", "θ": "theta", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi",
    "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "phi", "ϕ": "phi", "χ": "chi",
    "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda",
    "Σ": "Sigma", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega",
}  # fmt: skip

_SIGNS = {
    "×": "times", "✕": "times", "⋅": "cdot", "·": "cdot", "•": "cdot", "∙": "cdot",
    "≤": "le", "⩽": "le", "≦": "le", "≥": "ge", "⩾": "ge", "≧": "ge", "≠": "ne",
    "≈": "approx", "≃": "approx", "≅": "approx", "≡": "equiv", "±": "pm", "∓": "mp",
    "∞": "infty", "∪": "cup", "∩": "cap", "∈": "in", "∉": "notin", "∅": "emptyset",
    "∖": "setminus", "⟨": "langle", "⟩": "rangle", "〈": "langle", "〉": "rangle",
    "⌊": "lfloor", "⌋": "rfloor", "⌈": "lceil", "⌉": "rceil", "∑": "sum", "∏": "prod",
    "∫": "int", "→": "to", "⇒": "Rightarrow", "∨": "lor", "∧": "land", "…": "ldots",
    "△": "triangle", "∠": "angle",
}  # fmt: skip

_OTHER = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "﹣": "-", "÷": "/", "∕": "/", "⁄": "/",
    "∶": ":", "、": ",", "。": ".", "°": r"^\circ ", "º": r"^\circ ", "℃": r"^\circ C",
    "℉": r"^\circ F", "′": "'", "’": "'", "‘": "'", "″": "''", "ℝ": r"\mathbb{R}",
    "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}",
    "㎡": " m^2", "㎥": " m^3", "₤": "£", "￡": "£", "￥": "¥", "＄": r"\$", "％": r"\%",
    "\u200b": "", "\u2062": "", "\ufeff": "", "【": "[", "】": "]", "－": "-", "〜": r"\sim ",
}  # fmt: skip

# Units behind a number in Chinese, and in English.
_CHINESE_UNITS = {
    "平方厘米": "square cm", "立方厘米": "cubic cm", "平方千米": "square km", "立方米": "cubic m",
    "平方米": "square m", "平方分米": "square dm", "厘米": "cm", "千米": "km", "公里": "km",
    "毫米": "mm", "分米": "dm", "米": "m", "千克": "kg", "公斤": "kg", "克": "g", "吨": "ton",
    "小时": "hours", "分钟": "minutes", "秒": "seconds", "天": "days", "周": "weeks",
    "年": "years", "岁": "years", "元": "yuan", "度": "degrees", "升": "liters",
    "毫升": "ml", "个": "pieces", "人": "persons", "名": "persons", "次": "rounds",
    "种": "kinds", "只": "pieces", "本": "copies", "支": "pieces", "张": "sheets",
    "块": "pieces", "页": "pages", "题": "problems", "件": "pieces", "条": "pieces",
    "棵": "trees", "辆": "cars",
}  # fmt: skip
_CHINESE_MAGNITUDES = {"万": "myriad", "亿": "hundredmillion"}
_CHINESE_QUANTITY = re.compile(
    r"(?<=\d)(\s?(?:\\text\{)?\s?)(万|亿)?("
    + "|".join(sorted(_CHINESE_UNITS, key=len, reverse=True))
    + r")?(?=\s?\}?\$?\s?$)"
)

# Digits with a line or a dot above each.
_LINED = re.compile("(?:\\d[\u0304\u0305])++")
_DOT_ABOVE = re.compile("(\\d)\u0307")

_TRANSLATION = str.maketrans(
    {sign: rf"\{name} " for sign, name in (_GREEK | _SIGNS).items()} | _OTHER
)


def to_latex(text: str) -> str:
    r"""Writes the mathematical characters of a text as LaTeX, and full-width signs as ASCII.

    Example:
      >>> to_latex("7 - 3√5"), to_latex("（3，4）"), to_latex("x² ≤ ½")
      ('7 - 3\\sqrt{5}', '(3,4)', 'x^{2} \\le  \\frac{1}{2}')
    """
    if text.isascii():
        return text
    text = _LINED.sub(lambda run: rf"\overline{{{re.sub('[^0-9]', '', run[0])}}}", text)
    text = _DOT_ABOVE.sub(r"\\dot{\1}", text)
    text = _CHINESE_QUANTITY.sub(_in_english, text)
    text = _SUPERSCRIPT_RUN.sub(lambda run: f"^{{{run[0].translate(_TO_PLAIN)}}}", text)
    text = _SUBSCRIPT_RUN.sub(lambda run: f"_{{{run[0].translate(_TO_PLAIN)}}}", text)
    text = _without_fractions(text.translate(_TRANSLATION))
    return _ROOT.sub(_root, text)


def _in_english(match: re.Match[str]) -> str:
    """A magnitude and a unit in Chinese, in English."""
    words = [_CHINESE_MAGNITUDES.get(match[2], ""), _CHINESE_UNITS.get(match[3], "")]
    if not any(words):
        return match[0]
    return rf"{match[1]}\text{{ {' '.join(filter(None, words))}}}"


def _without_fractions(text: str) -> str:
    """Vulgar fractions as \\frac, and the compatible forms of other letters and digits."""
    characters = []
    for character in text:
        if character.isascii() or character in "√∛∜£€¥₹":
            characters.append(character)
            continue
        plain = unicodedata.normalize("NFKC", character)
        numerator, slash, denominator = plain.partition("⁄")
        if slash and numerator.isdecimal() and denominator.isdecimal():
            plain = rf"\frac{{{numerator}}}{{{denominator}}}"
        elif len(plain) == 1 and plain.isdecimal():
            plain = str(unicodedata.decimal(plain))
        characters.append(plain)
    return "".join(characters)


def _root(match: re.Match[str]) -> str:
    command = _ROOT_INDEX[match[1]]
    return f"{command}{{{match[2]}}}" if match[2] else command
