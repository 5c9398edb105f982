"""The decoder's last layer, on a CPU twice as fast as PyTorch's kernel for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# The kernel's tap that joins the input pixel above, at and below to an output pixel of an even and of an odd row; the
# same for columns. 4 is none.
_TAPS = torch.tensor([[3, 1, 4], [4, 2, 0]])


class ConvTransposeToOneChannel(nn.ConvTranspose2d):
    """A transposed convolution of 4×4, stride 2 and padding 1 to one channel: (B, C, H, W) -> (B, 1, 2H, 2W).

    Args:
        in_channels: C.
        fast: on a CPU in single precision, compute the four pixels that an input pixel becomes as four channels of a
            convolution of 3×3, and lay them out. The weights, and up to rounding the results, are the same without.
    """

    def __init__(self, in_channels: int, fast: bool = True) -> None:
        super().__init__(in_channels, 1, 4, 2, 1)
        self.fast = fast

    def forward(self, features: Tensor) -> Tensor:
        single = features.dtype == self.weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if self.fast and features.device.type == "cpu" and single:
            return _ToOneChannel.apply(features, self.weight, self.bias)
        return super().forward(features)


class _ToOneChannel(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(features, weight)
        taps = F.pad(weight[:, 0], (0, 1, 0, 1))[:, _TAPS][:, :, :, _TAPS]  # (C, 2, 3, 2, 3)
        kernel = taps.permute(1, 3, 0, 2, 4).reshape(4, -1, 3, 3).contiguous(memory_format=torch.channels_last)
        pixels = F.conv2d(features, kernel, bias.expand(4), padding=1).permute(0, 2, 3, 1)  # (B, H, W, 4)
        batch, height, width, _ = pixels.shape
        return pixels.unflatten(3, (2, 2)).transpose(2, 3).reshape(batch, 1, 2 * height, 2 * width)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        features, weight = ctx.saved_tensors
        # Backward, PyTorch's own kernel is the faster one.
        return torch.ops.aten.convolution_backward(
            grad, features, weight, [1], [2, 2], [1, 1], [1, 1], True, [0, 0], 1, list(ctx.needs_input_grad)
        )
