"""A model as it computes with an adapter, beside the model itself."""

import accelerate
import torch
from codeclens.models.qwen.adapters import Adapter, adapted_view


class Pair(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Linear(5, 3))
        self.norm = torch.nn.LayerNorm(3)

    def forward(self, states):
        return self.norm(self.inner(states))


def drawn(inputs: int, outputs: int, rank: int) -> Adapter:
    adapter = Adapter(inputs, outputs, rank)
    torch.nn.init.normal_(adapter.down)
    torch.nn.init.normal_(adapter.up)
    return adapter


@torch.no_grad()
def test_a_view_adds_the_product_and_shares_the_weights():
    model, states, adapter = Pair(), torch.randn(2, 4), drawn(4, 5, 2)
    before = model(states)
    view = adapted_view(model, {"inner.0": adapter})
    merged = Pair()
    merged.load_state_dict(model.state_dict())
    merged.inner[0].weight += adapter.up @ adapter.down
    torch.testing.assert_close(view(states), merged(states))
    assert torch.equal(model(states), before)
    assert view.inner[1] is model.inner[1] and view.norm is model.norm
    assert view.inner[0].layer is model.inner[0]


def test_an_adapter_changes_nothing_before_it_is_trained():
    adapter = Adapter(4, 5, 2)
    adapter.reset(torch.Generator().manual_seed(0))
    model, states = Pair(), torch.randn(2, 4)
    assert torch.equal(adapted_view(model, {"inner.0": adapter})(states), model(states))


@torch.no_grad()
def test_modules_that_accelerate_has_hooked_run_as_the_twin():
    """dispatch_model binds forward to the module it was given: the twin must not run that one."""
    model, states, adapter = Pair(), torch.randn(2, 4), drawn(4, 5, 2)
    expected = adapted_view(model, {"inner.0": adapter})(states)
    for module in (model, model.inner):
        accelerate.hooks.add_hook_to_module(module, accelerate.hooks.AlignDevicesHook("cpu", io_same_device=True))
    plain = model(states)
    view = adapted_view(model, {"inner.0": adapter})
    torch.testing.assert_close(view(states), expected)
    assert torch.equal(model(states), plain) and not torch.allclose(plain, expected)
