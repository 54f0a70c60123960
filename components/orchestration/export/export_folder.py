"""`gristmill export`: write the champion as a folder that answers by itself, and check it."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.bundles import CARD, Card, read_bundle, write_bundle
from components.core.cards import REMEDY
from components.core.errors import BundleError, InputError
from components.core.escaping import markdown, markdown_code
from components.core.files import remove_tree, sync_tree, to_json
from components.orchestration.export.source_slices import copy_modules
from components.orchestration.export.weight_formats import FORMATS, check_format, write_weights
from components.orchestration.output_paths import path_mistake
from components.orchestration.service.service import released

if TYPE_CHECKING:
    from components.registry.versions.reader import Version

_TEMPLATES = Path(__file__).parent
# Seconds in which a script must load its model and answer.
_PATIENCE_S = 300.0
# Lines of a script's error that are shown.
_LINES = 5


@dataclass(frozen=True)
class Exported:
    """A folder that was written and checked.

    Attributes:
        folder: that was written.
        version: of the champion.
        format: of the weights.
        bytes: of all files.
        cases: queries that were asked.
        difference: largest difference of an answer from the champion's.
        tolerance: largest difference that is accepted.
    """

    folder: Path
    version: int
    format: str
    bytes: int
    cases: int
    difference: str
    tolerance: float


@dataclass(frozen=True)
class _Champion:
    """A verified bundle, its test cases, and the answers of the champion to them."""

    version: Version
    card: Card
    files: Mapping[str, bytes]
    card_bytes: bytes
    digest: str
    queries: Sequence[Any]
    answers: Sequence[Mapping[str, Any]]


def export_champion(root: Path, name: str, to: Path, format_name: str) -> Exported:
    """Write the champion of a pipeline to a folder.

    The folder appears whole, after its script has given the champion's answers in a process of its
    own.

    Args:
        root: of the project.
        name: of the pipeline.
        to: a folder that does not exist, or is empty.
        format_name: a key of `FORMATS`.

    Raises:
        InputError: there is no champion, it cannot have the format, or the folder cannot be used.
        BundleError: the champion's files differ from those that were registered, or the script
            gives other answers.
        EnvironmentFault: a library is missing, or the registry does not answer.
    """
    _check_target(root, name, to)
    champion = _read_champion(root, name, format_name)
    to.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{to.name}.", suffix=".part", dir=to.parent))
    try:
        folder = scratch / "export"
        folder.mkdir()
        tolerance = _tolerance(champion.card)
        _write(folder, champion, name, format_name, tolerance)
        result = _check(folder, format_name)
        sync_tree(folder)
        _publish(folder, to)
    finally:
        remove_tree(scratch, to.parent)
    size = sum(path.stat().st_size for path in to.rglob("*") if path.is_file())
    return Exported(
        folder=to,
        version=champion.version.number,
        format=format_name,
        bytes=size,
        cases=result["cases"],
        difference=result["largest_difference"],
        tolerance=tolerance,
    )


def _check_target(root: Path, name: str, to: Path) -> None:
    """Refuse a folder with files, and one that a run deletes.

    Raises:
        InputError: the folder cannot be used.
    """
    mistake = path_mistake(root, name, str(to.absolute()))
    if mistake is not None:
        raise InputError(
            mistake.partition(": ")[0] + ", and is deleted when the pipeline runs",
            where="--to",
            remedy="write to another folder",
        )
    is_usable = not os.path.lexists(to)
    if to.is_dir() and not to.is_symlink():
        is_usable = not any(to.iterdir())
    if not is_usable:
        raise InputError(
            f"{str(to)!r} is there already, and is no empty folder",
            where="--to",
            remedy="name a folder that does not exist; nothing is overwritten",
        )


def _tolerance(card: Card) -> float:
    from components.serving.rollout.agreement import tolerance

    return tolerance(card)


def _read_champion(root: Path, name: str, format_name: str) -> _Champion:
    """Return the champion, which has answered its test cases in a child process.

    There it could neither hang nor fill memory.
    """
    from components.core.sandbox import SandboxedCall
    from components.inference.predictor import first_answers
    from components.registry.versions.model_versions import fetch_registered

    with (
        SandboxedCall(first_answers) as child,
        tempfile.TemporaryDirectory(prefix="gristmill-") as scratch,
    ):
        params, leading = released(root, name)
        bundle = fetch_registered(root, params.name, leading.number, Path(scratch))
        card, files = read_bundle(bundle.folder, bundle.digest)
        check_format(card, format_name)
        if format_name != "safetensors":
            _check_script(card, files, format_name)
        queries = _test_queries(leading)
        asked = [json.dumps(query, ensure_ascii=False) for query in queries]
        result = child.call(bundle.folder, str(bundle.folder), bundle.digest, None, asked)
        card_bytes = (bundle.folder / CARD).read_bytes()
        if hashlib.sha256(card_bytes).hexdigest() != bundle.digest:
            raise BundleError(
                "was changed while it was read", where=str(bundle.folder / CARD), remedy=REMEDY
            )
    if "rejected" in result:
        raise BundleError(
            f"the examples of version {leading.number} are refused: {result['rejected']}",
            where="registry",
            remedy="register it again from its data: gristmill run",
        )
    return _Champion(leading, card, files, card_bytes, bundle.digest, queries, result["answers"])


def _check_script(card: Card, files: Mapping[str, bytes], format_name: str) -> None:
    """Refuse a model whose input a short script cannot prepare.

    Raises:
        InputError: it is one.
    """
    from components.inference.predictor import bundled_encoder_files

    reason = _standalone(card.task).unsupported(bundled_encoder_files(files))
    if not reason:
        return
    remedy = "take --format safetensors, whose script uses gristmill"
    if card.runtime == "onnx":
        remedy = "answer with gristmill predict or gristmill serve: no format is left"
    raise InputError(
        f"{card.title} cannot become {format_name} with a script: {reason}",
        where="--format",
        remedy=remedy,
    )


def _standalone(task: str) -> Any:
    """Return the facet standalone.py of a task.

    Raises:
        InputError: the task has none.
    """
    module = f"components.tasks.{task}.standalone"
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise InputError(
            f"task {task} has no standalone.py, so no script can prepare its input",
            where="--format",
            remedy="take --format safetensors, whose script uses gristmill",
        ) from None


def _test_queries(version: Version) -> list[Any]:
    """Return the examples that a version was registered with.

    Raises:
        InputError: there are none.
    """
    try:
        queries = json.loads(version.tags.get("examples", "[]"))
    except ValueError:
        queries = []
    if not isinstance(queries, list) or not queries:
        raise InputError(
            f"version {version.number} has no examples to check the export with",
            where="registry",
            remedy="register it again from its data: gristmill run",
        )
    return queries


def _write(
    folder: Path, champion: _Champion, pipeline: str, format_name: str, tolerance: float
) -> None:
    """Write all files of the export."""
    from components.inference.predictor import bundled_encoder_files

    chosen = FORMATS[format_name]
    card = champion.card
    (folder / CARD).write_bytes(champion.card_bytes)
    for name, content in champion.files.items():
        if format_name == "safetensors" or name.startswith("encoder/"):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    requirements = list(chosen.requirements)
    query = "its fields as the HTTP API has them"
    usage = "QUERY …"
    cases = _cases(champion, None)
    if format_name != "safetensors":
        facet = _standalone(card.task)
        requirements += facet.requirements(bundled_encoder_files(champion.files))
        query = facet.QUERY
        usage = facet.USAGE
        cases = _cases(champion, facet.ANSWER_FIELDS)
        _write_network(folder, champion, format_name)
        _write_preprocessing(folder, card.task)
    if format_name == "onnx":
        _write_onnx_card(folder, champion)
    (folder / "requirements.txt").write_text(_pinned(requirements), encoding="utf-8")
    check = {"tolerance": tolerance, "cases": cases}
    (folder / "check.json").write_text(to_json(check), encoding="utf-8")
    words = {
        "pipeline": pipeline,
        "version": champion.version.number,
        "title": markdown(card.title),
        "data_hash": markdown_code(card.data_hash),
        "digest": champion.digest,
        "format": chosen,
        "format_name": format_name,
        "query": query,
        "usage": usage,
        "cases": len(cases),
        "tolerance": f"{tolerance:g}",
        "is_served": format_name == "onnx" or card.runtime == "numpy",
    }
    script = "predict_bundle.py" if format_name == "safetensors" else "predict.py"
    for template, name in ((script, "predict.py"), ("check.py", "check.py"), ("README.md",) * 2):
        (folder / name).write_text(_rendered(template, words), encoding="utf-8")


def _cases(champion: _Champion, fields: Sequence[str] | None) -> list[dict[str, Any]]:
    """Return the test cases with the fields of answers that a script states; None: all."""
    cases = []
    for query, answer in zip(champion.queries, champion.answers, strict=True):
        stated = {name: answer[name] for name in fields or answer}
        cases.append({"query": query, "answer": stated})
    return cases


def _write_network(folder: Path, champion: _Champion, format_name: str) -> None:
    """Write the weights of a network in a format of another runtime."""
    from components.inference.predictor import GRAPH, bundled_encoder_files, load_module
    from components.tasks import base
    from components.tasks.shared.models.ensembles.models import bundle_architectures

    card = champion.card
    if card.runtime == "onnx":
        write_weights(format_name, champion.files[GRAPH], {}, folder)
        return
    encoder = base.encoding(card.task).load(bundled_encoder_files(champion.files))
    evaluator = base.evaluator(card.task)
    queries = [evaluator.Query.model_validate(query) for query in champion.queries]
    rows = encoder.rows(evaluator.columns(queries))
    costs = [sum(len(column[number]) for column in rows.values()) for number in range(len(queries))]
    # Rows of two lengths, so that no axis looks constant.
    chosen = [costs.index(max(costs)), costs.index(min(costs))]
    example = encoder.collate({name: [column[i] for i in chosen] for name, column in rows.items()})
    with tempfile.TemporaryDirectory(prefix="gristmill-") as scratch:
        verified = Path(scratch)
        (verified / CARD).write_bytes(champion.card_bytes)
        for name, content in champion.files.items():
            (verified / name).parent.mkdir(parents=True, exist_ok=True)
            (verified / name).write_bytes(content)
        module = load_module(verified)
    architecture = bundle_architectures(card.task)[card.architecture]
    graph = architecture.graphs(module)["forward"]
    write_weights(format_name, graph, example, folder)


def _write_onnx_card(folder: Path, champion: _Champion) -> None:
    """Write the card of the exported graph, so that the folder is a bundle of its own."""
    from components.inference.predictor import GRAPH, WEIGHTS

    if champion.card.runtime == "onnx":
        return
    files = {name: content for name, content in champion.files.items() if name != WEIGHTS}
    files[GRAPH] = (folder / GRAPH).read_bytes()
    write_bundle(folder, replace(champion.card, runtime="onnx"), files)


def _write_preprocessing(folder: Path, task: str) -> None:
    """Write the package of the script that cleans and encodes input."""
    package = folder / "preprocessing"
    package.mkdir()
    modules = copy_modules(f"components.tasks.{task}.standalone", package.name)
    for name, code in modules.items():
        (package / name).write_text(code, encoding="utf-8")


def _pinned(names: Sequence[str]) -> str:
    """Return the lines of requirements.txt, with the versions that the export was checked with."""
    lines = []
    for name in names:
        try:
            # A local part such as +cpu is on no index.
            lines.append(f"{name}=={version(name).partition('+')[0]}\n")
        except PackageNotFoundError:
            lines.append(f"{name}\n")
    return "".join(sorted(lines))


def _rendered(template: str, words: Mapping[str, Any]) -> str:
    """Return a file of the export from its template."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # The words are names, numbers and hashes. Texts of the card were escaped for Markdown.
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=False,  # noqa: S701
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(f"{template}.j2").render(words)


def _check(folder: Path, format_name: str) -> dict[str, Any]:
    """Ask the script its test cases in a process of its own, and return what it measured.

    Raises:
        BundleError: it fails, or its answers are not those of the champion.
    """
    words = [sys.executable, "-B", "check.py"]
    environment = {**os.environ, "PYTHONPATH": ""}
    try:
        done = subprocess.run(
            words,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
        )
        mistake = done.stderr.strip().splitlines()[-_LINES:]
        is_right = done.returncode == 0
    except subprocess.TimeoutExpired:
        mistake = [f"it does not end within {_PATIENCE_S:.0f} s"]
        is_right = False
    if not is_right:
        raise BundleError(
            "predict.py does not give the champion's answers: " + " ".join(mistake),
            where=f"--format {format_name}",
            remedy="nothing was written; take another format",
        )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _publish(folder: Path, to: Path) -> None:
    """Move the finished folder to its place.

    Raises:
        InputError: files have appeared there meanwhile.
    """
    try:
        folder.rename(to)
    except OSError as error:
        raise InputError(
            f"cannot be written: {error.strerror}",
            where=str(to),
            remedy="name a folder that does not exist",
        ) from None
