"""The smallest language models, texts and runs that go through everything."""

from __future__ import annotations

import torch
from hydra import compose, initialize_config_dir
from tiny_runs import ROOT
from torch import nn

from ebt_policy.baselines.regression import OnePass
from ebt_policy.baselines.transformer_lm import TransformerLM
from ebt_policy.core import (
    EBT,
    ActConfig,
    CrossEntropy,
    DescentConfig,
    DotProduct,
    LogitTokens,
    OwnIterates,
    RotaryTransformer,
    Scalar,
)
from ebt_policy.tasks.text import KeptRows, LanguageModel

VOCABULARY, CONTEXT, DIM = 11, 8, 16
S1 = dict(train=DescentConfig(steps=2, state="simplex", backprop="each"), act=dict(steps=2), step=10.0, landscapes=2)
S2 = dict(
    train=DescentConfig(2, 1, noise=(3.0, 3.0), step_jitter=2.0, state="simplex", backprop="last"),
    act=dict(steps=3, noise=(3.0, 3.0)),
    step=5.0,
    landscapes=0,
)
DOT = S1 | dict(train=DescentConfig(steps=2, state="simplex", backprop="through"), head=DotProduct)
RECIPES = {"s1": S1, "s2": S2, "dot": DOT}


def make(kind="s1", context=CONTEXT, start=1.0, **act) -> LanguageModel:
    """An untrained model of two blocks: a kind of RECIPES or transformer; `act` changes how it samples."""
    torch.manual_seed(0)
    tokenize, trunk, replay = LogitTokens(VOCABULARY, DIM), RotaryTransformer(DIM, 2, 2), None
    if kind == "transformer":
        model = TransformerLM(tokenize, trunk, OnePass())
    else:
        recipe = RECIPES[kind]
        settings = dict(train_walk=recipe["train"], act=ActConfig(**(recipe["act"] | {"state": "simplex"} | act)))
        settings |= dict(step_size=recipe["step"], landscapes=recipe["landscapes"])
        head = recipe.get("head", Scalar)
        model = EBT.on_trunk(tokenize, trunk, head, objective=OwnIterates(CrossEntropy()), **settings)
        nn.init.normal_(model.net.head.readout.weight, std=DIM**-0.5)  # some begin at zero, where nothing shows
    if kind == "s2":
        replay = KeptRows(16, context, VOCABULARY)
    return LanguageModel(VOCABULARY, context, DIM, model, 0.0 if kind == "transformer" else start, replay)


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def write_folder(folder, files=4):
    """Sentences over and over, with a letter or two that need more than one byte."""
    folder.mkdir()
    for i in range(files):
        text = "".join(f"The house of {name} is open, señor {i}.\n" for name in ("glass", "wood", "stone") * 6)
        (folder / f"part{i}.txt").write_text(text, encoding="utf-8")
    return folder


def compose_text(run, folder, *more, updates=4):
    """The config of a tiny run on a folder of text; `more` are hydra overrides, which name the experiment."""
    small = ["net={dim: 16, depth: 1, heads: 2}", "task=text_folder", f"task.corpus={folder}", "task.vocabulary=280"]
    small += ["task.context=16", f"task.cache={folder.parent / 'cache'}", "validation=0.25", f"fit.updates={updates}"]
    small += ["fit.minutes=null", "fit.batch=4", "fit.warmup=2", "fit.log_every=1", "fit.eval_every=2"]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("train", [more[0], *small, f"run={run}", *more[1:]])
