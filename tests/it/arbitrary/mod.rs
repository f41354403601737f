//! Arbitrary input for everything that reads what comes from outside: decoders of messages, parsers of files and
//! questions, readers of what is stored.
//!
//! A target is one reader with a check. The check takes bytes and fails (or panics) if the reader does anything but read
//! them or refuse them: it also compares how much comes out with how much went in, in numbers of things, never in seconds.
//!
//! To add one: write `#[test] fn name() -> Result<()> { Target::of(Form::…, "name").seeds(…).check(|input| …) }` in the
//! file of its area (or a new one, listed below). Seeds are good inputs, which are changed at random; the more kinds
//! of parts they have, the deeper the changes reach. `words` are inserted whole: key words, separators, markers.
//! [`Target::check`] needs nothing else; the corpus folder of the name is made when there is something to keep.
//!
//! Inputs in `tests/data/corpus/<name>` are checked first, in every run, and are seeds too. An input that fails is told with
//! the command that keeps it there. `PROPTEST_CASES=200000` makes a run longer.

mod edits;
mod envoy;
mod files;
mod http;
mod messages;
mod prometheus;
mod questions;
mod recorded;
mod scripts;
mod stores;
mod wire;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{TestCaseError, TestError, TestRunner};

use edits::Edit;

/// What inputs look like, which decides how they are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// UTF-8.
    Text,
    /// Text that need not be UTF-8.
    Bytes,
    /// An encoded protobuf message.
    Message,
}

/// A reader under test.
#[derive(Debug)]
pub struct Target {
    name: &'static str,
    form: Form,
    seeds: Vec<Vec<u8>>,
    words: &'static [&'static str],
    is_slow: bool,
}

/// Inputs grow to this size by changes; bounds on the size of inputs have tests of their own.
const MAX_INPUT_BYTES: usize = 256 << 10;
const MAX_EDITS: usize = 12;

fn corpus(target: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/corpus");
    folder.join(target)
}

impl Target {
    /// `name` is the name of its corpus folder.
    pub fn of(form: Form, name: &'static str) -> Target {
        Target {
            name,
            form,
            seeds: Vec::new(),
            words: &[],
            is_slow: false,
        }
    }

    /// A quarter of the inputs, for a check that opens files or connections.
    pub fn slow(mut self) -> Target {
        self.is_slow = true;
        self
    }

    /// Adds good inputs.
    pub fn seeds<T: Into<Vec<u8>>>(mut self, seeds: impl IntoIterator<Item = T>) -> Target {
        self.seeds.extend(seeds.into_iter().map(Into::into));
        self
    }

    /// Sets what is inserted whole.
    pub fn words(mut self, words: &'static [&'static str]) -> Target {
        self.words = words;
        self
    }

    /// Checks every kept input, every seed and then changed ones.
    pub fn check(mut self, check: impl Fn(&[u8]) -> Result<()>) -> Result<()> {
        for (path, input) in self.kept()? {
            check(&input).with_context(|| format!("{}", path.display()))?;
            self.seeds.push(input);
        }
        for (i, seed) in self.seeds.iter().enumerate() {
            check(seed).with_context(|| format!("seed {i} of {}", self.name))?;
        }
        let usual = ProptestConfig::default();
        let config = ProptestConfig {
            cases: usual.cases.div_ceil(if self.is_slow { 4 } else { 1 }),
            // What is kept is kept as bytes, in the corpus.
            failure_persistence: None,
            max_shrink_iters: 20_000,
            ..usual
        };
        let outcome = TestRunner::new(config).run(&self.inputs(), |input| {
            check(&input.0).map_err(|error| TestCaseError::fail(format!("{error:#}")))
        });
        match outcome {
            Ok(()) => Ok(()),
            Err(TestError::Fail(why, input)) => {
                bail!("{}: {why}\n{}", self.name, self.how_to_keep(&input.0))
            }
            Err(TestError::Abort(why)) => bail!("{}: {why}", self.name),
        }
    }

    fn kept(&self) -> Result<Vec<(PathBuf, Vec<u8>)>> {
        let folder = corpus(self.name);
        if !folder.exists() {
            return Ok(vec![]);
        }
        let mut paths = std::fs::read_dir(folder)?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<PathBuf>>>()?;
        paths.sort();
        let read = |path: PathBuf| {
            let input = std::fs::read(&path)?;
            Ok((path, input))
        };
        paths.into_iter().map(read).collect()
    }

    fn how_to_keep(&self, input: &[u8]) -> String {
        let shown = String::from_utf8_lossy(input);
        let shown: String = shown.chars().take(500).collect();
        format!(
            "input of {} bytes: {shown:?}\nkeep it:\n  mkdir -p tests/data/corpus/{name} && base64 -d > tests/data/corpus/{name}/WHAT-IS-ODD <<< {}",
            input.len(),
            STANDARD.encode(input),
            name = self.name,
        )
    }

    fn inputs(&self) -> impl Strategy<Value = Input> + use<> {
        let Target { form, words, .. } = *self;
        let seeds = self.seeds.clone();
        let changed = (
            any::<Index>(),
            prop::collection::vec(edits::edit(form), 1..=MAX_EDITS),
        )
            .prop_map(move |(seed, edits)| {
                let input = match seeds.as_slice() {
                    [] => vec![],
                    seeds => seed.get(seeds).clone(),
                };
                Input(changed(form, input, &edits, &seeds, words))
            });
        prop_oneof![9 => changed, 1 => edits::noise(form).prop_map(Input)]
    }
}

fn changed(
    form: Form,
    mut input: Vec<u8>,
    edits: &[Edit],
    seeds: &[Vec<u8>],
    words: &[&str],
) -> Vec<u8> {
    for edit in edits {
        edit.apply(&mut input, seeds, words);
        input.truncate(MAX_INPUT_BYTES);
    }
    match form {
        Form::Text => String::from_utf8_lossy(&input).into_owned().into(),
        Form::Bytes | Form::Message => input,
    }
}

/// Bytes whose debug form is short: failures show them once, and not as numbers.
#[derive(Clone)]
struct Input(Vec<u8>);

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Inputs of a text form are texts.
pub fn text(input: &[u8]) -> Result<&str> {
    std::str::from_utf8(input).context("a kept input of a text form must be UTF-8")
}

#[test]
fn a_failing_input_is_made_small_and_shown_with_the_way_to_keep_it() -> Result<()> {
    let target = Target::of(Form::Text, "nothing-is-kept-here").seeds(["abc ; def"]);
    let failed = target.check(|input| match input.iter().filter(|b| **b == b';').count() {
        0 | 1 => Ok(()),
        _ => bail!("two of them"),
    });
    let Err(failed) = failed else {
        bail!("not found")
    };
    let shown = format!("{failed:#}");
    anyhow::ensure!(shown.contains("two of them"), "{shown}");
    let (_, kept) = shown.split_once("<<< ").context("no command")?;
    let input = STANDARD.decode(kept)?;
    anyhow::ensure!(input.iter().filter(|b| **b == b';').count() >= 2, "{shown}");
    Ok(())
}
