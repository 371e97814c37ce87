"""Whether the router model can judge a text: it is trained on English prompts.

    Domain(tokenizer.get_vocab()).reason_unreadable(text, ids)

A text in another language falls into [UNK], single letters or fragments of words. To the model that
looks like small talk, so that a proof in Japanese scored as easy. Empty texts, single words and
noise also get the model's prior, not a judgement. The limits are fitted on prompts of the training
data, of which they may practically flag none, and on hand-written texts in 25 languages;
`hybrid-llm-train domain` shows both.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Signal = Literal["empty", "word", "noise", "script", "unknown", "letters", "pieces", "language"]

# The highest values in 26,334 English prompts are 0.26 (of letters outside Latin) and 0.23 (of
# pieces that are [UNK]).
MAX_OUTSIDE_LATIN: Final = 0.4
MAX_UNKNOWN: Final = 0.3
# Formulas have up to 0.58 of single letters.
MAX_SINGLE_LETTERS: Final = 0.65
# English prose has 1.0 to 1.3 pieces per word, other languages in Latin script 1.3 to 4. Formulas,
# code and lists of terms have more, too: they have symbols, or function words of English.
MAX_PIECES_PER_WORD: Final = 1.6
MIN_ENGLISH_WORDS: Final = 0.12
MAX_SYMBOLS: Final = 0.2
MIN_WORDS: Final = 4
# The function words of other languages are a third of their words, and in English text names.
MIN_OTHER_WORDS: Final = 0.12
# Of the Latin letters. Vietnamese is in short pieces of English look.
MAX_ACCENTED: Final = 0.12
# "Hello, how are you?" has at most 23 letters in 24 languages. A sentence that sets a task is
# longer. Letters count as Latin ones: a Chinese character is worth four.
SHORT_LETTERS: Final = 23
# Keyboard mash and base64 have more than 3 pieces per word, and no function words.
NOISE_PIECES_PER_WORD: Final = 2.5
NOISE_SHARE: Final = 0.6
NOISE_WORDS: Final = 40  # of a long text, the first ones
ENCODED_CHARS: Final = 24

# Without names of variables and units, and without words that other languages have, too.
_ENGLISH: Final = frozenset(
    "the of and to is that for it with be by are this from or at which you have has not they their "
    "if then when how what why who where your can will would should could does did between there "
    "these those its into than also each other about my he she his our us write give find prove "
    "explain show following in on but all any some such only most more up out were been being "
    "because after before while please using use let make".split()
)
# Function words of German, French, Spanish, Italian, Portuguese, Dutch, Swedish, Indonesian,
# Polish, Czech, Finnish, Turkish and Vietnamese, without accents as the tokenizer removes them.
# English words and single letters are left out.
_OTHER: Final = frozenset(
    "der das und ist nicht ein eine einer einem einen mit von zu auf den des wie wir ich sie sich "
    "auch oder bei aus wenn wird werden dass jede jeder zur zum durch uber nach kann "
    "le la les et est une que qui dans pour pas sur avec cette au aux du de je vous nous il "
    "elle ou sont quelle sa ses "
    "el los las en un por para con su al del lo pero sus este porque esta cual cada todo "
    "gli di che della dei nel anche ogni questo quale "
    "os um uma nao em da dos das ao sua seu qual "
    "het een ik te dat niet zijn aan voor er maar om ook uit hoe elk deze welke heeft wordt naar "
    "och att det som pa av med inte ett har jag sig vi kan hur eller varje flera "
    "yang dan dengan untuk dari ini itu pada adalah dalam tidak akan setiap atau apa saya juga "
    "nie jest jak od przez dla czy oraz ze se je pro ve jako jsou nebo "
    "ja ei etta joka bir ve bu icin ile cok daha va cua cac cho khong mot trong duoc voi nhung"
    .split()
)  # fmt: skip

_GAP: Final = frozenset("…\n")  # where `features.clip` cut a text
_WORD: Final = re.compile(r"\w+")
_ENCODED: Final = re.compile(rf"(?=.*[0-9])[A-Za-z0-9+/=_-]{{{ENCODED_CHARS},}}")
_MASH: Final = re.compile(r"[bcdfghjklmnpqrstvwxz]{5}|asdf|qwer|zxcv|hjkl|sdfg|dfgh|fghj|uiop")

# Bits of a piece of the vocabulary.
_START, _LETTERS, _SINGLE, _UNK, _PIECE, _IS_ENGLISH, _IS_OTHER = (1 << i for i in range(7))
_CONTINUES: Final = 1 << 7
_BITS: Final = np.array([[kind >> bit & 1 for bit in range(7)] for kind in range(256)])
# Classes of a character, and their letters' worth in halves of a Latin letter: abugidas and abjads
# leave vowels out, and a Chinese character is about two thirds of a word.
_DIGIT, _LATIN, _ACCENTED, _ALPHABET, _ABJAD, _KANA, _HANGUL, _HAN = range(1, 9)
_HALVES: Final = np.array([0, 0, 2, 2, 2, 3, 3, 4, 8])
# First and last character, class of its letters. The rest are alphabets. The letterlike symbols
# (ℝ) are counted as Latin.
_BLOCKS: Final = (
    (0x0000, 0x007F, _LATIN),
    (0x0080, 0x024F, _ACCENTED),
    (0x0590, 0x109F, _ABJAD),  # Hebrew, Arabic, the scripts of India, Thai, Lao, Tibetan, Burmese
    (0x1200, 0x139F, _KANA),  # Ethiopic, a syllabary, too
    (0x1780, 0x17FF, _ABJAD),  # Khmer
    (0x1E00, 0x1EFF, _ACCENTED),
    (0x2100, 0x214F, _ACCENTED),
    (0x3040, 0x30FF, _KANA),
    (0x3400, 0x9FFF, _HAN),
    (0xAC00, 0xD7FF, _HANGUL),
    (0xF900, 0xFAFF, _HAN),
    (0xFB1D, 0xFDFF, _ABJAD),
    (0xFE70, 0xFEFF, _ABJAD),
)


class Unreadable(NamedTuple):
    """Why the score of a text says nothing.

    Attributes:
        signal: what was detected: `empty` (no letter or digit), `word` (a single word), `noise`
            (base64, keyboard mash, one word repeated), `script` (letters outside Latin), `unknown`
            ([UNK]), `letters` (single letters), `pieces` (words in fragments) or `language`
            (function words or accents of another language).
        is_short: whether nothing is to be answered in it that could go wrong: empty, a word,
            noise, or no longer than a greeting.
    """

    signal: Signal
    is_short: bool


class Measures(NamedTuple):
    """What is known of a text. All but the counts are shares."""

    letters: float  # as Latin letters
    digits: int
    outside_latin: float
    accented: float
    pieces: int = 0
    unknown: float = 0.0
    single: float = 0.0
    words: int = 0
    pieces_per_word: float = 0.0
    english: float = 0.0
    other: float = 0.0
    other_words: int = 0
    symbols: float = 0.0


class Domain:
    """The texts that a model with this vocabulary can judge.

    Args:
        vocabulary: the WordPiece tokenizer's pieces and their IDs; none for rules without pieces.
    """

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        self._kinds = np.zeros(max(vocabulary.values(), default=-1) + 1, dtype=np.uint8)
        for piece, number in vocabulary.items():
            self._kinds[number] = _kind_of(piece)

    def reason_unreadable(
        self, text: str, ids: Sequence[int] | npt.NDArray[np.int64] = ()
    ) -> Unreadable | None:
        """Why the model cannot judge a text, or None. Takes less than 100 µs.

        Args:
            text: the clipped routing text.
            ids: its pieces, with or without the special ones; fewer signals without pieces.
        """
        measures = self.measure(text, ids)
        signal = _signal(text, measures)
        if signal is None:
            return None
        is_short = signal in ("empty", "word", "noise") or measures.letters <= SHORT_LETTERS
        return Unreadable(signal, is_short)

    def measure(self, text: str, ids: Sequence[int] | npt.NDArray[np.int64] = ()) -> Measures:
        """The measures that the limits apply to."""
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        counts = np.bincount(_class_table().take(points, mode="clip"), minlength=len(_HALVES))
        _, _, plain, accented, *others = (counts * _HALVES).tolist()
        latin = plain + accented
        letters = latin + sum(others)
        measures = Measures(
            letters / 2,
            int(counts[_DIGIT]),
            (letters - latin) / max(1, letters),
            accented / max(1, latin),
        )
        if not len(ids) or not len(self._kinds):
            return measures
        kinds = self._kinds[ids]
        ends = np.ones(len(kinds), dtype=bool)  # whether the next piece begins another word
        ends[:-1] = (kinds[1:] & _CONTINUES) == 0
        starts, letter_pieces, single, unknown, pieces, *_ = _count_bits(kinds)
        *_, english, other = _count_bits(kinds[ends])
        words, total = max(1, starts), max(1, pieces)
        return measures._replace(
            pieces=pieces,
            unknown=unknown / total,
            single=single / total,
            words=starts,
            pieces_per_word=(letter_pieces + unknown) / words,
            english=english / words,
            other=other / words,
            other_words=other,
            symbols=(pieces - letter_pieces - unknown) / total,
        )


def _count_bits(kinds: npt.NDArray[np.uint8]) -> list[int]:
    """How many of the pieces have each bit."""
    counted: list[int] = (np.bincount(kinds, minlength=256) @ _BITS).tolist()
    return counted


def signals(text: str, measures: Measures) -> list[Signal]:
    """All that is detected, in the order of precedence."""
    found: list[Signal] = []
    if not measures.letters and not measures.digits and not any(map(str.isalnum, text)):
        return ["empty"]
    if _is_noise(text, measures):
        found.append("noise")
    elif _is_word(text, measures):
        found.append("word")
    if measures.outside_latin > MAX_OUTSIDE_LATIN:
        found.append("script")
    if measures.unknown > MAX_UNKNOWN:
        found.append("unknown")
    if measures.single > MAX_SINGLE_LETTERS and measures.words >= MIN_WORDS:
        found.append("letters")
    if (
        measures.pieces_per_word > MAX_PIECES_PER_WORD
        and measures.english < MIN_ENGLISH_WORDS
        and measures.symbols < MAX_SYMBOLS
        and measures.words >= MIN_WORDS
    ):
        found.append("pieces")
    has_other_words = (
        measures.other > MIN_OTHER_WORDS
        and measures.other > measures.english
        and measures.other_words >= 2
    )
    if has_other_words or measures.accented > MAX_ACCENTED:
        found.append("language")
    return found


def _signal(text: str, measures: Measures) -> Signal | None:
    return next(iter(signals(text, measures)), None)


def _is_word(text: str, measures: Measures) -> bool:
    return measures.letters <= SHORT_LETTERS and len(text) < 100 and len(_WORD.findall(text)) == 1


def _is_noise(text: str, measures: Measures) -> bool:
    """One word or character repeated, encoded data, or keyboard mash."""
    words = text.split()
    is_repeated = words[0] == words[-1] and len(set(words) - _GAP) == 1
    if is_repeated and (len(words) > 2 or (len(text) > 3 and len(set(text) - _GAP) == 1)):
        return True
    if measures.outside_latin or measures.english:
        return False
    is_unknown = measures.unknown > MAX_UNKNOWN  # a very long word is one [UNK]
    if measures.pieces_per_word < NOISE_PIECES_PER_WORD and measures.pieces and not is_unknown:
        return False
    words = words[:NOISE_WORDS]
    limit = NOISE_SHARE * sum(map(len, words))
    if sum(len(word) for word in words if _ENCODED.fullmatch(word)) >= limit:
        return True
    return sum(len(word) for word in words if _MASH.search(word.lower())) >= limit


def _kind_of(piece: str) -> int:
    if piece in ("[CLS]", "[SEP]", "[PAD]", "[MASK]"):
        return 0
    if piece == "[UNK]":
        return _PIECE | _UNK | _START
    continues = piece.startswith("##")
    letters = piece[2:] if continues else piece
    kind = _PIECE | (_CONTINUES if continues else 0)
    if not letters.isalpha():
        return kind
    kind |= _LETTERS | (0 if continues else _START) | (_SINGLE if len(letters) == 1 else 0)
    return kind | (_IS_ENGLISH if piece in _ENGLISH else _IS_OTHER if piece in _OTHER else 0)


@functools.cache  # takes 20 ms
def _class_table() -> npt.NDArray[np.uint8]:
    """The class of every character of the basic plane; the others count as its last, as none."""
    characters = "".join(map(chr, range(0x10000)))
    table = np.full(0x10000, _ALPHABET, dtype=np.uint8)
    for first, last, script in _BLOCKS:
        table[first : last + 1] = script
    is_letter = np.fromiter(map(str.isalpha, characters), dtype=bool)
    is_digit = np.fromiter(map(str.isalnum, characters), dtype=bool) & ~is_letter
    table[~is_letter] = 0
    table[is_digit] = _DIGIT
    return table
