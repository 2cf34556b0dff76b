"""What a list's rules mean, and what a session can ask for: text in, decision out."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.egress.gate import Gate
from carrel.egress.rules import MAX_RULES, matching, parse, parse_all, parse_target, target_of


@pytest.mark.parametrize(
    ("rule", "allowed", "refused"),
    [
        ("pypi.org", ["pypi.org:443", "pypi.org:80", "PyPI.org.:443"], ["pypi.org:8080", "www.pypi.org:443", "pypi.org.evil.example:443"]),
        ("*.pypi.org", ["a.pypi.org:443", "a.b.pypi.org:80"], ["pypi.org:443", "notpypi.org:443", "pypi.org.example:443"]),
        ("*", ["anything.example:443"], ["anything.example:22", "198.51.100.7:443"]),
        ("pypi.org:8443,9000-9010", ["pypi.org:8443", "pypi.org:9010"], ["pypi.org:443", "pypi.org:9011"]),
        ("pypi.org:*", ["pypi.org:1", "pypi.org:65535"], ["www.pypi.org:1"]),
        ("198.51.100.0/24", ["198.51.100.255:443"], ["198.51.101.0:443", "198.51.100.7:22", "198.51.100.7.example:443"]),
        ("198.51.100.7:22", ["198.51.100.7:22"], ["198.51.100.8:22", "[::ffff:198.51.100.7]:22"]),
        ("2001:db8::/32", ["[2001:db8::1]:443"], ["[2001:db9::1]:443", "198.51.100.7:443"]),
        ("[2001:db8::1]:8443", ["[2001:DB8:0::1]:8443"], ["[2001:db8::2]:8443"]),
        ("bücher.example", ["xn--bcher-kva.example:443"], ["bucher.example:443"]),
        ("my_host.example", ["MY_HOST.example:443"], []),
    ],
)  # fmt: skip
def test_a_rule_covers_what_it_names_and_nothing_near_it(rule: str, allowed: list[str], refused: list[str]) -> None:
    rules = [parse(rule)]

    assert [each for each in allowed if not matching(rules, parse_target(each))] == []
    assert [each for each in refused if matching(rules, parse_target(each))] == []


@pytest.mark.parametrize(
    "text",
    ["", " ", "http://pypi.org", "pypi.org/simple", "pypi.org:", "pypi.org:0", "pypi.org:65536", "pypi.org:9-8", "a b", "*.", "*.*.org",
     "a*.org", "10.0.0.1/8", "10.0.0.300", "[10.0.0.1]:80", "[2001:db8::1", "2130706433",
     "0x7f.1", "-a.org", "a..b", "a" * 64 + ".org", "user@pypi.org"],
)  # fmt: skip
def test_what_is_no_rule_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)


@pytest.mark.parametrize(
    "text",
    ["pypi.org", "pypi.org:x", "pypi.org:0", "pypi.org:99999", ":443", "pypi.org:443,80", "2130706433:80", "127.1:80", "0x7f.0.0.1:80",
     "0177.0.0.1:80", "017700000001:80", "[fe80::1%eth0]:80", "::1:80", "a b:80", "a\tb:80", "é:80x", "*:80", "a.*:80"],
)  # fmt: skip
def test_a_target_is_a_name_or_an_address_in_its_plain_spelling(text: str) -> None:
    """What resolvers would take for an address in an old spelling is no name, whatever a rule says about names."""
    with pytest.raises(ValueError, match=r"."):
        parse_target(text)


def test_a_list_is_bounded() -> None:
    """It is looked through for every connection."""
    with pytest.raises(ValueError, match=r"more than 256"):
        parse_all([f"host{number}.example" for number in range(MAX_RULES + 1)])


@given(st.text(max_size=40))
def test_any_text_is_a_rule_or_a_value_error(text: str) -> None:
    try:
        rule = parse(text)
    except ValueError:
        return
    assert parse(rule.text) == rule


@given(st.text(max_size=40), st.integers(1, 65_535))
def test_any_host_is_a_target_or_a_value_error(text: str, port: int) -> None:
    """One that is has one spelling, which means itself."""
    try:
        target = target_of(text, port)
    except ValueError:
        return
    assert parse_target(str(target)) == target


class _Names:
    """A name service that answers differently each time, as one that is out to fool the check does."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, _port: int) -> list[str]:
        self.asked.append(host)
        return list(self._answers.pop(0))


@pytest.mark.anyio
async def test_a_name_is_resolved_once_and_every_address_is_checked() -> None:
    """Of several addresses those are connected to that passed; a private one among them is left out, in any spelling."""
    names = _Names(["93.184.216.34", "10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a00:1", "127.0.0.1"])
    gate = Gate(names)
    gate.set_rules("pool", ["fooling.example"])

    verdict = await gate.check("pool", parse_target("fooling.example:443"), asyncio.Semaphore(1))

    assert verdict.addresses == [ipaddress.ip_address("93.184.216.34")]
    assert len(verdict.candidates) == 5
    assert names.asked == ["fooling.example"]


@pytest.mark.anyio
async def test_a_name_that_nothing_names_is_never_resolved() -> None:
    """A query for a name of the code's own making would carry what it wants out; ranges allow no names."""
    names = _Names(["198.51.100.7"])
    gate = Gate(names)
    gate.set_rules("pool", ["listed.example", "0.0.0.0/0"])

    verdict = await gate.check("pool", parse_target("c2VjcmV0.evil.example:443"), asyncio.Semaphore(1))

    assert (verdict.rule, names.asked) == (None, [])


@pytest.mark.anyio
async def test_a_carve_out_opens_what_it_names() -> None:
    gate = Gate()
    gate.set_rules("pool", ["0.0.0.0/0"])
    target = parse_target("10.1.2.3:443")
    assert (await gate.check("pool", target, asyncio.Semaphore(1))).reason == "10.1.2.3 is a private range"

    gate.configure(["10.1.0.0/16"])

    assert (await gate.check("pool", target, asyncio.Semaphore(1))).reason == ""
    assert (
        await gate.check("pool", parse_target("10.2.0.1:443"), asyncio.Semaphore(1))
    ).reason == "10.2.0.1 is a private range"
