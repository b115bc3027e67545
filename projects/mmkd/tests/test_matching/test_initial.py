"""Laws of beginnings: which real images are taken, and which labels they get."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmdistill.core.errors import UserError
from mmkd.experts.flat_network import FlatNetwork
from mmkd.experts.store import TrajectoryStore
from mmkd.matching.initial import (
    correct_rows,
    expert_logits,
    hard_logits,
    mean_correct_logits,
    random_rows,
)
from mmkd.registry import MODELS

Readers = Callable[..., SimpleNamespace]
CLASSES = 3


def seeded(seed: int = 0) -> torch.Generator:
    """A generator."""
    return torch.Generator().manual_seed(seed)


def answered(labels: Tensor, right: list[set[int]]) -> Tensor:
    """Logits ``(K, N, classes)`` of experts that are right about these images alone."""
    logits = torch.rand(len(right), len(labels), CLASSES, generator=seeded())
    for expert, known in enumerate(right):
        for image, label in enumerate(labels.tolist()):
            said = label if image in known else (label + 1) % CLASSES
            logits[expert, image, said] += 1 + expert
    return logits


def chosen(case: SimpleNamespace, labels: Tensor, per_class: int, seed: int = 0, **more) -> Tensor:
    """Rows that the experts of a case choose."""
    given = (case.flat, case.store, case.images, labels, per_class, CLASSES, seeded(seed))
    return correct_rows(*given, **more)


def test_readers_answer_as_a_test_says(readers: Readers) -> None:
    answers = torch.rand(2, 5, CLASSES, generator=seeded())
    case = readers(answers)
    for expert in range(2):
        found = expert_logits(case.flat, case.store, expert, case.images, batch=2)
        assert torch.equal(found, answers[expert])
        assert not expert_logits(case.flat, case.store, expert, case.images, epoch=0).any()


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('per_class', [1, 4, 7])
def test_the_first_expert_chooses_where_it_knows_enough(
    per_class: int, seed: int, readers: Readers
) -> None:
    labels = torch.arange(60) % CLASSES
    first = set(torch.randperm(60, generator=seeded(9))[:40].tolist())
    case = readers(answered(labels, [first, set(range(60))]))
    rows = chosen(case, labels, per_class, seed)
    assert labels[rows].tolist() == [n for n in range(CLASSES) for _ in range(per_class)]
    assert len(set(rows.tolist())) == len(rows)
    assert set(rows.tolist()) <= first


def test_all_that_an_expert_knows_can_be_chosen_and_the_seed_decides(readers: Readers) -> None:
    labels = torch.arange(30) % CLASSES
    known = set(range(24))
    case = readers(answered(labels, [known]))
    draws = [chosen(case, labels, 2, seed).tolist() for seed in range(40)]
    assert {row for rows in draws for row in rows} == known
    assert len({tuple(rows) for rows in draws}) > 30
    assert chosen(case, labels, 2, seed=3).tolist() == draws[3]


@pytest.mark.parametrize('seed', range(5))
def test_a_class_that_runs_out_goes_on_with_the_next_expert(seed: int, readers: Readers) -> None:
    labels = torch.arange(30) % CLASSES
    # the first expert knows all of class 0 and 1, but of class 2 these two images
    first = set(torch.where(labels < 2)[0].tolist()) | {2, 5}
    second, third = {8, 11, 0, 1, 2}, set(range(30))
    case = readers(answered(labels, [first, second, third]))
    rows = chosen(case, labels, 4, seed).view(CLASSES, 4)
    assert rows[2].tolist() in ([2, 5, 8, 11], [5, 2, 8, 11], [2, 5, 11, 8], [5, 2, 11, 8])
    # other classes do not ask the second expert, who knows little of them
    draws = [set(chosen(case, labels, 4, each).view(CLASSES, 4)[0].tolist()) for each in range(20)]
    assert set.union(*draws) == set(range(0, 30, 3))
    # the third adds what the first two leave, which stay
    more = chosen(case, labels, 6, seed).view(CLASSES, 6)[2]
    assert set(more[:2].tolist()) == {2, 5} and set(more[2:4].tolist()) == {8, 11}
    assert not set(more[4:].tolist()) & {2, 5, 8, 11} and (labels[more] == 2).all()


def test_too_few_images_that_all_experts_together_know(readers: Readers) -> None:
    labels = torch.arange(30) % CLASSES
    case = readers(answered(labels, [{0, 1, 2, 3, 5, 6}, {0, 1, 2, 4, 9}]))
    assert len(chosen(case, labels, 2)) == 6
    message = 'class {}: 2 experts are right about 2 images, 3 are needed: .*init_images=.real'
    with pytest.raises(UserError, match=message.format('b')):
        chosen(case, labels, 3, names=('a', 'b', 'c'))
    with pytest.raises(UserError, match=message.format('1')):
        chosen(case, labels, 3)


def test_the_snapshot_that_chooses(readers: Readers) -> None:
    labels = torch.arange(30) % CLASSES
    case = readers(answered(labels, [set(range(30))]))
    assert len(chosen(case, labels, 10)) == 30
    # before its training every answer is class 0
    with pytest.raises(UserError, match='class 1: 1 experts are right about 0 images'):
        chosen(case, labels, 1, epoch=0)


def test_mean_of_those_who_are_right(readers: Readers) -> None:
    labels = torch.tensor([0, 1, 2, 2, 1, 0, 0])
    right = [{0, 1, 2, 3}, {0, 3, 4}, {0, 5, 6, 1}, {0}]
    answers = answered(labels, right)
    case = readers(answers)
    found = mean_correct_logits(case.flat, case.store, case.images, labels)
    for image in range(len(labels)):
        own = [answers[k, image].double() for k in range(4) if image in right[k]]
        wanted = sum(own) / len(own)
        torch.testing.assert_close(found[image].double(), wanted, rtol=1e-6, atol=1e-6)
    assert torch.equal(found.argmax(-1), labels)


def test_images_that_nobody_knows(readers: Readers) -> None:
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    case = readers(answered(labels, [{0, 1, 3}, {0, 3, 5}]))
    with pytest.raises(UserError, match=r'right about 2 of 6 images \(the first is number 2\)'):
        mean_correct_logits(case.flat, case.store, case.images, labels)


@pytest.mark.parametrize('label', [0, 2])
def test_an_expert_that_broke_has_no_say(
    label: int, readers: Readers, store_of: Callable[..., TrajectoryStore]
) -> None:
    labels = torch.tensor([label])
    case = readers(answered(labels, [{0}, {0}]))
    thetas = torch.stack([case.store.snapshot(0, 1)[0], torch.full((case.flat.size,), torch.nan)])
    store = store_of(thetas.unsqueeze(1).expand(-1, 2, -1))
    found = mean_correct_logits(case.flat, store, case.images, labels)
    assert torch.equal(found, case.answers[0])


@pytest.fixture
def normed(
    network_of: Callable[..., dict], store_of: Callable[..., TrajectoryStore]
) -> SimpleNamespace:
    """Two experts with batch norm whose running statistics are far from those of a fresh one."""
    draw = seeded(5)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flat = FlatNetwork(MODELS.build(network_of('ConvNetBN', width=4, depth=2)))
    thetas = torch.randn(2, 2, flat.size, generator=draw)
    buffers = 0.2 + torch.rand(2, 2, flat.buffer_size, generator=draw)
    images = 3 * torch.randn(90, 1, 8, 8, generator=draw)
    return SimpleNamespace(
        flat=flat, store=store_of(thetas, buffers), thetas=thetas, buffers=buffers, images=images
    )


def loaded(case: SimpleNamespace, expert: int, images: Tensor) -> Tensor:
    """Logits of the network itself, with an expert's parameters and running statistics in it."""
    network = case.flat.load(case.thetas[expert, -1], case.buffers[expert, -1]).eval()
    with torch.no_grad():
        return network(pixel_values=images).logits


