"""EBT-Policy: an Energy-Based Transformer scores an action chunk; acting is descent on that energy."""

__version__ = "0.1.0"
