//! The page: complete in itself, readable without a script, on a phone, in the light and in the dark.

use std::fmt::Write as _;

use super::About;
use super::diagnosis::{Severity, Situation};
use super::figures::{Figures, Queue};
use super::format::{amount, bytes, duration, escape, number, percent};
use super::history::Recent;

const FRAME: &str = include_str!("page.html");
const STATE: &str = "<!--STATE-->";
/// Width and height of a curve, in units of its own.
const CURVE: (f64, f64) = (120.0, 32.0);

/// The whole page.
pub(super) fn render(
    about: &About,
    recent: &Recent,
    situation: &Situation,
    now_seconds: f64,
) -> String {
    let mut state = String::new();
    head(&mut state, about, &recent.now, now_seconds);
    let class = match situation.severity {
        Severity::Good => "good",
        Severity::Busy => "busy",
        Severity::Bad => "bad",
    };
    let sentence = escape(&situation.sentence);
    push(
        &mut state,
        format_args!("<div class=\"verdict {class}\" id=\"diagnosis\">{sentence}</div>"),
    );
    cards(&mut state, about, recent);
    state.push_str("<div class=\"wide\">");
    queues(&mut state, recent);
    storage(&mut state, about, recent);
    state.push_str("</div>");
    members(&mut state, &recent.now);
    ledger(&mut state, recent);
    state.push_str("<div class=\"wide\">");
    receivers(&mut state, recent);
    memory(&mut state, about, &recent.now);
    state.push_str("</div>");
    FRAME.replacen(STATE, &state, 1)
}

/// Writing to a text cannot fail.
fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).unwrap_or_default();
}

fn head(page: &mut String, about: &About, now: &Figures, now_seconds: f64) {
    let members = match now.cluster_size {
        size if size > 1.0 => format!("{} members ({})", number(size), about.cluster),
        _ => format!("one server ({})", about.cluster),
    };
    push(
        page,
        format_args!(
            "<header><h1>oap</h1><span class=\"soft\">{} · up {} · {}</span></header>",
            env!("CARGO_PKG_VERSION"),
            duration(now_seconds - now.started),
            escape(&members)
        ),
    );
}

fn card(page: &mut String, title: &str, figure: &str, unit: &str, below: &str) {
    push(
        page,
        format_args!(
            "<section><h2>{title}</h2><div class=\"figure\">{figure} <small>{unit}</small></div>{below}</section>"
        ),
    );
}

fn cards(page: &mut String, about: &About, recent: &Recent) {
    let rate = |counter: fn(&Figures) -> f64| recent.rate(counter).map_or("–".to_owned(), number);
    let cores = about.cores.max(1) as f64;
    let cpu = recent.rate(|figures| figures.cpu_seconds);
    let cpu = cpu.map_or("–".to_owned(), |seconds| percent(seconds / cores));
    let busy = recent.rate(|figures| figures.busy_seconds);
    let busy = busy.map_or("–".to_owned(), |seconds| percent(seconds / cores));
    page.push_str("<div class=\"grid\">");
    let messages = curve(&recent.messages);
    card(
        page,
        "Messages in",
        &rate(Figures::messages),
        "per second",
        &messages,
    );
    let rows = curve(&recent.rows);
    card(
        page,
        "Rows stored",
        &rate(|f| f.stored_rows),
        "per second",
        &rows,
    );
    let of = format!("of {} cores", about.cores);
    let below = format!("<div class=\"soft\">analyzers work {busy} of the time</div>");
    card(page, "CPU", &cpu, &of, &below);
    let below = format!(
        "<div class=\"soft\">budget of queues, values and caches: {}</div>",
        bytes(about.budget as f64)
    );
    card(
        page,
        "Memory",
        &bytes(recent.now.resident_bytes),
        "resident",
        &below,
    );
    page.push_str("</div>");
}

/// A curve of rates, oldest first.
fn curve(rates: &[f64]) -> String {
    let highest = rates.iter().copied().fold(0.0, f64::max);
    if rates.len() < 2 {
        return String::new();
    }
    let (width, height) = CURVE;
    let step = width / (rates.len() - 1) as f64;
    let mut line = String::new();
    for (at, rate) in rates.iter().enumerate() {
        let part = if highest > 0.0 {
            rate.max(0.0) / highest
        } else {
            0.0
        };
        let letter = if at == 0 { 'M' } else { 'L' };
        let (x, y) = (at as f64 * step, height - 1.0 - part * (height - 2.0));
        push(&mut line, format_args!("{letter}{x:.1} {y:.1}"));
    }
    format!(
        "<svg viewBox=\"0 0 {width} {height}\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
         <path class=\"area\" d=\"{line}L{width} {height}L0 {height}Z\"/><path d=\"{line}\"/></svg>"
    )
}

