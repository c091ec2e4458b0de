"""Measure the quality of a checkpoint, or compare several.

A classifier of the same dataset (train.py --classifier) judges the samples: FID on its features to training and test
images, precision and recall, the fraction classified as the requested class, and whether training images were
memorised. Each figure is given with that of as many real images. The figures are written into metrics.json of the
checkpoint. A setting that was measured before is not measured again; after Ctrl-C, the same command goes on.

python -m ddpm_demo.evaluation samples --weight 0 1 --samples 8192    two settings
python -m ddpm_demo.evaluation map --samples 512                      slices of the settings, for the maps of the app
python -m ddpm_demo.evaluation over-time --samples 1024               the snapshots of  train.py --snapshots
python -m ddpm_demo.evaluation likelihood --images 10000              bits per dimension of test images, by three routes
python -m ddpm_demo.evaluation restore --images 512                   images that are completed and enlarged
python -m ddpm_demo.evaluation beside                                 a picture: samples beside real test images
python -m ddpm_demo.evaluation adopt                                  make the best measured setting the default
python -m ddpm_demo.evaluation compare FOLDER FOLDER                  a comparison of checkpoints
python -m ddpm_demo.evaluation calls TEACHER DISTILLED                a distilled checkpoint and its teacher
python -m ddpm_demo.evaluation fidelity TEACHER DISTILLED             the same, step by step, from the same noise
accelerate launch --multi_gpu --num_processes 2 -m ddpm_demo.evaluation samples ...    on several GPUs or processes
"""

import argparse
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from ddpm_demo.diffusion.samplers import SAMPLERS
from ddpm_demo.diffusion.sampling import Sampling
from ddpm_demo.errors import UserError, check_whole
from ddpm_demo.evaluation.beside import draw_beside
from ddpm_demo.evaluation.bits_per_dim import LikelihoodOptions, measure_likelihood
from ddpm_demo.evaluation.compare import compare_at_equal_time, compare_best
from ddpm_demo.evaluation.distances import inception_metric
from ddpm_demo.evaluation.fidelity import tabulate_fidelity
from ddpm_demo.evaluation.flags import add_sampling_flags, read_settings
from ddpm_demo.evaluation.maps import TABLES, plan_map, tabulate_excess, tabulate_guidance
from ddpm_demo.evaluation.over_time import measure_snapshots
from ddpm_demo.evaluation.progress import say
from ddpm_demo.evaluation.restoration import check_options, measure_restoration
from ddpm_demo.evaluation.samples import Ways, check_samples, fit_to_model, measure_plan
from ddpm_demo.evaluation.subject import Subject, open_checkpoint
from ddpm_demo.files import SHIPPED
from ddpm_demo.generation.generate import count_evaluations
from ddpm_demo.models.checkpoint import change_sampling, load
from ddpm_demo.reports.results import find_best, read_metrics, sampling_of
from ddpm_demo.reports.tables import describe_setting, tabulate_calls

