"""A network on a GPU as CUDA graphs: one call starts its hundreds of kernels, whatever threads ask for it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import Tensor

Network = Callable[[Tensor], tuple[Tensor, ...]]
MOST_GRAPHS = 4  # each keeps the memory of its maps
WARM_UPS = 2


class Graphs:
    """Calls a network directly the first time that images of a size come, and by a graph from then on.

    A last, smaller batch costs no graph so. Only `MOST_GRAPHS` sizes have one; others are always called directly.
    The network must ask the GPU for nothing (no `.item()`, no copies) and keeps its weights where they are.
    """

    def __init__(self, network: Network, most: int = MOST_GRAPHS) -> None:
        self.network, self.most = network, most
        self.lock = threading.Lock()
        self.seen: set[tuple[int, ...]] = set()
        self.graphs: dict[tuple[int, ...], _Graph] = {}

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) to float32 maps, which are the caller's own."""
        with torch.cuda.device(images.device):
            with self.lock:
                graph = self._graph(images)
                if graph is not None:
                    return graph(images)
            return tuple(m.float() for m in self.network(images))

    def _graph(self, images: Tensor) -> _Graph | None:
        """The graph for images of this size; made where this is the second time and there is room."""
        size = tuple(images.shape)
        if size not in self.graphs and size in self.seen and len(self.graphs) < self.most:
            self.graphs[size] = _Graph(self.network, images)
        self.seen.add(size)
        return self.graphs.get(size)


class _Graph:
    """The graph of one size, for one thread at a time; what they ask of the GPU waits for each other there."""

    def __init__(self, network: Network, images: Tensor) -> None:
        self.images = images.clone()
        self.used = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self.graph = torch.cuda.CUDAGraph()
        asking, own = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        own.wait_stream(asking)
        with torch.cuda.stream(own):
            for _ in range(WARM_UPS):
                network(self.images)
        # "thread_local": other threads go on copying and allocating meanwhile
        with torch.cuda.graph(self.graph, stream=own, capture_error_mode="thread_local"):
            self.maps = network(self.images)
        asking.wait_stream(own)

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        stream = torch.cuda.current_stream()
        stream.wait_event(self.used)  # until the thread before has its maps
        self.images.copy_(images)
        self.graph.replay()
        found = tuple(m.to(torch.float32, copy=True) for m in self.maps)
        self.used.record(stream)
        return found
