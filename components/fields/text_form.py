"""Write the characters of texts in one form: width, repeated characters, Chinese characters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from components.core.installed_packages import check_installed
from components.fields.scripts import main_script

# Equal characters that are no digits, one after another.
_RUN = re.compile(r"(\D)\1+")
_KANA = re.compile("[\u3040-\u30ff]")
Width = Literal["half", "keep"]
Chinese = Literal["simplified", "keep"]


@dataclass(frozen=True)
class TextForm:
    """The form of characters, in training and in serving alike.

    Args:
        width: half folds characters of full width and other compatible ones (NFKC). keep leaves
            them, and composes letters with their accents alone (NFC).
        max_repeats: longer runs of a character that is no digit are cut to this length.
        chinese: simplified replaces traditional characters, by phrases where these decide. Texts
            in Japanese stay.
    """

    width: Width = "half"
    max_repeats: int | None = None
    chinese: Chinese = "keep"

    def composed(self, text: str) -> str:
        """Return the text in the form of Unicode of the width."""
        return unicodedata.normalize("NFKC" if self.width == "half" else "NFC", text)

    def rewritten(self, text: str) -> str:
        """Return the text with simplified characters and without long runs, as the form says.

        Raises:
            EnvironmentFault: OpenCC is needed and not installed.
        """
        if self.chinese == "simplified" and not _is_japanese(text):
            text = _simplifier().convert(text)
        if self.max_repeats is not None:
            # A pattern of more than N equal characters would try each run of N anew at each of
            # its characters.
            text = _RUN.sub(lambda run: run[0][: self.max_repeats], text)
        return text

    def check_library(self) -> None:
        """Check that the library that the form needs is installed.

        Raises:
            EnvironmentFault: it is not.
        """
        if self.chinese == "simplified":
            _simplifier()


PLAIN = TextForm()


def form_of(settings: Mapping[str, Any]) -> TextForm:
    """Return the form that the settings of a bundle name; other settings are ignored."""
    names = ("width", "max_repeats", "chinese")
    return TextForm(**{name: settings[name] for name in names if name in settings})


def _is_japanese(text: str) -> bool:
    """Return whether a text is in Japanese, which has kana."""
    return _KANA.search(text) is not None and main_script(text) == "kana"


# Exported folders have a copy of this module, so OpenCC is imported where it is asked for.
@lru_cache(maxsize=1)
def _simplifier() -> Any:
    """Return the converter of this process from traditional to simplified characters.

    Raises:
        EnvironmentFault: OpenCC is not installed.
    """
    check_installed("opencc", "texts", where="clean.chinese")
    from opencc import OpenCC

    return OpenCC("t2s")
