"""The trunk: a transformer that reads [context; candidate] with the context encoded once.

The context never looks at the candidates, so its keys and values are computed in `bind` and reused for every
descent (or denoising) step and every candidate.

    B batch   L context tokens   N candidate tokens   D width   H heads
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ebt_policy import bounds

MAX_TOKENS = 512
KeysValues = tuple[Tensor, Tensor]  # of one block, each (B, H, L, D/H)
Turn = tuple[Tensor, Tensor]  # cosines and sines by which positions turn queries and keys, each (N or 1, D/H/2)


@dataclass(frozen=True)
class Prefix:
    """A context that was read already; more of it can follow, and candidates for the token after it."""

    keys_values: list[KeysValues]  # per block
    features: Tensor  # (B, n, D) of the n tokens that were read last
    room: Room | None = None  # where the keys and values lie, if they have grown

    def __len__(self) -> int:
        return self.keys_values[0][0].shape[-2]

    def grow(self, n: int) -> Room:
        """Room for n tokens more: its own, unless that is full or another text went on from here already."""
        before, own = len(self), self.room
        room = own if own and own.used == before and before + n <= own.size else Room(self.keys_values, 2 * before + n)
        room.used = before + n
        return room


class Room:
    """Memory for the keys and values of a text that grows: a token more copies none of those before it."""

    def __init__(self, keys_values: list[KeysValues], size: int):
        kept = torch.stack([torch.stack(pair) for pair in keys_values])  # (blocks, 2, B, H, L, D/H)
        self.used, self.size = kept.shape[-2], size
        self.memory = kept.new_empty(*kept.shape[:-2], size, kept.shape[-1])
        self.memory[..., : self.used, :] = kept

    def add(self, block: int, own: KeysValues) -> KeysValues:
        """All keys and values of a block, 2 x (B, H, L, D/H), of which the last are `own`."""
        for kept, new in zip(self.memory[block], own, strict=True):
            kept[..., self.used - new.shape[-2] : self.used, :] = new
        keys, values = self.memory[block, ..., : self.used, :]
        return keys, values


class Attention(nn.Module):
    """Softmax attention, plain where training needs a second derivative, which fused kernels lack."""

    def __init__(self, dim: int, heads: int, bias: bool = True):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(dim, 3 * dim, bias), nn.Linear(dim, dim, bias)

    def forward(
        self, x: Tensor, prefix: KeysValues | None, mask: Tensor | None, fused: bool, turn: Turn | None = None
    ) -> tuple[Tensor, KeysValues]:
        """x (B, N, D) attends to prefix, 2 x (B, H, L, D/H), and itself; mask (N, L+N) is True where it may look.

        A mask (N, L) speaks of the prefix alone: of x, each token then sees itself and no other.
        Returns the output (B, N, D) and x's own keys and values, 2 x (B, H, N, D/H).
        """
        q, k, v = self.project(x, turn)
        own = (k, v)
        if prefix is not None and mask is not None and mask.shape[-1] == prefix[0].shape[-2]:
            mixed = _attend_alone(q, prefix, own, mask)
        else:
            if prefix is not None:
                k, v = (torch.cat(pair, dim=-2) for pair in zip(prefix, own, strict=True))  # (B, H, L+N, D/H)
            mix = nn.functional.scaled_dot_product_attention if fused else _attend
            mixed = mix(q, k, v, mask)
        return self.out(mixed.transpose(1, 2).reshape(x.shape)), own

    def project(self, x: Tensor, turn: Turn | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, N, D) -> its queries, keys and values, each (B, H, N, D/H)."""
        B, N, D = x.shape
        q, k, v = self.qkv(x).view(B, N, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4).unbind()
        return (q, k, v) if turn is None else (_turned(q, turn), _turned(k, turn), v)


class Block(nn.Module):
    def __init__(self, dim: int, attn: Attention, mlp: nn.Module):
        super().__init__()
        self.norm1, self.attn = nn.RMSNorm(dim, eps=1e-5), attn
        self.norm2, self.mlp = nn.RMSNorm(dim, eps=1e-5), mlp

    def forward(
        self, x: Tensor, prefix: KeysValues | None, mask: Tensor | None, fused: bool, turn: Turn | None = None
    ) -> tuple[Tensor, KeysValues]:
        h, own = self.attn(self.norm1(x), prefix, mask, fused, turn)
        x = x + h
        return x + self.mlp(self.norm2(x)), own


