"""Metrics of OAL scripts and meters: what they store (8.1.0 spec, A.10, D.2 to D.5)."""

import re
import struct
from decimal import Decimal
from math import floor

RANKS = (50, 75, 90, 95, 99)
APDEX_MS = {"shop": 100}
APDEX_DEFAULT_MS = 300
METER_RANKS = (50, 75, 99)
NO_EDGE = -(2**31)


def to_int(number):
    """As Java casts: a whole number wraps, a fraction stops at the ends."""
    if isinstance(number, float):
        return max(-(2**31), min(2**31 - 1, int(number)))
    return (number + 2**31) % 2**32 - 2**31


def truncated(a, b):
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def single(number):
    return struct.unpack("f", struct.pack("f", number))[0]


def roofs(counts, ranks):
    total = sum(counts.values())
    return [floor(single(single(total * rank) / 100) + 0.5) for rank in ranks]


def at_ranks(counts, ranks):
    """Key at each rank, and the key after it."""
    found, passed, wanted = [], 0, roofs(counts, ranks)
    keys = sorted(counts)
    for at, key in enumerate(keys):
        passed += counts[key]
        while len(found) < len(wanted) and passed >= wanted[len(found)]:
            found.append((key, keys[at + 1] if at + 1 < len(keys) else None))
    return found


def literal(text):
    if text in ("true", "false"):
        return text == "true"
    if text.startswith('"'):
        return text[1:-1]
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    return float(text) if re.fullmatch(r"-?[\d.]+", text) else text.split(".")[-1]


class Condition:
    FORM = r'(\w+) ?(==|>=|<=|>|<) ?("[^"]*"|-?[\w.]+)'

    def __init__(self, attribute, operator, text):
        self.attribute, self.operator, self.literal = attribute, operator, literal(text)

    def holds(self, source):
        value = source[self.attribute]
        return {
            "==": lambda: value == self.literal, ">": lambda: value > self.literal, "<": lambda: value < self.literal,
            ">=": lambda: value >= self.literal, "<=": lambda: value <= self.literal,
        }[self.operator]()


