"""Makes random messages and says what a server must store of them, as a second reading of the spec (`rules.py`).

usage: oracle.py SEED NOW_MS OFFSET SCRIPTS FOLDER

OFFSET is the distance of the server's time zone from UTC in minutes, SCRIPTS the folder of the shipped scripts of metrics.
Writes into FOLDER the configuration of the server (`config/`), its environment (`environment.json`), calls in their order
(`calls.jsonl`), and rows (`expected.jsonl`).
"""

import base64
import json
import pathlib
import random
import sys
from datetime import timedelta, timezone

import functions
import rules
import wire

SCRIPT = r"""
x_p50 = from(Endpoint.latency).p50(7);
x_p75 = from(Endpoint.latency).p75(10);
x_p90 = from(ServiceInstance.latency).p90(1);
x_p95 = from(Service.latency).p95(100);
x_p99 = from(All.latency).p99(10);
x_count = from(Endpoint.latency).filter(latency >= 100).count();
x_max = from(Service.latency).max();
x_min = from(Service.latency).min();
x_max_double = from(Endpoint.latency).maxDouble();
x_min_double = from(Endpoint.latency).minDouble();
x_failed = from(Service.latency).filter(status == false).doubleAvg();
x_codes = from(Service.responseCode).sum();
x_logic = from(Endpoint.latency).filter(type == RequestType.LOGIC).sum();
x_databases = from(ServiceRelation.latency).filter(type == RequestType.DATABASE).filter(latency > -3).sum();
x_proxy = from(ServiceRelation.*).filter(type == RequestType.gRPC).filter(detectPoint == DetectPoint.PROXY).cpm();
x_nginx = from(ServiceRelation.*).filter(componentId == 6000).cpm();
x_percent = from(Service.*).percent(responseCode >= 400);
x_histogram = from(Endpoint.latency).filter(latency < 5000).histogram(50, 7);
x_source = from(ServiceRelation.latency).filter(sourceServiceInstanceName == "shop-1").sum();
x_dest = from(ServiceRelation.latency).filter(destServiceInstanceName == "shop-1").sum();
x_called = from(ServiceRelation.*).filter(endpoint == "/a").cpm();
x_mesh_called = from(ServiceInstanceRelation.*).filter(endpoint == "/m/{id}").cpm();
x_child = from(EndpointRelation.rpcLatency).filter(childEndpoint == "/a").filter(serviceName == "web").sum();
x_child_instance = from(EndpointRelation.*).filter(childServiceInstanceName == "shop-1").filter(responseCode <= 404).cpm();
x_all = from(All.latency).filter(endpointName == "/a").filter(serviceName == "shop").sum();
x_all_instance = from(All.*).filter(serviceInstanceName == "shop-1").cpm();
x_service = from(Service.*).filter(name == "shop").filter(endpointName == "/a").cpm();
x_database_type = from(DatabaseAccess.databaseTypeId).filter(name == "db:1").max();
x_database_failed = from(DatabaseAccess.*).percent(status == false);
x_apdex = from(Endpoint.latency).apdex(serviceName, status);
x_pool = from(ServiceInstanceJVMMemoryPool.used).filter(poolType == MemoryPoolType.METASPACE_USAGE).longAvg();
x_gc = from(ServiceInstanceJVMGC.count).longAvg();
x_busy = from(ServiceInstanceJVMCPU.usePercent).filter(usePercent > 0.5).percentile(10);
x_cpu = from(ServiceInstanceJVMCPU.usePercent).sum();
x_heap = from(ServiceInstanceCLRGC.heapMemory).filter(gen0CollectCount == 1).min();
"""
METERS = """
meters:
- {name: one, scope: {type: SERVICE}, meter: {operation: avg, value: 'meter["one"]'}}
- {name: two, scope: {type: SERVICE_INSTANCE}, meter: {operation: avg, value: 'meter["one"].tagFilter("k", "v").multiply(3).scale(2)'}}
- {name: hist, scope: {type: ENDPOINT, endpoint: /a}, meter: {operation: avgHistogram, value: 'meter["hist"]'}}
- {name: pct, scope: {type: SERVICE_INSTANCE}, meter: {operation: avgHistogramPercentile, percentile: [99, 50, 75], value: 'meter["hist"]'}}
"""
SCRIPTS = ("core", "java-agent", "dotnet-agent", "envoy")
ENVIRONMENT = {
    "SW_TRACE_SAMPLE_RATE": rules.SAMPLE_RATE,
    "SW_SLOW_DB_THRESHOLD": f"default:{rules.SLOW_DEFAULT_MS},mongodb:{rules.SLOW_MS['mongodb']}",
    "SW_SERVICE_NAME_MAX_LENGTH": rules.SERVICE_LIMIT,
    "SW_INSTANCE_NAME_MAX_LENGTH": rules.INSTANCE_LIMIT,
    "SW_ENDPOINT_NAME_MAX_LENGTH": rules.ENDPOINT_LIMIT,
    "SW_CORE_ACTIVE_EXTRA_MODEL_COLUMNS": "true",
    "SW_RECEIVER_METER": "default",
}
# Who answers where.
ADDRESSES = {"known:1": ("stock", "stock-1"), "known:2": ("stock", "stock-instance")}
DAY_MS = 86_400_000