MOST_EVALUATIONS = 40  # of an image at the default setting: 20 steps with guidance


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and measure. Returns the exit status."""
    options = command_line().parse_args(arguments)
    try:
        options.run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; finished measurements are kept, and the same command goes on", file=sys.stderr)
        return 130
    return 0


def command_line() -> argparse.ArgumentParser:
    """Build the parser of the command and its subcommands."""
    parser = argparse.ArgumentParser(
        prog="python -m ddpm_demo.evaluation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add_command(name: str, run, meaning: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=meaning, description=meaning, allow_abbrev=False)
        command.set_defaults(run=run)
        return command

    samples = add_command("samples", run_samples, "measure samples at the given settings")
    add_checkpoint_flags(samples)
    add_measuring_flags(samples)
    add_sampling_flags(samples, several=True, weight=[0.0, 1.0])
    maps = add_command("map", run_map, "measure slices of the settings, for the maps of the app")
    add_checkpoint_flags(maps)
    add_measuring_flags(maps)
    maps.add_argument("--seed", type=int, default=0, help="seed of the first image (default: %(default)s)")
    over_time = add_command("over-time", run_over_time, "measure the snapshots of  train.py --snapshots")
    add_checkpoint_flags(over_time)
    add_measuring_flags(over_time, inception=False)
    add_sampling_flags(over_time, several=False, weight=[1.0])
    likelihood = add_command("likelihood", run_likelihood, "measure bits per dimension of test images")
    add_checkpoint_flags(likelihood, judge=False)
    add_likelihood_flags(likelihood)
    restore = add_command("restore", run_restore, "measure how well test images are completed and enlarged")
    add_checkpoint_flags(restore)
    restore.add_argument("--images", type=int, default=512, help="test images (default: %(default)s)")
    restore.add_argument("--seed", type=int, default=0, help="seed of the noise and the choice (default: %(default)s)")
    beside = add_command("beside", run_beside, "draw samples at the best measured setting beside real test images")
    add_checkpoint_flags(beside, judge=False)
    adopt = add_command("adopt", run_adopt, "make the best measured setting the default of a checkpoint")
    adopt.add_argument(
        "--checkpoint", type=Path, default=SHIPPED / "mnist", help="a folder (default: checkpoints/mnist)"
    )
    adopt.add_argument(
        "--evaluations",
        type=int,
        default=MOST_EVALUATIONS,
        help="network evaluations of an image, at most (default: %(default)s)",
    )
    compare = add_command("compare", run_compare, "compare checkpoints at their best and at equal training time")
    compare.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="checkpoints, measured over time")
    calls = add_command("calls", run_calls, "compare a distilled checkpoint with its teacher by network calls")
    calls.add_argument("folders", nargs=2, type=Path, metavar=("TEACHER", "DISTILLED"), help="measured checkpoints")
    fidelity = add_command("fidelity", run_fidelity, "compare the steps of a distilled checkpoint with its teacher's")
    fidelity.add_argument("folders", nargs=2, metavar=("TEACHER", "DISTILLED"), help="checkpoints")
    fidelity.add_argument("--images", type=int, default=50, help="noises to start from (default: %(default)s)")
    return parser


def add_checkpoint_flags(parser: argparse.ArgumentParser, judge: bool = True) -> None:
    """Add the flags that name the checkpoint, the data and the judge."""
    parser.add_argument(
        "--checkpoint", default=str(SHIPPED / "mnist"), help="a folder (default: the shipped checkpoints/mnist)"
    )
    parser.add_argument("--data-dir", default="data", help="folder of the real images (default: %(default)s)")
    if judge:
        parser.add_argument(
            "--classifier",
            help="folder of the judge, classifier.safetensors (default: the checkpoint, or the shipped one)",
        )


def add_measuring_flags(parser: argparse.ArgumentParser, inception: bool = True) -> None:
    """Add the flags that define how samples are measured."""
    add = parser.add_argument
    add("--samples", type=int, default=8192, help="images for each setting (default: %(default)s)")
    add("--again", action="store_true", help="also measure what metrics.json already contains")
    if inception:
        add("--inception", action="store_true", help="also the standard FID, on Inception features (downloads weights)")


def add_likelihood_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``likelihood``."""
    add, default = parser.add_argument, LikelihoodOptions()
    add("--images", type=int, default=default.images, help="test images (default: %(default)s)")
    add("--draws", type=int, default=default.draws, help="noise levels for each image (default: %(default)s)")
    add("--ode-images", type=int, default=default.ode_images, help="images for the ODE as well (default: %(default)s)")
    add("--tolerance", type=float, default=default.tolerance, help="tolerance of the ODE (default: %(default)s)")
    add("--seed", type=int, default=default.seed, help="seed of the noise and the choice (default: %(default)s)")


def run_samples(options: argparse.Namespace) -> None:
    """Measure every combination of the given settings."""
    check_samples(options.samples)
    subject = open_subject(options)
    plan = fit_to_model([(sampling, options.samples) for sampling in read_settings(options)], subject.model)
    ways = Ways(options.again, shows_nearest=True, inception=inception_metric() if options.inception else None)
    measure_plan(subject.model, subject.load_judge(), subject.metrics, plan, ways)
    subject.write_card()


def run_map(options: argparse.Namespace) -> None:
    """Measure the slices of the map, and print its tables."""
    check_samples(options.samples)
    subject = open_subject(options)
    guides = {"classifier_scale": subject.model.noisy_classifier, "autoguidance": subject.model.weak}
    missing = [name for name, network in guides.items() if network is None]
    cells = plan_map(options.samples, options.seed)
    cells = [cell for cell in cells if not any(getattr(cell[0], name) for name in missing)]
    plan = fit_to_model(cells, subject.model)
    ways = Ways(options.again, shows_nearest=False, inception=inception_metric() if options.inception else None)
    measure_plan(subject.model, subject.load_judge(), subject.metrics, plan, ways)
    cells = subject.metrics.content.get("quality", [])
    for title, *axes in TABLES:
        say(f"\n{title}\n\n{tabulate_excess(cells, *axes)}")
    if len(missing) < len(guides):
        say(f"\n{tabulate_guidance(cells)}")
    subject.write_card()


