"""Rivals at the same waist as the EBT: `loss(target, ctx, y0)` and `sample(ctx, y0)`, no energy."""
