"""What the fuzzer starts from: small metadata of every kind built in code, and any real files that lie in a folder.

A seed of texts is a JSON tree, `[[source, name, value], …]`, as `MetadataText` has them; a value that is no text stands
for its JSON. A seed of bytes is a whole file.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image, features

from tests.metadata.conftest import GraphBuilder, make_png, png_chunk
from toolkit_core.metadata import read_texts
from toolkit_core.metadata.png import chunks, is_png

A1111 = """a fox, <lora:fur:0.8:0.5>, (bright:1.2)
BREAK second line
Negative prompt: fog,
rain
Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 5, Seed: 18446744073709551615, Size: 512x768, \
Model hash: abc, Model: "base, v1: final", VAE: vae.pt, Denoising strength: 0.4, Clip skip: 2, \
Lora hashes: "fur: 12, tail: 34", Hires upscale: 2, Version: v1.9"""
CIVITAI = """a fox
Negative prompt: fog
Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 8x8, Civitai resources: [{"type":"checkpoint",\
"modelName":"x","weight":0.5}], Civitai metadata: {"remixOfId":1}"""
XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:exif="http://ns.adobe.com/exif/1.0/">
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">a fox</rdf:li></rdf:Alt></dc:description>
<exif:UserComment><rdf:Alt><rdf:li>{&quot;c&quot;:&quot;a fox&quot;,&quot;seed&quot;:3}</rdf:li></rdf:Alt>
</exif:UserComment></rdf:Description></rdf:RDF></x:xmpmeta>"""

IMAGE_DESCRIPTION, MAKE, MODEL, EXIF_IFD, USER_COMMENT, XP_COMMENT = 0x010E, 0x010F, 0x0110, 0x8769, 0x9286, 0x9C9C
FORMATS = ("JPEG", "WEBP", "PNG", "TIFF", *(["AVIF"] if features.check("avif") else []))


def seeds_of(target: str, folders: list[Path], max_bytes: int) -> Iterator[bytes]:
    """The seeds of one target as its inputs, none longer than `max_bytes`."""
    if target == "file":
        seeds = [*_built_files(), *_shortened_files(folders)]
    else:
        trees = {"graph": _graphs, "workflow": _workflows, "parameters": _parameters, "generators": _generators}
        seeds = [json.dumps(tree).encode() for tree in (*trees[target](), *_found_texts(target, folders))]
    yield from (seed for seed in seeds if len(seed) <= max_bytes)


def _graphs() -> Iterator[list[Any]]:
    for graph in api_graphs():
        yield [["png", "prompt", graph]]
    yield [["exif", "Model", "prompt:" + json.dumps(GraphBuilder().nodes)], ["exif", "Make", 'workflow:{"nodes": []}']]
    yield [["png", "prompt", {"prompt": GraphBuilder().nodes}], ["png", "parameters", A1111]]
    yield [["png", "prompt", json.dumps(json.dumps(GraphBuilder().nodes))]]


def _workflows() -> Iterator[list[Any]]:
    for graph in api_graphs():
        yield [["png", "workflow", ui_workflow(graph)]]
    yield [["png", "workflow", with_subgraph(ui_workflow(GraphBuilder().nodes))]]
    yield [["exif", "Make", "workflow:" + json.dumps(ui_workflow(GraphBuilder().nodes))]]
    yield [["png", "prompt", GraphBuilder().nodes], ["png", "workflow", ui_workflow(GraphBuilder().nodes)]]


def _parameters() -> Iterator[list[Any]]:
    for text in (A1111, CIVITAI, A1111.replace("\n", "\r\n"), "Steps: 1, Sampler: Euler, Seed: 1, Size: 8x8"):
        yield [["png", "parameters", text]]
        yield [["exif", "UserComment", text]]
    yield [["sidecar", ".txt", A1111]]
    yield [["comment", "comment", A1111]]
    yield [["xmp", "xmp", XMP]]
    yield [["stealth", "parameters", A1111]]


