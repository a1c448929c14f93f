"""Language models of every method: the trunk, prefixes, best of N token by token, and rows that are kept."""

import pytest
import torch
from small_text import CONTEXT, VOCABULARY, make, seeded

from ebt_policy.core import RotaryTransformer
from ebt_policy.core.descent import enter
from ebt_policy.core.model import set_act
from ebt_policy.tasks.text import KeptRows, Perplexity, TextRows
from ebt_policy.tasks.write import Draw, write

IDS = torch.randint(VOCABULARY, (2, CONTEXT), generator=seeded())
KINDS = ("s1", "transformer")


def test_rotary_positions_turn_by_complex_multiplication_and_only_distances_count():
    torch.manual_seed(0)
    trunk = RotaryTransformer(16, 1, 2)
    x = torch.randn(1, 6, 16)
    queries, keys = [], []
    for first in (0, 7):
        _, turn = trunk.place(x, slice(first, first + 6))
        q, k, _ = trunk.blocks[0].attn.project(x, turn)
        queries.append(q), keys.append(k)
    torch.testing.assert_close(queries[0] @ keys[0].transpose(-1, -2), queries[1] @ keys[1].transpose(-1, -2))
    plain, _, _ = trunk.blocks[0].attn.project(x)
    angle = torch.arange(7, 13)[:, None] * 1e4 ** (-torch.arange(0, 8, 2) / 8)
    turned = torch.complex(*plain.chunk(2, -1)) * torch.polar(torch.ones_like(angle), angle)
    torch.testing.assert_close(queries[1], torch.cat([turned.real, turned.imag], -1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_prefix_read_in_pieces_gives_what_reading_it_at_once_and_without_a_cache_gives(kind):
    model = make(kind, start=0.0)
    prefix = model.read(IDS[:1, :3])
    for i in range(3, CONTEXT):
        prefix = model.read(IDS[:1, i : i + 1], prefix)
    assert len(prefix) == CONTEXT
    cached, at_once = model.follow(prefix), model.follow(model.read(IDS[:1]))
    everywhere = model.predict(IDS[:1])
    torch.testing.assert_close(cached.y, at_once.y, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(cached.y[:, 0], everywhere.y[:, -1], atol=1e-4, rtol=1e-4)


def test_two_texts_that_go_on_from_one_prefix_leave_each_other_alone():
    model = make("s1", start=0.0)
    stem = model.read(IDS[:1, 3:4], model.read(IDS[:1, :3]))
    left, right = (model.read(torch.tensor([[token]]), stem) for token in (1, 2))
    for token, branch in ((1, left), (2, right)):
        afresh = model.read(torch.cat([IDS[:1, :4], torch.tensor([[token]])], 1))
        torch.testing.assert_close(model.follow(branch).y, model.follow(afresh).y, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_predicted_alike_alone_and_in_a_batch(kind):
    model = make(kind, start=0.0)
    torch.testing.assert_close(model.predict(IDS).y[1:], model.predict(IDS[1:]).y, atol=1e-4, rtol=1e-4)


def test_the_score_of_a_prediction_is_the_energy_of_its_distribution():
    model = make()
    sample = model.predict(IDS, seeded())
    energy = model.model.net.bind(model.embed(IDS))(enter(sample.y, "simplex"), 2)
    torch.testing.assert_close(sample.score(), energy)
    assert sample.y.shape == (2, CONTEXT, VOCABULARY) and sample.score().shape == (2, CONTEXT)


def test_best_of_n_and_the_lowest_state_on_the_path_are_chosen_token_by_token():
    model = make()
    one = model.predict(IDS, seeded())
    set_act(model.model, restarts=6)
    best = model.predict(IDS, seeded())
    assert best.y.shape == one.y.shape and (best.score() <= one.score() + 1e-5).all()
    kept = (best.y - one.y).abs().amax(-1) < 1e-3
    assert 0 < kept.sum() < kept.numel()  # some tokens keep the first walk, others do not
    set_act(model.model, restarts=1, lowest=True)
    low = model.predict(IDS, seeded())
    assert (low.score() <= one.score() + 1e-5).all()
    again = model.model.net.bind(model.embed(IDS))(enter(low.y, "simplex"), 0)
    first = one.energies[0] == low.energies[0]
    assert first.all() and again.shape == low.score().shape


def test_kept_rows_come_back_as_they_were_and_fresh_ones_start_afresh():
    kept = KeptRows(6, CONTEXT, VOCABULARY, share=0.5, longest=2)
    fresh = [torch.full((2, CONTEXT + 1), i) for i in range(5)]
    for i in range(3):
        rows, slots = kept.join(fresh[i], seeded())
        assert torch.equal(rows, fresh[i])  # nobody joins until there is a full buffer
        kept.walks.store(slots, torch.full((2, CONTEXT, VOCABULARY), float(i)))
    rows, slots = kept.join(fresh[3], seeded())
    assert torch.equal(rows[:2], fresh[3]) and rows.shape == (3, CONTEXT + 1)
    start = kept.walks.mix(slots, torch.full((3, CONTEXT, VOCABULARY), 9.0))
    assert (start[:2] == 9).all() and (start[2] == rows[2, 0]).all() and rows[2, 0] in (1, 2)
    with pytest.raises(
        ValueError, match="expected room for two batches, got method.replay.size=6 for batches of 4 rows"
    ):
        kept.join(torch.zeros(4, CONTEXT + 1, dtype=torch.long))


def test_perplexity_is_that_of_the_likelihood_and_a_bit_per_byte_is_a_bit_per_byte():
    model = make("transformer")
    torch.nn.init.zeros_(model.model.readout.weight)
    rows = TextRows(torch.arange(100).remainder(VOCABULARY).numpy(), CONTEXT)
    metrics = Perplexity(rows, bytes_per_token=2.0)(model)
    assert metrics["val_perplexity"] == pytest.approx(VOCABULARY, rel=1e-5)
    assert metrics["val_bits_per_byte"] == pytest.approx(torch.tensor(VOCABULARY).log2().item() / 2, rel=1e-5)
    assert "val_energy_drop" in Perplexity(rows)(make()) and "val_energy_drop" not in metrics


# writing


def test_writing_reads_each_token_once_and_walks_only_the_candidates_of_the_next():
    model = make("s1", context=64, steps=2)
    lengths = []
    model.model.net.trunk.blocks[0].register_forward_hook(lambda module, args, out: lengths.append(args[0].shape[1]))
    tokens = list(write(model, [1, 2, 3, 4, 5], 3, Draw(candidates=8), generator=seeded()))
    assert lengths == [5, 8, 8, 8, 1, 8, 8, 8, 1, 8, 8, 8]  # read, two steps and the score; the prompt never again
    assert len(tokens) == 3 and all(0 <= t.probability <= 1 and t.energy is not None for t in tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_writing_the_likeliest_is_what_predicting_without_a_cache_says(kind):
    model = make(kind, start=0.0)
    ids = [1, 2, 3]
    for token in write(model, ids, 4, Draw(temperature=0)):
        assert token.id == model.predict(torch.tensor([ids])).y[0, -1].argmax()
        ids = [*ids, token.id]
    assert len(ids) == 7


def test_writing_is_the_same_for_the_same_seed_and_stops_at_the_end_of_a_document():
    model = make()
    runs = [[t.id for t in write(model, [1], 8, Draw(), generator=seeded(s))] for s in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2] and len(runs[0]) == 8
    assert [t.id for t in write(model, [1], 8, Draw(), runs[0][2], seeded(1))][-1] == runs[0][2]


def test_the_best_of_n_is_the_candidate_of_the_lowest_energy():
    model = make()
    prefix, seed = model.read(IDS[:1]), 109  # whose candidates end furthest apart: others differ by rounding alone
    energies = model.follow(prefix, 8, seeded(seed)).score()
    assert energies.shape == (1, 8) and energies.unique().numel() == 8
    (token,) = write(model, IDS[0].tolist(), 1, Draw(0, candidates=8), generator=seeded(seed))
    assert token.energy == pytest.approx(energies.min().item(), rel=1e-5)


def test_temperature_and_top_p_narrow_the_choice():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    drawn = [[Draw(t, p)(logits, seeded(s)) for s in range(200)] for t, p in ((1, 1), (1, 0.6), (0, 1), (0.02, 1))]
    assert set(drawn[0]) == {0, 1, 2, 3} and set(drawn[1]) == {0, 1} and set(drawn[2]) == {0} == set(drawn[3])
    assert 0.4 < drawn[0].count(0) / 200 < 0.6


def test_what_cannot_be_written_is_refused_with_what_can():
    model = make()
    with pytest.raises(
        ValueError, match="a prompt of 6 tokens and 4 to write do not fit in the context of 8.*at most 3"
    ):
        write(model, [1] * 6, 4, Draw())
    with pytest.raises(ValueError, match="expected a prompt of at least one token"):
        write(model, [], 4, Draw())
    for settings, message in (
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"candidates": 0}, "cand"),
    ):
        with pytest.raises(ValueError, match=message):
            Draw(**settings)
