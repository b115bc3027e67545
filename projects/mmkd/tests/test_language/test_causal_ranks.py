"""Steps of two ranks with accumulated batches of unequal sizes are one big batch."""

import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from packed_cases import documents, network, packed

from mmdistill.testing import run_gloo
from mmkd.language.causal_student import CausalStudent
from mmkd.language.lm_loss import NoResponseTokens

DOCS = documents((9, 14, 6, 12))
ROWS = [[DOCS[:2], DOCS[2:3]], [[], DOCS[3:]]]
TOKENS = 28


def student():
    """The student of all ranks."""
    return CausalStudent(network('gpt2', dtype='float64'))


def stepped(rank):
    """The weights after a step of two batches on this rank, and what else ranks do."""
    model, other = student(), student()
    wrapped = MMDistributedDataParallel(model, device_ids=None)
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0), accumulative_counts=2)
    optimizer.initialize_count_status(wrapped, 0, 2)
    logs = []
    for row in ROWS[rank]:
        batch = dict(packed([row], 26), global_tokens=TOKENS, accumulate=2)
        logs.append(float(wrapped.train_step(batch, optimizer)['loss']))

    single = MMDistributedDataParallel(other, device_ids=None)
    whole = OptimWrapper(torch.optim.SGD(other.parameters(), lr=1.0))
    single.train_step(packed([ROWS[rank][0]], 26), whole)

    refused = False
    try:
        other(**packed([[]], 8), mode='loss')
    except NoResponseTokens:
        refused = True
    weights = [[w.detach().numpy() for w in each.parameters()] for each in (model, other)]
    return dict(accumulated=weights[0], counted=weights[1], logs=logs, refused=refused)


def by_one(rows):
    """Movement of the weights in a step of one rank with one batch, and its loss."""
    model = student()
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0))
    log = model.train_step(packed(rows, 26), optimizer)
    return [w.detach() for w in model.parameters()], float(log['loss'])


def near(found, wanted):
    """Asserts that weights moved alike, relative to the movement."""
    for a, b, start in zip(found, wanted, student().parameters(), strict=True):
        moved = (b - start).norm()
        assert moved > 0 and (torch.from_numpy(a) - b).norm() <= 1e-6 * moved


def test_two_ranks_are_one_big_batch():
    answers = run_gloo(stepped, 2)
    wanted, loss = by_one([row for rows in ROWS for row in rows])
    first, _ = by_one([ROWS[0][0], ROWS[1][0]])
    for answer in answers:
        near(answer['accumulated'], wanted)
        near(answer['counted'], first)
        assert answer['refused']
    logs = [value for answer in answers for value in answer['logs']]
    assert logs[2] == 0 and abs(sum(logs) / 4 - loss) < 1e-9 * loss
