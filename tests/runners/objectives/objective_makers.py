"""Logits, features and views for the tests of objectives."""

from __future__ import annotations

import numpy as np
import torch

from kdstats.schemes import AugmentedBatch, Draw

# Shapes of two unlike networks: other channels, other sizes, another number of stages.
STUDENT = ((4, 8, 8), (5, 8, 8), (6, 8, 8), (7, 3, 3), (7,))
TEACHER = ((3, 8, 8), (6, 8, 8), (8, 4, 4), (9, 4, 4), (9, 2, 2), (11,))


def rng(seed):
    return torch.Generator().manual_seed(seed)


def logits(seed, b=6, c=5):
    return torch.randn(b, c, generator=rng(seed)) * 3


def features(seed, shapes, b=6, grad=False):
    gen = rng(seed)
    return [torch.randn(b, *shape, generator=gen).requires_grad_(grad) for shape in shapes]


def view_of(lam, labels, partner_labels, partner=None, recursive=False, box=None, side=8):
    """A view with the given mixture; ids are positions."""
    b = len(labels)
    lam = torch.as_tensor(lam, dtype=torch.float32).expand(b).clone()
    index = torch.arange(b)
    params = {} if box is None else {"box": torch.as_tensor(box), "before": torch.zeros(b, 1, side, side)}
    return AugmentedBatch(
        images=torch.zeros(b, 1, side, side),
        sample_id=index,
        partner_id=index,
        lam=lam,
        draw=Draw("recursive_mix" if recursive else "cutmix", params),
        index=index,
        partner_index=index if partner is None else torch.as_tensor(partner),
        labels=torch.as_tensor(labels),
        partner_labels=torch.as_tensor(partner_labels),
        recursive=recursive,
    )


def f64(tensor):
    return tensor.detach().double().numpy()


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def pooled(x, h, w):
    """Adaptive average pooling by its definition: window i covers floor(i·H/h) … ceil((i+1)·H/h)."""
    b, d, height, width = x.shape
    out = np.empty((b, d, h, w))
    for i in range(h):
        rows = slice(i * height // h, -(-(i + 1) * height // h))
        for j in range(w):
            out[:, :, i, j] = x[:, :, rows, j * width // w : -(-(j + 1) * width // w)].mean((2, 3))
    return out


def same_size(s, t):
    h, w = min(s.shape[2], t.shape[2]), min(s.shape[3], t.shape[3])
    return pooled(s, h, w), pooled(t, h, w)
