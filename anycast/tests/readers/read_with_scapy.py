"""Reads BGP messages with scapy: a line of JSON in, a line of JSON out (reading.rs says what is in it)."""

import ipaddress
import json
import sys

from scapy.contrib import bgp

# scapy guesses by default whether path identifiers (RFC 7911) stand before prefixes; we know that none do.
bgp.detect_add_path_prefix46 = lambda *_: 0


def prefix(text):
    """The bits behind the length mean nothing; scapy shows them."""
    return str(ipaddress.ip_network(text, strict=False))


def capabilities(message):
    """Cut here by their lengths: scapy makes an object of the first one of a parameter only."""
    for parameter in message.opt_params:
        octets = bytes(parameter)[2:]
        while octets:
            length = 2 + octets[1]
            yield bgp.BGPCapability(octets[:length])
            octets = octets[length:]


def read_open(message):
    families, four_octet_as, route_refresh, asn = set(), False, False, message.my_as
    for capability in capabilities(message):
        if capability.code == 1 and capability.safi == 1:
            families.add(capability.afi)
        elif capability.code == 2:
            route_refresh = True
        elif capability.code == 65:
            four_octet_as, asn = True, capability.asn
    return {"open": {
        "asn": asn, "hold_time": message.hold_time, "identifier": message.bgp_id, "families": sorted(families),
        "four_octet_as": four_octet_as, "route_refresh": route_refresh,
    }}


def read_update(message):
    withdrawn, routes, classic = [prefix(one.prefix) for one in message.withdrawn_routes], {}, None
    out = {"origin": None, "as_path": [], "med": None, "local_pref": None, "communities": [],
           "large_communities": [], "extended_communities": [], "only_to_customer": None}
    for attribute in message.path_attr:
        code, value = attribute.type_code, attribute.attribute
        if code == 1:
            out["origin"] = value.origin
        elif code == 2 and value is not None:
            out["as_path"] = [(one.segment_type, one.segment_value) for one in value.segments]
        elif code == 3:
            classic = value.next_hop
        elif code == 4:
            out["med"] = value.med
        elif code == 5:
            out["local_pref"] = value.local_pref
        elif code == 8:
            out["communities"] = [value.community]
        elif code == 16:
            octets = bytes(value)
            out["extended_communities"] = [list(octets[at:at + 8]) for at in range(0, len(octets), 8)]
        elif code == 35:
            out["only_to_customer"] = int.from_bytes(bytes(value), "big")
        elif code == 14 and value.afi == 2:
            next_hop = value.nh_v6_addr if value.nh_addr_len == 16 else value.nh_v6_global
            next_hop = str(ipaddress.ip_address(next_hop))
            routes.update((prefix(one.prefix), next_hop) for one in value.nlri)
        elif code == 15 and value.afi == 2:
            withdrawn += [prefix(one.prefix) for one in value.afi_safi_specific.withdrawn_routes]
    routes.update((prefix(one.prefix), classic) for one in message.nlri)
    return {"update": {"withdrawn": withdrawn, "routes": routes, **out}}


def read(octets):
    message = bgp.BGPHeader(octets)
    body = message.payload
    if message.type == 1:
        return read_open(body)
    if message.type == 2:
        return read_update(body)
    if message.type == 3:
        return {"notification": {"code": body.error_code, "subcode": body.error_subcode}}
    if message.type == 4:
        return {"keepalive": {}}
    return {"refresh": {"afi": body.afi, "subtype": body.subtype, "safi": body.safi}}


for line in sys.stdin:
    asked = json.loads(line)
    bgp.bgp_module_conf.use_2_bytes_asn = not asked["four_octet"]
    try:
        answer = read(bytes.fromhex(asked["octets"]))
    except Exception as error:  # whatever it is, it is a refusal
        answer = {"refused": repr(error)}
    print(json.dumps(answer), flush=True)
