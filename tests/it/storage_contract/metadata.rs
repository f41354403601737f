//! Services, instances, endpoints, aliases and dashboards.

use anyhow::{Result, ensure};
use oap::model::id;
use oap::model::row::{Cell, Row};
use oap::storage::{AddressAlias, Backend, ServiceFilter, UiTemplate};

use super::{MINUTE, NEXT_DAY, Store, text};

pub async fn services_are_found_by_type_name_and_words<B: Backend>(store: &Store<B>) -> Result<()> {
    let mut rows = vec![];
    for (name, node_type, minute) in [
        ("order-service", 0, MINUTE),
        ("orderly", 0, MINUTE),
        ("the-Stock_service", 0, NEXT_DAY * 10_000),
        ("order-db:3306", 1, MINUTE),
        ("Größe", 0, MINUTE),
    ] {
        let id = id::service_id(name, node_type == 0);
        let cells = [("name", text(name)), ("node_type", Cell::Long(node_type))];
        rows.push(store.row("service_traffic", &id, minute, &cells)?);
    }
    store.write(&rows).await?;
    let every = vec!["Größe", "order-service", "orderly", "the-Stock_service"];
    for (node_type, name, keyword, expected) in [
        (0, None, None, every.clone()),
        (0, None, Some(""), every),
        (1, None, None, vec!["order-db:3306"]),
        (6, None, None, vec![]),
        (0, Some("orderly"), None, vec!["orderly"]),
        (0, Some("order"), None, vec![]),
        (0, Some("order-db:3306"), None, vec![]),
        (0, None, Some("order"), vec!["order-service"]),
        (0, None, Some("ORDER"), vec!["order-service"]),
        (0, None, Some("ord"), vec![]),
        (0, None, Some("the"), vec![]),
        (0, None, Some("-"), vec![]),
        (
            0,
            None,
            Some("service"),
            vec!["order-service", "the-Stock_service"],
        ),
        (0, None, Some("nothing stock"), vec!["the-Stock_service"]),
        (0, None, Some("größe"), vec!["Größe"]),
    ] {
        let filter = ServiceFilter {
            node_type,
            name: name.map(str::to_owned),
            keyword: keyword.map(str::to_owned),
        };
        let mut names: Vec<String> = vec![];
        for service in store.backend.services(&filter, 100).await?.items {
            ensure!(service.node_type == node_type, "{service:?}");
            names.push(service.name);
        }
        names.sort();
        ensure!(names == expected, "{filter:?}: {names:?}");
    }
    let filter = ServiceFilter {
        node_type: 0,
        name: None,
        keyword: None,
    };
    let all = store.backend.services(&filter, 100).await?;
    let two = store.backend.services(&filter, 2).await?;
    ensure!(two.items.len() == 2 && two.total == all.total, "{two:?}");
    ensure!(all.items.len() as i64 == all.total, "{all:?}");
    Ok(())
}