fn bar(fill: f64) -> String {
    let class = match fill {
        fill if fill >= 0.95 => " bad",
        fill if fill >= 0.75 => " busy",
        _ => "",
    };
    let width = (fill * 100.0).clamp(0.0, 100.0);
    format!("<span class=\"bar{class}\"><i style=\"width:{width:.0}%\"></i></span>")
}

fn queues(page: &mut String, recent: &Recent) {
    page.push_str("<section><h2>Queues</h2><table><tr><th>queue</th><th></th><th class=\"n\">waiting</th><th class=\"n\">room for</th><th class=\"n\">held up</th></tr>");
    for queue in &recent.now.queues {
        let Queue {
            name,
            unit,
            depth,
            capacity,
            ..
        } = queue;
        let waiting = recent.waiting(name).clamp(0.0, 1.0);
        push(
            page,
            format_args!(
                "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
                escape(name),
                bar(queue.fill()),
                amount(*depth, unit),
                amount(*capacity, unit),
                percent(waiting)
            ),
        );
    }
    page.push_str("</table></section>");
}

fn storage(page: &mut String, about: &About, recent: &Recent) {
    let now = &recent.now;
    let state = match now.away.as_slice() {
        [] => "takes writes".to_owned(),
        away => format!(
            "<span class=\"lost\">takes nothing from {}</span>",
            escape(&away.join(", "))
        ),
    };
    let write = recent
        .write_ms()
        .map_or("–".to_owned(), |ms| format!("{} ms", number(ms)));
    page.push_str("<section><h2>Storage</h2><table>");
    for (name, value) in [
        ("store", escape(&about.store)),
        ("state", state),
        ("a write takes", write),
        ("writes", number(now.writes)),
        (
            "writes that failed in part or whole",
            number(now.write_errors),
        ),
        ("rows stored", number(now.stored_rows)),
    ] {
        push(
            page,
            format_args!(
                "<tr><td class=\"soft text\">{name}</td><td class=\"n text\">{value}</td></tr>"
            ),
        );
    }
    page.push_str("</table></section>");
}

/// Who is in the cluster; nothing without one.
fn members(page: &mut String, now: &Figures) {
    if now.members.is_empty() {
        return;
    }
    let all: f64 = now.members.iter().map(|member| member.partitions).sum();
    page.push_str("<section style=\"margin-bottom:14px\" id=\"members\"><h2>Members of the cluster</h2><table><tr><th>address</th><th>state</th><th></th><th class=\"n\">share of the entities</th></tr>");
    for member in &now.members {
        let share = member.partitions / all.max(1.0);
        let state = match member.state.as_str() {
            "self" => "this server".to_owned(),
            "silent" => "<span class=\"lost\">does not answer</span>".to_owned(),
            "unknown" => "has not answered yet".to_owned(),
            state => escape(state),
        };
        push(
            page,
            format_args!(
                "<tr><td>{}</td><td>{state}</td><td><span class=\"bar\"><i style=\"width:{:.0}%\"></i></span></td><td class=\"n\">{}</td></tr>",
                escape(&member.address),
                share * 100.0,
                percent(share)
            ),
        );
    }
    page.push_str("</table></section>");
}

fn ledger(page: &mut String, recent: &Recent) {
    page.push_str(
        "<section style=\"margin-bottom:14px\"><h2>Ledger since the start</h2><table><tr><th>kind</th><th class=\"n\">received</th>\
         <th class=\"n\">stored</th><th class=\"n\">aggregated</th><th class=\"n\">in flight</th><th class=\"n\">dead-lettered</th>\
         <th class=\"n\">dropped</th><th></th></tr>",
    );
    if recent.now.ledger.is_empty() {
        page.push_str("<tr><td class=\"soft\" colspan=\"8\">nothing came in yet</td></tr>");
    }
    for (kind, account) in &recent.now.ledger {
        let reasons: Vec<String> = account
            .dropped
            .iter()
            .map(|(reason, units)| format!("{reason} {}", number(*units as f64)))
            .collect();
        let lost = |units: u64| match units {
            0 => "0".to_owned(),
            units => format!("<span class=\"lost\">{}</span>", number(units as f64)),
        };
        push(
            page,
            format_args!(
                "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
                 <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"why\">{}</td></tr>",
                escape(kind),
                number(account.received as f64),
                number(account.stored as f64),
                number(account.aggregated as f64),
                number(account.in_flight as f64),
                lost(account.dead_lettered),
                lost(account.dropped_in_all()),
                escape(&reasons.join(", "))
            ),
        );
    }
    page.push_str("</table></section>");
}

