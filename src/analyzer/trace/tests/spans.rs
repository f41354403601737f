//! Sources, services and addresses of entry, exit and local spans (8.1.0 spec, B.1–B.4, B.6–B.8; traps 2, 5, 6, 10).

use super::*;
use crate::model::id;

#[test]
fn a_request_from_outside_is_a_call_by_the_user() {
    let rest = "202009151059 42ms true 0 Rpc Server 1";
    assert_eq!(
        of(vec![span(SpanType::Entry, "/7")]),
        [
            format!("All  {rest}"),
            format!("Service shop.1 {rest}"),
            format!("ServiceInstance shop.1_shop-1 {rest}"),
            format!("Endpoint shop.1_/{{id}} {rest}"),
            format!("ServiceRelation User.0 > shop.1 {rest}"),
            format!("ServiceInstanceRelation User.0_User > shop.1_shop-1 {rest}"),
            format!("EndpointRelation User.0 > User > shop.1 > /{{id}} {rest}"),
        ]
    );
}

#[test]
fn a_request_with_references_counts_once_per_reference() {
    let mut entry = span(SpanType::Entry, "/7");
    entry.refs = vec![
        reference(RefType::CrossProcess),
        reference(RefType::CrossThread),
    ];
    let rest = "202009151059 42ms true 0 Rpc Server 1";
    // Behind a reference the endpoint is not grouped.
    let one = [
        format!("All  {rest}"),
        format!("Service shop.1 {rest}"),
        format!("ServiceInstance shop.1_shop-1 {rest}"),
        format!("Endpoint shop.1_/7 {rest}"),
        format!("ServiceRelation web.1 > shop.1 {rest}"),
        format!("ServiceInstanceRelation web.1_web-1 > shop.1_shop-1 {rest}"),
        format!("EndpointRelation web.1 > /home > shop.1 > /7 {rest}"),
    ];
    let address = "address shop:80 shop.1 shop.1_shop-1 202009151059 202009151059".to_owned();
    let expected = [&one[..], &one[..], &[address]].concat();
    assert_eq!(of(vec![entry]), expected);
}

#[test]
fn who_calls_depends_on_layer_gateway_and_names() {
    type Edit = fn(&mut SpanObject, &mut SegmentReference);
    for (what, edit, service, instance, endpoint, learns) in [
        (
            "no parent endpoint",
            (|_, r| r.parent_endpoint.clear()) as Edit,
            "web.1 > shop.1",
            "web.1_web-1 > shop.1_shop-1",
            "web.1 > User > shop.1 > /a",
            true,
        ),
        (
            "no parent instance",
            |_, r| r.parent_service_instance.clear(),
            "web.1 > shop.1",
            "",
            "web.1 > /home > shop.1 > /a",
            true,
        ),
        (
            "no operation",
            |s, _| s.operation_name.clear(),
            "web.1 > shop.1",
            "web.1_web-1 > shop.1_shop-1",
            "",
            true,
        ),
        (
            "message queue",
            |s, _| s.set_span_layer(SpanLayer::Mq),
            "shop:80.0 > shop.1",
            "shop:80.0_shop:80 > shop.1_shop-1",
            "web.1 > /home > shop.1 > /a",
            false,
        ),
        (
            "message queue without address",
            |s, r| {
                s.set_span_layer(SpanLayer::Mq);
                r.network_address_used_at_peer.clear();
            },
            ".0 > shop.1",
            "",
            "web.1 > /home > shop.1 > /a",
            false,
        ),
        (
            "gateway",
            |s, r| {
                s.set_span_layer(SpanLayer::Http);
                r.network_address_used_at_peer = "edge:80".to_owned();
            },
            "edge:80.0 > shop.1",
            "edge:80.0_edge:80 > shop.1_shop-1",
            "web.1 > /home > shop.1 > /a",
            false,
        ),
        (
            "gateway, unknown layer",
            |_, r| r.network_address_used_at_peer = "edge:80".to_owned(),
            "edge:80.1 > shop.1",
            "edge:80.1_edge:80 > shop.1_shop-1",
            "web.1 > /home > shop.1 > /a",
            false,
        ),
        (
            "another thread",
            |_, r| r.set_ref_type(RefType::CrossThread),
            "web.1 > shop.1",
            "web.1_web-1 > shop.1_shop-1",
            "web.1 > /home > shop.1 > /a",
            false,
        ),
        (
            "no address",
            |_, r| r.network_address_used_at_peer.clear(),
            "web.1 > shop.1",
            "web.1_web-1 > shop.1_shop-1",
            "web.1 > /home > shop.1 > /a",
            false,
        ),
    ] {
        let mut entry = span(SpanType::Entry, "/a");
        let mut reference = reference(RefType::CrossProcess);
        edit(&mut entry, &mut reference);
        entry.refs.push(reference);
        let lines = of(vec![entry]);
        for (scope, want) in [
            (Scope::ServiceRelation, service),
            (Scope::ServiceInstanceRelation, instance),
            (Scope::EndpointRelation, endpoint),
        ] {
            let got = of_scope(scope, lines.clone());
            let got = got.iter().map(|l| l.split(" 2020").next().unwrap());
            let got: Vec<&str> = got.collect();
            let want: Vec<&str> = Some(want).filter(|w| !w.is_empty()).into_iter().collect();
            assert_eq!(got, want, "{what}");
        }
        let has_learned = lines.iter().any(|l| l.starts_with("address "));
        assert_eq!(has_learned, learns, "{what}");
    }
}

