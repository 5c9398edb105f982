"""The decoder's transposed convolutions, on a CPU faster than PyTorch's way through them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConvTranspose(nn.ConvTranspose2d):
    """A transposed convolution of 4×4, stride 2 and padding 1: (B, C, H, W) -> (B, K, 2H, 2W).

    Args:
        in_channels: C.
        out_channels: K.
        fast: on a CPU, compute it in a way that takes less time. The weights, and up to rounding the results, are the
            same without.
    """

    bias: nn.Parameter

    def __init__(self, in_channels: int, out_channels: int, fast: bool = True) -> None:
        super().__init__(in_channels, out_channels, 4, 2, 1)
        self.fast = fast

    def forward(self, features: Tensor) -> Tensor:  # type: ignore[override]
        if self.fast and features.device.type == "cpu":
            return self._forward_fast(features)
        return super().forward(features)

    def _forward_fast(self, features: Tensor) -> Tensor:
        # With the bias apart, as oneDNN is slow in the gradient of a transposed convolution's.
        return F.conv_transpose2d(features, self.weight, None, 2, 1).add_(self.bias[:, None, None])


class ConvTransposeToOneChannel(ConvTranspose):
    """A `ConvTranspose` of K = 1, forward in a quarter of the time: (B, C, H, W) -> (B, 1, 2H, 2W).

    The 2×2 output pixels around a corner of the input's pixels come from the 2×2 input pixels around it alone. So they
    are four channels of a convolution of 2×2, which are then laid out; on a CPU and in single precision.
    """

    def __init__(self, in_channels: int, fast: bool = True) -> None:
        super().__init__(in_channels, 1, fast)

    def _forward_fast(self, features: Tensor) -> Tensor:
        single = features.dtype == self.weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if single and not torch._C._are_functorch_transforms_active():  # whose derivatives have rules of their own
            return _ToOneChannel.apply(features, self.weight, self.bias)
        return super()._forward_fast(features)


class _ToOneChannel(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(features, weight)
        taps = weight.unflatten(3, (2, 2)).unflatten(2, (2, 2))[:, 0].flip(1, 3)  # (C, input's row, output's, the same)
        kernel = taps.permute(2, 4, 0, 1, 3).reshape(4, -1, 2, 2).contiguous(memory_format=torch.channels_last)
        corners = F.conv2d(features, kernel, bias.expand(4), padding=1).permute(0, 2, 3, 1)  # (B, H + 1, W + 1, 4)
        pixels = corners.unflatten(3, (2, 2)).transpose(2, 3).flatten(3, 4).flatten(1, 2)  # one too many on each side
        return pixels[:, None, 1:-1, 1:-1].contiguous()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        features, weight = ctx.saved_tensors
        # Backward, PyTorch's own kernel is the faster one.
        return torch.ops.aten.convolution_backward(
            grad, features, weight, [1], [2, 2], [1, 1], [1, 1], True, [0, 0], 1, list(ctx.needs_input_grad)
        )
