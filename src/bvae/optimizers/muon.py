from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

# Of the odd polynomial that is applied again and again: the steepest at zero that stays bounded (Jordan et al. 2024).
_A, _B, _C = 3.4445, -4.7750, 2.0315


def orthogonalized(matrix: Tensor, iterations: int = 5) -> Tensor:
    """Nearly U Vᵀ of a matrix U S Vᵀ (m, n): its singular values come to lie between 0.7 and 1.2.

    Those under a thousandth of the largest stay below that, and a matrix of zeros stays one. By Newton and Schulz's
    iteration (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon).
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalized(matrix.T, iterations).T
    x = matrix / (matrix.norm() + torch.finfo(matrix.dtype).tiny)
    for _ in range(iterations):
        gram = x @ x.T
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    return x


class Muon(Optimizer):
    """Momentum whose step is orthogonalized, so that it moves every direction of a weight alike (Jordan et al. 2024).

    A factor that explains few pixels has a small part of the gradient, which Adam leaves to drown in the noise of the
    larger ones; here it has a step of the same size. A convolution's weight counts as the matrix (first channels,
    the rest), a bias as a matrix of one column. The step is scaled to Adam's size (Liu et al. 2025, arXiv:2502.16982,
    Eq. 4), so that learning rates are alike. `torch.optim.Muon` takes matrices alone.

    Args:
        params: the parameters, or groups of them.
        lr: learning rate; the root mean square of a step is a fifth of it.
        momentum: of the gradients' average, in [0, 1), with Nesterov's look ahead.
        iterations: of `orthogonalized`.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float = 2e-3, momentum: float = 0.95, iterations: int = 5
    ) -> None:
        if not 0 <= lr < math.inf:
            raise ValueError(f"lr must be 0 or more, got {lr}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be 0 or more and below 1, got {momentum}")
        if iterations < 1:
            raise ValueError(f"iterations must be 1 or more, got {iterations}")
        super().__init__(params, {"lr": lr, "momentum": momentum, "iterations": iterations})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, **{name: group[name] for name in ("lr", "momentum", "iterations")})
        return loss

    def _step(self, parameter: nn.Parameter, lr: float, momentum: float, iterations: int) -> None:
        state = self.state[parameter]
        if not state:
            state["average"] = torch.zeros_like(parameter)
        average = state["average"].lerp_(parameter.grad, 1 - momentum)
        direction = parameter.grad.lerp(average, momentum)
        matrix = direction.flatten(1) if direction.dim() > 1 else direction.view(-1, 1)
        step = orthogonalized(matrix, iterations).reshape(parameter.shape)
        parameter.sub_(step, alpha=0.2 * lr * math.sqrt(max(matrix.shape)))
