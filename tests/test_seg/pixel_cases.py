"""Slow references of the tensor operations, written from their definitions, and small inputs."""

import colorsys
import math

import numpy as np
import torch


def uniform(*shape, seed=0):
    """Uniform numbers in [0, 1)."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def logits_of(*shape, seed=0, spread=4.0):
    """Normal logits."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * spread


def labels_of(*shape, classes=5, ignored=0.1, seed=0):
    """Labels in blocks of 4 pixels, a share of them ignored."""
    generator = torch.Generator().manual_seed(seed)
    *batch, height, width = shape
    small = (*batch, -(-height // 4), -(-width // 4))
    labels = torch.randint(0, classes, small, generator=generator)
    labels[torch.rand(small, generator=generator) < ignored] = 255
    labels = labels.repeat_interleave(4, -1).repeat_interleave(4, -2)
    return labels[..., :height, :width].contiguous()


def class_mix_by_loops(labels, uniform, scope='image', include_ignore=True):
    """ClassMix with sets and loops over images and pixels."""
    mask = torch.zeros(len(labels), 1, *labels.shape[-2:], dtype=torch.bool)
    for n, image in enumerate(labels):
        found = labels.unique() if scope == 'batch' else image.unique()
        classes = [c for c in found.tolist() if include_ignore or c != 255]
        classes.sort(key=lambda c, row=n: float(uniform[row, c]))
        chosen = classes[: math.ceil(len(classes) / 2)]
        for c in chosen:
            mask[n, 0] |= image == c
    return mask


def ohem_by_sort(logits, labels, thresh, min_kept):
    """OHEM over a list of all valid pixels."""
    prob = logits.softmax(1)
    own = []
    for b, y, x in np.ndindex(*labels.shape):
        if labels[b, y, x] != 255:
            own.append(float(prob[b, labels[b, y, x], y, x]))
    own.sort()
    limit = max(thresh, own[min(min_kept * len(labels), len(own) - 1)]) if own else thresh
    weight = torch.zeros(labels.shape)
    for b, y, x in np.ndindex(*labels.shape):
        label = labels[b, y, x]
        if label != 255 and float(prob[b, label, y, x]) < np.float32(limit):
            weight[b, y, x] = 1
    return weight


def downsample_by_loops(labels, stride, classes, min_share):
    """Counts labels cell by cell."""
    batch, height, width = labels.shape
    small = torch.full((batch, height // stride, width // stride), 255)
    for b, y, x in np.ndindex(*small.shape):
        cell = labels[b, y * stride : (y + 1) * stride, x * stride : (x + 1) * stride].flatten()
        counts = [int((cell == c).sum()) for c in [*range(classes), 255]]
        best = max(range(classes + 1), key=counts.__getitem__)
        if best < classes and counts[best] / stride**2 >= min_share:
            small[b, y, x] = best
    return small


def hsv_jitter_by_loops(images, factors, order):
    """Kornia's definition up to 0.5, pixel by pixel with the colorsys of the standard library."""
    done = images.double().numpy().copy()
    for n, y, x in np.ndindex(len(images), *images.shape[-2:]):
        brightness, contrast, saturation, hue = factors[n].tolist()
        pixel = done[n, :, y, x]
        for step in order:
            if step == 0:
                pixel = np.clip(pixel + brightness - 1, 0, 1)
            elif step == 1:
                pixel = np.clip(pixel * contrast, 0, 1)
            else:
                h, s, v = colorsys.rgb_to_hsv(*pixel)
                if step == 2:
                    s = min(s * saturation, 1)
                else:
                    h = (h + hue) % 1
                pixel = np.array(colorsys.hsv_to_rgb(h, s, v))
        done[n, :, y, x] = pixel
    return torch.from_numpy(done)


def blur_by_loops(images, sigma, kernel_size):
    """A two-dimensional kernel, image by image, tap by tap."""
    high, wide = (taps // 2 for taps in kernel_size)
    height, width = images.shape[-2:]
    blurred = torch.zeros_like(images, dtype=torch.double)
    for n in range(len(images)):
        image = images[n].double().numpy()
        image = np.pad(image, ((0, 0), (high, high), (wide, wide)), mode='reflect')
        total, summed = 0.0, 0.0
        for dy, dx in np.ndindex(2 * high + 1, 2 * wide + 1):
            weight = math.exp(-((dy - high) ** 2 + (dx - wide) ** 2) / 2 / float(sigma[n]) ** 2)
            total += weight
            summed = summed + weight * image[:, dy : dy + height, dx : dx + width]
        blurred[n] = torch.from_numpy(summed / total)
    return blurred
