"""report.html: complete by itself, honest about what is missing."""

import json
import re
from functools import partial

import pytest
from toy_rollout import POINT, toy_agent

from ebt_policy.rollout import plots
from ebt_policy.rollout.evaluation import evaluate
from ebt_policy.rollout.report import write_report
from ebt_policy.rollout.result import EpisodeLog, describe, write_result
from ebt_policy.rollout.sim import rollout
from ebt_policy.rollout.video import record_some

TASK = {"env_kwargs": {"radius": 0.05, "wind": 0.04}, "max_steps": 14}


@pytest.fixture(scope="module")
def full_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lift <b>")
    result = evaluate(toy_agent, POINT, range(100, 106), hashes={"checkpoint": "c0ffee"}, flops=12_000_000, **TASK)
    write_result(folder / "eval.json", result)
    record_some(toy_agent, POINT, rollout(toy_agent, POINT, range(100, 106), **TASK), folder, count=2, **TASK)
    rows = [{"update": i, "seconds": 2.0 * i, "loss": 1 / (1 + i), "lr": 1e-3, "odd": i} for i in range(700)]
    rows[5]["loss"] = float("nan")
    lines = [json.dumps(row) for row in rows] + ['{"update": 70']  # killed while it wrote
    (folder / "train.jsonl").write_text("\n".join(lines))
    (folder / "config.yaml").write_text("fit: {minutes: 5, batch: 64}\nmethod: {name: '<i>ebt</i>'}\n")
    return folder


def test_a_report_holds_everything_in_itself(full_run):
    text = write_report(full_run).read_text()
    assert "://" not in text and "<script" not in text
    assert all(source.startswith("data:") for source in re.findall(r'(?:src|href)="([^"]*)"', text))
    for kind in ("image/svg+xml", "image/png", "video/mp4"):
        assert f'src="data:{kind};base64,' in text
    headings = re.findall("<h2>(.*?)</h2>", text)
    wanted = ["Every episode", "Episodes", "Energy", "Training", "Cost of acting", "What made this"]
    assert [h for h in headings if h in wanted] == wanted


def test_a_report_shows_the_numbers_of_the_run(full_run):
    text = write_report(full_run, title="Tom & <Jerry>").read_text()
    summary = json.loads((full_run / "eval.json").read_text())["summary"]
    assert f"{summary['successes']} of 6" in text and "c0ffee" in text and "12 MFLOP" in text
    assert "699 updates in 23.3 minutes" in text and "fit.batch" in text and "100 to 105" in text
    assert "<h1>Tom &amp; &lt;Jerry&gt;</h1>" in text and "&lt;i&gt;ebt" in text and "<i>ebt" not in text


def test_a_report_without_energies_video_or_training_says_what_is_missing(tmp_path):
    result = evaluate(partial(toy_agent, energies=False), POINT, [1], max_steps=3, config={"steps": 3})
    write_result(tmp_path / "eval.json", result)
    text = write_report(tmp_path, video_note="no OpenGL here").read_text()
    assert "No video: no OpenGL here" in text and "<video" not in text
    assert "<h2>Energy" not in text and "<h2>Training" not in text and "sampling steps" in text


def test_a_report_of_a_deployment_tells_unknown_successes_from_failures_and_shows_its_ticks(tmp_path):
    words = (True, None, None)
    logs = [EpisodeLog(i, word, word, 9, [2] * i, [[1.0]] * i, [None] * i, "", []) for i, word in enumerate(words)]
    control = {"ticks": 27, "missed": 3, "held": 4, "changed": 5, "late_median": 0.001, "late_p95": 0.002}
    control |= {"late_max": 0.0345, "causes": {"no plan <yet>": 4}}
    result = {"run": {"env_id": "franka"}} | describe(logs, 1.0) | {"hashes": {}, "config": {}}
    write_result(tmp_path / "eval.json", result | {"control": control})
    text = write_report(tmp_path).read_text()
    assert "3 episodes of franka" in text and "1 of 1" in text and "2 more" in text
    assert text.count('class="unknown"') == 2 and "Failed seeds" not in text
    assert "34.5 ms" in text and "no plan &lt;yet&gt;" in text
    write_result(tmp_path / "eval.json", result | describe(logs[1:], 1.0))
    assert '<div class="big">unknown</div>' in write_report(tmp_path).read_text()


def test_a_report_needs_an_evaluation(tmp_path):
    with pytest.raises(FileNotFoundError, match="found none: evaluate the run first"):
        write_report(tmp_path)
    (tmp_path / "eval.json").write_text('{"summary": ')
    with pytest.raises(ValueError, match="expected JSON .* evaluate the run again"):
        write_report(tmp_path)


def test_the_energy_curve_is_the_median_over_all_chunks():
    episodes = [{"energies": [[3.0, 1.0], [5.0, None]]}, {"energies": [[4.0, 2.0], [9.0]]}]
    axes = plots.energy_by_step(episodes).axes[0]
    assert axes.lines[0].get_ydata().tolist() == [4.0, 1.5]
    assert plots.energy_by_step([{"energies": [[], []]}]) is None


def test_training_curves_plot_whatever_numbers_there_are():
    rows = [{"update": i, "seconds": i, "loss": 10.0**-i, "name": "x"} for i in range(6)]
    figure = plots.training_curves([*rows, {"update": 6, "odd": 1}])
    assert [axes.get_title() for axes in figure.axes] == ["Training loss", "odd"]
    assert figure.axes[0].get_yscale() == "log" and figure.axes[1].get_yscale() == "linear"
    assert plots.training_curves([]) is None
