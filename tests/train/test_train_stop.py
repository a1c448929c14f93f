"""A training that is told to stop: it ends after the update it is in, is saved, and goes on as if nothing had been."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import safetensors.torch
import torch
from tiny_runs import ROOT, compose_train, overrides

from ebt_policy.train.interrupt import Interrupts
from ebt_policy.train.kinds.robot import HeldOutError
from ebt_policy.train.log import RunLog, read_log
from ebt_policy.train.run import train_run

REPLAY = "method.replay={_target_: ebt_policy.core.ReplayBuffer, share: 0.5}"
ROWS = "fit.log_every=3"
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def as_at_a_terminal():
    """Whoever runs these tests in the background or by nohup has some of the signals ignored."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, meaning) for number, meaning in usual.items()}
    yield
    for number, meaning in before.items():
        signal.signal(number, meaning)


def numbers(run):
    return [{k: v for k, v in row.items() if k not in ("seconds", "wall")} for row in read_log(run / "train.jsonl")]


def tensors(run):
    save = next((run / "resume").glob("0*"))
    return {file.name: safetensors.torch.load_file(file) for file in sorted(save.glob("*.safetensors"))}


def assert_same_end(a, b):
    for name, own in tensors(a).items():
        assert [k for k, v in own.items() if not torch.equal(v, tensors(b)[name][k])] == []
    assert numbers(a) == numbers(b)


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory):
    """A run in one go."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    train_run(compose_train(run, store, REPLAY, ROWS, updates=11))
    return run


@pytest.fixture
def sent(monkeypatch):
    """sent(update, *numbers): signals that come while the row of that update is written."""
    write = RunLog.write

    def when(update, *numbers):
        def writing(self, row):
            write(self, row)
            for number in numbers if row["update"] == update else ():
                os.kill(os.getpid(), number)
                time.sleep(0.001)  # that Python looks

        monkeypatch.setattr(RunLog, "write", writing)

    return when


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_training_after_the_next_update_in_a_line(store, tmp_path, sent, capsys, number):
    sent(3, number)
    with pytest.raises(SystemExit) as stop:
        train_run(compose_train(tmp_path, store, ROWS, "fit.save_every=1e9", updates=11))
    assert stop.value.code == 128 + number
    assert capsys.readouterr().err.endswith("\nstopped at update 4, saved: go on with resume=true\n")
    assert [p.name for p in (tmp_path / "resume").iterdir()] == ["000000004"]


def test_a_run_that_was_stopped_between_rows_goes_on_to_the_same_end_and_the_same_rows(whole, store, tmp_path, sent):
    for update, more in ((3, ()), (6, ("resume=true",)), (9, ("resume=true",))):
        sent(update, signal.SIGTERM)
        with pytest.raises(SystemExit):
            train_run(compose_train(tmp_path, store, REPLAY, ROWS, *more, updates=11))
        sent(None)
    train_run(compose_train(tmp_path, store, REPLAY, ROWS, "resume=true", updates=11))
    assert_same_end(whole, tmp_path)
    assert [row["update"] for row in numbers(tmp_path)] == [3, 4, 6, 8, 9, 11]


def test_a_run_that_was_stopped_while_it_was_evaluated_goes_on_to_the_same_end(whole, store, tmp_path, monkeypatch):
    measure = HeldOutError.__call__

    def interrupted(self, policy):
        os.kill(os.getpid(), signal.SIGTERM)
        return measure(self, policy)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(HeldOutError, "__call__", interrupted)
        train_run(compose_train(tmp_path, store, REPLAY, ROWS, updates=11))
    assert [row["update"] for row in numbers(tmp_path)] == [3, 4]
    train_run(compose_train(tmp_path, store, REPLAY, ROWS, "resume=true", updates=11))
    assert_same_end(whole, tmp_path)


def test_what_is_stopped_is_saved_before_it_is_evaluated(store, tmp_path, sent, monkeypatch):
    """Who sends a signal kills soon after."""
    seen = []
    measure = HeldOutError.__call__
    monkeypatch.setattr(HeldOutError, "__call__", lambda *args: seen.append(tensors(tmp_path)) or measure(*args))
    sent(3, signal.SIGTERM)
    with pytest.raises(SystemExit):
        train_run(compose_train(tmp_path, store, ROWS, "fit.save_every=1e9", updates=11))
    assert len(seen) == 1 and [row["update"] for row in numbers(tmp_path) if "val_error" in row] == [4]


def test_the_second_signal_ends_at_once(store, tmp_path, sent):
    sent(3, signal.SIGINT, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train_run(compose_train(tmp_path, store, ROWS, updates=11))


def test_before_the_first_update_nothing_is_waited_for(store, tmp_path, monkeypatch):
    def interrupted(self, *args):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.001)

    monkeypatch.setattr(RunLog, "__init__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_run(compose_train(tmp_path, store))


def test_signals_mean_what_they_meant_before_once_the_training_is_over(store, tmp_path, sent):
    before = [signal.getsignal(number) for number in SIGNALS]
    train_run(compose_train(tmp_path / "whole", store, updates=2))
    assert [signal.getsignal(number) for number in SIGNALS] == before
    sent(2, signal.SIGINT)
    with pytest.raises(SystemExit):
        train_run(compose_train(tmp_path / "stopped", store, updates=4))
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_who_is_started_by_nohup_lives_on_when_the_terminal_hangs_up(store, tmp_path, sent):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        sent(3, signal.SIGHUP)
        train_run(compose_train(tmp_path, store, ROWS, updates=5))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert numbers(tmp_path)[-1]["update"] == 5


def test_of_several_processes_none_ends_at_the_second_signal():
    with Interrupts(alone=False) as interrupts:
        assert not interrupts.came()
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.001)
        assert interrupts.came() and interrupts.number == signal.SIGINT


def test_a_training_in_a_thread_leaves_signals_alone(store, tmp_path):
    thread = threading.Thread(target=train_run, args=(compose_train(tmp_path, store, updates=2),))
    thread.start()
    thread.join()
    assert numbers(tmp_path)[-1]["update"] == 2


def started(*command, cwd):
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for(path, process):
    while not path.exists() or not path.read_text():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def test_the_script_that_is_killed_says_a_line_and_can_go_on(store, tmp_path):
    run = tmp_path / "run"
    process = started(
        str(ROOT / "scripts/train.py"), *overrides(run, store, 100_000), "fit.save_every=1e9", cwd=tmp_path
    )
    wait_for(run / "train.jsonl", process)
    process.send_signal(signal.SIGTERM)
    said = process.communicate()[1]
    assert process.returncode == 128 + signal.SIGTERM
    update = int(next((run / "resume").glob("0*")).name)
    assert said.endswith(f"\nstopped at update {update}, saved: go on with resume=true\n") and "Traceback" not in said
    train_run(compose_train(run, store, "resume=true", updates=update + 2))
    assert numbers(run)[-1]["update"] == update + 2


def test_two_processes_stop_at_the_same_update(store, tmp_path):
    run = tmp_path / "run"
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(ROOT / "scripts/train.py")]
    process = started(*launch, *overrides(run, store, 100_000), "fit.save_every=1e9", cwd=tmp_path)
    wait_for(run / "train.jsonl", process)
    process.send_signal(signal.SIGTERM)
    said = process.communicate()[1]
    update = int(next((run / "resume").glob("0*")).name)
    assert said.count(f"stopped at update {update}, saved: go on with resume=true\n") == 1