def test_running_statistics_are_those_of_the_expert(normed: SimpleNamespace) -> None:
    own = normed.flat.buffers()
    answers = [
        expert_logits(normed.flat, normed.store, k, normed.images, batch=40) for k in range(2)
    ]
    assert torch.equal(normed.flat.buffers(), own)
    for expert in range(2):
        torch.testing.assert_close(answers[expert], loaded(normed, expert, normed.images))
    with torch.no_grad():
        plain = normed.flat.logits(normed.thetas[0, -1], normed.images, own, training=False)
    # without them this would be another answer for many images
    assert (plain.argmax(-1) != answers[0].argmax(-1)).float().mean() > 0.1


def test_choice_and_labels_with_batch_norm(normed: SimpleNamespace) -> None:
    answers = torch.stack([loaded(normed, k, normed.images) for k in range(2)])
    guesses = answers.argmax(-1)
    # the first expert is right about half of the images, the second where it says the same
    labels = torch.where(torch.arange(90) % 2 == 0, guesses[0], (guesses[0] + 1) % CLASSES)
    per_class = int(torch.bincount(labels[::2], minlength=CLASSES).min())
    assert per_class >= 2
    rows = chosen(normed, labels, per_class)
    assert torch.equal(guesses[0][rows], labels[rows]) and (rows % 2 == 0).all()
    found = mean_correct_logits(normed.flat, normed.store, normed.images[rows], labels[rows])
    right = (guesses[:, rows] == labels[rows]).double().unsqueeze(-1)
    wanted = (answers[:, rows].double() * right).sum(0) / right.sum(0)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
    assert torch.equal(found.argmax(-1), labels[rows]) and right.sum() > right[0].sum()


def test_random_rows_are_of_every_class_and_different() -> None:
    labels = torch.tensor([2, 0, 1, 1, 0, 2, 2, 0, 1, 2, 0, 1])
    seen = set()
    for seed in range(30):
        rows = random_rows(labels, 3, CLASSES, seeded(seed))
        assert labels[rows].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        assert len(set(rows.tolist())) == 9
        assert torch.equal(rows, random_rows(labels, 3, CLASSES, seeded(seed)))
        seen.add(tuple(rows.tolist()))
    assert len(seen) > 25 and {row for rows in seen for row in rows} == set(range(12))
    assert sorted(random_rows(labels, 4, CLASSES, seeded()).tolist()) == list(range(12))
    with pytest.raises(UserError, match='class 0 has 4 samples to choose from, 5 are needed'):
        random_rows(labels, 5, CLASSES, seeded())
    with pytest.raises(UserError, match='class 3 has 0 samples to choose from, 1 are needed'):
        random_rows(labels, 1, 4, seeded())


def test_hard_logits_are_certain() -> None:
    labels = torch.tensor([2, 0, 1, 2])
    found = hard_logits(labels, CLASSES)
    assert found.dtype == torch.float32
    assert torch.equal(found.softmax(-1), F.one_hot(labels, CLASSES).float())
