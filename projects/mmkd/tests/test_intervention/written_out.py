"""Teacher Intervention on BERT written out: functions of a dict of parameters, nothing shared.

Quantizers are expressions with ``detach`` in place of autograd functions; layers, attention,
replacement and gradient cuts follow the table of the method's description line by line.
"""

import math

import torch

CLIP = 2.5


def straight(values, quantized):
    """The quantized values; backward the gradient of what is strictly inside the clip."""
    inside = (values.detach().abs() < CLIP).to(values)
    return values * inside - (values * inside).detach() + quantized.detach()


def ternary(weight, rows=False):
    w = weight.detach().clamp(-CLIP, CLIP)
    groups = w if rows else w.reshape(1, -1)
    out = []
    for row in groups:
        size = row.abs()
        kept = size > 0.7 * size.mean()
        scale = size[kept].mean() if kept.any() else size.new_zeros(())
        out.append(torch.where(kept, scale * row.sign(), torch.zeros_like(row)))
    return straight(weight, torch.stack(out).view_as(weight))


def eight(values):
    v = values.detach().clamp(-CLIP, CLIP)
    s = 127 / v.abs().max()
    return straight(values, torch.round(v * s) / s)


def forward(p, ids, mask, heads, layers, quantized=True, mode=None, teacher=None):
    """All signals of a pass."""
    w = ternary if quantized else (lambda x, rows=False: x)
    a = eight if quantized else (lambda x: x)
    width = p['bert.embeddings.word_embeddings.weight'].shape[1]

    def linear(name, x):
        return a(x) @ w(p[f'{name}.weight']).T + p[f'{name}.bias']

    def norm(name, x):
        return torch.nn.functional.layer_norm(
            x, (width,), p[f'{name}.weight'], p[f'{name}.bias'], 1e-12
        )

    def split(x):
        return x.view(*x.shape[:2], heads, -1).transpose(1, 2)

    e = 'bert.embeddings'
    # row 0 is padding and learns nothing
    x = torch.nn.functional.embedding(ids, w(p[f'{e}.word_embeddings.weight'], rows=True), 0)
    x = x + p[f'{e}.token_type_embeddings.weight'][0]
    x = norm(f'{e}.LayerNorm', x + p[f'{e}.position_embeddings.weight'][: ids.shape[1]])
    added = torch.zeros(mask.shape).masked_fill(mask == 0, torch.finfo(torch.float32).min)
    found = dict(hidden=[x], scores=[], maps=[], contexts=[], outputs=[], joined=[])
    for number in range(layers):
        n = f'bert.encoder.layer.{number}'
        below = x.detach() if mode in ('output', 'context', 'map') else x
        value_in = x.detach() if mode in ('output', 'context') else x
        q = split(linear(f'{n}.attention.self.query', below))
        k = split(linear(f'{n}.attention.self.key', below))
        v = split(linear(f'{n}.attention.self.value', value_in))
        scores = a(q) @ a(k).transpose(2, 3) / math.sqrt(width // heads) + added[:, None, None]
        probs = torch.softmax(scores, -1)
        found['scores'].append(scores)
        found['maps'].append(probs)
        if mode == 'map':
            probs = teacher['maps'][number]
        context = a(probs) @ a(v)
        found['contexts'].append(context)
        if mode == 'context':
            context = teacher['contexts'][number]
        joined = context.transpose(1, 2).reshape(x.shape)
        out = linear(f'{n}.attention.output.dense', joined)
        found['outputs'].append(out)
        if mode == 'output':
            out = teacher['outputs'][number]
        att = norm(f'{n}.attention.output.LayerNorm', out + x)
        found['joined'].append(att)
        up = torch.nn.functional.gelu(linear(f'{n}.intermediate.dense', att))
        x = norm(f'{n}.output.LayerNorm', linear(f'{n}.output.dense', up) + att)
        found['hidden'].append(x)
    pooled = torch.tanh(linear('bert.pooler.dense', x[:, 0]))
    found['logits'] = pooled @ p['classifier.weight'].T + p['classifier.bias']
    return found


def losses(student, teacher):
    """The four published losses."""

    def seen(s):
        return torch.where(s <= -100, torch.zeros_like(s), s)

    def squared(kind, change=lambda t: t):
        pairs = zip(student[kind], teacher[kind], strict=True)
        return sum(((change(x) - change(y)) ** 2).mean() for x, y in pairs)

    target = torch.softmax(teacher['logits'], -1)
    prediction = -(target * torch.log_softmax(student['logits'], -1)).sum(-1).mean()
    return dict(
        loss_prediction=prediction,
        loss_hidden=squared('hidden'),
        loss_joined=squared('joined'),
        loss_scores=squared('scores', seen),
    )
