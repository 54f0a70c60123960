"""Bundles that agree with themselves and hold what no library can read, or what harms."""

from __future__ import annotations

import io
import json
import resource
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_bundles import (
    QUERY,
    edit_card,
    exchange,
    graph,
    numpy_bundle,
    onnx_bundle,
    torch_bundle,
)

from components.core.errors import BundleError
from components.core.sandbox import SandboxedCall
from components.inference.predictor import ARRAYS, GRAPH, WEIGHTS, first_answers, load

Change = Callable[[Path], object]
TOKENIZER, ENCODER, TFIDF = "encoder/tokenizer.json", "encoder/encoder.json", "encoder/tfidf.json"
_SHORT_S = 1.5
_MOST_BYTES = 2 << 30


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    root = tmp_path_factory.mktemp("whole")
    return {
        "torch": torch_bundle(root / "torch"),
        "onnx": onnx_bundle(root / "onnx"),
        "numpy": numpy_bundle(root / "numpy"),
    }


@pytest.fixture(scope="module")
def child() -> Iterator[SandboxedCall]:
    """One process for all that end by themselves."""
    with SandboxedCall(first_answers) as child:
        yield child


@pytest.fixture(scope="module")
def hasty() -> Iterator[SandboxedCall]:
    """One for those that would not end."""
    with SandboxedCall(first_answers, seconds=_SHORT_S) as child:
        yield child


def ask(child: SandboxedCall, folder: Path) -> Any:
    return child.call(folder, str(folder), None, None, [QUERY])


