"""Generators that others trained, through diffusers: DiT-XL/2 for ImageNet's classes, Stable Diffusion for texts."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ddlight.core import naming
from ddlight.core.class_names import imagenet_wnids
from ddlight.core.errors import DataError, UsageError
from ddlight.core.files import sha256
from ddlight.data.base import RealDataset
from ddlight.methods.generative.engine.backbone import Backbone, Denoiser
from ddlight.methods.generative.engine.schedule import linear_betas, scaled_betas
from ddlight.networks.device import current_device

INSTALL = "pip install 'ddlight[generative]'"
KINDS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
CRANES = {"n02012849": "crane, bird", "n03126707": "crane, machine"}
"""Two classes of one name; D4M's list of prompts has them the wrong way round."""


def _diffusers() -> Any:
    """The package. Raises UsageError where it is not installed."""
    try:
        import diffusers
        import transformers
    except ImportError as error:
        raise UsageError(f"Generators that others trained need diffusers and transformers: {INSTALL}") from error
    for package in (diffusers, transformers):
        package.utils.logging.set_verbosity_error()
        package.utils.logging.disable_progress_bar()
    return diffusers


def _part(kind: Any, weights: str, folder: str | None, dtype: torch.dtype | None, size: str) -> Any:
    """A network or tokenizer of a repository of the Hub, or of a folder. Raises DataError where it cannot be had."""
    options = {} if dtype is None else {"torch_dtype": dtype}
    try:
        return kind.from_pretrained(weights, **({} if folder is None else {"subfolder": folder}), **options)
    except Exception as error:  # the packages raise almost anything, over several lines
        from huggingface_hub.constants import HF_HUB_CACHE

        part = weights if folder is None else f"{folder} of {weights}"
        raise DataError(
            f"{part} is neither in {HF_HUB_CACHE} nor to be downloaded ({type(error).__name__}). With a network: "
            f"'hf download {weights}' ({size}) puts it there; or name a folder that has it in --data.backbone."
            f"{'vae' if folder is None else 'weights'}."
        ) from error


def imagenet_positions(classes: Sequence[str], dataset: str) -> list[int]:
    """Positions of classes, by their wnids, in the sorted list of ImageNet-1K's. Raises UsageError for others."""
    place = {wnid: k for k, wnid in enumerate(imagenet_wnids())}
    if unknown := [name for name in classes if name not in place]:
        raise UsageError(
            f"This generator knows ImageNet-1K's classes by their wnids, and {dataset} has a class {unknown[0]!r}. "
            "Take --data.dataset=ImageNette or another part of ImageNet, or --data.backbone=TrainedDiT."
        )
    return [place[name] for name in classes]


class LatentDenoiser(Denoiser):
    """A network over the latents of a VAE.

    Args:
        network: on its device.
        vae: diffusers' AutoencoderKL.
    """

    def __init__(self, network: Any, vae: Any) -> None:
        self.network = network.to(current_device()).eval().requires_grad_(False)
        self.vae = vae.to(current_device()).eval().requires_grad_(False)
        side = network.config.sample_size
        self.shape = (network.config.in_channels, side, side)
        self.size = side * 2 ** (len(vae.config.block_out_channels) - 1)
        self.scale = float(vae.config.scaling_factor)

    @property
    def kind(self) -> torch.dtype:
        """Number format of the network."""
        return next(self.network.parameters()).dtype

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the VAE's posterior, times its scale."""
        posterior = self.vae.encode(images.to(self.vae.dtype)).latent_dist
        return posterior.mean.float() * self.scale, posterior.std.float() * self.scale

    def decode(self, latents: Tensor) -> Tensor:
        """The VAE's images."""
        return self.vae.decode((latents / self.scale).to(self.vae.dtype)).sample.float()


