"""Thinking of language models: the best by energy, gains and distances of known perplexities, energies as signals."""

import json

import numpy as np
import pytest
import torch
from small_text import compose_text, make, write_folder
from tiny_runs import script

from ebt_policy.core import EBT, ActConfig, CrossEntropy, DescentConfig, OwnIterates
from ebt_policy.data.text import bytes_of, pieces, train_tokenizer
from ebt_policy.rollout.difficulty import PLACES, difficulty, places
from ebt_policy.rollout.gain import bits, degree, gain, known, perplexity, rank_interval, relation, spearman
from ebt_policy.rollout.stats import bootstrap_interval, percentiles, resampled_means
from ebt_policy.rollout.thinking import Corpus, distances, relations, think
from ebt_policy.tasks.text import LanguageModel
from ebt_policy.tasks.think import Answer, Excerpt, answer
from ebt_policy.train.run import train_run

VOCABULARY, CONTEXT = 11, 6
LETTERS = np.full(VOCABULARY, 2)  # bytes of each token
COUNTING = torch.arange(200) % VOCABULARY  # the next token is one more


class Known(torch.nn.Module):
    """The energy of a candidate for the token that comes after `i` is minus (sign -1) the share it gives to i + 1."""

    def __init__(self, sign: float):
        super().__init__()
        self.sign = sign

    def bind(self, ctx):
        answers = (ctx.argmax(-1) + 1) % VOCABULARY  # (B, N)
        return lambda y, k: self.sign * y.gather(-1, answers[..., None]).squeeze(-1)


def knowing(sign=-1.0, step_size=1e-6, steps=1, state="simplex") -> LanguageModel:
    """Sees the counting text as it is; its candidates stay the noise they start from but for tiny steps."""
    act, walk = ActConfig(steps=steps, state=state), DescentConfig(steps=1, backprop="last")
    model = EBT(Known(sign), OwnIterates(CrossEntropy()), walk, act, step_size)
    language = LanguageModel(VOCABULARY, CONTEXT, VOCABULARY, model)
    torch.nn.init.eye_(language.embed.weight)
    return language.eval().requires_grad_(False)


def excerpt(count=8, tokens=COUNTING) -> Excerpt:
    return Excerpt.of(tokens.numpy(), CONTEXT, count, end=0, lengths=LETTERS)


# the best of N


def test_the_best_by_an_energy_that_knows_the_truth_is_the_best_there_is_and_by_its_opposite_the_worst():
    for sign, ideal in ((-1.0, np.min), (1.0, np.max)):
        found = answer(knowing(sign), excerpt().ids, steps=1, candidates=8)
        assert found.loss.shape == found.energy.shape == (8, 8, CONTEXT)
        for many in (1, 3, 8):
            np.testing.assert_allclose(found.best(many), ideal(found.loss[:many], axis=0))


def test_more_steps_on_a_known_energy_lower_the_loss_and_the_steps_of_the_run_stay_what_they_were():
    model = knowing(step_size=1.0, steps=2)
    found = think(model, Corpus("counting", excerpt()), steps=[1, 4], candidates=2)
    values = [found.perplexity(k).value for k in (1, 2, 4)]
    assert list(found.answers) == [1, 2, 4] and values == sorted(values, reverse=True) and found.trained == 2
    assert model.model.act.steps == 2 and found.gain(4).value == pytest.approx(100 * (1 - values[2] / values[0]))


def test_walks_of_every_length_start_from_the_same_noise_in_every_batch():
    model, ids = knowing(state="free"), excerpt(3).ids  # candidates end where they start
    short, long = (answer(model, ids, steps, candidates=2, batch=2) for steps in (1, 5))
    np.testing.assert_allclose(short.loss, long.loss, atol=1e-3)
    assert len(np.unique(short.loss.round(3))) > 30  # each token and candidate from noise of its own


def test_a_candidate_without_a_number_for_its_energy_is_never_chosen():
    loss, energy = np.arange(6.0).reshape(3, 1, 2), np.array([[[np.nan, 1]], [[5, 2]], [[7, np.nan]]])
    assert Answer(loss, energy, None, None).best(3).tolist() == [[2.0, 1.0]]


