from __future__ import annotations

import subprocess
import sys


def test_importing_the_encoders_imports_no_model_code() -> None:
    """ComfyUI prints each pack's import time."""
    heavy = ("torch", "transformers", "open_clip", "onnxruntime", "safetensors", "huggingface_hub")
    code = (
        "import sys; import toolkit_core.encoders, toolkit_core.encoders.weights, toolkit_core.encoders.download, "
        "toolkit_core.encoders.tiny, toolkit_core.encoders.clip_tokens, toolkit_core.encoders.prompt_text; "
        f"sys.exit(' '.join(name for name in {heavy} if name in sys.modules) or 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
