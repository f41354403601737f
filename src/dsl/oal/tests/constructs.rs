//! Every attribute of every source with every operator, every model that can be switched off, and what later versions know.

use super::*;
use crate::dsl::oal::function::{DISABLEABLE, FUNCTIONS, Shape};
use crate::model::attr::AttrType;
use crate::model::schema::Schema;

/// Right sides for an attribute of a type, and whether it has an order.
fn values(ty: AttrType) -> (&'static [&'static str], bool) {
    match ty {
        AttrType::Text => (&["\"a\"", "\"\""], false),
        AttrType::Long => (&["0", "-7", "9223372036854775807"], true),
        AttrType::Double => (&["0", "-7.25"], true),
        AttrType::Bool => (&["true", "false"], false),
        AttrType::RequestType => (
            &[
                "RequestType.DATABASE",
                "RequestType.HTTP",
                "RequestType.RPC",
                "RequestType.gRPC",
                "RequestType.LOGIC",
            ],
            false,
        ),
        AttrType::DetectPoint => (
            &[
                "DetectPoint.SERVER",
                "DetectPoint.CLIENT",
                "DetectPoint.PROXY",
                "DetectPoint.UNRECOGNIZED",
            ],
            false,
        ),
        AttrType::GcPhrase => (&["GCPhrase.NEW", "GCPhrase.OLD"], false),
        AttrType::MemoryPool => (
            &[
                "MemoryPoolType.CODE_CACHE_USAGE",
                "MemoryPoolType.NEWGEN_USAGE",
                "MemoryPoolType.OLDGEN_USAGE",
                "MemoryPoolType.SURVIVOR_USAGE",
                "MemoryPoolType.PERMGEN_USAGE",
                "MemoryPoolType.METASPACE_USAGE",
            ],
            false,
        ),
    }
}

#[test]
fn every_attribute_of_every_source_can_be_compared() {
    for (source, scope) in Scope::SOURCES {
        for (name, attr) in Attr::of(*scope) {
            let (values, is_ordered) = values(attr.ty());
            for (op, value) in values
                .iter()
                .flat_map(|v| ["==", ">", "<", ">=", "<="].map(|op| (op, *v)))
            {
                let filter = format!("filter({name} {op} {value})");
                let text = format!("m = from({source}.*).{filter}.{filter}.cpm();");
                match one(&text) {
                    Ok(program) => {
                        assert!(is_ordered || op == "==", "{text}");
                        let filters = &program.metrics[0].filters;
                        assert_eq!(filters.len(), 2, "{text}");
                        assert_eq!((filters[0].attr, &filters[0]), (*attr, &filters[1]));
                    }
                    Err(found) => assert!(!is_ordered && op != "==", "{text}: {found:?}"),
                }
            }
        }
    }
}

#[test]
fn every_function_works_on_every_attribute_that_it_fits() {
    for (source, scope) in Scope::SOURCES {
        for (name, attr) in Attr::of(*scope) {
            let is_number = matches!(attr.ty(), AttrType::Long | AttrType::Double);
            for (function, shape, _) in FUNCTIONS {
                let (arguments, needs_number) = match shape {
                    Shape::Long(_) | Shape::Double(_) => ("", true),
                    Shape::Occurrence(_) => ("", false),
                    Shape::Histogram => ("10, 5", true),
                    Shape::Percentile | Shape::Rank(_) => ("10", true),
                    // They need other attributes as well.
                    Shape::Condition | Shape::Apdex => continue,
                };
                let text = format!("m = from({source}.{name}).{function}({arguments});");
                let compiled = one(&text);
                assert_eq!(compiled.is_ok(), is_number || !needs_number, "{text}");
            }
        }
    }
}

#[test]
fn each_model_that_can_be_disabled_is_gone_then() {
    for name in DISABLEABLE {
        let program = one(&format!("disable({name});")).unwrap();
        let schema = Schema::build(&[], &[], &program.disabled, false);
        assert!(schema.model(name).is_none(), "{name}");
        assert!(schema.relations().iter().all(|r| r.model.name != *name));
        let all = Schema::build(&[], &[], &[], false);
        let exists = !["zipkin_span", "jaeger_span"].contains(name);
        assert_eq!(
            all.models().len(),
            schema.models().len() + usize::from(exists)
        );
    }
}

