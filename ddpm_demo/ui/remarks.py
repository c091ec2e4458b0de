"""What the settings of the page mean together, in sentences."""

from collections.abc import Iterator
from dataclasses import fields

from ddpm_demo.diffusion.samplers import SAMPLERS
from ddpm_demo.diffusion.sampling import Sampling
from ddpm_demo.errors import UserError
from ddpm_demo.ui.catalogue import Catalogue
from ddpm_demo.ui.controls import INFO
from ddpm_demo.ui.runs import as_number, read_place, unflatten

DISTILLED = (
    "This distilled model needs {calls} for an image, because it contains its guidance. The sampler, the "
    "schedule, the interval, classifier guidance and autoguidance have no effect on it."
)
ENDS = ("interval_from", "interval_to")


def count_calls(calls: int) -> str:
    """A number of network calls in words."""
    return "1 network call" if calls == 1 else f"{calls} network calls"


def remark_on(catalogue: Catalogue, settings: dict) -> str:
    """Both names of the guidance weight, the settings without effect, and what the sampler needs; or what is wrong."""
    try:
        distilled = catalogue.model(settings["checkpoint"]).distilled
        low, high = ends = [as_number(name, settings[name]) for name in ENDS]
        sampling = unflatten(settings | dict(zip(ENDS, sorted(ends))))
        place = describe_place(settings["place"])
    except UserError as error:
        return str(error)
    sentences = [describe_weight(sampling), *place]
    if distilled:
        return " ".join([*sentences, DISTILLED.format(calls=count_calls(sampling.steps))])
    if low > high:
        sentences.append("The guidance interval ends before it begins.")
    elif not sampling.always_guided and "interval" in sampling.idle:
        sentences.append("The guidance interval has no effect at this weight.")
    elif not sampling.always_guided and not sampling.guided:
        sentences.append(f"The class is ignored only where the log-SNR is between {low:g} and {high:g}.")
    elif not sampling.always_guided:
        sentences.append(f"Guided only where the log-SNR is between {low:g} and {high:g}.")
    return " ".join([*sentences, *list_unused(sampling), *describe_cost(sampling)])


def note_effects(catalogue: Catalogue, settings: dict) -> dict[str, str]:
    """Return the words beside each control of INFO: what it means, or why it has no effect with the present choice."""
    try:
        model = catalogue.model(settings["checkpoint"])
        low, high = sorted(as_number(name, settings[name]) for name in ENDS)
        idle = unflatten(settings | {"interval_from": low, "interval_to": high}).idle
    except UserError:
        return INFO  # the remark says what is wrong
    if model.distilled:
        return dict.fromkeys(INFO, "no effect on a distilled model")
    notes = {name: "no effect with this sampler" for name in INFO if name in idle}
    if "interval" in idle:
        notes |= dict.fromkeys(ENDS, "no effect: nothing is guided at w = 0")
    return INFO | notes


def describe_weight(sampling: Sampling) -> str:
    """The guidance weight, and what it is called in diffusers."""
    weight = sampling.weight
    ignored = ": the network ignores the class" if sampling.classifier_scale else ": the class is ignored"
    meaning = {-1: ignored, 0: ": the class is used, without guidance"}.get(weight, "")
    return f"w = {weight:g} (guidance_scale {weight + 1:g} in diffusers){meaning}."


def describe_place(text: str) -> list[str]:
    """The noise from which the run starts, if it is a place in the noise pad. UserError for a wrong place."""
    if text == "":
        return []
    noise = read_place(text)
    seeds, (u, v) = ", ".join(map(str, noise.seeds)), noise.places[0]
    return [f"All images start from the noise at ({u:g}, {v:g}) between the seeds {seeds} of the noise pad."]


def list_unused(sampling: Sampling) -> Iterator[str]:
    """Yield a sentence for every setting that was changed, but belongs to other samplers than the chosen one."""
    for field in fields(Sampling):
        users = [row.title for row in SAMPLERS.values() if field.name in row.uses]
        if users and field.name in sampling.idle and getattr(sampling, field.name) != field.default:
            yield f"Only these samplers use the setting `{field.name}`: {'; '.join(users)}."


def describe_cost(sampling: Sampling) -> Iterator[str]:
    """What the sampler needs of the network and of the number of steps."""
    row = SAMPLERS[sampling.sampler]
    if row.calls == 2:
        yield "This sampler asks the network twice a step."
    if row.adaptive:
        yield "This sampler chooses its own steps by its tolerance. The steps set here only say where its state is shown."
    noisy = row.many_steps or ("variance" in row.uses and sampling.variance == "beta")
    if noisy and sampling.steps < 50:
        yield "With so few steps this sampler stays noisy: try 100 or more."
