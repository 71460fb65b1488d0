"""Words that answers are written with, and what they mean."""

# Words of at most four letters, which are no products of letters.
SHORT_WORDS = frozenset(
    """no on yes all and or not odd even none zero one two six ten east west true mod of in is to
    for if any both red blue pink gray up down left sum max min per base men boy girl cat dog day
    year box hour mile feet foot inch unit am pm may june july mon tue wed thu fri sat sun sin cos
    tan neve eno sey""".split()
)

# Articles and fillers, which change no answer.
FILLERS = frozenset("a an the is are there exactly only".split())

# Words in front of an answer that announce it.
ANNOUNCING = frozenset(
    """answer answers final solution result the is are equals approximately about exactly roughly
    around so thus hence therefore value a an of total area volume length perimeter probability
    distance sum product number it point points pair ordered interval vector matrix""".split()
)

NUMBER_WORDS = {
    word: number
    for number, word in enumerate(
        """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
        fifteen sixteen seventeen eighteen nineteen twenty""".split()
    )
} | {"thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}

MAGNITUDES = {
    "hundred": 10**2,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "dozen": 12,
    "lakh": 10**5,
    "myriad": 10**4,
    "hundredmillion": 10**8,
    "crore": 10**7,
}
MAGNITUDES |= {f"{word}s": number for word, number in MAGNITUDES.items()}

# Words that change what a number says, so that they are no unit.
MEANINGFUL = (
    frozenset(
        """and or not but no none if then when squared cubed factorial more less fewer least most
    over under plus minus times divided multiplied to by through except remainder mod modulo base
    either neither maybe perhaps possibly otherwise than is are above below between within after
    before ago percent half third thirds quarter quarters halves fifths sixths eighths tenth tenths
    hundredth hundredths thousandth thousandths millionth millionths gross negative positive
    infinite only bn mn""".split()
    )
    | frozenset(NUMBER_WORDS)
    | frozenset(MAGNITUDES)
)

# Words of meaning are no products of letters, wherever they stand.
NO_PRODUCTS = SHORT_WORDS | MEANINGFUL

PERCENT_WORDS = frozenset("percent percents percentage pct".split())

MERIDIANS = frozenset(["am", "pm"])

# Golds that stand for no answer.
NO_ANSWERS = frozenset(
    """proof proved proven qed n_a na none_given null nan see_solution see_the_solution
    answers_may_vary answers_vary unknown no_answer not_available todo tbd omitted""".split()
)

# Words that several spellings share.
SYNONYMS = {
    "solutions": "solution",
    "cannot": "can not",
    "isn't": "is not",
    "doesn't": "does not",
}
