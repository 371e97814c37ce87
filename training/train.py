"""Training of the network: `hybrid-llm-train train`.

- Heads: one encoder learns from the outcomes of all models on a prompt. The routed pair's heads
  ("local", "cloud") have the full weight, the mean over the other models' heads AUXILIARY_WEIGHT.
  The results of other models show how hard a prompt is; only the encoder keeps that information.
- Estimates: besides real outcomes there are prompts with estimated scores, for what has no
  outcomes. All epochs use the graded ones: many kinds of tasks, each from easy to hard.
- Epochs: all epochs but the last use every real outcome. The closing epoch repeats the everyday
  prompts, greetings and long open tasks, among a sample of real rows.
- Augmentation: every epoch augments the prompts again (training/augment.py).
- Size: all six layers and 192 tokens. Fewer of either rank as well on validation, but worse on
  sources that were not trained on (training/LOG.md). The two lowest layers are frozen: as good,
  faster to train, and read by the frozen part (training/frozen.py).
- Batches: prompts of similar length, to save padding. The forward pass is in bf16 on a GPU or a CPU
  with AMX; on other CPUs fp32 is faster.
- Weights: the running average is validated and exported. After the closing epoch these are the
  weights themselves, because the average lags.
- Selection: the epoch with the lowest validation loss of the two served heads, or the last epoch if
  its loss is within CLOSING_LOSS of it. A checkpoint after each epoch allows resuming.
"""

import hashlib
import math
import random
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn

from router_model.calibrate import fit_logistic
from router_model.features import token_ids
from router_model.metrics import auroc
from training.augment import vary
from training.dataset import CLOUD_HEAD, LENGTH_HEAD, LOCAL_HEAD, Prepared, Row
from training.network import RouterNetwork, build
from training.outcomes import length_target
from training.progress import say, track

AUXILIARY_WEIGHT = 0.5
LENGTH_WEIGHT = 0.5
SERVED_HEADS = [LOCAL_HEAD, CLOUD_HEAD, LENGTH_HEAD]
MIN_HEAD_ROWS = 100
CLOSING_LOSS = 0.01
EVERYDAY = "everyday"  # the source of data/everyday.jsonl


class TrainConfig(msgspec.Struct, kw_only=True):
    """The settings of a run. A changed value restarts it."""

    base: str = "minilm"
    layers: int | None = 6
    frozen_layers: int = 2
    max_length: int = 192
    epochs: int = 3
    batch_size: int = 32
    encoder_lr: float = 6e-5
    layer_decay: float = 0.95
    head_lr: float = 1e-3
    weight_decay: float = 0.01
    warmup_share: float = 0.06
    label_smoothing: float = 0.05
    average_steps: int = 100
    auxiliary: bool = False
    vary: bool = True
    train_share: float = 1.0
    small_source_weight: float = 1.5
    everyday_repeats: int = 20
    graded_repeats: int = 2
    closing_rows: int = 3000
    seed: int = 0
    data_sha256: str = ""


class Item(msgspec.Struct):
    """A training example: token ids, target per head (NaN if unknown), loss weight.

    `text` is the source of the ids, for augmentation.
    """

    ids: list[int]
    targets: list[float]
    weight: float
    text: str = ""


def head_names(rows: list[Row]) -> list[str]:
    """The served heads, then every model with at least MIN_HEAD_ROWS outcomes, by name."""
    counts: dict[str, int] = {}
    for row in rows:
        for head in row.outcomes:
            counts[head] = counts.get(head, 0) + 1
    others = (h for h, n in counts.items() if n >= MIN_HEAD_ROWS and h not in SERVED_HEADS)
    return SERVED_HEADS + sorted(others)


def encode_rows(
    rows: list[Row], heads: list[str], *, tokenizer: Tokenizer, config: TrainConfig
) -> list[Item]:
    """Tokenise rows and arrange their targets by head."""
    sizes: dict[str, int] = {}
    for row in rows:
        sizes[row.source] = sizes.get(row.source, 0) + 1
    largest = max(sizes.values(), default=1)

    def weight(row: Row) -> float:
        # Otherwise a small source would have almost no influence.
        small = not row.auxiliary and sizes[row.source] < largest / 4
        return config.small_source_weight if small else 1.0

    return [
        Item(
            ids=token_ids(tokenizer, row.text, max_length=config.max_length),
            targets=[targets(row).get(head, math.nan) for head in heads],
            weight=weight(row),
            text=row.text,
        )
        for row in rows
    ]


