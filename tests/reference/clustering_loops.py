"""The equations of feature clustering as literal loops over pixels, in float64 Python numbers."""

import math

import numpy as np


def pixels(valid):
    return [tuple(p) for p in zip(*valid.nonzero(), strict=True)]


def softmax(row):
    top = max(row)
    powers = [math.exp(v - top) for v in row]
    return [p / sum(powers) for p in powers]


def similarity(response, target, valid):
    """response [B Y X K], target [B Y X], valid [B Y X] -> (value, gradient as {(b, y, x, k): value})."""
    counted = pixels(valid)
    value, gradient = 0.0, {}
    for p in counted:
        shares = softmax([float(v) for v in response[p]])
        value -= math.log(shares[target[p]]) / len(counted)
        for k, share in enumerate(shares):
            gradient[(*p, k)] = (share - (k == target[p])) / len(counted)
    return value, gradient


def continuity(response, valid, axis):
    """Mean absolute difference along spatial `axis` (0 = the first), and its gradient."""
    pairs = []
    for p in pixels(valid):
        q = list(p)
        q[axis + 1] += 1
        if q[axis + 1] < valid.shape[axis + 1] and valid[tuple(q)]:
            pairs.append((p, tuple(q)))
    n_values = len(pairs) * response.shape[-1]
    value, gradient = 0.0, {}
    for p, q in pairs:
        for k in range(response.shape[-1]):
            step = float(response[q][k]) - float(response[p][k])
            value += abs(step) / n_values
            sign = (step > 0) - (step < 0)
            gradient[(*q, k)] = gradient.get((*q, k), 0.0) + sign / n_values
            gradient[(*p, k)] = gradient.get((*p, k), 0.0) - sign / n_values
    return value, gradient


def normalise(x, valid, weight, bias, eps=1e-5):
    """x [B Y X C] -> the same, each channel normalised over the valid pixels; 0 elsewhere."""
    out = np.zeros(x.shape)
    counted = pixels(valid)
    for c in range(x.shape[-1]):
        mean = sum(x[(*p, c)] for p in counted) / len(counted)
        variance = sum((x[(*p, c)] - mean) ** 2 for p in counted) / len(counted)
        for p in counted:
            out[(*p, c)] = (x[(*p, c)] - mean) / math.sqrt(variance + eps) * weight[c] + bias[c]
    return out


def convolve(x, valid, weight, bias):
    """x [B Y X C], weight [K C 3 3] -> [B Y X K] at valid pixels; pixels outside or not valid count as 0."""
    _, y_size, x_size, _ = x.shape
    out = np.zeros((*x.shape[:-1], weight.shape[0]))
    for b, y, column in pixels(valid):
        for k in range(weight.shape[0]):
            total = bias[k]
            for i in range(3):
                for j in range(3):
                    yy, xx = y + i - 1, column + j - 1
                    if 0 <= yy < y_size and 0 <= xx < x_size and valid[b, yy, xx]:
                        total += sum(weight[k, c, i, j] * x[b, yy, xx, c] for c in range(x.shape[-1]))
            out[b, y, column, k] = total
    return out
