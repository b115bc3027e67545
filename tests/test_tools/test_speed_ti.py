"""The speed benchmark of Teacher Intervention compares forms that compute the same."""

import random

import pytest


@pytest.fixture
def bench(tools, tmp_path, monkeypatch):
    """The workbench on the CPU, with made-up sentences."""
    draw, words = random.Random(0), [f'word{number}' for number in range(60)]
    (tmp_path / 'sst2').mkdir()
    for name, count in (('train', 40), ('dev', 4)):
        lines = [
            f'{" ".join(draw.choices(words, k=7))}\t{draw.randint(0, 1)}' for _ in range(count)
        ]
        (tmp_path / 'sst2' / f'{name}.tsv').write_text('\n'.join(lines) + '\n')
    monkeypatch.setenv('MMDISTILL_DATA', str(tmp_path))
    from benchmark.methods.ti_speed import SENTENCES, Workbench

    bench = Workbench(SENTENCES, 'cpu', 1)
    for network in (bench.model, bench.straightforward):
        network.student.eval()  # dropout draws differ
    return bench


def test_both_forms_have_equal_losses_and_gradients(bench):
    import torch

    for number in (0, 12, 30, bench.model.intervention_steps):
        bench.clear()
        bench.step(bench.model, number)
        bench.step(bench.straightforward, number)
        pairs = zip(
            bench.model.student.named_parameters(),
            bench.straightforward.student.parameters(),
            strict=True,
        )
        for (name, one), other in pairs:
            assert (one.grad is None) == (other.grad is None), (number, name)
            if one.grad is not None:
                # sums in another order: a code in a million may differ
                torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_operations_leave_the_network_as_it_is(bench):
    import torch

    before = [each.detach().clone() for each in bench.model.parameters()]
    for operation in bench.operations().values():
        operation.prepare()
        operation.run()
    pairs = zip(before, bench.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_evaluation_keeps_quantized_weights_only_when_it_may(bench):
    from mmkd.quant.quantizers import Ternary

    calls = []
    original = Ternary.codes

    class Counted(Ternary):
        def codes(self, weight, bounds=None):
            calls.append(1)
            return original(self, weight, bounds)

    for layer in bench.model.student.modules():
        quantizer = getattr(layer, 'weight_quantizer', None)
        if quantizer is not None and quantizer.axis is None:
            layer.weight_quantizer = Counted()
    bench.model.eval()
    bench.evaluation(True)
    once = len(calls)
    bench.evaluation(True)
    assert len(calls) == once > 0
    bench.evaluation(False)
    assert len(calls) == 2 * once