def _generators() -> Iterator[list[Any]]:
    novelai = {"steps": 28, "sampler": "k_euler", "seed": 5, "scale": 6, "uc": "", "noise_schedule": "karras"}
    named = {"Title": "x", "Software": "NovelAI", "Source": "NovelAI Diffusion V4 37442FCA", "Description": "a fox"}
    captions = {"caption": {"base_caption": "a fox", "char_captions": [{"char_caption": "red", "centers": [{"x": 0}]}]}}
    novelai_4 = {**novelai, "prompt": "a fox", "v4_prompt": captions, "v4_negative_prompt": captions}
    for comment in (novelai, novelai_4):
        yield [*(["png", name, text] for name, text in named.items()), ["png", "Comment", comment]]
    invokeai = {
        "positive_prompt": "a fox",
        "negative_prompt": "",
        "seed": 3,
        "steps": 30,
        "cfg_scale": 7,
        "scheduler": "euler",
        "model": {"name": "base", "hash": "x"},
        "vae": {"name": "v"},
        "strength": 0.5,
        "loras": [{"model": {"name": "fur"}, "weight": 0.6}, {"lora": {"model_name": "tail"}, "weight": 1}],
    }
    yield [["png", "invokeai_metadata", invokeai]]
    image = {
        "prompt": [{"prompt": "a [fog] fox", "weight": 1}],
        "sampler": "ddim",
        "seed": 3,
        "steps": 9,
        "cfg_scale": 7,
    }
    yield [["png", "sd-metadata", {"model_weights": "base", "model_hash": "x", "image": image}]]
    yield [["png", "Dream", '"a fox [fog]" -s 50 -S 42 -W 512 -H 512 -C 7.5 -A k_lms']]
    fooocus = {
        "prompt": "a fox",
        "negative_prompt": "",
        "base_model": "base",
        "base_model_hash": "x",
        "sampler": "euler",
        "scheduler": "karras",
        "seed": "6952411511246973023",
        "steps": 30,
        "guidance_scale": 4,
        "sharpness": 2,
        "lora_combined_1": "fur.safetensors : 0.1",
        "loras": [["fur", 0.1, "x"]],
        "version": "Fooocus v2.5.0",
    }
    yield [["png", "parameters", fooocus], ["png", "fooocus_scheme", "fooocus"]]
    yield [["exif", "UserComment", json.dumps(fooocus)], ["exif", "Software", "Fooocus v2.5.0"]]
    job = "Job ID: b3ce08bd-5016-4c49-bbb5-de6857321513"
    yield [["png", "Description", f"a fox --ar 3:2 --v 6.1 {job}"], ["png", "Author", "x"]]
    swarm = {
        "sui_image_params": {"prompt": "a fox <lora:fur:0.5>", "negativeprompt": "fog", "model": "base", "seed": 3}
    }
    yield [["png", "parameters", swarm]]
    easy = {"prompt": "a fox", "negative_prompt": "fog", "seed": 3, "num_inference_steps": 9, "guidance_scale": 7.5}
    yield [["png", name, str(value)] for name, value in easy.items()]
    yield [["sidecar", ".json", easy]]
    yield [["exif", "UserComment", {"c": "a fox", "uc": "fog", "seed": 3, "steps": 9, "scale": 4, "sampler": "DDIM"}]]
    yield [["xmp", "xmp", XMP]]


