"""Finds operations for which the host would wait for a GPU, on CPU tensors."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = {
    '_local_scalar_dense': 'the value of a tensor is asked for',
    'equal': 'two tensors are compared on the host',
    'nonzero': 'the size of the result depends on values',
    'masked_select': 'the size of the result depends on values',
    '_unique2': 'the size of the result depends on values',
    'unique_dim': 'the size of the result depends on values',
    'bincount': 'the size of the result depends on values',
    'repeat_interleave.Tensor': 'the size of the result depends on values',
    'lift_fresh': 'a Python list becomes a tensor and is sent to the device',
}


class NoWait(TorchDispatchMode):
    """``with NoWait():`` raises where an operation would wait."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func).removeprefix('aten.')
        for known, why in WAITING.items():
            if name == known or name.startswith(known + '.'):
                raise AssertionError(f'{name}: {why}')
        if name.startswith(('index.', 'index_put')):
            masks = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
            assert not masks, f'{name}: boolean indexing'
        return func(*args, **(kwargs or {}))
