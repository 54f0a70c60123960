"""Begin a student with what its teacher knows of each token, reduced to its width."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from components.models.base import HasTokenStates, HasTokenTable
from components.models.ensemble.net import EnsembleNet

_TOKENS_AT_ONCE = 512


@torch.no_grad()
def take_embeddings(
    student: nn.Module,
    teacher: nn.Module,
    frame: tuple[Sequence[int], Sequence[int]] = ((), ()),
) -> bool:
    """Replace the student's token embeddings by the principal components of the teacher's.

    Beside its embedding, a token has the state that the teacher computes for a row of it alone,
    where the teacher has states. Both parts have equal weight. The components keep the standard
    deviation that the student's embeddings had. Model2Vec (Tulkens and van Dongen 2024) reduces
    the states of sentence encoders in the same way. Where the student is wider, its further
    columns stay as they are. Both networks read the same token ids.

    Args:
        student: changed in place.
        teacher: in evaluation mode; stays as it is. Of an ensemble the first member counts.
        frame: token ids that the encoder puts before and after those of a row.

    Returns:
        Whether both have a table of as many tokens. If not, nothing is changed.
    """
    if isinstance(teacher, EnsembleNet):
        # The one with the largest weight.
        teacher = teacher.members[0]
    if not (isinstance(student, HasTokenTable) and isinstance(teacher, HasTokenTable)):
        return False
    own = student.table().weight  # (v, w)
    table = teacher.table().weight.detach()  # (v, t)
    if len(own) != len(table):
        return False
    known = [table]
    if isinstance(teacher, HasTokenStates):
        known.append(_states_of_tokens(teacher, len(table), frame))
    parts = [part.double().cpu() for part in known]
    given = torch.cat([part / part.std() for part in parts], dim=1)  # (v, t) or (v, t + s)
    centered = given - given.mean(0)
    # In ascending order of the variance.
    directions = torch.linalg.eigh(centered.T @ centered).eigenvectors.flip(1)
    signs = directions.gather(0, directions.abs().argmax(0, keepdim=True)).sign()
    components = centered @ (directions * signs)[:, : own.shape[1]]
    scaled = components * (own.double().std() / components.std())
    # Padding has the id 0 and stays zero where the student's table says so.
    first = 0 if student.table().padding_idx is None else 1
    own[first:, : scaled.shape[1]] = scaled[first:].to(own.dtype)
    return True


def _states_of_tokens(
    teacher: HasTokenStates, tokens: int, frame: tuple[Sequence[int], Sequence[int]]
) -> torch.Tensor:
    """Return the states (tokens, width) of rows with a single token in the frame.

    Args:
        teacher: computes them, on the CPU.
        tokens: number of the token ids.
        frame: token ids before and after the token.
    """
    before, after = frame
    states = []
    for ids in torch.arange(tokens).chunk(math.ceil(tokens / _TOKENS_AT_ONCE)):
        columns = [torch.full_like(ids, token) for token in before]
        columns.append(ids)
        columns += [torch.full_like(ids, token) for token in after]
        rows = torch.stack(columns, dim=1)
        states.append(teacher.states(rows, torch.ones(rows.shape))[:, len(before)].float())
    return torch.cat(states)
