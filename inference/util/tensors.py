"""Comparison of tensors."""

from __future__ import annotations

import torch
from torch import Tensor


def close(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have one shape and are equal up to rounding in ``a``'s type."""
    if a.shape != b.shape:
        return False
    if not a.is_floating_point():
        return torch.equal(a, b.to(a))
    tolerance = torch.finfo(a.dtype).eps ** 0.5
    return torch.allclose(a, b.to(a), rtol=tolerance, atol=tolerance, equal_nan=True)
