//! When a node gives connections of agents away: a rule without clock, network or chance of its own.
//!
//! Agents stay with the node that they found first. One that has more of them than the mean gives some up, one after the
//! other; each comes back to any node. How fast depends on how many are too many, so the surplus halves every few seconds,
//! and the last ones go slowly, when the numbers of all nodes are up to date again.

use std::time::Duration;

/// What is too many begins this share of the mean above it, ...
const TOLERANCE: f64 = 0.02;
/// ... but not below so many connections.
const LEAST: f64 = 1.0;
/// In this time all of a surplus would go if the first speed were kept. Long enough to hear what became of the last ones.
const TIME_CONSTANT: Duration = Duration::from_secs(5);
/// Bounds of the pause between two: agents that connect at once, all over TLS, must not be a burden.
const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(2);

/// After so many ...
const TRIAL: usize = 40;
/// ... the fullest node must have come nearer to the mean by this share of what was given, a fifth of what it should be between
/// two nodes.
const PROGRESS: f64 = 0.1;
/// Bounds of the rest after it did not.
const SHORTEST_REST: Duration = Duration::from_secs(60);
const LONGEST_REST: Duration = Duration::from_secs(600);

/// What this node does about its surplus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There is none.
    Keep,
    /// Gives away one of so many.
    Give(usize),
    /// It changes nothing: agents come back to where they were. Rests so long, then tries again.
    Futile(Duration),
}

/// Whether this node gives connections away now.
#[derive(Debug, Default)]
pub struct Balance {
    giving: Option<Giving>,
    /// After the last trial that failed, if none was good since.
    rest: Option<Duration>,
}

/// Since the surplus began.
#[derive(Debug, Clone, Copy)]
struct Giving {
    /// How far the fullest node was from the mean.
    spread: f64,
    given: usize,
}

impl Balance {
    /// What to do when this node has `own` connections, and the others as many as `others` says. Those that are told to go
    /// and have not gone yet, `going`, are among the own ones, and no surplus. Without other nodes there is none.
    pub fn judge(&mut self, own: usize, going: usize, others: &[u32]) -> Verdict {
        let others_most = others.iter().max().map_or(0.0, |most| f64::from(*most));
        let all = own as f64 + others.iter().map(|n| f64::from(*n)).sum::<f64>();
        let mean = all / (others.len() + 1) as f64;
        let spread = others_most.max(own as f64) - mean;
        let over = own.saturating_sub(going) as f64 - mean;
        let bound = match self.giving {
            // Down to the mean, once it has begun.
            Some(_) => 0.5,
            None => LEAST.max(mean * TOLERANCE),
        };
        if over <= bound || others.is_empty() {
            // Not only because all of it is on its way.
            if going == 0 {
                *self = Balance::default();
            }
            return Verdict::Keep;
        }
        let giving = self.giving.get_or_insert(Giving { spread, given: 0 });
        let progress = giving.spread - spread;
        if giving.given >= TRIAL && progress < giving.given as f64 * PROGRESS {
            let rest = self.rest.map_or(SHORTEST_REST, |rest| rest * 2);
            let rest = rest.min(LONGEST_REST);
            *self = Balance {
                giving: None,
                rest: Some(rest),
            };
            return Verdict::Futile(rest);
        }
        Verdict::Give(over.round() as usize)
    }

    /// One is to go.
    pub fn gave(&mut self) {
        if let Some(giving) = &mut self.giving {
            giving.given += 1;
        }
    }

