"""Row "useful tokens per computed token on the reviews".

Whole epochs in the batches of train, for one and for two workers. Needs data/tokens of the default
pipeline (dvc repro tokenize).

python benchmarks/useful_tokens.py
"""

from __future__ import annotations

from pathlib import Path

import torch

from components.training.batches import EncodedRows, load_encoder, plan
from components.training.throughput import Throughput

TOKENS = Path(__file__).resolve().parent.parent / "data/tokens"


# Name of a layout -> whether it is packed.
LAYOUTS = {
    "packed (ngrams, transformer)": True,
    "padded, rows of like length together (textcnn, recurrent)": False,
}


def useful_share(rows: EncodedRows, packed: bool, workers: int) -> float:
    """Return the share of useful tokens over three epochs."""
    throughput = Throughput(torch.device("cpu"))
    for epoch in range(3):
        for batch in plan(rows.lengths, 64, 7, epoch):
            for rank in range(workers):
                share = batch[rank::workers]
                useful = int(rows.lengths[share].sum())
                throughput.count([rows.batch(share, packed)], useful)
    return throughput.read()["useful_share"]


def main() -> None:
    """Print a row for each layout and number of workers."""
    rows = EncodedRows(TOKENS, "train", load_encoder(TOKENS, "text_classification"))
    for name, packed in LAYOUTS.items():
        for workers in (1, 2):
            share = useful_share(rows, packed, workers)
            print(f"| {name} | {workers} worker(s) | {share:.2%} |")


if __name__ == "__main__":
    main()
