"""StoredLabel: the student matches labels that teachers gave earlier to the views of M passes, replayed in turn."""

import logging
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ddlight.core.errors import UsageError
from ddlight.core.naming import named
from ddlight.core.randomness import generator
from ddlight.networks.teachers import Teacher, mean_logits
from ddlight.recipes.protocols.own import OWN
from ddlight.regimes.base import Regime, ResolvedRun, seed_torch
from ddlight.regimes.losses import kl_divergence, mse_with_class
from ddlight.sets.labels import LabelPlan, LabelStore, Storage, drawn
from ddlight.sets.module import CondensedDataModule, cache_folder
from ddlight.sets.opened import hard_classes
from ddlight.sets.readers.fkd import PublishedLabels
from ddlight.sets.readers.fkd import replay as published_view
from ddlight.views.loader import Batch, RunLoader, rows_of_part
from ddlight.views.view import View, Viewer

log = logging.getLogger("ddlight")


class StoredLabel(Regime):
    """Pass e replays the views of pass e mod M and the labels that were stored for them.

    Between SL (one label an image) and SL+KD (one a view) of arXiv 2604.18811: with M = the passes of the run and fp32
    it ends with the weights of `TeacherLabel`, bit by bit on one CPU process. The labels are written before the first
    step where they are missing, named by set, teachers, augmentation and seed, and shared by all runs that ask for
    them, other students included.

    Paper: labels as SRe2L stores them (arXiv 2306.13092); LPLD's pruning (arXiv 2410.15919).
    Labels that others published (FKD's layout: SRe2L, CDA, G-VBSM, EDC, LPLD; LPQLD's; HALD's) are replayed with their
    own views and batches.

    Args:
        teachers: one, or several whose mean logits are stored; never part of a checkpoint. None with `published`.
        protocol: published recipe; see `ddlight protocols`.
        labels_per_image: M, passes whose views are labelled; null labels every pass of the run.
        keep: share of the stored batches that are kept, drawn at random; training goes round those.
        storage: fp16 (as published labels) or fp32.
        match: "kl" as TeacherLabel, or "mse" as MultiTeacherLabel: MSE of logits plus the class's cross-entropy.
        published: folder of published labels (epoch_0/batch_0.tar, or batch_0.tar, or epoch_0.tar) to train on instead.
        draws: permutations that a pass of the published labels' sampler consumed: 2, or 1 if an early torch made them.
        cache: folder that holds labels/; null means $DDLIGHT_CACHE or ~/.cache/ddlight/condensed.
    """

    def __init__(
        self,
        *args: Any,
        teachers: list[Teacher] | None = None,
        protocol: str = "rded",
        labels_per_image: int | None = None,
        keep: float = 1.0,
        storage: Storage = "fp16",
        match: Literal["kl", "mse"] = "kl",
        published: str | None = None,
        draws: int = 2,
        cache: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, protocol=protocol, **kwargs)  # type: ignore[misc]  # the student alone is positional
        self.teachers, self.labels_per_image, self.keep = teachers, labels_per_image, keep
        self.storage, self.match, self.cache, self.published, self.draws = storage, match, cache, published, draws
        self.labels: LabelStore | PublishedLabels | None = None
        if bool(teachers) == bool(published):
            raise UsageError(
                "StoredLabel takes teachers, whose labels it stores, or a folder of published labels, and not both."
            )

    @property
    def all_teachers(self) -> list[Teacher]:
        """The teachers."""
        return self.teachers or []

    @property
    def title(self) -> str:
        """Class, labels per image and whatever else differs from labels as they are usually stored."""
        options = {"keep": (self.keep, 1.0), "storage": (self.storage, "fp16"), "match": (self.match, "kl")}
        others = [f"{name}={value}" for name, (value, usual) in options.items() if value != usual]
        labels = "all" if self.labels_per_image is None else self.labels_per_image
        return f"StoredLabel({', '.join([f'M={labels}', *others, *(['published'] if self.published else [])])})"

    @property
    def viewer(self) -> Viewer | None:
        """None for published labels, whose views are cut as they were stored."""
        return None if self.published else super().viewer

    # --- which labels ---

    def _label_plan(self, run: ResolvedRun, classes: int, names: dict[str, Any]) -> LabelPlan:
        """The labels of this run; those of passes that it never reaches are not asked for."""
        passes = -(-run.steps // run.steps_per_pass)
        count = passes if self.labels_per_image is None else min(self.labels_per_image, passes)
        return LabelPlan(run.images, run.batch, classes, count, self.keep, self.storage, run.seed, names)

    def resolve_run(self, data: CondensedDataModule, images: int, full_images: int) -> ResolvedRun:
        """Turn the plan into steps that go round the stored batches."""
        run = super().resolve_run(data, images, full_images)
        if self.protocol == OWN:
            raise UsageError(f"StoredLabel draws its batches; protocol {OWN} has the set's: take --model=SoftLabel.")
        if self.published is None:
            return replace(run, replay=self._label_plan(run, data.dataset.num_classes, {}).kept())
        labels = self._published(self.published, images, data)
        plan = replace(run.plan, recipe=replace(run.plan.recipe, batch=labels.batch_size))
        steps = plan.budget.total_steps(images, labels.batch_size, full_images)
        passes = min(self.labels_per_image or labels.epochs, labels.epochs)
        places = labels.places[labels.places[:, 0] < passes]
        replay = places[drawn(len(places), self.keep, self.seed)]
        return replace(run, plan=plan, batch=labels.batch_size, steps=steps, replay=replay)

    def _published(self, folder: str, images: int, data: CondensedDataModule) -> PublishedLabels:
        """Open the folder of published labels. Raises UsageError where they cannot be matched as asked."""
        labels = PublishedLabels(folder, images, self.draws, data.dataset.num_classes)
        if self.match == "mse" and (labels.probabilities or labels.largest_only):
            what = "probabilities" if labels.probabilities else "the largest logits alone"
            raise UsageError(f"The labels in {folder} are {what}, and MSE matches all logits: --model.match=kl")
        return labels

    def images_seen(self, step: int) -> int:
        """Images that the student saw in `step` optimiser steps, over all ranks."""
        run = self.run
        assert run.replay is not None
        sizes = np.minimum(run.batch, run.images - run.replay[:, 1] * run.batch)
        rounds, rest = divmod(step, len(sizes))
        return int(rounds * sizes.sum() + sizes[:rest].sum())

    def labelled_images(self) -> int:
        """Views that the teachers labelled."""
        return 0 if self.published else self._label_plan(self.run, self.data.dataset.num_classes, {}).views

    def label_bytes(self, run: ResolvedRun, classes: int) -> int:
        """Bytes of the stored labels that the run goes round; of published ones those of their files."""
        if self.published is not None and run.replay is not None:
            sizes = PublishedLabels(self.published, run.images, self.draws, classes).sizes
            return int(sizes[tuple(run.replay.T)].sum())
        return self._label_plan(run, classes, {}).size

    def _named(self) -> dict[str, Any]:
        own = ("labels_per_image", "keep", "storage", "match", "published", "draws")
        return {**super()._named(), **{name: getattr(self, name) for name in own}}

    # --- opening or writing them ---

    def on_fit_start(self) -> None:
        """Write the labels that are missing, with the other ranks, and check all; published ones must fit the set."""
        if self.published is not None:
            self.labels = self._open_published(self.published)
            return
        plan = self._label_plan(self.run, self.data.dataset.num_classes, self._names())
        self.labels = LabelStore(cache_folder(self.cache) / "labels", plan)
        if not self.labels.exists:
            super().check_teachers()
            log.info("storing labels of %d views, %.1f MB, in %s", plan.views, plan.size / 1e6, self.labels.folder)
        self.labels.write(self._label, self.global_rank / self.trainer.world_size)
        self.labels.verify()

    def check_teachers(self) -> None:
        """Nothing yet: they are tried where labels are missing, and asked for nothing else."""

    def _open_published(self, folder: str) -> PublishedLabels:
        data = self.data
        if data.space != "pixel":
            raise UsageError(f"Published labels belong to images, and this set lies in {data.space} space.")
        labels = self._published(folder, self.run.images, data)
        if labels.classes != data.dataset.num_classes:
            raise UsageError(
                f"The labels in {folder} are of {labels.classes} classes; {data.dataset.info.name} has "
                f"{data.dataset.num_classes}."
            )
        share = labels.check_order(hard_classes(torch.from_numpy(data.require().labels)).numpy())
        if labels.probabilities:
            log.info("the labels in %s are probabilities: the temperature applies to the student alone", folder)
        log.info("the labels in %s are right about %.0f %% of the views that were checked", folder, 100 * share)
        return labels

    def _names(self) -> dict[str, Any]:
        """What the labels depend on beside the views' seed: set, teachers and how they answer, augmentation."""
        info, recipe = self.data.dataset.info, self.run.plan.recipe
        return {
            **{name: True for name in ("balance", "batch_statistics") if getattr(recipe, name)},
            **({"parts": self._parts} if self._parts > 1 else {}),
            "set": self.data.require().manifest["content_sha256"],
            "teachers": [teacher.fingerprint() for teacher in self.all_teachers],
            "augment": named(self.run.plan.augment),
            "statistics": [*info.mean, *info.std],
        }

    def _label(self, batches: np.ndarray) -> np.ndarray:
        """Logits of the views of whole batches (n, 2), one after the other."""
        run = self.run
        images, labels = self.data.tensors(self.device)
        loader = RunLoader(run.images, run.batch, len(batches), run.seed, replay=batches)
        views = (super(StoredLabel, self).view(batch.attach(images, labels), 0) for batch in loader)
        places = zip(batches.tolist(), views, strict=True)
        return np.concatenate([self._answer(place, view).numpy(force=True) for place, view in places])

    def _answer(self, place: list[int], view: View) -> Tensor:
        """Mean logits (B, K) on a view; what teachers in training mode draw depends on its pass and batch alone."""
        seed_torch(int(generator(self.run.seed, "teacher", *place).integers(2**63)), self.device)
        recipe, images = self.run.plan.recipe, self.unit_images(view.images)
        rows = [rows_of_part(len(images), part, self._parts) for part in range(self._parts)]
        parts = [images[start:stop] for start, stop in rows if stop > start]
        return torch.cat([mean_logits(self.all_teachers, x, recipe.balance, recipe.batch_statistics) for x in parts])

    @property
    def _parts(self) -> int:
        """Number of parts that a batch is cut into for teachers whose answer depends on what else is in the batch."""
        recipe = self.run.plan.recipe
        if not (recipe.balance or recipe.batch_statistics):
            return 1
        return int(self.trainer.world_size * self.trainer.accumulate_grad_batches)

    # --- training on them ---

    def view(self, batch: Batch, step: int) -> View:
        """The stored view that this batch replays, with its labels."""
        if self.labels is None:
            raise UsageError("Stored labels are read only in fit, which opens them first.")
        if isinstance(self.labels, PublishedLabels):
            assert batch.images is not None and batch.labels is not None
            stored_batch = self.labels.batch(batch.epoch, batch.index)
            return published_view(batch.images, batch.labels, stored_batch, self.data.dataset.info, batch.rows)
        rows = self.labels.read(batch.epoch, batch.index)[slice(*batch.rows)]
        stored = torch.from_numpy(np.array(rows)).to(self.device, non_blocking=True)
        return replace(super().view(batch, step), stored=stored.float())  # numpy would take longer to widen fp16

    def targets(self, view: View) -> Tensor:
        """Stored labels of this view, (B, K): probabilities, softened here or by their makers (kl), or logits (mse)."""
        assert view.stored is not None
        if isinstance(self.labels, PublishedLabels) and self.labels.probabilities:
            return view.stored
        return view.stored if self.match == "mse" else (view.stored / self.run.plan.recipe.temperature).softmax(1)

    def loss(self, logits: Tensor, targets: Tensor, view: View) -> Tensor:
        """KL(label || student) at temperature T, or MSE of logits plus ce_weight * CE(unmixed class)."""
        if self.match == "mse":
            return mse_with_class(logits, targets, view.labels, self.run.plan.recipe)
        return kl_divergence(logits, targets, self.run.plan.recipe)