class Trunk(nn.Module):
    """look="all": every candidate token sees all context and all candidates (actions, images).
    look="past": candidate i sees context <= i and itself alone (text, all positions at once).
    """

    def __init__(self, dim: int, blocks: Iterable[Block], look: Literal["all", "past"]):
        super().__init__()
        self.dim, self.look = dim, look
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.RMSNorm(dim, eps=1e-5)

    def place(self, x: Tensor, at: slice) -> tuple[Tensor, Turn | None]:
        """x (B, N, D) at the positions `at`, N of them or one for all; and how queries and keys turn there."""
        raise NotImplementedError

    def bind(self, ctx: Tensor) -> Callable[[Tensor], Tensor]:
        """Fix the context (B, L, D); returns features(tokens (B, N, D)) -> (B, N, D).

        Bound without grad mode nobody can ask for a second derivative, so attention is fused there.
        """
        L, fused = ctx.shape[1], not torch.is_grad_enabled()
        x, turn = self.place(ctx, slice(0, L))
        mask = _causal(L, L, x.device) if self.look == "past" else None
        keys_values = []
        for i, block in enumerate(self.blocks):
            if i + 1 < len(self.blocks):
                x, own = block(x, None, mask, fused, turn)
            else:  # of the last block only keys and values are read
                _, *own = block.attn.project(block.norm1(x), turn)
            keys_values.append(own)

        def features(tokens: Tensor) -> Tensor:
            N = tokens.shape[1]
            if self.look == "all":
                return self(tokens, keys_values, slice(L, L + N), None, fused)
            return self(tokens, keys_values, slice(L - N + 1, L + 1), _causal(N, L, tokens.device), fused)

        return features

    def read(self, ctx: Tensor, past: Prefix | None = None) -> Prefix:
        """Read the context (B, n, D) after `past` as a plain causal transformer does.

        Once differentiable without a past; what was read before is memory, which no gradient goes through.
        """
        n, before = ctx.shape[1], 0 if past is None else len(past)
        room = None if past is None else past.grow(n)
        x, turn = self.place(ctx, slice(before, before + n))
        # a single token sees all before it and itself, which takes no joining of its key to theirs
        mask, keys_values = _causal(n, before if n == 1 and before else before + n, x.device), []
        for i, block in enumerate(self.blocks):
            old = None if past is None else past.keys_values[i]
            x, own = block(x, old, mask, True, turn)
            keys_values.append(own if room is None else room.add(i, own))
        return Prefix(keys_values, self.norm(x), room)

    def after(self, prefix: Prefix) -> Callable[[Tensor], Tensor]:
        """features(tokens (B, N, D)) -> (B, N, D): N candidates for the one place after the prefix, each on its own."""
        L = len(prefix)

        def features(tokens: Tensor) -> Tensor:
            see_all = torch.ones(tokens.shape[1], L, dtype=torch.bool, device=tokens.device)
            return self(tokens, prefix.keys_values, slice(L, L + 1), see_all, not torch.is_grad_enabled())

        return features

    def forward(
        self, tokens: Tensor, keys_values: list[KeysValues], at: slice, mask: Tensor | None, fused: bool
    ) -> Tensor:
        """tokens (B, N, D) at positions `at` and the context's keys and values per block -> features (B, N, D)."""
        x, turn = self.place(tokens, at)
        for block, prefix in zip(self.blocks, keys_values, strict=True):
            x, _ = block(x, prefix, mask, fused, turn)
        return self.norm(x)


class Transformer(Trunk):
    """With GELU and learned positions."""

    def __init__(self, dim: int, depth: int, heads: int, look: Literal["all", "past"] = "all"):
        check_size(dim, depth, heads)
        super().__init__(dim, (Block(dim, Attention(dim, heads), _gelu(dim)) for _ in range(depth)), look)
        self.pos = nn.Parameter(torch.randn(MAX_TOKENS, dim) * 0.02)

    def place(self, x: Tensor, at: slice) -> tuple[Tensor, None]:
        return x + self.pos[at], None


def check_size(dim: int, depth: int, heads: int) -> None:
    """ValueError unless there can be a trunk of this width, so many blocks and heads."""
    for name, value in (("dim", dim), ("depth", depth), ("heads", heads)):
        bounds.whole(name, value, "[1, inf)")
    if dim % heads:
        raise ValueError(f"dim must be a multiple of heads, got dim {dim} and {heads} heads")


def _gelu(dim: int) -> nn.Module:
    return nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"), nn.Linear(4 * dim, dim))


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    score = q @ k.transpose(-1, -2) / k.shape[-1] ** 0.5  # (B, H, N, L+N)
    if mask is not None:
        score = score.masked_fill(~mask, -torch.inf)
    return score.softmax(-1) @ v


def _attend_alone(q: Tensor, prefix: KeysValues, own: KeysValues, mask: Tensor) -> Tensor:
    """Each token of q (B, H, N, D/H) looks at the prefix where mask (N, L) says, and at its own key and value."""
    past = (q @ prefix[0].transpose(-1, -2)).masked_fill(~mask, -torch.inf)  # (B, H, N, L)
    score = torch.cat([past, (q * own[0]).sum(-1, keepdim=True)], -1) / q.shape[-1] ** 0.5
    share = score.softmax(-1)
    return share[..., :-1] @ prefix[1] + share[..., -1:] * own[1]


def _turned(x: Tensor, turn: Turn) -> Tensor:
    """x (B, H, N, D/H), each half of whose channels pairs with the other, turned by the angles of its positions."""
    (cos, sin), (a, b) = turn, x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)


def _causal(n: int, past: int, device) -> Tensor:
    """(n, past): the last of `past` >= n tokens sees them all, the one before it all but that one, and so on."""
    return torch.ones(n, past, dtype=torch.bool, device=device).tril(past - n)
