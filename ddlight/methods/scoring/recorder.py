"""Training dynamics per sample, recorded while a network trains on the full data: streaming statistics, no logits kept.

Two sources, never mixed up: `train.*` comes from the logits of the training step itself (augmented view, before the
update, BatchNorm in training mode) and costs no further forward pass; `clean.*` comes from passes over the images as
they are, in evaluation mode, at equally spaced moments of the run.
"""

from collections.abc import Iterator
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor

from ddlight.train import signals
from ddlight.train.callbacks.each_step import EachStep
from ddlight.views.loader import EvalLoader, eval_batch
from ddlight.views.view import View

PASS = ("prob_true", "el2n", "margin_prob", "margin_logit", "correct")
"""What is read from every training view."""
LAST = ("entropy", "least_confidence", "top_margin", "cross_entropy")
"""What is read from the last clean pass alone."""
COUNTERS = ("passes", "readings", "windows", "dual_windows")
"""What is counted beside the statistics."""


class Recorder(EachStep):
    """Streaming statistics of every training image, on any number of ranks, and resumable.

    On each rank the current pass adds into sums and counts; at its end they are added over the ranks, so that every
    statistic moves once per pass with the mean of the image's views in it. Several ranks add gradients in another order
    than one: the last bit of the weights differs and, as training amplifies that, scores do by up to a few hundredths.
    Images that a cut-off last pass did not reach keep what they had. The state takes `state_bytes` bytes, whatever the
    number of classes or passes; only TDDS, where it is asked for, takes 8 C + 4 (T - 1) more per image, since it
    compares whole answers of two passes in a row.

    Args:
        images: N, of the full training split.
        early: number of first passes whose EL2N is averaged.
        dual: number of first passes that DUAL looks at.
        ring: J: passes of a window of Dyn-Unc and DUAL.
        clean: clean passes, equally spaced, the last one at the end of the run.
        temperature: T of the soft labels that are matched; 0 where hard ones are, and then no EL2N-SL is recorded.
        tdds: T of TDDS: number of first passes that it looks at; 0 records nothing for it.
        classes: C, where TDDS is recorded.
    """

    def __init__(
        self,
        images: int,
        early: int,
        dual: int,
        ring: int,
        clean: int,
        temperature: float = 0.0,
        tdds: int = 0,
        classes: int = 0,
    ) -> None:
        self.images, self.early, self.dual, self.ring, self.clean = images, early, dual, ring, clean
        self.temperature, self.tdds = temperature, tdds
        self.in_work = ("value", "count", "answer") if tdds else ("value", "count")
        self.names = (*PASS, *(["el2n_sl"] if temperature else []))
        self.passes = self.readings = self.windows = self.dual_windows = 0
        self.device = torch.device("cpu")
        self.state = {name: torch.zeros(shape) for name, shape in self._shapes(classes).items()}

    def _shapes(self, classes: int) -> dict[str, tuple[int, ...]]:
        """Every statistic's shape, by name."""
        n, read = self.images, len(self.names)
        single = ("count", "seen", "el2n", "early_seen", "dual_prob", "before", "events", "learned", "dyn_unc", "dual")
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(single, (n,))
        shapes |= {"value": (read, n), "sum": (read, n), "ring": (self.ring, n), "last": (len(LAST), n)}
        shapes |= {"clean_prob_true": (self.clean, n), "clean_el2n": (self.clean, n)}
        if self.tdds:
            shapes |= {"answer": (n, classes), "answer_before": (n, classes), "change": (self.tdds - 1, n)}
        return shapes

    @property
    def state_bytes(self) -> int:
        """Bytes of all statistics."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.state.values())

    # --- the training forward ---

    @torch.no_grad()
    def observe(self, logits: Tensor, targets: Tensor, view: View) -> None:
        """Add what a step's own logits say of its images.

        Args:
            logits: (B, C) of the training step.
            targets: what they were compared with: (B, C) probabilities at `temperature` where soft labels are matched.
            view: of unmixed images, with their hard labels and their positions in the training split.
        """
        rows = list(signals.of_class(logits, view.labels).values())
        if self.temperature:
            rows.append(signals.el2n_sl(logits, targets, self.temperature))
        self.state["value"].index_add_(1, view.ids, torch.stack(rows))
        self.state["count"].index_add_(0, view.ids, torch.ones_like(rows[0]))
        if self.passes < self.tdds:
            self.state["answer"].index_add_(0, view.ids, logits.float().softmax(1))

    @torch.no_grad()
    def end_pass(self) -> None:
        """Close a pass: from sums and counts of all ranks to every statistic."""
        s, count = self.state, _add_up(self.state["count"])
        reached = count > 0
        value = dict(zip(self.names, _add_up(s["value"]) / count.clamp(min=1), strict=True))
        s["sum"] += torch.stack(list(value.values()))
        s["seen"] += reached
        if self.passes < self.early:
            s["el2n"] += value["el2n"]
            s["early_seen"] += reached
        self._forget(value["correct"] >= 0.5, reached)
        if bool(reached.all()):  # a pass that was cut off has no window
            self._slide(value["prob_true"])
            if self.passes < self.tdds:
                self._compare(_add_up(s["answer"]) / count[:, None])
        self.passes += 1
        for name in self.in_work:
            s[name].zero_()

    def _forget(self, right: Tensor, reached: Tensor) -> None:
        """Count a forgetting event where an image was right when last seen and is wrong now (arXiv 1812.05159)."""
        s, now = self.state, right.float()
        s["events"] += ((s["before"] > now) & reached).float()
        s["before"] = torch.where(reached, now, s["before"])
        s["learned"] = torch.maximum(s["learned"], now)

    def _slide(self, prob: Tensor) -> None:
        """Move the window of J passes on: Dyn-Unc's std, and DUAL's 10 std (1 - mean) for its first passes."""
        s = self.state
        s["ring"][self.passes % self.ring] = prob
        if self.passes < self.dual:
            s["dual_prob"] += prob
        if self.passes + 1 < self.ring:
            return
        spread = s["ring"].std(0)
        s["dyn_unc"] += spread
        self.windows += 1
        if self.passes < self.dual:
            s["dual"] += 10 * spread * (1 - s["ring"].mean(0))
            self.dual_windows += 1

    def _compare(self, answer: Tensor) -> None:
        """Keep how far each answer (N, C) moved since the pass before: TDDS's first differences."""
        if self.passes:
            self.state["change"][self.passes - 1] = signals.change(answer, self.state["answer_before"])
        self.state["answer_before"] = answer

    # --- the clean pass ---

    def due(self, step: int, total: int) -> bool:
        """Whether a clean pass follows optimiser step `step` of `total`."""
        return bool(self.clean) and step * self.clean // total > self.readings

    @torch.no_grad()
    def read(self, model: Any) -> None:
        """Make one clean pass: every training image once, on one rank, as it is, in evaluation mode."""
        if self.readings >= self.clean:
            return
        answers = torch.zeros(2 + len(LAST), self.images, device=self.device)
        model.eval()
        model.share_buffers()
        with model.trainer.precision_plugin.forward_context():
            for rows, images, labels in clean_batches(model):
                logits = model.logits(images).float()
                of_class = signals.of_class(logits, labels)
                readings = [of_class["prob_true"], of_class["el2n"]]
                readings += [signals.entropy(logits), signals.least_confidence(logits), signals.top_margin(logits)]
                answers[:, rows] = torch.stack([*readings, signals.cross_entropy(logits, labels)])
        model.train()
        answers = _add_up(answers)
        self.state["clean_prob_true"][self.readings], self.state["clean_el2n"][self.readings] = answers[:2]
        self.state["last"] = answers[2:]
        self.readings += 1

    # --- Lightning's hooks ---

    def on_train_start(self, trainer: Any, pl_module: LightningModule) -> None:
        """Move the statistics to the training device."""
        super().on_train_start(trainer, pl_module)
        self.device = pl_module.device
        self.state = {name: tensor.to(self.device) for name, tensor in self.state.items()}

    def after_step(self, trainer: Any, model: Any, step: int) -> None:
        """Close the pass at its last step, and read the images where that is due."""
        if step % model.run.steps_per_pass == 0 or step == model.run.steps:
            self.end_pass()
        while self.due(step, model.run.steps):
            self.read(model)

    def state_dict(self) -> dict[str, Any]:
        """Statistics and counters; called on every rank, and what the ranks have of the pass in work is added up."""
        tensors = {name: tensor.cpu().clone() for name, tensor in self.state.items()}
        tensors |= {name: _add_up(self.state[name]).cpu() for name in self.in_work}
        return {"state": tensors, **{name: getattr(self, name) for name in COUNTERS}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint: rank 0 takes what all ranks had of the pass in work."""
        kept, parallel = dict(state_dict["state"]), torch.distributed
        if parallel.is_available() and parallel.is_initialized() and parallel.get_rank():
            kept |= {name: torch.zeros_like(kept[name]) for name in self.in_work}
        self.state = {name: tensor.to(self.device) for name, tensor in kept.items()}
        for name in COUNTERS:
            setattr(self, name, int(state_dict[name]))

    # --- the end ---

    def columns(self) -> dict[str, Tensor]:
        """What is kept of the run, by name: float32 (N,), and (readings, N) for the two histories of clean passes.

        `train.change` is (passes - 1, N): of the first `tdds` passes, those that reached every image.
        """
        s, seen = self.state, self.state["seen"].clamp(min=1)
        means = dict(zip(self.names, s["sum"] / seen, strict=True))
        dual_passes = max(1, min(self.passes, self.dual))
        columns = {
            "train.el2n": s["el2n"] / s["early_seen"].clamp(min=1),
            "train.forgetting": s["events"],
            "train.learned": s["learned"],
            "train.aum_prob": means["margin_prob"],
            "train.aum_logit": means["margin_logit"],
            "train.prob_true": means["prob_true"],
            "train.seen": s["seen"],
        }
        if self.windows:
            columns["train.dyn_unc"] = s["dyn_unc"] / self.windows
        if self.dual_windows:
            columns |= {"train.dual": s["dual"] / self.dual_windows, "train.dual_prob": s["dual_prob"] / dual_passes}
        if self.temperature:
            columns["train.el2n_sl"] = means["el2n_sl"]
        whole = min(int(s["seen"].min()), self.tdds)
        if whole > 1:
            columns["train.change"] = s["change"][: whole - 1]
        if self.readings:
            columns |= {f"clean.{name}": row for name, row in zip(LAST, s["last"], strict=True)}
            columns |= {"clean.prob_true": s["clean_prob_true"], "clean.el2n": s["clean_el2n"]}
        return {name: tensor.float().cpu().contiguous().clone() for name, tensor in columns.items()}


def _add_up(tensor: Tensor) -> Tensor:
    """The sum over all ranks, as a new tensor where there are several."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return tensor
    total = tensor.clone()
    torch.distributed.all_reduce(total)
    return total


def clean_batches(model: Any) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield rows (on the device), uint8 images and labels of the training split, this rank's share, each image once."""
    data, trainer = model.data.dataset, model.trainer
    labels, batch = data.index("train").labels, eval_batch(data.info)
    loader = EvalLoader(lambda rows: data.take("train", rows), labels, batch, trainer.global_rank, trainer.world_size)
    for start, (images, classes) in zip(range(0, len(loader.mine), batch), loader, strict=True):
        rows = torch.from_numpy(loader.mine[start : start + batch])
        yield rows.to(model.device), images.to(model.device), classes.to(model.device)
