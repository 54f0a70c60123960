"""What the serving benchmarks share: a project that is nothing but a registry, its service pinned to one core, and bundles to serve."""

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
SERVER, CLIENT = 0, 1  # cores
TASK = "text_classification"


def reviews(project: Path, count: int) -> list[dict[str, Any]]:
    """Test cases of a project that has run, as queries."""
    texts = pq.read_table(
        sorted((project / "data" / "clean").glob("test-*.parquet")), columns=["text"]
    )["text"].to_pylist()
    return [{"text": text} for text in random.Random(7).sample(texts, count)]


def transformer(project: Path, folder: Path) -> Path:
    """A Transformer of four layers of 256 in static int8, with the project's tokens; its weights are random, which takes as long as others do."""
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
        {"width": 256, "layers": 4, "heads": 4, "feedforward": 1024, "dropout": 0.1}
    )
    torch.manual_seed(7)
    graph = architecture.graphs(architecture.build(config, rows.encoder).eval())["forward"]
    content = int8(
        export(graph, dict(rows.batch([int(rows.lengths.argmax()), int(rows.lengths.argmin())]))),
        rows,
        64,
        7,
    )
    save_onnx(
        folder,
        FitConfig(TASK, tokens, "transformer", config.model_dump(), FitParams(), {}, 7, folder),
        content,
        "cd" * 32,
        ["random", "int8"],
    )
    return folder


class Service:
    """`gristmill serve` in a project of its own, on the server's core.

    Args:
        folder: made anew.
        bundles: version 1, 2, …
        examples: queries kept with the versions.
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
        self.root, self.log = folder, folder / "serve.log"
        for name in ("pipelines", "components", "dvc.yaml", "constraints.txt"):
            (folder / name).symlink_to(SOURCE / name)
        tree = YAML(typ="safe").load((SOURCE / "params.yaml").read_text(encoding="utf-8"))
        tree["serve"] |= serve
        YAML().dump(tree, folder / "params.yaml")
        for bundle in bundles:
            register(
                folder,
                "default",
                bundle,
                None,
                {"examples": json.dumps(list(examples), ensure_ascii=False)},
            )
        self.release(1)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        foreign = ("RAY_", "GRISTMILL_", "MLFLOW_")
        self.environment = (
            {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
            | {"PYTHONPATH": str(SOURCE), "PYTHONUNBUFFERED": "1"}
            | dict(environment)
        )

    def release(self, version: int) -> None:
        """Promote a version for the first time."""
        made = release(
            self.root, "default", version, [], mode="auto", who="benchmark", why="a release"
        )
        assert made.decision == "promoted", made

    def back(self, version: int) -> None:
        """Roll back to it."""
        rollback(self.root, "default", version, who="benchmark", why="a rollback")

    def command(self, *words: str) -> list[str]:
        """A gristmill command on the server's core."""
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
        """Wait until it has said something."""
        deadline = time.monotonic() + seconds
        while words not in self.log.read_text(encoding="utf-8"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"{words!r} was not said:\n{self.log.read_text(encoding='utf-8')}"
                )
            time.sleep(0.05)


class Bare:
    """The same app and bundle behind uvicorn alone, on the server's core."""

    def __init__(self, bundle: Path) -> None:
        self.bundle, self.port = bundle, free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Bare:
        words = [
            "taskset",
            "-c",
            str(SERVER),
            sys.executable,
            __file__,
            str(self.bundle),
            str(self.port),
        ]
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
    """One that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(bundle: Path, port: int) -> None:
    """Serve a bundle with uvicorn, uvloop and httptools."""
    import uvicorn

    from components.inference.predictor import load
    from components.serving.http.app import build_app
    from components.serving.http.messages import ModelInfo

    model = ModelInfo(name="default", version="1", data_hash="ab" * 32)
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