def test_a_model_without_energies_answers_once():
    found = think(make("transformer", context=CONTEXT), Corpus("counting", excerpt()), steps=[1, 2, 4], candidates=4)
    (row,) = found.rows([1, 2, 4])
    assert (row["steps"], row["candidates"], row["gain"]) == (1, 1, None)
    assert row["bits_per_byte"]["value"] == pytest.approx(np.log2(row["perplexity"]["value"]) / 2)
    assert relations([found], distances([found])) == []


# gains and distances


def test_an_excerpt_knows_which_document_each_row_begins_in():
    tokens = torch.tensor([0, 5, 5, 5, 5, 0, 5, 5, 0, 0, 5, 5, 5, 5, 5, 5, 5, 5, 0])
    found = Excerpt.of(tokens.numpy(), 3, 10, end=0, lengths=np.array([0, 1, 1, 1, 1, 3]))
    assert found.document.tolist() == [1, 1, 2, 4, 4, 4] and found.ids.shape == (6, 4)
    assert found.bytes.tolist() == [9, 6, 3, 9, 9, 6]


def test_equal_corpora_are_at_degree_one_and_a_flat_model_is_at_its_vocabulary():
    model = make("transformer", context=CONTEXT)
    torch.nn.init.zeros_(model.model.readout.weight)
    alike = [think(model, Corpus(name, excerpt())) for name in ("home", "away")]
    assert [d.value for d in distances(alike)] == [1.0, 1.0]
    assert alike[0].perplexity(1).value == pytest.approx(VOCABULARY)


def test_the_gain_is_the_per_cent_by_which_perplexity_falls():
    base, documents = np.log([4.0, 16.0, 8.0]), np.array([0, 0, 1])
    found = gain(base, base + np.log(0.9), documents)
    assert found.value == pytest.approx(10) and found.told()["interval"] == pytest.approx([10, 10])
    assert perplexity(base, documents).value == pytest.approx(8)


def test_the_degree_is_the_ratio_of_perplexities_of_a_byte():
    loss, documents = np.log([4.0, 16.0]), np.array([0, 1])
    home, away = bits(loss, np.array([3, 3]), documents), bits(loss, np.array([1, 1]), documents)
    assert home.value == pytest.approx(1) and away.value == pytest.approx(3)
    assert degree(away, home).value == pytest.approx(4) and degree(home, home).told()["interval"] == [1, 1]


def test_resampling_documents_doubts_more_than_resampling_their_rows():
    values, documents = np.repeat(np.arange(6.0), 20), np.repeat(np.arange(6), 20)
    by_row, by_document = bootstrap_interval(values), percentiles(resampled_means(values, documents))
    assert np.diff(by_document) > 3 * np.diff(by_row) and by_document[0] < 2.5 < by_document[1]
    assert percentiles(resampled_means(values, np.arange(120))) == by_row


def test_a_perfect_order_of_a_few_corpora_leaves_doubt_that_shrinks_with_their_number():
    found = [relation([known(i) for i in range(n)], [known(i**2) for i in range(n)]) for n in (4, 8, 30)]
    assert [row["spearman"] for row in found] == pytest.approx([1, 1, 1])
    lows = [row["interval_of_any_such_sets"][0] for row in found]
    assert lows == sorted(lows) and lows[0] < 0 and 0.7 < lows[1] < 0.9 < lows[2]
    assert np.isnan(rank_interval(1.0, 3)).all() and np.isnan(relation([known(1)], [known(2)])["spearman"])


def test_the_rank_correlation_is_of_ranks_along_the_last_axis():
    x = np.array([[1.0, 2, 3, 4], [1, 2, 3, 4]])
    np.testing.assert_allclose(spearman(x, np.array([[1.0, 4, 9, 16], [3, 2, 1, 0]])), [1, -1])
    assert spearman(np.array([1.0, 1, 2, 3]), np.array([1.0, 2, 3, 4])) == pytest.approx(3 / 10**0.5, abs=1e-6)


# energies as signals


def test_places_are_told_from_what_was_seen_and_what_is_likeliest():
    text = ["", " the", "re", "T", " 19", "45", ",", "\n", "\ufffd", " \ufffd"]
    seen, then = np.array([1, 6, 7, 1, 4, 1, 2, 1, 2]), np.array([2, 1, 3, 4, 5, 6, 7, 8, 9])
    named = [PLACES[i] for i in places(text, seen, then)]
    assert named == [PLACES[i] for i in (1, 0, 0, 2, 2, 2, 2, 1, 0)]


