"""The fused norm: the values and gradients of the plain one, and an error where it cannot serve."""

import pytest
import torch

from ebt_policy.core.transformer import Norm


def example():
    torch.manual_seed(0)
    norm = Norm(16).double()
    torch.nn.init.normal_(norm.weight)
    return norm, *(torch.randn(3, 5, 16).double().requires_grad_() for _ in range(2))


def test_fused_and_plain_have_the_same_value_and_gradient():
    norm, x, direction = example()
    plain, fused = norm(x), norm(x, fused=True)
    torch.testing.assert_close(plain, fused)
    torch.testing.assert_close(*(torch.autograd.grad(y, x, direction)[0] for y in (plain, fused)))


def test_the_fused_gradient_agrees_with_finite_differences():
    norm, x, _ = example()
    norm.requires_grad_(False)
    assert torch.autograd.gradcheck(lambda x: norm(x, fused=True), x)


def test_a_second_derivative_through_the_fused_norm_is_refused():
    norm, x, direction = example()
    (grad,) = torch.autograd.grad(norm(x, fused=True), x, direction, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        grad.sum().backward()
