"""`gristmill export`: take the champion away."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from components.cli.pipeline_argument import Name, Pipeline, choose_pipeline
from components.core.terminal import print_line
from components.orchestration.project import root


def export(
    to: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Folder to write. It must not exist, or be empty."),
    ],
    name: Name = None,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="One of: onnx, torchscript, torch-export, openvino, safetensors.",
        ),
    ] = "onnx",
    pipeline: Pipeline = None,
) -> None:
    """Write the champion as a folder that answers without gristmill.

    The folder has the weights, a script and a few test cases.
    The script must give the champion's answers to them before the folder appears.
    """
    from components.core.bundles import shown_size
    from components.orchestration.export.export_folder import export_champion

    name = choose_pipeline(root(), name, pipeline)
    done = export_champion(root(), name, to, format_)
    print_line(
        f"predict.py gives the answers of the champion to {done.cases} queries: "
        f"largest difference {done.difference}, allowed {done.tolerance:g}"
    )
    print_line(
        f"{done.folder}: {name} version {done.version} as {done.format}, {shown_size(done.bytes)}"
    )
    print_line(f"next: cd {done.folder} && pip install -r requirements.txt && python predict.py …")
