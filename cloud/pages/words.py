"""The words of the pages: one catalogue for each language, keys in English, nothing translated in code.

`words/zh.toml` and `words/en.toml` hold the same keys with the same placeholders (a test says so, and that every key
a template asks for exists). A missing key is a bug and raises; only names that come from outside (a third party's
sensor, a rule of a newer pack) may fall back, by asking `named`.
"""

import tomllib
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

__all__ = ["Language", "Words", "words_for"]

_FOLDER = Path(__file__).parent / "words"


class Language(StrEnum):
    """Languages of the pages. Chinese is the default, English is complete and on demand."""

    ZH = "zh"
    EN = "en"

    @classmethod
    def of(cls, *wishes: str | None) -> "Language":
        """The first wish that is a language we speak, else Chinese."""
        spoken = {language.value for language in cls}
        return next((cls(wish) for wish in wishes if wish in spoken), cls.ZH)

    @property
    def tag(self) -> str:
        """BCP 47 tag for the `lang` attribute; it also picks the right CJK glyphs."""
        return "zh-CN" if self is Language.ZH else "en"


class Words:
    """A catalogue in one language. Calling it gives a phrase: `words("age.minutes", n=3)`."""

    def __init__(self, language: Language, phrases: Mapping[str, str]) -> None:
        self.language = language
        self._phrases = phrases

    def __call__(self, key: str, /, **values: Any) -> str:
        """The phrase under `key` with its placeholders filled. Raises `KeyError` for a key nobody wrote."""
        return self._phrases[key].format(**values) if values else self._phrases[key]

    def named(self, section: str, name: str) -> str:
        """The word for a `name` that comes from data, or the name itself where the catalogue has none."""
        return self._phrases.get(f"{section}.{name}", name)

    def keys(self) -> frozenset[str]:
        """Every key of this catalogue."""
        return frozenset(self._phrases)

    def section(self, name: str) -> dict[str, str]:
        """All phrases of one section without its prefix; scripts get theirs this way."""
        start = name + "."
        return {key.removeprefix(start): text for key, text in self._phrases.items() if key.startswith(start)}


@lru_cache
def words_for(language: Language) -> Words:
    """The catalogue of `language`, read once."""
    text = (_FOLDER / f"{language.value}.toml").read_text(encoding="utf-8")
    return Words(language, dict(_flat(tomllib.loads(text))))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found += _flat(value, f"{path}.")
        else:
            found.append((path, str(value)))
    return found
