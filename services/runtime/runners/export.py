"""Module → model.onnx with every free axis dynamic. Runs at publish time only, never while serving."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from services.runtime.runners.samples import synthesise
from services.runtime.store.manifest import Manifest

TRACE_ROWS = 3  # sizes 0 and 1 would be taken as constants
NOISY_LOGGERS = ("torch.onnx._internal.exporter._registration", "onnxscript.optimizer")


def export(module: nn.Module, manifest: Manifest, path: Path) -> None:
    """Trace `module` and write it to `path`, checked against the ONNX specification.

    Free axes are the -1 of the manifest's input shapes. Raises torch.onnx.OnnxExporterError when the module
    cannot be traced with them free.
    """
    (sample,) = synthesise(manifest, [TRACE_ROWS])
    axes = tuple(
        {axis: torch.export.Dim.DYNAMIC for axis, size in enumerate(spec.shape) if size < 0}
        for spec in manifest.inputs
    )
    with _quiet():
        torch.onnx.export(
            module.eval(),
            tuple(torch.from_numpy(sample[spec.name]) for spec in manifest.inputs),
            path,
            input_names=[spec.name for spec in manifest.inputs],
            output_names=[spec.name for spec in manifest.outputs],
            dynamic_shapes=axes,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    _strip(path)
    onnx.checker.check_model(path, full_check=True)


def _strip(path: Path) -> None:
    """Removes the exporter's notes: they hold paths of this machine, and the file's hash must not depend on it."""
    model = onnx.load(path)
    graph = model.graph
    noted: tuple[Any, ...] = (
        model,
        graph,
        *graph.node,
        *graph.value_info,
        *graph.input,
        *graph.output,
        *graph.initializer,
    )
    for part in noted:
        del part.metadata_props[:]
    onnx.save(model, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns about libraries it would like to have; nobody who publishes can act on that."""
    loggers = [logging.getLogger(name) for name in NOISY_LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
