"""The Evidence tab's sections on one measurement each: its sentence, its table or chart, its command."""

from pathlib import Path

from ddpm_demo.data.decoding import decode_picture
from ddpm_demo.diffusion.samplers import VARIANCES
from ddpm_demo.experiments import ablation, conditioning
from ddpm_demo.models.noisy_classifier import accuracies
from ddpm_demo.reports.results import find, find_best, most_sampled, sampling_of
from ddpm_demo.reports.tables import LIKELIHOOD_HEADS, describe_setting, list_likelihood_rows
from ddpm_demo.ui.components.charts import draw_lines, fit_axis
from ddpm_demo.ui.data_uri import FAST, encode_picture
from ddpm_demo.ui.rendering import render
from ddpm_demo.ui.tabs.evidence_charts import CURVES, caption
from ddpm_demo.ui.tabs.evidence_sentences import describe_likelihood, describe_verdict

EVALUATION = "python -m ddpm_demo.evaluation"
JUDGED = (  # name, the figure of a cell, what it measures
    ("FID", "fid_test", "the distance between the features of both sets; less is better"),
    ("precision", "precision", "the share of samples that lie among real images: quality"),
    ("recall", "recall", "the share of real images that lie among samples: variety"),
)
RESTORED = (  # task -> what was done, and the plain method beside it
    ("complete", "Completing a hole in the middle", "the mean colour"),
    ("enlarge", "Enlarging four times", "bicubic interpolation"),
)


def show_missing(what: str, command: str) -> str:
    """What has not been measured, and the command that measures it."""
    return render("missing.html", what=what, command=command)


def encode_file(path: Path) -> str:
    """A picture of the checkpoint's folder as a data URI."""
    return encode_picture(decode_picture(path, str(path)), **FAST)


def show_beside(folder: Path | None, metrics: dict, by_class: bool, where: str) -> str:
    """Samples and real test images, none of them selected."""
    report = metrics.get("beside")
    if not folder or not report or not (folder / "beside.png").is_file():
        missing = show_missing("A picture of samples beside real images", f"{EVALUATION} beside --checkpoint {where}")
        return render("beside.html", pictures=[], missing=missing)
    sheet = decode_picture(folder / "beside.png", "beside.png")
    half = sheet.height // 2
    return render(
        "beside.html",
        pictures=[encode_picture(sheet.crop((0, top, sheet.width, top + half)), **FAST) for top in (0, half)],
        count=report["setting"]["samples"],
        words=describe_setting(sampling_of(report)),
        by_class=by_class,
    )


def show_verdict(metrics: dict, dataset: str) -> str:
    """How the samples were judged, and the figures of the setting that beside.png shows, or else of the best setting."""
    shown = find(most_sampled(metrics), sampling_of(metrics["beside"])) if "beside" in metrics else None
    cell = shown or find_best(metrics)
    if cell is None:
        return ""
    rows = [
        (name, meaning, f"{cell[figure]:.3f}", f"{cell['reference'][figure]:.3f}") for name, figure, meaning in JUDGED
    ]
    if "accuracy" in cell:
        meaning = "the share that the classifier reads as the requested class, or as the true class of real test images"
        real = metrics["classifier_test_accuracy"]
        rows.insert(0, ("class accuracy", meaning, f"{cell['accuracy']:.2%}", f"{real:.2%}"))
    return render(
        "judged.html",
        rows=rows,
        samples=cell["setting"]["samples"],
        dataset=dataset,
        sentence=describe_verdict(cell),
        words=describe_setting(sampling_of(cell)),
    )


def fold(title: str, content: str) -> str:
    """Put a section under a line that opens it; "" for an empty section."""
    return render("fold.html", title=title, content=content)


def show_likelihood(bits: dict | None, where: str) -> str:
    """What real test images cost in bits per dimension, and at which steps."""
    command = f"{EVALUATION} likelihood --checkpoint {where} --images"
    if not bits:
        return show_missing("The likelihood of real images", f"{command} 10000")
    t = bits["curve"]["t"]
    series = {name: (t, bits["curve"][name]) for name in VARIANCES}
    values = [value for _, ys in series.values() for value in ys if value > 0]
    title = "What a step costs in bits per dimension, by variance"
    x, y = fit_axis(t, "timestep t", log=True), fit_axis(values, log=True)
    rows = [(["" if cell is None else cell for cell in row], False) for row in list_likelihood_rows(bits)]
    return render(
        "likelihood.html",
        charts=[caption(draw_lines(title, series, x, y, style=CURVES), describe_likelihood(series))],
        best=bits["continuous"]["total"]["mean"],
        images=bits["images"],
        command=command,
        table=render(
            "table.html", title="Likelihood by three routes", heads=LIKELIHOOD_HEADS, rows=rows, note="", command=""
        ),
    )


