"""Cut a pretrained encoder's vocabulary to the tokens that some texts need.

A multilingual encoder has most of its weights in the embeddings of tokens that no text of a
project has. The tokens of the given texts stay as they are. Single characters stay too, so that
another text has no more unknown characters than before: it is divided into more tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.errors import InputError
from components.core.files import copy, to_json, write_atomic
from components.core.pretrained_files import CONFIG, TOKENIZER

if TYPE_CHECKING:
    import torch

_EMBEDDING = "word_embeddings.weight"
_INDEX = "model.safetensors.index.json"
_TEXTS_AT_ONCE = 1000


def write_cut(files: Mapping[str, Path], texts: Iterable[str], folder: Path) -> dict[str, Path]:
    """Write an encoder with the tokens that texts need.

    Args:
        files: config.json, tokenizer.json and weights, by name.
        texts: whose token ids stand for the same tokens as before.
        folder: that the files are written to.

    Returns:
        The new files by name.

    Raises:
        InputError: the tokenizer or the names of the weights are of another kind.
    """
    content = json.loads(files[TOKENIZER].read_text(encoding="utf-8"))
    kept = _kept(content, texts, files[TOKENIZER])
    new_ids = {old: new for new, old in enumerate(kept)}
    config = json.loads(files[CONFIG].read_text(encoding="utf-8"))
    _write_weights(files, config["vocab_size"], kept, folder)
    config["vocab_size"] = len(kept)
    for name, value in config.items():
        if name.endswith("_token_id") and isinstance(value, int):
            config[name] = new_ids.get(value)
    write_atomic(folder / CONFIG, to_json(config))
    write_atomic(folder / TOKENIZER, json.dumps(_renumbered(content, new_ids), ensure_ascii=False))
    return {name: folder / name for name in files}


def _kept(content: Mapping[str, Any], texts: Iterable[str], path: Path) -> list[int]:
    """Return the ids that stay, in order.

    Args:
        content: of tokenizer.json.
        texts: whose tokens stay.
        path: of tokenizer.json, for messages.

    Raises:
        InputError: its model is not one in which each token stands for itself.
    """
    model = content["model"]
    ids = {token["id"] for token in content["added_tokens"]}
    if model["type"] == "Unigram":
        scored = model["vocab"]
        ids.update(number for number, (piece, _) in enumerate(scored) if _is_single(piece))
        ids.add(model["unk_id"])
        # An unknown character costs more than the least likely piece, so that piece stays.
        ids.add(min(range(len(scored)), key=lambda number: scored[number][1]))
    elif model["type"] == "WordPiece":
        prefix = model["continuing_subword_prefix"]
        for token, number in model["vocab"].items():
            if _is_single(token.removeprefix(prefix)):
                ids.add(number)
        ids.add(model["vocab"][model["unk_token"]])
    else:
        raise InputError(
            f"the model {model['type']} of the tokenizer cannot be cut",
            where=str(path),
            remedy="set tokenize.pretrained_vocabulary to all",
        )
    ids.update(_ids(path, texts))
    return sorted(ids)


def _is_single(piece: str) -> bool:
    """Return whether a piece is one character, or one byte such as <0x0A>."""
    return len(piece) == 1 or (len(piece) == 6 and piece.startswith("<0x"))


def _ids(path: Path, texts: Iterable[str]) -> Iterator[int]:
    """Yield the token ids of texts, which are not cut."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    batch = []
    for text in texts:
        batch.append(text)
        if len(batch) == _TEXTS_AT_ONCE:
            yield from _ids_of_batch(tokenizer, batch)
            batch = []
    yield from _ids_of_batch(tokenizer, batch)


def _ids_of_batch(tokenizer: Any, texts: Sequence[str]) -> Iterator[int]:
    for encoding in tokenizer.encode_batch_fast(texts):
        yield from encoding.ids


def _renumbered(content: Mapping[str, Any], new_ids: Mapping[int, int]) -> dict[str, Any]:
    """Return the content of tokenizer.json with other ids.

    Args:
        content: as it was read.
        new_ids: old id -> new id, for the tokens that stay.
    """
    result = dict(content)
    model = dict(content["model"])
    if model["type"] == "Unigram":
        # Added tokens may have ids behind those of the pieces.
        scored = model["vocab"]
        model["vocab"] = [scored[old] for old in new_ids if old < len(scored)]
        model["unk_id"] = new_ids[model["unk_id"]]
    else:
        model["vocab"] = {
            token: new_ids[old] for token, old in model["vocab"].items() if old in new_ids
        }
    result["model"] = model
    result["added_tokens"] = [
        token | {"id": new_ids[token["id"]]} for token in content["added_tokens"]
    ]
    result["post_processor"] = _renumbered_frame(content["post_processor"], new_ids)
    result["truncation"] = None
    result["padding"] = None
    return result


def _renumbered_frame(part: Any, new_ids: Mapping[int, int]) -> Any:
    """Return a post-processor with other ids.

    They are in `ids` and `id`, or in pairs such as ["[SEP]", 102].
    """
    if isinstance(part, list):
        if len(part) == 2 and isinstance(part[0], str) and type(part[1]) is int:
            return [part[0], new_ids[part[1]]]
        return [_renumbered_frame(item, new_ids) for item in part]
    if not isinstance(part, dict):
        return part
    result = {}
    for name, value in part.items():
        result[name] = _renumbered_frame(value, new_ids)
        if name == "ids":
            result[name] = [new_ids[number] for number in value]
    return result


def _write_weights(files: Mapping[str, Path], rows: int, kept: Sequence[int], folder: Path) -> None:
    """Write the files of weights: the embedding has fewer rows, the rest is as it was.

    Args:
        files: of the encoder, by name.
        rows: of the embedding before.
        kept: rows that stay.
        folder: that the files are written to.

    Raises:
        InputError: no weight is the embedding of the tokens.
    """
    from safetensors.torch import load_file, save

    if kept[-1] >= rows:
        raise InputError(
            f"has token {kept[-1]:,}, and the encoder has {rows:,} embeddings",
            where=str(files[TOKENIZER]),
            remedy="take a folder whose tokenizer.json and weights belong together",
        )
    cut = 0
    for name, path in files.items():
        if name in (CONFIG, TOKENIZER):
            continue
        if name == _INDEX:
            copy(path, folder / name)
            continue
        weights: dict[str, torch.Tensor] = load_file(path)
        for key, weight in weights.items():
            if key.endswith(_EMBEDDING) and len(weight) == rows:
                weights[key] = weight[list(kept)]
                cut += 1
        write_atomic(folder / name, save(weights, {"format": "pt"}))
    if cut != 1:
        raise InputError(
            f"has {cut} weights named {_EMBEDDING} with {rows:,} rows, not one",
            where=str(files[CONFIG].parent),
            remedy="set tokenize.pretrained_vocabulary to all",
        )
