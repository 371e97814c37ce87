"""The language of a text by py3langid, offline. Only rules with a `language` need it.

    language_of("Bitte übersetze diesen Satz ins Englische.")    # "de"

The model knows 139 languages. Loading it takes about a second and 100 MB, so call `load` in a
thread first. A text takes 0.1 to 1 ms.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

# The ISO 639-1 codes that the model knows. The three-letter codes of others are not offered.
LANGUAGES: Final = frozenset(
    (
        "af am an ar as az ba be bg bn br bs ca cs cy da de dz el en eo es et eu fa fi fo fr "
        "fy ga gd gl gu ha he hi hr ht hu hy id ig is it ja jv ka kk km kn ko ku ky la lb lg "
        "ln lo lt lv mg mk ml mn mr ms mt my ne nl nn no oc om or pa pl ps pt qu ro ru rw sa "
        "se si sk sl sn so sq sr st sv sw ta te tg th tk tl tr tt ug uk ur uz vi vo wa xh yo "
        "zh zu"
    ).split()
)

# Languages with a code of their own that readers of such codes expect under the wider one.
_WIDER: Final = {"yue": "zh", "wuu": "zh", "arz": "ar", "ary": "ar"}

# "Hello" and "ok" are in no language in particular. Bytes, because a Chinese character says more
# than a Latin letter.
_MIN_LETTER_BYTES: Final = 12
_MIN_PROBABILITY: Final = 0.3


@lru_cache(maxsize=1)
def load() -> "LanguageIdentifier":
    """Load the model, once. Blocks."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def is_loaded() -> bool:
    """Whether the model is loaded."""
    return load.cache_info().currsize > 0


def language_of(text: str) -> str | None:
    """The ISO 639-1 code of a text's language; None for a text that is too short or unclear."""
    letters = "".join(filter(str.isalpha, text))
    if len(letters.encode(errors="replace")) < _MIN_LETTER_BYTES:
        return None
    language, probability = load().classify(text)
    language = _WIDER.get(language, language)
    return language if probability >= _MIN_PROBABILITY and language in LANGUAGES else None
