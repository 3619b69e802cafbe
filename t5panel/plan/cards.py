"""What cards can do at most, by their NVML names: peaks, bandwidth, link and power as their makers state them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from t5panel.plan.kernels import Processors

PCIE_4, PCIE_5 = 31.5, 63.0
"""GB/s of 16 lanes in one direction. Source: PCI-SIG, 16 and 32 GT/s with 128b/130b coding."""
NVLINK_3, NVLINK_4 = 300.0, 450.0
"""GB/s in one direction. Source: data sheets of A100 and H100, which count both."""


class CardPeaks(msgspec.Struct, frozen=True):
    """Upper limits of one card: FLOP/s, bytes/s, watts."""

    name: str
    bf16: float
    """Dense bfloat16 on tensor cores with float32 accumulation."""
    fp32: float
    """Without tensor cores, as PyTorch multiplies float32 by default."""
    bandwidth: float
    """Of its memory."""
    link: float
    """To another card, in one direction."""
    power: float
    """Default power limit."""
    source: str


def _card(name: str, bf16: float, fp32: float, bandwidth: float, link: float, power: float, source: str) -> CardPeaks:
    """From TFLOP/s and GB/s, as data sheets have them."""
    return CardPeaks(name, bf16 * 1e12, fp32 * 1e12, bandwidth * 1e9, link * 1e9, power, source)


_GA102 = "NVIDIA Ampere GA102 GPU Architecture whitepaper 2.0"
_AMPERE = "GeForce RTX 30 product page; bf16 = 2 × fp32 as in the GA102 whitepaper"
_ADA = "GeForce RTX 40 product page; bf16 = 2 × fp32 as in the Ada GPU Architecture whitepaper"
_BLACKWELL = "NVIDIA RTX Blackwell GPU Architecture whitepaper"
_A100, _H100 = "NVIDIA A100 data sheet", "NVIDIA H100 data sheet"

_TABLE = (
    _card("RTX 3060", 25.4, 12.7, 360, PCIE_4, 170, _AMPERE),
    _card("RTX 3060 Ti", 32.4, 16.2, 448, PCIE_4, 200, _AMPERE),
    _card("RTX 3070", 40.6, 20.3, 448, PCIE_4, 220, _GA102),
    _card("RTX 3070 Ti", 43.5, 21.7, 608, PCIE_4, 290, _AMPERE),
    _card("RTX 3080", 59.5, 29.8, 760, PCIE_4, 320, _GA102),
    _card("RTX 3080 Ti", 68.2, 34.1, 912, PCIE_4, 350, _AMPERE),
    _card("RTX 3090", 71.2, 35.6, 936, PCIE_4, 350, _GA102),
    _card("RTX 3090 Ti", 80.0, 40.0, 1008, PCIE_4, 450, _AMPERE),
    _card("RTX 4060 Ti", 44.1, 22.1, 288, PCIE_4 / 2, 165, _ADA),
    _card("RTX 4070", 58.3, 29.1, 504, PCIE_4, 200, _ADA),
    _card("RTX 4070 SUPER", 71.0, 35.5, 504, PCIE_4, 220, _ADA),
    _card("RTX 4070 Ti", 80.2, 40.1, 504, PCIE_4, 285, _ADA),
    _card("RTX 4070 Ti SUPER", 88.2, 44.1, 672, PCIE_4, 285, _ADA),
    _card("RTX 4080", 97.5, 48.7, 717, PCIE_4, 320, _ADA),
    _card("RTX 4080 SUPER", 104.4, 52.2, 736, PCIE_4, 320, _ADA),
    _card("RTX 4090", 165.2, 82.6, 1008, PCIE_4, 450, "NVIDIA Ada GPU Architecture whitepaper"),
    _card("RTX 5070 Ti", 87.9, 43.9, 896, PCIE_5, 300, _BLACKWELL),
    _card("RTX 5080", 112.6, 56.3, 960, PCIE_5, 360, _BLACKWELL),
    _card("RTX 5090", 209.5, 104.8, 1792, PCIE_5, 575, _BLACKWELL),
    _card("RTX A4000", 76.7, 19.2, 448, PCIE_4, 140, "NVIDIA RTX A4000 data sheet"),
    _card("RTX A5000", 111.1, 27.8, 768, PCIE_4, 230, "NVIDIA RTX A5000 data sheet"),
    _card("RTX A6000", 154.8, 38.7, 768, PCIE_4, 300, "NVIDIA RTX A6000 data sheet"),
    _card("RTX 6000 Ada Generation", 364.2, 91.1, 960, PCIE_4, 300, "NVIDIA RTX 6000 Ada data sheet"),
    _card("A10", 125.0, 31.2, 600, PCIE_4, 150, "NVIDIA A10 data sheet"),
    _card("A30", 165.0, 10.3, 933, PCIE_4, 165, "NVIDIA A30 data sheet"),
    _card("A40", 149.7, 37.4, 696, PCIE_4, 300, "NVIDIA A40 data sheet"),
    _card("L4", 121.0, 30.3, 300, PCIE_4, 72, "NVIDIA L4 data sheet"),
    _card("L40", 181.0, 90.5, 864, PCIE_4, 300, "NVIDIA L40 data sheet"),
    _card("L40S", 362.0, 91.6, 864, PCIE_4, 350, "NVIDIA L40S data sheet"),
    _card("A100-PCIE-40GB", 312.0, 19.5, 1555, PCIE_4, 250, _A100),
    _card("A100 80GB PCIe", 312.0, 19.5, 1935, PCIE_4, 300, _A100),
    _card("A100-SXM4-40GB", 312.0, 19.5, 1555, NVLINK_3, 400, _A100),
    _card("A100-SXM4-80GB", 312.0, 19.5, 2039, NVLINK_3, 400, _A100),
    _card("H100 PCIe", 756.0, 51.0, 2000, PCIE_5, 350, _H100),
    _card("H100 NVL", 835.0, 60.0, 3900, PCIE_5, 400, "NVIDIA H100 NVL data sheet"),
    _card("H100 80GB HBM3", 989.4, 66.9, 3350, NVLINK_4, 700, _H100),
    _card("H200", 989.4, 66.9, 4800, NVLINK_4, 700, "NVIDIA H200 data sheet"),
)
CARDS: dict[str, CardPeaks] = {card.name: card for card in _TABLE}
"""By NVML's product name without `NVIDIA` and `GeForce`. An RTX 3080 of 20 GB bears the name of the one of 10 GB."""