pub async fn instances_are_found_while_alive<B: Backend>(store: &Store<B>) -> Result<()> {
    let mut rows = vec![];
    for (service, name, last_ping, properties) in [
        ("s1", "early", MINUTE, Cell::Null),
        ("s1", "later", MINUTE + 5, text(r#"{"language":"java"}"#)),
        ("s2", "other", MINUTE + 5, text("")),
    ] {
        rows.push(store.row(
            "instance_traffic",
            &id::instance_id(service, name),
            MINUTE,
            &[
                ("service_id", text(service)),
                ("name", text(name)),
                ("last_ping", Cell::Long(last_ping as i64)),
                ("properties", properties),
            ],
        )?);
    }
    store.write(&rows).await?;
    for (service, since, expected) in [
        (
            "s1",
            MINUTE,
            vec![("early", ""), ("later", r#"{"language":"java"}"#)],
        ),
        ("s1", MINUTE + 1, vec![("later", r#"{"language":"java"}"#)]),
        ("s1", MINUTE + 6, vec![]),
        ("s2", 0, vec![("other", "")]),
        ("s3", 0, vec![]),
    ] {
        let mut found = store.backend.instances(service, since, 100).await?.items;
        found.sort_by(|a, b| a.name.cmp(&b.name));
        let seen: Vec<(&str, &str)> = found
            .iter()
            .map(|i| (i.name.as_str(), i.properties.as_str()))
            .collect();
        ensure!(seen == expected, "{service} since {since}: {found:?}");
        ensure!(found.iter().all(|i| i.service_id == service), "{found:?}");
    }
    let one = store.backend.instances("s1", 0, 1).await?;
    let all = store.backend.instances("s1", 0, 100).await?;
    ensure!(one.items.len() == 1 && one.total == all.total, "{one:?}");
    Ok(())
}

pub async fn endpoints_are_found_by_words<B: Backend>(store: &Store<B>) -> Result<()> {
    let mut rows = vec![];
    for (service, name) in [
        ("s1", "/api/v1/order/42"),
        ("s1", "/api/v1/the-stock"),
        ("s1", "createOrder"),
        ("s2", "/api/v1/order"),
    ] {
        rows.push(store.row(
            "endpoint_traffic",
            &id::endpoint_id(service, name),
            MINUTE,
            &[("service_id", text(service)), ("name", text(name))],
        )?);
    }
    store.write(&rows).await?;
    let (order, stock) = ("/api/v1/order/42", "/api/v1/the-stock");
    for (service, keyword, expected) in [
        ("s1", "", vec![order, stock, "createOrder"]),
        ("s2", "", vec!["/api/v1/order"]),
        ("s1", "order", vec![order]),
        ("s1", "API", vec![order, stock]),
        ("s1", "order stock", vec![order, stock]),
        ("s1", "createorder", vec!["createOrder"]),
        ("s1", "42", vec![]),
        ("s1", "the", vec![]),
        ("s1", "ap", vec![]),
    ] {
        let found = store.backend.endpoints(service, keyword, 100).await?;
        let mut names: Vec<&str> = found.iter().map(|e| e.name.as_str()).collect();
        names.sort_unstable();
        ensure!(names == expected, "{keyword:?} in {service}: {names:?}");
        ensure!(found.iter().all(|e| e.service_id == service), "{found:?}");
    }
    ensure!(store.backend.endpoints("s1", "", 2).await?.len() == 2);
    Ok(())
}

pub async fn aliases_are_read_since_a_minute<B: Backend>(store: &Store<B>) -> Result<()> {
    let alias = |address: &str, last_update: u64| AddressAlias {
        address: address.to_owned(),
        service_id: "s1".to_owned(),
        instance_id: format!("s1_{address}"),
        last_update,
    };
    let aliases = [
        alias("10.0.0.1:80", MINUTE),
        alias("10.0.0.2:80", MINUTE + 2),
        alias("broker:9092;broker:9093", NEXT_DAY * 10_000),
    ];
    let rows: Result<Vec<Row>> = aliases
        .iter()
        .map(|a| {
            store.row(
                "network_address_alias",
                &id::encode(&a.address),
                a.last_update,
                &[
                    ("address", text(&a.address)),
                    ("represent_service_id", text(&a.service_id)),
                    ("represent_service_instance_id", text(&a.instance_id)),
                    ("last_update_time_bucket", Cell::Long(a.last_update as i64)),
                ],
            )
        })
        .collect();
    store.write(&rows?).await?;
    for (since, expected) in [
        (0, &aliases[..]),
        (MINUTE + 1, &aliases[1..]),
        (MINUTE + 2, &aliases[1..]),
        (NEXT_DAY * 10_000 + 1, &[]),
    ] {
        let mut found = store.backend.address_aliases(since, 100).await?;
        found.sort_by_key(|a| a.last_update);
        ensure!(found == expected, "since {since}: {found:?}");
    }
    ensure!(store.backend.address_aliases(0, 2).await?.len() == 2);
    Ok(())
}

pub async fn dashboards_are_added_once_and_replaced<B: Backend>(store: &Store<B>) -> Result<()> {
    let template = |name: &str, configuration: &str, is_disabled: bool| UiTemplate {
        name: name.to_owned(),
        ty: "DASHBOARD".to_owned(),
        configuration: configuration.to_owned(),
        is_activated: !is_disabled,
        is_disabled,
    };
    let backend = &store.backend;
    ensure!(backend.ui_templates(true).await?.is_empty());
    let (first, odd) = (
        template("A", "[1]", false),
        template("Größe 'n' \"quotes\"", r#"[{"x":"\n"}]"#, false),
    );
    ensure!(backend.add_ui_template(&first).await?);
    ensure!(backend.add_ui_template(&odd).await?);
    ensure!(
        !backend
            .add_ui_template(&template("A", "[2]", false))
            .await?
    );
    let listed = |including_disabled: bool| async move {
        let mut all: Vec<UiTemplate> = backend.ui_templates(including_disabled).await?;
        all.sort_by(|a, b| a.name.cmp(&b.name));
        anyhow::Ok(all)
    };
    let all = listed(false).await?;
    ensure!(all == [first, odd.clone()], "{all:?}");
    let absent = template("absent", "[]", false);
    ensure!(!backend.replace_ui_template(&absent).await?);
    let disabled = template("A", "[3]", true);
    ensure!(backend.replace_ui_template(&disabled).await?);
    let (active, all) = (listed(false).await?, listed(true).await?);
    ensure!(active == [odd.clone()], "{active:?}");
    ensure!(all == [disabled, odd], "{all:?}");
    Ok(())
}
