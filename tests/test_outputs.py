"""Displays and variables as a sandbox may send them: what is none is left out, and costs nobody anything."""

from __future__ import annotations

import json
import time

import pytest

from carrel.host import outputs
from carrel.host.codec import value_from
from carrel.host.outputs import display_from, variables_from
from carrel.models import Output, Value

DISPLAYS = {
    "nothing": b"",
    "no JSON": b"{",
    "no UTF-8": b'{"data": {"text/plain": "\xff"}}',
    "a list": b"[]",
    "no data": b'{"metadata": {}}',
    "no type": b'{"data": {}}',
    "data that is a list": b'{"data": [["text/plain", "x"]]}',
    "metadata that is a text": b'{"data": {"text/plain": "x"}, "metadata": "m"}',
    "a type that is none": b'{"data": {"text": "x"}}',
    "a type with a line end": json.dumps({"data": {"text/plain\r\nevent: result": "x"}}).encode(),
    "a type with a quote": json.dumps({"data": {'text/"html': "x"}}).encode(),
    "a type without end": json.dumps({"data": {"text/" + "x" * 300: "x"}}).encode(),
    "types without number": json.dumps({"data": {f"text/x-{number}": "" for number in range(100)}}).encode(),
    "a constant that JSON lacks": b'{"data": {"application/json": NaN}}',
    "a number without end": b'{"data": {"application/json": ' + b"9" * 10_000 + b"}}",
    "nested beyond the stack": b'{"data": {"application/json": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
    "nested just deep": b'{"data": {"application/json": ' + b"[" * 150 + b"]" * 150 + b"}}",
    "metadata nested": b'{"data": {"text/plain": ""}, "metadata": ' + b'{"a":' * 150 + b"1" + b"}" * 150 + b"}",
    "elements without number": b'{"data": {"application/json": [' + b"[]," * 1_100_000 + b"[]]}}",
    "a quote that never ends": b'{"data": {"text/plain": "' + b'\\"' * 1_000_000,
}


@pytest.mark.parametrize("document", DISPLAYS.values(), ids=DISPLAYS.keys())
def test_what_is_no_display_is_left_out_at_once(document: bytes) -> None:
    began = time.monotonic()

    assert display_from(document) is None
    assert time.monotonic() - began < 3


def test_displays_of_every_kind_come_through() -> None:
    """Text with anything in it, JSON types with JSON, types with parameters and suffixes, a picture of megabytes."""
    data = {
        "text/plain": "a\r\ndata: \u2028 😀 \x00",
        "text/html; charset=utf-8": "<b>1,2,[3]</b>" * 100_000,
        "image/png": "iVBOR" * 1_000_000,
        "application/vnd.vegalite.v5+json": {"data": [{"a": 1.5, "b": None}]},
        "application/json": [1, [2, [3]]],
    }

    assert display_from(json.dumps({"data": data}).encode()) == Output(data, {})
    assert display_from(json.dumps({"data": {"a/b": ""}, "metadata": {"a/b": {"width": 3}}}).encode()) == Output(
        {"a/b": ""}, {"a/b": {"width": 3}}
    )


@pytest.mark.parametrize("document", [b"", b"[1]", b"{", b'{"a": Infinity}', b'{"a": 1}{"a": 2}', b"[" * 100_000])
def test_variables_that_are_none_are_left_out(document: bytes) -> None:
    assert variables_from(document) == {}
    assert variables_from(b'{"a": {"b": [1, null]}}') == {"a": {"b": [1, None]}}


def test_the_bound_on_elements_does_not_count_what_is_in_texts() -> None:
    text = "," * (2 * outputs.MAX_ELEMENTS)

    assert variables_from(json.dumps({"a": text, "b": list(range(100_000))}).encode())["a"] == text


def test_the_documents_of_one_reply_share_the_bound_on_elements() -> None:
    """And lists of numbers stay as large as Python's guest sends them."""
    allowance = outputs.Allowance()
    display = b'{"data": {"application/json": [' + b"[]," * 300_000 + b"0]}}"
    shown = [display_from(display, allowance) is not None for _ in range(5)]

    assert shown == [True, True, True, False, False]
    assert value_from(json.dumps({"kind": "container", "json": list(range(1_100_000))}).encode())[1]


def test_a_value_of_very_many_elements_is_left_out_at_once() -> None:
    for element in (b"[],", b'"",', b'"\\\\",', b'{"":0},'):
        document = b'{"kind": "container", "json": [' + element * (16_000_000 // len(element)) + b"0]}"
        began = time.monotonic()

        assert value_from(document) == (Value(), False)
        assert time.monotonic() - began < 2
