"""Row "useful tokens per computed token on the reviews": over whole epochs as train cuts them, for one and for two workers.

python benchmarks/useful_tokens.py        # needs data/tokens of the default pipeline (dvc repro tokenize)
"""

from __future__ import annotations

from pathlib import Path

import torch

from components.training.batches import EncodedRows, load_encoder, plan
from components.training.throughput import Throughput

TOKENS = Path(__file__).resolve().parent.parent / "data/tokens"


def main() -> None:
    """Print a row per way of laying rows out."""
    rows = EncodedRows(TOKENS, "train", load_encoder(TOKENS, "text_classification"))
    for name, packed in (
        ("packed (ngrams, transformer)", True),
        ("padded, rows of like length together (textcnn, recurrent)", False),
    ):
        for workers in (1, 2):
            meter = Throughput(torch.device("cpu"))
            for epoch in range(3):
                for batch in plan(rows.lengths, 64, 7, epoch):
                    for rank in range(workers):
                        share = batch[rank::workers]
                        meter.count([rows.batch(share, packed)], int(rows.lengths[share].sum()))
            print(f"| {name} | {workers} worker(s) | {meter.read()['useful_share']:.2%} |")


if __name__ == "__main__":
    main()
