import pytest
import torch
from torch import Tensor
from torch.utils.data._utils.pin_memory import pin_memory

from mitosight.batch import Batch


def boxes(*counts: int) -> list[Tensor]:
    return [torch.rand(count, 3) for count in counts]


def test_batch_goes_to_another_device_whole() -> None:
    label = torch.tensor([1, 0])
    batch = Batch(torch.rand(2, 3, 4, 4), boxes(3, 0), boxes(0, 1), label, label == 0, {"scanner": ["a", "b"]}, label)
    there = batch.to(torch.device("meta"))
    every = [there.images, *there.figures, *there.hard_negatives, there.domain, there.labelled, there.label]
    assert {part.device.type for part in every} == {"meta"}
    assert [len(part) for part in there.figures + there.hard_negatives] == [3, 0, 0, 1]
    assert there.columns == batch.columns
    assert Batch(batch.images, [], [], label, label == 0).to(torch.device("meta")).figures == []


def test_loader_pins_the_tensors_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[Tensor] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: pinned.append(self) or self.clone())
    label = torch.tensor([1, 0])
    batch = Batch(torch.rand(2, 3, 4, 4), boxes(3, 0), boxes(0, 1), label, label == 0, {}, label)
    found = pin_memory(batch)  # torch hands over what it does not know as it is
    assert [id(part) for part in pinned] == [id(p) for p in (batch.images, batch.domain, batch.labelled, batch.label)]
    assert found.images is not batch.images and torch.equal(found.images, batch.images)
