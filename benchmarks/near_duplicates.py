"""Near-duplicates among texts: what is found, and the CPU time, beside other tools.

    pip install datasketch rensa datasets xxhash && pip install --no-deps text-dedup
    python benchmarks/near_duplicates.py [--rows 20000] [--rounds 5]

The rows are made of clauses of real reviews (see data_stages.py), of at least 40 characters. A
fifth of them are copies of others in which one to three characters were replaced or left out. The
oracle is exact: the Jaccard similarity of all pairs, over the different 3-grams of characters. A
row is a near-duplicate if another one is similar by 0.8 or more.

Each tool gets the same texts and 128 hashes, and is used as its own pages show. Case, width and
punctuation are folded before, so that all tools see the same 3-grams. What counts is the CPU time
of the process, which other processes change little. The tools take turns, each in one thread.
text-dedup divides texts at spaces, so it gets characters between spaces.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.data_stages import reviews
from benchmarks.processor import processor_name
from components.fields.text import Text, comparable
from components.stages.clean.duplicates import UnionFind, lsh_pairs

THRESHOLD = 0.8
HASHES = 128
SHORTEST = 40
COPIES = 0.2
LETTERS = "的一是了我不人在他有这个上们来到时大地为子中你说生国年着就那和要她出也"


def texts(rows: int) -> list[str]:
    """Return folded texts, some of which are copies of others with small changes."""
    rng = random.Random(11)
    originals = comparable([text for text, _ in reviews(rows * 3)])
    letters = ("".join(filter(str.isalnum, text)) for text in originals)
    chosen = list(dict.fromkeys(text for text in letters if len(text) >= SHORTEST))
    chosen = chosen[: int(rows * (1 - COPIES))]
    copies = [changed(rng.choice(chosen), rng) for _ in range(rows - len(chosen))]
    result = list(dict.fromkeys(chosen + copies))
    rng.shuffle(result)
    return result


def changed(text: str, rng: random.Random) -> str:
    """Return a text in which one to three characters are replaced or left out."""
    letters = list(text)
    for _ in range(rng.randint(1, 3)):
        position = rng.randrange(len(letters))
        letters[position] = rng.choice(["", rng.choice(LETTERS)])
    return "".join(letters)


def shingles(text: str) -> set[str]:
    """Return the different 3-grams of characters."""
    return {text[start : start + 3] for start in range(max(1, len(text) - 2))}


def encoded_shingles(text: str) -> list[bytes]:
    """Return the different 3-grams of characters as bytes."""
    return [gram.encode() for gram in shingles(text)]


def oracle(values: Sequence[str]) -> set[int]:
    """Return the rows that are similar to another one, by comparing all pairs."""
    numbers: dict[str, int] = {}
    indices: list[int] = []
    ends = [0]
    for value in values:
        indices += [numbers.setdefault(gram, len(numbers)) for gram in shingles(value)]
        ends.append(len(indices))
    ones = np.ones(len(indices), np.int32)
    grams = scipy.sparse.csr_matrix((ones, indices, ends), shape=(len(values), len(numbers)))
    sizes = np.diff(ends)
    similar: set[int] = set()
    for start in range(0, len(values), 500):
        shared = (grams[start : start + 500] @ grams.T).tocoo()
        one = shared.row + start
        other = shared.col
        jaccard = shared.data / (sizes[one] + sizes[other] - shared.data)
        matches = (jaccard >= THRESHOLD) & (one != other)
        similar |= set(one[matches].tolist())
    return similar


class Comparison:
    """Comparison of texts, as clean does it."""

    def __init__(self, values: Sequence[str]) -> None:
        self.values = values
        self.results: dict[tuple[int, int], bool] = {}

    def compare(self, column: str, pairs: Sequence[tuple[int, int]]) -> None:  # noqa: ARG002
        """Compare pairs."""
        rows, positions = np.unique(np.array(pairs), return_inverse=True)
        chosen = [self.values[row] for row in rows.tolist()]
        similar = (
            Text().similarities(
                chosen, list(zip(*positions.reshape(-1, 2).T.tolist(), strict=True))
            )
            >= THRESHOLD
        )
        self.results |= dict(zip(pairs, similar.tolist(), strict=True))

    def is_similar(self, column: str, one: int, other: int) -> bool | None:  # noqa: ARG002
        """Return whether two texts are similar; None: they were not compared."""
        return self.results.get((one, other))


def gristmill(values: Sequence[str]) -> set[int]:
    """Return the rows that share a cluster with another one."""
    bands = Text().lsh_bands(values)
    assert bands is not None
    clusters = UnionFind(len(values))
    lsh_pairs({"text": (np.arange(len(values)), bands.T)}, Comparison(values), clusters)
    roots = clusters.roots()
    return set(np.flatnonzero(np.bincount(roots)[roots] > 1).tolist())


def datasketch(values: Sequence[str]) -> set[int]:
    """Return the rows for which the index has another one, with a signature at a time."""
    from datasketch import MinHash

    signatures = []
    for value in values:
        signature = MinHash(num_perm=HASHES)
        for gram in encoded_shingles(value):
            signature.update(gram)
        signatures.append(signature)
    return _indexed(signatures)


def datasketch_bulk(values: Sequence[str]) -> set[int]:
    """Return the rows for which the index has another one, with all signatures in one call."""
    from datasketch import MinHash

    tokens = [encoded_shingles(value) for value in values]
    return _indexed(MinHash.bulk(tokens, num_perm=HASHES))


def _indexed(signatures: Sequence[Any]) -> set[int]:
    """Return the rows for which an index of signatures has another one."""
    from datasketch import MinHashLSH

    index = MinHashLSH(threshold=THRESHOLD, num_perm=HASHES)
    for row, signature in enumerate(signatures):
        index.insert(row, signature, check_duplication=False)
    return {row for row, signature in enumerate(signatures) if len(index.query(signature)) > 1}


def rensa(values: Sequence[str]) -> set[int]:
    """Return the rows that share a band with another one, by its matrices in Rust."""
    from rensa import RMinHash, RMinHashLSH

    matrix = RMinHash.digest_matrix_from_token_sets(map(shingles, values), HASHES, 42)
    index = RMinHashLSH(THRESHOLD, HASHES, 32)
    return set(np.flatnonzero(index.query_duplicate_flags_matrix_one_shot(matrix)).tolist())


def text_dedup(values: Sequence[str]) -> set[int]:
    """Return the rows that share a band with another one."""
    from text_dedup import minhash
    from text_dedup.utils import optimal_param, xxh3_32hash

    band_count, rows = optimal_param(THRESHOLD, HASHES, 0.5, 0.5)
    prime = np.uint32((1 << 32) - 5)
    rng = np.random.RandomState(42)
    permutations = (
        rng.randint(1, prime, size=HASHES, dtype=np.uint32),
        rng.randint(0, prime, size=HASHES, dtype=np.uint32),
    )
    ranges = [(band * rows, (band + 1) * rows) for band in range(band_count)]
    tables: list[dict[bytes, list[int]]] = [{} for _ in ranges]
    for row, value in enumerate(values):
        signature = minhash.embed_func(
            " ".join(value),
            row,
            num_perm=HASHES,
            ngram_size=3,
            min_length=1,
            hashranges=ranges,
            permutations=permutations,
            hash_func=xxh3_32hash,
            dtype=np.uint32,
            max_hash=np.uint32((1 << 32) - 1),
            modulo_prime=prime,
        )
        for table, band in zip(tables, signature[minhash.SIGNATURE_COLUMN], strict=True):
            table.setdefault(band, []).append(row)
    similar: set[int] = set()
    for table in tables:
        for bucket in filter(lambda rows: len(rows) > 1, table.values()):
            similar.update(bucket)
    return similar


TOOLS: Sequence[Callable[[Sequence[str]], set[int]]] = (
    gristmill,
    datasketch,
    datasketch_bulk,
    rensa,
    text_dedup,
)


def main(rows: int, rounds: int) -> None:
    """Print recall, precision and CPU time of each tool."""
    values = texts(rows)
    truth = oracle(values)
    print(f"{processor_name()}; {len(values):,} texts, {len(truth):,} near-duplicates")
    seconds: dict[str, list[float]] = {tool.__name__: [] for tool in TOOLS}
    found: dict[str, set[int]] = {}
    for _ in range(rounds):
        for tool in TOOLS:
            began = time.process_time()
            found[tool.__name__] = tool(values)
            seconds[tool.__name__].append(time.process_time() - began)
    own = seconds["gristmill"]
    print("| tool | recall | precision | CPU, s | of gristmill's (range) |")
    print("| --- | --- | --- | --- | --- |")
    for name, taken in seconds.items():
        hits = len(found[name] & truth)
        ratios = [one / other for one, other in zip(taken, own, strict=True)]
        cells = [
            name,
            f"{hits / len(truth):.4f}",
            f"{hits / max(1, len(found[name])):.4f}",
            f"{statistics.median(taken):.2f}",
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    main(options.rows, options.rounds)