def targets(row: Row) -> dict[str, float]:
    """The target in [0, 1] of each head that is known for a row."""
    if row.cloud_response_chars is None or row.auxiliary or row.weak:
        return row.outcomes
    return row.outcomes | {LENGTH_HEAD: length_target(row.cloud_response_chars)}


def augmented(
    items: list[Item], rng: random.Random, *, tokenizer: Tokenizer, config: TrainConfig
) -> list[Item]:
    """The items with augmented texts. Items with an unchanged text are the same objects."""
    out = []
    for item in items:
        text = vary(item.text, rng)
        if text != item.text:
            ids = token_ids(tokenizer, text, max_length=config.max_length)
            item = msgspec.structs.replace(item, ids=ids, text=text)
        out.append(item)
    return out


def sample_groups(rows: list[Row], share: float) -> list[Row]:
    """The rows of a fixed `share` of the groups. A larger share includes a smaller one."""
    if share >= 1:
        return rows
    return [row for row in rows if _hash_share(row.group) < share]


def _hash_share(group: str) -> float:
    # Not the hash of the split: all training rows are in one part of its range.
    digest = hashlib.sha1(b"share" + group.encode(), usedforsecurity=False).hexdigest()
    return int(digest[:8], 16) / 2**32


def batches(items: list[Item], size: int, *, shuffle: random.Random | None) -> list[list[Item]]:
    """Batches of prompts of similar length; with `shuffle`, in random order."""
    order = list(items)
    if shuffle is None:
        order.sort(key=lambda item: len(item.ids))
        return [order[i : i + size] for i in range(0, len(order), size)]
    shuffle.shuffle(order)
    pool = size * 40
    out: list[list[Item]] = []
    for start in range(0, len(order), pool):
        chunk = sorted(order[start : start + pool], key=lambda item: len(item.ids))
        out += [chunk[i : i + size] for i in range(0, len(chunk), size)]
    shuffle.shuffle(out)
    return out


