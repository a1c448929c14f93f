"""Nothing of the future reaches a prediction: not through energies, gradients, updated states, or what is learned."""

import math

import pytest
import torch
from small_text import CONTEXT, RECIPES, VOCABULARY, make, seeded

from ebt_policy.core import CrossEntropy, descend, energy_and_grad
from ebt_policy.tasks.text import TextBatch

CUT = 5  # tokens from here on are changed


def sentences(rows=3):
    """Two batches of rows that agree before CUT and nowhere after."""
    ids = torch.randint(VOCABULARY, (rows, CONTEXT + 1), generator=seeded())
    other = ids.clone()
    other[:, CUT:] = (ids[:, CUT:] + 1) % VOCABULARY
    return ids, other


def noise(rows=3):
    return torch.randn(rows, CONTEXT, VOCABULARY, generator=seeded(2))


@pytest.mark.parametrize("kind", RECIPES)
def test_the_future_changes_no_energy_gradient_or_state_before_it_bit_for_bit(kind):
    model = make(kind)
    net, walk = model.model.net, model.model.train_walk
    runs = []
    for ids in sentences():
        energy_fn = net.bind(model.embed(ids[:, :-1]))
        energy, grad = energy_and_grad(energy_fn, noise().softmax(-1), 0, create_graph=False)
        runs.append([(energy, grad)] + [(s.energy, s.y) for s in descend(energy_fn, noise(), 5.0, walk, seeded(3))])
    for (energy, state), (other_energy, other_state) in zip(*runs, strict=True):
        assert torch.equal(energy[:, :CUT], other_energy[:, :CUT]) and torch.equal(state[:, :CUT], other_state[:, :CUT])
        assert not torch.equal(energy[:, CUT:], other_energy[:, CUT:])


@pytest.mark.parametrize("kind", RECIPES)
def test_the_future_changes_nothing_before_it_in_training_with_noise_and_kept_rows(kind):
    finals = []
    for batch in sentences(4):
        model, walked = make(kind), []
        inner = model.model.loss
        model.model.loss = lambda *args, inner=inner, walked=walked, **more: (
            walked.append(inner(*args, **more)) or walked[-1]
        )
        for update in range(6):  # more than fill the 16 kept rows
            model.loss(TextBatch(batch), seeded(update))
        assert len(walked[-1].final) == (6 if kind == "s2" else 4)
        finals.append(walked)
    for one, other in zip(*finals, strict=True):
        assert torch.equal(one.final[:, :CUT], other.final[:, :CUT])
        assert not torch.equal(one.final[:, CUT:], other.final[:, CUT:])


@pytest.mark.parametrize("kind", RECIPES)
def test_a_candidate_changes_no_energy_but_its_own_and_its_gradient_reaches_no_other(kind):
    model = make(kind)
    energy_fn = model.model.net.bind(model.embed(sentences()[0][:, :-1]))
    y = noise().softmax(-1).requires_grad_()
    energy = energy_fn(y, 0)
    for i in range(CONTEXT):
        moved = y.detach().clone()
        moved[:, i] = moved[:, i].roll(1, -1)
        same = [j for j in range(CONTEXT) if j != i]
        changed = energy_fn(moved, 0)
        assert torch.equal(changed[:, same], energy[:, same]) and not torch.equal(changed[:, i], energy[:, i])
        (grad,) = torch.autograd.grad(energy[:, i].sum(), y, retain_graph=True)
        assert grad[:, i].abs().sum() > 0 == grad[:, same].abs().sum()


@pytest.mark.parametrize("kind", ["s2", "dot"])
def test_each_energy_is_that_of_a_plain_causal_transformer_on_the_past_and_the_candidate(kind):
    net, ctx, y = make(kind).model.net, torch.randn(3, CONTEXT, 16, generator=seeded()), noise().softmax(-1)
    energies, candidates = net.bind(ctx)(y, 0), net.tokenize(y)
    for i in range(CONTEXT):
        plain = net.trunk.read(torch.cat([ctx[:, : i + 1], candidates[:, i : i + 1]], 1)).features[:, -1]
        torch.testing.assert_close(net.head(candidates[:, i], plain), energies[:, i], atol=1e-5, rtol=1e-4)


def test_after_a_whole_walk_each_state_is_that_of_walking_alone_from_its_own_past():
    model = make(start=1.0, steps=3)
    ctx, y0 = torch.randn(3, CONTEXT, 16, generator=seeded()), noise()
    together = model.model.sample(ctx, y0)
    for i in range(CONTEXT):
        alone = model.model.sample(model.model.read(ctx[:, : i + 1]), y0[:, i : i + 1])
        torch.testing.assert_close(alone.y[:, 0], together.y[:, i], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(alone.score()[:, 0], together.score()[:, i], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", ["s2", "dot"])
def test_the_gradient_is_that_of_the_embedded_candidate_times_the_embedding_matrix(kind):
    """The update costs one product of a width-D gradient with a matrix; nothing wider has to be derived."""
    net = make(kind).model.net
    ctx, y = torch.randn(3, CONTEXT, 16, generator=seeded()), noise().softmax(-1)
    features = net.trunk.bind(ctx)
    _, wide = energy_and_grad(net.bind(ctx), y, 0, create_graph=False)
    _, narrow = energy_and_grad(lambda e, k: net.head(e, features(e)), net.tokenize(y).detach(), 0, create_graph=False)
    assert narrow.shape == (3, CONTEXT, 16)
    torch.testing.assert_close(wide, narrow @ net.tokenize.embed.weight, atol=1e-6, rtol=1e-4)


def train(model, rows, updates=60):
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2, weight_decay=0.0)
    for update in range(updates):
        torch.manual_seed(update)
        optimizer.zero_grad()
        model.loss(TextBatch(rows(8))).total.backward()
        optimizer.step()
    return model


def held_out_loss(model, rows):
    torch.manual_seed(1234)
    ids = rows(64)
    return CrossEntropy()(model.predict(ids[:, :-1], seeded()).y, ids[:, 1:]).mean().item()


def random_rows(count):
    return torch.randint(VOCABULARY, (count, CONTEXT + 1))


def counting_rows(count):
    return (torch.randint(VOCABULARY, (count, 1)) + torch.arange(CONTEXT + 1)) % VOCABULARY


@pytest.mark.parametrize("kind", [*RECIPES, "transformer"])
def test_what_can_be_foretold_is_learned_and_uniform_random_tokens_are_not(kind):
    assert held_out_loss(train(make(kind), counting_rows), counting_rows) < 0.75 * math.log(VOCABULARY)
    assert held_out_loss(train(make(kind), random_rows), random_rows) > 0.99 * math.log(VOCABULARY)
