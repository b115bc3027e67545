"""Speed of Teacher Intervention: its step against its unavoidable parts and a plain form."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from benchmark.methods.ti import DATA, IMAGES, SENTENCES, config_path
from benchmark.methods.ti_reference_speed import (
    IntegerActivation,
    TernaryWeight,
    make_straightforward,
)
from benchmark.steps import (
    build,
    first_batches,
    over,
    over_least,
    quiet_devices,
    read_config,
    timed,
)
from benchmark.timing import Operation, interleaved
from torch import Tensor

LARGER = 'bert-small_sst2'
UNAVOIDABLE = ('student forward + backward', 'teacher forward')
PLAIN = 'straightforward form'
STEP = 'train step'
WORDS = (30522, 768)
"""Words and width of BERT-base."""


class Workbench:
    """A model of Teacher Intervention with batches on one device.

    Args:
        task: last part of the config's name.
        device: to measure on.
        batches: number of batches.
    """

    def __init__(self, task: str, device: str, batches: int) -> None:
        cfg = read_config(config_path('ti-g', task), {})
        cfg.model.teacher.pop('checkpoint')  # weights cost the same, trained or not
        self.device = torch.device(device)
        self.model, self.optim = build(cfg, self.device)
        self.batches = first_batches(cfg, batches)
        self.plain = copy.deepcopy(self.model.teacher.network).to(self.device)
        self.plain.requires_grad_(True).train()
        self.straightforward = copy.deepcopy(self.model)
        make_straightforward(self.straightforward.student)
        self.inputs = [self.model.data_preprocessor(each, True)['inputs'] for each in self.batches]

    def step(self, model: Any, number: int) -> None:
        """Losses and gradients of all batches at one step of the schedule."""
        for inputs in self.inputs:
            model.step = number
            sum(model.loss(inputs, None).values()).backward()

    def student(self) -> None:
        """Forward and backward of the network that is not quantized."""
        for inputs in self.inputs:
            self.plain(**inputs).logits.square().mean().backward()

    @torch.no_grad()
    def teacher(self) -> None:
        """Logits of the network that is not quantized, which looks at nothing inside."""
        for inputs in self.inputs:
            self.model.teacher.network(**inputs)

    @torch.no_grad()
    def evaluation(self, keep: bool) -> None:
        """Logits of the quantized student; its quantized weights are kept or made anew."""
        for inputs in self.inputs:
            if not keep:
                self.model.student.eval()
            self.model(inputs)

    def optimizer(self) -> None:
        """What the optimizer does beside the gradients."""
        for _ in self.inputs:
            self.optim.optimizer.step()

    def clear(self) -> None:
        """Lets go of all gradients."""
        for network in (self.model, self.straightforward, self.plain):
            network.zero_grad()

    def operations(self) -> dict[str, Operation]:
        """A step without intervention, in both forms, with each intervention, and least parts."""
        end = self.model.intervention_steps
        steps = {'output': 0, 'context': end // 4, 'map': end // 2}
        runs: dict[str, Callable[[], Any]] = {
            STEP: lambda: self.step(self.model, end),
            PLAIN: lambda: self.step(self.straightforward, end),
            **{
                f'{STEP}, {mode} replaced': lambda number=number: self.step(self.model, number)
                for mode, number in steps.items()
            },
            'student forward + backward': self.student,
            'teacher forward': self.teacher,
        }
        made = {label: Operation(run, self.clear) for label, run in runs.items()}
        # gradients of 0: steps leave everything as it is
        made['optimizer step'] = Operation(self.optimizer, self.no_gradients)
        return made

    def no_gradients(self) -> None:
        """Gradients of 0 for all parameters."""
        for each in self.model.student.parameters():
            each.grad = torch.zeros_like(each)


def measure_speed(args: argparse.Namespace, report: Any) -> Any:
    """Fills the report; see ``speed.py``.

    Raises:
        SystemExit: the data are not here.
    """
    for data in DATA.values():
        if why := data.missing():
            raise SystemExit(f'speed: {why}')
    for device in quiet_devices(args):
        for task in (SENTENCES, LARGER, IMAGES):
            bench = Workbench(task, device, 1 if args.quick else 2)
            name = f'{device}, {task}'
            found = timed(
                bench.operations(), args.rounds, bench.device, len(bench.batches), report, name
            )
            report.add(f'{name}: over the straightforward form', over(found, STEP, PLAIN))
            ratios = over_least(found, UNAVOIDABLE, STEP)
            for mode in ('output', 'context', 'map'):
                label = f'{STEP}, {mode} replaced'
                ratios[f'x_{mode}'] = over_least(found, UNAVOIDABLE, label)['x']
            report.add(f'{name}: ratio', ratios)
            if task == SENTENCES:
                report.ratio = ratios['x']
            if not args.only_steps:
                evaluation(bench, name, args.rounds, report)
        if not args.only_steps:
            quantizers(torch.device(device), args.rounds, report)
    return report


def evaluation(bench: Workbench, name: str, rounds: int, report: Any) -> None:
    """Evaluation with quantized weights that are kept, and that are made for every batch."""
    bench.model.eval()
    operations = {
        'evaluation': Operation(lambda: bench.evaluation(True)),
        'evaluation, weights made anew': Operation(lambda: bench.evaluation(False)),
    }
    timed(operations, rounds, bench.device, len(bench.batches), report, name)
    bench.model.train()


def quantizers(device: torch.device, rounds: int, report: Any) -> None:
    """Parts of BERT-base in the library's form and in the straightforward one."""
    from mmkd.quant.modules import quantize_layer
    from mmkd.quant.quantizers import SymmetricActivation, Ternary

    torch.manual_seed(0)
    weight = (0.05 * torch.randn(3072, WORDS[1], device=device)).requires_grad_()
    values = torch.randn(16, 64, WORDS[1], device=device, requires_grad=True)
    ids = torch.randint(WORDS[0], (16, 64), device=device)
    tables = []
    for quantizer in (Ternary(axis=0), TernaryWeight(rows=True)):
        table = torch.nn.Embedding(*WORDS, device=device)
        table.weight.data.mul_(0.05)
        quantize_layer(table, quantizer)
        tables.append(table)

    def both(made: Tensor, *leaves: Tensor) -> None:
        made.backward(made.detach())
        for leaf in leaves:
            leaf.grad = None

    pairs: Mapping[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        'ternary weight, 3072 x 768': (
            lambda: both(Ternary()(weight), weight),
            lambda: both(TernaryWeight()(weight), weight),
        ),
        'activation, 16 x 64 x 768': (
            lambda: both(SymmetricActivation()(values), values),
            lambda: both(IntegerActivation()(values), values),
        ),
        'words of 16 x 64 ids': (
            lambda: both(tables[0](ids), tables[0].weight),
            lambda: both(tables[1](ids), tables[1].weight),
        ),
    }
    operations = {}
    for label, (ours, plain) in pairs.items():
        operations[label] = Operation(ours)
        operations[f'{label}, {PLAIN}'] = Operation(plain)
    found = interleaved(operations, max(3, rounds), device)
    for label, times in found.items():
        report.add(f'{device.type}: {label}', times.metrics(), sum(times.wall))
    for label in pairs:
        report.add(f'{device.type}: {label}, over', over(found, label, f'{label}, {PLAIN}'))
