"""What serving and training must agree on: the text that is scored, the model, its manifest.

Imports numpy, onnxruntime, tokenizers and msgspec only; knows neither the proxy nor torch.
"""

import os

# Since 1.29 onnxruntime numbers the machine, in a file of the user's, and tells its makers of the
# models it loads. It reads this when it is imported, which only what is below here does.
# https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
