"""Speed of Orca: packing, tokens per second, memory of the head, and the collector."""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark.steps import over, quiet_devices, timed
from benchmark.timing import Operation

CAP = 2048
DISTRIBUTIONS = {'mean 620': (6.15, 0.75), 'mean 300': (5.38, 0.8), 'mean 954': (6.68, 0.6)}
"""Logarithm of the median, and its deviation, of lengths that are like those of traces."""
SAMPLES = 100_000
CONCURRENCY = (1, 8, 64, 256)
REQUESTS = 1500
LATENCY = 0.02
"""Seconds of every answer of the endpoint."""


def lengths_of(name: str, count: int) -> np.ndarray:
    """Tokens of examples, ``(count,)``."""
    mu, sigma = DISTRIBUTIONS[name]
    drawn = np.random.default_rng(0).lognormal(mu, sigma, count)
    return np.clip(drawn.astype(np.int64), 16, CAP)


def packing(args: argparse.Namespace, report: Any) -> None:
    """Fill, steps over padding each example to the cap, and seconds of the packers."""
    from mmkd.language.packing import PACKERS

    count = 5000 if args.quick else SAMPLES
    for name in DISTRIBUTIONS:
        lengths = lengths_of(name, count)
        for packer, pack in PACKERS.items():
            began = time.perf_counter()
            packs = pack(lengths, CAP, (0,))
            taken = time.perf_counter() - began
            report.add(
                f'{name} tokens, {packer}',
                dict(
                    fill=packs.efficiency(lengths, CAP),
                    examples_per_pack=count / len(packs),
                    steps_over_padding=len(packs) / count,
                    seconds_per_million=taken * 1e6 / count,
                ),
                taken,
            )


def student(vocab: int, hidden: int, chunk: int | None = None) -> Any:
    """A Llama of two layers."""
    from mmkd.language.causal_student import CausalStudent

    torch.manual_seed(0)
    config = dict(
        model_type='llama',
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CAP,
    )
    return CausalStudent(dict(config=config), attention='sdpa', chunk=chunk)


