"""Exports a checkpoint for the browser: its network as an ONNX file, and the facts that the JavaScript needs as JSON."""

import copy
import warnings
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from ddpm_demo.diffusion.schedule import ContinuousSchedule
from ddpm_demo.errors import UserError
from ddpm_demo.generation.generate import sampling_range
from ddpm_demo.models.checkpoint import Model

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18
TOLERANCE = 1e-3  # largest accepted difference of an exported output; outputs have a standard deviation of about 1


def export_network(model: Model) -> bytes:
    """Return the network as an ONNX file with inputs x (N, C, H, W), timestep (N,), label (N,) and an output like x.

    x and timestep are float32, label is int64 and may be the null label; N is free. Weights that half precision
    represents exactly are stored in half precision, which holds for the weights of every saved checkpoint. The table of a
    distilled network is stored as the sum of two small ones. Raises UserError for a checkpoint that the browser cannot run,
    if the packages for the export are missing, or if the exported network does not give the same output.
    """
    check_exportable(model)
    try:
        import onnx
        import onnxscript  # noqa: F401 the exporter of torch needs it
    except ImportError as error:
        raise UserError(f"the export needs two packages ({error}): pip install onnx onnxscript") from error
    net, inputs = split_table(model).denoiser.net.eval(), example_inputs(model, 2)
    batch = {0: torch.export.Dim("batch")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        program = torch.onnx.export(
            net, inputs, dynamo=True, dynamic_shapes=(batch,) * 3, opset_version=OPSET, external_data=False,
            input_names=["x", "timestep", "label"], output_names=["output"], verbose=False,
        )  # fmt: skip
    exported = halve_weights(strip(program.model_proto))
    onnx.checker.check_model(exported)
    check_same_output(model, exported)
    return exported.SerializeToString()


class SummedTable(nn.Module):
    """A table of embeddings as the sum of two: of the class with the weight, and of the number of steps."""

    def __init__(self, pairs: torch.Tensor, sizes: torch.Tensor):
        super().__init__()
        self.pairs, self.sizes = nn.Embedding.from_pretrained(pairs), nn.Embedding.from_pretrained(sizes)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the embeddings (N, width) of rows (N,) of the table."""
        steps = self.sizes.num_embeddings
        return self.pairs(rows // steps) + self.sizes(rows % steps)


def split_table(model: Model) -> Model:
    """Return a distilled model with its table of embeddings as a ``SummedTable``, and any other as it is.

    Training adds the embedding of the step size to the others and stores the sums in half precision (FactoredEmbedding in
    training/distillation.py). A table that is no such sum is left as it is.
    """
    if not model.distilled:
        return model
    adapter = model.denoiser.net
    table = adapter.net.class_embedding.weight.detach()
    grid = table.double().unflatten(0, (-1, len(model.distilled.steps)))
    pairs = grid[:, 0]  # with the first number of steps
    summed = SummedTable(pairs.float(), (grid - pairs[:, None]).mean(0).float())
    rounding = torch.finfo(torch.float16).eps * table.abs().max()
    if (summed(torch.arange(len(table))) - table).abs().max() > rounding:
        return model
    net = copy.copy(adapter.net)
    net._modules = adapter.net._modules | {"class_embedding": summed}
    return replace(model, denoiser=replace(model.denoiser, net=adapter.with_net(net)))


def check_exportable(model: Model) -> None:
    """Raise UserError unless the network diffuses pixels and takes no image."""
    if not model.codec.bounded:
        raise UserError("this checkpoint diffuses latents; the browser runs only checkpoints that diffuse pixels")
    if model.takes_image:
        raise UserError("the network of this checkpoint takes an image; the browser runs only networks without one")


def example_inputs(model: Model, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return x, timestep and label for ``count`` images; the labels include the first and the last of the network."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, *model.codec.shape(model.channels, model.image_size), generator=generator)
    timestep = torch.linspace(0.5, len(model.denoiser.schedule) - 1, count)
    return x, timestep, torch.linspace(0, model.denoiser.net.num_classes, count).long()


def strip(exported: "ModelProto") -> "ModelProto":
    """Remove what the exporter notes about the source code, such as file names; return the same object."""
    graph = exported.graph
    for part in (exported, graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return exported


def halve_weights(exported: "ModelProto") -> "ModelProto":
    """Store float32 weights as float16, where this loses nothing, with a Cast to float32; return the same object."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for weight in exported.graph.initializer:
        if weight.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(weight)
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if np.array_equal(halves.astype(np.float32), values):
            name = weight.name
            weight.CopyFrom(numpy_helper.from_array(halves, f"{name}_half"))
            casts.append(helper.make_node("Cast", [weight.name], [name], to=TensorProto.FLOAT))
    for position, cast in enumerate(casts):  # a node must come after those that give its inputs
        exported.graph.node.insert(position, cast)
    return exported


def check_same_output(model: Model, exported: "ModelProto") -> None:
    """Raise UserError unless the exported network gives the output of the network, for another number of images."""
    from onnx.reference import ReferenceEvaluator

    x, timestep, label = example_inputs(model, 3)
    with torch.no_grad():
        expected = model.denoiser.net(x, timestep, label).numpy()
    feeds = {"x": x.numpy(), "timestep": timestep.numpy(), "label": label.numpy()}
    (output,) = ReferenceEvaluator(exported).run(None, feeds)
    difference = float(np.abs(output - expected).max())
    if not difference <= TOLERANCE:
        raise UserError(
            f"the exported network differs from the checkpoint by {difference:.2g}, and at most {TOLERANCE:g} is allowed: "
            "these versions of torch and onnxscript cannot export it; try others"
        )


def describe_model(model: Model, name: str) -> dict:
    """Return the facts about a model that diffusion.js and the page need, for JSON.

    ``shape`` is that of one encoded image. ``betas`` is None for a training in continuous time. ``range`` holds the
    lowest and the highest log-SNR that sampling may visit. ``distilled`` is None except for a distilled model.
    """
    schedule = model.denoiser.schedule
    return {
        "name": name,
        "dataset": model.dataset,
        "label_names": list(model.label_names),
        "channels": model.channels,
        "image_size": model.image_size,
        "patch": model.codec.patch,
        "bounded": model.codec.bounded,
        "shape": list(model.codec.shape(model.channels, model.image_size)),
        "prediction": model.denoiser.prediction,
        "betas": None if isinstance(schedule, ContinuousSchedule) else schedule.betas.tolist(),
        "range": list(sampling_range(model)),
        "distilled": model.distilled and asdict(model.distilled),
        "sampling": model.sampling.as_dict(),
        "parameters": sum(weight.numel() for weight in model.denoiser.net.parameters()),
    }
