"""Linear probe: how well a digit's class can be read, linearly, from the features of a frozen denoiser.

One protocol for every method:

- Input: x + sigma * noise, sigma small and the noise of one seed, for an EBT and a diffusion model alike.
- Features: the output of one block of the trunk, averaged over patches (n, D), in the first evaluation of the network.
  There an EBT computes the energy of the noised image, and is not told sigma; a diffusion model predicts its noise, and
  is told. Every block is probed, because the best one need not be the same for both.
- Classifier: ridge regression on one-hot labels, features standardised by the training tiles. The penalty is the best
  of PENALTIES on every fifth training tile, learned from the others; then all training tiles are learned from.
- Score: accuracy on the held-out tiles, which neither the denoiser nor the classifier saw.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ebt_policy.core.model import set_act
from ebt_policy.tasks.image import Denoiser, add_noise

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # per training tile


@dataclass(frozen=True)
class Reading:
    correct: int  # of the held-out tiles
    held_out: int
    validation: float  # accuracy by which the penalty was chosen
    penalty: float


def features(denoiser: Denoiser, images: Tensor, sigma: float, batch: int = 100) -> list[Tensor]:
    """images (n, C, S, S) in [-1, 1] -> of each block of the trunk, first to last, (n, D)."""
    set_act(denoiser.model, steps=1)
    parts = []
    with _last_outputs(denoiser.model.net.trunk.blocks) as seen:
        for noised in add_noise(images, sigma).split(batch):
            denoiser.denoise(noised.to(denoiser.device), sigma)
            parts.append([output.mean(1).cpu() for output in seen.values()])
    return [torch.cat(outputs) for outputs in zip(*parts, strict=True)]


@contextmanager
def _last_outputs(blocks: Iterable[nn.Module]) -> Iterator[dict[nn.Module, Tensor]]:
    """What each block put out when it was called last: after a denoising step, for the candidate, not the context."""
    seen = dict.fromkeys(blocks)

    def look(block: nn.Module, inputs: tuple, output: tuple) -> None:
        seen[block] = output[0].detach()

    hooks = [block.register_forward_hook(look) for block in seen]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def read(train: Tensor, label: Tensor, held_out: Tensor, held_out_label: Tensor) -> Reading:
    """train (n, D) with its labels (n,) int64, and the same of what is held out."""
    mean, spread = train.mean(0), train.std(0) + 1e-6
    train, held_out = ((x - mean) / spread for x in (train, held_out))
    validates = torch.arange(len(train)) % 5 == 0

    def accuracy(penalty: float) -> float:
        weight = _ridge(train[~validates], label[~validates], penalty)
        return _correct(weight, train[validates], label[validates]) / int(validates.sum())

    scores = {penalty: accuracy(penalty) for penalty in PENALTIES}
    best = max(scores, key=scores.get)
    weight = _ridge(train, label, best)
    return Reading(_correct(weight, held_out, held_out_label), len(held_out), scores[best], best)


def _ridge(x: Tensor, label: Tensor, penalty: float) -> Tensor:
    """argmin over W (D+1, classes) of |[x, 1] W - one-hot label|^2 + n * penalty * |W|^2."""
    x = _with_one(x)
    target = torch.nn.functional.one_hot(label).double()
    return torch.linalg.solve(x.T @ x + len(x) * penalty * torch.eye(x.shape[1], dtype=x.dtype), x.T @ target)


def _correct(weight: Tensor, x: Tensor, label: Tensor) -> int:
    return int(((_with_one(x) @ weight).argmax(1) == label).sum())


def _with_one(x: Tensor) -> Tensor:
    return torch.cat([x.double(), torch.ones(len(x), 1, dtype=torch.float64)], 1)
