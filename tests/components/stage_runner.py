"""A tiny line of stages for tests: hand-made raw rows, then clean, augment and tokenize called as the pipeline calls them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image as Pillow
from pydantic import BaseModel

from components.core.job import Job
from components.core.pretrained_files import digest, files_of
from components.core.tables import read_manifest, read_table, write_table
from components.orchestration.pipeline_params import section_model
from components.stages.augment import stage as augment
from components.stages.clean import stage as clean
from components.stages.tokenize import stage as tokenize
from components.tasks import base
from components.training.fit_config import FitConfig
from components.training.params import FitParams

TEXT, IMAGE = "text_classification", "image_classification"
TINY: Mapping[str, Mapping[str, Any]] = {
    "ngrams": {"n": 2, "buckets": 500, "width": 128, "dropout": 0.1},
    "counted": {
        "rows": 4000,
        "dropout": 0.1,
        "textcnn": {"width": 16, "channels": 8, "kernels": [1, 2], "dropout": 0.1},
    },
    "recurrent": {"cell": "gru", "width": 48, "hidden": 32, "attention": 16, "dropout": 0.1},
    "textcnn": {"width": 32, "channels": 16, "kernels": [1, 2, 3], "dropout": 0.2},
    "transformer": {"width": 16, "layers": 2, "heads": 4, "feedforward": 24, "dropout": 0.1},
    "pretrained": {"way": "full", "layer_decay": 0.8},
    "convnet": {"channels": [8, 12], "hidden": 16, "dropout": 0.1},
}
_CHINESE = {
    "": "酒店 房间 早餐 前台 大堂 电梯 窗户 空调 地毯 毛巾 位置 车站 机场 晚上 早上 朋友 孩子 价格 这本 作者 故事 情节 封面 纸张 包装 快递 屏幕 键盘 电池 声音 系统 手机 电脑 相机 颜色 尺寸",
    "差评": "失望 糟糕 难看 破旧 吵闹 肮脏 太差 后悔 无聊 麻烦",
    "好评": "满意 舒服 漂亮 干净 安静 喜欢 精彩 方便 热情 推荐",
}
_ENGLISH = {
    "": "the hotel room breakfast lobby window carpet towel station airport evening morning friend child price book author story cover paper parcel screen keyboard battery sound system phone camera",
    "差评": "disappointing awful ugly shabby noisy dirty terrible boring broken rude",
    "好评": "satisfying comfortable beautiful clean quiet lovely exciting handy friendly splendid",
}


def sentences(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of text and label, half Chinese, half English, none like another; the label can be learned from them."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        label = ("差评", "好评")[number % 2]
        words, glue = (_CHINESE, "") if number % 4 < 2 else (_ENGLISH, " ")
        picked = [
            *rng.choice(words[""].split(), int(rng.integers(4, 12)), replace=False),
            *rng.choice(words[label].split(), int(rng.integers(1, 4)), replace=False),
        ]
        rows.append({"text": glue.join(rng.permutation(picked)), "label": label})
    return rows


def lend(folder: Path) -> str:
    """Write a tiny random BERT of 2 layers of 32 and its tokenizer, as transformers would; returns the digest of its files."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    words = " ".join([*_CHINESE.values(), *_ENGLISH.values()]).split()
    pieces = dict.fromkeys(
        [
            "[PAD]",
            "[UNK]",
            "[CLS]",
            "[SEP]",
            "[MASK]",
            *"".join(_CHINESE.values()).replace(" ", ""),
            *words,
        ]
    )
    tokenizer = Tokenizer(
        models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.enable_padding(
        length=64
    )  # as sentence-transformers saves them: the encoder of the task must not pad
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
        "initializer_range": 0.2,
    }
    BertModel(BertConfig(vocab_size=len(pieces), **sizes)).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return digest(files_of(str(folder), folder))


def png(pixels: Any, kind: str = "PNG") -> bytes:
    """Pixels (height, width[, 3]) uint8 as picture bytes."""
    stream = io.BytesIO()
    Pillow.fromarray(np.asarray(pixels)).save(stream, kind)
    return stream.getvalue()