SERVICES = ["shop", "shop", "web", "neg", "ü-service", "n" * 11 + "ab", "x" * 80, "sho\U0001F600p", "n" * 11 + "\U0001F600"]
INSTANCES = ["shop-1", "shop-1", "i-2", "j" * 75, "instance-1"]
ENDPOINTS = ["/a", "/a", "/o/12", "/o/7", "/o/ab", "nn", "yx", "y", "", "/long/" + "p" * 160]
PEERS = ["db:1", "known:1", "known:1", "known:2", "db:1" + "d" * 80, "edge:8080", ""]
REPORTED = ["shop:80", "edge:8080", "edge2:80", "edge3:80", "edge", "", "a" * 80]
TAGS = {
    "status_code": ["200", "404", "500", "x", "+7", "-3", "99999999999", ""],
    "db.type": ["sql", "MongoDB", "mongodb", ""],
    "db.statement": ["select 1", "", "s" * 2100],
    "x-le": [
        '{"logic-span":true}', '{"name":"/o/5","latency":150,"status":true}', '{"name":"a","latency":"12","status":"TRUE"}',
        '{"name":"b","latency":3.7,"status":"x"}', '{"name":"q"}', "{bad", '{"name":7,"latency":99999999999,"status":false}',
    ],
    "other": ["1"],
}


