"""Shared code of the serving benchmarks.

It makes a project that is only a registry, its service on one core, and bundles to serve.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow.parquet as pq
from ruamel.yaml import YAML

from components.registry.release.promotion import release, rollback
from components.registry.versions.model_versions import register

SOURCE = Path(__file__).resolve().parents[1]
# Numbers of the cores.
SERVER = 0
CLIENT = 1
TASK = "text_classification"


def reviews(project: Path, count: int) -> list[dict[str, Any]]:
    """Return test cases of a project that has run, as queries."""
    files = sorted((project / "data" / "clean").glob("test-*.parquet"))
    texts = pq.read_table(files, columns=["text"])["text"].to_pylist()
    return [{"text": text} for text in random.Random(7).sample(texts, count)]


def transformer(project: Path, folder: Path) -> Path:
    """Write the bundle of a Transformer of four layers of 256 in static int8.

    It has the project's tokens. Its weights are random, which does not change its speed.
    """
    if (folder / "bundle.json").is_file():
        return folder
    import torch

    from components.stages.compress.quantize import export, int8
    from components.tasks import base
    from components.training.batches import EncodedRows, load_encoder
    from components.training.bundle_writer import save_onnx
    from components.training.fit_config import FitConfig
    from components.training.params import FitParams

    tokens = project / "data" / "tokens"
    rows = EncodedRows(tokens, "train", load_encoder(tokens, TASK))
    architecture = base.models(TASK).architectures["transformer"]
    config = architecture.Config.model_validate(
        {
            "width": 256,
            "layers": 4,
            "heads": 4,
            "feedforward": 1024,
            "dropout": 0.1,
        }
    )
    torch.manual_seed(7)
    module = architecture.build(config, rows.encoder).eval()
    graph = architecture.graphs(module)["forward"]
    extremes = [int(rows.lengths.argmax()), int(rows.lengths.argmin())]
    content = int8(export(graph, dict(rows.batch(extremes))), rows, 64, 7)
    values = config.model_dump()
    spec = FitConfig(TASK, tokens, "transformer", values, FitParams(), {}, 7, folder)
    save_onnx(folder, spec, content, "cd" * 32, ["random", "int8"])
    return folder


class Service:
    """Runs `gristmill serve` in a new project, on the server's core.

    Args:
        folder: of the project; an old one is deleted.
        bundles: version 1, 2, …
        examples: queries that are stored with the versions.
        environment: added to the service's.
        serve: changes to section `serve` of params.yaml.
    """

    def __init__(
        self,
        folder: Path,
        bundles: Sequence[Path],
        examples: Sequence[Mapping[str, Any]],
        environment: Mapping[str, str],
        **serve: Any,
    ) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.root = folder
        self.log = folder / "serve.log"
        for name in ("pipelines", "components", "dvc.yaml", "constraints.txt"):
            (folder / name).symlink_to(SOURCE / name)
        tree = YAML(typ="safe").load((SOURCE / "params.yaml").read_text(encoding="utf-8"))
        tree["serve"] |= serve
        YAML().dump(tree, folder / "params.yaml")
        tags = {"examples": json.dumps(list(examples), ensure_ascii=False)}
        for bundle in bundles:
            register(folder, "default", bundle, None, dict(tags))
        self.release(1)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        foreign = ("RAY_", "GRISTMILL_", "MLFLOW_")
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(foreign)
        }
        self.environment |= {"PYTHONPATH": str(SOURCE), "PYTHONUNBUFFERED": "1"}
        self.environment |= environment

    def release(self, version: int) -> None:
        """Promote a version for the first time."""
        made = release(
            self.root,
            "default",
            version,
            [],
            mode="auto",
            who="benchmark",
            why="a release",
        )
        assert made.decision == "promoted", made

    def back(self, version: int) -> None:
        """Roll back to a version."""
        rollback(self.root, "default", version, who="benchmark", why="a rollback")

    def command(self, *words: str) -> list[str]:
        """Return a gristmill command on the server's core."""
        return ["taskset", "-c", str(SERVER), sys.executable, "-m", "components.cli", *words]

    def __enter__(self) -> Service:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command("serve", "--port", str(self.port)),
                cwd=self.root,
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        self.says("answers at")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.terminate()
        self.process.wait(120)

    def says(self, words: str, seconds: float = 240) -> None:
        """Wait until the service has printed some words."""
        deadline = time.monotonic() + seconds
        while words not in self.log.read_text(encoding="utf-8"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                log = self.log.read_text(encoding="utf-8")
                raise RuntimeError(f"{words!r} was not said:\n{log}")
            time.sleep(0.05)


class Bare:
    """Runs the same app and bundle behind uvicorn alone, on the server's core."""

    def __init__(self, bundle: Path) -> None:
        self.bundle = bundle
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Bare:
        words = ["taskset", "-c", str(SERVER), sys.executable, __file__]
        words += [str(self.bundle), str(self.port)]
        self.process = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(SOURCE)})
        from components.serving.http.client import healthy

        while healthy(self.url) is None:
            time.sleep(0.1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.terminate()
        self.process.wait(30)


def free_port() -> int:
    """Return a port that no process listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(bundle: Path, port: int) -> None:
    """Serve a bundle with uvicorn, uvloop and httptools."""
    import uvicorn

    from components.inference.predictor import load
    from components.serving.http.app import build_app
    from components.serving.http.messages import ModelInfo

    model = ModelInfo(
        name="default",
        version="1",
        data_hash="ab" * 32,
    )
    uvicorn.run(
        build_app(load(bundle), model),
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
