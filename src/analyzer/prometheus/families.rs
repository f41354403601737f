//! From the lines of a page to metrics: the lines of a histogram or summary belong together.

use std::collections::{BTreeMap, HashMap};

use super::text::{BadLine, FamilyType, Line, Sample, lines, number};

/// Values of labels by their names.
pub type Labels = BTreeMap<String, String>;

/// What a page says about one series.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Of a histogram or summary that of the family.
    pub name: String,
    /// Without `le` and `quantile`.
    pub labels: Labels,
    pub value: Measured,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub enum Measured {
    Number(f64),
    Histogram(Histogram),
    Summary(Total),
}

/// Number and sum of what was observed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Total {
    pub count: f64,
    pub sum: f64,
}

/// Observations by bucket.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    pub total: Total,
    /// Upper bounds and how many observations do not exceed them, as they came.
    pub buckets: Vec<(f64, i64)>,
}

/// What became of a page.
#[derive(Debug, Default)]
pub struct Page {
    pub metrics: Vec<Metric>,
    /// Lines that make no sense.
    pub bad_lines: u64,
    /// Number and reason of the first.
    pub first_bad_line: Option<(usize, BadLine)>,
    /// Lines that found no room.
    pub lines_over: u64,
}

/// Lines of one page that are kept; those that nobody wants do not count.
const MAX_LINES: usize = 100_000;

/// Reads a page and keeps the metrics whose names are wanted. The numbers `_count` and `_sum` of a histogram or summary are
/// also metrics of their own.
pub fn read(page: &[u8], is_wanted: impl Fn(&str) -> bool) -> Page {
    let mut families = Families {
        is_wanted,
        types: HashMap::new(),
        series: HashMap::new(),
        kept: 0,
        page: Page::default(),
    };
    for (at, line) in lines(page) {
        let taken = line.and_then(|line| families.take(line));
        if let Err(bad) = taken {
            families.page.bad_lines += 1;
            families.page.first_bad_line.get_or_insert((at, bad));
        }
    }
    families.page
}

struct Families<'a, F> {
    is_wanted: F,
    /// Declared types by name of the family.
    types: HashMap<&'a str, FamilyType>,
    /// Place of the histogram or summary with this name and these labels.
    series: HashMap<(&'a str, Labels), usize>,
    kept: usize,
    page: Page,
}

/// The part of a histogram or summary that a line is.
enum Part {
    Bucket(f64),
    Quantile,
    Sum,
    Count,
}

impl<'a, F: Fn(&str) -> bool> Families<'a, F> {
    fn take(&mut self, line: Line<'a>) -> Result<(), BadLine> {
        match line {
            Line::Type(name, ty) => {
                self.types.entry(name).or_insert(ty);
                Ok(())
            }
            Line::Sample(sample) => self.sample(&sample),
        }
    }

    fn sample(&mut self, sample: &Sample<'a>) -> Result<(), BadLine> {
        let Some((family, ty, part)) = self.part(sample)? else {
            if self.has_room(sample.name) {
                let labels = labels(sample, "");
                self.number(sample.name, labels, sample.value);
            }
            return Ok(());
        };
        let without = match ty {
            FamilyType::Histogram => "le",
            _ => "quantile",
        };
        if matches!(part, Part::Sum | Part::Count) && self.has_room(sample.name) {
            let value = match part {
                Part::Count => sample.value.trunc(),
                _ => sample.value,
            };
            self.number(sample.name, labels(sample, without), value);
        }
        if self.has_room(family) {
            let at = self.series(family, ty, labels(sample, without));
            self.merge(at, &part, sample.value);
        }
        Ok(())
    }

    /// Family, type and part of a line that belongs to a histogram or summary.
    fn part(&self, sample: &Sample<'a>) -> Result<Option<(&'a str, FamilyType, Part)>, BadLine> {
        let name = sample.name;
        if self.types.get(name) == Some(&FamilyType::Summary) {
            return Ok(Some((name, FamilyType::Summary, Part::Quantile)));
        }
        for (suffix, part) in [
            ("_bucket", None),
            ("_sum", Some(Part::Sum)),
            ("_count", Some(Part::Count)),
        ] {
            let Some(family) = name.strip_suffix(suffix) else {
                continue;
            };
            return match (self.types.get(family), part) {
                (Some(FamilyType::Histogram), None) => {
                    let bound = Part::Bucket(bound(sample)?);
                    Ok(Some((family, FamilyType::Histogram, bound)))
                }
                (Some(ty @ (FamilyType::Histogram | FamilyType::Summary)), Some(part)) => {
                    Ok(Some((family, *ty, part)))
                }
                _ => Ok(None),
            };
        }
        Ok(None)
    }

    /// Whether a metric is to be kept and can be.
    fn has_room(&mut self, name: &str) -> bool {
        if !(self.is_wanted)(name) {
            return false;
        }
        let has_room = self.kept < MAX_LINES;
        if has_room {
            self.kept += 1;
        } else {
            self.page.lines_over += 1;
        }
        has_room
    }

    fn number(&mut self, name: &str, labels: Labels, value: f64) {
        self.page.metrics.push(Metric {
            name: name.to_owned(),
            labels,
            value: Measured::Number(value),
        });
    }

