"""Time per written token on one thread: after a short and a long prefix, and with the best of 8 candidates.

    python scripts/bench_write.py --out assets/results/bench_write.json

The networks are untrained, which changes no duration. CPU time counts this process alone, wall time all that runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

from ebt_policy.bench import Ratio, interleave, ratios_table, save, times_table
from ebt_policy.cli import fail_cleanly
from ebt_policy.tasks.text import LanguageModel
from ebt_policy.train.kinds.text import language_model

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
SHORT, LONG = 10, 1000  # tokens of the prefix
MODELS = {
    "EBT S1": "text_ebt_s1",
    "EBT S1, bilinear": "text_ebt_s1_dot",
    "EBT S2": "text_ebt_s2",
    "Transformer++": "text_transformer",
}
CANDIDATES = 8


@fail_cleanly
def main() -> None:
    args = _parser().parse_args()
    torch.set_num_threads(1)
    cases, targets = {}, []
    for name, method in MODELS.items():
        model = _model(args, method)
        short, long, best = f"{name}, {SHORT} before", f"{name}, {LONG} before", f"{name}, best of {CANDIDATES}"
        cases |= {short: _token(model, SHORT), long: _token(model, LONG)}
        targets.append((long, short, "<= 1.3"))
        if method != "text_transformer":
            cases[best] = _token(model, SHORT, CANDIDATES)
            targets.append((best, short, "<= 3"))
    times = interleave(cases, args.rounds)
    ratios = [Ratio.of(f"{above} / {below}", times[above], times[below], target) for above, below, target in targets]
    print(times_table("a token", times))
    print("\n" + ratios_table(ratios))
    save(args, times, ratios)


def _model(args: argparse.Namespace, method: str) -> LanguageModel:
    overrides = [f"experiment={method}", f"net={args.net}", f"task.context={LONG + 1}"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", overrides)
    torch.manual_seed(0)
    return language_model(cfg).eval().requires_grad_(False)


def _token(model: LanguageModel, before: int, candidates: int = 1) -> Callable[[], object]:
    """At each call one more token is read, and the one after it predicted, as in a text that grows."""
    prefix = model.read(torch.arange(before)[None] % model.vocabulary)
    token, generator = torch.zeros(1, 1, dtype=torch.long), torch.Generator().manual_seed(0)

    def write() -> None:
        nonlocal prefix
        prefix = model.read(token, prefix)
        model.follow(prefix, candidates, generator)

    return write


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", default="text_3xs", help="configs/net/<name>.yaml")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--out", type=Path, help="JSON, e.g. assets/results/bench_write.json")
    return parser


if __name__ == "__main__":
    main()
