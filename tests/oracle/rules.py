"""What messages come to: a second reading of the 8.1.0 spec (A.3 to A.8, A.10, B, C, D), for comparison with the server.

Slow and plain on purpose. Names of settings stand at the top; `oracle.py` says them to the server as well.
"""

import base64
import json
import re
from datetime import datetime

from functions import to_int, truncated

SERVICE_LIMIT, INSTANCE_LIMIT, ENDPOINT_LIMIT = 12, 9, 15
SAMPLE_RATE = 3000
SLOW_MS = {"mongodb": 100}
SLOW_DEFAULT_MS = 200
GROUPS = {"shop": [("/o/{id}", r"/o/\d+"), ("nn", "n+"), ("any-x", ".*x|y")], "mesh-a": [("/m/{id}", r"/m/\d+")]}
GATEWAYS = {"edge:8080", "edge2:80", "edge3:80"}
ENTRY, EXIT, LOCAL = 0, 1, 2
UNKNOWN, DATABASE, HTTP, MQ = 0, 1, 3, 4
NGINX = 6000
GAUGE = 1
POOLS = ["CODE_CACHE_USAGE", "NEWGEN_USAGE", "OLDGEN_USAGE", "SURVIVOR_USAGE", "PERMGEN_USAGE", "METASPACE_USAGE"]


def encoded(name):
    return base64.b64encode(name.encode()).decode()


def cut(name, units):
    """At UTF-16 units; half a character is none."""
    return name.encode("utf-16-le")[: 2 * units].decode("utf-16-le", "ignore")


def service_id(name, is_normal=True):
    return encoded(name) + (".1" if is_normal else ".0")


def member_id(service, name):
    return f"{service}_{encoded(name)}"


def group(service, endpoint):
    for name, regex in GROUPS.get(service, []):
        if re.fullmatch(regex, endpoint):
            return name
    return endpoint


def java_hash(text):
    code = 0
    for c in text:
        code = to_int(31 * code + ord(c))
    return code


class End:
    """One end of a call."""

    def __init__(self, service, is_normal, instance, endpoint="", owner=None):
        self.service, self.instance, self.endpoint = service, instance, endpoint
        self.id = service_id(service, is_normal)
        self.owner = service if owner is None else owner
        self.owner_id = self.id if owner is None else service_id(owner)


