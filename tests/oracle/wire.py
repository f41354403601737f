"""Messages as their bytes: fields by number, as the spec numbers them (8.1.0 spec, A)."""

import struct


def varint(number):
    number &= (1 << 64) - 1
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def message(fields):
    """Bytes of (number, value) pairs: int, bool, float (double), str, bytes (a message), or a list of them."""
    encoded = b""
    for number, value in fields:
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, (bool, int)):
                encoded += varint(number << 3) + varint(int(one))
            elif isinstance(one, float):
                encoded += varint(number << 3 | 1) + struct.pack("<d", one)
            else:
                one = one.encode() if isinstance(one, str) else one
                encoded += varint(number << 3 | 2) + varint(len(one)) + one
    return encoded


def pair(key, value):
    return message([(1, key), (2, value)])


def reference(r):
    return message([
        (1, r["type"]), (2, "trace"), (3, "parent"), (4, 1), (5, r["service"]), (6, r["instance"]), (7, r["endpoint"]),
        (8, r["address"]),
    ])


def span(s):
    return message([
        (1, s["id"]), (2, s["id"] - 1), (3, s["start"]), (4, s["end"]), (5, [reference(r) for r in s["refs"]]), (6, s["name"]),
        (7, s["peer"]), (8, s["type"]), (9, s["layer"]), (10, s["component"]), (11, s["is_error"]),
        (12, [pair(*tag) for tag in s["tags"]]), (14, s["is_skipped"]),
    ])


def segment(s):
    return message([
        (1, s["trace"]), (2, s["id"]), (3, [span(one) for one in s["spans"]]), (4, s["service"]), (5, s["instance"]),
    ])


def mesh(m):
    return message([
        (1, m["start"]), (2, m["start"] + 5), (3, m["source"]), (4, m["source_instance"]), (5, m["dest"]),
        (6, m["dest_instance"]), (7, m["endpoint"]), (8, m["latency"]), (9, m["code"]), (10, m["is_ok"]), (11, m["protocol"]),
        (12, m["point"]),
    ])


def jvm(report):
    def metric(m):
        memory = [message([(1, heap), (2, 1), (3, most), (4, used), (5, 3)]) for heap, most, used in m["memory"]]
        pools = [message([(1, kind), (4, used)]) for kind, used in m["pools"]]
        gc = [message([(1, phrase), (2, count), (3, time)]) for phrase, count, time in m["gc"]]
        cpu = [] if m["cpu"] is None else [message([(2, m["cpu"])])]
        threads = [] if m["threads"] is None else [message(list(zip((1, 2, 3), m["threads"])))]
        return message([(1, m["time"]), (2, cpu), (3, memory), (4, pools), (5, gc), (6, threads)])

    return message([(1, [metric(m) for m in report["metrics"]]), (2, report["service"]), (3, report["instance"])])


def clr(report):
    def metric(m):
        cpu = [] if m["cpu"] is None else [message([(2, m["cpu"])])]
        gc = [] if m["gc"] is None else [message(list(zip((1, 2, 3, 4), m["gc"])))]
        threads = [] if m["threads"] is None else [message(list(zip((1, 2, 3, 4), m["threads"])))]
        return message([(1, m["time"]), (2, cpu), (3, gc), (4, threads)])

    return message([(1, [metric(m) for m in report["metrics"]]), (2, report["service"]), (3, report["instance"])])


def meter(m):
    labels = [pair("k", "v")] if m["is_labeled"] else []
    if m["value"] is not None:
        body = (1, message([(1, "one"), (2, labels), (3, m["value"])]))
    else:
        buckets = [message([(1, edge or 0.0), (2, count), (3, edge is None)]) for edge, count in m["buckets"]]
        body = (2, message([(1, "hist"), (2, labels), (3, buckets)]))
    return message([body, (3, m["service"]), (4, m["instance"]), (5, m["time"])])


def envoy(m):
    """The first message of a stream says who sends."""

    def family(name, kind, metrics):
        values = [message([(2, message([(1, value)])), (6, time)]) for value, time in metrics]
        return message([(1, name), (3, kind), (4, values)])

    identifier = [] if m["node"] is None else [message([(1, message([(1, m["node"]), (2, m["cluster"])]))])]
    return message([(1, identifier), (2, [family(*one) for one in m["families"]])])


def mixer(instances):
    def value(one):
        if isinstance(one, str):
            return message([(1, one)])
        if isinstance(one, int):
            return message([(2, one)])
        seconds, nanos = one
        return message([(6, message([(1, message([(1, seconds), (2, nanos)]))]))])

    def instance(dimensions):
        return message([(2, [message([(1, key), (2, value(one))]) for key, one in dimensions.items()])])

    return message([(1, [instance(one) for one in instances])])


def properties(m):
    return message([(1, m["service"]), (2, m["instance"]), (3, [pair(*one) for one in m["properties"]])])


def ping(m):
    return message([(1, m["service"]), (2, m["instance"])])
