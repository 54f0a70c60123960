"""A cut net computes what the whole one computes with the lost units zeroed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from components.core.errors import ParamsError
from components.models.base import PrunableDim, PruningSpec
from components.models.convnet.config import ConvNetConfig
from components.models.convnet.net import ConvNet, ConvNetPruningSpec
from components.models.counted.config import CountedConfig
from components.models.counted.net import Counted, CountedPruningSpec
from components.models.feature_layout import FeatureLayout
from components.models.ft_transformer.config import FTTransformerConfig
from components.models.ft_transformer.net import FTTransformer, FTTransformerPruningSpec
from components.models.mlp.config import MLPConfig
from components.models.mlp.net import MLP, MLPPruningSpec
from components.models.ngrams.config import NgramsConfig
from components.models.ngrams.net import Ngrams, NgramsPruningSpec
from components.models.pretrained.config import PretrainedConfig
from components.models.pretrained.net import Pretrained, PretrainedPruningSpec
from components.models.recurrent.config import RecurrentConfig
from components.models.recurrent.net import Recurrent, RecurrentPruningSpec
from components.models.table_resnet.config import TableResNetConfig
from components.models.table_resnet.net import TableResNet, TableResNetPruningSpec
from components.models.textcnn.config import TextCNNConfig
from components.models.textcnn.net import TextCNN, TextCNNPruningSpec
from components.models.transformer.config import TransformerConfig
from components.models.transformer.net import Transformer, TransformerPruningSpec
from components.stages.compress.prune import prune_network, score, select

TEXT = {
    "ids": torch.randint(1, 40, (5, 9), generator=torch.Generator().manual_seed(0)),
    "mask": torch.ones(5, 9).tril(4),
}
BERT = {
    "model_type": "bert",
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 16,
}
TABLE = FeatureLayout(numbers=3, categories=[4, 6])
ROWS = {
    "features": torch.cat(
        [
            torch.randn(5, 3, generator=torch.Generator().manual_seed(0)),
            torch.tensor([[0, 5], [3, 0], [1, 1], [2, 4], [3, 5]]),
        ],
        dim=1,
    )
}
NETS: dict[str, tuple[Any, PruningSpec, Any, dict[str, torch.Tensor]]] = {
    "ngrams": (
        NgramsConfig(n=3, buckets=60, width=16),
        NgramsPruningSpec(),
        lambda config: Ngrams(config, 40, 3),
        TEXT,
    ),
    "lstm": (
        RecurrentConfig(width=8, hidden=10, layers=2, attention=12),
        RecurrentPruningSpec(),
        lambda config: Recurrent(config, 40, 3),
        TEXT,
    ),
    "gru": (
        RecurrentConfig(cell="gru", width=8, hidden=[10, 12], attention=12),
        RecurrentPruningSpec(),
        lambda config: Recurrent(config, 40, 3),
        TEXT,
    ),
    "counted": (
        CountedConfig(
            rows=60, min_documents=1, textcnn=TextCNNConfig(width=8, channels=12, kernels=[1, 2])
        ),
        CountedPruningSpec(),
        lambda config: Counted(config, 40, 3),
        TEXT,
    ),
    "textcnn": (
        TextCNNConfig(width=8, channels=12, kernels=[1, 2, 3]),
        TextCNNPruningSpec(),
        lambda config: TextCNN(config, 40, 3),
        TEXT,
    ),
    "transformer": (
        TransformerConfig(width=16, layers=2, heads=4, feedforward=24),
        TransformerPruningSpec(),
        lambda config: Transformer(config, 40, 3, 9),
        TEXT,
    ),
    "pretrained": (
        PretrainedConfig(),
        PretrainedPruningSpec(),
        lambda config: Pretrained(config, BERT, 3),
        TEXT,
    ),
    "narrow pretrained": (
        PretrainedConfig(heads=[2, 2], feedforward=[20, 20]),
        PretrainedPruningSpec(),
        lambda config: Pretrained(config, BERT, 3),
        TEXT,
    ),
    "convnet": (
        ConvNetConfig(channels=[8, 12], hidden=20),
        ConvNetPruningSpec(),
        lambda config: ConvNet(config, 1, 8, 3),
        {"pixels": torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))},
    ),
    "deep convnet": (
        ConvNetConfig(channels=[8, 12, 16], depths=[1, 2, 2], pooling="average", hidden=0),
        ConvNetPruningSpec(),
        lambda config: ConvNet(config, 3, 13, 3),
        {"pixels": torch.randn(5, 3, 13, 13, generator=torch.Generator().manual_seed(0))},
    ),
    "mlp": (
        MLPConfig(hidden=[24, 16], number_width=4, frequencies=3),
        MLPPruningSpec(),
        lambda config: MLP(config, TABLE, 3),
        ROWS,
    ),
    "table resnet": (
        TableResNetConfig(width=16, blocks=2, hidden=[24, 20], number_width=0),
        TableResNetPruningSpec(),
        lambda config: TableResNet(config, TABLE, 3),
        ROWS,
    ),
    "feature transformer": (
        FTTransformerConfig(width=16, layers=2, heads=2, hidden=[24, 20]),
        FTTransformerPruningSpec(),
        lambda config: FTTransformer(config, TABLE, 3),
        ROWS,
    ),
}
each = pytest.mark.parametrize("name", NETS)


def whole(name: str) -> torch.nn.Module:
    """The net with random weights, biases and running statistics."""
    torch.manual_seed(3)
    config, _, build, _ = NETS[name]
    module: torch.nn.Module = build(config)
    state = {
        key: torch.rand_like(value) + 0.5
        if "running_var" in key
        else torch.randn_like(value) * 0.4
        if value.is_floating_point()
        else value
        for key, value in module.state_dict().items()
    }
    if isinstance(module, Counted):
        # Unused rows of the table have no weight.
        rows = {"ids": TEXT["ids"][TEXT["mask"] > 0], "lengths": TEXT["mask"].sum(1).long()}
        module.count(iter([rows]))
        state |= {"keys": module.keys, "rarity": state["rarity"] * (module.rarity > 0)}
    module.load_state_dict(state)
    return module.eval()


@each
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_cut_equals_zeroed(name: str, share: float) -> None:
    _, pruning_spec, build, inputs = NETS[name]
    module = whole(name)
    config, weights = prune_network(module, NETS[name][0], pruning_spec, share)
    smaller = build(type(config).model_validate(config.model_dump())).eval()
    smaller.load_state_dict(weights)

    state = {key: value.clone() for key, value in module.state_dict().items()}
    for dim in pruning_spec.dims(module):
        lost = set(range(dim.size)) - set(
            select(dim, score(dim, module.state_dict()), share).tolist()
        )
        for key, axis, first, per_unit in float_slices(dim, state):
            for unit in lost:
                state[key].narrow(axis, first + unit * per_unit, per_unit).zero_()
    zeroed = build(NETS[name][0]).eval()
    zeroed.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(smaller(**inputs), zeroed(**inputs), atol=1e-5, rtol=1e-5)
        assert not torch.allclose(
            smaller(**inputs), module(**inputs), atol=1e-2
        )  # something was lost
    assert sum(p.numel() for p in smaller.parameters()) < sum(
        p.numel() for p in module.parameters()
    )


@each
def test_the_weakest_units_go(name: str) -> None:
    """Zeroing half of the units beforehand changes nothing: they are those that are cut."""
    config, pruning_spec, build, inputs = NETS[name]
    module = whole(name)
    state = module.state_dict()
    for dim in pruning_spec.dims(module):
        for key, axis, first, per_unit in float_slices(dim, state):
            for unit in range(0, dim.size, 2):
                state[key].narrow(axis, first + unit * per_unit, per_unit).zero_()
    smaller_config, weights = prune_network(module, config, pruning_spec, 0.5)
    smaller = build(smaller_config).eval()
    smaller.load_state_dict(weights)
    with torch.no_grad():
        torch.testing.assert_close(smaller(**inputs), module(**inputs), atol=1e-5, rtol=1e-5)


@each
def test_a_cut_net_can_be_cut_again_and_never_below_its_minimum(name: str) -> None:
    config, pruning_spec, build, inputs = NETS[name]
    module = whole(name)
    for _ in range(5):
        config, weights = prune_network(module, config, pruning_spec, 0.9)
        module = build(type(config).model_validate(config.model_dump())).eval()
        module.load_state_dict(weights)
    assert all(dim.size >= dim.minimum for dim in pruning_spec.dims(module))
    assert module(**inputs).isfinite().all()


@each
def test_the_net_that_is_cut_stays_as_it_was(name: str) -> None:
    module = whole(name)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    prune_network(module, NETS[name][0], NETS[name][1], 0.5)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


@pytest.mark.parametrize("name", ["transformer", "pretrained", "narrow pretrained"])
@pytest.mark.parametrize("lost", [0, 1])
def test_a_net_without_a_layer_computes_what_the_other_layers_do(name: str, lost: int) -> None:
    config, pruning_spec, build, inputs = NETS[name]
    module = whole(name)
    (layers,) = [dim for dim in pruning_spec.dims(module) if dim.modules]
    scores = {layers.name: torch.ones(2)}
    scores[layers.name][lost] = 0
    smaller_config, weights = prune_network(
        module, config, pruning_spec, {layers.name: 0.5}, scores, multiple=16
    )
    smaller = build(type(config).model_validate(smaller_config.model_dump())).eval()
    smaller.load_state_dict(weights)
    skipped = module.get_submodule(f"{layers.name}.{lost}")
    skipped.register_forward_hook(lambda _, inputs, __: inputs[0])
    with torch.no_grad():
        torch.testing.assert_close(smaller(**inputs), module(**inputs), atol=1e-5, rtol=1e-5)
    (left,) = [dim for dim in pruning_spec.dims(smaller) if dim.modules]
    assert (left.size, layers.size) == (1, 2)


@pytest.mark.parametrize("name", ["transformer", "pretrained"])
def test_layers_and_units_are_cut_together_down_to_one_layer(name: str) -> None:
    config, pruning_spec, build, inputs = NETS[name]
    module = whole(name)
    for _ in range(3):
        shares = {dim.name: 0.6 for dim in pruning_spec.dims(module)}
        config, weights = prune_network(module, config, pruning_spec, shares)
        module = build(type(config).model_validate(config.model_dump())).eval()
        module.load_state_dict(weights)
    sizes = [dim.size for dim in pruning_spec.dims(module)]
    assert sizes == [1, 1, 8]
    assert module(**inputs).isfinite().all()


def float_slices(
    dim: PrunableDim, state: Mapping[str, torch.Tensor]
) -> list[tuple[str, int, int, int]]:
    """Return the slices that are zeroed. The sorted keys of a table of n-grams stay."""
    return [part for part in dim.slices if state[part[0]].is_floating_point()]


def test_layers_of_an_encoder_have_their_own_numbers_of_heads_and_units() -> None:
    """What the second layer lost by hand equals the same units zeroed."""
    module = whole("pretrained")
    state = module.state_dict()
    zeroed = {key: value.clone() for key, value in state.items()}
    cut = {key: value.clone() for key, value in state.items()}
    name = "encoder.encoder.layer.1"
    for part in ("query", "key", "value"):
        for kind in ("weight", "bias"):
            key = f"{name}.attention.self.{part}.{kind}"
            cut[key] = cut[key][8:]
    key = f"{name}.attention.output.dense.weight"
    cut[key] = cut[key][:, 8:]
    zeroed[key][:, :8] = 0
    for key in (f"{name}.intermediate.dense.weight", f"{name}.intermediate.dense.bias"):
        cut[key] = cut[key][:10]
    key = f"{name}.output.dense.weight"
    cut[key] = cut[key][:, :10]
    zeroed[key][:, 10:] = 0
    module.load_state_dict(zeroed)
    smaller = Pretrained(PretrainedConfig(heads=[2, 1], feedforward=[24, 10]), BERT, 3).eval()
    smaller.load_state_dict(cut)
    with torch.no_grad():
        torch.testing.assert_close(smaller(**TEXT), module(**TEXT), atol=1e-5, rtol=1e-5)


def test_an_old_config_with_one_number_builds_the_same_network() -> None:
    old = Pretrained(PretrainedConfig.model_validate({"feedforward": 10}), BERT, 3)
    new = Pretrained(PretrainedConfig(feedforward=[10, 10]), BERT, 3)
    shapes = [{key: value.shape for key, value in net.state_dict().items()} for net in (old, new)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"heads": [1]}, "heads has 1 numbers for 2 layers"),
        ({"feedforward": [8]}, "feedforward has 1 numbers for 2 layers"),
        ({"layers": 3}, "layers: 3 of an encoder with 2 layers"),
        ({"layers": 1, "heads": [1, 1]}, "heads has 2 numbers for 1 layers"),
    ],
)
def test_a_config_that_does_not_fit_the_encoder_is_refused(
    config: dict[str, Any], says: str
) -> None:
    with pytest.raises(ParamsError, match=says):
        Pretrained(PretrainedConfig.model_validate(config), BERT, 3)
