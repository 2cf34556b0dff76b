"""The one list of addresses that no session may reach."""

from __future__ import annotations

import ipaddress
import itertools
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.egress import addresses

PRIVATE = [
    "0.0.0.1", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.1.2.3", "169.254.1.1",
    "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.2", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255",
    "198.51.100.7", "203.0.113.7", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
]  # fmt: skip
METADATA = [
    "169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254",
]  # fmt: skip
SPELLINGS = [
    "::ffff:8.8.8.8", "::ffff:127.0.0.1", "::ffff:0:a9fe:a9fe", "::8.8.8.8", "::127.0.0.1", "64:ff9b::808:808", "64:ff9b::7f00:1",
    "64:ff9b:1::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
]  # fmt: skip
IPV6 = [
    "::", "::1", "100::1", "2001:db8::1", "2001:10::1", "2001:20::1", "3fff::1", "5f00::1", "fc00::1", "fd12:3456::1", "fe80::1",
    "fec0::1", "ff02::1", "ff0e::1", "4000::1", "8000::1", "c000::1",
]  # fmt: skip
PUBLIC = [
    "1.1.1.1", "8.8.8.8", "9.9.9.9", "93.184.216.34", "100.63.255.255", "100.128.0.1", "172.15.255.255", "172.32.0.1",
    "192.0.1.1", "198.17.255.255", "223.255.255.255", "168.63.129.15", "2606:4700:4700::1111", "2001:4860:4860::8888", "2a00::1",
]  # fmt: skip


@pytest.mark.parametrize("address", [*PRIVATE, *METADATA, *SPELLINGS, *IPV6])
def test_what_is_not_public_is_refused_with_a_word_for_it(address: str) -> None:
    """In any spelling, the clouds' own services included."""
    assert not addresses.is_public(address)
    assert addresses.refusal(address)


@pytest.mark.parametrize("address", METADATA)
def test_a_metadata_service_is_called_by_its_name(address: str) -> None:
    assert "metadata" in (addresses.refusal(address) or "")


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_may_be_reached(address: str) -> None:
    assert addresses.refusal(address) is None


@given(st.ip_addresses())
def test_the_set_for_the_packet_rules_is_the_same_list(address: addresses.Address) -> None:
    """Proxy and packet filter decide alike about every address."""
    in_set = any(address in network for network in addresses.special_ranges(address.version))
    assert in_set is not addresses.is_public(address)


@given(st.ip_addresses())
def test_python_calls_nothing_private_that_we_call_public(address: addresses.Address) -> None:
    """A second opinion: the standard library's own tables of IANA's registries."""
    if addresses.is_public(address):
        assert not (address.is_private or address.is_multicast or address.is_reserved or address.is_link_local)


@pytest.mark.parametrize("version", [4, 6])
def test_ranges_for_the_packet_rules_do_not_overlap(version: int) -> None:
    """nft refuses a set of intervals that overlap."""
    found = sorted(addresses.special_ranges(version), key=lambda each: int(each.network_address))
    for first, second in itertools.pairwise(found):
        assert int(first.broadcast_address) < int(second.network_address)


def test_a_carve_out_opens_its_own_range_only() -> None:
    ranges = addresses.parse_ranges(["10.1.0.0/16", "fd12::/64"])
    assert addresses.is_public("10.1.2.3", ranges)
    assert addresses.is_public("fd12::5", ranges)
    assert not addresses.is_public("10.2.0.1", ranges)
    assert not addresses.is_public("::ffff:10.1.2.3", ranges), "an IPv4 range opens no IPv6 spelling"


def test_a_range_never_opens_the_machine_itself() -> None:
    """Only the machine's own address, named alone, does."""
    wide, exact = addresses.parse_ranges(["10.0.0.0/8"]), addresses.parse_ranges(["10.0.0.5"])
    assert addresses.refusal("10.0.0.5", wide, is_own=True) == "this machine itself"
    assert addresses.refusal("10.0.0.5", exact, is_own=True) is None
    assert addresses.refusal("93.184.216.34", is_own=True) == "this machine itself"


@pytest.mark.parametrize("text", ["10.0.0.1/8", "example.org", "", "300.1.1.1", "0.0.0.0/0", "::/0"])
def test_a_carve_out_that_is_no_range_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="is "):
        addresses.parse_ranges([text])


def test_an_address_with_a_zone_is_refused() -> None:
    assert addresses.refusal(ipaddress.ip_address("fe80::1%eth0"), addresses.parse_ranges(["fe80::/10"]))


def test_the_machines_own_addresses_are_known() -> None:
    """Asked of the kernel: loopback in every spelling, the address of the default route, and none that is elsewhere."""
    for address in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "::"):
        assert addresses.is_own_address(address), address
    for address in ("93.184.216.34", "2606:4700::1"):
        assert not addresses.is_own_address(address), address
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("93.184.216.34", 9))
        except OSError:
            pytest.skip("this machine has no route out, so no address of its own to ask about")
        assert addresses.is_own_address(probe.getsockname()[0])
