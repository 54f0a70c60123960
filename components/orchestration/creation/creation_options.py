"""What the options of `gristmill new` mean: --set, --labels, --columns."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

from components.core.errors import ParamsError
from components.core.params import nearest
from components.orchestration.creation.params_writer import sections_of
from components.tasks.base import Setting

# A comma or an equals sign that no backslash precedes.
_COMMA = re.compile(r"(?<!\\),")
_EQUALS = re.compile(r"(?<!\\)=")


def parse_settings(given: Sequence[str], task: str) -> list[Setting]:
    """Return the settings of `--set key=value`; values are YAML.

    Raises:
        ParamsError: no equals sign, no such section, or a value that is not YAML.
    """
    return [_setting(text, task) for text in given]


def _setting(given: str, task: str) -> Setting:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    path, equals, text = given.partition("=")
    path = path.strip()
    if not equals or not path:
        raise ParamsError(
            f"{given!r} is not of the form key=value",
            where="--set",
            remedy="write it as --set train.epochs=3",
        )
    sections = sections_of(task)
    section = path.split(".")[0]
    if section not in sections or (section == path and section != "seed"):
        near, known = nearest(section, sections), ", ".join(sections)
        raise ParamsError(
            f"{path!r} does not begin with a section{near}; there are {known}",
            where="--set",
            remedy="write it as --set train.epochs=3",
        )
    try:
        value = YAML(typ="safe", pure=True).load(io.StringIO(text))
    except YAMLError as error:
        what = f"{path}: {text!r} is not YAML: {str(error).splitlines()[0]}"
        remedy = "quote the value, such as --set 'clean.conflicts=\"drop\"'"
        raise ParamsError(what, where="--set", remedy=remedy) from None
    return Setting(path, value, "")


def label_map(given: str) -> dict[str, str | None]:
    """Return old label -> new label of `Positive=positive,n/a=`; an empty new one is null.

    A comma or an equals sign in a label is written behind a backslash.

    Raises:
        ParamsError: a part has no equals sign, or a label is mapped twice.
    """
    renames: dict[str, str | None] = {}
    for part in _COMMA.split(given):
        if not part.strip():
            continue
        old, *new = _EQUALS.split(part, maxsplit=1)
        old = _unescaped(old)
        if not new or not old or old in renames:
            what = f"{part!r} is not of the form old=new"
            if old in renames:
                what = f"{old!r} is mapped twice"
            remedy = 'write it as --labels "Positive=positive,n/a="; n/a= drops the label'
            raise ParamsError(what, where="--labels", remedy=remedy)
        renames[old] = _unescaped(new[0]) or None
    return renames


def _unescaped(text: str) -> str:
    return re.sub(r"\\([,=])", r"\1", text).strip()


def column_names(given: str | None) -> list[str]:
    """Return the names of `--columns a,b`."""
    if given is None:
        return []
    names = [_unescaped(name) for name in _COMMA.split(given)]
    if not all(names) or len(set(names)) < len(names):
        remedy = "write it as --columns label,text, from left to right"
        raise ParamsError("wants names, each once", where="--columns", remedy=remedy)
    return names