def api_graphs() -> Iterator[dict[str, Any]]:
    """Graphs in API format, each of which leads through other rules."""
    yield GraphBuilder().nodes

    graph = GraphBuilder()
    graph.add("noise", "RandomNoise", noise_seed=2**53 + 1)
    graph.add("guider", "CFGGuider", model=["lora", 0], positive=["pair", 0], negative=["pair", 1], cfg=4.0)
    graph.add(
        "lora", "LoraLoader", lora_name="a.safetensors", strength_model=0.7, strength_clip=0.6, model=["stack", 0]
    )
    stack = {
        "loras": {"__value__": [{"name": "b", "strength": 0.5, "active": True}]},
        "lora_1": {"on": True, "lora": "c"},
    }
    graph.add("stack", "Power Lora Loader (rgthree)", model=["checkpoint", 0], clip=["checkpoint", 1], **stack)
    graph.add("pair", "ControlNetApplyAdvanced", positive=["guided", 0], negative=["zero", 0], image=["load", 0])
    graph.add("guided", "FluxGuidance", guidance=3.5, conditioning=["both", 0])
    graph.add("both", "ConditioningCombine", conditioning_1=["yes", 0], conditioning_2=["sdxl", 0])
    graph.add("sdxl", "CLIPTextEncodeSDXL", text_g="a hill", text_l=["joined", 0], clip=["checkpoint", 1])
    graph.add("joined", "StringConcatenate", string_a="a", string_b=["replaced", 0], delimiter=", ")
    graph.add("replaced", "StringReplace", string=["cut", 0], find="b", replace="c")
    graph.add("cut", "StringSubstring", string="abcdef", start=1, end=["int", 0])
    graph.add("int", "PrimitiveInt", value=4)
    graph.add("zero", "ConditioningZeroOut", conditioning=["no", 0])
    graph.add("load", "LoadImage", image="x.png")
    graph.add("pick", "KSamplerSelect", sampler_name="euler")
    graph.add("sigmas", "BasicScheduler", scheduler="simple", steps=9, denoise=1.0, model=["lora", 0])
    wires = {"noise": ["noise", 0], "guider": ["guider", 0], "sampler": ["pick", 0], "sigmas": ["sigmas", 0]}
    graph.add("custom", "SamplerCustomAdvanced", latent_image=["sampler", 0], **wires)
    graph.wire("decode", samples=["custom", 0])
    yield graph.nodes

    graph = GraphBuilder()
    graph.add(
        "base", "KSamplerAdvanced", add_noise="enable", noise_seed=["seed", 0], steps=9, cfg=2, model=["switch", 0]
    )
    graph.wire("base", positive=["reroute", 0], negative=["unseen", 1], latent_image=["empty", 0])
    graph.add("seed", "SeedNode", seed=2**64 - 1)
    graph.add("switch", "ComfySwitchNode", switch=True, on_true=["checkpoint", 0], on_false=["sampler", 0])
    graph.add("reroute", "Reroute", **{"": ["any", 0]})
    graph.add("any", "Any Switch (rgthree)", any_01=["yes", 0], any_02=["no", 0])
    graph.add("unseen", "Unseen", positive=["yes", 0], negative=["no", 0], prompt="words")
    graph.add("pipe", "ToBasicPipe", model=["checkpoint", 0], positive=["yes", 0], negative=["no", 0])
    graph.add(
        "detail",
        "FaceDetailerPipe",
        image=["decode", 0],
        detailer_pipe=["pipe", 0],
        seed=1,
        steps=4,
        cfg=1,
        denoise=0.4,
    )
    graph.add("again", "PreviewImage", images=["detail", 0])
    graph.wire("sampler", latent_image=["base", 0], add_noise="disable", cfg=["number", 0])
    graph.add("number", "Unseen Number", a=["seed", 0], Number=3)
    graph.add("words", "Unseen Text", text_a=["more", 0], other="words")
    graph.add("more", "Unseen Pair", positive="a fox", negative="fog", select=["words", 0])
    graph.wire("no", text=["words", 0])
    yield graph.nodes

    graph = GraphBuilder()
    graph.add("eff", "Efficient Loader", ckpt_name="x", positive="a fox", negative="fog", lora_stack=["stack", 0])
    graph.add("stack", "LoRA Stacker", lora_name_1="a", lora_wt_1=0.5, switch_1="On", lora_stack=["stack2", 0])
    graph.add("stack2", "CR LoRA Stack", lora_name_2="b", model_weight_2=0.5, clip_weight_2=1, switch_2="On")
    graph.wire("sampler", model=["eff", 0], positive=["eff", 1], negative=["eff", 2])
    graph.nodes["9:1"] = {"class_type": "CLIPTextEncode", "inputs": {"text": ["9:2", 0]}, "_meta": {"title": "x"}}
    graph.nodes["9:2"] = {"class_type": "ImpactWildcardProcessor", "inputs": {"populated_text": "a", "mode": True}}
    graph.wire("eff", positive=["9:2", 0])
    yield graph.nodes


def ui_workflow(graph: dict[str, Any]) -> dict[str, Any]:
    """An API graph as the UI would save it: numbered nodes, sockets, a list of links, widgets by position."""
    numbers = {node_id: number for number, node_id in enumerate(graph, start=1)}
    nodes: list[dict[str, Any]] = []
    links: list[list[Any]] = []
    for node_id, node in graph.items():
        inputs: list[dict[str, Any]] = []
        for name, value in node["inputs"].items():
            if isinstance(value, list) and value[0] in numbers:
                links.append([len(links) + 1, numbers[value[0]], value[1], numbers[node_id], len(inputs), "*"])
                inputs.append({"name": name, "type": "*", "link": len(links)})
            else:
                inputs.append({"name": name, "type": "*", "link": None, "widget": {"name": name}})
        outputs = [{"name": f"out{slot}", "type": "*", "links": [], "slot_index": slot} for slot in range(3)]
        widgets = [value for value in node["inputs"].values() if not isinstance(value, list)]
        nodes.append(
            {
                "id": numbers[node_id],
                "type": node["class_type"],
                "mode": 0,
                "order": len(nodes),
                "flags": {},
                "inputs": inputs,
                "outputs": outputs,
                "widgets_values": widgets,
                "pos": [0, 0],
                "size": [1, 1],
                "properties": {"Node name for S&R": node["class_type"]},
            }
        )
    for number, source, slot, *_ in links:
        nodes[source - 1]["outputs"][slot]["links"].append(number)
    return {"last_node_id": len(nodes), "nodes": nodes, "links": links, "groups": [], "version": 0.4, "extra": {}}


