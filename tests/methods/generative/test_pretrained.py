"""Generators of diffusers, tiny and random: what is told, what is decoded, the whole of an ImageNet config."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ddlight.core.errors import DataError, UsageError
from ddlight.data import Digits
from ddlight.methods.generative.d4m import D4M
from ddlight.methods.generative.engine import pretrained
from ddlight.methods.generative.engine.difffit import difffit_parameters
from ddlight.methods.generative.engine.pretrained import PretrainedDiT, StableDiffusion, imagenet_positions
from ddlight.methods.generative.mgd3 import MGD3
from ddlight.methods.generative.minimax import Minimax

pytest.importorskip("diffusers")
WNIDS = ("n01440764", "n02012849", "n03126707")  # a fish, the bird called crane and the machine called crane


class Three(Digits):
    """Colour images of three classes of ImageNet, 16 pixels a side."""

    @property
    def info(self):
        return replace(super().info, classes=WNIDS, channels=3, num_classes=3, mean=(0.5,) * 3, std=(0.5,) * 3)

    def _read(self, name):
        splits = super()._read(name)
        kept = {k: np.flatnonzero(s.labels < 3)[:24] for k, s in splits.items()}
        return {k: replace(s.take(kept[k]), images=s.images[kept[k]].repeat(3, 1)) for k, s in splits.items()}

    def class_names(self):
        return ("tench, Tinca tinca", "crane", "crane")


def a_vae():
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=(4, 4, 4), norm_num_groups=2, latent_channels=4, layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
    )  # fmt: skip


@pytest.fixture(scope="session")
def dit_folder(one_thread, tmp_path_factory):
    from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel

    torch.manual_seed(1)
    network = DiTTransformer2DModel(2, 8, in_channels=4, out_channels=8, num_layers=2, sample_size=4, patch_size=2)
    with torch.no_grad():
        network.proj_out_2.weight.normal_(std=0.5)
        for block in network.transformer_blocks[1:]:  # as the converted weights are: a copy in each block
            block.norm1.emb.load_state_dict(network.transformer_blocks[0].norm1.emb.state_dict())
    folder = tmp_path_factory.mktemp("dit")
    DiTPipeline(network, a_vae(), DDIMScheduler()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sd_folder(one_thread, tmp_path_factory):
    import json

    from diffusers import PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    folder = tmp_path_factory.mktemp("sd")
    letters = [chr(c) for c in range(97, 123)] + [","]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{c}</w>" for c in letters)]
    (folder / "vocab.json").write_text(json.dumps({word: k for k, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)
    torch.manual_seed(2)
    config = CLIPTextConfig(
        vocab_size=len(words), hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    network = UNet2DConditionModel(
        4, 4, 4, block_out_channels=(4, 8), layers_per_block=1, norm_num_groups=2, cross_attention_dim=8,
        attention_head_dim=2, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        a_vae(), CLIPTextModel(config), tokenizer, network, PNDMScheduler(), None, None, requires_safety_checker=False
    )
    pipeline.save_pretrained(folder / "pipeline")
    return folder / "pipeline"


@pytest.fixture
def dit(dit_folder, tmp_path):
    return PretrainedDiT(str(dit_folder), vae=None).load(Three(size=16), tmp_path)


@pytest.fixture
def sd(sd_folder, tmp_path):
    return StableDiffusion(str(sd_folder)).load(Three(size=16), tmp_path)


def test_classes_are_told_by_wnid_and_not_by_their_place(dit):
    assert dit.condition([0, 1, 2]).tolist() == [0, 134, 517]
    assert dit.null(dit.condition([1])).tolist() == [1000]
    nette = "n01440764 n02102040 n02979186 n03000684 n03028079 n03394916 n03417042 n03425413 n03445777 n03888257"
    assert imagenet_positions(nette.split(), "ImageNette") == [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]
    with pytest.raises(UsageError, match=r"Digits has a class '0'.*TrainedDiT"):
        imagenet_positions(Digits().info.classes, "Digits")


def test_all_eight_channels_of_the_network_are_used(dit):
    x, t = torch.randn(2, 4, 4, 4), torch.tensor([7, 7])
    eps, v = dit(x, t, dit.condition([0, 1]))
    whole = dit.network(x, timestep=t, class_labels=torch.tensor([0, 134])).sample
    torch.testing.assert_close(torch.cat([eps, v], 1), whole)
    assert dit.guided_channels == 3


def test_latents_have_the_vaes_scale_and_come_back(dit):
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    mean, deviation = dit.encode(images)
    assert (dit.shape, dit.size) == ((4, 4, 4), 16)
    torch.testing.assert_close(mean, 0.18215 * dit.vae.encode(images).latent_dist.mean)
    torch.testing.assert_close(deviation, 0.18215 * dit.vae.encode(images).latent_dist.std)
    torch.testing.assert_close(dit.decode(mean), dit.vae.decode(mean / 0.18215).sample)


def test_sampling_is_diffusers_own_scheduler_fed_with_three_guided_channels_and_the_variance(dit):
    """Steps, timesteps and learned variance of an independent implementation; its noise is ours."""
    from diffusers import DDPMScheduler

    from ddlight.methods.generative.engine.schedule import Schedule, ancestral, spread

    scheduler = DDPMScheduler(
        beta_start=1e-4, beta_end=0.02, variance_type="learned_range", clip_sample=False, timestep_spacing="linspace"
    )
    scheduler.set_timesteps(50)
    assert scheduler.timesteps.tolist() == spread(50)[::-1].tolist()
    schedule, noise = Schedule(dit.betas, spread(50)), torch.randn(51, 1, 4, 4, 4)
    predict = dit.guided(dit.condition([1]), 4.0)
    got = ancestral(predict, schedule, noise[50], lambda i: noise[i])
    x, both = noise[50], torch.tensor([134, 1000])
    for i, t in zip(range(49, -1, -1), scheduler.timesteps.tolist(), strict=True):
        answer = dit.network(torch.cat([x, x]), timestep=torch.tensor([t, t]), class_labels=both).sample
        own, none = answer[:1], answer[1:]
        eps = torch.cat([none[:, :3] + 4 * (own - none)[:, :3], own[:, 3:4]], 1)
        torch_noise = torch.manual_seed(i)
        x_next = scheduler.step(torch.cat([eps, own[:, 4:]], 1), t, x, generator=torch_noise).prev_sample
        drawn = torch.randn(x.shape, generator=torch.Generator().manual_seed(i))
        if i:  # the scheduler's own draw is exchanged for ours, deviation and all
            sigma = (0.5 * schedule.log_variance(own[:, 4:], i, x)).exp()
            x_next = x_next + sigma * (noise[i] - drawn)
        x = x_next
    torch.testing.assert_close(got, x, rtol=1e-3, atol=1e-3)


def test_copies_of_the_table_in_each_block_are_tuned_as_one(dit):
    names = set(difffit_parameters(dit))
    tables = [name for name in names if name.endswith("embedding_table.weight")]
    assert tables == ["transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight"]
    scales = {name.removeprefix("transformer_blocks.0.") for name in names if "gammas" in name}
    assert scales == {
        "attn1.to_q.gammas.0", "attn1.to_k.gammas.0", "attn1.to_v.gammas.0",
        "attn1.to_out.0.gammas.0", "attn1.to_out.0.gammas.1", "ff.net.2.gammas.0",
    }  # fmt: skip
    assert not any(name.endswith("norm1.linear.weight") for name in names)


def test_tables_that_differ_are_no_copies(dit):
    with torch.no_grad():
        dit.network.transformer_blocks[1].norm1.emb.class_embedder.embedding_table.weight += 1
    with pytest.raises(DataError, match="tunes one table"):
        difffit_parameters(dit)


def test_prompts_tell_the_two_cranes_apart_by_wnid(sd):
    assert sd.names == ["tench, Tinca tinca", "crane, bird", "crane, machine"]
    assert not torch.equal(sd.condition([1]), sd.condition([2]))
    torch.testing.assert_close(sd.condition([0], ["crane, bird"]), sd.condition([1]))


def test_long_texts_are_read_in_pieces_and_the_negative_prompt_is_as_long(sd):
    short, long = sd.condition([0], ["a"]), sd.condition([0], ["a b " * 60])
    assert (short.shape[1], long.shape[1]) == (77, 154)
    assert sd.null(long).shape == long.shape
    torch.testing.assert_close(sd.null(long)[:, :77], sd.null(short))
    assert not torch.equal(sd.null(short), short)
    ids = sd.tokenizer("a b " * 60, truncation=False).input_ids
    first = sd.encoder(torch.tensor([ids[:77]]))[0]
    torch.testing.assert_close(long[:, :77], first)


def test_no_safety_checker_is_loaded_and_the_variance_is_not_the_networks(sd):
    eps, v = sd(torch.randn(1, 4, 4, 4), torch.tensor([9]), sd.condition([0]))
    assert v is None and eps.shape == (1, 4, 4, 4)
    assert not hasattr(sd, "safety_checker") and sd.guided_channels == 4


@pytest.mark.parametrize(("kind", "options"), [(MGD3, {"stop": 0}), (Minimax, {"epochs": 0.3, "phase": 2}), (D4M, {})])
def test_methods_run_end_to_end_on_dit_at_two_steps_and_three_classes(build, dit_folder, kind, options):
    backbone = PretrainedDiT(str(dit_folder), vae=None)
    data = build(kind, dataset=Three(size=16), ipc=1, backbone=backbone, steps=2, **options)
    stored = data.condense()
    assert len(list(stored.glob("images/*/*.png"))) == 3
    assert data.generator_run is None and data.artefact.manifest()["generator"] == str(dit_folder)


def test_d4m_runs_end_to_end_on_stable_diffusion(build, sd_folder):
    data = build(D4M, dataset=Three(size=16), ipc=2, backbone=StableDiffusion(str(sd_folder)), steps=2)
    folder = data.condense()
    assert [p.name.split("_")[1] for p in sorted(folder.glob("images/*"))] == list(WNIDS)
    prompts = data.condition(1, [0, 1])
    torch.testing.assert_close(prompts, data.model.condition([1, 1]))


def test_weights_name_the_set_by_what_they_hold(dit_folder):
    one = PretrainedDiT(str(dit_folder), vae=None)
    assert one.fingerprint() == PretrainedDiT(str(dit_folder), vae=None).fingerprint()
    assert str(dit_folder) not in one.fingerprint()
    names = {b.fingerprint() for b in (one, PretrainedDiT(), PretrainedDiT(precision="fp16"), StableDiffusion())}
    assert len(names) == 4
    assert PretrainedDiT().fingerprint().startswith("facebook/DiT-XL-2-256 stabilityai/sd-vae-ft-mse")


def test_weights_that_are_not_there_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        DataError, match=r"transformer of nobody/nothing is neither in .*'hf download nobody/nothing'"
    ) as e:
        PretrainedDiT("nobody/nothing").load(Three(size=16), tmp_path)
    assert "\n" not in str(e.value)


def test_without_the_extra_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
    with pytest.raises(UsageError, match=r"pip install 'ddlight\[generative\]'"):
        PretrainedDiT().load(Three(size=16), tmp_path)
    assert pretrained.INSTALL


def test_the_command_line_takes_them_by_name(command):
    answer = command("condense", "--data=MGD3", "--data.dataset=Digits", "--data.backbone=PretrainedDiT")
    assert answer.code == 2 and "knows ImageNet-1K's classes by their wnids" in answer.err
    unknown = command("condense", "--data=MGD3", "--data.dataset=Digits", "--data.backbone=PretrainedDit")
    assert unknown.code == 2 and "Did you mean PretrainedDiT" in unknown.err
