"""Steps of SGD, SAM and GSAM on a vector of parameters: functions of tensors, fit for ``vmap``.

SAM (arXiv:2010.01412), scaled by the parameters (ASAM, arXiv:2102.11600), and the surrogate gap
of GSAM (arXiv:2203.08065), with which FTD (arXiv:2211.11004) trains its experts.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

EPS = 1e-12
"""Added to every length that something is divided by."""


def perturbation(theta: Tensor, grad: Tensor, rho: float, adaptive: bool) -> Tensor:
    """Where the loss rises fastest, of length rho.

    Args:
        theta: parameters ``(P,)``.
        grad: gradient at them ``(P,)``.
        rho: length; of the perturbation divided by ``|theta|`` where it is adaptive.
        adaptive: parameters move in proportion to their size.

    Returns:
        ``(P,)``, to add to the parameters.
    """
    if adaptive:
        size = theta.abs()
        return rho * size.square() * grad / ((size * grad).norm() + EPS)
    return rho * grad / (grad.norm() + EPS)


def gsam_direction(clean: Tensor, perturbed: Tensor, alpha: float) -> Tensor:
    """Perturbed gradient, less a share of what the clean one has at right angles to it.

    Args:
        clean: gradient at the parameters ``(P,)``.
        perturbed: gradient at the perturbed parameters ``(P,)``.
        alpha: the share.

    Returns:
        What to descend along, ``(P,)``.
    """
    ours, theirs = clean.norm(), perturbed.norm()
    cosine = torch.dot(clean, perturbed) / (ours * theirs + EPS)
    across = clean - cosine * ours * perturbed / (theirs + EPS)
    return perturbed - alpha * across


def step(
    loss: Callable[[Tensor, bool], Tensor],
    theta: Tensor,
    lr: float,
    rho: float = 0.0,
    alpha: float = 0.0,
    adaptive: bool = True,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    velocity: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """One step of SGD along the direction of GSAM; nothing is changed in place.

    Args:
        loss: called with parameters ``(P,)`` and whether it is the first pass; the second one
            must leave running statistics alone.
        theta: parameters ``(P,)``.
        lr: learning rate.
        rho: see :func:`perturbation`; 0: plain SGD with one pass.
        alpha: see :func:`gsam_direction`; 0: SAM.
        adaptive: see :func:`perturbation`.
        momentum: of SGD as in :class:`torch.optim.SGD`.
        weight_decay: alike; added to the direction, the perturbation does not see it.
        velocity: what the step before returned; None at first.

    Returns:
        Parameters afterwards ``(P,)``, the loss before the step, and the velocity ``(P,)``, None
        without momentum.
    """
    direction, value = torch.func.grad_and_value(loss)(theta, True)
    if rho:
        beside = theta + perturbation(theta, direction, rho, adaptive)
        perturbed = torch.func.grad(loss)(beside, False)
        direction = gsam_direction(direction, perturbed, alpha) if alpha else perturbed
    if weight_decay:
        direction = direction + weight_decay * theta
    if not momentum:
        return theta - lr * direction, value, None
    velocity = direction if velocity is None else momentum * velocity + direction
    return theta - lr * velocity, value, velocity
