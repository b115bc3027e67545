"""Largest eigenvalues of the Hessian of a loss, from products of the Hessian with vectors.

**What the Hessian of a quantized network is.** The loss of a network with rounded weights or
activations is piecewise smooth: its true second derivatives do not see what rounding does. Training
sees its *straight-through* gradient, where each quantizer ``q`` counts as ``q(x)`` forward and as
the clip ``1[|x| < clip]`` backward. There are two ways to differentiate that once more:

* ``'autograd'``, a second backward pass: exactly the Hessian of the smooth network in which each
  quantizer is replaced by the straight line through ``(x, q(x))`` with slope 1, or 0 where it
  clips. It is symmetric. For weights alone it is the Hessian with respect to the quantized
  weights, taken where they are, with zeros for clipped ones. Scales count as constants. It does not
  see that codes change.
* ``'difference'``, the central difference of straight-through gradients: how much what training
  follows changes over a step of a given length, with the codes that change on the way. As that
  gradient is the gradient of no function, this matrix is not symmetric and depends on the step;
  eigenvalues are those of its symmetric part.

For a smooth network both are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmdistill.core.errors import UserError
from mmkd.analysis.surface import move, restored

Product = Callable[[Tensor], Tensor]
"""Hessian times a flat vector ``(n,)``."""
HVP = ('autograd', 'difference')


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """One vector of all values."""
    return torch.cat([each.reshape(-1) for each in tensors])


def unflat(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of given shapes from one vector."""
    parts = vector.split([each.numel() for each in like])
    return [part.view_as(each) for part, each in zip(parts, like, strict=True)]


def gradients(
    loss: Callable[[], Tensor], parameters: Sequence[Tensor], twice: bool = False
) -> tuple[Tensor, ...]:
    """Gradients of the loss; 0 for parameters that it does not depend on.

    Args:
        loss: gives a scalar.
        parameters: of any shapes.
        twice: the gradients can be differentiated.
    """
    with torch.enable_grad():
        return torch.autograd.grad(
            loss(), parameters, create_graph=twice, allow_unused=True, materialize_grads=True
        )


@contextmanager
def hessian_product(
    loss: Callable[[], Tensor],
    parameters: Sequence[Tensor],
    hvp: str = 'autograd',
    step: float | None = None,
) -> Iterator[Product]:
    """A function that multiplies the Hessian of a loss with vectors, for the length of a block.

    Args:
        loss: gives the loss of the parameters as they are now, the same each time.
        parameters: need gradients; ``'difference'`` moves them and sets them back, bit for bit.
        hvp: ``'autograd'`` or ``'difference'``, see the module. The first runs the network once
            and keeps the graph of both passes; the second runs it twice for each product.
        step: of ``'difference'``: length of the move, relative to the length of all parameters.
            None: the cube root of the machine epsilon (0.005 in float32), where the errors of
            rounding and of the third derivative are about equal for a smooth loss.

    Raises:
        UserError: another kind, or no step.
    """
    if hvp not in HVP:
        raise UserError(f'hvp must be one of {HVP}, got {hvp!r}')
    if step is not None and not step > 0:
        raise UserError(f'step of a difference must be above 0, got {step}')
    if hvp == 'difference':
        with restored(parameters) as start:
            yield _difference(loss, parameters, start, step)
        return
    # fused attention has no second derivative
    with sdpa_kernel(SDPBackend.MATH):
        slopes = gradients(loss, parameters, twice=True)
    with torch.enable_grad():
        slope = flat(slopes)

    def product(vector: Tensor) -> Tensor:
        if not slope.requires_grad:  # a loss that is linear in the parameters
            return torch.zeros_like(vector)
        return flat(
            torch.autograd.grad(
                slope,
                parameters,
                vector,
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
        )

    yield product


def _difference(
    loss: Callable[[], Tensor],
    parameters: Sequence[Tensor],
    start: Sequence[Tensor],
    step: float | None,
) -> Product:
    """The product by central differences."""
    size = float(flat(start).norm()) or 1.0
    relative = torch.finfo(start[0].dtype).eps ** (1 / 3) if step is None else step

    def product(vector: Tensor) -> Tensor:
        length = float(vector.norm())
        if length == 0:
            return torch.zeros_like(vector)
        far, way, found = relative * size / length, unflat(vector, start), []
        for sign in (1, -1):
            move(parameters, start, [(sign * far, way)])
            found.append(flat(gradients(loss, parameters)))
        move(parameters, start, [])
        return (found[0] - found[1]) / (2 * far)

    return product


@dataclass(frozen=True)
class Eigenvalues:
    """Largest eigenvalues in absolute value.

    Attributes:
        values: with signs, the largest in absolute value first; not a number where a product was.
        residuals: ``|H v - value v|`` of each for a unit vector v: an eigenvalue is this near; for
            a matrix that is not symmetric only an estimate.
        products: how many there were.
    """

    values: list[float]
    residuals: list[float]
    products: int


def top_eigenvalues(
    product: Product,
    start: Tensor,
    count: int = 1,
    steps: int = 50,
    tolerance: float = 1e-4,
) -> Eigenvalues:
    """Lanczos' method with full reorthogonalisation.

    The symmetric part of the matrix is projected on the space that ``start`` and its products span.
    The basis is kept whole: ``steps`` vectors. An eigenvalue that exists several times is found
    once.

    Args:
        product: matrix times a vector ``(n,)``.
        start: ``(n,)``, random, not 0.
        count: of eigenvalues; fewer come back if the space has fewer dimensions.
        steps: products at most.
        tolerance: it ends when all residuals are below this share of the largest eigenvalue.

    Raises:
        UserError: no count, or fewer steps than eigenvalues.
    """
    if count < 1 or steps < count:
        raise UserError(f'there must be 1 <= count <= steps, got {count} and {steps}')
    size = min(steps, start.numel())
    basis = start.new_zeros(size, start.numel())
    projected = torch.zeros(size, size, dtype=torch.float64)
    vector, found = start / start.norm(), Eigenvalues([], [], 0)
    for done in range(1, size + 1):
        basis[done - 1] = vector
        known, rest = basis[:done], product(vector)
        parts = torch.zeros(done, dtype=torch.float64)
        for _ in range(2):  # twice is enough, also when most of it cancels
            part = known @ rest
            rest = rest - part @ known
            parts += part.double().cpu()
        projected[:done, done - 1] = parts
        length = float(rest.norm())
        if not torch.isfinite(parts).all() or not length < float('inf'):
            return Eigenvalues([float('nan')] * count, [float('nan')] * count, done)
        found = _ritz(projected[:done, :done], length, count)
        largest = abs(found.values[0])
        # nothing but errors of rounding is left: the space is complete
        over = length <= 10 * torch.finfo(start.dtype).eps * max(largest, float(parts.norm()))
        if over or (done >= count and max(found.residuals) <= tolerance * largest):
            break
        if done < size:
            projected[done, done - 1] = length
            vector = rest / length
    return found


def _ritz(projected: Tensor, length: float, count: int) -> Eigenvalues:
    """Eigenvalues of the projection; ``length`` is that of what the last product left over."""
    # below the diagonal stands what a symmetric matrix has above it too
    values, vectors = torch.linalg.eigh((projected + projected.T) / 2)
    order = values.abs().argsort(descending=True)[:count]
    residuals = length * vectors[-1, order].abs()
    return Eigenvalues(values[order].tolist(), residuals.tolist(), len(projected))
