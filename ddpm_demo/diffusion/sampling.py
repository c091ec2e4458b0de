"""The sampling settings as one value. The app, its links, its API and the evaluation derive their settings from it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields

from ddpm_demo.diffusion.samplers import SAMPLERS, VARIANCES
from ddpm_demo.diffusion.schedule import SCHEDULES
from ddpm_demo.errors import UserError, check_between, check_one_of, check_whole

MAX_WEIGHT = 100.0
ALWAYS = (-20.0, 20.0)  # an interval that contains the log-SNRs of every sampling step
LAST_SEED = 2**32 - 1
TOLERANCES = {"lowest": 1e-6, "highest": 0.1}  # of the adaptive ODE solver


def explain(default, meaning: str, **limits):
    """Define a field of ``Sampling``: its default, its meaning, and either ``names`` or ``lowest`` and ``highest``.

    A field is a number or one of several names, so that the flags and the controls know how to read it.
    """
    return field(default=default, metadata={"meaning": meaning} | limits)


@dataclass(frozen=True)
class Sampling:
    """The sampling settings. Raises UserError for a value that no model allows."""

    sampler: str = explain("dpm++2m", "sampling method", names=SAMPLERS)
    schedule: str = explain("cosine", "noise schedule, which gives the log-SNRs of the steps", names=SCHEDULES)
    steps: int = explain(20, "number of steps", lowest=1, highest=1000)
    weight: float = explain(
        0.0, "guidance weight w (0: conditional, -1: unconditional)", lowest=-MAX_WEIGHT, highest=MAX_WEIGHT
    )
    interval: tuple[float, float] = explain(ALWAYS, "guide only between these two log-SNRs, lowest and highest")
    variance: str = explain("posterior", "reverse variance of the stochastic samplers", names=VARIANCES)
    classifier_scale: float = explain(
        0.0, "scale s of classifier guidance (0: none)", lowest=-MAX_WEIGHT, highest=MAX_WEIGHT
    )
    autoguidance: float = explain(
        0.0, "scale of autoguidance, away from a weaker model (0: none)", lowest=-MAX_WEIGHT, highest=MAX_WEIGHT
    )
    corrector_snr: float = explain(0.16, "signal-to-noise ratio of the corrector of pc", lowest=0.0, highest=1.0)
    ode_tolerance: float = explain(1e-3, "error tolerance of a step of ode", **TOLERANCES)
    seed: int | Sequence[int] = explain(0, "seed of the noise of the first image")

    def __post_init__(self):
        for setting in fields(self):
            value, limits = getattr(self, setting.name), setting.metadata
            if "names" in limits:
                check_one_of(setting.name, value, limits["names"])
            elif setting.type is int:
                check_whole(setting.name, value, limits["lowest"], limits["highest"])
            elif "lowest" in limits:
                check_between(setting.name, value, limits["lowest"], limits["highest"])
        if isinstance(self.seed, Sequence) and not isinstance(self.seed, str):
            object.__setattr__(self, "seed", tuple(self.seed))
        for seed in self.seed if isinstance(self.seed, tuple) else [self.seed]:
            check_whole("seed", seed, 0, LAST_SEED)
        object.__setattr__(self, "interval", check_interval(self.interval))

    @property
    def mixes(self) -> bool:
        """Whether a guided step needs both the conditional and the unconditional estimate, which doubles its cost."""
        return self.weight not in (0, -1)

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance, classifier guidance or autoguidance is in use."""
        return self.mixes or self.classifier_scale != 0 or self.autoguidance != 0

    @property
    def always_guided(self) -> bool:
        """Whether the guidance interval contains all log-SNRs."""
        return self.interval == ALWAYS

    @property
    def idle(self) -> set[str]:
        """The names of the settings that have no effect here.

        These are the settings of other samplers, and the interval where no kind of guidance is used. At w = -1 the
        interval has an effect: outside of it, the label is used.
        """
        idle = {name for row in SAMPLERS.values() for name in row.uses} - {*SAMPLERS[self.sampler].uses}
        return idle if self.weight or self.classifier_scale or self.autoguidance else idle | {"interval"}

    @property
    def calls(self) -> int:
        """Calls of the denoiser; an adaptive sampler needs more."""
        return 1 + (self.steps - 1) * SAMPLERS[self.sampler].calls

    @property
    def evaluations_per_call(self) -> int:
        """Network evaluations per image, of both networks, in a guided call of the denoiser."""
        return (1 + self.mixes) * (1 + (self.autoguidance != 0))

    @property
    def evaluations(self) -> int:
        """Network evaluations per image, of both networks, at most; an adaptive sampler may need more."""
        return self.calls * self.evaluations_per_call

    def check(self, model, labels: Sequence[int] | None, count: int | None) -> int:
        """Check that a model can use these settings. Return the number of images that ``labels`` or ``count`` request.

        Raises UserError if it cannot. Nothing is computed: the check only reads the model's class names and whether it
        has a classifier and a weaker model.
        """
        if model.distilled:
            model.distilled.check(self)
            if labels is None:
                raise UserError("a distilled model needs labels; at weight -1, they have no meaning")
        if self.classifier_scale and model.noisy_classifier is None:
            raise UserError(
                f"classifier_scale is {self.classifier_scale}, but this checkpoint has no noise-aware classifier: train "
                "one with  python train.py --classifier --noise-aware --dataset NAME --output-dir FOLDER"
            )
        if self.autoguidance and model.weak is None:
            raise UserError(
                f"autoguidance is {self.autoguidance}, but this checkpoint has no weaker model: copy one, for example an early "
                "snapshot (train.py --snapshots), to its folder weak"
            )
        if labels is None:
            number = 1 if count is None else count
            check_whole("count", number, 1, 2**20)
            if self.weight or self.classifier_scale:
                raise UserError(
                    f"weight is {self.weight}, classifier_scale {self.classifier_scale}, but guidance needs labels: pass "
                    "labels, or 0 for both"
                )
        else:
            number = len(labels)
            self.check_labels(model, labels, count)
        self.seeds(number)
        return number

    def check_labels(self, model, labels: Sequence[int], count: int | None) -> None:
        """Raise UserError if a model cannot draw images of these labels."""
        if not model.label_names and self.weight:
            raise UserError(
                f"weight is {self.weight}, but this model was trained without classes: only classifier_scale can guide it"
            )
        if not model.label_names and not self.classifier_scale:
            raise UserError("labels were given, but this model was trained without classes: pass count instead")
        if count is not None and count != len(labels):
            raise UserError(f"count is {count}, but there are {len(labels)} labels: pass one of the two")
        if not len(labels):
            raise UserError("labels is empty; it must hold at least one class number")
        for label in labels:
            check_whole("label", label, 0, len(model.class_names) - 1)

    def seeds(self, count: int) -> list[int]:
        """Return the seed of each of ``count`` images. Raises UserError for a list of seeds of another length."""
        if not isinstance(self.seed, Sequence):
            return [self.seed + k for k in range(count)]
        if len(self.seed) != count:
            raise UserError(
                f"seed holds {len(self.seed)} numbers for {count} images; it must be one number, or one per image"
            )
        return list(self.seed)

    def as_dict(self) -> dict:
        """Return the settings as a dictionary for JSON."""
        return asdict(self) | {"interval": list(self.interval)}


def check_interval(interval: Sequence[float]) -> tuple[float, float]:
    """The interval as a tuple within ``ALWAYS``. UserError unless it is a pair of numbers, the lowest first."""
    numbers = isinstance(interval, Sequence) and all(type(end) in (int, float) for end in interval)
    if not numbers or len(interval) != 2 or not interval[0] <= interval[1]:
        raise UserError(f"interval is {interval!r}; it must be (lowest, highest) log-SNR")
    return tuple(min(max(end, ALWAYS[0]), ALWAYS[1]) for end in interval)