class Rules:
    """Tells sources to `metrics`, and collects rows of everything else."""

    def __init__(self, metrics, zone, addresses):
        self.metrics, self.zone, self.addresses = metrics, zone, addresses
        # Table, bucket or None, id: columns; a list holds what may have come first.
        self.rows = {}

    def second(self, ms):
        return int(datetime.fromtimestamp(ms // 1000, self.zone).strftime("%Y%m%d%H%M%S"))

    def minute(self, ms):
        return self.second(ms) // 100

    def row(self, table, bucket, key, **columns):
        self.rows.setdefault((table, bucket, key), columns)

    def first(self, table, bucket, key, column, value):
        self.rows[table, bucket, key].setdefault(column, []).append(value)

    def service(self, name, node_type):
        self.row("service_traffic", None, service_id(name, node_type == 0), name=name, node_type=node_type)

    def endpoint(self, service, name, minute):
        id = member_id(service_id(service), name)
        self.row("endpoint_traffic", None, id, service_id=service_id(service), name=name)
        self.first("endpoint_traffic", None, id, "time_bucket", minute)

    def served(self, service, instance, endpoint, minute, request):
        names = dict(request, serviceName=service, serviceInstanceName=instance, endpointName=endpoint)
        id = service_id(service)
        shown = {"service_id": id, "service_name": service}
        tell = self.metrics.tell
        tell("All", "", minute, dict(names, name=""), {})
        tell("Service", id, minute, dict(names, name=service), {"name": service})
        tell("ServiceInstance", member_id(id, instance), minute, dict(names, name=instance), dict(shown, name=instance))
        tell("Endpoint", member_id(id, endpoint), minute, dict(names, name=endpoint), dict(shown, name=endpoint))
        self.service(service, 0)
        self.row("instance_traffic", None, member_id(id, instance), service_id=id, name=instance)
        self.endpoint(service, endpoint, minute)

    def relation(self, source, dest, point, component, minute, request):
        call = dict(
            request, detectPoint=point, componentId=component, sourceServiceName=source.service, destServiceName=dest.service,
            sourceServiceInstanceName=source.instance, destServiceInstanceName=dest.instance, endpoint=dest.endpoint,
        )
        side = {"SERVER": "_server_side", "CLIENT": "_client_side"}.get(point)

        def stream(name, entity, columns):
            for bucket in (minute, minute // 100, minute // 10000) if side else ():
                self.row(name + side, bucket, entity, **columns)
                self.first(name + side, bucket, entity, "component_id", component)

        services = {"source_service_id": source.id, "dest_service_id": dest.id}
        entity = f"{source.id}-{dest.id}"
        shown = {"source_name": source.service, "dest_name": dest.service}
        self.metrics.tell("ServiceRelation", entity, minute, call, shown)
        stream("service_relation", entity, services)
        if source.instance and dest.instance:
            ids = member_id(source.id, source.instance), member_id(dest.id, dest.instance)
            entity = "-".join(ids)
            columns = dict(services, source_service_instance_id=ids[0], dest_service_instance_id=ids[1])
            shown = dict(
                columns, source_service_name=source.service, source_service_instance_name=source.instance,
                dest_service_name=dest.service, dest_service_instance_name=dest.instance,
            )
            self.metrics.tell("ServiceInstanceRelation", entity, minute, call, shown)
            stream("service_instance_relation", entity, columns)
        if source.endpoint and dest.endpoint:
            owner = source.owner_id
            entity = f"{owner}-{encoded(source.endpoint)}-{dest.id}-{encoded(dest.endpoint)}"
            call = dict(
                call, rpcLatency=request["latency"], childEndpoint=dest.endpoint, serviceName=source.owner,
                childServiceInstanceName=dest.instance,
            )
            shown = dict(
                source_endpoint_name=source.endpoint, service_id=owner, child_endpoint_name=dest.endpoint,
                child_service_id=dest.id, source_service_name=source.owner, child_service_name=dest.service,
            )
            self.metrics.tell("EndpointRelation", entity, minute, call, shown)
            ends = dict(source_endpoint=member_id(owner, source.endpoint), dest_endpoint=member_id(dest.id, dest.endpoint))
            stream("endpoint_relation", entity, ends)

    def segment(self, segment, raw):
        spans = segment["spans"]
        if not spans:
            return
        for span in spans:
            code = 0
            for key, value in span["tags"]:
                if key == "status_code" and re.fullmatch(r"[+-]?\d+", value) and to_int(int(value)) == int(value):
                    code = int(value)
            kind = {HTTP: "HTTP", DATABASE: "DATABASE"}.get(span["layer"], "RPC")
            latency = to_int(span["end"] - span["start"])
            request = dict(latency=latency, status=not span["is_error"], responseCode=code, type=kind)
            is_analysed = not span["is_skipped"]
            if span["type"] == ENTRY and is_analysed:
                self.entry(segment, span, request)
            if span["type"] == EXIT and is_analysed and span["peer"]:
                self.exit(segment, span, request)
            if span["type"] == LOCAL or span["type"] == ENTRY and is_analysed:
                self.logic(segment, span, request)
        self.record(segment, raw)

    def entry(self, segment, span, request):
        minute = self.minute(span["start"])
        service = cut(segment["service"], SERVICE_LIMIT)
        # The instance of what is called is cut like a service; behind a reference nothing is grouped.
        instance = cut(segment["instance"], SERVICE_LIMIT)
        endpoint = cut(span["name"], ENDPOINT_LIMIT)
        if not span["refs"]:
            endpoint = group(service, endpoint)
        dest = End(service, True, instance, endpoint)
        for reference in span["refs"] or [None]:
            self.served(service, instance, endpoint, minute, request)
            source = End("User", False, "User", "User")
            if reference:
                address, parent = reference["address"], cut(reference["service"], SERVICE_LIMIT)
                caller = cut(reference["endpoint"], ENDPOINT_LIMIT) or "User"
                source = End(parent, True, cut(reference["instance"], INSTANCE_LIMIT), caller)
                if span["layer"] == MQ or address in GATEWAYS:
                    names = cut(address, SERVICE_LIMIT), cut(address, INSTANCE_LIMIT)
                    source = End(names[0], span["layer"] == UNKNOWN, names[1], caller, parent)
            self.relation(source, dest, "SERVER", span["component"], minute, request)
        for reference in span["refs"]:
            address = cut(reference["address"], SERVICE_LIMIT)
            is_told = reference["type"] == 0 and span["layer"] != MQ and address not in GATEWAYS
            if is_told and address:
                self.row("network_address_alias", None, encoded(address), address=address)

    def exit(self, segment, span, request):
        minute, peer = self.minute(span["start"]), span["peer"]
        name, node_type = cut(peer, SERVICE_LIMIT), span["layer"] if span["layer"] <= 5 else 11
        dest = End(name, node_type == 0, name)
        if peer in self.addresses:
            node_type, (service, instance) = 0, self.addresses[peer]
            dest = End(service, True, "" if span["component"] == NGINX else cut(instance, SERVICE_LIMIT))
        source = End(cut(segment["service"], SERVICE_LIMIT), True, cut(segment["instance"], INSTANCE_LIMIT))
        self.relation(source, dest, "CLIENT", span["component"], minute, request)
        if span["layer"] != DATABASE:
            return
        self.service(dest.service, node_type)
        access = dict(request, name=dest.service, databaseTypeId=span["component"])
        self.metrics.tell("DatabaseAccess", service_id(dest.service, False), minute, access, {"name": dest.service})
        statement, is_slow = None, False
        for key, value in span["tags"]:
            if key == "db.statement":
                statement = cut(value, 2000) or "[No statement]/null"
            if key == "db.type":
                is_slow |= request["latency"] > SLOW_MS.get(value.lower(), SLOW_DEFAULT_MS)
        if is_slow:
            self.row(
                "top_n_database_statement", None, f"{segment['id']}-{span['id']}", statement=statement,
                latency=request["latency"], trace_id=segment["trace"], service_id=service_id(peer, False),
                time_bucket=self.second(span["start"]),
            )

    def logic(self, segment, span, request):
        service, instance = cut(segment["service"], SERVICE_LIMIT), cut(segment["instance"], SERVICE_LIMIT)
        for text in [value for key, value in span["tags"] if key == "x-le"]:
            try:
                logic = json.loads(text)
            except ValueError:
                continue
            if span["type"] == LOCAL and str(logic.get("logic-span")).lower() == "true":
                name, latency, is_ok = span["name"], request["latency"], request["status"]
            elif {"name", "latency", "status"} <= logic.keys():
                name, is_ok = str(logic["name"]), str(logic["status"]).lower() == "true"
                latency = to_int(int(float(logic["latency"])))
            else:
                continue
            name, minute = group(service, cut(name, ENDPOINT_LIMIT)), self.minute(span["start"])
            source = dict(
                name=name, serviceName=service, serviceInstanceName=instance, endpointName=name, latency=latency, status=is_ok,
                responseCode=0, type="LOGIC",
            )
            id = service_id(service)
            shown = {"service_id": id, "service_name": service, "name": name}
            self.metrics.tell("Endpoint", member_id(id, name), minute, source, shown)
            self.endpoint(service, name, minute)

    def record(self, segment, raw):
        remainder = java_hash(segment["id"])
        remainder -= truncated(remainder, 10000) * 10000
        if remainder >= SAMPLE_RATE:
            return
        spans, trace = segment["spans"], segment["trace"]
        name = None
        for span in spans:
            if span["id"] == 0 or span["type"] == ENTRY:
                name = cut(span["name"], ENDPOINT_LIMIT)
        service = cut(segment["service"], SERVICE_LIMIT)
        name = None if name is None else group(service, name)
        id = service_id(service)
        start, end = min(span["start"] for span in spans), max(0, *(span["end"] for span in spans))
        self.row(
            "segment", None, segment["id"], trace_id=trace, statement=f"{name or ''} - {trace}", service_id=id,
            service_instance_id=member_id(id, cut(segment["instance"], INSTANCE_LIMIT)), endpoint_name=name,
            endpoint_id=None if name is None else member_id(id, name), start_time=start, end_time=end,
            latency=to_int(min(end - start, 2**31 - 1)), is_error=int(any(span["is_error"] for span in spans)), version=3,
            time_bucket=self.second(start), data_binary=base64.b64encode(raw).decode(),
        )

    def mesh(self, call):
        minute, protocol = self.minute(call["start"]), min(call["protocol"], 2)
        service, instance = cut(call["dest"], SERVICE_LIMIT), cut(call["dest_instance"], INSTANCE_LIMIT)
        endpoint = group(service, cut(call["endpoint"], ENDPOINT_LIMIT))
        point = ["CLIENT", "SERVER", "PROXY", "UNRECOGNIZED"][min(call["point"], 3)]
        kind, component = [("HTTP", 49), ("gRPC", 23), ("RPC", 50)][protocol]
        request = dict(latency=call["latency"], status=call["is_ok"], responseCode=call["code"], type=kind)
        if point == "SERVER":
            self.served(service, instance, endpoint, minute, request)
        source = cut(call["source"], SERVICE_LIMIT)
        if source:
            source = End(source, True, cut(call["source_instance"], INSTANCE_LIMIT))
            self.relation(source, End(service, True, instance, endpoint), point, component, minute, request)

    def jvm(self, report):
        service, instance = cut(report["service"], SERVICE_LIMIT), cut(report["instance"], INSTANCE_LIMIT)
        id = service_id(service)
        # These two are swapped.
        shown = {"service_id": id, "name": service, "service_name": instance}
        for metric in report["metrics"]:
            minute = self.minute(metric["time"])

            def tell(part, **values):
                self.metrics.tell(f"ServiceInstanceJVM{part}", member_id(id, instance), minute, values, shown)

            tell("CPU", usePercent=metric["cpu"] or 0.0)
            for is_heap, most, used in metric["memory"]:
                tell("Memory", heapStatus=is_heap, max=most, used=used)
            for kind, used in metric["pools"]:
                tell("MemoryPool", poolType=POOLS[kind] if kind < len(POOLS) else None, used=used)
            for phrase, count, time in metric["gc"]:
                tell("GC", phrase=["NEW", "OLD", None][phrase], time=time, count=count)
            live, daemon, peak = metric["threads"] or (0, 0, 0)
            tell("Thread", liveCount=live, daemonCount=daemon, peakCount=peak)

    def clr(self, report):
        # Names are not cut.
        service, instance = report["service"], report["instance"]
        id = service_id(service)
        for metric in report["metrics"]:
            minute = self.minute(metric["time"])
            gen0, gen1, gen2, heap = metric["gc"] or (0, 0, 0, 0)
            threads = metric["threads"] or (0, 0, 0, 0)
            names = ["availableCompletionPortThreads", "availableWorkerThreads", "maxCompletionPortThreads", "maxWorkerThreads"]
            for part, shown, values in [
                ("CPU", ("", service), {"usePercent": metric["cpu"] or 0.0}),
                ("GC", (instance, service), dict(
                    gen0CollectCount=gen0, gen1CollectCount=gen1, gen2CollectCount=gen2, heapMemory=heap)),
                ("Thread", (service, instance), dict(zip(names, threads))),
            ]:
                shown = {"service_id": id, "name": shown[0], "service_name": shown[1]}
                self.metrics.tell(f"ServiceInstanceCLR{part}", member_id(id, instance), minute, values, shown)

    def envoy(self, node, cluster, families):
        # Neither is cut; each stands for the other.
        service, instance = cluster or node, node or cluster
        service = service_id(service)
        id = member_id(service, instance)
        for name, kind, values in families:
            for value, time in values if kind == GAUGE else ():
                minute = self.minute(time // 10**6 if time > 10**18 else time)
                shown = {"service_id": service, "name": instance}
                self.metrics.tell("EnvoyInstanceMetric", id, minute, dict(metricName=name, value=value), shown)
                self.row("instance_traffic", None, id, service_id=service, name=instance)

    def mixer(self, told):
        scheme, protocol, code = told["requestScheme"], told["apiProtocol"], told["responseCode"]
        is_http = bool({scheme, protocol} & {"http", "https"})
        endpoint = f"{protocol}/{told['requestPath']}"
        if is_http:
            endpoint = f"{scheme}/{told['requestMethod']}/{told['requestPath']}"
        begin, end = (seconds * 10**9 + nanos for seconds, nanos in (told["requestTime"], told["responseTime"]))

        def name(service, namespace):
            return ".".join(told[key] for key in (service, namespace) if key in told)

        self.mesh(dict(
            start=begin // 10**6, source=name("sourceService", "sourceNamespace"), source_instance=told["sourceUID"],
            dest=name("destinationService", "destinationNamespace"), dest_instance=told["destinationUID"], endpoint=endpoint,
            latency=(end - begin) // 10**6, code=code, is_ok=200 <= code < 400 or not is_http, protocol=0 if is_http else 1,
            point=0 if told["reporter"] == "source" else 1,
        ))

    def properties(self, report):
        """What was reported last stays; messages may overtake each other."""
        service = service_id(cut(report["service"], SERVICE_LIMIT))
        name = cut(report["instance"], INSTANCE_LIMIT)
        told = {key: value for key, value in report["properties"] if key != "ipv4"}
        told["ipv4s"] = ",".join(value for key, value in report["properties"] if key == "ipv4")
        text = json.dumps(told, ensure_ascii=False, separators=(",", ":"))
        for char in "<>&='":
            text = text.replace(char, f"\\u{ord(char):04x}")
        id = member_id(service, name)
        self.row("instance_traffic", None, id, service_id=service, name=name)
        self.first("instance_traffic", None, id, "properties", text)

    def ping(self, report):
        service, name = cut(report["service"], SERVICE_LIMIT), cut(report["instance"], INSTANCE_LIMIT)
        self.row("instance_traffic", None, member_id(service_id(service), name), service_id=service_id(service), name=name)
        self.service(service, 0)
