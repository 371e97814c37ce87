"""What serving and training must agree on: the text that is scored, the model, its manifest.

Imports numpy, onnxruntime, tokenizers and msgspec only; knows neither the proxy nor torch.
"""