def with_subgraph(workflow: dict[str, Any]) -> dict[str, Any]:
    """The workflow inside a subgraph of two levels, with one input and one output each."""
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    links = [dict(zip(names, link, strict=True)) for link in workflow["links"]]
    inner = {
        "id": "11111111-1111-4111-8111-111111111111",
        "version": 1,
        "name": "inner",
        "nodes": workflow["nodes"],
        "links": [*links, dict(zip(names, (90, -10, 0, 2, 0, "*"), strict=True))],
        "inputs": [{"id": "a", "name": "text", "type": "STRING", "linkIds": [90]}],
        "outputs": [{"id": "b", "name": "IMAGE", "type": "IMAGE", "linkIds": [1]}],
        "inputNode": {"id": -10},
        "outputNode": {"id": -20},
    }
    use = {**workflow["nodes"][0], "id": 1, "type": inner["id"], "properties": {"proxyWidgets": [["2", "text"]]}}
    outer = {**inner, "id": "22222222-2222-4222-8222-222222222222", "name": "outer", "nodes": [use], "links": []}
    top = {**use, "type": outer["id"], "widgets_values": ["a fox"]}
    return {"nodes": [top], "links": [], "definitions": {"subgraphs": [inner, outer]}, "version": 0.4}


def _built_files() -> Iterator[bytes]:
    graph = json.dumps(GraphBuilder().nodes).encode()
    parameters = A1111.encode()
    yield make_png(png_chunk(b"tEXt", b"prompt\0" + graph), png_chunk(b"tEXt", b"parameters\0" + parameters))
    yield make_png(png_chunk(b"zTXt", b"prompt\0\0" + zlib.compress(graph)), after_idat=True)
    yield make_png(png_chunk(b"iTXt", b"parameters\0\1\0en\0x\0" + zlib.compress(parameters)))
    yield make_png(png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP.encode()))
    yield make_png(png_chunk(b"zTXt", b"prompt\0\0" + zlib.compress(b" " * 2**18)))
    tags = {MAKE: "workflow:{}", MODEL: b"prompt:" + graph, XP_COMMENT: A1111.encode("utf-16-le")}
    comments = (b"UNICODE\0" + A1111.encode("utf-16-be"), b"ASCII\0\0\0" + parameters, parameters)
    for file_format in FORMATS:
        for comment in comments:
            exif = Image.Exif()
            exif.update({IMAGE_DESCRIPTION: "x", **tags})
            exif.get_ifd(EXIF_IFD)[USER_COMMENT] = comment
            yield _saved(file_format, exif=exif)
    yield _saved("JPEG", comment=parameters)
    yield _saved("JPEG", xmp=XMP.encode())
    yield _saved("WEBP", xmp=XMP.encode())
    yield _saved("GIF", comment=parameters)
    yield _saved("PNG", alpha=True)
    yield from (graph, parameters, b"", b"RIFF\xff\0\0\0WEBP", b"\0\0\0\x08ftypavif\0\0\0\xffmeta\0\0\0\0")


def _saved(file_format: str, *, alpha: bool = False, **more: Any) -> bytes:
    target = io.BytesIO()
    Image.new("RGBA" if alpha else "RGB", (16, 16)).save(target, file_format, **more)
    return target.getvalue()


def _found_files(folders: list[Path], suffixes: set[str]) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in suffixes and path.is_file())


def _shortened_files(folders: list[Path]) -> Iterator[bytes]:
    """Real files; PNGs without their pixels, which hold no metadata that is read here."""
    for path in _found_files(folders, {".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif", ".tif", ".tiff"}):
        data = path.read_bytes()
        if is_png(data):
            data = make_png(*(data[chunk.start : chunk.end] for chunk in chunks(data) if chunk.kind[0] & 0x20))
        yield data


def _found_texts(target: str, folders: list[Path]) -> Iterator[list[Any]]:
    """The texts of real images and of JSON files, each for the target that it is for."""
    for path in _found_files(folders, {".png", ".jpg", ".jpeg", ".webp"}):
        texts = [[text.source, text.name, _as_tree(text.text)] for text in read_texts(path.read_bytes())]
        kinds = {_kind_of(value) for _, _, value in texts}
        if target in kinds or (target == "generators" and texts and not {"graph", "workflow"} & kinds):
            yield texts
    for path in _found_files(folders, {".json"}):
        value = _as_tree(path.read_text(encoding="utf-8", errors="replace"))
        if _kind_of(value) == target:
            yield [["png", "prompt" if target == "graph" else "workflow", value]]


def _as_tree(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text


def _kind_of(value: Any) -> str:
    if isinstance(value, str):
        return "graph" if value.startswith("prompt:") else "parameters" if "Steps: " in value else "generators"
    if isinstance(value.get("nodes"), list):
        return "workflow"
    is_graph = any(isinstance(node, dict) and "class_type" in node for node in value.values())
    return "graph" if is_graph else "generators"