AMPERE_WORKSPACE, HOPPER_WORKSPACE = (2 * 4096 + 8 * 16) * 1024, 8 * 4096 * 1024
"""Bytes of a cuBLAS workspace. Source: parseChosenWorkspaceSize in torch's CublasHandlePool.cpp; both were measured."""
HOPPER = ("H100", "H200", "H800", "H20", "GH200")
"""First words of the names of cards of compute capability 9.0."""


def cublas_workspace(name: str) -> int:
    """Bytes of one cuBLAS workspace that torch takes on a card, by its NVML name."""
    words = short_name(name).split()
    return HOPPER_WORKSPACE if words and words[0] in HOPPER else AMPERE_WORKSPACE


_PROCESSORS = {
    "RTX 3060": 28, "RTX 3060 Ti": 38, "RTX 3070": 46, "RTX 3070 Ti": 48, "RTX 3080": 68, "RTX 3080 Ti": 80,
    "RTX 3090": 82, "RTX 3090 Ti": 84, "RTX 4060 Ti": 34, "RTX 4070": 46, "RTX 4070 SUPER": 56, "RTX 4070 Ti": 60,
    "RTX 4070 Ti SUPER": 66, "RTX 4080": 76, "RTX 4080 SUPER": 80, "RTX 4090": 128, "RTX 5070 Ti": 70, "RTX 5080": 84,
    "RTX 5090": 170, "RTX A4000": 48, "RTX A5000": 64, "RTX A6000": 84, "RTX 6000 Ada Generation": 142, "A10": 72,
    "A30": 56, "A40": 84, "L4": 58, "L40": 142, "L40S": 142, "A100-PCIE-40GB": 108, "A100 80GB PCIe": 108,
    "A100-SXM4-40GB": 108, "A100-SXM4-80GB": 108, "H100 PCIe": 114,
}  # fmt: skip
"""Streaming multiprocessors. Source: the same papers."""
HOPPER_PROCESSORS = Processors(132, 2048)
"""Of H100 SXM, H100 NVL and H200; the most of a card that is not listed."""
DATA_CENTER = ("A100", "A30", *HOPPER)


def processors_of(name: str) -> Processors:
    """The multiprocessors of a card by its NVML name. Threads: CUDA C++ Programming Guide, compute capabilities."""
    short = short_name(name)
    if short not in _PROCESSORS:
        return HOPPER_PROCESSORS
    return Processors(_PROCESSORS[short], 2048 if short.startswith(DATA_CENTER) else 1536)


def short_name(name: str) -> str:
    """NVML's name of a card without the maker's words."""
    return name.removeprefix("NVIDIA ").removeprefix("GeForce ")


def peaks_of(name: str) -> CardPeaks | None:
    """The limits of a card by its NVML name, with or without the maker's; None for a card that is not listed."""
    return CARDS.get(short_name(name))


def slowest(cards: Sequence[CardPeaks]) -> CardPeaks:
    """What each of several cards reaches while all wait for the slowest; `power` is their mean."""
    return CardPeaks(
        name=", ".join(dict.fromkeys(card.name for card in cards)),
        bf16=min(card.bf16 for card in cards),
        fp32=min(card.fp32 for card in cards),
        bandwidth=min(card.bandwidth for card in cards),
        link=min(card.link for card in cards),
        power=sum(card.power for card in cards) / len(cards),
        source=", ".join(dict.fromkeys(card.source for card in cards)),
    )