#[test]
fn comments_may_stand_anywhere() {
    let text =
        "// first\n/* a /* b */ m /**/ = from( // c\n All . * /* d\n e */ ) . cpm ( ) ; // end";
    assert_eq!(metric(text).name, "m");
    assert_eq!(one("/* only */ // comments"), Ok(OalProgram::default()));
    let same = metric("m = from(All.*).cpm()");
    assert_eq!(
        metric("\u{feff}m=from(All.*).cpm();".trim_start_matches('\u{feff}')),
        same
    );
}

#[test]
fn what_later_versions_know_is_refused_by_name() {
    let no_others = "expected one of `==` `>` `<` `>=` `<=`, there are no others";
    for (text, want) in [
        (
            "m = from(Service.*).filter(name like \"a%\").cpm();",
            format!("1:33: {no_others}, found `like`"),
        ),
        (
            "m = from(Service.*).filter(name in (\"a\")).cpm();",
            format!("1:33: {no_others}, found `in`"),
        ),
        (
            "m = from(Service.*).filter(status).cpm();",
            format!("1:34: {no_others}, found `)`"),
        ),
        (
            "m = from(Service.*).cpm().decorator(\"a\");",
            "1:26: expected `;`, nothing follows the function".to_owned(),
        ),
        (
            "m = from(Service.latency).labelAvg(name, 1);",
            "1:27: unknown function `labelAvg`, known: longAvg,".to_owned(),
        ),
        (
            "m = from(K8SService.*).cpm();",
            "1:10: unknown source `K8SService`, known: All,".to_owned(),
        ),
        (
            "m = from(All.latency).percentile2(10);",
            "1:23: unknown function `percentile2`, known: longAvg,".to_owned(),
        ),
        (
            "m = from((str->long)Service.tag[\"a\"]).sum();",
            "1:10: expected the name of a source, found `(`".to_owned(),
        ),
    ] {
        let found = one(text).unwrap_err().join("\n");
        assert!(found.contains(&format!("a.oal:{want}")), "{text}: {found}");
    }
}

#[test]
fn numbers_and_names_have_limits() {
    let long = "m".repeat(201);
    for (text, want) in [
        (
            "m = from(All.*).filter(latency > 9223372036854775808).cpm();".to_owned(),
            "1:34: expected a whole number".to_owned(),
        ),
        (
            "m = from(All.latency).percentile(2147483648);".to_owned(),
            "1:34: expected a whole number from 1 to 2147483647".to_owned(),
        ),
        (
            "m = from(All.latency).percentile(-1);".to_owned(),
            "1:34: expected a whole number from 1 to 2147483647".to_owned(),
        ),
        (
            "m = from(All.latency).percentile(name);".to_owned(),
            "1:34: expected a whole number from 1 to 2147483647".to_owned(),
        ),
        (
            "m = from(All.latency).histogram(100, 20, 1);".to_owned(),
            "1:23: expected `histogram(step, maximum number of steps)`".to_owned(),
        ),
        (
            "m = from(Service.latency).apdex(name);".to_owned(),
            "1:27: expected `apdex(name, status)`".to_owned(),
        ),
        (
            "m = from(Service.latency).apdex(\"a\", true);".to_owned(),
            "1:27: expected `apdex(name, status)`".to_owned(),
        ),
        (
            "m = from(Service.*).percent(true);".to_owned(),
            "1:21: expected `percent(condition)`".to_owned(),
        ),
        (
            "m = from(Service.*).cpm(status == true);".to_owned(),
            "1:21: expected `cpm()`".to_owned(),
        ),
        (
            "m = from(ServiceRelation.*).filter(detectPoint == DetectPoint.client).cpm();".to_owned(),
            "1:51: expected one of DetectPoint.SERVER, DetectPoint.CLIENT, DetectPoint.PROXY, DetectPoint.UNRECOGNIZED".to_owned(),
        ),
        (
            "Service_Traffic = from(All.*).cpm();".to_owned(),
            "1:1: `service_traffic` is the name of a built-in model".to_owned(),
        ),
        (
            "service_relation_client_side = from(All.*).cpm();".to_owned(),
            "1:1: `service_relation_client_side` is the name of a built-in model".to_owned(),
        ),
        (
            format!("{long} = from(All.*).cpm();"),
            "1:1: a name may have 200 characters, not 201".to_owned(),
        ),
    ] {
        assert_eq!(one(&text).unwrap_err(), [format!("a.oal:{want}")], "{text}");
    }
}
