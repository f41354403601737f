//! Time zone names as the JVM reads them, because the zone decides the name of every bucket and index.

use jiff::tz::{Offset, TimeZone};

/// Names of three letters that only Java has, with what it takes them for (documentation of `java.time.ZoneId`, `SHORT_IDS`).
const OF_JAVA: [(&str, &str); 25] = [
    ("ACT", "Australia/Darwin"),
    ("AET", "Australia/Sydney"),
    ("AGT", "America/Argentina/Buenos_Aires"),
    ("ART", "Africa/Cairo"),
    ("AST", "America/Anchorage"),
    ("BET", "America/Sao_Paulo"),
    ("BST", "Asia/Dhaka"),
    ("CAT", "Africa/Harare"),
    ("CNT", "America/St_Johns"),
    ("CST", "America/Chicago"),
    ("CTT", "Asia/Shanghai"),
    ("EAT", "Africa/Addis_Ababa"),
    ("ECT", "Europe/Paris"),
    ("IET", "America/Indiana/Indianapolis"),
    ("IST", "Asia/Kolkata"),
    ("JST", "Asia/Tokyo"),
    ("MIT", "Pacific/Apia"),
    ("NET", "Asia/Yerevan"),
    ("NST", "Pacific/Auckland"),
    ("PLT", "Asia/Karachi"),
    ("PNT", "America/Phoenix"),
    ("PRT", "America/Puerto_Rico"),
    ("PST", "America/Los_Angeles"),
    ("SST", "Pacific/Guadalcanal"),
    ("VST", "Asia/Ho_Chi_Minh"),
];

/// The zone of `-Duser.timezone` or `TZ`; `None` if there is no such zone. Without a name it is that of the machine.
///
/// `GMT+8` lies east of Greenwich, as in Java and unlike in POSIX.
pub fn time_zone(name: Option<&str>) -> Option<TimeZone> {
    let Some(name) = name else {
        return Some(TimeZone::system());
    };
    let name = name.strip_prefix(':').unwrap_or(name);
    zone_of_java(name).or_else(|| TimeZone::posix(name).ok())
}

/// What Java takes a name for that is no rule of POSIX: such rules count in `TZ` only, where it asks the system.
pub(super) fn zone_of_java(name: &str) -> Option<TimeZone> {
    let is_it = |(short, _): &&(&str, &str)| *short == name;
    let name = OF_JAVA.iter().find(is_it).map_or(name, |(_, long)| *long);
    gmt_offset(name).or_else(|| TimeZone::get(name).ok())
}

/// `GMT+8`, `GMT-08`, `GMT+0830`, `GMT+8:30`.
fn gmt_offset(name: &str) -> Option<TimeZone> {
    let rest = name.strip_prefix("GMT")?;
    let (sign, digits) = match rest.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, rest.strip_prefix('+')?),
    };
    let (hours, minutes) = match digits.split_once(':') {
        Some((hours, minutes)) if minutes.len() == 2 => (hours, minutes),
        Some(_) => return None,
        None if digits.len() > 2 => digits.split_at_checked(digits.len() - 2)?,
        None => (digits, "0"),
    };
    let number = |text: &str, max: i32| {
        let is_number = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse::<i32>().ok().filter(|_| is_number);
        number.filter(|n| *n <= max)
    };
    let seconds = sign * (number(hours, 23)? * 3600 + number(minutes, 59)? * 60);
    Offset::from_seconds(seconds).ok().map(TimeZone::fixed)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn names_mean_what_they_mean_to_java() {
        for (name, want) in [
            ("UTC", Some(0)),
            ("Asia/Shanghai", Some(8 * 3600)),
            (":Asia/Shanghai", Some(8 * 3600)),
            ("GMT", Some(0)),
            ("GMT+8", Some(8 * 3600)),
            ("GMT+08:30", Some(8 * 3600 + 1800)),
            ("GMT-0330", Some(-(3 * 3600 + 1800))),
            ("CST-8", Some(8 * 3600)),
            ("CST", Some(-6 * 3600)),
            ("CTT", Some(8 * 3600)),
            ("EST", Some(-5 * 3600)),
            ("GMT+25", None),
            ("Mars/Base", None),
            ("GMT+é1", None),
            ("", None),
        ] {
            let zone = time_zone(Some(name));
            let offset = zone.map(|z| z.to_offset(Timestamp::UNIX_EPOCH).seconds());
            assert_eq!(offset, want, "{name}");
        }
        for (short, long) in OF_JAVA {
            assert!(TimeZone::get(long).is_ok(), "{short} {long}");
            assert!(time_zone(Some(short)).is_some(), "{short}");
        }
    }
}