def run_over_time(options: argparse.Namespace) -> None:
    """Measure the snapshots of the training at one setting."""
    check_samples(options.samples)
    subject = open_subject(options)
    plan = fit_to_model([(sampling, options.samples) for sampling in read_settings(options)], subject.model)
    measure_snapshots(subject.load_judge(), subject.metrics, *plan[0], again=options.again)
    subject.write_card()


def run_likelihood(options: argparse.Namespace) -> None:
    """Measure the likelihood of test images."""
    wanted = LikelihoodOptions(options.images, options.draws, options.ode_images, options.tolerance, options.seed)
    measure_likelihood(open_checkpoint(options.checkpoint, options.data_dir), wanted)


def run_restore(options: argparse.Namespace) -> None:
    """Measure how well test images are restored."""
    check_options(options.images, options.seed)
    subject = open_subject(options)
    judge = subject.load_judge()
    subject.add("restored", measure_restoration(subject.model, judge, options.images, options.seed))
    subject.write_card()


def run_beside(options: argparse.Namespace) -> None:
    """Draw samples beside real test images."""
    draw_beside(open_checkpoint(options.checkpoint, options.data_dir))


def run_adopt(options: argparse.Namespace) -> None:
    """Make the best measured setting the default of a checkpoint."""
    check_whole("evaluations", options.evaluations, 1, 10**6)
    model = load(options.checkpoint)

    def is_affordable(sampling: Sampling) -> bool:
        # The evaluations of an adaptive sampler depend on the image, and a gradient of the classifier is none.
        known = not SAMPLERS[sampling.sampler].adaptive and not sampling.classifier_scale
        return known and count_evaluations(model, sampling) <= options.evaluations

    best = find_best(read_metrics(options.checkpoint), is_affordable)
    if best is None:
        raise UserError(
            f"no setting of {options.checkpoint} with at most {options.evaluations} network evaluations was measured: "
            f"python -m ddpm_demo.evaluation samples --checkpoint {options.checkpoint}"
        )
    change_sampling(options.checkpoint, replace(sampling_of(best), seed=0))
    say(
        f"{options.checkpoint} starts with {describe_setting(sampling_of(best))}: FID {best['fid_test']:.3f} on "
        f"{best['setting']['samples']:,} samples, the best of the settings that were measured on so many and need at most "
        f"{options.evaluations} network evaluations"
    )


def run_compare(options: argparse.Namespace) -> None:
    """Print the comparison of checkpoints."""
    print("\n\n".join([compare_best(options.folders), compare_at_equal_time(options.folders)]))


def run_calls(options: argparse.Namespace) -> None:
    """Print the figures of a distilled checkpoint and of its teacher by network calls."""
    teacher, student = (read_metrics(folder).get("quality", []) for folder in options.folders)
    if not teacher or not student:
        raise UserError("both checkpoints must be measured first:  python -m ddpm_demo.evaluation samples")
    print(tabulate_calls(choose_rivals(teacher), student, partial(count_evaluations, load(options.folders[0]))))


def run_fidelity(options: argparse.Namespace) -> None:
    """Print how closely a distilled checkpoint follows its teacher."""
    check_whole("images", options.images, 1, 2**20)
    print(tabulate_fidelity(*(load(folder) for folder in options.folders), options.images))


def choose_rivals(teacher: list[dict]) -> list[dict]:
    """Return the cells of a teacher that were measured on the most samples, as far as their network calls are known.

    This leaves out adaptive samplers, and classifier guidance, which evaluates another network.
    """
    most = max(cell["setting"]["samples"] for cell in teacher)
    candidates = [(sampling_of(cell), cell) for cell in teacher if cell["setting"]["samples"] == most]
    return [
        cell
        for sampling, cell in candidates
        if not sampling.classifier_scale and not SAMPLERS[sampling.sampler].adaptive
    ]


def open_subject(options: argparse.Namespace) -> Subject:
    """Open the checkpoint, the data and the judge that the flags name."""
    return open_checkpoint(options.checkpoint, options.data_dir, options.classifier)


if __name__ == "__main__":
    sys.exit(main())