def tensors(batch: list[Item]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """ids [batch, tokens], mask [batch, tokens], targets [batch, heads], weight [batch]."""
    longest = max(len(item.ids) for item in batch)
    longest += -longest % 8  # The matrix library caches a kernel per shape.
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    mask = torch.zeros(len(batch), longest, dtype=torch.long)
    for row, item in enumerate(batch):
        ids[row, : len(item.ids)] = torch.tensor(item.ids)
        mask[row, : len(item.ids)] = 1
    targets = torch.tensor([item.targets for item in batch])
    return ids, mask, targets, torch.tensor([item.weight for item in batch])


def loss_of(logits: Tensor, targets: Tensor, weight: Tensor, *, smoothing: float) -> Tensor:
    """Weighted binary cross-entropy over the heads with a known outcome (others are NaN)."""
    known = ~torch.isnan(targets)
    smooth = torch.nan_to_num(targets) * (1 - smoothing) + smoothing / 2
    each = nn.functional.binary_cross_entropy_with_logits(logits, smooth, reduction="none") * known
    served = each[:, :2].sum(1) / 2 + LENGTH_WEIGHT * each[:, 2]
    others = each[:, 3:].sum(1) / known[:, 3:].sum(1).clamp(min=1)
    return ((served + AUXILIARY_WEIGHT * others) * weight).mean()


def parameter_groups(network: RouterNetwork, config: TrainConfig) -> list[dict[str, Any]]:
    """Parameter groups with a lower rate for lower layers.

    Word embeddings are frozen; with `frozen_layers`, all embeddings and those layers are.
    """
    layers = [*network.distilbert.transformer.layer]
    frozen, layers = layers[: config.frozen_layers], layers[config.frozen_layers :]
    if frozen:
        for module in (network.distilbert.embeddings, *frozen):
            module.requires_grad_(False)
    groups: list[dict[str, Any]] = [
        {"params": list(network.heads.parameters()), "lr": config.head_lr, "weight_decay": 0.0}
    ]
    for depth, layer in enumerate(reversed(layers)):
        rate = config.encoder_lr * config.layer_decay**depth
        groups.append({"params": list(layer.parameters()), "lr": rate})
    embeddings = network.distilbert.embeddings
    embeddings.word_embeddings.weight.requires_grad_(False)
    rest = [p for p in embeddings.parameters() if p.requires_grad]
    if rest:
        groups.append({"params": rest, "lr": config.encoder_lr * config.layer_decay ** len(layers)})
    for group in groups:
        group["peak"] = group["lr"]
    return groups


def predict(
    network: RouterNetwork, items: list[Item], *, batch_size: int = 64
) -> NDArray[np.float32]:
    """Logits [items, heads] in the order of `items`, in full precision and without dropout."""
    network.eval()
    device = next(network.parameters()).device
    order = sorted(range(len(items)), key=lambda i: len(items[i].ids))
    out = np.zeros((len(items), len(network.config.heads)), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            ids, mask, _, _ = tensors([items[i] for i in chosen])
            out[chosen] = network(ids.to(device), mask.to(device)).cpu().numpy()
    return out


def train(prepared: Prepared, run: Path, *, config: TrainConfig) -> Path:
    """Train or resume in the folder `run`. Returns the checkpoint of the best epoch."""
    run.mkdir(parents=True, exist_ok=True)
    config.data_sha256 = prepared.data_sha256
    settings = run / "config.json"
    encoded = msgspec.json.format(msgspec.json.encode(config))
    resume = settings.exists() and settings.read_bytes() == encoded
    if not resume:
        for stale in run.glob("*.pt"):
            stale.unlink()
    settings.write_bytes(encoded)

    torch.manual_seed(config.seed)
    rows = prepared.of("train", auxiliary=None if config.auxiliary else False)
    estimated = [row for row in rows if row.weak]
    rows = sample_groups([row for row in rows if not row.weak], config.train_share)
    heads = head_names(rows)
    device, precision = select_device()
    network, tokenizer = build(config.base, heads, layers=config.layers)
    network.to(device)
    tokenizer.save(str(run / "tokenizer.json"))
    items = encode_rows(rows, heads, tokenizer=tokenizer, config=config)
    sample = random.Random(config.seed).sample(items, min(config.closing_rows, len(items)))
    everyday = [row for row in estimated if row.source == EVERYDAY]
    graded = [row for row in estimated if row.source != EVERYDAY]
    encode = partial(encode_rows, heads=heads, tokenizer=tokenizer, config=config)
    items += (repeated := encode(graded) * config.graded_repeats)
    closing = sample + encode(everyday) * config.everyday_repeats + repeated
    validation_rows = [r for r in prepared.of("validation", auxiliary=False) if not r.weak]
    validation = encode_rows(validation_rows, heads, tokenizer=tokenizer, config=config)
    say(
        f"train: {len(items)} rows, closing epoch {len(closing)}, {len(heads)} heads; "
        f"validation: {len(validation)} rows; {device}, {precision}"
    )

    optimizer = torch.optim.AdamW(
        parameter_groups(network, config), weight_decay=config.weight_decay, fused=True
    )
    average = torch.optim.swa_utils.AveragedModel(
        network,
        multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(1 - 1 / config.average_steps),
    )
    history: list[dict[str, Any]] = []
    state_file = run / "last.pt"
    if resume and state_file.exists():
        state = torch.load(state_file, weights_only=True, map_location=device)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        history = state["history"]
        say(f"resuming after epoch {len(history)}")

    for epoch in range(len(history), config.epochs):
        network.train()
        last = bool(estimated) and epoch == config.epochs - 1
        rng = random.Random(1000 * config.seed + epoch)
        seen = closing if last else items
        if config.vary:
            seen = augmented(seen, rng, tokenizer=tokenizer, config=config)
        shuffled = batches(seen, config.batch_size, shuffle=rng)
        torch.manual_seed(1000 * config.seed + epoch)
        losses = []
        title = f"epoch {epoch + 1}/{config.epochs}"
        for index, batch in enumerate(track(shuffled, title, total=len(shuffled))):
            done = (epoch + index / len(shuffled)) / config.epochs
            scale = schedule(done, warmup=config.warmup_share)
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * scale
            ids, mask, targets, weight = (part.to(device) for part in tensors(batch))
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                logits = network(ids, mask)
            loss = loss_of(logits, targets, weight, smoothing=config.label_smoothing)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            average.update_parameters(network)
            losses.append(loss.detach())
        evaluated = network if last else average.module
        entry = {"epoch": epoch + 1, "loss": float(torch.stack(losses).mean())}
        entry |= _validate(evaluated, validation, validation_rows)
        history.append(entry)
        say(
            " ".join(
                f"{k}={v:.4f}" if isinstance(v, float) else f"{k}={v}" for k, v in entry.items()
            )
        )
        _save({"network": evaluated.state_dict(), "heads": heads}, run / f"epoch-{epoch + 1}.pt")
        _save(
            {
                "network": network.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "history": history,
            },
            state_file,
        )
        (run / "history.json").write_bytes(msgspec.json.format(msgspec.json.encode(history)))
    return best_checkpoint(run)


def select_device() -> tuple[torch.device, torch.dtype]:
    """The device, and the data type of the forward pass."""
    if torch.cuda.is_available():
        return torch.device("cuda"), torch.bfloat16
    # torch has only a private function for this, which may disappear.
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    return torch.device("cpu"), torch.bfloat16 if has_amx else torch.float32


def best_checkpoint(run: Path) -> Path:
    """The checkpoint to export (see the module docstring). Raises FileNotFoundError without one."""
    history_file = run / "history.json"
    if not history_file.exists():
        raise FileNotFoundError(f"no finished epoch in {run}: run `hybrid-llm-train train` first")
    history = msgspec.json.decode(history_file.read_bytes())
    best = min(history, key=lambda entry: entry["validation_loss"])
    if history[-1]["validation_loss"] <= best["validation_loss"] + CLOSING_LOSS:
        best = history[-1]
    return run / f"epoch-{best['epoch']}.pt"


def load_checkpoint(path: Path) -> tuple[RouterNetwork, Tokenizer, TrainConfig]:
    """The network, tokenizer and settings of a checkpoint."""
    config = msgspec.json.decode((path.parent / "config.json").read_bytes(), type=TrainConfig)
    state = torch.load(path, weights_only=True, map_location="cpu")
    network, tokenizer = build(config.base, state["heads"], layers=config.layers)
    network.load_state_dict(state["network"])
    network.eval()
    return network, tokenizer, config


def schedule(done: float, *, warmup: float) -> float:
    """Share of the peak learning rate at the progress `done`: linear warm-up, cosine decay."""
    if done < warmup:
        return max(done, 1e-3) / warmup
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


def calibrated_loss(logits: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
    """Mean binary cross-entropy of logits [n, heads] after scaling and shifting each head."""
    losses = []
    for column, target in zip(logits.T, targets.T, strict=True):
        slope, intercept = fit_logistic(column, target >= 0.5)
        scaled = slope * column + intercept
        losses.append(np.mean(np.logaddexp(0.0, scaled) - target * scaled))
    return float(np.mean(losses))


def _validate(network: RouterNetwork, items: list[Item], rows: list[Row]) -> dict[str, float]:
    """Loss of the served heads, and AUROC of the local head per source.

    The loss is calibrated, because the export corrects the confidence but not the ranking.
    """
    logits = predict(network, items)[:, :2].astype(np.float64)
    targets = np.array([item.targets[:2] for item in items])
    out = {"validation_loss": calibrated_loss(logits, targets)}
    sources = np.array([row.source for row in rows])
    for source in sorted(set(sources)):
        chosen = sources == source
        out[f"auroc[{source}]"] = auroc(targets[chosen, 0] >= 0.5, logits[chosen, 0])
    return out


def _save(state: dict[str, Any], path: Path) -> None:
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)
