"""Write text with a trained language model, each token in the colour of its energy: blue is low, red is high.

python scripts/generate.py run=runs/text_ebt_s2 prompt="My fellow Americans" candidates=8 method.steps=6

Energies compare candidates for one place best; from place to place they are a hint and no calibrated doubt.
"""

from __future__ import annotations

import time

import hydra
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ebt_policy.cli import explain, fail_cleanly
from ebt_policy.data.text import END, encode
from ebt_policy.tasks.write import Draw, Token, write
from ebt_policy.train.kinds.text import load_language_model

MOST = 100  # tokens, unless asked for more
COLOURS = ("blue", "cyan", "green", "yellow", "red")  # from the lowest fifth of the energies to the highest


@hydra.main(config_path="../configs", config_name="generate", version_base="1.3")
@fail_cleanly
def main(cfg: DictConfig) -> None:
    act = {name: value for name, value in OmegaConf.to_container(cfg.method).items() if value is not None}
    model, tokenizer = load_language_model(cfg.run, **act)
    end = tokenizer.token_to_id(END)
    prompt = [end, *encode(tokenizer, cfg.prompt)]
    count = cfg.tokens or max(1, min(MOST, model.context + 1 - len(prompt)))
    draw = Draw(cfg.temperature, cfg.top_p, cfg.candidates)
    generator = torch.Generator(model.device).manual_seed(cfg.seed)
    begun = time.perf_counter()
    tokens = list(write(model, prompt, count, draw, end, generator))
    seconds = time.perf_counter() - begun
    pieces = _pieces(tokenizer, [token.id for token in tokens])
    console = Console(highlight=False)
    console.print(Text(cfg.prompt, style="bold") + _coloured(tokens, pieces), soft_wrap=True)
    console.print(Text(_summary(tokens, seconds), style="dim"))
    if cfg.table:
        console.print(_table(tokens, pieces))


def _pieces(tokenizer, ids: list[int]) -> list[str]:
    """What each token adds to the text; nothing where a letter needs more tokens, which the last of them then adds."""
    pieces, shown = [], ""
    for n in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[:n])
        whole = "" if text.endswith("\ufffd") and n < len(ids) else text[len(shown) :]
        pieces.append(whole)
        shown += whole
    return pieces


def _coloured(tokens: list[Token], pieces: list[str]) -> Text:
    energies = torch.tensor([token.energy for token in tokens if token.energy is not None])
    text = Text()
    for token, piece in zip(tokens, pieces, strict=True):
        fifth = 0 if token.energy is None else int((energies < token.energy).sum() * len(COLOURS) / len(energies))
        text.append(piece, style="" if token.energy is None else COLOURS[fifth])
    return text


def _summary(tokens: list[Token], seconds: float) -> str:
    said = f"{len(tokens)} tokens, {1000 * seconds / len(tokens):.1f} ms each"
    energies = [token.energy for token in tokens if token.energy is not None]
    if not energies:
        return f"{said}; this model has no energies"
    return f"{said}; energies {min(energies):.4g} to {max(energies):.4g}, mean {sum(energies) / len(energies):.4g}"


def _table(tokens: list[Token], pieces: list[str]) -> Table:
    table = Table("token", "probability", "energy")
    for token, piece in zip(tokens, pieces, strict=True):
        energy = "-" if token.energy is None else f"{token.energy:.4g}"
        table.add_row(Text(repr(piece)), f"{token.probability:.3f}", energy)
    return table


if __name__ == "__main__":
    explain("generate", __doc__)
    main()
