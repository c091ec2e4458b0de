"""The objective of ``train.py --distill``: the student learns to lead in one step where two smaller steps lead.

The two steps of the finest size are those of the guided teacher; all others are those of the student's own averaged
weights with half its step size.
"""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from ddpm_demo.data.datasets import Data
from ddpm_demo.diffusion.denoiser import Denoiser, add_noise, per_image
from ddpm_demo.diffusion.distillation import Distilled, compose_two_steps
from ddpm_demo.diffusion.schedule import Schedule
from ddpm_demo.errors import UserError
from ddpm_demo.files import LARGEST_FILE
from ddpm_demo.generation.generate import sampling_range
from ddpm_demo.models.adapters import adapt, condition_of
from ddpm_demo.models.checkpoint import Model, load
from ddpm_demo.models.networks import count_parameters

HIDDEN_WIDTH = 128
UNGUIDED, NEGATIVE = 0.1, 0.1  # the fractions of a batch with w = 0, and with w below 0
HELD_OUT_IMAGES, CHUNK = 512, 128
SPACINGS = 0.05, 0.1, 0.25  # of the guidance weights


class FactoredEmbedding(nn.Module):
    """The table of embeddings of a student, as a sum of parts that depend on the class, the weight and the step size:

        null + (1 + min(w, 0) + g(w)) * (class - null) + h(w) + size

    g, h and the embedding of the step size begin at zero. So the student begins as the unguided teacher, which at w = -1
    ignores the class and at w = 0 uses it. ``bake`` converts it to the plain table that other software reads.

    ``embeddings`` (classes + 1, width) are those of the teacher, the last one without a label.
    """

    def __init__(self, embeddings: Tensor, distilled: Distilled):
        super().__init__()
        width = embeddings.shape[1]
        self.distilled = distilled
        self.classes = nn.Embedding.from_pretrained(embeddings[:-1].clone(), freeze=False)
        self.null = nn.Parameter(embeddings[-1].clone())
        self.sizes = nn.Embedding.from_pretrained(torch.zeros(len(distilled.steps), width), freeze=False)
        self.weights = nn.Sequential(nn.Linear(2, HIDDEN_WIDTH), nn.SiLU(), nn.Linear(HIDDEN_WIDTH, width + 1))
        nn.init.zeros_(self.weights[-1].weight)
        nn.init.zeros_(self.weights[-1].bias)
        w = distilled.weights.float()
        self.register_buffer("inputs", torch.stack([w.sign() * w.abs().log1p(), w / 4], 1), persistent=False)
        self.register_buffer("shares", 1 + w[:, None].clamp(max=0), persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the embeddings (N, width) of rows (N,) of the table."""
        label, weight, size = self.distilled.split_rows(rows)
        learned = self.weights(self.inputs[weight])
        share, shift = self.shares[weight] + learned[:, :1], learned[:, 1:]
        return torch.lerp(self.null, self.classes(label), share) + shift + self.sizes(size)

    def bake(self) -> nn.Embedding:
        """Return the whole table as an embedding of its rows."""
        rows = torch.arange(self.distilled.count_rows(len(self.classes.weight)), device=self.classes.weight.device)
        return nn.Embedding.from_pretrained(self(rows).detach())


def load_teacher(source: str, device: torch.device | str = "cpu") -> Model:
    """Load the model to distill. Raises UserError if it cannot be distilled."""
    teacher = load(source, device)
    betas = Schedule.named(Distilled.schedule).betas
    on_schedule = len(betas) == len(teacher.denoiser.schedule) and torch.allclose(
        betas, teacher.denoiser.schedule.betas
    )
    conditional = teacher.label_names and condition_of(teacher.denoiser.net) == "add"
    if teacher.distilled or not conditional or not teacher.codec.bounded or not on_schedule:
        raise UserError(
            f"{source} cannot be distilled: the teacher must be a class-conditional model of pixels (train.py --cfg) on "
            f"the {Distilled.schedule} schedule, with --condition add, that was not distilled itself"
        )
    return teacher


def build_student(teacher: Model, label_names: tuple[str, ...]) -> nn.Module:
    """Return the network of the teacher with a ``FactoredEmbedding`` in place of its embedding of the classes.

    Raises UserError unless the images to train on have the teacher's classes.
    """
    if label_names != teacher.label_names:
        raise UserError(
            f"the classes of the images are {', '.join(label_names)}, but those of the teacher are "
            f"{', '.join(teacher.label_names)}: give the --dataset and --classes of the teacher"
        )
    net = copy.deepcopy(teacher.denoiser.net.net).train().requires_grad_(True)
    net.class_embedding = FactoredEmbedding(net.class_embedding.weight.detach(), choose_table(net, len(label_names)))
    return net


def choose_table(net: nn.Module, classes: int) -> Distilled:
    """Return the finest table for a network whose file of weights stays below ``LARGEST_FILE``, or the coarsest one."""
    width = net.class_embedding.embedding_dim
    for spacing in SPACINGS:
        distilled = Distilled(spacing=spacing)
        rows = distilled.count_rows(classes) - net.class_embedding.num_embeddings
        if 2 * (count_parameters(net) + rows * width) < LARGEST_FILE:  # in half precision
            break
    return distilled


def bake_table(net: nn.Module) -> Distilled | None:
    """Convert a student to a network with a plain table of embeddings, in place, and return what its rows mean.

    Any other network stays as it is, and None is returned.
    """
    factored = getattr(net, "class_embedding", None)
    if not isinstance(factored, FactoredEmbedding):
        return None
    net.class_embedding = factored.bake()
    net.register_to_config(num_class_embeds=net.class_embedding.num_embeddings)
    return factored.distilled


class Distillation:
    """Learns to take few steps. ``average`` holds the averaged weights of the student ``net``.

    ``autocast()`` sets the precision in which the targets are computed, that of the training.
    """

    def __init__(
        self,
        teacher: Model,
        net: nn.Module,
        average: EMAModel,
        autocast: Callable[[], AbstractContextManager] = nullcontext,
    ):
        self.teacher, self.average, self.autocast = teacher, average, autocast
        self.distilled = net.class_embedding.distilled
        self.averaged = copy.deepcopy(net).eval().requires_grad_(False)
        self.target = replace(teacher.denoiser, net=adapt(self.averaged))
        self.grid = self.distilled.grid(sampling_range(teacher))

    def losses(self, student: Denoiser, x0: Tensor, label: Tensor, image: None = None) -> Tensor:
        """Return the losses (N,) of clean x0 (N, C, H, W) with labels (N,), at random step sizes, times and weights.

        The loss is max(SNR, 1) * |D - D*|^2 with the clean estimate D* of two smaller steps (Salimans & Ho 2022, eq. 9).
        """
        sizes = len(self.distilled.steps)
        # The finest size is drawn twice as often, because it alone learns from the teacher.
        size = (torch.rand(len(x0)) * (sizes + 1)).long().clamp(max=sizes - 1)
        begin, stride = self.draw_places(size)
        at = self.grid[torch.stack([begin, begin + stride // 2, begin + stride])]  # log-SNRs (3, N)
        x = add_noise(x0, at[0], torch.randn_like(x0))
        size, weight = size.to(label.device), self.draw_weights(len(x0)).to(label.device)
        with torch.no_grad(), self.autocast():
            goal = self.find_goals(x, at, label, weight, size)
        estimate = student(x, at[0], self.distilled.rows(label, weight, size))
        importance = torch.exp(at[0]).clamp(min=1).to(x0.dtype).to(x0.device)  # exp(log-SNR) is the SNR
        return importance * (estimate - goal).square().flatten(1).mean(1)

    def draw_places(self, size: Tensor) -> tuple[Tensor, Tensor]:
        """Return random places (N,) in ``grid`` where steps of the sizes (N,) begin, and their lengths (N,) there."""
        steps = torch.tensor(self.distilled.steps)[size]
        stride = 2 * self.distilled.steps[-1] // steps
        return (torch.rand(len(size)) * steps).long() * stride, stride

    def find_goals(self, x: Tensor, at: Tensor, label: Tensor, weight: Tensor, size: Tensor) -> Tensor:
        """Return the clean estimates (N, C, H, W) of two smaller steps from x, between the log-SNRs ``at`` (3, N)."""
        self.average.copy_to(self.averaged.parameters())
        goal, by_teacher = torch.empty_like(x), size == len(self.distilled.steps) - 1
        for chosen, denoise in ((by_teacher, self.guide), (~by_teacher, self.halve)):
            if chosen.any():
                condition = label[chosen], weight[chosen], size[chosen]
                goal[chosen] = compose_two_steps(partial(denoise, *condition), x[chosen], *at[:, chosen.cpu()])
        return goal

    def guide(self, label: Tensor, weight: Tensor, size: Tensor, x: Tensor, log_snr: Tensor) -> Tensor:
        """Return the teacher's clean estimates (N, C, H, W) with classifier-free guidance."""
        w = per_image(self.distilled.weights[weight.cpu()], x)
        both = torch.cat([label, torch.full_like(label, self.teacher.null_label)])
        conditional, unconditional = self.teacher.denoiser(x.repeat(2, 1, 1, 1), log_snr.repeat(2), both).chunk(2)
        return (conditional + w * (conditional - unconditional)).clamp(-1, 1)  # as the sampler does

    def halve(self, label: Tensor, weight: Tensor, size: Tensor, x: Tensor, log_snr: Tensor) -> Tensor:
        """Return the student's own clean estimates (N, C, H, W), by its averaged weights, for half the step size."""
        return self.target(x, log_snr, self.distilled.rows(label, weight, size + 1)).clamp(-1, 1)

    def draw_weights(self, count: int) -> Tensor:
        """Return indices (N,) of random weights: log(1 + w) is uniform, but for some with w = 0 and some with w < 0."""
        highest, kind = torch.tensor(self.distilled.highest), torch.rand(count)
        w = torch.expm1(torch.rand(count) * highest.log1p())
        w = torch.where(kind < UNGUIDED + NEGATIVE, torch.rand(count) * self.distilled.lowest, w)
        w = torch.where(kind < UNGUIDED, torch.zeros(()), w)
        return ((w - self.distilled.lowest) / self.distilled.spacing).round().long()

    @torch.no_grad()
    def validate(self, model: Model, held_out: Data) -> float:
        """Return the mean loss of a student on held-out images, with the same random numbers at every call."""
        count = min(HELD_OUT_IMAGES, len(held_out))
        images, label = held_out.batch(torch.arange(count) * len(held_out) // count)
        with torch.random.fork_rng(), self.autocast():
            torch.manual_seed(0)
            x0 = model.codec.encode(images).to(model.device)
            parts = zip(x0.split(CHUNK), label.to(model.device).split(CHUNK))
            return torch.cat([self.losses(model.denoiser, *part) for part in parts]).mean().item()