@dataclass(frozen=True)
class _Pretrained(Backbone):
    """What both share: their names, and that nothing is known of what their training cost."""

    @property
    @abstractmethod
    def sources(self) -> list[str]:
        """Repositories of the Hub, or folders."""

    def fingerprint(self) -> str:
        """What names the weights, found without loading them: names of repositories, contents of folders, options."""
        found = []
        for source in self.sources:
            files = sorted(
                p for p in Path(source).expanduser().rglob("*") if p.suffix in (".safetensors", ".bin", ".json")
            )
            found.append(naming.digest([sha256(file) for file in files]) if files else source)
        others = [f"{name}={value}" for name, value in vars(self).items() if value not in self.sources]
        return " ".join([*found, *others])

    def facts(self, dataset: RealDataset, cache: Path) -> dict[str, Any]:
        """The generator's name; its training is not among the costs."""
        return {"generator": " + ".join(self.sources), "generator_trained": "elsewhere, at a cost that is not counted"}


@dataclass(frozen=True)
class PretrainedDiT(_Pretrained):
    """DiT-XL/2 of ImageNet-1K at 256 pixels, its classes told by their wnids (pip install 'ddlight[generative]').

    Paper: arXiv 2212.09748.

    Args:
        weights: repository of the Hub, or a folder as DiTPipeline.save_pretrained writes it.
        vae: repository or folder of the VAE; null takes the one that lies with the weights.
        precision: number format of both networks.
    """

    weights: str = "facebook/DiT-XL-2-256"
    vae: str | None = "stabilityai/sd-vae-ft-mse"
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"

    @property
    def sources(self) -> list[str]:
        """Network and VAE."""
        return [self.weights, *([] if self.vae is None else [self.vae])]

    def load(self, dataset: RealDataset, cache: Path) -> "ClassDenoiser":
        """Load both for a dataset of ImageNet's classes."""
        diffusers, kind = _diffusers(), KINDS[self.precision]
        positions = imagenet_positions(dataset.info.classes, dataset.info.name)
        network = _part(diffusers.DiTTransformer2DModel, self.weights, "transformer", kind, "2.7 GB")
        own = ("vae", self.weights) if self.vae is None else (None, self.vae)
        return ClassDenoiser(network, _part(diffusers.AutoencoderKL, own[1], own[0], kind, "335 MB"), positions)


