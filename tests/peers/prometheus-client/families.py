"""Reads a page of metrics from the standard input; prints each family as a line of JSON. Anything unreadable is an error.

The library takes `_total` off the names of counters; what is printed has the names of the page.
"""
import json
import sys

from prometheus_client.parser import text_string_to_metric_families

text = sys.stdin.read()
types = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")]
assert len(types) == len(set(types)), "a family is there twice: %s" % sorted(
    {name for name in types if types.count(name) > 1}
)
for family in text_string_to_metric_families(text):
    name = family.name
    if family.type == "counter" and name not in types:
        name += "_total"
    assert name in types, name
    labels = set()
    for sample in family.samples:
        labels.update(sample.labels)
    values = [sample.value for sample in family.samples]
    print(
        json.dumps(
            {
                "name": name,
                "type": family.type,
                "help": family.documentation,
                "labels": sorted(labels - {"le", "sw_backend_instance"}),
                "samples": len(values),
                "instances": sorted(
                    {s.labels.get("sw_backend_instance", "") for s in family.samples}
                ),
            }
        )
    )
