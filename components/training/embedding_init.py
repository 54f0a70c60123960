"""Begin a student with what its teacher knows of each token, reduced to its width."""

from __future__ import annotations

import torch
from torch import nn

from components.models.base import HasTokenStates, HasTokenTable

_TOKENS_AT_ONCE = 512


@torch.no_grad()
def take_embeddings(student: nn.Module, teacher: nn.Module) -> bool:
    """Replace the student's token embeddings by the principal components of the teacher's.

    Beside its embedding, a token has the state that the teacher computes for it alone, where the
    teacher has states. Both parts have equal weight. The components keep the standard deviation
    that the student's embeddings had. Model2Vec (Tulkens and van Dongen 2024) reduces the states
    of sentence encoders in the same way. Where the student is wider, its further columns stay as
    they are. Both networks read the same token ids.

    Args:
        student: changed in place.
        teacher: in evaluation mode; stays as it is.

    Returns:
        Whether both have a table of as many tokens. If not, nothing is changed.
    """
    if not (isinstance(student, HasTokenTable) and isinstance(teacher, HasTokenTable)):
        return False
    own = student.table().weight  # (v, w)
    table = teacher.table().weight.detach()  # (v, t)
    if len(own) != len(table):
        return False
    known = [table]
    if isinstance(teacher, HasTokenStates):
        known.append(_states_of_tokens(teacher, len(table), table.device))
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


def _states_of_tokens(teacher: HasTokenStates, tokens: int, device: torch.device) -> torch.Tensor:
    """Return the states (tokens, width) of rows that have a single token.

    Args:
        teacher: computes them.
        tokens: number of the token ids.
        device: of the teacher.
    """
    states = []
    for start in range(0, tokens, _TOKENS_AT_ONCE):
        stop = min(start + _TOKENS_AT_ONCE, tokens)
        rows = torch.arange(start, stop, device=device).unsqueeze(1)
        mask = torch.ones(rows.shape, device=device)
        states.append(teacher.states(rows, mask)[:, 0])
    return torch.cat(states)
