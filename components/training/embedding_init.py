"""Begin a student with the token embeddings of its teacher, reduced to its width."""

from __future__ import annotations

import torch
from torch import nn

from components.models.base import HasTokenTable


@torch.no_grad()
def take_embeddings(student: nn.Module, teacher: nn.Module) -> bool:
    """Replace the student's token embeddings by the principal components of the teacher's.

    They keep the standard deviation that the student's had. Model2Vec (Tulkens and van Dongen
    2024) reduces the embeddings of sentence encoders in the same way. Where the student is wider,
    its further columns stay as they are. Both networks read the same token ids.

    Args:
        student: changed in place.
        teacher: stays as it is.

    Returns:
        Whether both have a table of as many tokens. If not, nothing is changed.
    """
    if not (isinstance(student, HasTokenTable) and isinstance(teacher, HasTokenTable)):
        return False
    own = student.table().weight  # (v, w)
    given = teacher.table().weight.detach().double().cpu()  # (v, t)
    if len(own) != len(given):
        return False
    centered = given - given.mean(0)
    # In ascending order of the variance.
    directions = torch.linalg.eigh(centered.T @ centered).eigenvectors.flip(1)  # (t, t)
    signs = directions.gather(0, directions.abs().argmax(0, keepdim=True)).sign()
    components = centered @ (directions * signs)[:, : own.shape[1]]  # (v, min(w, t))
    scaled = components * (own.double().std() / components.std())
    # Padding has the id 0 and stays zero where the student's table says so.
    first = 0 if student.table().padding_idx is None else 1
    own[first:, : scaled.shape[1]] = scaled[first:].to(own.dtype)
    return True
