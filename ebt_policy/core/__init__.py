"""The energy core: torch only, no robots, no text, no images.

    B batch   N candidate tokens   L context tokens   D width   H heads
    y candidate (B, ...)   ctx context (B, L, D)   k descent step   E energy, summed over tokens, never averaged

Read in this order: `descent` (the one loop), `transformer` (the trunk), `heads` and `energy` (the landscape),
`objectives` and `contrastive` (what training asks of it), `ebt` (the conditional model), `scores` (one that has a
landscape for each level of noise), `energies` (terms to add when acting).
"""

from ebt_policy.core.contrastive import ContrastiveDivergence, InfoNCE, NoiseContrast
from ebt_policy.core.descent import DescentConfig, EnergyFn, Step, descend, energy_and_grad, walk
from ebt_policy.core.ebt import EBT, ActConfig
from ebt_policy.core.energy import EnergyTransformer
from ebt_policy.core.heads import DotProduct, Mean, Quadratic, Residual, Scalar
from ebt_policy.core.model import ConditionalModel, Loss, Sample
from ebt_policy.core.objectives import CrossEntropy, NoisedStates, OwnIterates, PseudoHuber
from ebt_policy.core.replay import ReplayBuffer
from ebt_policy.core.rotary import RotaryTransformer
from ebt_policy.core.scores import AnnealedEBT, DenoisingScores
from ebt_policy.core.tokens import LinearTokens, LogitTokens, PatchTokens
from ebt_policy.core.transformer import Prefix, Transformer, Trunk

__all__ = [
    "EBT",
    "ActConfig",
    "AnnealedEBT",
    "ConditionalModel",
    "ContrastiveDivergence",
    "CrossEntropy",
    "DenoisingScores",
    "DescentConfig",
    "DotProduct",
    "EnergyFn",
    "EnergyTransformer",
    "InfoNCE",
    "LinearTokens",
    "LogitTokens",
    "Loss",
    "Mean",
    "NoiseContrast",
    "NoisedStates",
    "OwnIterates",
    "PatchTokens",
    "Prefix",
    "PseudoHuber",
    "Quadratic",
    "ReplayBuffer",
    "Residual",
    "RotaryTransformer",
    "Sample",
    "Scalar",
    "Step",
    "Transformer",
    "Trunk",
    "descend",
    "energy_and_grad",
    "walk",
]
