"""The weights of a GGUF pair under Hugging Face's names, as its own classes take them."""

import torch
from codeclens.models.qwen.model_file import ModelFile
from codeclens.models.qwen.weights import dense

from .gguf_files import ExpertShape, HybridShape, Shape


def reference_state(shape: Shape, text: ModelFile, tower: ModelFile) -> dict[str, torch.Tensor]:
    """The weights of both files, dequantised, by Hugging Face's names."""
    stored = {**text.tensors, **tower.tensors}
    state = {}

    def copy(name, source, kinds=("weight",)):
        for kind in kinds:
            state[f"{name}.{kind}"] = dense(stored[f"{source}.{kind}"])

    both = ("weight", "bias")
    copy("model.language_model.embed_tokens", "token_embd")
    copy("model.language_model.norm", "output_norm")
    copy("lm_head", "token_embd" if shape.tied else "output")
    if isinstance(shape, HybridShape):
        state |= hybrid_layers(shape, stored)
    for layer in range(shape.layers if type(shape) is Shape else 0):
        ours, theirs = f"blk.{layer}.", f"model.language_model.layers.{layer}."
        for name, source in {
            "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_norm": "attn_q_norm",
            "self_attn.k_norm": "attn_k_norm", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
            "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
        }.items():  # fmt: skip
            copy(theirs + name, ours + source)
        if ours + "attn_qkv.weight" in stored:
            sizes = [heads * shape.head_dim for heads in (shape.heads, shape.kv_heads, shape.kv_heads)]
            for part, rows in zip("qkv", dense(stored[ours + "attn_qkv.weight"]).split(sizes), strict=True):
                state[f"{theirs}self_attn.{part}_proj.weight"] = rows
        else:
            for part in "qkv":
                copy(f"{theirs}self_attn.{part}_proj", f"{ours}attn_{part}")
    visual = "model.visual."
    stem = [dense(stored[name]) for name in ("v.patch_embd.weight", "v.patch_embd.weight.1")]
    state[visual + "patch_embed.proj.weight"] = torch.stack(stem, dim=2)
    copy(visual + "patch_embed.proj", "v.patch_embd", ("bias",))
    copy(visual + "pos_embed", "v.position_embd")
    for layer in range(shape.vision_layers):
        for name, source in {
            "norm1": "ln1", "norm2": "ln2", "attn.qkv": "attn_qkv", "attn.proj": "attn_out", "mlp.linear_fc1": "ffn_up",
            "mlp.linear_fc2": "ffn_down",
        }.items():  # fmt: skip
            copy(f"{visual}blocks.{layer}.{name}", f"v.blk.{layer}.{source}", both)
    for name, source in {"norm": "v.post_ln", "linear_fc1": "mm.0", "linear_fc2": "mm.2"}.items():
        copy(f"{visual}merger.{name}", source, both)
    for number, layer in enumerate(shape.deepstack):
        for name, source in {"norm": "norm", "linear_fc1": "fc1", "linear_fc2": "fc2"}.items():
            copy(f"{visual}deepstack_merger_list.{number}.{name}", f"v.deepstack.{layer}.{source}", both)
    return state


def hybrid_layers(shape: HybridShape, stored) -> dict[str, torch.Tensor]:
    """The layers of Qwen3.5 by Hugging Face's names, value heads in the order of their key heads."""
    state = {"model.language_model.norm.weight": dense(stored["output_norm.weight"]) - 1}
    keys, groups = 2 * shape.key_heads * shape.state, shape.value_heads // shape.key_heads

    def grouped(values, axis=0):
        return values.unflatten(axis, (groups, shape.key_heads, -1)).transpose(axis, axis + 1).flatten(axis, axis + 2)

    for layer in range(shape.layers):
        ours, theirs = f"blk.{layer}.", f"model.language_model.layers.{layer}."
        get = {name[len(ours) :]: dense(tensor) for name, tensor in stored.items() if name.startswith(ours)}
        norms = {"input_layernorm": "attn_norm", "post_attention_layernorm": "post_attention_norm"}
        copies = {"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
        if isinstance(shape, ExpertShape):
            copies = {f"mlp.shared_expert.{part}_proj": f"ffn_{part}_shexp" for part in ("gate", "up", "down")}
            copies["mlp.gate"] = "ffn_gate_inp"
            into = get.get("ffn_gate_up_exps.weight")
            if into is None:
                into = torch.cat([get["ffn_gate_exps.weight"], get["ffn_up_exps.weight"]], dim=1)
            state[theirs + "mlp.experts.gate_up_proj"] = into
            state[theirs + "mlp.experts.down_proj"] = get["ffn_down_exps.weight"]
            state[theirs + "mlp.shared_expert_gate.weight"] = get["ffn_gate_inp_shexp.weight"][None]
        if shape.is_recurrent(layer):
            net = theirs + "linear_attn."
            for name, source in (("in_proj_qkv.weight", "attn_qkv.weight"), ("conv1d.weight", "ssm_conv1d.weight")):
                values = get[source]
                state[net + name] = torch.cat([values[:keys], grouped(values[keys:])])
            state[net + "conv1d.weight"] = state[net + "conv1d.weight"][:, None]
            for name, source in (("in_proj_z", "attn_gate"), ("in_proj_a", "ssm_alpha"), ("in_proj_b", "ssm_beta")):
                state[f"{net}{name}.weight"] = grouped(get[source + ".weight"])
            state[net + "A_log"] = grouped(get["ssm_a"].neg().log())
            state[net + "dt_bias"] = grouped(get["ssm_dt.bias"])
            state[net + "norm.weight"] = get["ssm_norm.weight"]
            state[net + "out_proj.weight"] = grouped(get["ssm_out.weight"], 1)
        else:
            norms |= {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
            copies["self_attn.o_proj"] = "attn_output"
            if "attn_qkv.weight" in get:
                sizes = [heads * shape.head_dim for heads in (2 * shape.heads, shape.kv_heads, shape.kv_heads)]
                for part, values in zip("qkv", get["attn_qkv.weight"].split(sizes), strict=True):
                    state[f"{theirs}self_attn.{part}_proj.weight"] = values
            else:
                copies |= {f"self_attn.{part}_proj": f"attn_{part}" for part in "qkv"}
        state |= {f"{theirs}{name}.weight": get[source + ".weight"] for name, source in copies.items()}
        state |= {f"{theirs}{name}.weight": get[source + ".weight"] - 1 for name, source in norms.items()}
    return state


def declare_torchvision() -> torch.library.Library | None:
    """Let a torchvision built for another torch be imported: transformers asks for it."""
    try:
        import torchvision  # noqa: F401
    except ImportError:
        return None
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return None
