"""The engine of generative methods: generators, their schedules, latents of the full data, and sampling."""

from ddlight.methods.generative.engine.backbone import Backbone
from ddlight.methods.generative.engine.schedule import Hook, Step
from ddlight.methods.generative.engine.synthesised import GenerativeSynthesiser
from ddlight.methods.generative.engine.trained import TrainedDiT

__all__ = ["Backbone", "GenerativeSynthesiser", "Hook", "Step", "TrainedDiT"]
