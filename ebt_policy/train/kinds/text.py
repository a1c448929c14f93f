"""Training a language model: a corpus in, rows of tokens and the perplexity on held-out documents out."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ebt_policy.core import LogitTokens, RotaryTransformer
from ebt_policy.core.model import set_act
from ebt_policy.data.episodes import DataError
from ebt_policy.data.split import split
from ebt_policy.data.text import content_hash, load_tokenizer, pack, packed, read_corpus
from ebt_policy.tasks.text import LanguageModel, Perplexity, TextRows
from ebt_policy.train import build
from ebt_policy.train.checkpoint import CheckpointError
from ebt_policy.train.work import Work

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from omegaconf import DictConfig
    from tokenizers import Tokenizer


def prepare(cfg: DictConfig) -> Work:
    """The corpus cfg.task.corpus, split by cfg.validation and packed, and the model that cfg describes for it."""
    task = cfg.task
    data = packed(task.corpus, task.years, task.vocabulary, cfg.validation, Path(task.cache))
    facts = {"spec": {"vocabulary": task.vocabulary, "context": task.context}, "data": data.facts}
    held_out, tokens = TextRows(data.held_out, task.context), task.get("tokens")
    if tokens is not None and not 0 < tokens <= len(data.train):
        raise ValueError(f"expected task.tokens of 1 to {len(data.train)}, which is the training text; got {tokens}")
    return Work(
        facts=facts,
        examples=TextRows(data.train[:tokens], task.context),
        build=partial(language_model, cfg, training=True),
        evals=(Perplexity(held_out, bytes_per_token=data.facts["held_out"]["bytes_per_token"]),),
        files={"tokenizer.json": data.tokenizer},
    )


def language_model(cfg: DictConfig, training: bool = False) -> LanguageModel:
    """The model that `cfg` (task, method, net) describes; `training` adds the rows that it keeps between updates."""
    build.check_targets(cfg)
    vocabulary, context, dim = cfg.task.vocabulary, cfg.task.context, cfg.net.dim
    trunk = RotaryTransformer(dim, cfg.net.depth, cfg.net.heads)
    model = build.conditional_model(cfg, LogitTokens(vocabulary, dim), trunk)
    replay = None
    if cfg.method.get("replay") and training:
        replay = build.make(cfg.method.replay, context=context, vocabulary=vocabulary)
    return LanguageModel(vocabulary, context, dim, model, cfg.method.start, replay)


def load_language_model(run: str | Path, **act) -> tuple[LanguageModel, Tokenizer]:
    """The trained model of a run, ready to predict, and its tokeniser; `act` overrides how it samples (steps=4)."""
    run = Path(run)
    cfg = build.load_config(run, "text")
    model = build.load_module(run, partial(language_model, cfg))
    set_act(model.model, **act)
    return model, _tokenizer(run, cfg.task.vocabulary)


def held_out_text(run: str | Path) -> np.ndarray:
    """The tokens (tokens,) that a run did not train on; CheckpointError if its corpus is not what it was.

    Nothing is written: where a run's config says that packed text was kept may be a place of somebody else's choice.
    """
    cfg = build.load_config(Path(run), "text")
    task = cfg.task
    train, held_out = split(read_corpus(task.corpus, task.years), cfg.validation, "documents")
    if content_hash(train, held_out, task.vocabulary) != cfg.data.hash:
        raise CheckpointError(f"{task.corpus} is not what {run} was trained on: take the text of then, or train again")
    return pack(_tokenizer(Path(run), task.vocabulary), held_out)


def other_texts(run: str | Path, tokenizer: Tokenizer, corpora: Sequence[Mapping]) -> Iterator[np.ndarray]:
    """The tokens (tokens,) of each corpus (corpus, years), without documents of the run's own.

    DataError for one of which none remains.
    """
    task = build.load_config(Path(run), "text").task
    own = {document.text for document in read_corpus(task.corpus, task.years)}
    for other in corpora:
        others = [document for document in read_corpus(**other) if document.text not in own]
        if not others:
            name = other["corpus"]
            raise DataError(f"all of {name} is in the corpus that {run} was trained on: give another, or other years")
        yield pack(tokenizer, others)


def _tokenizer(run: Path, vocabulary: int) -> Tokenizer:
    path = run / "tokenizer.json"
    if not path.is_file():
        raise CheckpointError(f"expected {path}, which does not exist: copy it along with the weights")
    try:
        tokenizer = load_tokenizer(path.read_text("utf-8"))
    except ValueError as error:  # DataError, or no text at all
        raise CheckpointError(f"{path}: {error}") from error
    if (tokens := tokenizer.get_vocab_size()) != vocabulary:
        raise CheckpointError(f"{path} has {tokens} tokens, its run {vocabulary}: take a fresh copy")
    return tokenizer
