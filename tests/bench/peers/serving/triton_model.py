"""Triton's Python backend: one batch of requests through an ONNX Runtime session. Triton loads a copy."""

import json

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    """The file and the threads are parameters of the model's configuration; names are the configuration's own."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        told = {key: value["string_value"] for key, value in config["parameters"].items()}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(told["threads"])
        self._session = onnxruntime.InferenceSession(told["onnx"], options, providers=["CPUExecutionProvider"])
        self._ranks = {one.name: len(one.shape) for one in self._session.get_inputs()}
        self._output = config["output"][0]["name"]

    def execute(self, requests):
        columns = {
            name: [triton.get_input_tensor_by_name(request, name).as_numpy() for request in requests]
            for name in self._ranks
        }
        whole = {name: rows[0] if len(rows) == 1 else np.concatenate(rows) for name, rows in columns.items()}
        feed = {name: array.reshape(array.shape[: self._ranks[name]]) for name, array in whole.items()}
        answers = self._session.run([self._output], feed)[0]
        ends = np.cumsum([len(rows) for rows in next(iter(columns.values()))])[:-1]
        return [
            triton.InferenceResponse([triton.Tensor(self._output, np.ascontiguousarray(part))])
            for part in np.split(answers, ends)
        ]