def show_autoencoder(about: dict, folder: Path, metrics: dict, dataset: str) -> str:
    """What the autoencoder loses: real images before and after it, and the figures."""
    if not about:
        return ""
    sheet = folder / "reconstructions.png"
    return render(
        "autoencoder.html",
        sheet=encode_file(sheet) if sheet.is_file() else None,
        about=about,
        dataset=dataset,
        measured=metrics.get("autoencoder"),
        floor=metrics.get("floor"),
    )


def show_restoration(report: dict | None, where: str) -> str:
    """How well images that are known in part are completed and enlarged."""
    if not report:
        return ""
    tasks = [{"words": words, "plain": plain, **report[task]} for task, words, plain in RESTORED if report.get(task)]
    command = f"{EVALUATION} restore --checkpoint {where} --images {report['images']}"
    return render("restoration.html", tasks=tasks, images=report["images"], command=command)


def show_noisy_classifier(folder: Path, dataset: str) -> str:
    """How well the classifier of classifier guidance reads noisy images."""
    shares = accuracies(folder) if folder.is_dir() else {}
    if not shares:
        return ""
    series = {"noisy test images": (list(shares), list(shares.values()))}
    x, y = fit_axis(list(shares), "log-SNR"), fit_axis([0, 1])
    chart = draw_lines("The guiding classifier, by noise", series, x, y, style=CURVES)
    return caption(chart, render("noisy_classifier.html", dataset=dataset))


def show_nearest(folder: Path | None, metrics: dict) -> str:
    """Samples, the training image nearest to each, and the distances in a sentence: does the model memorise?"""
    report = metrics.get("memorised")
    if not folder or not report or not (folder / "nearest.png").is_file():
        return ""
    return render("nearest.html", sheet=encode_file(folder / "nearest.png"), report=report)


def show_ablation(report: dict) -> str:
    """What each choice of the training is worth, at equal training."""
    if not report:
        return ""
    rows = [([*ablation.describe_choices(row), *ablation.format_figures(row)], False) for row in report["rows"]]
    return render(
        "table.html",
        title=f"What each choice is worth: {len(rows)} small networks, {report['epochs']:g} epochs each",
        heads=ablation.HEADS,
        rows=rows,
        note="The slides used another classifier, so only the order of the figures can be compared.",
        command="python -m ddpm_demo.experiments.ablation",
    )


def show_conditions(report: dict) -> str:
    """Three ways to condition the network on the class."""
    if not report:
        return ""
    first = report["rows"][0]
    return render(
        "table.html",
        title=f"Three ways to condition, {report['epochs']:g} epochs each",
        heads=conditioning.HEADS,
        rows=[(row, False) for row in conditioning.list_rows(report)],
        note="Completed and enlarged images are measured by their PSNR to the original; in brackets where a part of another "
        "image was given.",
        command=f"python -m ddpm_demo.experiments.conditioning --epochs {report['epochs']:g} "
        f"--samples {first['quality'][0]['setting']['samples']} --restore {first['restored']['images']}",
    )


def show_speed(report: dict) -> str:
    """Network calls by batch size and variant, and whole images beside the course's network."""
    if not report:
        return ""
    machine = report["machine"]
    batches = sorted({row["batch"] for row in report["calls"]})
    rows = []
    for name in dict.fromkeys(row["variant"] for row in report["calls"]):
        by_batch = {row["batch"]: row for row in report["calls"] if row["variant"] == name}
        shares = [f"{by_batch[b]['images_per_second']:.0f} ({by_batch[b]['of_convolution']:.0%})" for b in batches]
        rows.append(([name, *shares], name == "recorded"))
    whole = "; ".join(
        f"{row['images']} in {row['ours_seconds']:.2f} s, {row['course_seconds'] / row['ours_seconds']:.1f} times faster"
        for row in report["digits"]
    )
    return render(
        "table.html",
        title="Images a second by batch size",
        heads=("network call", *(f"batch {b}" for b in batches)),
        rows=rows,
        note=f"In brackets: the share of this machine's best convolution, {machine['convolution_gflops']:.0f} GFLOP/s "
        f"({machine['processor']}, {machine['threads']} threads). Finished images, 20 guided steps, against the Hugging "
        f"Face course's U-Net with 50 DDIM steps: {whole}.",
        command="python -m ddpm_demo.experiments.benchmark",
    )
