"""What LLaMA-Factory's trainers have in common here, whatever they train: where they begin, when they have ended."""

from __future__ import annotations

from typing import Any

from t5panel.trainers.course import Course
from t5panel.trainers.model import parameter_count


def on_course(base: type, course: Course) -> type:
    """A trainer of LLaMA-Factory that starts and finishes a course, and leaves its last save to it."""

    class OnCourse(base):  # type: ignore[misc]
        """From the newest checkpoint to the agreed end."""

        def train(self, *_: Any, **__: Any) -> Any:  # noqa: ANN401
            """Train, and say that the run has ended before LLaMA-Factory writes its summaries."""
            if self.is_deepspeed_enabled != (course.spec.deepspeed is not None):
                raise RuntimeError("DeepSpeed settings were given and are not used")
            course.start(parameter_count(self.model))
            output = super().train(resume_from_checkpoint=str(course.checkpoint) if course.checkpoint else None)
            course.finish()
            return output

        def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
            """Save into a checkpoint. The model once more beside them, as LLaMA-Factory has it, is left out."""
            if _internal_call:
                super().save_model(output_dir, _internal_call=True)

    return OnCourse
