"""Small models of every kind that the core trains: action chunks, text, images."""

import torch
import torch.nn.functional as F

from ebt_policy.core import (
    EBT,
    ActConfig,
    DescentConfig,
    LinearTokens,
    LogitTokens,
    OwnIterates,
    PatchTokens,
    Quadratic,
    Scalar,
    Transformer,
)
from ebt_policy.core.objectives import squared_error

DIM = 32


def cross_entropy(y, target):
    return F.cross_entropy(y.transpose(1, 2), target, reduction="none")  # (B, N)


def make(kind, backprop="last", act=None, head=None, objective=None, **settings):
    torch.manual_seed(0)
    tokenize, look, criterion, default_head = {
        "policy": (LinearTokens(7, DIM), "all", squared_error, Quadratic),
        "text": (LogitTokens(11, DIM), "past", cross_entropy, Scalar),
        "image": (PatchTokens(3, 4, DIM), "all", squared_error, Quadratic),
    }[kind]
    train_walk = DescentConfig(
        steps=3, extra_steps=2, noise=(0.1, 0.0), step_jitter=1.2, momentum=0.3, backprop=backprop
    )
    return EBT.on_trunk(
        tokenize,
        Transformer(DIM, 2, 4, look),
        head or default_head,
        objective=objective or OwnIterates(criterion),
        train_walk=train_walk,
        act=act or ActConfig(steps=4),
        **({"step_size": 0.5} | settings),
    )


def example(kind, seed=1):
    """target, ctx, y0 of a batch of 4."""
    torch.manual_seed(seed)
    return {
        "policy": lambda: (torch.randn(4, 16, 7), torch.randn(4, 2, DIM), torch.randn(4, 16, 7)),
        "text": lambda: (torch.randint(11, (4, 9)), torch.randn(4, 9, DIM), torch.randn(4, 9, 11)),
        "image": lambda: (torch.randn(4, 3, 16, 16), torch.randn(4, 1, DIM), torch.randn(4, 3, 16, 16)),
    }[kind]()
