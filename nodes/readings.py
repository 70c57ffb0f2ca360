"""What models have read of an encoded video, kept between runs so that another question does not read it again.

The host owns the memory: a reading is loaded like a model, so that it is dropped when the host needs its memory, when
the user unloads models, and with the output of Encode Video that it hangs on.
"""

from collections.abc import Iterator

import comfy.model_patcher
import torch

from ..models.code.conversation import Conversation, converse
from ..models.code.layout import prompt_tokens
from ..models.code.visual_code import VisualCode
from ..models.progress import Progress
from . import host
from .model_placement import HostedQwen3VL


class Reading(torch.nn.Module):
    """A conversation that has read a video; None once its memory was taken back."""

    def __init__(self, conversation: Conversation, device: torch.device):
        super().__init__()
        self.conversation: Conversation | None = conversation
        self.device = device

    @property
    def tensors(self) -> list[torch.Tensor]:
        return [] if self.conversation is None else self.conversation.snapshot.cache.tensors


class _Handle(comfy.model_patcher.ModelPatcher):
    """The host's handle on a reading. It cannot be offloaded, only dropped: reading again costs less than moving it."""

    def __init__(self, conversation: Conversation, device: torch.device):
        super().__init__(Reading(conversation, device), device, device)

    def model_size(self) -> int:
        return sum(tensor.nbytes for tensor in self.model.tensors)

    def loaded_size(self) -> int:
        return self.model_size()

    def partially_load(self, device_to, extra_memory=0, force_patch_weights=False) -> int:
        return 0

    def partially_unload(self, device_to, memory_to_free=0, force_patch_weights=False) -> int:
        freed = self.model_size()
        self.model.conversation = None
        return freed

    def detach(self, unpatch_all=True):
        if unpatch_all:
            self.model.conversation = None
        return self.model


class Readings(list):
    """The readings of one code, by model. As a list it holds their handles and tensors, for the host's cache to see."""

    def __init__(self):
        super().__init__()
        self.handles: dict[int, _Handle] = {}

    def __iter__(self) -> Iterator:
        for handle in self.handles.values():
            yield handle
            yield from handle.model.tensors

    def reading(self, model: HostedQwen3VL, code: VisualCode, room: int, progress: Progress) -> Conversation:
        """Return a conversation that has read ``code`` with ``model``, and goes its own way from there.

        The text half of the model is loaded, with memory for ``room`` more tokens. The video is read where no reading
        of it is left.
        """
        handle = self.handles.get(id(model.model))
        read = handle is not None and handle.model.conversation is not None
        ready = model.for_reading(room + (0 if read else prompt_tokens(code, model.model.tokenizer)))
        conversation = handle.model.conversation if read else None
        if conversation is None:
            conversation = converse(ready, code)
            conversation.read(progress)
            handle = _Handle(conversation, ready.device)
            self.handles[id(model.model)] = handle
        host.load_models([handle], 0)
        return conversation.fork()
