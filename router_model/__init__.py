"""The code shared by serving and training: features, model, manifest, metrics and rubric.

This package imports only numpy, onnxruntime, tokenizers and msgspec. It does not know the proxy or
torch.
"""

import os

# Since 1.29 onnxruntime stores a machine ID in a user's file and reports loaded models to its
# vendor. It reads this variable at import, and only modules of this package import it.
# https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