fn receivers(page: &mut String, recent: &Recent) {
    page.push_str(
        "<section><h2>Receivers</h2><table><tr><th>kind</th><th>over</th><th class=\"n\">messages</th><th class=\"n\">per second</th></tr>",
    );
    if recent.now.received.is_empty() {
        page.push_str("<tr><td class=\"soft\" colspan=\"4\">nothing came in yet</td></tr>");
    }
    for ((kind, protocol), messages) in &recent.now.received {
        let key = (kind.clone(), protocol.clone());
        let rate = recent.rate(|figures| figures.received.get(&key).copied().unwrap_or(0.0));
        push(
            page,
            format_args!(
                "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
                escape(kind),
                escape(protocol),
                number(*messages),
                rate.map_or("–".to_owned(), number)
            ),
        );
    }
    page.push_str("</table></section>");
}

fn memory(page: &mut String, about: &About, now: &Figures) {
    page.push_str("<section><h2>Memory by owner</h2><table><tr><th>owner</th><th></th><th class=\"n\">bytes, estimated</th></tr>");
    for (owner, held) in &now.memory {
        push(
            page,
            format_args!(
                "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td></tr>",
                escape(owner),
                bar(held / about.budget.max(1) as f64),
                bytes(*held)
            ),
        );
    }
    page.push_str("</table></section>");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::status::figures::Member;
    use crate::telemetry::ledger::Account;

    #[test]
    fn the_page_shows_the_figures() {
        let about = About {
            store: "embedded, in <data>".to_owned(),
            cluster: "standalone".to_owned(),
            budget: 256 << 20,
            cores: 2,
            context_path: "/".to_owned(),
        };
        let account = Account {
            received: 1234,
            in_flight: 34,
            stored: 1195,
            dropped: BTreeMap::from([("lane_full".to_owned(), 5)]),
            ..Account::default()
        };
        let now = Figures {
            received: BTreeMap::from([(("segment".to_owned(), "grpc".to_owned()), 1234.0)]),
            ledger: BTreeMap::from([("segment".to_owned(), account)]),
            queues: vec![Queue {
                name: "analyzers".to_owned(),
                unit: "bytes".to_owned(),
                depth: 96.0 * 1024.0,
                capacity: 100.0 * 1024.0,
                waited: 0.0,
            }],
            memory: BTreeMap::from([("rows".to_owned(), 1_048_576.0)]),
            members: vec![
                Member {
                    address: "10.0.0.1:11800<b>".to_owned(),
                    state: "self".to_owned(),
                    partitions: 768.0,
                },
                Member {
                    address: "10.0.0.2:11800".to_owned(),
                    state: "leaving".to_owned(),
                    partitions: 256.0,
                },
            ],
            ..Figures::default()
        };
        let mut recent = Recent::between(Figures::default(), now, 10.0);
        recent.messages = vec![0.0, 5.0, 10.0];
        let situation = Situation {
            severity: Severity::Bad,
            sentence: "a < b".to_owned(),
        };
        let page = render(&about, &recent, &situation, 65.0);
        for part in [
            "up 1 min · one server (standalone)",
            "id=\"diagnosis\">a &lt; b</div>",
            "embedded, in &lt;data&gt;",
            "<td>segment</td><td class=\"n\">1,234</td><td class=\"n\">1,195</td>",
            "<span class=\"lost\">5</span>",
            "lane_full 5",
            "<span class=\"bar bad\"><i style=\"width:96%\"></i></span>",
            "<td class=\"n\">123</td>",
            "1 MiB",
            "d=\"M0.0 31.0L60.0 16.0L120.0 1.0\"",
            "<td>10.0.0.1:11800&lt;b&gt;</td><td>this server</td>",
            "<td>leaving</td><td><span class=\"bar\"><i style=\"width:25%\"></i></span></td><td class=\"n\">25 %</td>",
            "</html>",
        ] {
            assert!(page.contains(part), "{part}\n{page}");
        }
        for part in ["http:", "https:", "src=", STATE] {
            assert!(!page.contains(part), "{part}");
        }
    }

    #[test]
    fn a_server_that_has_done_nothing_has_a_page() {
        let about = About {
            store: String::new(),
            cluster: String::new(),
            budget: 0,
            cores: 0,
            context_path: String::new(),
        };
        let recent = Recent::default();
        let situation = Situation::new(&about, &recent, vec![]);
        let page = render(&about, &recent, &situation, 0.0);
        assert!(page.contains("nothing came in yet") && page.contains("just started"));
        assert!(!page.contains("Members of the cluster"));
    }
}
