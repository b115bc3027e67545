"""Tiny networks, packs of documents, and the documents one by one as the reference."""

import torch
import torch.nn.functional as F

from mmkd.language.language_model import language_model

VOCAB = 60
SIZE = dict(
    vocab_size=VOCAB,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)
SPECIAL = {
    'gpt2': dict(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=64,
                 bos_token_id=1, eos_token_id=2, attn_pdrop=0.0, resid_pdrop=0.0, embd_pdrop=0.0),
    'gpt_neox': {k: v for k, v in SIZE.items() if k not in ('num_key_value_heads', 'pad_token_id')},
    'gemma': dict(SIZE, head_dim=8),
    'qwen3': dict(SIZE, head_dim=8),
}  # fmt: skip


def network(kind='llama', attention='sdpa', dtype='float32', seed=0, **changes):
    """A tiny network whose weights are large enough that contexts matter."""
    torch.manual_seed(seed)
    config = dict(SPECIAL.get(kind, SIZE), model_type=kind, **changes)
    net = language_model(config, attention=attention, dtype=dtype)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if weight.ndim == 2 and 'wpe' not in name:
                weight.mul_(6)
            elif 'wpe' in name:
                weight.mul_(30)
    return net.eval()


def documents(lengths, seed=1):
    """Token ids and labels: the first third of each document does not count."""
    numbers = torch.Generator().manual_seed(seed)
    found = []
    for length in lengths:
        ids = torch.randint(3, VOCAB, (length,), generator=numbers)
        labels = ids.clone()
        labels[: max(1, length // 3)] = -100
        found.append((ids, labels))
    return found


def packed(rows, length):
    """A padded batch of rows of documents."""
    batch = {key: [] for key in ('input_ids', 'labels', 'position_ids', 'doc_ids')}
    for docs in rows:
        rest = length - sum(len(ids) for ids, _ in docs)
        ids = torch.cat([ids for ids, _ in docs] + [torch.zeros(rest, dtype=torch.long)])
        labels = torch.cat([labels for _, labels in docs] + [torch.full((rest,), -100)])
        places = [torch.arange(len(ids)) for ids, _ in docs] + [torch.arange(rest)]
        numbers = [torch.full((len(ids),), i) for i, (ids, _) in enumerate(docs)]
        numbers.append(torch.full((rest,), -1))
        values = (ids, labels, torch.cat(places), torch.cat(numbers))
        for key, value in zip(batch, values, strict=True):
            batch[key].append(value)
    return {key: torch.stack(value) for key, value in batch.items()}


def alone(net, ids, labels):
    """Losses of one document that is the whole input, from all logits."""
    logits = net(input_ids=ids[None], use_cache=False).logits[0, :-1].double()
    losses = F.cross_entropy(logits, labels[1:], reduction='none', ignore_index=-100)
    return losses[labels[1:] != -100]
