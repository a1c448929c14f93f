"""The main job: train an EBT-Policy on the shipped Lift demonstrations, measure it, write a report page.

python scripts/demo.py --minutes 5 --episodes 50 --run runs/demo
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hydra import compose, initialize_config_dir

from ebt_policy.cli import fail_cleanly
from ebt_policy.train.evaluate import evaluate_run
from ebt_policy.train.log import read_log
from ebt_policy.train.run import train_run
from ebt_policy.typed import as_typed

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


@fail_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0, help="of training")
    parser.add_argument("--episodes", type=int, default=50, help="rollouts, from initial states the training never saw")
    parser.add_argument("--steps", type=int, default=2, help="descent steps a chunk")
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="folder; an earlier one is kept aside")
    args = parser.parse_args()
    _set_aside(args.run)
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        train = compose("train", as_typed(["experiment=demo", f"run={args.run}", f"fit.minutes={args.minutes}"]))
        measure = [f"run={args.run}", f"out={args.run}", f"episodes={args.episodes}", f"method.steps={args.steps}"]
        evaluation = compose("eval", as_typed(measure))
    train_run(train)
    result, folder = evaluate_run(evaluation)
    updates = read_log(args.run / "train.jsonl")[-1]["update"]  # a busy machine makes few in these minutes
    print(f"\n{result['summary']['text']} at {args.steps} descent steps, after {updates} updates")
    print(f"report: {folder / 'report.html'}")


def _set_aside(run: Path) -> None:
    """Rename an earlier run to the first free run.1, run.2, ..."""
    if run.exists():
        number = next(n for n in range(1, 10**6) if not run.with_name(f"{run.name}.{n}").exists())
        run.rename(run.with_name(f"{run.name}.{number}"))


if __name__ == "__main__":
    main()