def pictures(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of image (8 x 8) and label: a bright bar that stands or lies, over noise."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        pixels = rng.integers(0, 120, (8, 8))
        at = int(rng.integers(1, 7))
        pixels[(slice(None), at) if number % 2 else (at, slice(None))] += 130
        rows.append(
            {"image": png(pixels.astype(np.uint8)), "label": ("lies", "stands")[number % 2]}
        )
    return rows


@dataclass
class StageRunner:
    """The folders and sections of one line."""

    root: Path
    task: str
    sections: dict[str, BaseModel]
    seed: int = 7

    @classmethod
    def make(
        cls,
        root: Path,
        rows: Sequence[Mapping[str, Any]],
        task: str = TEXT,
        seed: int = 7,
        **params: Mapping[str, Any],
    ) -> StageRunner:
        """Write `rows` as ingest would (id, origin, group and split are filled in) and validate `params`."""
        inputs = (
            [("text", pa.string()), ("title", pa.string())]
            if task == TEXT
            else [("image", pa.binary())]
        )
        full = [
            {"id": f"r{i:05d}", "origin": f"made.csv:{i + 2}", "group": None, "split": None, **row}
            for i, row in enumerate(rows)
        ]
        schema = pa.schema(
            [
                ("id", pa.string()),
                ("origin", pa.string()),
                *inputs,
                ("label", pa.string()),
                ("split", pa.string()),
                ("group", pa.string()),
            ]
        )
        write_table(root / "raw", {"rows": pa.Table.from_pylist(full, schema=schema)})
        stages = ("clean", "augment", "tokenize", "train")
        return cls(
            root,
            task,
            {
                stage: section_model(stage, task).model_validate(params.get(stage, {}))
                for stage in stages
            },
            seed,
        )

    def job(
        self,
        stage: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        params: BaseModel | None = None,
    ) -> Job:
        """A job that reads and writes below the root; outputs `report` and the like become files of that name."""
        return Job(
            stage,
            self.task,
            self.seed,
            self.root,
            params or self.sections[stage],
            self.sections,
            {name: self.root / name for name in inputs},
            {name: self.root / (f"{stage}.json" if name == "report" else name) for name in outputs},
            self.root / ".state" / stage,
            {"params_hash": "0" * 64, "pipeline": "test"},
        )

    def clean(self) -> StageRunner:
        """Run clean."""
        clean.run(self.job("clean", ["raw"], ["clean", "audit", "report"]))
        return self

    def augment(self) -> StageRunner:
        """Run augment."""
        augment.run(self.job("augment", ["clean"], ["augmented", "report"]))
        return self

    def tokenize(self) -> StageRunner:
        """Run tokenize."""
        tokenize.run(self.job("tokenize", ["clean", "augmented"], ["tokens", "report"]))
        return self

    def all(self) -> StageRunner:
        """Run the three."""
        return self.clean().augment().tokenize()

    def rows(self, table: str, part: str | None = None) -> list[dict[str, Any]]:
        """The rows of a table, or of one part."""
        return list(read_table(self.root / table, part).to_pylist())

    def manifest(self, table: str = "clean") -> dict[str, Any]:
        """The manifest of a table."""
        return read_manifest(self.root / table)

    def spec(
        self,
        state: Path,
        architecture: str = "textcnn",
        config: Mapping[str, Any] | None = None,
        **knobs: Any,
    ) -> FitConfig:
        """A fit of a tiny network on one worker."""
        model = base.models(self.task).loss_params
        loss = set(model.model_fields)
        loss_params = model(**{name: value for name, value in knobs.items() if name in loss})
        fit = FitParams(
            **(
                {
                    "workers": 1,
                    "epochs": 1,
                    "batch_size": 32,
                    "learning_rate": 5e-3,
                    "checkpoint_steps": 3,
                }
                | {name: value for name, value in knobs.items() if name not in loss}
            )
        )
        online = self.sections["augment"].online.model_dump()  # type: ignore[attr-defined]
        return FitConfig(
            self.task,
            self.root / "tokens",
            architecture,
            {**TINY[architecture], **(config or {})},
            fit,
            online,
            self.seed,
            state,
            loss_params=loss_params,
        )
