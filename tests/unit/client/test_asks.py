"""Calls as values: what they say, without anybody who hears it."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maas.gateway.v1 import gateway_pb2
from maas.generation.v1 import generation_pb2
from maas.generation.v1 import generation_service_pb2 as generation_service
from maas_client import AsyncClient, Client, Step, ask
from maas_client.ask.gateway import READERS
from maas_client.ask.generation import OWN, Writing
from maas_client.call import Which
from maas_client.pictures import image


def test_every_field_of_generation_is_an_option_and_every_option_a_field() -> None:
    groups = ("Sampling", "Stopping", "Constraint", "Output")
    fields = [name for group in groups for name in getattr(generation_pb2, group).DESCRIPTOR.fields_by_name]
    assert len(fields) == len(set(fields)), "a name that stands for two fields"
    assert {*fields, *OWN, *Which.__annotations__} == set(Writing.__annotations__)
    prompt = {"text", "token_ids", "chat"}
    request = set(generation_service.GenerateRequest.DESCRIPTOR.fields_by_name)
    assert request - prompt - {"model", "version"} - {group.lower() for group in groups} == set(OWN)


def test_options_land_where_the_contract_has_them() -> None:
    how = {"temperature": 0.5, "stop": ["."], "choice": ["a", "b"], "logprobs": 2, "priority": 3, "timeout_s": 9.0}
    told = ask.generate("Once", model="tiny", **how)  # type: ignore[arg-type]
    request: Any = told.request
    assert (request.model, request.text, request.priority, told.how) == ("tiny", "Once", 3, {"timeout_s": 9.0})
    assert (request.sampling.temperature, list(request.stopping.stop)) == (0.5, ["."])
    assert list(request.constraint.choice.values) == ["a", "b"] and request.output.logprobs == 2
    assert not request.sampling.HasField("top_k")
    with pytest.raises(TypeError, match="temprature"):
        ask.generate("Once", temprature=1.0)  # type: ignore[call-arg]


def test_prompts_are_texts_ids_or_conversations() -> None:
    chat: Any = ask.generate([("system", "brief"), ("user", "hi")]).request
    assert [(turn.role, turn.content) for turn in chat.chat.messages] == [("system", "brief"), ("user", "hi")]
    ids: Any = ask.generate(np.array([1, 2], np.uint32)).request
    assert np.frombuffer(ids.token_ids.packed, "<u4").tolist() == [1, 2]
    with pytest.raises(ValueError, match="whole numbers"):
        ask.detokenize([[-1]])


def test_a_picture_is_a_file_its_bytes_an_array_or_an_image(tmp_path: Path) -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    (tmp_path / "cat.png").write_bytes(png.getvalue())
    for one in (tmp_path / "cat.png", str(tmp_path / "cat.png"), png.getvalue()):
        assert image(one).encoded == png.getvalue()
    for same in (pixels, Image.fromarray(pixels), Image.open(png)):
        assert image(same).pixels.data == pixels.tobytes() and list(image(same).pixels.shape) == [2, 2, 3]
    assert list(image(pixels[..., 0]).pixels.shape) == [2, 2, 1]
    with pytest.raises(ValueError, match="float64"):
        image(pixels.astype(float))
    with pytest.raises(TypeError, match="not int"):
        image(7)  # type: ignore[arg-type]


def test_an_image_that_lies_on_its_side_is_turned() -> None:
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    lying = Image.fromarray(pixels)
    lying.getexif()[0x0112] = 6  # turn by 90 degrees to the right
    assert image(lying).pixels.data == np.ascontiguousarray(np.rot90(pixels, -1)).tobytes()


def test_a_fan_out_takes_every_kind_of_call_of_the_contract() -> None:
    kinds = {field.name for field in gateway_pb2.Call.DESCRIPTOR.oneofs_by_name["request"].fields}
    replies = {field.name for field in gateway_pb2.CallResult.DESCRIPTOR.oneofs_by_name["reply"].fields}
    assert kinds == set(READERS) == replies - {"status"}
    request: Any = ask.fan_out({"a": ask.tokenize("x", timeout_s=0.5), "b": ask.embed_texts("y")}).request
    assert [(call.id, call.WhichOneof("request"), call.timeout_ms) for call in request.calls] == [
        ("a", "tokenize", 500),
        ("b", "embed_sequence", 0),
    ]
    with pytest.raises(ValueError, match="ListModels is no part of a fan-out"):
        ask.fan_out({"a": ask.models()})


def test_steps_bind_within_their_own_call() -> None:
    step = Step("count", ask.count_tokens([]), {"texts[0]": ("g2p.results[0].text", "It sounds {}")})
    request: Any = ask.run_steps([Step("g2p", ask.transduce("cat")), step]).request
    (binding,) = request.steps.values[1].bindings
    told = (binding.target_path, binding.source_path, binding.template)
    assert told == ("count_tokens.texts[0]", "g2p.results[0].text", "It sounds {}")


def test_inputs_of_a_pipeline_are_told_apart_by_their_type() -> None:
    picture = np.zeros((2, 2, 3), np.uint8)
    given = {
        "a": "x",
        "b": 3,
        "c": 0.5,
        "d": True,
        "e": ["x"],
        "f": [("user", "x")],
        "g": picture,
        "h": np.ones(3),
    }
    request: Any = ask.run_pipeline("describe", given).request  # type: ignore[arg-type]
    kinds = {name: request.inputs[name].WhichOneof("value") for name in given}
    assert list(kinds.values()) == ["text", "integer", "number", "flag", "texts", "chat", "image", "series"]


def test_both_clients_have_a_method_for_every_ask_with_its_words() -> None:
    for name in set(ask.__all__) - {"Step"}:
        for client in (Client, AsyncClient):
            assert getattr(client, name).__doc__ == getattr(ask, name).__doc__
