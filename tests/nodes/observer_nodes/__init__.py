"""Nodes for the tests alone: they write down what reaches them, and make small models that no loader takes."""

# pyright: reportMissingImports=false
import json
import time
from pathlib import Path

import comfy.clip_vision
import comfy.model_base
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import comfy.text_encoders.sd2_clip
import folder_paths
import torch
from comfy_api.latest import ComfyExtension, io
from safetensors.torch import load_file, save_file

Embeds = io.Custom("EMBEDS")


def schema(node_id, inputs, outputs=()):
    return io.Schema(node_id, category="test", inputs=inputs, outputs=list(outputs), is_output_node=not outputs)


def target(name, suffix):
    return Path(folder_paths.get_output_directory()) / f"{name}{suffix}"


def tensors_of(value, prefix, found):
    if isinstance(value, torch.Tensor):
        found[prefix] = value.detach().cpu().contiguous().clone()
    elif isinstance(value, dict):
        for key, item in value.items():
            tensors_of(item, f"{prefix}.{key}", found)
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            tensors_of(item, f"{prefix}.{number}", found)
    elif hasattr(value, "image_embeds"):
        tensors_of(value.image_embeds, f"{prefix}.image_embeds", found)
    return found


class ObserveTensors(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema("ObserveTensors", [io.AnyType.Input("value"), io.String.Input("name")])

    @classmethod
    def execute(cls, value, name):
        save_file(tensors_of(value, "value", {}), target(name, ".safetensors"))
        return io.NodeOutput()


class ObserveList(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        made = schema("ObserveList", [io.AnyType.Input("value"), io.String.Input("name")])
        made.is_input_list = True
        return made

    @classmethod
    def execute(cls, value, name):
        target(name[0], ".json").write_text(json.dumps(value), encoding="utf-8")
        return io.NodeOutput()


class ObserveClipOptions(io.ComfyNode):
    """The options of a CLIP's text models after whatever `after` did with it."""

    @classmethod
    def define_schema(cls):
        return schema("ObserveClipOptions", [io.Clip.Input("clip"), io.AnyType.Input("after"), io.String.Input("name")])

    @classmethod
    def execute(cls, clip, after, name):
        parts = {part: getattr(clip.cond_stage_model, part) for part in ("clip_l", "clip_g")}
        options = {
            part: [model.layer, model.layer_idx, model.return_projected_pooled, str(model.execution_device)]
            for part, model in parts.items()
        }
        target(name, ".json").write_text(json.dumps(options), encoding="utf-8")
        return io.NodeOutput()


class TinySdxl(io.ComfyNode):
    """A MODEL of SDXL's shape with a tenth of its width, of seeded random weights."""

    @classmethod
    def define_schema(cls):
        return schema("TinySdxl", [], [io.Model.Output()])

    @classmethod
    def execute(cls):
        config = comfy.supported_models.SDXL(
            {
                "image_size": 32,
                "in_channels": 4,
                "out_channels": 4,
                "model_channels": 32,
                "num_res_blocks": [2, 2, 2],
                "channel_mult": [1, 2, 4],
                "transformer_depth": [0, 0, 2, 2, 10, 10],
                "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
                "transformer_depth_middle": 10,
                "num_head_channels": 16,
                "use_spatial_transformer": True,
                "use_linear_in_transformer": True,
                "use_temporal_attention": False,
                "legacy": False,
                "context_dim": 2048,
                "adm_in_channels": 2816,
                "num_classes": "sequential",
                "dtype": torch.float32,
            }
        )
        config.set_inference_dtype(torch.float32, None)
        model = config.get_model({}, "", device="cpu")
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
        cpu = torch.device("cpu")
        return io.NodeOutput(comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu))


class TinyClipVision(io.ComfyNode):
    """ComfyUI's CLIP Vision of the tiny CLIP-H, whose shape its loader does not take."""

    @classmethod
    def define_schema(cls):
        return schema("TinyClipVision", [], [io.ClipVision.Output()])

    @classmethod
    def execute(cls):
        tensors = load_file(folder_paths.get_full_path_or_raise("text_encoders", "clip_h.safetensors"))
        config = {
            "model_type": "clip_vision_model",
            "hidden_size": 160,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "intermediate_size": 320,
            "projection_dim": 1024,
            "image_size": 224,
            "patch_size": 14,
            "num_channels": 3,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-5,
        }
        made = comfy.clip_vision.ClipVisionModel(config)
        missing, _ = made.load_sd({name: tensor for name, tensor in tensors.items() if name.startswith("vis")})
        assert not missing, missing
        return io.NodeOutput(made)


class ClipWithoutLOrG(io.ComfyNode):
    """The CLIP of an SD2 model: one text encoder, CLIP-H, here of three layers."""

    @classmethod
    def define_schema(cls):
        return schema("ClipWithoutLOrG", [], [io.Clip.Output()])

    @classmethod
    def execute(cls):
        class Target:
            params = {}  # noqa: RUF012
            clip = comfy.text_encoders.sd2_clip.SD2ClipModel
            tokenizer = comfy.text_encoders.sd2_clip.SD2Tokenizer

        small = {"num_hidden_layers": 3, "intermediate_size": 64}
        return io.NodeOutput(comfy.sd.CLIP(Target, model_options={"clip_h_model_config": small}))


class HoldGraph(io.ComfyNode):
    """Makes NAME.runs in the output folder, and then runs as long as there is NAME.hold."""

    @classmethod
    def define_schema(cls):
        return schema("HoldGraph", [io.String.Input("name")])

    @classmethod
    def fingerprint_inputs(cls, name):
        return time.time_ns()

    @classmethod
    def execute(cls, name):
        target(name, ".runs").touch()
        while target(name, ".hold").exists():
            time.sleep(0.02)
        return io.NodeOutput()


class Observers(ComfyExtension):
    async def get_node_list(self):
        return [ObserveTensors, ObserveList, ObserveClipOptions, TinySdxl, TinyClipVision, ClipWithoutLOrG, HoldGraph]


async def comfy_entrypoint():
    return Observers()
