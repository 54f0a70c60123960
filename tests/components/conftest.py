"""A tiny corpus of Chinese and English reviews and one of pictures, put through clean, augment and tokenize once a session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from stage_runner import IMAGE, StageRunner, lend, pictures, sentences


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums have one order, and tiny products are slower on several."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the store of a project, to be copied: MLflow takes two seconds of CPU for a new one."""
    from components.registry.store import tracking_store

    root = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        tracking_store.client(root)
    return root


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> StageRunner:
    """240 reviews as tokens."""
    return StageRunner.make(
        tmp_path_factory.mktemp("reviews"),
        sentences(240),
        augment={"rate": 0.3},
        tokenize={"vocabulary_size": 600, "max_length": 48},
    ).all()


@pytest.fixture(scope="session")
def bars(tmp_path_factory: pytest.TempPathFactory) -> StageRunner:
    """120 pictures as tokens."""
    return StageRunner.make(tmp_path_factory.mktemp("bars"), pictures(120), IMAGE).all()


@pytest.fixture(scope="session")
def network(reviews: StageRunner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fitted TextCNN as a bundle: the network of `trained` in the folders of `reviews`."""
    from components.training.bundle_writer import save_torch
    from components.training.loop import fit

    spec = reviews.spec(tmp_path_factory.mktemp("network"), epochs=4)
    folder = reviews.root / "trained" / "network"
    save_torch(folder, spec, fit(spec).weights.read_bytes(), "0" * 64, ["train"])
    return folder


@pytest.fixture(scope="session")
def borrowed(tmp_path_factory: pytest.TempPathFactory) -> StageRunner:
    """240 reviews as tokens of a tiny BERT, which lies in the folder bert/."""
    root = tmp_path_factory.mktemp("borrowed")
    told = {"max_length": 48, "pretrained": "bert", "pretrained_sha256": lend(root / "bert")}
    return StageRunner.make(root, sentences(240), augment={"rate": 0.3}, tokenize=told).all()
