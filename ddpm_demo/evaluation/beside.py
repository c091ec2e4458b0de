"""Draws a picture of samples and of as many real test images, none of them selected."""

import torch
from torch import Tensor

from ddpm_demo.data.datasets import Data
from ddpm_demo.data.images import render_grid
from ddpm_demo.errors import UserError
from ddpm_demo.evaluation.judge import choose
from ddpm_demo.evaluation.progress import say
from ddpm_demo.evaluation.samples import draw_batch, number_classes, plan_bar, takes_labels
from ddpm_demo.evaluation.subject import Subject
from ddpm_demo.reports.results import find_best, sampling_of
from ddpm_demo.reports.tables import describe_setting

FILE = "beside.png"
ROWS, COLUMNS = 5, 10  # of samples; there are as many rows of test images


def draw_beside(subject: Subject) -> None:
    """Write ``beside.png``: rows of samples at the best measured setting, and below them as many rows of test images.

    The samples are those of the seeds of the measurement, without a gap. The test images are the first ones of a fixed
    random order, of the same classes. Raises UserError if no setting was measured, or if there are too few test images.
    """
    best = find_best(subject.metrics.content)
    if best is None:
        raise UserError(
            f"the model in {subject.folder} was not measured: python -m ddpm_demo.evaluation samples --checkpoint "
            f"{subject.folder}"
        )
    model, test, sampling = subject.model, subject.load_data("test"), sampling_of(best)
    classes = number_classes(model, test) if takes_labels(model, sampling) else None
    count = count_images(test, classes)
    labels = None if classes is None else torch.arange(count) % len(classes)
    with plan_bar(model, [(sampling, count)]) as bar:
        drawn = draw_batch(model, sampling, None if labels is None else labels.tolist(), count, bar)
    real = test.batch(choose_alike(test, None if labels is None else classes[labels], count))[0]
    sheet = render_grid(torch.cat([drawn, real]), COLUMNS, gap=0)
    with subject.metrics.change() as content:
        content["beside"] = subject.metrics.describe(sampling, count)
        sheet.save(subject.metrics.path.with_name(FILE))
    say(f"{count} samples ({describe_setting(sampling)}) and {count} test images: {subject.folder / FILE}")


def count_images(test: Data, classes: Tensor | None) -> int:
    """Return the number of test images to show: full rows, with equally many images of each of the classes (K,)."""
    found = len(test)
    if classes is not None:
        of_class = torch.bincount(test.labels, minlength=len(test.label_names))
        found = int(of_class[classes].min()) * len(classes)
    rows = min(ROWS, found // COLUMNS)
    if not rows:
        raise UserError(
            f"a row of the picture has {COLUMNS} test images, equally many of each class, but there are only {found}: add "
            "images to the test split"
        )
    return rows * COLUMNS


def choose_alike(data: Data, labels: Tensor | None, count: int) -> Tensor:
    """Return ``count`` indices of different images, in a fixed random order; image k is of class ``labels[k]``, if given."""
    order = choose(len(data), len(data))
    if labels is None:
        return order[:count]
    of_class = {k: iter(order[data.labels[order] == k]) for k in labels.unique().tolist()}
    return torch.stack([next(of_class[k]) for k in labels.tolist()])