def test_a_signal_with_an_offset_in_every_place_is_found_by_calibration_and_noise_is_not():
    rng = np.random.default_rng(0)
    loss, place, document = rng.random((40, 20)), rng.integers(3, size=(40, 20)), np.arange(40) // 4
    found = difficulty(loss - 10 * place, loss, place, document)
    assert abs(found["raw"]["value"]) < 0.5 and found["calibrated"]["value"] > 0.95
    assert all(row["value"] == pytest.approx(1) for row in found["by_place"].values())
    assert abs(found["place_alone"]["value"]) < 0.1
    noise = difficulty(rng.random((40, 20)), loss, place, document)
    assert max(abs(noise[kind]["value"]) for kind in ("raw", "calibrated")) < 0.1


def test_a_signal_on_one_document_alone_cannot_be_calibrated():
    loss = np.random.default_rng(0).random((4, 5))
    found = difficulty(loss, loss, np.zeros((4, 5), dtype=int), np.ones(4))
    assert found["raw"]["value"] == pytest.approx(1) and np.isnan(found["calibrated"]["value"])


def test_tokens_know_their_bytes_and_texts():
    tokenizer = train_tokenizer(["señor the the the"], 260)
    text = "the señor"
    ids = tokenizer.encode(text).ids
    assert bytes_of(tokenizer)[ids].sum() == len(text.encode()) == 10 and bytes_of(tokenizer)[0] == 0
    assert "".join(pieces(tokenizer)[i] for i in tokenizer.encode("the").ids) == "the" and pieces(tokenizer)[0] == ""


# the script


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("thinking")
    folder = write_folder(root / "texts", files=8)
    names = ("text_ebt_s1", "text_transformer")
    for name in names:
        train_run(compose_text(root / name, folder, f"experiment={name}", updates=2))
    return {name: root / name for name in names}


def test_runs_are_compared_at_home_and_away_with_their_gains_and_signals(runs, tmp_path, capsys):
    away = write_folder(tmp_path / "away")
    (away / "part0.txt").write_text("x = [1, 2, 3]\n" * 30)
    both, out = f"[{','.join(map(str, runs.values()))}]", tmp_path / "think.json"
    settings = ("steps=[1,3]", "candidates=[1,2]", "rows=6", f"corpora=[{{corpus: {away}}}]", f"out={out}")
    script("think", f"runs={both}", f"judge={runs['text_transformer']}", *settings)
    result, said = json.loads(out.read_text()), capsys.readouterr().out
    cells = [(r["steps"], r["candidates"]) for r in result["rows"] if r["run"] == str(runs["text_ebt_s1"])]
    assert cells == 2 * [(k, n) for k in (1, 2, 3) for n in (1, 2)] and len(result["rows"]) == 12 + 2
    assert [row["degree"]["value"] for row in result["rows"][:6]] == [1.0] * 6 and "held out" in said
    assert {(r["run"], r["signal"]) for r in result["signals"]} == {
        (str(runs["text_ebt_s1"]), "energy"),
        *((str(run), "entropy") for run in runs.values()),
    }
    assert [(r["steps"], r["candidates"], r["sets"]) for r in result["relations"]] == [(3, 1, 2), (3, 2, 2)]
    assert {r["run"] for r in result["relations"]} == {str(runs["text_ebt_s1"])}
    assert set(result["hashes"]) == {"data", *map(str, runs.values())}


def test_what_cannot_be_compared_is_refused_with_one_message(runs, tmp_path):
    s1, elsewhere = runs["text_ebt_s1"], tmp_path / "elsewhere"
    train_run(compose_text(elsewhere, write_folder(tmp_path / "texts"), "experiment=text_transformer", updates=1))
    own = s1.parent / "texts"
    for arguments, message in (
        ((f"runs=[{s1},{elsewhere}]",), "runs on different text or in different contexts cannot be compared"),
        ((f"runs=[{s1}]", f"corpora=[{{corpus: {own}}}]"), "all of .* is in the corpus that .* was trained on"),
        ((f"runs=[{s1}]", "steps=[0]"), "steps and candidates >= 1"),
        (("runs=[]",), "expected at least one of runs"),
        ((f"runs=[{s1}]", "corpora=[{corpus: nowhere}]"), "expected a corpus .* got 'nowhere'"),
    ):
        with pytest.raises(SystemExit, match=message):
            script("think", *arguments)