def documents(count: int, cap: int, vocab: int) -> list[tuple[torch.Tensor, int]]:
    """Tokens of examples that fit a pack of ``cap``, and how many of them are the prompt."""
    lengths = lengths_of('mean 300', count) * cap // CAP + 8
    draw = torch.Generator().manual_seed(0)
    return [(torch.randint(vocab, (int(n),), generator=draw), int(n) // 2) for n in lengths]


def batch_of(packs: Sequence[Sequence[tuple[torch.Tensor, int]]]) -> dict[str, torch.Tensor]:
    """A padded batch of packs of documents."""
    from mmkd.language.collate import padded_collate

    rows = []
    for pack in packs:
        sizes = [len(ids) for ids, _ in pack]
        labels = [ids.clone() for ids, _ in pack]
        for each, (_, prompt) in zip(labels, pack, strict=True):
            each[:prompt] = -100
        rows.append(
            dict(
                input_ids=torch.cat([ids for ids, _ in pack]),
                labels=torch.cat(labels),
                position_ids=torch.cat([torch.arange(size) for size in sizes]),
                doc_ids=torch.repeat_interleave(torch.arange(len(pack)), torch.tensor(sizes)),
            )
        )
    return padded_collate(rows)


def trained(model: Any, batches: Sequence[Mapping[str, torch.Tensor]]) -> Callable[[], None]:
    """Forward and backward of some batches."""

    def run() -> None:
        for batch in batches:
            model.zero_grad(set_to_none=True)
            model(**batch, mode='loss')['loss'].backward()

    return run


def training(args: argparse.Namespace, report: Any, device: str) -> None:
    """The same examples packed, put after one another as they come, and padded."""
    from mmkd.language.packing import PACKERS

    cap, vocab, rows = (128, 256, 2) if args.quick else (512, 4096, 4)
    found = documents(16 if args.quick else 64, cap // 2, vocab)
    lengths = np.array([len(ids) for ids, _ in found])
    model = student(vocab, 32 if args.quick else 256).to(device)
    runs = {}
    for packer, pack in PACKERS.items():
        packs = pack(lengths, cap, (0,))
        groups = [[found[n] for n in packs[number].tolist()] for number in range(len(packs))]
        size = rows if packer != 'none' else 2 * rows
        batches = [batch_of(groups[at : at + size]) for at in range(0, len(groups), size)]
        batches = [{k: v.to(device) for k, v in each.items()} for each in batches]
        runs[packer] = Operation(trained(model, batches))
    times = timed(
        runs, args.rounds, torch.device(device), 1, report, f'{device}: the same examples'
    )
    for packer, each in times.items():
        report.add(
            f'{device}: tokens per second, {packer}',
            dict(tokens_per_second=float(lengths.sum()) / each.median()),
        )
    report.ratio = over(times, 'best_fit', 'none')['x']
    report.add(f'{device}: best_fit over padding', over(times, 'best_fit', 'none'))


def head(args: argparse.Namespace, report: Any) -> None:
    """Bytes that logits and their gradients need: all places, those that count, in chunks."""
    from mmkd.language.lm_loss import kept_losses

    places, hidden, vocab = (64, 16, 512) if args.quick else (2048, 64, 32000)
    states = torch.randn(1, places, hidden, requires_grad=True)
    layer = torch.nn.Linear(hidden, vocab, bias=False)
    targets = torch.randint(vocab, (1, places))
    answers = targets.masked_fill(torch.arange(places) < places * 6 // 10, -100)
    cases = {
        'all places': (targets, None),
        'places that count': (answers, None),
        'places that count, in chunks of an eighth': (answers, places // 8),
    }
    for name, (wanted, chunk) in cases.items():
        with torch.profiler.profile(profile_memory=True) as profile:
            kept_losses(states, wanted, layer, chunk).sum().backward()
        report.add(f'head: {name}', dict(peak_mib=peak(profile) / 2**20))


def peak(profile: Any) -> int:
    """Most bytes that were allocated at a time."""
    changes = [
        (event.start_ns(), event.nbytes())
        for event in profile.profiler.kineto_results.events()
        if event.name() == '[memory]'
    ]
    return max(accumulate((size for _, size in sorted(changes)), initial=0))


def collecting(args: argparse.Namespace, report: Any) -> None:
    """Rows per second and processor time per row against an endpoint in another process."""
    from mmkd.collection.plan import Plan
    from mmkd.collection.run import collect_shard
    from mmkd.traces.schema import Query

    count = 60 if args.quick else REQUESTS
    words = [sys.executable, '-m', 'mmkd.teachers.faulty_server', '--latency', str(LATENCY)]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().strip()
        with tempfile.TemporaryDirectory() as folder:
            queries = Path(folder, 'queries.jsonl')
            lines = (Query(source_uid=str(n), user_text=f'question {n}') for n in range(count))
            queries.write_text(''.join(f'{each.model_dump_json()}\n' for each in lines))
            for side in CONCURRENCY[:2] if args.quick else CONCURRENCY:
                endpoint = dict(base_url=address, max_concurrency=side)
                teacher = dict(type='mmkd.OpenAICompatTeacher', name='m', endpoints=endpoint)
                plan = Plan(teacher=teacher, run_dir=Path(folder, str(side)), queries=[queries])
                before, began = processor_seconds(), time.perf_counter()
                collect_shard(plan, say=lambda text: None)
                taken = time.perf_counter() - began
                report.add(
                    f'collector, {side} calls side by side',
                    dict(
                        rows_per_second=count / taken,
                        cpu_ms_per_row=1e3 * (processor_seconds() - before) / count,
                    ),
                    taken,
                )
    finally:
        server.terminate()
        server.wait()


def processor_seconds() -> float:
    """Of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure_speed(args: argparse.Namespace, report: Any) -> Any:
    """Fills the report; see ``speed.py``."""
    import mmkd.components  # noqa: F401

    for device in quiet_devices(args):
        training(args, report, device)
    if not args.only_steps:
        packing(args, report)
        head(args, report)
        collecting(args, report)
    report.notes.append('The ratio is that of packed to padded batches of the same examples.')
    return report