#[test]
fn a_skipped_span_means_nothing() {
    let skipped = |mut span: SpanObject| {
        span.skip_analysis = true;
        span.tags = vec![tag("x-le", r#"{"name":"l","latency":1,"status":true}"#)];
        span.refs = vec![reference(RefType::CrossProcess)];
        span
    };
    assert!(of(vec![skipped(span(SpanType::Entry, "/a"))]).is_empty());
    assert!(of(vec![skipped(exit("db:1", SpanLayer::Database))]).is_empty());
    assert!(of(vec![exit("", SpanLayer::Database)]).is_empty());
    // Only a local span still has its logic endpoints.
    let local = of(vec![skipped(span(SpanType::Local, "job"))]);
    assert_eq!(
        local,
        ["Endpoint shop.1_l 202009151059 1ms true 0 Logic Server 0"]
    );
}

#[test]
fn an_unknown_peer_is_a_node_of_its_layer() {
    for (layer, dest, ty) in [
        (SpanLayer::Unknown, "peer:1.1", "Rpc"),
        (SpanLayer::RpcFramework, "peer:1.0", "Rpc"),
        (SpanLayer::Http, "peer:1.0", "Http"),
        (SpanLayer::Mq, "peer:1.0", "Rpc"),
        (SpanLayer::Cache, "peer:1.0", "Rpc"),
    ] {
        let rest = format!("202009151059 42ms true 0 {ty} Client 1");
        assert_eq!(
            of(vec![exit("peer:1", layer)]),
            [
                format!("ServiceRelation shop.1 > {dest} {rest}"),
                format!("ServiceInstanceRelation shop.1_shop-1 > {dest}_peer:1 {rest}"),
            ],
            "{layer:?}"
        );
    }
    // Only a database is a service of its own.
    let rest = "202009151059 42ms true 0 Database Client 1";
    assert_eq!(
        of(vec![exit("peer:1", SpanLayer::Database)]),
        [
            format!("ServiceRelation shop.1 > peer:1.0 {rest}"),
            format!("ServiceInstanceRelation shop.1_shop-1 > peer:1.0_peer:1 {rest}"),
            "service peer:1.0 Database 202009151059".to_owned(),
            format!("DatabaseAccess peer:1.0 {rest}"),
        ]
    );
}

#[test]
fn a_known_peer_is_the_service_behind_it() {
    let stock = id::service_id("stock", true);
    let alias = AddressAlias {
        address: "peer:1".to_owned(),
        instance_id: id::instance_id(&stock, "stock-1"),
        service_id: stock,
        last_update: 202_009_151_058,
    };
    let addresses = || {
        let book = AddressBook::new(10);
        book.learn([&alias]);
        book
    };
    let lines = |span| analyze(&mut analyzer(settings(), addresses()), &segment(vec![span])).0;
    let rest = "202009151059 42ms true 0 Database Client 1";
    assert_eq!(
        lines(exit("peer:1", SpanLayer::Database)),
        [
            format!("ServiceRelation shop.1 > stock.1 {rest}"),
            format!("ServiceInstanceRelation shop.1_shop-1 > stock.1_stock-1 {rest}"),
            "service stock.1 Normal 202009151059".to_owned(),
            format!("DatabaseAccess stock.0 {rest}"),
        ]
    );
    // What answers behind nginx is not at the address.
    let mut nginx = exit("peer:1", SpanLayer::Http);
    nginx.component_id = 6000;
    assert_eq!(
        lines(nginx),
        ["ServiceRelation shop.1 > stock.1 202009151059 42ms true 0 Http Client 6000"]
    );
    // The look-up takes the peer as it came, only the name of an unknown one is cut.
    let long = "p".repeat(80);
    let relation = of_scope(Scope::ServiceRelation, lines(exit(&long, SpanLayer::Http)));
    assert!(relation[0].starts_with(&format!("shop.1 > {}.0 ", "p".repeat(70))));
}

#[test]
fn values_of_a_span_are_read_as_the_original_reads_them() {
    for (start, end, latency) in [
        (AT, AT - 5, -5),
        (AT, 0, 1_855_231_408),
        (AT, AT + (1 << 32) + 7, 7),
        (AT, i64::MAX, 1_855_231_407),
    ] {
        let mut entry = span(SpanType::Entry, "/a");
        (entry.start_time, entry.end_time) = (start, end);
        let all = of_scope(Scope::All, of(vec![entry]));
        assert_eq!(all[0].split(' ').nth(2), Some(&*format!("{latency}ms")));
    }
    for (codes, want) in [
        (&["200"][..], 200),
        (&["200", "x"], 200),
        (&["200", "404"], 404),
        (&["+7"], 7),
        (&["-7"], -7),
        (&["007"], 7),
        (&["2147483648"], 0),
        (&["", " 200", "2e2", "0x10", "1_0", "+", "-"], 0),
        (&[], 0),
    ] {
        let mut entry = span(SpanType::Entry, "/a");
        entry.tags = codes.iter().map(|c| tag("status_code", c)).collect();
        let all = of_scope(Scope::All, of(vec![entry]));
        assert_eq!(
            all[0].split(' ').nth(4),
            Some(&*want.to_string()),
            "{codes:?}"
        );
    }
    // The code says nothing about success, the flag does.
    let mut entry = span(SpanType::Entry, "/a");
    (entry.is_error, entry.tags) = (true, vec![tag("status_code", "200")]);
    entry.set_span_layer(SpanLayer::Http);
    let all = of_scope(Scope::All, of(vec![entry]));
    assert_eq!(all, [" 202009151059 42ms false 200 Http Server 1"]);
}

#[test]
fn names_are_cut_each_to_its_limit() {
    let mut settings = settings();
    settings.names.service = 4;
    settings.names.instance = 6;
    settings.names.endpoint = 5;
    let mut call = exit("database:1", SpanLayer::Database);
    call.span_id = 1;
    let mut consumed = span(SpanType::Entry, "/queue");
    (consumed.span_id, consumed.refs) = (2, vec![reference(RefType::CrossProcess)]);
    consumed.set_span_layer(SpanLayer::Mq);
    let mut known = exit("known", SpanLayer::Http);
    known.span_id = 3;
    let spans = vec![span(SpanType::Entry, "/endpoint"), call, known, consumed];
    let mut segment = segment(spans);
    (segment.service, segment.service_instance) = ("service".into(), "instance".into());
    // As stored when names could be longer.
    let stock = id::service_id("stock", true);
    let addresses = AddressBook::new(10);
    addresses.learn(&[AddressAlias {
        address: "known".to_owned(),
        instance_id: id::instance_id(&stock, "stock-1"),
        service_id: stock,
        last_update: 202_009_151_058,
    }]);
    let mut analyzer = analyzer(settings, addresses);
    let (lines, records) = analyze(&mut analyzer, &segment);
    let starts: Vec<&str> = lines
        .iter()
        .filter_map(|l| l.split(" 2020").next())
        .collect();
    assert_eq!(
        starts,
        [
            "All ",
            "Service serv.1",
            // As a service: so does the original with what is called.
            "ServiceInstance serv.1_inst",
            "Endpoint serv.1_/endp",
            "ServiceRelation User.0 > serv.1",
            "ServiceInstanceRelation User.0_User > serv.1_inst",
            "EndpointRelation User.0 > User > serv.1 > /endp",
            "ServiceRelation serv.1 > data.0",
            "ServiceInstanceRelation serv.1_instan > data.0_data",
            "service data.0 Database",
            "DatabaseAccess data.0",
            "ServiceRelation serv.1 > stoc.1",
            "ServiceInstanceRelation serv.1_instan > stoc.1_stoc",
            "All ",
            "Service serv.1",
            "ServiceInstance serv.1_inst",
            "Endpoint serv.1_/queu",
            "ServiceRelation shop.0 > serv.1",
            "ServiceInstanceRelation shop.0_shop:8 > serv.1_inst",
            "EndpointRelation web.1 > /home > serv.1 > /queu",
        ]
    );
    let text = |column: &str| records[0].cell(column).as_text().map(str::to_owned);
    assert_eq!(
        decoded(&text("service_instance_id").unwrap()),
        "serv.1_instan"
    );
    assert_eq!(text("endpoint_name").as_deref(), Some("/queu"));
}

#[test]
fn numbers_of_a_later_protocol_are_taken_for_nothing_else() {
    let mut unknown = span(SpanType::Entry, "/a");
    unknown.span_type = 9;
    assert!(of(vec![unknown.clone()]).is_empty());
    unknown.span_id = 1;
    let rows = records(vec![unknown]);
    assert_eq!(rows[0].cell("endpoint_name").as_text(), None);
    let mut call = exit("peer:1", SpanLayer::Unknown);
    call.span_layer = 6;
    let relation = of_scope(Scope::ServiceRelation, of(vec![call]));
    let want = "shop.1 > peer:1.0 202009151059 42ms true 0 Rpc Client 1";
    assert_eq!(relation, [want]);
    let mut entry = span(SpanType::Entry, "/a");
    entry.refs = vec![reference(RefType::CrossProcess)];
    entry.refs[0].ref_type = 2;
    let lines = of(vec![entry]);
    assert_eq!(lines.len(), 7, "{lines:?}");
}

#[test]
fn each_tag_of_a_logic_endpoint_counts() {
    let tags = [
        r#"{"name":"/7","latency":5,"status":false}"#,
        // Lost, and only this one.
        r#"{"name":"#,
        r#"{"name":"b","latency":5}"#,
        r#"{"logic-span":true}"#,
        r#"{"logic-span":"true","name":"c","latency":6,"status":true}"#,
        r#"{"logic-span":false,"name":"d","latency":7,"status":true}"#,
        r#"{"logic-span":null,"name":"e","latency":8,"status":true}"#,
    ];
    let tagged = |mut span: SpanObject| {
        span.is_error = true;
        span.tags = tags.iter().map(|text| tag("x-le", text)).collect();
        vec![span]
    };
    let line = |name: &str, latency: i32, status: bool| {
        format!("shop.1_{name} 202009151059 {latency}ms {status} 0 Logic Server 0")
    };
    // A local span can be a logic endpoint itself.
    let of_local = of_scope(Scope::Endpoint, of(tagged(span(SpanType::Local, "/8"))));
    assert_eq!(
        of_local,
        [
            line("/{id}", 5, false),
            line("/{id}", 42, false),
            line("/{id}", 42, false),
            line("d", 7, true),
        ]
    );
    let of_entry = of_scope(Scope::Endpoint, of(tagged(span(SpanType::Entry, "/a"))));
    assert_eq!(
        of_entry,
        [
            "shop.1_/a 202009151059 42ms false 0 Rpc Server 1".to_owned(),
            line("/{id}", 5, false),
            line("c", 6, true),
            line("d", 7, true),
            line("e", 8, true),
        ]
    );
    assert!(of(tagged(span(SpanType::Exit, "call"))).is_empty());
    assert_eq!(records(tagged(span(SpanType::Local, "/8"))).len(), 1);
}