    /// Place of a histogram or summary, which is new with its first line.
    fn series(&mut self, family: &'a str, ty: FamilyType, labels: Labels) -> usize {
        let metrics = &mut self.page.metrics;
        let place = self.series.entry((family, labels));
        let labels = place.key().1.clone();
        *place.or_insert_with(|| {
            metrics.push(Metric {
                name: family.to_owned(),
                labels,
                value: match ty {
                    FamilyType::Histogram => Measured::Histogram(Histogram::default()),
                    _ => Measured::Summary(Total::default()),
                },
            });
            metrics.len() - 1
        })
    }

    fn merge(&mut self, at: usize, part: &Part, value: f64) {
        let Some(metric) = self.page.metrics.get_mut(at) else {
            return;
        };
        let total = match (&mut metric.value, part) {
            (Measured::Histogram(histogram), Part::Bucket(bound)) => {
                histogram.buckets.push((*bound, value as i64));
                return;
            }
            (Measured::Histogram(Histogram { total, .. }) | Measured::Summary(total), _) => total,
            (Measured::Number(_), _) => return,
        };
        match part {
            Part::Count => total.count = value.trunc(),
            Part::Sum => total.sum = value,
            Part::Bucket(_) | Part::Quantile => {}
        }
    }
}

/// Upper bound of a bucket; only the last may be infinite.
fn bound(sample: &Sample<'_>) -> Result<f64, BadLine> {
    let le = sample.labels.iter().find(|(name, _)| *name == "le");
    le.and_then(|(_, text)| number(text))
        .filter(|bound| *bound > f64::NEG_INFINITY)
        .ok_or(BadLine::Bucket)
}

fn labels(sample: &Sample<'_>, without: &str) -> Labels {
    sample
        .labels
        .iter()
        .filter(|(name, _)| *name != without)
        .map(|(name, value)| ((*name).to_owned(), value.clone().into_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Labels {
        let owned = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        owned.collect()
    }

    fn metric(name: &str, labels: &[(&str, &str)], value: Measured) -> Metric {
        Metric {
            name: name.to_owned(),
            labels: of(labels),
            value,
        }
    }

    const PAGE: &str = r#"
# HELP latency How long it takes.
# TYPE latency histogram
latency_bucket{path="/a",le="0.1"} 1
latency_bucket{path="/a",le="+Inf"} 3
latency_sum{path="/a"} 2.5
latency_count{path="/a"} 3
latency_bucket{le="0.1",path="/b"} 4
latency_bucket{path="/b"} 4
latency_bucket{path="/b",le="NaN"} 4
# TYPE size summary
size{quantile="0.5"} 10
size_sum 30
size_count 2
# TYPE up gauge
up{host="x"} 1
requests_count{code="200"} 7
broken{
"#;

    #[test]
    fn families_hold_together_and_numbers_stand_alone() {
        use Measured::{Number, Summary};
        let page = read(PAGE.as_bytes(), |_| true);
        let histogram = |count, sum, buckets: &[_]| {
            Measured::Histogram(Histogram {
                total: Total { count, sum },
                buckets: buckets.to_vec(),
            })
        };
        let inf = f64::INFINITY;
        let total = Total {
            count: 2.0,
            sum: 30.0,
        };
        let want = [
            metric(
                "latency",
                &[("path", "/a")],
                histogram(3.0, 2.5, &[(0.1, 1), (inf, 3)]),
            ),
            metric("latency_sum", &[("path", "/a")], Number(2.5)),
            metric("latency_count", &[("path", "/a")], Number(3.0)),
            metric(
                "latency",
                &[("path", "/b")],
                histogram(0.0, 0.0, &[(0.1, 4)]),
            ),
            metric("size", &[], Summary(total)),
            metric("size_sum", &[], Number(30.0)),
            metric("size_count", &[], Number(2.0)),
            metric("up", &[("host", "x")], Number(1.0)),
            // Nothing is declared of these.
            metric("requests_count", &[("code", "200")], Number(7.0)),
        ];
        assert_eq!(page.metrics, want);
        assert_eq!(page.bad_lines, 3);
        assert_eq!(page.first_bad_line, Some((9, BadLine::Bucket)));
        assert_eq!(page.lines_over, 0);
    }

    #[test]
    fn only_what_is_wanted_is_kept() {
        let names = |wanted: &str| {
            let page = read(PAGE.as_bytes(), |name| name == wanted);
            let names = page.metrics.into_iter().map(|m| m.name);
            names.collect::<Vec<_>>()
        };
        assert_eq!(names("latency"), ["latency", "latency"]);
        assert_eq!(names("latency_count"), ["latency_count"]);
        assert_eq!(names("latency_bucket"), [""; 0]);
        assert_eq!(names("nothing"), [""; 0]);
    }

    #[test]
    fn a_page_has_an_end() {
        let page = "a 1\n".repeat(MAX_LINES + 5);
        let read = read(page.as_bytes(), |_| true);
        assert_eq!(read.metrics.len(), MAX_LINES);
        assert_eq!(read.lines_over, 5);
    }

    #[test]
    fn histogram_without_a_type_is_numbers() {
        let page = read(b"a_bucket{le=\"1\"} 2\na_count 2", |_| true);
        let want = [
            metric("a_bucket", &[("le", "1")], Measured::Number(2.0)),
            metric("a_count", &[], Measured::Number(2.0)),
        ];
        assert_eq!(page.metrics, want);
    }
}
