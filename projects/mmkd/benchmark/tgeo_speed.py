"""Speed of TGeo-KD: its step with every solver against a plain distillation step, and memory."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from benchmark.steps import over, quiet_devices, timed
from benchmark.timing import Operation
from torch import Tensor

INTERVAL = 5
"""Steps per step of the ratio network, as in the configs."""
BATCH = 64
PLAIN, WITHOUT = 'plain distillation step', 'step without held-out batch'
STUDENT, TEACHER, CLASSES = 'resnet8', 'resnet14', 10


class Activations:
    """Bytes that autograd keeps for backward passes: those of the present, and the most so far."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def add(self, count: int) -> None:
        """Counts tensors that are kept, or let go."""
        self.now += count
        self.most = max(self.most, self.now)


class _Kept:
    """A kept tensor that tells when it is let go."""

    def __init__(self, tensor: Tensor, count: Activations, size: int) -> None:
        self.tensor, self.count, self.size = tensor, count, size
        count.add(size)

    def __del__(self) -> None:
        self.count.add(-self.size)


@contextmanager
def counted_activations(parameters: list[Tensor]) -> Iterator[Activations]:
    """Counts what autograd keeps inside the block, parameters left out.

    Args:
        parameters: live anyway.
    """
    count, own = Activations(), {each.untyped_storage().data_ptr() for each in parameters}

    def pack(tensor: Tensor) -> _Kept:
        there = tensor.untyped_storage().data_ptr() in own
        return _Kept(tensor, count, 0 if there else tensor.numel() * tensor.element_size())

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        yield count


class Workbench:
    """Models that differ in their rule alone, with batches of noise.

    Args:
        device: to measure on.
        batch: images per batch.
    """

    def __init__(self, device: str, batch: int) -> None:
        from mmkd.distillation.hypergradient import SOLVERS

        self.device, self.solvers = torch.device(device), list(SOLVERS)
        draw = torch.Generator().manual_seed(0)

        def images() -> dict[str, Any]:
            pixels = torch.randn(batch, 3, 32, 32, generator=draw)
            labels = torch.randint(CLASSES, (batch,), generator=draw)
            return dict(inputs=dict(pixel_values=pixels), labels=labels)

        self.train, self.held_out = images(), images()
        constant = dict(type='mmkd.ConstantWeighter', ratio=0.5)
        ratio = dict(type='mmkd.TGeoKD', num_classes=CLASSES)
        self.plain = self._built(constant, 'exact')
        self.models = {solver: self._built(ratio, solver) for solver in self.solvers}

    def _built(self, weighter: dict, solver: str) -> tuple[Any, Any]:
        """A model with its optimizers."""
        from mmengine.optim import build_optim_wrapper

        from mmkd.registry import MODELS

        torch.manual_seed(0)
        nets = {
            key: dict(type='mmkd.CifarNet', name=name, num_classes=CLASSES)
            for key, name in (('student', STUDENT), ('teacher', TEACHER))
        }
        model = MODELS.build(dict(type='mmkd.Distiller', weighter=weighter, solver=solver, **nets))
        model.to(self.device).train()
        model.progress = 0.5
        optimizer = dict(type='SGD', lr=1e-6, momentum=0.9, weight_decay=5e-4)
        wrapper = dict(type='OptimWrapper', optimizer=optimizer)
        if model.own_step:
            fusion = dict(optimizer=dict(type='Adam', lr=1e-6))
            wrapper = dict(
                constructor='mmkd.StudentFusionConstructor',
                student=dict(optimizer=optimizer),
                fusion=fusion,
            )
        return model, build_optim_wrapper(model, wrapper)

    def step(self, built: tuple[Any, Any], held_out: bool = False) -> None:
        """One training step."""
        model, wrapper = built
        model.train_step(dict(train=self.train, meta=self.held_out if held_out else None), wrapper)

    def operations(self) -> dict[str, Operation]:
        """Steps by label."""
        steps: dict[str, Callable[[], None]] = {
            PLAIN: lambda: self.step(self.plain),
            WITHOUT: lambda: self.step(self.models['exact']),
        }
        for solver in self.solvers:
            steps[solver] = lambda solver=solver: self.step(self.models[solver], held_out=True)
        return {label: Operation(run) for label, run in steps.items()}

    def activations(self, built: tuple[Any, Any], held_out: bool) -> int:
        """Most bytes that autograd keeps at a time during a step."""
        with counted_activations(list(built[0].parameters())) as count:
            self.step(built, held_out)
        return count.most


def measure_speed(args: argparse.Namespace, report: Any) -> Any:
    """Fills the report; see ``speed.py``."""
    import mmkd.components  # noqa: F401

    for device in quiet_devices(args):
        bench = Workbench(device, 16 if args.quick else BATCH)
        found = timed(bench.operations(), args.rounds, bench.device, 1, report, device)
        plain = bench.activations(bench.plain, False)
        report.add(f'{device}: {PLAIN}, saved activations', dict(mib=plain / 2**20))
        for solver in bench.solvers:
            ratios = over(found, solver, PLAIN)
            calm = over(found, WITHOUT, PLAIN)
            for name in ('x', 'x_cpu_time'):
                mean = (ratios[name] + (INTERVAL - 1) * calm[name]) / INTERVAL
                ratios[name.replace('x', 'x_amortized', 1)] = mean
            kept = bench.activations(bench.models[solver], True)
            report.add(f'{device}: {solver}, over a plain step', ratios)
            report.add(
                f'{device}: {solver}, saved activations',
                dict(mib=kept / 2**20, x=kept / plain),
            )
            if solver == 'exact':
                report.ratio = ratios['x_amortized']
    return report
