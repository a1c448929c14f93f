"""Measure what language models gain by thinking: in more descent steps, and with the best of more candidates by energy.

python scripts/think.py runs=[runs/text_ebt_s1,runs/text_ebt_s2,runs/text_transformer] judge=runs/text_transformer
python scripts/think.py runs=[runs/text_ebt_s2,runs/text_ablation_no_jitter,runs/text_ablation_no_noise] corpora=[]
python scripts/think.py runs=[runs/along/750,runs/along/1500,runs/along/3000] corpora=[]        # gain along training

On held-out text of the training corpus and on others, by every number of steps and of candidates: perplexity, bits per
byte, gain over the fewest steps with one candidate; whether the gain grows with the distance from home; and how well a
token's energy foretells its cross-entropy. What the figures mean: ebt_policy/rollout/gain.py and difficulty.py.

It is teacher-forced prediction of the next token, on samples of the texts: it says nothing of what is written freely.
Gains are over the fewest steps, which may be fewer than a run was trained with: then part of the gain is no more than
leaving that handicap behind. steps=[3,4,8] for a run trained with 3 shows the rest. Longest and most are fixed before
looking, and not the best of the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf
from tokenizers import Tokenizer
from tqdm import tqdm

from ebt_policy.bench import table
from ebt_policy.cli import explain, fail_cleanly
from ebt_policy.data.text import END, bytes_of, pieces
from ebt_policy.rollout.gain import Estimate
from ebt_policy.rollout.result import versions, write_result
from ebt_policy.rollout.thinking import Corpus, Thinking, distances, relations, think
from ebt_policy.tasks.think import Excerpt
from ebt_policy.train.build import load_config
from ebt_policy.train.evaluate import sha256
from ebt_policy.train.kinds.text import held_out_text, load_language_model, other_texts

HOME = "held out"


@hydra.main(config_path="../configs", config_name="think", version_base="1.3")
@fail_cleanly
def main(cfg: DictConfig) -> None:
    settings = OmegaConf.to_container(cfg)
    act = {name: value for name, value in settings["method"].items() if value is not None}
    runs = list(dict.fromkeys([*cfg.runs, *([cfg.judge] if cfg.judge else [])]))
    data = check(settings, runs)
    tokenizer = load_language_model(runs[0])[1]
    texts = pieces(tokenizer)
    corpora = list(read(runs[0], tokenizer, settings["corpora"], cfg.rows))
    judged = distances(think_about(corpora, cfg.judge)) if cfg.judge else None
    sections = {"rows": [], "relations": [], "signals": []}
    for run in cfg.runs:
        found = think_about(corpora, run, cfg.steps, max(cfg.candidates), **act)
        for name, rows in described(found, judged or distances(found), cfg.candidates, texts).items():
            sections[name] += [{"run": run} | row for row in rows]
    hashes = {"data": data} | {run: sha256(Path(run) / "weights.safetensors") for run in runs}
    result = {"run": settings} | sections | {"hashes": hashes, "versions": versions()}
    print(f"{summary(result)}\n-> {write_result(cfg.out or Path(cfg.runs[0]) / 'think.json', result)}")


def check(settings: dict, runs: Sequence[str]) -> str:
    """The hash of the text that all runs learned from, as they must to be compared, and in rows of one length."""
    for name in ("runs", "steps", "candidates"):
        if not settings[name]:
            raise ValueError(f"expected at least one of {name}, got none: set {name}=[...]")
    if min(settings["candidates"]) < 1 or min(settings["steps"]) < 1:
        raise ValueError(f"expected steps and candidates >= 1, got {settings['steps']} and {settings['candidates']}")
    found = {run: load_config(Path(run), "text") for run in runs}
    kinds = {run: (cfg.data.hash, cfg.spec.context) for run, cfg in found.items()}
    if len(set(kinds.values())) > 1:
        raise ValueError(f"runs on different text or in different contexts cannot be compared: {kinds}")
    return kinds[runs[0]][0]


def read(run: str, tokenizer: Tokenizer, others: Sequence[dict], rows: int) -> Iterator[Corpus]:
    """What the run held out, then the other corpora, as far as they have rows to measure."""
    cut = (load_config(Path(run)).spec.context, rows, tokenizer.token_to_id(END), bytes_of(tokenizer))
    yield Corpus(HOME, Excerpt.of(held_out_text(run), *cut))
    texts = other_texts(run, tokenizer, others)
    for seed, (other, text) in enumerate(zip(others, texts, strict=True), 1):
        name = " ".join([other["corpus"], "-".join(map(str, other.get("years") or ()))]).strip()
        yield Corpus(name, Excerpt.of(text, *cut), seed)


def think_about(
    corpora: Sequence[Corpus], run: str, steps: Sequence[int] = (), candidates: int = 1, **act
) -> list[Thinking]:
    model, _ = load_language_model(run, **act)
    return [think(model, corpus, steps, candidates) for corpus in tqdm(corpora, desc=run, unit="corpus")]


def described(
    found: Sequence[Thinking], away: Sequence[Estimate], candidates: Sequence[int], texts: Sequence[str]
) -> dict[str, list[dict]]:
    """Rows of every section for one run, whose corpora are so far from home; texts (V,) of tokens."""
    rows, signals = [], []
    for thinking, distance in zip(found, away, strict=True):
        told = {"corpus": thinking.corpus.name}
        rows += [told | {"degree": distance.told()} | row for row in thinking.rows(candidates)]
        signals += [told | row for row in thinking.signals(texts)]
    return {"rows": rows, "relations": relations(found, away), "signals": signals}


def summary(result: dict) -> str:
    """Three tables: gains by corpus, whether they grow with the degree, and what signals foretell at home."""
    at_home = [row for row in result["signals"] if row["corpus"] == HOME]
    return "\n\n".join([_gains(result["rows"]), _relations(result["relations"]), _signals(at_home)])


def _gains(rows: Sequence[dict]) -> str:
    lines = []
    for run, corpus in dict.fromkeys((row["run"], row["corpus"]) for row in rows):
        mine = [row for row in rows if (row["run"], row["corpus"]) == (run, corpus)]
        least, alone = mine[0], [row for row in mine if row["candidates"] == 1]  # both by rising numbers of steps
        figures = [_figure(least["degree"]), _figure(least["perplexity"])]
        lines.append([f"{run}, {corpus}", *figures, *(_figure(row["gain"]) for row in (alone[-1], mine[-1]))])
    head = ["run, corpus", "degree", "perplexity, least thinking", "gain %, longer", "gain %, longer, best of N"]
    return table(head, lines)


def _relations(rows: Sequence[dict]) -> str:
    lines = [
        [
            f"{row['run']}, {row['steps']} steps, best of {row['candidates']}",
            f"{row['spearman']:.2f}",
            *(_interval(row[f"interval_of_{which}_sets"]) for which in ("these", "any_such")),
        ]
        for row in rows
    ]
    return table(["gain by degree", "Spearman", "these corpora", "any such corpora"], lines)


def _signals(rows: Sequence[dict]) -> str:
    lines = [
        [
            f"{row['run']}, {row['signal']}",
            _figure(row["raw"]),
            _figure(row["calibrated"]),
            f"{row['place_alone']['value']:.2f}",
        ]
        for row in rows
    ]
    return table(["cross-entropy by signal, Spearman", "raw", "calibrated", "place alone"], lines)


def _figure(found: dict | None) -> str:
    return "-" if found is None else f"{found['value']:.3g} {_interval(found['interval'])}"


def _interval(ends: Sequence[float]) -> str:
    return f"[{ends[0]:.3g}, {ends[1]:.3g}]"


if __name__ == "__main__":
    explain("think", __doc__)
    main()