class Metric:
    def __init__(self, statement):
        form = r"(\w+) ?= ?from\((\w+)\.(\w+|\*)\)(.*)\.(\w+)\(([^()]*)\)"
        name, self.scope, self.attribute, filters, self.function, arguments = re.fullmatch(form, statement).groups()
        self.name = name.lower()
        self.filters = [Condition(*parts) for parts in re.findall(rf"\.filter\({Condition.FORM}\)", filters)]
        assert len(self.filters) == filters.count("filter"), statement
        self.arguments = [argument.strip() for argument in arguments.split(",") if argument.strip()]

    def value(self, source):
        value = source.get(self.attribute)
        if self.function in ("longAvg", "sum", "max", "min"):
            return int(value)
        if self.function in ("doubleAvg", "maxDouble", "minDouble"):
            return float(value)
        return None if self.attribute == "*" else to_int(value)

    def columns(self, sources, bucket):
        """What all sources of a bucket come to."""
        values = [self.value(source) for source in sources]
        function, arguments, count = self.function, self.arguments, len(sources)
        if function in ("longAvg", "doubleAvg"):
            mean = truncated(sum(values), count) if function == "longAvg" else sum(values) / count
            return dict(summation=sum(values), count=count, value=mean)
        if function in ("sum", "count"):
            return dict(value=sum(values) if function == "sum" else count)
        if function in ("max", "maxDouble"):
            return dict(value=max(0, *values))
        if function in ("min", "minDouble"):
            return dict(value=min(values))
        if function == "cpm":
            return dict(total=count, value=count // {12: 1, 10: 60, 8: 1440}[len(str(bucket))])
        if function == "percent":
            condition = Condition(*re.fullmatch(Condition.FORM, arguments[0]).groups())
            matched = sum(condition.holds(source) for source in sources)
            return dict(total=count, match=matched, percentage=matched * 10000 // count)
        if function == "apdex":
            satisfied = tolerated = 0
            for source, latency in zip(sources, values):
                threshold = APDEX_MS.get(source[arguments[0]], APDEX_DEFAULT_MS)
                satisfied += source[arguments[1]] and latency < threshold
                tolerated += source[arguments[1]] and threshold <= latency < 4 * threshold
            score = (satisfied * 10000 + tolerated * 10000 // 2) // count
            return dict(total_num=count, s_num=satisfied, t_num=tolerated, value=score)
        if function == "histogram":
            step, steps = map(int, arguments)
            counts = {i * step: 0 for i in range(steps + 1)}
            for value in values:
                key = min(truncated(value, step), steps) * step
                counts[key] = counts.get(key, 0) + 1
            return dict(dataset=counts)
        precision, counts = int(arguments[0]), {}
        for value in values:
            key = truncated(value, precision)
            counts[key] = counts.get(key, 0) + 1
        if function == "percentile":
            ranks = {i: key * precision for i, (key, _) in enumerate(at_ranks(counts, RANKS))}
            return dict(value=ranks, precision=precision, dataset=counts)
        [(key, _)] = at_ranks(counts, [int(function[1:])])
        return dict(value=key * precision, precision=precision, detail_group=counts)


class Metrics:
    """Sources by metric, bucket and entity."""

    def __init__(self, scripts):
        self.by_scope, self.sources, self.shown = {}, {}, {}
        for script in scripts:
            script = re.sub(r"/\*.*?\*/", "", script, flags=re.S)
            script = re.sub(r"//.*", "", script)
            for statement in filter(None, (" ".join(s.split()) for s in script.split(";"))):
                metric = Metric(statement)
                self.by_scope.setdefault(metric.scope, []).append(metric)

    def tell(self, scope, entity, minute, source, shown):
        for metric in self.by_scope.get(scope, []):
            if all(condition.holds(source) for condition in metric.filters):
                for bucket in (minute, minute // 100, minute // 10000):
                    key = (metric, bucket, entity)
                    self.sources.setdefault(key, []).append(source)
                    self.shown[key] = shown

    def rows(self):
        for key, sources in self.sources.items():
            metric, bucket, entity = key
            yield metric.name, bucket, entity, dict(metric.columns(sources, bucket), **self.shown[key])


class Meters:
    """Values of the four rules of `meters.yaml`, by rule, bucket and entity."""

    def __init__(self):
        self.values = {}

    def tell(self, name, entity, minute, value):
        for bucket in (minute, minute // 100, minute // 10000):
            self.values.setdefault((name, bucket, entity), []).append(value)

    def report(self, report, minute, service, instance, endpoint):
        singles = [(one["is_labeled"], one["value"]) for one in report if one["value"] is not None]
        tables = [one["buckets"] for one in report if one["value"] is None]
        if singles:
            self.tell("meter_one", service, minute, int(sum(value for _, value in singles)))
        labeled = [float(Decimal(repr(value * 3)).scaleb(2)) for is_labeled, value in singles if is_labeled]
        if labeled:
            self.tell("meter_two", instance, minute, int(sum(labeled)))
        if tables:
            merged = {}
            for edge, count in (bucket for table in tables for bucket in table):
                edge = NO_EDGE if edge is None else int(edge)
                merged[edge] = merged.get(edge, 0) + count
            self.tell("meter_hist", endpoint, minute, merged)
            self.tell("meter_pct", instance, minute, merged)

    def rows(self):
        for (name, bucket, entity), values in self.values.items():
            yield name, bucket, entity, self.columns(name, values, entity)

    def columns(self, name, values, entity):
        count = len(values)
        if name in ("meter_one", "meter_two"):
            total = sum(values)
            mean = truncated(total, count)
            mean = 1 if mean == 0 and total > 0 else mean
            return dict(summation=total, count=count, value=mean, service_id=entity.split("_")[0])
        totals = {edge: sum(value[edge] for value in values) for edge in values[0]}
        means = {edge: truncated(total, count) for edge, total in totals.items()}
        columns = dict(summation=totals, count={edge: count for edge in totals}, dataset=means)
        if name == "meter_pct":
            found = zip(METER_RANKS, at_ranks(means, METER_RANKS))
            columns["value"] = {rank: 2**63 - 1 if after is None else after for rank, (_, after) in found}
            columns["ranks"] = "|".join(map(str, METER_RANKS))
        return columns
