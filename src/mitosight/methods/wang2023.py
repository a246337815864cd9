"""MitDet (Wang et al.: Rethinking Mitosis Detection: Towards Diverse Data and Feature Representation, 2023)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from mitosight.batch import Batch
from mitosight.detections import Detections
from mitosight.methods.detector import Amount, Count, Files, Part, Share, Size, Source, Workshop
from mitosight.methods.parts.cam import Small, figures
from mitosight.methods.parts.candidates import CandidateDetector, FinderName
from mitosight.methods.parts.dgsb import cluster_of_each, first_sample, second_sample, told, without_share
from mitosight.methods.parts.efdmix import EFDMix, Partner
from mitosight.methods.parts.incdp import MITOSIS, PLAIN, Form, Objective, Omega, child_classes, objective
from mitosight.methods.parts.patchnet import Activation, PatchClassifier
from mitosight.methods.parts.resnet38 import backbone
from mitosight.methods.parts.restain import Restain, ReStainer, learned
from mitosight.methods.parts.stages import stage
from mitosight.methods.parts.training_patches import Index, Labels, TrainingPatches
from mitosight.methods.parts.trunk import weights_file
from mitosight.methods.parts.unet import check_side
from mitosight.optimisation import Schedule
from mitosight.stain_augment import PatchAugmentation


class Wang2023(CandidateDetector):
    """Nuclei first, then a classifier of patches, from point annotations alone.

    1. Candidates: nuclei by their haematoxylin, without training; a patch of 80 px around each.
    2. Diversity-guided sample balancing (`dgsb`): the negatives are clustered by the features of the network as it
       starts, and as many drawn from each cluster; a classifier learns on these, and of all negatives those stay that
       it takes for mitoses.
    3. Stain enhancement: patches are stained again in the style of other scanners by a network that learned it from
       unlabelled tiles (`unsa`), and the features of images mixed (`efdmix`).
    4. Inter- and intra-class diversity-preserved classification (`incdp`): a classifier of two classes; by its features
       each class falls into four child classes; both levels are learned together, with focal and centre loss.
    In use each candidate of a slide gets the probability of mitosis, at the place that its class activation map shows.

    The training itself is that of step 4's second half; what comes before is done in the preparation. Without `incdp`
    it is a plain classifier with cross-entropy; without `dgsb` the negatives of each epoch are drawn from all.

    Choices, each an argument; those of the parts are argued there:
        positive_px, negative_px: a candidate is positive with a figure within 30 px in both axes, negative with none
            within 80, else not used (reference code).
        negative_share: of the negatives, drawn at random, that is looked at: all (a tenth in the code).
        clusters: 10, as in the paper (6 in the code). per_cluster: 0 for as many as there are positives (code).
        difficult_among: whether the second sampler looks at "all" negatives (code) or those of the first sampler
            ("sampled"). The paper can be read both ways; its own training samples a classifier mostly knows by heart.
            At least as many as there are positives stay.
        form: "paper" for equation (10), "code" for the reference code; `child_weight` (lambda), `centre_weight` and
            `omega` (none given: those of the form).
        network, width: "resnet38" with 64 channels first; "resnet18" to "resnet101" with stride 8, for reduced recipes.
        normalise: "none", as in the code; "imagenet" for torchvision's weights.
        style: file of a trained re-stainer in the place of training one.
        steps of the preparatory trainings: about the epochs of the code, 200 and 400, with 4,000 positives.
        activation: what the activation map shows: the "difference" of the two classes, of which alone the probability
            comes, "mitosis" alone (code), or "none": then the candidate is the point; see `parts.patchnet`.
        turns: the map is the mean of that many quarter turns of the patch (1 in the code); see there too.
        patches_at_once: that are searched together; a ResNet-18 at stride 8 takes 1.3 MB for each.
        small_peak: what gives the point where the map has no component of 25 px; see `parts.cam.figure_points`.
    Left out: the re-centring of the negatives that survive the second sampler, of which only the code knows.
    """

    title: ClassVar[str] = "MitDet (Wang 2023): nuclei, balanced samples, new stains, child classes, activation maps"
    files: ClassVar[Files] = {"weights": weights_file, "style": ReStainer.locate}
    in_stages: ClassVar[bool] = True
    uses_unlabelled: ClassVar[Literal["never", "preparation", "training"]] = "preparation"
    converted: ClassVar[str] = "look"

    def __init__(
        self,
        *,
        tile_px: Count = 1024,
        finder: FinderName = "haematoxylin",
        patch_px: Annotated[int, Field(ge=16, le=512)] = 80,
        patches_per_batch: Count = 150,
        patches_at_once: Count = 32,
        positive_px: Amount = 30.0,
        negative_px: Amount = 80.0,
        negative_share: Annotated[float, Field(gt=0, le=1)] = 1.0,
        augment: bool = True,
        hed_jitter: Amount = 0.05,
        network: str = "resnet38",
        width: Count = 64,
        weights: str = "imagenet",
        normalise: Literal["none", "imagenet", "midog"] = "none",
        freeze_stages: Annotated[int, Field(ge=0)] = 2,
        freeze_norm: bool = True,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5,
        dgsb: bool = True,
        clusters: Count = 10,
        cluster_share: Size = 0.2,
        per_cluster: Annotated[int, Field(ge=0)] = 0,
        epsilon: Share = 0.5,
        difficult_among: Literal["all", "sampled"] = "all",
        difficulty_steps: Count = 4_000,
        unsa: bool = True,
        styles: Count = 3,
        restain: Share | None = None,
        style: str = "",
        style_width: Count = 32,
        style_depth: Count = 4,
        style_crop_px: Count = 128,
        style_adversarial: Amount = 0.0,
        style_grey_jitter: Share = 0.0,
        style_steps: Count = 20_000,
        style_tiles_per_scanner: Count = 4,
        style_lr: Amount = 2e-4,
        efdmix: bool = True,
        mix_probability: Share = 0.5,
        mix_alpha: Size = 0.1,
        mix_partner: Partner = "random",
        incdp: bool = True,
        children: Annotated[int, Field(ge=2)] = 4,
        form: Form = "paper",
        gamma: Amount = 2.0,
        child_weight: Amount | None = None,
        centre_weight: Amount | None = None,
        omega: Omega | None = None,
        parent_steps: Count = 20_000,
        stage_optimiser: Literal["sgd", "adamw", "adam"] = "sgd",
        stage_lr: Amount = 1e-3,
        stage_weight_decay: Amount = 5e-4,
        stage_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        stage_schedule: Schedule = "constant",
        stage_precision: Literal["fp32", "bf16"] = "fp32",
        activation: Activation = "difference",
        turns: Literal[1, 2, 4] = 4,
        small_peak: Small = "keep",
        **candidates: Any,
    ) -> None:
        super().__init__(tile_px=tile_px, finder=finder, patch_px=patch_px, positive_px=positive_px,
                         negative_px=negative_px, patches_at_once=patches_at_once, **candidates)  # fmt: skip
        self.patches_per_batch, self.negative_share, self.small_peak = patches_per_batch, negative_share, small_peak
        self.augmentation = PatchAugmentation(hed=hed_jitter) if augment else None
        self.dgsb, self.clusters, self.cluster_share, self.per_cluster = dgsb, clusters, cluster_share, per_cluster
        self.epsilon, self.difficult_among = epsilon, difficult_among
        self.unsa, self.styles, self.restain, self.style = unsa, styles, restain, style
        if unsa and not style:
            check_side(patch_px, style_depth, "style_depth: patches")
            check_side(style_crop_px, style_depth, "style_depth: crops (style_crop_px)")
        self.style_source = style_crop_px, style_tiles_per_scanner
        self.style_network: dict[str, Any] = {"width": style_width, "depth": style_depth,
            "adversarial_weight": style_adversarial, "grey_jitter": style_grey_jitter}  # fmt: skip
        self.incdp, self.per_class = incdp, children if incdp else 1
        changed = {"gamma": gamma, "child": child_weight, "centre": centre_weight, "omega": omega}
        self.terms = objective(form, **changed) if incdp else PLAIN
        self.start: dict[str, Any] = {"weights": weights, "freeze_stages": freeze_stages, "freeze_norm": freeze_norm}
        self.shape: dict[str, Any] = {"name": network, "width": width, "dropout": dropout}
        self.reading: dict[str, Any] = {"dropout": dropout, "statistics": normalise, "activation": activation,
                                        "turns": turns}  # fmt: skip
        mix = EFDMix(mix_probability, mix_alpha, mix_partner) if efdmix else None
        self.classifier = self._classifier(self.per_class, self.terms, mix)
        self.stage: dict[str, Any] = {"optimiser": stage_optimiser, "lr": stage_lr, "momentum": stage_momentum,
            "weight_decay": stage_weight_decay, "schedule": stage_schedule, "precision": stage_precision}  # fmt: skip
        self.steps = {"difficulty": difficulty_steps, "parents": parent_steps}
        self.style_stage = stage(style_steps, optimiser="adam", lr=style_lr, weight_decay=0.0, beta2=0.999,
                                 schedule="constant", precision=stage_precision)  # fmt: skip

    def _classifier(self, children: int, terms: Objective, mix: EFDMix | None) -> PatchClassifier:
        return PatchClassifier(backbone(**self.shape), children, terms, mix, **self.reading)

    def prepare(self, workshop: Workshop) -> list[str]:
        """Steps 1 to 4: candidates, balanced samples, re-stainer, child classes."""
        label, log = self.begin(workshop)
        self.chosen = np.flatnonzero(label >= 0)
        if self.dgsb:
            self.chosen = self.balanced(workshop, np.flatnonzero(label == 1), np.flatnonzero(label == 0), log)
        self.label = label[self.chosen]
        if self.unsa:
            restainer = learned(workshop, self.style, self.style_source, self.style_network, self.style_stage)
            self.classifier.restain = Restain(restainer, self.styles, self.restain)
            log.append(self.classifier.restain.told())
        if self.incdp:
            self.label = self.child_classes(workshop, log)
        self.classifier.to(memory_format=torch.contiguous_format)  # as from a file: the same to the last digit
        return log

    def begin(self, workshop: Workshop) -> tuple[Labels, list[str]]:
        """The network as it starts, and the candidates; returns their classes (1, 0, -1) and lines for the log."""
        self.seed = int(torch.randint(2**31, ()))
        label = self.labels(self._patches(workshop).pool)
        label[without_share(label == 0, self.negative_share, self.seed)] = -1
        log = self.classifier.initialise(**self.start)
        self.classifier.to(workshop.device).to(memory_format=torch.channels_last)
        log.append(f"{len(label)} candidates, {(label == 1).sum()} on figures, {(label == 0).sum()} far from any")
        return label, log

    def clusters_of(self, workshop: Workshop, negative: Index) -> Index:
        """The cluster of each of the negatives, by the features of the network as it starts."""
        features = self._patches(workshop).features(self.classifier, negative)
        how = len(negative), self.clusters, self.cluster_share, self.seed
        return workshop.agreed(lambda: cluster_of_each(features, *how))

    def balanced(self, workshop: Workshop, positive: Index, negative: Index, log: list[str]) -> Index:
        """Diversity-guided sample balancing: the positives, and the negatives that are diverse and difficult."""
        each, patches = self.per_cluster or len(positive), self._patches(workshop)
        cluster = self.clusters_of(workshop, negative)
        first = negative[first_sample(cluster, each, self.seed)]
        difficulty = self._classifier(1, PLAIN, None)
        difficulty.initialise(**self.start)
        difficulty.to(memory_format=torch.channels_last)
        positives = np.repeat([True, False], [len(positive), len(first)])
        source = patches.balanced(np.concatenate([positive, first]), positives.astype(np.int64), positives)
        self._fit(workshop, "difficulty", difficulty, source)
        asked = negative if self.difficult_among == "all" else first
        probability = workshop.agreed(lambda: patches.probabilities(difficulty, asked))
        hard = asked[second_sample(probability, self.epsilon, least=len(positive))]
        log.append(told(cluster, self.clusters, len(first), len(hard), len(asked)))
        return np.sort(np.concatenate([positive, hard]))

    def child_classes(self, workshop: Workshop, log: list[str]) -> Labels:
        """Trains the parents; the child class of each chosen sample by the features that they learned."""
        parent, patches = self.label, self._patches(workshop)
        self.classifier.joint(False)
        source = patches.balanced(self.chosen, parent * self.per_class, parent == 1)
        self._fit(workshop, "parents", self.classifier, source)
        features = patches.features(self.classifier, self.chosen)
        label, centres = workshop.agreed(lambda: child_classes(features, parent, self.per_class, self.seed))
        log.append(self.classifier.divided(label, centres))
        return label

    def batches(self, workshop: Workshop, part: Part) -> Source:
        """Patches around the chosen candidates, as many positives as negatives."""
        patches = self._patches(workshop, part)
        if part == "train":
            return patches.balanced(self.chosen, self.label, self.label >= self.per_class)
        label = self.labels(patches.pool)
        chosen, positive = np.flatnonzero(label >= 0), label[label >= 0] == 1
        return patches.balanced(chosen, positive * self.per_class, positive)

    def _patches(self, workshop: Workshop, part: Part = "train") -> TrainingPatches:
        augment = self.augmentation if part == "train" else None
        pool = workshop.candidates(part, self.finder)
        bf16 = self.stage["precision"] == "bf16"
        return TrainingPatches(workshop, part, pool, self.patch_px, self.patches_per_batch, augment, bf16)

    def _fit(self, workshop: Workshop, name: str, learner: PatchClassifier, source: Source) -> None:
        workshop.fit(name, learner, source, stage(self.steps[name], **self.stage), {"kind": name})

    def features(self, images: Tensor) -> Tensor:
        """Patches (N, 3, side, side) to (N, C), the mean over places that the probability is taken from."""
        return self.classifier.pooled(images)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Equation (10) on a batch of patches, or cross-entropy without `incdp`."""
        return self.classifier.losses(batch)

    def network(self, images: Tensor) -> tuple[Tensor, ...]:
        """Patches (N, 3, side, side) to logits (N, 2) and activation maps (N, side, side)."""
        return self.classifier.network(images, self.score_floor, self.look)

    def look(self, images: Tensor) -> tuple[Tensor, ...]:
        """Patches as they are to logits (N, 2) and evidence (N, h, w): all that has weights; see `PatchClassifier`."""
        return self.classifier.look(images)

    def decode(self, maps: tuple[Tensor, ...], size_px: tuple[int, int]) -> list[Detections]:
        """What `network` gives to the figure of each patch, in px of the patch; none below `score_floor`."""
        logits, levels = maps
        score = logits.float().softmax(dim=1)[:, MITOSIS].cpu().numpy()
        return figures(score, levels.float().cpu().numpy(), self.score_floor, self.small_peak, self.mpp)
