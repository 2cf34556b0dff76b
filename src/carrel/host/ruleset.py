"""The packet rules of raw egress, as text for nft(8): what a sandbox with a link may reach. The page a reviewer reads alone.

Two tables. *Inside*, in the cell block's network namespace, where every sandbox's link ends (`s…`) and one link leads out (`up`): it keeps
sandboxes apart, holds every sender to its own address, bounds connections, and answers what is refused with an ICMP error, so that code
sees a clear error at once. *Outside*, on the host, for the other end of `up`: the same refusals again and every address of the host, which
only the host knows; whoever should come to rule the cell block still meets it. Nothing is ever started towards a sandbox.

A table's rules hold for its server's links only, by name, and add up with whatever other tables the host has: nothing here accepts a
packet that another table refuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from carrel.backends import links
from carrel.egress.addresses import Range, special_ranges

REFUSE = "reject with icmpx admin-prohibited"


def inside(table: str, carve_outs: Sequence[Range], host: Sequence[Range] = ()) -> str:
    """For the cell block's namespace. `host`: addresses of the host that have to be refused here, for want of rules outside."""
    return f"""
table inet {table} {{
{_sets(carve_outs)}
  set host4 {{ type ipv4_addr; flags interval; auto-merge; {_elements(host, 4)} }}
  set host6 {{ type ipv6_addr; flags interval; auto-merge; {_elements(host, 6)} }}
  set flows4 {{ type ipv4_addr; flags dynamic; size 65536; }}
  set flows6 {{ type ipv6_addr; flags dynamic; size 65536; }}
  set rates4 {{ type ipv4_addr; flags dynamic,timeout; timeout 1m; size 65536; }}
  set rates6 {{ type ipv6_addr; flags dynamic,timeout; timeout 1m; size 65536; }}

  chain senders {{
    type filter hook prerouting priority raw; policy accept;
    iifname "s*" fib saddr . iif oif missing drop comment "only by the link that leads back to the sender"
  }}
  chain input {{
    type filter hook input priority filter; policy drop;
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
    ct state established,related accept
    iifname "s*" {REFUSE}
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    iifname "up" oifname "s*" ct state established,related accept
    iifname "s*" oifname "s*" {REFUSE}
    iifname "s*" oifname "up" jump out
  }}
  chain out {{
    ct state invalid drop
    ct state established,related accept
    ip daddr @host4 {REFUSE}
    ip6 daddr @host6 {REFUSE}
{_refusals()}
  }}
  chain allowed {{
    meta l4proto != {{ tcp, udp }} {REFUSE}
    meta nfproto ipv4 add @rates4 {{ ip saddr limit rate over {links.FLOWS_PER_SECOND}/second burst {links.FLOWS} packets }} {REFUSE}
    meta nfproto ipv6 add @rates6 {{ ip6 saddr limit rate over {links.FLOWS_PER_SECOND}/second burst {links.FLOWS} packets }} {REFUSE}
    meta nfproto ipv4 add @flows4 {{ ip saddr ct count over {links.FLOWS} }} {REFUSE}
    meta nfproto ipv6 add @flows6 {{ ip6 saddr ct count over {links.FLOWS} }} {REFUSE}
    tcp flags syn tcp option maxseg size set rt mtu
    accept
  }}
  chain sources {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname "up" masquerade
  }}
}}
"""


def host_addresses(table: str, host: Sequence[Range]) -> str:
    """What the host has now, in place of what it had."""
    lines = []
    for version in (4, 6):
        lines.append(f"flush set inet {table} host{version}")
        if texts := [str(each) for each in host if each.version == version]:
            lines.append(f"add element inet {table} host{version} {{ {', '.join(texts)} }}")
    return "\n".join(lines) + "\n"


def guard(table: str, made_forwarding: Mapping[int, Iterable[str]]) -> str:
    """What keeps interfaces from passing on between others, in place of what did: those that forward only because we asked for it."""
    lines = [f"flush chain inet {table} guard"]
    for version, names in made_forwarding.items():
        listed = ", ".join(f'"{name}"' for name in sorted(names))
        rule = f'meta nfproto ipv{version} iifname {{ {listed} }} oifname != "{links.PREFIX}*" drop'
        lines += [f"add rule inet {table} guard {rule}"] if listed else []
    return "\n".join(lines) + "\n"


def outside(table: str, link: str, carve_outs: Sequence[Range], trial: str, *, forgets: bool = True) -> str:
    """For the host: `link` is its end of `up`.

    `trial`: the link of the canary's made destination (`host/trial.py`), which lies in no public range. `forgets`: whether this kernel can
    be told to forget these connections sooner than the host's own, which it keeps for 5 days.
    """
    timeouts, forget = _forgetting() if forgets else ("", "")
    alone = [each for each in carve_outs if each.num_addresses == 1]
    return f"""
table inet {table} {{
{_sets(carve_outs)}
  set own4 {{ type ipv4_addr; flags interval; {_elements(alone, 4)} }}
  set own6 {{ type ipv6_addr; flags interval; {_elements(alone, 6)} }}
{timeouts}
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname != "{link}" accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
    meta l4proto {{ tcp, udp }} ip daddr @own4 accept
    meta l4proto {{ tcp, udp }} ip6 daddr @own6 accept
    {REFUSE}
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname "{link}" oifname "{trial}" accept
    oifname "{link}" ct state established,related accept
    oifname "{link}" drop
    iifname != "{link}" accept
    ct state invalid drop
    ct state established,related accept
    ct status dnat {REFUSE} comment "what the host publishes under an address of its own"
{_refusals()}
  }}
  chain allowed {{
    meta l4proto != {{ tcp, udp }} {REFUSE}
    ct count over {links.ALL_FLOWS} {REFUSE}
{forget}
    tcp flags syn tcp option maxseg size set rt mtu
    accept
  }}
  chain guard {{
    type filter hook forward priority filter - 1; policy accept;
  }}
  chain sources {{
    type nat hook postrouting priority srcnat; policy accept;
    iifname "{link}" masquerade
  }}
}}
"""


def _forgetting() -> tuple[str, str]:
    """Objects and rules that set links.IDLE_S: connections of killed sessions, which nobody closes, would use up the server's share."""
    families = ((4, "ip"), (6, "ip6"))
    policy = f"policy = {{ established : {links.IDLE_S} }}"
    objects = [
        f"  ct timeout idle{each} {{\n    protocol tcp\n    l3proto {name}\n    {policy}\n  }}"
        for each, name in families
    ]
    rules = [f'    meta nfproto ipv{each} meta l4proto tcp ct timeout set "idle{each}"' for each, _name in families]
    return "\n".join(objects), "\n".join(rules)


def _refusals() -> str:
    return f"""\
    ip daddr @open4 goto allowed
    ip6 daddr @open6 goto allowed
    ip daddr @special4 {REFUSE}
    ip6 daddr @special6 {REFUSE}
    goto allowed"""


def _sets(carve_outs: Sequence[Range]) -> str:
    return "\n".join(
        f"  set {name}{version} {{ type {kind}; flags interval; auto-merge; {_elements(ranges, version)} }}"
        for version, kind in ((4, "ipv4_addr"), (6, "ipv6_addr"))
        for name, ranges in (("special", special_ranges(version)), ("open", carve_outs))
    )


def _elements(ranges: Iterable[Range], version: int) -> str:
    texts = [str(each) for each in ranges if each.version == version]
    return f"elements = {{ {', '.join(texts)} }};" if texts else ""
