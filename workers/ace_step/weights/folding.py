"""Folding: values that follow from the VAE decoder's weights alone are computed once, when the weights are loaded."""

from __future__ import annotations

import torch
from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleck, Snake1d
from torch.nn.utils import remove_weight_norm


def fold(vae: AutoencoderOobleck) -> None:
    """Compute in place the values that follow from the decoder's weights alone; drop the encoder, which is not used.

    Weight norms become plain weights, and each Snake's parameters become its computed factors; the result is bitwise
    the same.
    """
    vae.encoder = torch.nn.Identity()  # type: ignore[assignment]
    for module in list(vae.decoder.modules()):
        if hasattr(module, "weight_g"):
            remove_weight_norm(module)
        for name, child in list(module.named_children()):
            if isinstance(child, Snake1d):
                setattr(module, name, _Snake(child))


class _Snake(torch.nn.Module):
    """x + sin²(a x) / b, with a and b worked out."""

    frequency: torch.Tensor
    depth: torch.Tensor

    def __init__(self, snake: Snake1d) -> None:
        super().__init__()
        alpha, beta = snake.alpha.detach(), snake.beta.detach()
        if snake.logscale:
            alpha, beta = alpha.exp(), beta.exp()
        self.register_buffer("frequency", alpha)
        self.register_buffer("depth", (beta + 1e-9).reciprocal())

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(batch, channels, samples) in and out; one new tensor, written in place."""
        return (self.frequency * hidden).sin_().square_().mul_(self.depth).add_(hidden)
