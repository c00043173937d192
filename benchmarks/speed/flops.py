"""Floating-point operations of real steps, forward, backward and optimizer, by torch's counter.

A multiplication and an addition are two. Only matrix products, convolutions and attention count: what is done element
by element takes time and no FLOPs.
"""

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

Shape = tuple[int, ...]


def _attention(q: Shape, k: Shape, v: Shape, *_: object, **__: object) -> int:
    return int(sdpa_flop_count(q, k, v))


def _attention_backward(gradient: Shape, q: Shape, k: Shape, v: Shape, *_: object, **__: object) -> int:
    return int(sdpa_backward_flop_count(gradient, q, k, v))


CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
"""The counter of torch 2.13 knows the attention of accelerators only."""


def flops_of(work: Callable[[], object]) -> int:
    """FLOPs of a call."""
    counter = FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION)
    with counter:
        work()
    return int(counter.get_total_flops())
