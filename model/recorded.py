"""Work on a CUDA card, recorded once as a graph and then replayed: its kernels run without the host's work between them.

A step of a small network is hundreds of kernels of a few microseconds, each of which takes the host longer to start than the
card to run. A replay starts them all at once. The kernels and their order are those of the first calls, and so are the bits.
"""

from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 2
"""Calls before the recording: libraries and caches set themselves up in the first, which a recording must not hold."""


class Recorded:
    """A function of tensors that returns tensors; recorded at its third call with inputs of the same shapes.

    What it changes besides (gradients, running means) must stay where it is in memory from one call to the next, and Python
    around its kernels runs in the first calls and in the recording only. What is returned is overwritten by the next call.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]]) -> None:
        self.function = function
        self.stream = torch.cuda.Stream()
        self.calls: dict[tuple[torch.Size, ...], int] = {}
        self.graphs: dict[tuple[torch.Size, ...], _Graph] = {}

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The function's value for these inputs."""
        shapes = tuple(given.shape for given in inputs)
        if shapes in self.graphs:
            return self.graphs[shapes](*inputs)
        self.calls[shapes] = self.calls.get(shapes, 0) + 1
        if self.calls[shapes] > WARM_UP:
            self.graphs[shapes] = _Graph(self.function, inputs, self.stream)
            return self.graphs[shapes](*inputs)
        # On the recording's stream already: autograd remembers on which one a parameter's gradient is added up.
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            found = self.function(*inputs)
        current.wait_stream(self.stream)
        return found


class _Graph:
    """One recording, with the memory that it reads its inputs from."""

    def __init__(
        self, function: Callable[..., tuple[Tensor, ...]], inputs: tuple[Tensor, ...], stream: torch.cuda.Stream
    ) -> None:
        self.inputs = tuple(given.clone() for given in inputs)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
            self.found = function(*self.inputs)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given)
        self.graph.replay()
        return self.found
