"""Token embeddings that a student takes from its teacher."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from components.training.embedding_init import take_embeddings


class Table(nn.Module):
    """A network that is only its table."""

    def __init__(self, tokens: int, width: int, padding: int | None = 0) -> None:
        super().__init__()
        self.embed = nn.Embedding(tokens, width, padding_idx=padding)

    def table(self) -> nn.Embedding:
        """Return the embedding of the token ids."""
        return self.embed


def teacher_of_rank(rank: int) -> Table:
    """Return a teacher of 200 tokens whose embeddings lie in `rank` dimensions."""
    generator = torch.Generator().manual_seed(0)
    table = Table(200, 24)
    rows = torch.randn(200, rank, generator=generator)
    mixed = rows @ torch.randn(rank, 24, generator=generator)
    table.embed.weight.data = mixed + 3.0
    return table


def distances(weight: torch.Tensor) -> torch.Tensor:
    """Return the distances (n, n) between the embeddings of all tokens but the padding."""
    return torch.cdist(weight[1:].double(), weight[1:].double())


def test_tokens_are_as_far_from_each_other_as_in_the_teacher() -> None:
    teacher, student = teacher_of_rank(8), Table(200, 8)
    deviation = float(student.embed.weight.detach().std())
    assert take_embeddings(student, teacher)
    own, given = distances(student.embed.weight), distances(teacher.embed.weight)
    scale = own.sum() / given.sum()
    torch.testing.assert_close(own, given * scale, rtol=1e-4, atol=1e-4)
    assert float(student.embed.weight.detach().std()) == pytest.approx(deviation, rel=0.02)
    # Padding stays zero, and the axes with most of the variance come first.
    assert not bool(student.embed.weight[0].any())
    variances = student.embed.weight[1:].var(0)
    assert bool((variances[:-1] > variances[1:]).all())


def test_a_wider_student_keeps_its_further_columns() -> None:
    student = Table(200, 40)
    before = student.embed.weight.detach().clone()
    assert take_embeddings(student, teacher_of_rank(8))
    assert torch.equal(student.embed.weight[:, 24:], before[:, 24:])
    assert not torch.equal(student.embed.weight[1:, :24], before[1:, :24])


def test_the_same_teacher_gives_the_same_bytes() -> None:
    weights = []
    for _ in range(2):
        torch.manual_seed(1)
        student = Table(200, 8, padding=None)
        assert take_embeddings(student, teacher_of_rank(24))
        weights.append(student.embed.weight.detach().clone())
    assert torch.equal(*weights)


class Reader(Table):
    """A network with a state for each token."""

    def __init__(self, tokens: int, width: int, states: int) -> None:
        super().__init__(tokens, width)
        self.layer = nn.Linear(width, states)

    def states(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return (n, t, states)."""
        assert ids.shape == mask.shape
        assert bool((mask == 1).all())
        # A state depends on the other tokens of its row.
        return torch.tanh(self.layer(self.embed(ids) + self.embed(ids).mean(1, keepdim=True)))


@pytest.mark.parametrize("frame", [([], []), ([5], [6, 7])])
def test_states_of_single_tokens_count_as_much_as_embeddings(
    frame: tuple[list[int], list[int]],
) -> None:
    torch.manual_seed(0)
    teacher, student = Reader(700, 6, 10), Table(700, 16)
    # A larger unit must not decide.
    teacher.embed.weight.data *= 50
    assert take_embeddings(student, teacher, frame)
    table = teacher.embed.weight.detach()
    before, after = frame
    rows = torch.tensor([[*before, token, *after] for token in range(700)])
    states = teacher.states(rows, torch.ones(rows.shape))[:, len(before)].detach()
    both = torch.cat([table / table.std(), states / states.std()], dim=1)
    own, given = distances(student.embed.weight), distances(both)
    torch.testing.assert_close(own, given * (own.sum() / given.sum()), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("other", [Table(150, 24), nn.Linear(2, 2)])
def test_another_vocabulary_changes_nothing(other: nn.Module) -> None:
    student = Table(200, 8)
    before = student.embed.weight.detach().clone()
    assert not take_embeddings(student, other)
    assert torch.equal(student.embed.weight, before)
