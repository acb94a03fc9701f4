"""The table of published protocols. A protocol's numbers are in `protocols/`, in the file of its source.

Every number can be overridden one by one (`Override`), and all resolved numbers are written to `config.yaml` and
`result.json`. Grades in the rules' docstrings: *text* = stated in the paper, *code* = read in the released code,
*derived* = follows from those by arithmetic, *guess* = not published, ours.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from ddlight.core.errors import UsageError, nearest
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Override, Plan, Setting
from ddlight.recipes.protocols.ccs import ccs
from ddlight.recipes.protocols.dcbench import dcbench, dcbench_dsa
from ddlight.recipes.protocols.dvc import DVC_TEACHERS, dvc_edc, dvc_hard
from ddlight.recipes.protocols.dwa import dwa
from ddlight.recipes.protocols.edc import EDC_TEACHERS, edc, edc_in10
from ddlight.recipes.protocols.fadrm import FADRM_TEACHERS, fadrm, sre2lpp
from ddlight.recipes.protocols.gvbsm import gvbsm
from ddlight.recipes.protocols.hard_truths import ht_large_hard, ht_large_kd, ht_small_hard, ht_small_soft
from ddlight.recipes.protocols.mtt import mtt_experts
from ddlight.recipes.protocols.own import OWN, own
from ddlight.recipes.protocols.rded import rded
from ddlight.recipes.protocols.rethinkdc import pca, rethinkdc, rethinkdc_hard
from ddlight.recipes.protocols.sre2l import cda, sre2l

R18 = ("resnet18",)


@dataclass(frozen=True)
class Protocol:
    """A row of the table.

    Args:
        name: as used in `--model.protocol`.
        regime: the label regime it was published with; any other may be used with it.
        summary: one line.
        source: paper or repository.
        rule: from a setting to its plan.
        teachers: published teachers, torchvision names.
    """

    name: str
    regime: str
    summary: str
    source: str
    rule: Callable[[Setting], Plan]
    teachers: tuple[str, ...] = ()


PROTOCOLS = {
    p.name: p
    for p in (
        Protocol("dvc_hard", "HardLabel", "hard labels, long runs, CutMix", "arXiv 2606.18209", dvc_hard),
        Protocol("rded", "TeacherLabel", "one teacher on each view, KL", "arXiv 2312.03526", rded, R18),
        Protocol("edc", "MultiTeacherLabel", "four teachers, MSE", "arXiv 2404.13733", edc, EDC_TEACHERS),
        Protocol("dvc_edc", "MultiTeacherLabel", "EDC, other teachers", "arXiv 2606.18209", dvc_edc, DVC_TEACHERS),
        Protocol("edc_in10", "MultiTeacherLabel", "EDC on ten classes", "arXiv 2404.13733", edc_in10, DVC_TEACHERS),
        Protocol("gvbsm", "MultiTeacherLabel", "balanced logits, MSE", "arXiv 2311.17950", gvbsm, DVC_TEACHERS),
        Protocol("sre2l", "TeacherLabel", "one teacher, batch 1024", "arXiv 2306.13092", sre2l, R18),
        Protocol("cda", "TeacherLabel", "one teacher, batch 128", "arXiv 2311.18838", cda, R18),
        Protocol("dwa", "TeacherLabel", "one teacher, batch 128", "arXiv 2409.17612", dwa, R18),
        Protocol("sre2lpp", "TeacherLabel", "one teacher by the batch's BN", "arXiv 2501.07575", sre2lpp, R18),
        Protocol("fadrm", "TeacherLabel", "one teacher by the batch's BN", "arXiv 2506.24125", fadrm, R18),
        Protocol(
            "fadrm_plus", "MultiTeacherLabel", "as fadrm, four teachers", "arXiv 2506.24125", fadrm, FADRM_TEACHERS
        ),
        Protocol("dcbench", "HardLabel", "small images, no augmentation", "arXiv 2207.09639", dcbench),
        Protocol("dcbench_dsa", "HardLabel", "small images, DSA, long", "arXiv 2207.09639", dcbench_dsa),
        Protocol("ht_small_hard", "HardLabel", "small images, DSA, SGD", "arXiv 2604.18811", ht_small_hard),
        Protocol("ht_small_soft", "SoftLabel", "small images, DSA, AdamW, KL", "arXiv 2604.18811", ht_small_soft),
        Protocol("ht_large_hard", "HardLabel", "ImageNet-1K (guess)", "arXiv 2604.18811", ht_large_hard),
        Protocol("ht_large_kd", "TeacherLabel", "ImageNet-1K (guess)", "arXiv 2604.18811", ht_large_kd, R18),
        Protocol("rethinkdc", "TeacherLabel", "one teacher, CutMix", "arXiv 2502.06434", rethinkdc, R18),
        Protocol("rethinkdc_hard", "HardLabel", "AdamW, crops", "arXiv 2502.06434", rethinkdc_hard),
        Protocol("pca", "HardLabel", "AdamW, crops of one tile", "arXiv 2502.06434", pca),
        Protocol("ccs", "HardLabel", "scoring runs on the full data", "arXiv 2210.15809", ccs),
        Protocol(OWN, "HardLabel", "steps that were learned with the set", "arXiv 1811.10959", own),
        Protocol("mtt_experts", "HardLabel", "MTT's experts on the full data", "arXiv 2203.11932", mtt_experts),
    )
}


def find(name: str) -> Protocol:
    """Return a row by name. Raises UsageError with the nearest names."""
    if name not in PROTOCOLS:
        allowed = ", ".join(PROTOCOLS)
        raise UsageError(f"Unknown protocol '{name}'.{nearest(name, PROTOCOLS)} Allowed: {allowed}.")
    return PROTOCOLS[name]


def resolve(name: str, setting: Setting, override: Override | None = None, budget: Budget | None = None) -> Plan:
    """Turn a protocol's name and a setting into explicit numbers.

    Args:
        name: row of `PROTOCOLS`.
        setting: what the rules depend on.
        override: numbers that replace the protocol's.
        budget: a length that replaces the protocol's.

    Example:
        >>> plan = resolve("rded", Setting(classes=10, ipc=10, size=32), Override(lr=0.002))
        >>> plan.recipe.batch, plan.recipe.lr, plan.budget.epochs, plan.augment.mix
        (50, 0.002, 300.0, 'cutmix')
    """
    plan = (override or Override()).apply(find(name).rule(setting))
    return replace(plan, budget=budget) if budget else plan


def describe(name: str) -> list[str]:
    """Lines that show a protocol: its docstring and its teachers."""
    protocol = find(name)
    lines = [line.strip() for line in (protocol.rule.__doc__ or "").strip().splitlines()]
    return lines + ([f"Teachers: {', '.join(protocol.teachers)}."] if protocol.teachers else [])
