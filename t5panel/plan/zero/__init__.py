"""What DeepSpeed's ZeRO engine puts on the card of rank 0, event by event and in closed form.

For a bf16 model with an fp32 master copy and AdamW: flat weights, master copy, moments, gradient buckets, copies at a
flush, gathered weights, temporaries of the optimizer's step. Sizes are bytes as requested, unrounded. No torch.
Not modelled: `zero.Init`, frozen weights, NVMe, quantised weights, hpZ, fp16, ranks other than 0, NCCL's own buffers.

Source: deepspeed 0.19.8, cited by file and line. S12 = runtime/zero/stage_1_and_2.py, S3 = runtime/zero/stage3.py,
PP = runtime/zero/partition_parameters.py, PC = runtime/zero/partitioned_param_coordinator.py,
UF = runtime/fp16/unfused_optimizer.py, EN = runtime/engine.py.
"""

from t5panel.plan.zero.card import Event
from t5panel.plan.zero.closed_form import Pass, candidates
from t5panel.plan.zero.events import TapeEvent, engine_events
from t5panel.plan.zero.settings import Zero, check_settings

__all__ = ["Event", "Pass", "TapeEvent", "Zero", "candidates", "check_settings", "engine_events"]