class Traffic:
    def __init__(self, seed, now_ms):
        self.random, self.now_ms = random.Random(seed), now_ms

    def one(self, *choices):
        return self.random.choice(choices)

    def often(self, share):
        return self.random.random() < share

    def number(self, below):
        return self.random.randrange(below)

    def when(self):
        now = self.now_ms
        midnight = now // DAY_MS * DAY_MS
        return self.one(now - self.number(1_800_000), now - self.number(2 * DAY_MS), now // 60_000 * 60_000, midnight - 1, midnight)

    def latency(self):
        edges = (0, -1, -99, -100, -250, 100, 399, 400, 2000, 2099, 5000, 100_000)
        return self.one(self.number(50), self.number(3000), self.number(3000), self.one(*edges))

    def reference(self):
        return dict(
            type=self.one(0, 0, 1, 3), service=self.one("web", "shop", "", "n" * 14), instance=self.one("", *INSTANCES),
            endpoint=self.one(*ENDPOINTS), address=self.one(*REPORTED),
        )

    def span(self, number):
        start = self.when()
        keys = [self.one(*TAGS) for _ in range(self.number(4))]
        return dict(
            id=number + self.often(0.1), start=start, end=start + self.latency(), name=self.one(*ENDPOINTS),
            peer=self.one(*PEERS), type=self.one(0, 0, 0, 1, 1, 2, 9), layer=self.one(0, 1, 1, 2, 3, 4, 5, 7),
            component=self.one(1, 2, 33, rules.NGINX), is_error=self.often(0.3), is_skipped=self.often(0.1),
            refs=[self.reference() for _ in range(self.one(0, 0, 0, 1, 1, 2, 3))],
            tags=[(key, self.one(*TAGS[key])) for key in keys],
        )

    def segment(self, number):
        spans = [self.span(i) for i in range(self.number(6))]
        self.random.shuffle(spans)
        return dict(
            trace=f"trace-{self.number(50)}", id=f"segment-{number}-{self.number(10**9)}", service=self.one(*SERVICES),
            instance=self.one(*INSTANCES), spans=spans,
        )

    def mesh(self):
        return dict(
            start=self.when(), source=self.one("", "mesh-a", "mesh-b", "n" * 14), source_instance=self.one("", *INSTANCES),
            dest=self.one("mesh-a", "mesh-b", "shop"), dest_instance=self.one("", *INSTANCES),
            endpoint=self.one("/m/3", "/m/x", "/a", "", "m" * 160), latency=self.latency(), code=self.one(0, 200, 404, 503),
            is_ok=self.often(0.5), protocol=self.one(0, 1, 2, 5), point=self.one(0, 1, 1, 2, 5),
        )

    def report(self, metric):
        metrics = [dict(metric(), time=self.when()) for _ in range(1 + self.number(3))]
        return dict(service=self.one(*SERVICES), instance=self.one(*INSTANCES), metrics=metrics)

    def jvm(self):
        return dict(
            cpu=self.one(None, 0.25, 1.5, 33.125, 1000.0),
            memory=[(self.often(0.5), self.number(2**40) - 1, self.number(2**40)) for _ in range(self.number(3))],
            pools=[(self.number(7), self.number(99)) for _ in range(self.number(3))],
            gc=[(self.number(3), self.number(9), self.number(99)) for _ in range(self.number(3))],
            threads=self.one(None, (self.number(99), self.number(9), self.number(999))),
        )

    def clr(self):
        return dict(
            cpu=self.one(None, 0.5, 7.0), gc=self.one(None, (self.number(3), 2, self.number(3), self.number(2**40))),
            threads=self.one(None, tuple(self.number(9) for _ in range(4))),
        )

    def meters(self):
        service, instance, time = self.one(*SERVICES), self.one(*INSTANCES), self.when()
        report = []
        for i in range(1 + self.number(5)):
            # Only the first of a stream says who reports.
            origin = dict(service=service, instance=instance, time=time) if i == 0 else dict(service="", instance="", time=0)
            value = self.one(None, 1.5, 0.0, -2.25, 0.57, -0.4, 1e6, self.random.random() * 1000)
            buckets = [(edge, self.one(0, 0, 1, self.number(50))) for edge in (None, 5.0, 10.9, 250.0)]
            report.append(dict(origin, value=value, buckets=buckets, is_labeled=self.often(0.5)))
        return report


    def properties(self):
        values = ["10.0.0.1", "x<y>&='z'", "", "ü\U0001F600", 'a"\\b\tc']
        pairs = [(self.one("ipv4", "ipv4", "ipv4s", "language", "OS Name", "'=' "), self.one(*values)) for _ in range(self.number(5))]
        return dict(service=self.one("quiet", *SERVICES), instance=self.one(*INSTANCES), properties=pairs)

    def gauges(self):
        names = ["server.memory_heap_size", "server.total_connections", "server.parent_connections", "server.live"]

        def value():
            time = self.when()
            return self.one(0.0, -1.5, 7.25, 1e9), self.one(time, time, time * 10**6 + 999_999)

        families = [(self.one(*names), self.one(0, 1, 1, 3), [value() for _ in range(self.number(3))]) for _ in range(4)]
        node = self.one(("proxy-" + "p" * 80, "shop"), ("proxy-1", ""), ("", "edge"))
        return dict(node=node[0], cluster=node[1], families=families)

    def dimensions(self):
        time = self.when()
        begin, end = time * 10**6 + self.number(10**6), (time + abs(self.latency())) * 10**6 + 999_999
        told = dict(
            requestMethod=self.one("GET", "POST"), requestPath=self.one("/a", "/m/3"), requestScheme=self.one("", "http", "https"),
            responseCode=self.one(0, 200, 399, 400, 503), reporter=self.one("source", "destination", ""),
            apiProtocol=self.one("", "grpc", "http"), requestTime=divmod(begin, 10**9), responseTime=divmod(end, 10**9),
            sourceService=self.one("", "mesh-a", "mesh-b"), sourceUID=self.one(*INSTANCES), destinationService=self.one("mesh-a", "shop"),
            destinationUID=self.one(*INSTANCES),
        )
        if self.often(0.5):
            told.update(sourceNamespace="ns", destinationNamespace=self.one("ns", "default"))
        return told


class Story:
    """Calls and what they come to."""

    def __init__(self, metrics, meters, zone):
        self.metrics, self.meters, self.calls = metrics, meters, []
        # What must happen before the next call.
        self.before = None
        self.rules = rules.Rules(metrics, zone, {})

    def call(self, method, kind, messages):
        messages = [base64.b64encode(message).decode() for message in messages]
        self.calls.append(dict(before=self.before, method=method, is_stream=kind == "stream", messages=messages))
        self.before = None

    def segments(self, segments):
        encoded = [wire.segment(segment) for segment in segments]
        self.call("/TraceSegmentReportService/collect", "stream", encoded)
        for segment, raw in zip(segments, encoded):
            self.rules.segment(segment, raw)

    def teach(self, now_ms, lesson):
        """One segment for each address, whose service answers there; each is learned before the next call."""
        for i, (address, (service, instance)) in enumerate(ADDRESSES.items()):
            reference = dict(type=0, service="web", instance="web-1", endpoint="/", address=address)
            span = dict(
                id=0, start=now_ms, end=now_ms, name="/", peer="", type=0, layer=0, component=1, is_error=False,
                is_skipped=False, refs=[reference], tags=[],
            )
            self.segments([dict(trace="t", id=f"lesson-{lesson}-{i}", service=service, instance=instance, spans=[span])])
            self.before = "flush"
        cut_names = {a: (s, rules.cut(i, rules.INSTANCE_LIMIT)) for a, (s, i) in ADDRESSES.items()}
        self.rules.addresses = cut_names

    def tell(self, traffic, number):
        self.segments([traffic.segment(number * 40 + i) for i in range(40)])
        calls = [traffic.mesh() for _ in range(30)]
        self.call("/ServiceMeshMetricService/collect", "stream", [wire.mesh(call) for call in calls])
        for call in calls:
            self.rules.mesh(call)
        instances = [traffic.dimensions() for _ in range(20)]
        self.call("/metric.HandleMetricService/HandleMetric", "unary", [wire.mixer(instances)])
        for told in instances:
            self.rules.mixer(told)
        for _ in range(8):
            report = traffic.properties()
            self.call("/ManagementService/reportInstanceProperties", "unary", [wire.properties(report)])
            self.rules.properties(report)
            report = dict(traffic.properties(), service=traffic.one("alive", *SERVICES))
            self.call("/ManagementService/keepAlive", "unary", [wire.ping(report)])
            self.rules.ping(report)
            message = traffic.gauges()
            more = dict(traffic.gauges(), node=None)
            self.call("/envoy.service.metrics.v2.MetricsService/StreamMetrics", "stream", [wire.envoy(message), wire.envoy(more)])
            for one in (message, more):
                self.rules.envoy(message["node"], message["cluster"], one["families"])
            report = traffic.report(traffic.jvm)
            self.call("/JVMMetricReportService/collect", "unary", [wire.jvm(report)])
            self.rules.jvm(report)
            report = traffic.report(traffic.clr)
            self.call("/CLRMetricReportService/collect", "unary", [wire.clr(report)])
            self.rules.clr(report)
            report = traffic.meters()
            self.call("/MeterReportService/collect", "stream", [wire.meter(one) for one in report])
            first = report[0]
            service = rules.service_id(first["service"])
            instance, endpoint = rules.member_id(service, first["instance"]), rules.member_id(service, "/a")
            self.meters.report(report, self.rules.minute(first["time"]), service, instance, endpoint)

    def rows(self):
        for (table, bucket, key), columns in self.rules.rows.items():
            yield table, bucket, key, columns
        yield from self.metrics.rows()
        yield from self.meters.rows()


def stored(value):
    """A dictionary is a table of numbers, a list what a value may be."""
    if isinstance(value, dict):
        return {"table": {str(key): count for key, count in value.items()}}
    return {"any": sorted(set(value))} if isinstance(value, list) else value


def configuration(folder, scripts):
    files = {f"oal/{name}.oal": (pathlib.Path(scripts) / f"{name}.oal").read_text() for name in SCRIPTS}
    files["oal/core.oal"] += SCRIPT
    # JSON is YAML.
    grouping = [
        {"service-name": service, "rules": [{"endpoint-name": name, "regex": regex} for name, regex in pairs]}
        for service, pairs in rules.GROUPS.items()
    ]
    files["endpoint-name-grouping.yml"] = json.dumps({"grouping": grouping})
    instances = [{"host": "edge", "port": 8080}, {"host": "edge2"}, {"host": "edge3", "port": 0}]
    files["gateways.yml"] = json.dumps({"gateways": [{"name": "edge", "instances": instances}]})
    thresholds = dict(functions.APDEX_MS, default=functions.APDEX_DEFAULT_MS, neg=-5)
    files["service-apdex-threshold.yml"] = json.dumps(thresholds)
    files["meter-receive-config/meters.yaml"] = METERS
    for name, text in files.items():
        path = folder / "config" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return [files[f"oal/{name}.oal"] for name in SCRIPTS]


def main():
    seed, now_ms, offset, scripts, folder = sys.argv[1:]
    now_ms, folder = int(now_ms), pathlib.Path(folder)
    metrics = functions.Metrics(configuration(folder, scripts))
    story = Story(metrics, functions.Meters(), timezone(timedelta(minutes=int(offset))))
    traffic = Traffic(int(seed), now_ms)
    story.teach(now_ms, 1)
    for number in range(4):
        if number == 2:
            # What was stored is read back, addresses only some time later.
            story.before = "restart"
            story.teach(now_ms, 2)
        story.tell(traffic, number)
    environment = {name: str(value) for name, value in ENVIRONMENT.items()}
    (folder / "environment.json").write_text(json.dumps(environment))
    lines = {
        "calls": story.calls,
        "expected": [
            dict(table=table, bucket=bucket, key=key, columns={name: stored(value) for name, value in columns.items()})
            for table, bucket, key, columns in story.rows()
        ],
    }
    for name, objects in lines.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in objects))


main()
