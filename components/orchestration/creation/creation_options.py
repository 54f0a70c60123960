"""Parse the options of `gristmill new`: --set, --labels and --columns."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

from components.core.errors import ParamsError
from components.core.params import nearest
from components.orchestration.creation.params_writer import sections_of
from components.tasks.base import Setting

# Option with new names of targets.
RENAMES = "--labels"
# A comma or an equals sign that no backslash precedes.
_COMMA = re.compile(r"(?<!\\),")
_EQUALS = re.compile(r"(?<!\\)=")


def parse_settings(options: Sequence[str], task: str) -> list[Setting]:
    """Return the settings of `--set key=value`; values are YAML.

    Args:
        options: of the form key=value.
        task: its id.

    Raises:
        ParamsError: no equals sign, no such section, or a value that is not YAML.
    """
    return [_setting(option, task) for option in options]


def _setting(option: str, task: str) -> Setting:
    path, equals, text = option.partition("=")
    path = path.strip()
    if not equals or not path:
        raise ParamsError(
            f"{option!r} is not of the form key=value",
            where="--set",
            remedy="write it as --set train.epochs=3",
        )
    _check_section(path, task)
    return Setting(path, _parse_value(path, text), "")


def _check_section(path: str, task: str) -> None:
    """Raise a ParamsError unless a path begins with a section."""
    sections = sections_of(task)
    section = path.split(".")[0]
    is_whole_section = section == path and section != "seed"
    if section not in sections or is_whole_section:
        near = nearest(section, sections)
        names = ", ".join(sections)
        raise ParamsError(
            f"{path!r} does not begin with a section{near}; there are {names}",
            where="--set",
            remedy="write it as --set train.epochs=3",
        )


def _parse_value(path: str, text: str) -> object:
    """Return a value from its YAML.

    Raises:
        ParamsError: it is not YAML.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        value: object = YAML(typ="safe", pure=True).load(io.StringIO(text))
    except YAMLError as error:
        reason = str(error).splitlines()[0]
        raise ParamsError(
            f"{path}: {text!r} is not YAML: {reason}",
            where="--set",
            remedy="quote the value, such as --set 'clean.conflicts=\"drop\"'",
        ) from None
    return value


def target_map(option: str) -> dict[str, str | None]:
    """Return old target -> new target of `Positive=positive,n/a=`; an empty new one is None.

    In a target, a comma or an equals sign follows a backslash.

    Args:
        option: pairs of targets, separated by commas.

    Raises:
        ParamsError: a part has no equals sign, or a target is mapped twice.
    """
    renames: dict[str, str | None] = {}
    for part in _COMMA.split(option):
        if not part.strip():
            continue
        old, *new = _EQUALS.split(part, maxsplit=1)
        old = _unescaped(old)
        if not new or not old or old in renames:
            what = f"{part!r} is not of the form old=new"
            if old in renames:
                what = f"{old!r} is mapped twice"
            remedy = 'write it as --labels "Positive=positive,n/a="; n/a= drops the label'
            raise ParamsError(what, where=RENAMES, remedy=remedy)
        renames[old] = _unescaped(new[0]) or None
    return renames


def _unescaped(text: str) -> str:
    """Return a text without the backslashes before commas and equals signs."""
    return re.sub(r"\\([,=])", r"\1", text).strip()


def column_names(option: str | None) -> list[str]:
    """Return the names of `--columns a,b`.

    Args:
        option: names, separated by commas; None: no names.

    Raises:
        ParamsError: a name is empty or stands twice.
    """
    if option is None:
        return []
    names = [_unescaped(name) for name in _COMMA.split(option)]
    if not all(names) or len(set(names)) < len(names):
        remedy = "write it as --columns label,text, from left to right"
        raise ParamsError("wants names, each once", where="--columns", remedy=remedy)
    return names
