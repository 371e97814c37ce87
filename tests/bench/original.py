"""Decision time of the original project: DistilBERT in PyTorch, on one thread.

    .venv-train/bin/python tests/bench/original.py < texts.json  # as tests/bench/bench.py calls it

Input: {"tokenizer": path, "texts": {name: [text, …]}, "passes": n}. Output: {"milliseconds": {name:
[the median of its passes, for each text]}, "versions": {…}}. The weights are random, which does not
change the time.
"""

import json
import statistics
import sys
import time

import torch  # noqa: TID251 -- the baseline that serving without it is compared with
import transformers  # noqa: TID251
from tokenizers import Tokenizer

MAX_TOKENS = 512


def main() -> None:
    options = json.load(sys.stdin)
    torch.set_num_threads(1)
    config = transformers.DistilBertConfig()  # distilbert-base: 6 layers of 768
    model = transformers.DistilBertForSequenceClassification(config).eval()
    tokenizer = Tokenizer.from_file(options["tokenizer"])
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)

    def decide(text: str) -> float:
        started = time.perf_counter_ns()
        encoded = tokenizer.encode(text)
        with torch.inference_mode():
            output = model(
                input_ids=torch.tensor([encoded.ids]),
                attention_mask=torch.tensor([encoded.attention_mask]),
            )
            torch.softmax(output.logits, dim=-1).tolist()
        return (time.perf_counter_ns() - started) / 1e6

    for _ in range(5):
        decide("What is the capital of France?")
    milliseconds = {}
    for name, texts in options["texts"].items():
        passes = [[decide(text) for text in texts] for _ in range(options["passes"])]
        milliseconds[name] = [statistics.median(times) for times in zip(*passes, strict=True)]
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps({"milliseconds": milliseconds, "versions": versions}))


if __name__ == "__main__":
    main()