# -- safetensors
def tensors(header: Any, body: bytes = bytes(64), length: int | None = None) -> bytes:
    """A file of safetensors with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def tensor(shape: list[int], begin: int, end: int, kind: str = "F32") -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}


def pickled(folder: Path) -> bytes:
    """A pickle that makes the file `ran` when it is loaded."""
    return f"cos\nsystem\n(S'touch {folder}/ran'\ntR.".encode()


def zipped(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    return stream.getvalue()


SAFETENSORS: dict[str, bytes] = {
    "empty": b"",
    "7 bytes": bytes(7),
    "a header of no length": bytes(8),
    "a header of 2^63": tensors({}, length=1 << 63),
    "a header of 2^64 - 1": tensors({}, length=(1 << 64) - 1),
    "a header of a gigabyte": tensors({}, length=1 << 30),
    "a header longer than the file": tensors({"a": tensor([16], 0, 64)}, length=5000),
    "a header of 20 MB of spaces": tensors(b" " * (20 << 20)),
    "a header of 100,000 tensors": tensors({f"t{n}": tensor([0], 0, 0) for n in range(100_000)}),
    "a header that is no JSON": tensors(b"{]"),
    "a header that is a list": tensors([]),
    "a header no UTF-8": tensors(b"\xff" * 8),
    "a header 100,000 deep": tensors(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "a tensor twice": tensors(
        b'{"a": %s, "a": %s}' % ((json.dumps(tensor([16], 0, 64)).encode(),) * 2)
    ),
    "negative offsets": tensors({"a": tensor([16], -64, 0)}),
    "offsets backwards": tensors({"a": tensor([16], 64, 0)}),
    "offsets behind the end": tensors({"a": tensor([32], 0, 128)}),
    "offsets of 2^63": tensors({"a": tensor([16], 1 << 63, (1 << 63) + 64)}),
    "overlapping tensors": tensors({"a": tensor([16], 0, 64), "b": tensor([8], 32, 64)}),
    "a hole": tensors({"a": tensor([4], 0, 16), "b": tensor([4], 48, 64)}),
    "a negative shape": tensors({"a": tensor([-16], 0, 64)}),
    "a shape of 2^62": tensors({"a": tensor([1 << 62], 0, 64)}),
    "a shape that overflows": tensors({"a": tensor([1 << 33, 1 << 33], 0, 64)}),
    "an unknown type": tensors({"a": tensor([16], 0, 64, "OBJECT")}),
    "no type": tensors({"a": {"shape": [16], "data_offsets": [0, 64]}}),
    "a shape of text": tensors({"a": {"dtype": "F32", "shape": "16", "data_offsets": [0, 64]}}),
    "another tensor": tensors({"a": tensor([16], 0, 64)}),
    "no tensors": tensors({}, b""),
    "a NumPy file": b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "GGUF": b"GGUF" + bytes(100),
    "a pickle": b"\x80\x04" + b"cos\nsystem\n.",
}


def changed(name: str, change: Callable[[dict[str, Any]], object]) -> Change:
    """Change the arrays of a numpy bundle, or the tensors of a torch one."""

    def apply(folder: Path) -> None:
        from safetensors.numpy import load as read
        from safetensors.numpy import save

        arrays = dict(read((folder / name).read_bytes()))
        change(arrays)
        exchange(folder, name, save({key: np.ascontiguousarray(a) for key, a in arrays.items()}))

    return apply


def first(value: Any) -> Callable[[dict[str, Any]], object]:
    """Put a value into each tensor of floats."""

    def change(arrays: dict[str, Any]) -> None:
        for key, array in arrays.items():
            if array.dtype.kind == "f":
                arrays[key] = array.copy()
                arrays[key].flat[0] = value

    return change


def each(made: Callable[[Any], Any]) -> Callable[[dict[str, Any]], object]:
    return lambda arrays: arrays.update({key: made(array) for key, array in arrays.items()})


WEIGHT_CHANGES: dict[str, Change] = {}
for _name, _file in (("torch", WEIGHTS), ("numpy", ARRAYS)):
    WEIGHT_CHANGES |= {
        f"{_name}: a NaN": changed(_file, first(np.nan)),
        f"{_name}: an infinity": changed(_file, first(np.inf)),
        f"{_name}: minus infinity": changed(_file, first(-np.inf)),
        f"{_name}: without the first": changed(_file, lambda arrays: arrays.pop(min(arrays))),
        f"{_name}: one row less": changed(_file, each(lambda array: array[:-1])),
        f"{_name}: one axis more": changed(_file, each(lambda array: array[None])),
        f"{_name}: no elements": changed(_file, each(lambda array: array[:0])),
    }


# -- tokenizers
def tokenizer(change: Callable[[dict[str, Any]], object]) -> Change:
    return _json(TOKENIZER, change)


def encoder(**changes: Any) -> Change:
    """Change facts of the encoder; the value `...` removes one."""

    def change(facts: dict[str, Any]) -> None:
        facts.update(changes)
        for key in [key for key, value in facts.items() if value is ...]:
            del facts[key]

    return _json(ENCODER, change)


def _json(name: str, change: Callable[[dict[str, Any]], object]) -> Change:
    def apply(folder: Path) -> None:
        facts = json.loads((folder / name).read_text(encoding="utf-8"))
        change(facts)
        exchange(folder, name, json.dumps(facts).encode())

    return apply


def growing(times: int) -> dict[str, Any]:
    """A normalizer that puts a hundred letters in place of each, again and again."""
    step = {"type": "Replace", "pattern": {"Regex": "."}, "content": "a" * 100}
    return {"type": "Sequence", "normalizers": [step] * times}


REPEATED = {"type": "Replace", "pattern": {"Regex": "(a*)*b("}, "content": ""}
BROKEN_JSON: dict[str, bytes] = {
    "empty": b"",
    "nothing": b"{}",
    "null": b"null",
    "a list": b"[]",
    "a number": b"1",
    "no UTF-8": b"\xff\xfe",
    "cut off": b'{"version": "1.0", "model": {',
    "100,000 deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "lists 100,000 deep": b"[" * 100_000 + b"]" * 100_000,
    "a pickle": b"\x80\x04cos\nsystem\n.",
}
TOKENIZERS: dict[str, Change] = {
    "an unknown model": tokenizer(lambda t: t["model"].update(type="Python")),
    "an empty vocabulary": tokenizer(lambda t: t["model"].update(vocab={}, merges=[])),
    "ids below zero": tokenizer(lambda t: t["model"].update(vocab={"a": -1})),
    "ids of 2^40": tokenizer(lambda t: t["model"].update(vocab={"a": 1 << 40})),
    "merges of unknown tokens": tokenizer(lambda t: t["model"].update(merges=["q x"])),
    "merges of three": tokenizer(lambda t: t["model"].update(merges=["a b c"])),
    "Unigram without tokens": tokenizer(
        lambda t: t.update(model={"type": "Unigram", "unk_id": 5, "vocab": []})
    ),
    "Unigram with NaN scores": tokenizer(
        lambda t: t.update(model={"type": "Unigram", "unk_id": 0, "vocab": [["a", "NaN"]]})
    ),
    "a broken pattern": tokenizer(lambda t: t.update(normalizer=REPEATED)),
    "a broken map of characters": tokenizer(
        lambda t: t.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "////"})
    ),
    "an unknown normalizer": tokenizer(lambda t: t.update(normalizer={"type": "Shell"})),
    "a post-processor of unknown tokens": tokenizer(
        lambda t: t.update(
            post_processor={
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "[X]", "type_id": 0}}],
                "pair": [],
                "special_tokens": {},
            }
        )
    ),
}
ENCODERS: dict[str, Change] = {
    f"encoder {key}={value!r}": encoder(**{key: value})
    for key, values in {
        "max_length": ("16", None, -1, 1.5, [16], 1 << 30, 1 << 70, ...),
        "max_characters": ("x", None, [1], ...),
        "classes": (None, 3, ["好评"], ["好评", "差评"], ["a", "b"], "差评", ...),
        "pad": ("x", 1 << 70, [1], -1),
        "network": ("bert", [1]),
        "odd": (1,),
    }.items()
    for value in values
}


# -- ONNX
def node(kind: str, inputs: list[str], outputs: list[str], **told: Any) -> Any:
    from onnx import helper

    return helper.make_node(kind, inputs, outputs, **told)


def constant(name: str, values: Any) -> Any:
    from onnx import numpy_helper

    return node("Constant", [], [name], value=numpy_helper.from_array(np.array(values), name))


def loop(rounds: int, inner: int = 0, grows: bool = False) -> bytes:
    """A loop over the sums.

    Args:
        rounds: of it.
        inner: of another one within each round.
        grows: whether each round doubles what is held.
    """
    work = node("Concat", ["held", "held"], ["next"], axis=0)
    if inner:
        negate = [node("Neg", ["inner_held"], ["inner_next"])]
        work = node("Loop", ["inner", "on", "held"], ["next"], body=body(negate, "inner_"))
    elif not grows:
        work = node("Neg", ["held"], ["next"])
    return graph(
        [
            constant("rounds", rounds),
            constant("inner", inner),
            constant("yes", True),
            node("Loop", ["rounds", "yes", "sums"], ["logits"], body=body([work])),
        ]
    )


def body(nodes: list[Any], prefix: str = "") -> Any:
    """Nodes from "held" to "next", round after round."""
    from onnx import TensorProto, helper

    made = helper.make_tensor_value_info
    on, still = f"{prefix}on", f"{prefix}still"
    return helper.make_graph(
        [node("Identity", [on], [still]), *nodes],
        f"{prefix}body",
        [
            made(f"{prefix}round", TensorProto.INT64, []),
            made(on, TensorProto.BOOL, []),
            made(f"{prefix}held", TensorProto.FLOAT, None),
        ],
        [made(still, TensorProto.BOOL, []), made(f"{prefix}next", TensorProto.FLOAT, None)],
    )


def large(size: int, through: str) -> bytes:
    """A constant of so many floats, added up into the answer."""
    make: dict[str, list[Any]] = {
        "ConstantOfShape": [node("ConstantOfShape", ["size"], ["large"])],
        "Expand": [constant("one", np.float32(1)), node("Expand", ["one", "size"], ["large"])],
        "Tile": [
            constant("ones", np.ones(1, np.float32)),
            node("Tile", ["ones", "size"], ["large"]),
        ],
        "RandomNormal": [node("RandomNormal", [], ["large"], shape=[size])],
    }
    ends = [node("ReduceMax", ["large"], ["top"]), node("Add", ["sums", "top"], ["logits"])]
    return graph([constant("size", [size]), *make[through], *ends])


def external(location: str) -> bytes:
    """A tensor whose data lie in another file."""
    from onnx import TensorProto, load_from_string

    model = load_from_string(graph())
    held = TensorProto(name="table", data_type=TensorProto.FLOAT, dims=[80, 2])
    held.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "640")):
        held.external_data.add(key=key, value=value)
    model.graph.initializer[0].CopyFrom(held)
    return bytes(model.SerializeToString())


def edited(change: Callable[[Any], object]) -> bytes:
    from onnx import load_from_string

    model = load_from_string(graph())
    change(model)
    return bytes(model.SerializeToString())


def four_classes() -> bytes:
    return graph([node("Concat", ["sums", "sums"], ["logits"], axis=1)])


ONNX: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "zeros": lambda: bytes(1000),
    "no protocol buffer": lambda: b"\xff" * 1000,
    "cut off": lambda: graph()[:-200],
    "only a head": lambda: graph()[:50],
    "data outside, beside": lambda: external("secret.bin"),
    "data outside, absolute": lambda: external("/etc/passwd"),
    "data outside, above": lambda: external("../secret.bin"),
    "data outside, of a device": lambda: external("/dev/zero"),
    "16 GB by ConstantOfShape": lambda: large(1 << 32, "ConstantOfShape"),
    "16 GB by Expand": lambda: large(1 << 32, "Expand"),
    "16 GB by Tile": lambda: large(1 << 32, "Tile"),
    "16 GB by RandomNormal": lambda: large(1 << 32, "RandomNormal"),
    "2^62 elements": lambda: large(1 << 62, "ConstantOfShape"),
    "a negative size": lambda: large(-5, "ConstantOfShape"),
    "a loop that doubles": lambda: loop(1 << 62, grows=True),
    "an unknown operator": lambda: graph([node("System", ["sums"], ["logits"])]),
    "an operator of another domain": lambda: graph(
        [node("PyOp", ["sums"], ["logits"], domain="ai.onnx.contrib")]
    ),
    "no logits": lambda: graph([node("Identity", ["sums"], ["other"])]),
    "logits of another name": lambda: edited(
        lambda model: (
            setattr(model.graph.output[0], "name", "scores"),
            model.graph.node[-1].output.__setitem__(0, "scores"),
        )
    ),
    "an input of another name": lambda: edited(
        lambda model: (
            setattr(model.graph.input[0], "name", "tokens"),
            model.graph.node[0].input.__setitem__(1, "tokens"),
        )
    ),
    "an input of text": lambda: edited(
        lambda model: setattr(model.graph.input[0].type.tensor_type, "elem_type", 8)
    ),
    "four classes": four_classes,
    "one number": lambda: graph([node("ReduceSum", ["sums"], ["logits"], keepdims=0)]),
    "no rows": lambda: graph(
        [
            constant("none", np.zeros(0, np.int64)),
            node("Gather", ["sums", "none"], ["logits"], axis=0),
        ]
    ),
    "logits of whole numbers": lambda: graph([node("Cast", ["sums"], ["logits"], to=8)]),
    "a NaN": lambda: graph(
        [constant("nan", np.float32(np.nan)), node("Add", ["sums", "nan"], ["logits"])]
    ),
    "an infinity": lambda: graph(
        [constant("most", np.float32(np.inf)), node("Add", ["sums", "most"], ["logits"])]
    ),
    "a division by nothing": lambda: graph([node("Div", ["sums", "zero"], ["logits"])]),
    "a circle": lambda: graph([node("Add", ["sums", "logits"], ["logits"])]),
    "fewer data than its shape": lambda: edited(
        lambda model: setattr(model.graph.initializer[0], "raw_data", bytes(8))
    ),
    "a negative shape": lambda: edited(
        lambda model: model.graph.initializer[0].dims.__setitem__(0, -80)
    ),
    "a shape of 2^62": lambda: edited(
        lambda model: model.graph.initializer[0].dims.__setitem__(0, 1 << 62)
    ),
    "a type that is none": lambda: edited(
        lambda model: setattr(model.graph.initializer[0], "data_type", 99)
    ),
    "ids beyond the table": lambda: edited(
        lambda model: (
            setattr(model.graph.initializer[0], "raw_data", bytes(8)),
            model.graph.initializer[0].dims.__setitem__(0, 1),
        )
    ),
    "version 999": lambda: graph(ir_version=999),
    "operators of version 999": lambda: edited(
        lambda model: setattr(model.opset_import[0], "version", 999)
    ),
    "a pickle": lambda: b"\x80\x04cos\nsystem\n.",
    "a zip": lambda: zipped(b"x"),
}

# -- cards that are valid and lie
TINY = {"width": 8, "channels": 4, "kernels": [1, 2], "dropout": 0.1}
LIES: dict[str, tuple[str, Change]] = {
    "an unknown task": ("torch", lambda f: edit_card(f, task="regression")),
    "another task": ("torch", lambda f: edit_card(f, task="image_classification")),
    "an unknown architecture": ("torch", lambda f: edit_card(f, architecture="gpt")),
    "a baseline as a network": ("torch", lambda f: edit_card(f, architecture="classical")),
    "a network as a baseline": ("numpy", lambda f: edit_card(f, architecture="textcnn")),
    "an unknown baseline": ("numpy", lambda f: edit_card(f, architecture="naive")),
    "another network": ("torch", lambda f: edit_card(f, architecture="recurrent", config={})),
    "a network without its encoder": (
        "torch",
        lambda f: edit_card(f, architecture="pretrained", config={"way": "full"}),
    ),
    "torch as ONNX": ("torch", lambda f: edit_card(f, runtime="onnx")),
    "ONNX as torch": ("onnx", lambda f: edit_card(f, runtime="torch")),
    "numpy as torch": ("numpy", lambda f: edit_card(f, runtime="torch", architecture="textcnn")),
    "torch as numpy": ("torch", lambda f: edit_card(f, runtime="numpy", architecture="classical")),
    "three classes": ("torch", lambda f: edit_card(f, classes=["差评", "好评", "c"])),
    "one class": ("numpy", lambda f: edit_card(f, classes=["差评"])),
    "numbers for classes": ("torch", lambda f: edit_card(f, classes=[1, 2])),
    "classes swapped": ("torch", lambda f: edit_card(f, classes=["好评", "差评"])),
    "classes swapped in ONNX": ("onnx", lambda f: edit_card(f, classes=["好评", "差评"])),
}
for _key, _value in (
    ("width", 10**9),
    ("width", 10**30),
    ("width", 16),
    ("width", -8),
    ("width", 0),
    ("width", "8"),
    ("width", None),
    ("channels", [4, 4, 4]),
    ("kernels", []),
    ("kernels", [10**9]),
    ("kernels", "12"),
    ("dropout", 2),
    ("odd", 1),
):
    _told = TINY | {_key: _value}
    LIES[f"config {_key}={_value!r}"] = ("torch", lambda f, told=_told: edit_card(f, config=told))


def put(name: str, content: bytes) -> Change:
    return lambda folder: exchange(folder, name, content)


def corpus() -> dict[str, tuple[str, Change]]:
    """All of them by name: the runtime of the bundle that is altered, and how."""
    made: dict[str, tuple[str, Change]] = {f"card: {name}": lie for name, lie in LIES.items()}
    for name, content in SAFETENSORS.items():
        made[f"torch: {name}"] = ("torch", put(WEIGHTS, content))
        made[f"numpy: {name}"] = ("numpy", put(ARRAYS, content))
    for name, change in WEIGHT_CHANGES.items():
        made[name] = (name.partition(":")[0], change)
    for name, content in BROKEN_JSON.items():
        made[f"tokenizer: {name}"] = ("torch", put(TOKENIZER, content))
        made[f"encoder: {name}"] = ("onnx", put(ENCODER, content))
        made[f"tfidf: {name}"] = ("numpy", put(TFIDF, content))
    for name, change in (TOKENIZERS | ENCODERS).items():
        made[f"onnx: {name}"] = ("onnx", change)
    for name, make in ONNX.items():
        made[f"graph: {name}"] = ("onnx", lambda f, make=make: exchange(f, GRAPH, make()))
    return made


ALL = corpus()
ENDLESS: dict[str, Change] = {
    "a loop of 2^62 rounds": lambda f: exchange(f, GRAPH, loop(1 << 62)),
    "a tokenizer that grows texts": tokenizer(lambda t: t.update(normalizer=growing(6))),
    "loops in loops": lambda f: exchange(f, GRAPH, loop(1 << 62, 1 << 62)),
}


def check(error: BundleError, folder: Path) -> None:
    """Make sure that it is a sentence which names the bundle."""
    assert error.exit_code == 2
    assert error.what.isprintable() and 10 < len(error.what) < 700
    assert error.where.startswith(str(folder)) and error.remedy


@pytest.mark.parametrize("name", ALL)
def test_it_is_refused_in_a_sentence(
    whole: Mapping[str, Path], child: SandboxedCall, tmp_path: Path, name: str
) -> None:
    runtime, change = ALL[name]
    folder = shutil.copytree(whole[runtime], tmp_path / "bundle")
    change(folder)
    with pytest.raises(BundleError) as caught:
        ask(child, folder)
    check(caught.value, folder)


@pytest.mark.parametrize("name", ENDLESS)
def test_what_does_not_end_is_ended(
    whole: Mapping[str, Path], hasty: SandboxedCall, tmp_path: Path, name: str
) -> None:
    folder = shutil.copytree(whole["onnx"], tmp_path / "bundle")
    ENDLESS[name](folder)
    with pytest.raises(BundleError, match=r"does not load and answer|memory") as caught:
        ask(hasty, folder)
    check(caught.value, folder)


def test_no_code_runs_from_a_bundle(
    whole: Mapping[str, Path], child: SandboxedCall, tmp_path: Path
) -> None:
    for runtime, name in (("torch", WEIGHTS), ("numpy", ARRAYS), ("onnx", GRAPH)):
        for content in (pickled(tmp_path), zipped(pickled(tmp_path))):
            folder = shutil.copytree(whole[runtime], tmp_path / "b", dirs_exist_ok=True)
            exchange(folder, name, content)
            with pytest.raises(BundleError):
                ask(child, folder)
    assert not (tmp_path / "ran").exists()


def test_what_a_library_says_names_the_file(whole: Mapping[str, Path], tmp_path: Path) -> None:
    for runtime, name, change in (
        ("torch", WEIGHTS, changed(WEIGHTS, first(np.nan))),
        ("numpy", ARRAYS, changed(ARRAYS, first(np.nan))),
        ("onnx", GRAPH, put(GRAPH, b"\xff")),
        ("onnx", "encoder", put(TOKENIZER, b"{}")),
    ):
        folder = shutil.copytree(whole[runtime], tmp_path / "b", dirs_exist_ok=True)
        change(folder)
        with pytest.raises(BundleError) as caught:
            load(folder)
        assert caught.value.where == str(folder / name)
        assert ("NaN or infinity" in caught.value.what) == (name in (WEIGHTS, ARRAYS))


def test_a_panic_when_asked_is_an_error(whole: Mapping[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(whole["onnx"], tmp_path / "bundle")
    TOKENIZERS["a post-processor of unknown tokens"](folder)
    predictor = load(folder)
    with pytest.raises(BundleError, match="does not answer: PanicException"):
        predictor.predict([predictor.evaluator.read("酒店")])


def test_the_child_answers_on_and_none_took_more_than_two_gibibytes(
    whole: Mapping[str, Path], child: SandboxedCall
) -> None:
    for folder in whole.values():
        assert ask(child, folder)["answers"][0]["label"] in ("差评", "好评")
    # Of all children that have ended.
    ended = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10
    assert max(peak(child.pid), ended) < _MOST_BYTES
    assert len(ALL) + len(ENDLESS) >= 150


def peak(pid: int) -> int:
    """The most that a process has held (bytes)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) << 10