    /// The pause before the next one goes, of a surplus that is not 0. `chance` is from 0 to 1.
    pub fn pause(surplus: usize, chance: f64) -> Duration {
        let jitter = 0.5 + chance;
        let pause = TIME_CONSTANT.div_f64(surplus.max(1) as f64).mul_f64(jitter);
        pause.clamp(SHORTEST, LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_above_the_mean_goes() {
        for (name, own, going, others, want) in [
            ("alone", 100, 0, &[][..], 0),
            ("nobody has any", 0, 0, &[0, 0], 0),
            ("all have the same", 50, 0, &[50, 50], 0),
            ("fewer than the others", 20, 0, &[50, 80], 0),
            ("one more than the mean", 51, 0, &[49], 0),
            ("three more", 53, 0, &[47], 3),
            ("everything", 200, 0, &[0, 0], 133),
            ("some of it is on its way", 200, 100, &[0, 0], 33),
            ("all of it is on its way", 200, 133, &[0, 0], 0),
            ("a twentieth of many", 1050, 0, &[950], 50),
            ("less than two of a hundred", 1015, 0, &[985], 0),
            ("two agents on two nodes", 2, 0, &[0], 0),
            ("three of them", 3, 0, &[0], 2),
        ] {
            let want = match want {
                0 => Verdict::Keep,
                many => Verdict::Give(many),
            };
            assert_eq!(Balance::default().judge(own, going, others), want, "{name}");
        }
    }

    #[test]
    fn what_has_begun_goes_on_to_the_mean() {
        let mut balance = Balance::default();
        assert_eq!(balance.judge(53, 0, &[47]), Verdict::Give(3));
        assert_eq!(balance.judge(51, 0, &[49]), Verdict::Give(1));
        assert_eq!(balance.judge(50, 0, &[50]), Verdict::Keep);
        assert_eq!(balance.judge(51, 0, &[49]), Verdict::Keep);
    }

    #[test]
    fn who_always_comes_back_is_left_in_peace() {
        let mut balance = Balance::default();
        let mut try_it = |came_back: fn(usize) -> usize| {
            for given in 0..TRIAL {
                let own = 100 - given + came_back(given);
                let verdict = balance.judge(own, 0, &[100 - own as u32]);
                assert!(matches!(verdict, Verdict::Give(_)), "{given}: {verdict:?}");
                balance.gave();
            }
            let own = 100 - TRIAL + came_back(TRIAL);
            balance.judge(own, 0, &[100 - own as u32])
        };
        for minutes in [1, 2, 4, 8, 10, 10] {
            let rest = Duration::from_secs(60 * minutes);
            assert_eq!(try_it(|given| given), Verdict::Futile(rest));
        }
        assert_eq!(try_it(|given| given / 2), Verdict::Give(30));
        assert_eq!(balance.judge(50, 0, &[50]), Verdict::Keep);
        assert!(balance.rest.is_none());
    }

    #[test]
    fn the_pause_is_short_for_many_and_has_bounds() {
        let ms = |surplus, chance| Balance::pause(surplus, chance).as_millis();
        assert_eq!(ms(1, 0.5), 2000);
        assert_eq!(ms(4, 0.0), 625);
        assert_eq!(ms(4, 1.0), 1875);
        assert_eq!(ms(100, 0.5), 50);
        assert_eq!(ms(100_000, 0.5), 20);
    }

    /// Chance of a test, the same each time: xorshift.
    struct Chance(u64);

    impl Chance {
        fn next(&mut self) -> f64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as f64 / (1u64 << 53) as f64
        }

        fn below(&mut self, bound: usize) -> usize {
            (self.next() * bound as f64) as usize
        }
    }

    const STEP_MS: u64 = 50;

    /// Nodes that hear each other's numbers each second, and agents that answer to being told, and call again, within 1.5 s.
    struct Simulation {
        nodes: Vec<Node>,
        /// When who arrives anywhere.
        travelling: Vec<u64>,
        chance: Chance,
        now_ms: u64,
        moved: usize,
        rests: usize,
        /// Whether all come back to the first node.
        is_sticky: bool,
    }

    struct Node {
        balance: Balance,
        connections: usize,
        /// When those that were told are gone.
        going: Vec<u64>,
        said: u32,
        next_ms: u64,
    }

    impl Simulation {
        fn new(nodes: usize, agents: usize, seed: u64) -> Simulation {
            let nodes = (0..nodes).map(|n| Node {
                balance: Balance::default(),
                connections: if n == 0 { agents } else { 0 },
                going: vec![],
                said: 0,
                next_ms: 0,
            });
            Simulation {
                nodes: nodes.collect(),
                travelling: vec![],
                chance: Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
                now_ms: 0,
                moved: 0,
                rests: 0,
                is_sticky: false,
            }
        }

        fn step(&mut self) {
            let now = self.now_ms;
            if now.is_multiple_of(1000) {
                for node in &mut self.nodes {
                    node.said = node.connections as u32;
                }
            }
            for at in 0..self.nodes.len() {
                let others = self.nodes.iter().enumerate().filter(|(n, _)| *n != at);
                let others: Vec<u32> = others.map(|(_, node)| node.said).collect();
                let node = &mut self.nodes[at];
                let gone = node.going.extract_if(.., |at| *at <= now).count();
                node.connections -= gone;
                for _ in 0..gone {
                    self.travelling.push(now + self.chance.below(1000) as u64);
                }
                if now < node.next_ms {
                    continue;
                }
                let going = node.going.len();
                let pause = match node.balance.judge(node.connections, going, &others) {
                    Verdict::Keep => 1000,
                    Verdict::Give(surplus) => {
                        node.balance.gave();
                        node.going.push(now + self.chance.below(500) as u64);
                        self.moved += 1;
                        Balance::pause(surplus, self.chance.next()).as_millis() as u64
                    }
                    Verdict::Futile(rest) => {
                        self.rests += 1;
                        rest.as_millis() as u64
                    }
                };
                node.next_ms = now + pause;
            }
            for _ in 0..self.travelling.extract_if(.., |at| *at <= now).count() {
                let at = match self.is_sticky {
                    true => 0,
                    false => self.chance.below(self.nodes.len()),
                };
                self.nodes[at].connections += 1;
            }
            self.now_ms += STEP_MS;
        }

        /// How far the fullest and the emptiest node are from the mean, as a share of it.
        fn skew(&self) -> f64 {
            let all: usize = self.nodes.iter().map(|node| node.connections).sum();
            let mean = (all + self.travelling.len()) as f64 / self.nodes.len() as f64;
            let far = |node: &Node| (node.connections as f64 - mean).abs() / mean;
            self.nodes.iter().map(far).fold(0.0, f64::max)
        }
    }

    #[test]
    fn two_hundred_agents_of_one_node_are_soon_everywhere_and_then_stay() {
        for nodes in [2, 3, 5] {
            for seed in 1..=200 {
                let mut run = Simulation::new(nodes, 200, seed);
                let (mut even_at, mut moved) = (0, 0);
                while run.now_ms < 240_000 {
                    run.step();
                    if run.skew() > 0.1 {
                        even_at = run.now_ms;
                    }
                    if run.now_ms == 100_000 {
                        moved = run.moved;
                    }
                }
                assert_eq!(run.rests, 0, "{nodes} nodes, seed {seed}");
                assert!(even_at < 80_000, "{nodes} nodes, seed {seed}: {even_at} ms");
                let later = run.moved - moved;
                assert!(
                    later == 0,
                    "{nodes} nodes, seed {seed}: {later} moved later"
                );
                assert!(
                    moved > 100 && moved < 400,
                    "{nodes} nodes, seed {seed}: {moved}"
                );
            }
        }
    }

    #[test]
    fn agents_that_know_one_address_are_moved_ever_more_rarely() {
        let mut run = Simulation::new(3, 200, 1);
        run.is_sticky = true;
        while run.now_ms < 3_600_000 {
            run.step();
        }
        assert!((6..=12).contains(&run.rests), "{}", run.rests);
        assert!(run.moved < 5000, "{}", run.moved);
    }
}
