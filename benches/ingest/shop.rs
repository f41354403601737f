//! A generated shop: services in a row, each calls the next and a database. A segment has five spans.

use oap_proto::agent::{
    KeyStringValuePair, RefType, SegmentObject, SegmentReference, SpanLayer, SpanObject, SpanType,
};

/// Components of `component-libraries.yml`.
const HTTP_CLIENT: i32 = 2;
const SPRING_MVC: i32 = 14;
const MYSQL: i32 = 33;
/// Services that share a database.
const PER_DATABASE: usize = 10;
/// One request of so many fails.
const FAILS: u64 = 50;

/// How large the shop is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shop {
    pub(crate) services: usize,
    /// Of one service.
    pub(crate) endpoints: usize,
    /// Of one service.
    pub(crate) instances: usize,
}

impl Shop {
    /// The n-th request: endpoints of all services come in turn.
    pub(crate) fn segment(&self, n: usize, at_ms: i64) -> SegmentObject {
        let round = n / (self.services * self.endpoints);
        let service = n % self.services;
        let endpoint = n / self.services % self.endpoints;
        let random = scrambled(n as u64);
        let latency = latency(random);
        let is_error = random.is_multiple_of(FAILS);
        let called = format!(
            "shop-{:03}.production.svc:8080",
            (service + 1) % self.services
        );
        let operation = operation(service, endpoint);
        let url = format!("http://{called}/api/v1/goods?page=3&size=20");
        let database = service / PER_DATABASE;
        let status = if is_error { "500" } else { "200" };
        let exit = |peer: String, layer: SpanLayer, component_id, tags| SpanObject {
            peer,
            component_id,
            tags,
            ..span(SpanType::Exit, layer)
        };
        let mut spans = [
            SpanObject {
                operation_name: operation.clone(),
                component_id: SPRING_MVC,
                tags: vec![
                    tag("url", &format!("http://shop.example.org{operation}")),
                    tag("http.method", "GET"),
                    tag("status_code", status),
                ],
                refs: self.caller(n, service, endpoint),
                is_error,
                ..span(SpanType::Entry, SpanLayer::Http)
            },
            SpanObject {
                operation_name: "shop.service.PriceService.find".into(),
                ..span(SpanType::Local, SpanLayer::Unknown)
            },
            SpanObject {
                operation_name: "Mysql/JDBI/PreparedStatement/executeQuery".into(),
                ..exit(
                    format!("mysql-{database:02}.production.svc:3306"),
                    SpanLayer::Database,
                    MYSQL,
                    vec![
                        tag("db.type", "sql"),
                        tag("db.instance", "shop"),
                        tag(
                            "db.statement",
                            "SELECT id, name, price FROM goods WHERE shelf = ? ORDER BY price LIMIT 20",
                        ),
                    ],
                )
            },
            SpanObject {
                operation_name: "shop.service.StockService.reserve".into(),
                ..span(SpanType::Local, SpanLayer::Unknown)
            },
            SpanObject {
                operation_name: "/api/v1/goods".into(),
                is_error,
                ..exit(
                    called,
                    SpanLayer::Http,
                    HTTP_CLIENT,
                    vec![
                        tag("url", &url),
                        tag("http.method", "GET"),
                        tag("status_code", status),
                    ],
                )
            },
        ];
        let shares = [0, 5, 10, 60, 65];
        let lengths = [100, 50, 40, 30, 25];
        for (id, span) in (0..).zip(&mut spans) {
            span.span_id = id;
            span.parent_span_id = if id == 0 { -1 } else { 0 };
            span.start_time = at_ms + latency * shares[id as usize] / 100;
            span.end_time = span.start_time + latency * lengths[id as usize] / 100;
        }
        SegmentObject {
            trace_id: format!("6f3a8d0c51b24e7f9ad2c4b6e8f01357.{round}.{n}"),
            trace_segment_id: format!("0b7c9e2d4f6a48139bd5a7c3e1f02468.{n}.16001675700000000"),
            service: name(service),
            service_instance: self.instance(service, n),
            spans: spans.into(),
            is_size_limited: false,
        }
    }

    /// The first service is called from outside.
    fn caller(&self, n: usize, service: usize, endpoint: usize) -> Vec<SegmentReference> {
        let Some(parent) = service.checked_sub(1) else {
            return vec![];
        };
        vec![SegmentReference {
            ref_type: RefType::CrossProcess.into(),
            trace_id: format!("6f3a8d0c51b24e7f9ad2c4b6e8f01357.{n}"),
            parent_trace_segment_id: format!(
                "0b7c9e2d4f6a48139bd5a7c3e1f02468.{n}.16001675690000000"
            ),
            parent_span_id: 4,
            parent_service: name(parent),
            parent_service_instance: self.instance(parent, n),
            parent_endpoint: operation(parent, endpoint),
            network_address_used_at_peer: format!("shop-{service:03}.production.svc:8080"),
        }]
    }

    fn instance(&self, service: usize, n: usize) -> String {
        let instance = scrambled(n as u64) as usize % self.instances;
        format!("shop-{service:03}-7c9f8d6b5-{instance:05}@10.1.{service}.{instance}")
    }
}

fn name(service: usize) -> String {
    format!("production::shop-{service:03}")
}

fn operation(service: usize, endpoint: usize) -> String {
    format!("/api/v1/shop-{service:03}/orders/{endpoint:03}/positions")
}

fn span(ty: SpanType, layer: SpanLayer) -> SpanObject {
    SpanObject {
        span_type: ty.into(),
        span_layer: layer.into(),
        ..SpanObject::default()
    }
}

fn tag(key: &str, value: &str) -> KeyStringValuePair {
    KeyStringValuePair {
        key: key.into(),
        value: value.into(),
    }
}

/// Some 20 to 150 ms, one of sixteen up to two seconds.
fn latency(random: u64) -> i64 {
    let spread = (random >> 8) as i64;
    match random % 16 {
        0 => 200 + spread % 1800,
        _ => 20 + spread % 130,
    }
}

/// A number that looks random and is the same in every run.
fn scrambled(n: u64) -> u64 {
    let mixed = (n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 16
}