class ClassDenoiser(LatentDenoiser):
    """A DiT over latents.

    Args:
        positions: of the dataset's classes among the network's.
    """

    def __init__(self, network: Any, vae: Any, positions: Sequence[int]) -> None:
        super().__init__(network, vae)
        self.positions, self.none = positions, network.config.num_embeds_ada_norm
        self.betas, self.guided_channels = linear_betas(), 3

    def condition(self, labels: Sequence[int], prompts: Sequence[str] | None = None) -> Tensor:
        """The classes' numbers among the network's."""
        return torch.tensor([self.positions[label] for label in labels], device=current_device())

    def null(self, condition: Tensor) -> Tensor:
        """The number that stands for no class."""
        return torch.full_like(condition, self.none)

    def __call__(self, x: Tensor, t: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Noise and variance."""
        answer = self.network(x.to(self.kind), timestep=t, class_labels=condition).sample.float()
        eps, v = answer.chunk(2, 1)
        return eps, v

    def tuned_parts(self) -> tuple[Sequence[nn.Module], dict[str, int], nn.Embedding]:
        """Blocks, layers and table; the copies of the table in each block become one, as in DiT's own code.

        Raises DataError where they are not copies.
        """
        network: Any = self.network
        blocks = list(network.transformer_blocks)
        first = blocks[0].norm1.emb
        for block in blocks[1:]:
            pairs = zip(first.state_dict().values(), block.norm1.emb.state_dict().values(), strict=True)
            if not all(torch.equal(a, b) for a, b in pairs):
                raise DataError(
                    "The blocks of this DiT were told of classes and levels apart: Minimax tunes one table."
                )
            block.norm1.emb = first
        layers = {"attn1.to_q": 1, "attn1.to_k": 1, "attn1.to_v": 1, "attn1.to_out.0": 2, "ff.net.2": 1}
        return blocks, layers, first.class_embedder.embedding_table


@dataclass(frozen=True)
class StableDiffusion(_Pretrained):
    """Stable Diffusion 1.5, told names of classes, or captions (pip install 'ddlight[generative]').

    Paper: arXiv 2112.10752. No safety checker is loaded: it makes images black. Steps have the posterior's variance.

    Args:
        weights: repository of the Hub, or a folder as StableDiffusionPipeline.save_pretrained writes it.
        negative: what guidance leads away from.
        precision: number format of the networks.
    """

    weights: str = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    negative: str = "cartoon, anime, painting"
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"

    @property
    def sources(self) -> list[str]:
        """The pipeline."""
        return [self.weights]

    def load(self, dataset: RealDataset, cache: Path) -> "TextDenoiser":
        """Load network, VAE and reader of texts."""
        diffusers, kind = _diffusers(), KINDS[self.precision]
        import transformers

        def part(owner: Any, folder: str, dtype: Any = kind) -> Any:
            return _part(owner, self.weights, folder, dtype, "4 GB")

        network = part(diffusers.UNet2DConditionModel, "unet")
        reader = part(transformers.CLIPTextModel, "text_encoder"), part(transformers.CLIPTokenizer, "tokenizer", None)
        vae = part(diffusers.AutoencoderKL, "vae")
        return TextDenoiser(network, vae, *reader, names=class_prompts(dataset), negative=self.negative)


def class_prompts(dataset: RealDataset) -> list[str]:
    """What classes are called in a prompt: English where the dataset knows it, such as 'tench, Tinca tinca'."""
    known = getattr(dataset, "class_names", None)
    try:
        names = list(known()) if known is not None else list(dataset.info.classes)
    except DataError:
        names = list(dataset.info.classes)
    return [CRANES.get(wnid, name) for wnid, name in zip(dataset.info.classes, names, strict=True)]


class TextDenoiser(LatentDenoiser):
    """A U-Net over latents that attends to a text.

    Args:
        encoder: transformers' CLIPTextModel.
        tokenizer: its CLIPTokenizer.
        names: of the dataset's classes, as prompts.
        negative: what guidance leads away from.
    """

    def __init__(
        self, network: Any, vae: Any, encoder: Any, tokenizer: Any, names: Sequence[str], negative: str
    ) -> None:
        super().__init__(network, vae)
        self.encoder = encoder.to(current_device()).eval().requires_grad_(False)
        self.tokenizer, self.names, self.negative = tokenizer, names, negative
        self.betas, self.guided_channels = scaled_betas(), self.shape[0]

    def condition(self, labels: Sequence[int], prompts: Sequence[str] | None = None) -> Tensor:
        """Embeddings of texts, (n, 77 k, D): long ones are read in k pieces of 77 tokens, all in as many."""
        texts = prompts or [self.names[label] for label in labels]
        return self._read([self.tokenizer(text, truncation=False, verbose=False).input_ids for text in texts])

    def null(self, condition: Tensor) -> Tensor:
        """Embedding of the negative prompt, as long."""
        pieces = condition.shape[1] // self.tokenizer.model_max_length
        ids = self.tokenizer(self.negative, truncation=False, verbose=False).input_ids
        return self._read([ids], pieces).expand_as(condition)

    def _read(self, texts: list[list[int]], pieces: int = 1) -> Tensor:
        length = self.tokenizer.model_max_length
        pieces = max(pieces, *(-(-len(ids) // length) for ids in texts), 1)
        padded = [ids + [self.tokenizer.pad_token_id] * (pieces * length - len(ids)) for ids in texts]
        tokens = torch.tensor(padded, device=current_device()).reshape(-1, length)
        return self.encoder(tokens)[0].reshape(len(texts), pieces * length, -1)

    def __call__(self, x: Tensor, t: Tensor, condition: Tensor) -> tuple[Tensor, None]:
        """Noise; the variance is not learned."""
        return self.network(x.to(self.kind), t, encoder_hidden_states=condition).sample.float(), None
