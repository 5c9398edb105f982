from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bvae.checks import finite, integer, not_negative, positive

# Of the odd polynomial that is applied again and again: the steepest at zero that stays bounded (Jordan et al. 2024).
_A, _B, _C = 3.4445, -4.7750, 2.0315
# Under this a norm underflows, as when the gradient of a dead layer has been 0 for a thousand steps of its average.
_VANISHES = 1e-18


def orthogonalized(matrix: Tensor, iterations: int = 5) -> Tensor:
    """Nearly U Vᵀ of a matrix U S Vᵀ (m, n): its singular values come to lie between 0.7 and 1.2.

    Those under a thousandth of the largest stay below that, as do all of a matrix that vanishes. By Newton and Schulz's
    iteration (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon).
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalized(matrix.T, iterations).T
    x = matrix / matrix.norm().clamp(min=_VANISHES)
    for _ in range(iterations):
        gram = x @ x.T
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    return x


class Muon(Optimizer):
    """Momentum whose step is orthogonalized, so that it moves every direction of a weight alike (Jordan et al. 2024).

    A factor that explains few pixels has a small part of the gradient, which Adam leaves to drown in the noise of the
    larger ones; here it has a step of the same size. A convolution's weight counts as the matrix (first channels,
    the rest); a bias, which has no directions, takes Adam's steps. The step is scaled to Adam's size (Liu et al. 2025,
    arXiv:2502.16982, Eq. 4), so that learning rates are alike. `torch.optim.Muon` takes matrices alone.

    Args:
        params: the parameters, or groups of them.
        lr: learning rate; the root mean square of a weight's step is a fifth of it.
        momentum: of the gradients' average, in [0, 1), with Nesterov's look ahead.
        iterations: of `orthogonalized`.
        betas: of Adam, for the biases.
        eps: of Adam, for the biases.
        first_step: steps in which all of the parameters take Adam's steps, before it begins.
        adam_lr: the learning rate in those steps, as a share of `lr`.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 2e-3,
        momentum: float = 0.95,
        iterations: int = 5,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        first_step: int = 0,
        adam_lr: float = 1.0,
    ) -> None:
        not_negative("lr", lr)
        not_negative("adam_lr", adam_lr)
        positive("eps", eps)
        iterations = integer("iterations", iterations, at_least=1)
        first_step = integer("first_step", first_step, at_least=0)
        if len(betas) != 2:
            raise ValueError(f"betas must be two numbers, got {betas}")
        for name, value in (("momentum", momentum), ("betas[0]", betas[0]), ("betas[1]", betas[1])):
            if not 0 <= finite(name, value) < 1:
                raise ValueError(f"{name} must be 0 or more and below 1, got {value}")
        defaults = {"lr": lr, "momentum": momentum, "iterations": iterations, "betas": tuple(betas), "eps": eps}
        defaults |= {"first_step": first_step, "adam_lr": adam_lr}
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:  # an earlier version's lack what it hadn't
            for name, value in self.defaults.items():
                group.setdefault(name, value)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, group)
        return loss

    def _step(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        taken = state.get("taken", 0)
        state["taken"] = taken + 1
        is_its_turn = taken >= group["first_step"]
        if is_its_turn and parameter.dim() > 1:
            self._weight(parameter, group)
        else:
            self._adam(parameter, group, group["lr"] * (1 if is_its_turn else group["adam_lr"]))

    def _weight(self, weight: nn.Parameter, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if "average" not in state:
            state["average"] = torch.zeros_like(weight)
        gradient: Any = weight.grad
        average = state["average"].lerp_(gradient, 1 - group["momentum"])
        direction = gradient.lerp(average, group["momentum"]).flatten(1)
        step = orthogonalized(direction, group["iterations"]).reshape(weight.shape)
        weight.sub_(step, alpha=0.2 * group["lr"] * math.sqrt(max(direction.shape)))

    def _adam(self, parameter: nn.Parameter, group: dict[str, Any], lr: float) -> None:
        """Algorithm 1 of Kingma & Ba (2015), arXiv:1412.6980."""
        state = self.state[parameter]
        if "steps" not in state:
            state |= {"steps": 0, "average": torch.zeros_like(parameter), "square": torch.zeros_like(parameter)}
        state["steps"] += 1
        first, second = group["betas"]
        gradient: Any = parameter.grad
        average = state["average"].lerp_(gradient, 1 - first) / (1 - first ** state["steps"])
        square = state["square"].lerp_(gradient.square(), 1 - second) / (1 - second ** state["steps"])
        parameter.sub_(average / (square.sqrt() + group["eps"]), alpha=lr)
